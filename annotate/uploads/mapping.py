"""Which column is what: a suggestion, its check, and a row as an item."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.task_types import TaskType, get_task_type
from annotate.uploads.answers import gold_answers, with_no_answer
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.rows import ImageCell, Kind, Row
from annotate.uploads.zip_entries import IMAGE_SUFFIXES

MAX_EXTERNAL_ID_CHARS = 200

# Names that say what a column is, in order of preference, without case, spaces, underscores and hyphens.
# fmt: off
_ID_NAMES = (
    "id", "uid", "uuid", "guid", "externalid", "itemid", "rowid", "key", "tweetid", "docid", "imageid",
)
_TEXT_NAMES = (
    "text", "sentence", "tweet", "content", "review", "comment", "message", "body", "document", "utterance",
    "post", "headline", "title", "description", "abstract", "prompt", "input", "caption",
)
_CAPTION_NAMES = (
    "caption", "text", "sentence", "description", "statement", "alttext", "alt", "claim", "hypothesis",
    "title",
)
_CONTEXT_NAMES = ("context", "passage", "paragraph", *_TEXT_NAMES)
_ANSWERS_NAMES = (
    "answers", "answer", "goldanswers", "goldanswer", "gold", "answertext", "span", "target", "finallabel",
)
_START_NAMES = ("start", "answerstart")
_FINAL_ANSWER, _FINAL_START = "finallabel", "finalstart"  # of an export, which has other answers with places, too
_NO_ANSWER_NAMES = ("noanswer", "finalnoanswer", "isimpossible")
_QUESTION_NAMES = ("question", "query", "q", "prompt")
_IMAGE_NAMES = (
    "file", "image", "filename", "imagepath", "imagefile", "path", "filepath", "img", "imagename",
    "picture", "photo",
)
_GOLD_NAMES = (
    "gold", "goldlabel", "label", "class", "category", "sentiment", "target", "answer", "y", "labels",
    "classname", "labelname", "labeltext", "groundtruth", "truth", "topic", "intent", "tag", "emotion",
)
# Folders that hold parts of a data set rather than its classes.
_NOT_CLASSES = {
    "images", "image", "img", "imgs", "pictures", "photos", "files", "data", "dataset", "train", "test",
    "val", "validation",
}
# fmt: on
_TABLES_OF_TEXT: tuple[Kind, ...] = ("csv", "tsv", "json", "jsonl", "txt")
_COLUMNS_OF_IMAGES = {"file", "folder"}  # of a zip of images without a manifest

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """The column for each part of an item, or None. `gold` holds gold answers where answers are spans; then `no_answer`
    says whether a text holds none, so that a blank answer without it is one that nobody knows, and `start` where an
    answer begins that has no place of its own.

    `folder_as_gold`: an image's top folder is its gold label. `no_header`: the first line of a CSV or TSV file is a row
    like the others, and its columns are called “column 1”, “column 2” and so on.
    """

    id: str | None = None
    text: str | None = None
    image: str | None = None
    question: str | None = None
    gold: str | None = None
    folder_as_gold: bool = False
    no_answer: str | None = None
    start: str | None = None
    no_header: bool = False


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One item as uploaded.

    `image_name` is what `Reader.open_image` takes; it is None when `image_data` holds the undecoded bytes, or
    without image.
    `columns` holds the columns that the mapping does not use; the gold label is never among them. `gold_answers`, each
    `{text, start}`, are instead of a gold label where answers are spans of the text.
    """

    external_id: str
    text: str
    question: str
    image_name: str | None
    image_data: bytes | None
    gold: str | None
    columns: dict[str, Scalar]
    gold_answers: list[dict[str, Any]] | None = None


