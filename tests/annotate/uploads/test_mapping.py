import json

import pytest

from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.mapping import ColumnMapping, ItemRecord, RowMapper, suggest_mapping, validate_mapping
from annotate.uploads.reading import ImageCell, Row


def rows_of(*records):
    return [Row(number, record) for number, record in enumerate(records, start=1)]


def suggest(task_type, *records):
    return suggest_mapping(list(records[0]), rows_of(*records), task_type)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"id": "1", "text": "a", "label": "x"}, ColumnMapping(id="id", text="text", gold="label")),
        (
            {"Tweet": "a", "External ID": "1", "Sentiment": "x"},
            ColumnMapping(id="External ID", text="Tweet", gold="Sentiment"),
        ),
        ({"uid": "1", "sentence": "a", "target": 1}, ColumnMapping(id="uid", text="sentence", gold="target")),
        ({"review": "a", "class": "x"}, ColumnMapping(text="review", gold="class")),
        ({"gold_label": "x", "label": "y", "content": "a"}, ColumnMapping(text="content", gold="gold_label")),
        ({"a": "short", "b": "a much longer text than the other"}, ColumnMapping(text="b")),
        ({"n": 1, "m": 2}, ColumnMapping()),
    ],
)
def test_columns_of_texts_are_suggested(record, expected):
    assert suggest("text_classification", record) == expected


def test_an_id_column_with_repeated_or_empty_values_is_not_suggested():
    repeated = suggest("text_classification", {"id": "1", "text": "a"}, {"id": "1", "text": "b"})
    empty = suggest("text_classification", {"id": "1", "text": "a"}, {"id": "", "text": "b"})
    assert (repeated.id, empty.id) == (None, None)


def test_columns_of_a_zip_are_suggested():
    plain = suggest("image_classification", {"file": "cats/1.png", "folder": "cats"})
    assert plain == ColumnMapping(id="file", image="file", folder_as_gold=True)
    with_label = suggest("image_classification", {"file": "cats/1.png", "folder": "cats", "label": "x"})
    assert with_label == ColumnMapping(id="file", image="file", gold="label")


@pytest.mark.parametrize("folder", ["", "images", "Train"])
def test_folders_that_name_no_classes_are_not_suggested_as_labels(folder):
    assert not suggest("image_classification", {"file": "1.png", "folder": folder}).folder_as_gold


def test_columns_of_questions_and_captions_are_suggested():
    vqa = suggest("closed_vqa", {"file": "1.png", "folder": "", "question": "Red?", "answer": "yes"})
    assert vqa == ColumnMapping(image="file", question="question", gold="answer")
    caption = suggest("image_text_agreement", {"file": "1.png", "folder": "", "title": "t", "caption": "c"})
    assert caption == ColumnMapping(id="file", image="file", text="caption")


def test_images_are_found_by_their_content():
    held = suggest("image_classification", {"picture_of_it": ImageCell(b"x"), "file": "1.png", "label": "x"})
    assert held.image == "picture_of_it"
    named = suggest("image_classification", {"a": "text", "b": "x/1.JPG"}, {"a": "more", "b": "2.png"})
    assert named.image == "b"


def test_a_suggestion_is_valid_for_its_columns():
    columns = ["file", "folder", "caption"]
    mapping = suggest_mapping(
        columns, rows_of({"file": "1.png", "folder": "", "caption": "c"}), "image_text_agreement"
    )
    validate_mapping(mapping, columns, "image_text_agreement", "images")


@pytest.mark.parametrize(
    ("mapping", "task_type", "sentence"),
    [
        (
            ColumnMapping(text="body"),
            "text_classification",
            "no column “body” for the text. Its columns are “id”, “text”",
        ),
        (
            ColumnMapping(text="text", gold="gold"),
            "text_classification",
            "no column “gold” for the gold label",
        ),
        (ColumnMapping(), "text_classification", "Text classification needs a column for the text"),
        (ColumnMapping(text="text"), "image_classification", "needs a column for the image"),
        (ColumnMapping(image="file"), "closed_vqa", "needs a column for the question"),
        (ColumnMapping(image="file"), "image_text_agreement", "needs a column for the text"),
        (
            ColumnMapping(text="text", gold="text"),
            "text_classification",
            "cannot be both the text and the gold label",
        ),
        (
            ColumnMapping(image="file", gold="label", folder_as_gold=True),
            "image_classification",
            "not from both",
        ),
        (ColumnMapping(image="file", folder_as_gold=True), "image_classification", "only in a zip of images"),
    ],
)
def test_mappings_that_do_not_fit_are_refused(mapping, task_type, sentence):
    with pytest.raises(UploadError) as caught:
        validate_mapping(mapping, ["id", "text", "file", "label"], task_type)
    assert sentence in caught.value.sentence