def suggest_mapping(columns: Sequence[str], preview_rows: Sequence[Row], task_type: str) -> ColumnMapping:
    """A mapping by the columns' names, and by what the first rows hold where names say nothing."""
    task = get_task_type(task_type)
    free = list(columns)
    image = _take(free, _find_image(free, preview_rows)) if task.needs_image else None
    question = _take(free, _find(free, _QUESTION_NAMES)) if task.needs_question else None
    gold_names = _ANSWERS_NAMES if task.is_span else _GOLD_NAMES
    gold = _take(free, _find(free, gold_names)) if task.is_checkable else None
    no_answer = _take(free, _find(free, _NO_ANSWER_NAMES)) if task.is_span and gold is not None else None
    start = _take(free, _find_start(free, preview_rows, gold)) if task.is_span and gold is not None else None
    item_id = _take(free, _find_id(free, preview_rows))
    has_text = task.needs_text and not _is_images_alone(columns, task)
    text = _take(free, _find_text(free, preview_rows, task)) if has_text else None
    if item_id is None and task.key != "closed_vqa":
        item_id = _file_as_id(columns, preview_rows)
    folder_as_gold = (
        gold is None and task.key == "image_classification" and _folders_are_classes(columns, preview_rows)
    )
    return ColumnMapping(item_id, text, image, question, gold, folder_as_gold, no_answer, start)


def validate_mapping(
    mapping: ColumnMapping, columns: Sequence[str], task_type: str, kind: Kind | None = None
) -> None:
    """Raise UploadError, naming the column, when the mapping does not fit the file or the task.

    With `kind`, also when the task needs images and that kind of file cannot hold any.
    """
    task = get_task_type(task_type)
    if mapping.no_header and kind not in (None, "csv", "tsv"):
        raise UploadError("Only a CSV or TSV file can be without a header.")
    if task.needs_image and kind in _TABLES_OF_TEXT:
        raise UploadError(
            f"{task.label} needs images, and a {kind.upper()} file holds none. Upload a zip with the"
            " images and this table"
            " in it as manifest.csv, or a Parquet file with the images in a column."
        )
    if _is_images_alone(columns, task):
        raise UploadError(
            f"{task.label} needs texts, and a zip of images without a manifest.csv holds none: the names of the"
            " files would be read as texts. Upload a table, or make a project for images."
        )
    roles = {
        "id": mapping.id,
        "text": mapping.text,
        "image": mapping.image,
        "question": mapping.question,
        "answers" if task.is_span else "gold label": mapping.gold,
        "question whether there is no answer": mapping.no_answer,
        "places of the answers": mapping.start,
    }
    for role, column in roles.items():
        if column is not None and column not in columns:
            raise UploadError(
                f"The file has no column “{column}” for the {role}. Its columns are {_listed(columns)}."
            )
    needed = {"text": task.needs_text, "image": task.needs_image, "question": task.needs_question}
    for role, is_needed in needed.items():
        if is_needed and roles[role] is None:
            raise UploadError(
                f"{task.label} needs a column for the {role}. The file's columns are {_listed(columns)}."
            )
    has_no_gold = mapping.gold is not None and not task.is_checkable
    if has_no_gold or (mapping.folder_as_gold and task.is_written):
        raise UploadError(
            f"“{task.label}” has no label set, so no column can hold gold labels. What else the file says about an "
            "item is kept with it."
        )
    if mapping.no_answer is not None and (not task.is_span or mapping.gold is None):
        raise UploadError(
            "A column that says where there is no answer goes with a column of answers that are spans of the text."
        )
    if mapping.start is not None and (not task.is_span or mapping.gold is None):
        raise UploadError(
            "A column that says where an answer begins goes with a column of answers that are spans of the text."
        )
    _check_gold(mapping, roles, columns)


def _check_gold(mapping: ColumnMapping, roles: dict[str, str | None], columns: Sequence[str]) -> None:
    for role in ("text", "image", "question"):
        if mapping.gold is not None and mapping.gold == roles[role]:
            raise UploadError(
                f"Column “{mapping.gold}” cannot be both the {role} and the gold label or answers: the model would"
                " see the answer."
            )
    if mapping.folder_as_gold and mapping.gold is not None:
        raise UploadError("The gold label comes either from a column or from the folders, not from both.")
    if mapping.folder_as_gold and "folder" not in columns:
        raise UploadError("Folders can be gold labels only in a zip of images.")


class RowMapper:
    """Turns rows into items as a mapping says: made once for a file, with what does not depend on the row."""

    def __init__(self, mapping: ColumnMapping, *, task_type: str) -> None:
        self._mapping = mapping
        self._task = get_task_type(task_type)
        folder = "folder" if mapping.folder_as_gold else None
        answers = (mapping.gold, mapping.no_answer, mapping.start)
        used = (mapping.id, mapping.text, mapping.question, *answers, folder)
        self._used = frozenset(column for column in used if column is not None)

    def record(self, row: Row) -> ItemRecord:
        """The row as an item. Text and question are stripped of white space around them, but a text of which answers
        are spans; everything else stays as it is.

        Without an id column, the id is the row's number.
        Raises RowProblem when a part that the task needs is missing, or the id is too long.
        """
        mapping, task = self._mapping, self._task
        text = _as_text(_value(row, mapping.text))
        # Places of answers count from the beginning of the text as it is.
        text = text if task.is_span and text.strip() else text.strip()
        question = _as_text(_value(row, mapping.question)).strip()
        if task.needs_text and not text:
            raise RowProblem(f"Row {row.number:,} has no text in column “{mapping.text}”.")
        if task.needs_question and not question:
            raise RowProblem(f"Row {row.number:,} has no question in column “{mapping.question}”.")
        image_name, image_data = (
            _image(row, mapping, task) if mapping.image or task.needs_image else (None, None)
        )
        return ItemRecord(
            external_id=_external_id(row, mapping),
            text=text,
            question=question,
            image_name=image_name,
            image_data=image_data,
            gold=None if task.is_span else _gold(row, mapping),
            columns=self._other_columns(row),
            gold_answers=_answers(row, mapping, text) if task.is_span else None,
        )

    def _other_columns(self, row: Row) -> dict[str, Scalar]:
        used = self._used
        return {
            name: value.name or None if isinstance(value, ImageCell) else value
            for name, value in row.values.items()
            if name not in used
        }


def _value(row: Row, column: str | None) -> Any:
    return None if column is None else row.values.get(column)


def _as_text(value: Any) -> str:
    if type(value) is str:  # nearly always
        return value
    match value:
        case None | ImageCell():
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            # Programs that know no empty whole numbers write 1 as 1.0.
            return str(int(value))
    return str(value)


def _image(row: Row, mapping: ColumnMapping, task: TaskType) -> tuple[str | None, bytes | None]:
    value = _value(row, mapping.image)
    if isinstance(value, ImageCell):
        if not value.data:
            raise RowProblem(f"Row {row.number:,} has an empty image in column “{mapping.image}”.")
        return None, value.data
    name = _as_text(value).strip()
    if task.needs_image and not name:
        raise RowProblem(f"Row {row.number:,} has no image in column “{mapping.image}”.")
    return name or None, None


def _external_id(row: Row, mapping: ColumnMapping) -> str:
    if mapping.id is None:
        return str(row.number)
    external_id = _as_text(_value(row, mapping.id)).strip()
    if not external_id:
        raise RowProblem(f"Row {row.number:,} has no id in column “{mapping.id}”.")
    if len(external_id) > MAX_EXTERNAL_ID_CHARS:
        raise RowProblem(f"Row {row.number:,} has an id longer than {MAX_EXTERNAL_ID_CHARS} characters.")
    return external_id


def _gold(row: Row, mapping: ColumnMapping) -> str | None:
    value = row.values.get("folder") if mapping.folder_as_gold else _value(row, mapping.gold)
    return _as_text(value).strip() or None


def _answers(row: Row, mapping: ColumnMapping, text: str) -> list[dict[str, Any]] | None:
    try:
        found = gold_answers(_value(row, mapping.gold), text, _value(row, mapping.start))
        return found if mapping.no_answer is None else with_no_answer(found, _value(row, mapping.no_answer))
    except RowProblem as problem:
        raise RowProblem(f"Row {row.number:,}: {problem.sentence}") from None


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(f"“{column}”" for column in columns[:20])
    return shown + (f" and {len(columns) - 20:,} more" if len(columns) > 20 else "")