def test_a_task_with_images_is_refused_for_a_table_of_texts():
    with pytest.raises(
        UploadError, match=r"a CSV file holds none. Upload a zip with the images and this table in it"
    ):
        validate_mapping(ColumnMapping(image="file"), ["file"], "image_classification", "csv")


def test_names_of_images_are_not_taken_for_texts():
    rows = rows_of({"file": "cat/1.png", "folder": "cat"}, {"file": "dog/2.png", "folder": "dog"})
    assert suggest_mapping(["file", "folder"], rows, "text_classification").text is None
    with pytest.raises(UploadError, match="the names of the files would be read as texts"):
        validate_mapping(ColumnMapping(text="file"), ["file", "folder"], "text_classification", "images")
    validate_mapping(ColumnMapping(text="file"), ["file", "folder", "note"], "text_classification", "images")


def test_a_text_row_becomes_an_item():
    row = Row(3, {"id": "x1", "text": " <b>=1+1</b> ", "label": "pos", "stars": 4, "ok": True, "note": None})
    mapping = ColumnMapping(id="id", text="text", gold="label")
    record = RowMapper(mapping, task_type="text_classification").record(row)
    assert record == ItemRecord(
        external_id="x1",
        text="<b>=1+1</b>",
        question="",
        image_name=None,
        image_data=None,
        gold="pos",
        columns={"stars": 4, "ok": True, "note": None},
    )


def test_an_image_row_becomes_an_item():
    row = Row(1, {"file": "cats/1.png", "folder": "cats"})
    mapping = ColumnMapping(image="file", folder_as_gold=True)
    record = RowMapper(mapping, task_type="image_classification").record(row)
    assert (record.external_id, record.image_name, record.image_data) == ("1", "cats/1.png", None)
    assert record.gold == "cats"
    assert record.columns == {"file": "cats/1.png"}


def test_an_image_in_a_cell_becomes_an_item():
    row = Row(
        1,
        {"photo": ImageCell(b"data", "a.png"), "other": ImageCell(b"x"), "question": "Red?", "answer": None},
    )
    mapping = ColumnMapping(image="photo", question="question", gold="answer")
    record = RowMapper(mapping, task_type="closed_vqa").record(row)
    assert (record.image_name, record.image_data, record.question, record.gold) == (
        None,
        b"data",
        "Red?",
        None,
    )
    assert record.columns == {"photo": "a.png", "other": None}
    json.dumps(record.columns)


@pytest.mark.parametrize(
    ("value", "gold"), [(1, "1"), (1.0, "1"), (0.5, "0.5"), (True, "true"), (" x ", "x"), ("", None)]
)
def test_gold_labels_become_text(value, gold):
    mapping = ColumnMapping(text="text", gold="gold")
    record = RowMapper(mapping, task_type="text_classification").record(Row(1, {"text": "a", "gold": value}))
    assert record.gold == gold
    assert record.columns == {}


@pytest.mark.parametrize(
    ("values", "task_type", "sentence"),
    [
        ({"id": "1", "text": "  "}, "text_classification", "Row 5 has no text in column “text”."),
        ({"id": "1", "text": None}, "text_classification", "Row 5 has no text"),
        ({"id": "", "text": "a"}, "text_classification", "Row 5 has no id in column “id”."),
        (
            {"id": "x" * 201, "text": "a"},
            "text_classification",
            "Row 5 has an id longer than 200 characters.",
        ),
        ({"id": "1", "image": ""}, "image_classification", "Row 5 has no image in column “image”."),
        ({"id": "1", "image": None}, "image_classification", "Row 5 has no image"),
        ({"id": "1", "image": ImageCell(b"")}, "image_classification", "Row 5 has an empty image"),
        ({"id": "1", "image": "a.png", "question": ""}, "closed_vqa", "Row 5 has no question"),
        ({"id": "1", "image": "a.png", "text": ""}, "image_text_agreement", "Row 5 has no text"),
    ],
)
def test_rows_that_lack_what_the_task_needs_are_problems(values, task_type, sentence):
    mapping = ColumnMapping(id="id", text="text", image="image", question="question")
    with pytest.raises(RowProblem) as caught:
        RowMapper(mapping, task_type=task_type).record(Row(5, values))
    assert sentence in caught.value.sentence