def _take(free: list[str], column: str | None) -> str | None:
    if column is not None:
        free.remove(column)
    return column


def names_a_part(column: str) -> bool:
    """Whether a column of this name usually holds a part of items."""
    plain = _plain(column)
    known = (
        _ID_NAMES,
        _CONTEXT_NAMES,
        _CAPTION_NAMES,
        _QUESTION_NAMES,
        _IMAGE_NAMES,
        _GOLD_NAMES,
        _ANSWERS_NAMES,
    )
    return any(plain in names for names in known)


def names_texts(column: str) -> bool:
    """Whether a column of this name usually holds texts."""
    return _plain(column) in _CONTEXT_NAMES


def _plain(column: str) -> str:
    return re.sub(r"[\W_]+", "", column.lower())


def _find(columns: Sequence[str], names: Iterable[str]) -> str | None:
    """The first column called by one of `names`, in their order; case, spaces, underscores and hyphens do not
    count.
    """
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _find_start(columns: Sequence[str], rows: Sequence[Row], gold: str) -> str | None:
    """The column with the places of the answers in `gold`, if it holds nothing but whole numbers."""
    is_final = _find([gold], [_FINAL_ANSWER]) is not None
    column = _find(columns, [_FINAL_START] if is_final else _START_NAMES)
    values = [_as_text(row.values.get(column)).strip() for row in rows] if column else []
    return column if all(value.isdecimal() for value in values if value) else None


def _find_id(columns: Sequence[str], rows: Sequence[Row]) -> str | None:
    column = _find(columns, _ID_NAMES)
    values = [_as_text(row.values.get(column)) for row in rows] if column else []
    return column if all(values) and len(set(values)) == len(values) else None


def _file_as_id(columns: Sequence[str], rows: Sequence[Row]) -> str | None:
    """In a zip of images, "file", unless an image has several rows."""
    if "file" not in columns or "folder" not in columns:
        return None
    files = {row.values.get("file") for row in rows}
    return "file" if rows and len(files) == len(rows) else None


def _find_image(columns: Sequence[str], rows: Sequence[Row]) -> str | None:
    held = next((column for column in columns if _all_values(rows, column, ImageCell)), None)
    return (
        held
        or _find(columns, _IMAGE_NAMES)
        or next((c for c in columns if _looks_like_image_names(rows, c)), None)
    )


def _is_images_alone(columns: Sequence[str], task: TaskType) -> bool:
    """Whether the file has nothing that a task of texts could read."""
    return not task.needs_image and set(columns) == _COLUMNS_OF_IMAGES


def _find_text(columns: Sequence[str], rows: Sequence[Row], task: TaskType) -> str | None:
    names = _CONTEXT_NAMES if task.is_span else _CAPTION_NAMES if task.needs_image else _TEXT_NAMES
    named = _find(columns, names)
    if named:
        return named
    lengths = {column: _mean_length(rows, column) for column in columns if _all_values(rows, column, str)}
    return max(lengths, key=lengths.__getitem__, default=None)


def _all_values(rows: Sequence[Row], column: str, kind: type) -> bool:
    values = [row.values.get(column) for row in rows]
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(value, kind) for value in present)


def _mean_length(rows: Sequence[Row], column: str) -> float:
    return sum(len(row.values.get(column) or "") for row in rows) / len(rows)


def _looks_like_image_names(rows: Sequence[Row], column: str) -> bool:
    values = [row.values.get(column) for row in rows]
    return bool(values) and all(
        isinstance(value, str) and value.lower().endswith(tuple(IMAGE_SUFFIXES)) for value in values
    )


def _folders_are_classes(columns: Sequence[str], rows: Sequence[Row]) -> bool:
    if "folder" not in columns or "file" not in columns:
        return False
    folders = {row.values.get("folder") for row in rows}
    return bool(folders) and all(
        isinstance(name, str) and name and name.lower() not in _NOT_CLASSES for name in folders
    )
