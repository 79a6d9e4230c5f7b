"""The rows of an export, computed block by block so that memory stays flat."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from django.db import connection
from django.db.models import Min

from annotate.models import Annotation, CalibrationLabel, Item, StoredImage
from review.certificate import inclusion_with_audits
from review.certification import OPEN, audits_of, open_counts
from review.models import Correction, Export, ReviewRound, ReviewTask
from review.sampling import RULES
from review.weights import act_weights

BLOCK = 2000

WIDE = (
    "machine_label",
    "human_label",
    "final_label",
    "label_source",
    "error_prob",
    "selected",
    "inclusion_prob",
    "machine_weight",
    "human_weight",
    "reviewer",
    "reviewed_at",
    "status",
)
LONG = ("label", "weight", "source")
# Where answers are spans, of which the other columns have the words: their first characters in the item's text.
WIDE_STARTS = ("machine_start", "human_start", "final_start")
LONG_STARTS = ("start",)
# And whether they say that the text holds no answer, which CSV writes like an answer that nobody gave.
WIDE_NO_ANSWERS = ("machine_no_answer", "human_no_answer", "final_no_answer")
LONG_NO_ANSWERS = ("no_answer",)
WIDE_SPANS, LONG_SPANS = WIDE_STARTS + WIDE_NO_ANSWERS, LONG_STARTS + LONG_NO_ANSWERS
ANSWERS = (
    "round",
    "answer",
    "machine_label",
    "reviewer",
    "purpose",
    "copy",
    "arm",
    "action",
    "reason",
    "seconds",
    "late",
    "counted",
    "stands",
    "answered_at",
)
LEADING = ("item_id", "external_id")
FILE_NAME = "file_name"  # in an image folder alone, where its reader finds each row's image
INTEGERS = frozenset({"item_id", "round", "copy", *WIDE_STARTS, *LONG_STARTS})
BOOLEANS = frozenset({"selected", "late", "counted", "stands", *WIDE_NO_ANSWERS, *LONG_NO_ANSWERS})
NUMBERS = frozenset({"error_prob", "inclusion_prob", "machine_weight", "human_weight", "weight", "seconds"})

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 80


class ItemRow(NamedTuple):
    """What an export says of an item itself. `image_file` is the name of its image in the storage."""

    pk: int
    external_id: str
    text: str
    question: str
    columns: dict[str, Any]
    file_name: str
    image_id: int | None
    image_file: str | None


class Machine(NamedTuple):
    """The machine's answer to an item, None where it gave none, and where a span begins."""

    said: str | None = None
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the round says about one item; π is that of a person's label, by the draw or by an audit after it.

    `audited_share`: of an item that was picked by hand, the chance that audits would have taken it. They passed it over
    because a person had labeled it already.
    """

    error_prob: float | None
    inclusion_prob: float
    selected: bool
    audited_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What people said about one item: in the round, and in an audit of it. `certain`: its π is 1.

    `adjudicated`: the answer that counts decides between readers who differed. `in_conflict`: they differ, and nobody
    has decided yet, so that the item counts as not reviewed. `picked`: the round's answer was asked for by hand,
    outside the draw.
    """

    reviewed: Correction | None = None
    audited: Correction | None = None
    certain: bool = False
    adjudicated: bool = False
    in_conflict: bool = False
    picked: bool = False

    @property
    def counting(self) -> Correction | None:
        """The round's own answer, which was given with the machine's before the eyes; else the audit's."""
        return self.reviewed or self.audited


_NOBODY, _NOTHING = Answers(), Machine()
_WIDE_SAID = ("machine_label", "human_label", "final_label")

# A part of every item ("part", "text") or a column of its upload ("column", "author").
Column = tuple[str, str]


def own_columns(export: Export) -> dict[Column, str]:
    """The items' own columns in the order of the uploads, with the name of each in the export.

    A name that the export or another column uses gets "source_" before it. In an image folder a name that its reader
    takes for that of an image gets "_text" behind it.
    """
    project = export.project
    task = project.task
    parts = {"file": task.needs_image, "text": task.needs_text, "question": task.needs_question}
    found: dict[Column, None] = {("part", name): None for name, used in parts.items() if used}
    present = dict.fromkeys(_present_columns(project.pk))
    # A database may sort the keys of JSON, so the uploads know the order.
    uploads = project.uploads.order_by("pk").values_list("columns", flat=True)
    known = dict.fromkeys(name for columns in uploads for name in columns if name in present)
    # The column "file" of a zip of images is the image's name.
    skipped = {"file"} if task.needs_image else set()
    found.update({("column", name): None for name in known | present if name not in skipped})
    taken = {*LEADING, *WIDE, *LONG}
    if task.is_span:
        taken |= {*WIDE_SPANS, *LONG_SPANS}
    exported: dict[Column, str] = {}
    for column in found:
        name = column[1]
        if export.format == Export.Format.IMAGE_FOLDER and _names_images(name):
            name = f"{name}_text"
        while name in taken:
            name = f"source_{name}"
        taken.add(name)
        exported[column] = name
    return exported


def _present_columns(project_id: int) -> list[str]:
    """The names of columns that items of the project have, the earliest item's first, found by the database alone."""
    table = Item._meta.db_table
    if connection.vendor == "postgresql":
        keys, order = "jsonb_object_keys(columns) AS key", "key"
    else:
        keys, order = "json_each(columns) AS pair", "MIN(pair.id)"
    sql = (
        f"SELECT key FROM {table}, {keys} WHERE project_id = %s "  # noqa: S608 (our own names)
        f"GROUP BY key ORDER BY MIN({table}.id), {order}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [project_id])
        return [row[0] for row in cursor.fetchall()]


def _names_images(column: str) -> bool:
    """`load_dataset("imagefolder")` opens what such a column holds as image files; `image` is its own column."""
    return column == "image" or column.endswith(("file_name", "file_names"))


def row_blocks(
    export: Export, columns: Mapping[Column, str], *, after: int = 0
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The export's rows as dictionaries, in order of item id, in its layout, those of some items at a time with the
    last item's id; only those of items with an id above `after`. `columns` as of `own_columns`.
    """
    drawn, people = _Draws(export), _People(export)
    items = export.project.items.order_by("pk").values_list(
        "pk", "external_id", "text", "question", "columns", "file_name", "image", "image__file"
    )
    labels = dict(export.project.labels.values_list("pk", "name"))
    while block := [ItemRow(*values) for values in items.filter(pk__gt=after)[:BLOCK]]:
        ids = [item.pk for item in block]
        after = ids[-1]
        machine = _machine_answers(export, ids, labels)
        yield after, list(_block(export, block, columns, machine, drawn.of(ids), people.of(ids)))


def rows(export: Export, columns: Mapping[Column, str]) -> Iterator[dict[str, Any]]:
    """All rows of `row_blocks`, one after the other."""
    for _, block in row_blocks(export, columns):
        yield from block


def _machine_answers(export: Export, item_ids: list[int], labels: Mapping[int, str]) -> dict[int, Machine]:
    """What the annotator said of the items, whose ids rise: the label's name, or the words of its answer."""
    annotations = Annotation.objects.filter(
        run=export.round.annotation_run, item__gte=item_ids[0], item__lte=item_ids[-1]
    )
    rows = annotations.order_by().values_list("item", "label", "answer", "start")
    return {
        item: Machine(_words(labels.get(label) if label else None, answer, start), start)
        for item, label, answer, start in rows
    }


def source_of(export: Export) -> list[Any]:
    """What rows depend on beside their items and answers: rows made from another one do not go together."""
    round = export.round
    audits = [[audit.round.pk, audit.draw_number] for audit in audits_of(round)]
    return [round.pk, round.draw_number, _has_probabilities(export), audits, audited_shares(export)]


class _People:
    """What people said, in the round and in its audits.

    An audited item's human label is certain, π = 1, where the draw decides by itself who is reviewed (threshold) and
    where the budget was raised after the audit: the later draw starts from what people labelled by then. So is, under
    the threshold rule, that of an item which somebody picked by hand.
    """

    def __init__(self, export: Export) -> None:
        self._round = export.round
        audits = audits_of(export.round)
        self._is_certain = not _has_probabilities(export)
        self._certain = {
            audit.round.pk: self._is_certain or audit.draw_number != export.round.draw_number
            for audit in audits
        }
        undecided = ReviewTask.counted.filter(
            round__in=[self._round.pk, *self._certain],
            purpose=ReviewTask.Purpose.ADJUDICATION,
            state__in=OPEN,
        )
        self._undecided = set(undecided.values_list("item_id", flat=True))
        # What a router gave to people before the criticizer read the rest is in a round of its own.
        routed = ReviewRound.objects.filter(routed_run=self._round.annotation_run)
        self._routed = routed.exclude(pk=self._round.pk).first()

    def of(self, item_ids: list[int]) -> dict[int, Answers]:
        """By item id; the ids rise, and the project has no other between the first and the last."""
        found: dict[int, Answers] = {}
        purpose = ReviewTask.Purpose
        tasks = ReviewTask.counted.filter(item__gte=item_ids[0], item__lte=item_ids[-1])
        answered = tasks.filter(state=ReviewTask.State.ANSWERED)
        answered = answered.select_related("correction__label", "correction__author")
        if self._certain:
            for task in answered.filter(round__in=list(self._certain)).order_by("pk"):
                found[task.item_id] = Answers(
                    audited=task.correction,
                    certain=self._certain[task.round_id],
                    adjudicated=task.purpose == purpose.ADJUDICATION,
                )
        for task in answered.filter(round=self._round):
            picked = task.purpose == purpose.PICKED
            answers = found.get(task.item_id, Answers())
            found[task.item_id] = replace(
                answers,
                reviewed=task.correction,
                certain=answers.certain or (picked and self._is_certain),
                adjudicated=task.purpose == purpose.ADJUDICATION,
                picked=picked,
            )
        if self._routed is not None:
            for task in answered.filter(round=self._routed).exclude(item__in=list(found)):
                found[task.item_id] = Answers(reviewed=task.correction)
        for item_id in self._undecided.intersection(item_ids):
            found[item_id] = replace(found.get(item_id, Answers()), in_conflict=True)
        return found


def _has_probabilities(export: Export) -> bool:
    """Whether each item is reviewed with a probability, so that the reviewed speak for the others: by the round's rule,
    or since what is drawn so far is the random part that a detector learns from.
    """
    # scikit-learn takes a second to import, and who only registers this work does not need it.
    from review.priorities import is_training

    return RULES[export.round.rule].needs_probabilities or is_training(export.round)


def audited_shares(export: Export) -> list[float]:
    """Of what the draw left, the share that each audit of this draw took so far; none under the threshold rule.

    Audits that extend one another are one sample of one population. Of an audit under way the part that is done counts:
    its items come in random order.
    """
    return list(_shares_by_root(export).values())


def _shares_by_root(export: Export) -> dict[int, float]:
    """The same by the id of the audit that each sample began with."""
    if not _has_probabilities(export):
        return {}
    taken: dict[int, int] = {}
    populations: dict[int, int] = {}
    audits = audits_of(export.round)
    waiting = open_counts(audits)
    for audit in audits:
        if audit.draw_number == export.round.draw_number:
            done = len(audit.item_ids) - waiting[audit.round.pk]
            taken[audit.root] = taken.get(audit.root, 0) + done
            populations[audit.root] = audit.round.population
    return {root: taken[root] / populations[root] for root in taken}


def _shares_of_picked(export: Export, shares: Mapping[int, float]) -> dict[int, float]:
    """By id of each item that was picked by hand and answered: the chance that audits would have taken it otherwise.

    Of those audits alone that were drawn from what was left without it; in the others it had its chance.
    """
    if not shares:
        return {}
    picked = ReviewTask.counted.filter(
        round=export.round_id, purpose=ReviewTask.Purpose.PICKED, state=ReviewTask.State.ANSWERED
    )
    ids = np.array(sorted(picked.values_list("item_id", flat=True)), dtype=np.int64)
    missed = np.ones(len(ids))
    for audit in audits_of(export.round):
        if audit.round.pk in shares:
            missed[~np.isin(ids, audit.population())] *= 1.0 - shares[audit.round.pk]
    return dict(zip(ids.tolist(), (1.0 - missed).tolist(), strict=True))


class _Draws:
    """The round's draw, looked up by item id; blocks are read as the ids rise, one in memory at a time."""

    def __init__(self, export: Export) -> None:
        shares = _shares_by_root(export)
        self._audited_shares = list(shares.values())
        self._shares_of_picked = _shares_of_picked(export, shares)
        self._blocks = export.round.current_blocks.order_by("number").iterator(chunk_size=1)
        self._next()

    def _next(self) -> None:
        block = next(self._blocks, None)
        self._ids = np.array([], dtype=np.int64)
        if block is not None:
            self._ids, self._error_probs, _, inclusion, self._selected = block.arrays()
            self._inclusion = inclusion_with_audits(inclusion, self._audited_shares)

    def of(self, item_ids: list[int]) -> dict[int, Drawn]:
        found: dict[int, Drawn] = {}
        left = np.array(item_ids, dtype=np.int64)
        while len(left):
            while len(self._ids) and self._ids[-1] < left[0]:
                self._next()
            if not len(self._ids):
                break
            here = left[left <= self._ids[-1]]
            left = left[len(here) :]
            at = np.searchsorted(self._ids, here)
            is_drawn = self._ids[at] == here
            at = at[is_drawn]
            for item_id, error_prob, inclusion, selected in zip(
                here[is_drawn].tolist(),
                self._error_probs[at].tolist(),
                self._inclusion[at].tolist(),
                self._selected[at].tolist(),
                strict=True,
            ):
                found[item_id] = Drawn(
                    None if math.isnan(error_prob) else error_prob,
                    inclusion,
                    selected,
                    self._shares_of_picked.get(item_id, 0.0),
                )
        return found


def _block(
    export: Export,
    items: Sequence[ItemRow],
    columns: Mapping[Column, str],
    machine: Mapping[int, Machine],
    drawn: Mapping[int, Drawn],
    people: Mapping[int, Answers],
) -> Iterator[dict[str, Any]]:
    known = CalibrationLabel.objects.filter(
        item__gte=items[0].pk, item__lte=items[-1].pk, project=export.project_id
    )
    calibrations = {label.item_id: label for label in known.select_related("label", "author")}
    files = image_names(items) if export.format == Export.Format.IMAGE_FOLDER else {}
    weights = _weights(drawn, people, export.lam)
    is_span = export.project.task.is_span
    for item in items:
        answers, answer = people.get(item.pk, _NOBODY), machine.get(item.pk, _NOTHING)
        calibration = calibrations.get(item.pk)
        draw = drawn.get(item.pk)
        if draw is None:
            wide = _not_drawn(answer.said, calibration, answers.reviewed)
        else:
            wide = _wide(answer.said, answers, draw, weights[item.pk])
        shared = {"item_id": item.pk, "external_id": item.external_id, **_own(item, columns)}
        if item.image_id in files:
            shared[FILE_NAME] = files[item.image_id]
        if is_span:
            wide |= _starts(answer.start, calibration, answers, draw)
            wide |= {
                name: says_none(wide[label]) for name, label in zip(WIDE_NO_ANSWERS, _WIDE_SAID, strict=True)
            }
        if export.layout == Export.Layout.WIDE:
            yield shared | wide
            continue
        for source in ("machine", "human"):
            if wide[f"{source}_weight"]:
                yield (
                    shared
                    | {
                        "label": wide[f"{source}_label"],
                        "weight": wide[f"{source}_weight"],
                        "source": source,
                    }
                    | ({name: wide[f"{source}_{name}"] for name in LONG_SPANS} if is_span else {})
                )


def _own(item: ItemRow, columns: Mapping[Column, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for (kind, key), name in columns.items():
        if kind == "column":
            values[name] = item.columns.get(key)
        elif key == "file":
            values[name] = item.columns.get("file") or item.file_name or item.image_file
        else:
            values[name] = (item.text if key == "text" else item.question) or None
    return values


def _wide(
    machine: str | None, answers: Answers, drawn: Drawn, weights: tuple[float, float]
) -> dict[str, Any]:
    """The columns of the wide layout for one item of the draw."""
    answer = answers.counting
    human = _said(answer)
    machine_weight, human_weight = weights
    return {
        "machine_label": machine,
        "human_label": human,
        "final_label": machine if human is None else human,
        "label_source": "adjudicated" if answers.adjudicated else _source(machine, human),
        "error_prob": drawn.error_prob,
        "selected": drawn.selected,
        "inclusion_prob": 1.0 if answers.certain else drawn.inclusion_prob,
        "machine_weight": machine_weight if machine is not None else 0.0,
        "human_weight": human_weight,
        "reviewer": answer.author.username if answer is not None else None,
        "reviewed_at": answer.created_at.isoformat() if answer is not None else None,
        "status": _status(machine, answers, drawn),
    }


def _weights(
    drawn: Mapping[int, Drawn], people: Mapping[int, Answers], lam: float
) -> dict[int, tuple[float, float]]:
    """Weights of the machine's and of the person's label, by id of each item of the draw.

    A selected item that nobody answered counts as not reviewed. So does, where chance decides who is reviewed, an item
    that was picked: its chance to be picked is not known, and the weights are those of the draw. An audit that passed
    it over for that would have taken it with a known chance; its label weighs as much as it would have on average,
    λ(1 − s/π) and s/π instead of λ(1 − δ/π) and δ/π. Without that the items picked would weigh too little.
    """
    labeled, inclusion, shares = [], [], {}
    for item_id, draw in drawn.items():
        answers = people.get(item_id, _NOBODY)
        by_chance = answers.audited is not None or not answers.picked
        inclusion_prob = 1.0 if answers.certain else draw.inclusion_prob
        labeled.append(answers.counting is not None and (by_chance or answers.certain))
        inclusion.append(inclusion_prob)
        if not (by_chance or answers.certain) and draw.audited_share:
            shares[item_id] = draw.audited_share / inclusion_prob
    machine, human = act_weights(np.array(labeled, dtype=np.bool_), np.array(inclusion), lam)
    found = dict(zip(drawn, zip(machine.tolist(), human.tolist(), strict=True), strict=True))
    return found | {item_id: (lam * (1.0 - share), share) for item_id, share in shares.items()}


def _said(answer: Correction | None) -> str | None:
    """What a person answered; None where nobody did."""
    if answer is None:
        return None
    return _words(answer.label.name if answer.label is not None else None, answer.answer, answer.start)


def _words(label: str | None, answer: str, start: int | None) -> str | None:
    """The label's name, or the words of the answer; "" says that the text holds none. None where there is neither."""
    if start is not None:
        return answer
    return label if label is not None else answer or None


def says_none(said: str | None) -> bool | None:
    """Whether an answer that is a span says that the text holds none; None where there is no answer."""
    return None if said is None else said == ""


def _calibrated(calibration: CalibrationLabel) -> str:
    """The label's name, or the words of the first answer; "" says that the text holds none."""
    if calibration.label is not None:
        return calibration.label.name
    return str(calibration.answers[0]["text"]) if calibration.answers else ""


def _starts(
    machine: int | None, calibration: CalibrationLabel | None, answers: Answers, drawn: Drawn | None
) -> dict[str, int | None]:
    """Where the answers of the wide layout begin in the item's text: 0 of "no answer", None where there is none."""
    answer = answers.counting if drawn is not None else answers.reviewed
    human: int | None
    if drawn is None and calibration is not None:
        human = int(calibration.answers[0]["start"]) if calibration.answers else 0
    else:
        human = None if answer is None else answer.start
    return dict(zip(WIDE_STARTS, (machine, human, machine if human is None else human), strict=True))


def _source(machine: str | None, human: str | None) -> str | None:
    return "human" if human is not None else "machine" if machine is not None else None


def _status(machine: str | None, answers: Answers, drawn: Drawn) -> str:
    """How its final label came about. "in conflict": readers differ, and the machine's label stands until a manager
    decides."""
    if answers.reviewed is not None:
        return "picked" if answers.picked else "reviewed"
    if answers.audited is not None:
        return "audited"
    if answers.in_conflict:
        return "in conflict"
    if drawn.selected:
        return "unanswered"
    return "failed" if machine is None else "machine"


def _not_drawn(
    machine: str | None, calibration: CalibrationLabel | None, routed: Correction | None
) -> dict[str, Any]:
    """An item outside the round's draw: a calibration item or one that a router gave to people, labelled by a person
    for certain; or one that nobody labelled, such as one added later."""
    answer = calibration or routed
    human = _said(routed) if calibration is None else _calibrated(calibration)
    status = "calibration" if calibration else "routed" if routed else "not_annotated"
    return {
        "machine_label": machine,
        "human_label": human,
        "final_label": machine if human is None else human,
        "label_source": _source(machine, human),
        "error_prob": None,
        "selected": answer is not None,
        "inclusion_prob": None if answer is None else 1.0,
        "machine_weight": 0.0,
        "human_weight": 0.0 if answer is None else 1.0,
        "reviewer": answer.author.username if answer is not None and answer.author else None,
        "reviewed_at": None if answer is None else answer.created_at.isoformat(),
        "status": status,
    }


def header(export: Export, columns: Mapping[Column, str]) -> list[str]:
    """The export's column names, in order; `columns` as of `own_columns`."""
    is_span = export.project.task.is_span
    if export.layout == Export.Layout.ANSWERS:
        return [*LEADING, *ANSWERS, *(LONG_SPANS if is_span else ())]
    is_wide = export.layout == Export.Layout.WIDE
    ours = [*(WIDE if is_wide else LONG)]
    if is_span:
        ours += WIDE_SPANS if is_wide else LONG_SPANS
    names = [*LEADING, *columns.values(), *ours]
    return [FILE_NAME, *names] if export.format == Export.Format.IMAGE_FOLDER else names


# --- The images of an image folder -----------------------------------------------------------------------------------


def image_names(items: Collection[ItemRow]) -> dict[int, str]:
    """By the id of an image of these items: its file's name, after the first item that shows it.

    The same in every export of the project, different for each image, and safe on every file system.
    """
    ids = {item.image_id for item in items if item.image_id is not None}
    first = dict(Item.objects.filter(image_id__in=ids).order_by().values_list("image_id").annotate(Min("pk")))
    shown = Item.objects.filter(pk__in=first.values()).select_related("image")
    return {item.image_id: image_name(item) for item in shown if item.image_id is not None}


def images(export: Export) -> Iterator[tuple[str, StoredImage]]:
    """(file name, image) of every image that the export's items show, each once."""
    shown = export.project.items.filter(image__isnull=False).order_by()
    first = shown.values("image").annotate(first=Min("pk")).values("first")
    items = export.project.items.filter(pk__in=first).select_related("image").order_by("pk")
    for item in items.iterator(chunk_size=BLOCK):
        if item.image is not None:
            yield image_name(item), item.image


def image_name(item: Item) -> str:
    """`<item id>-<its own id, as far as that is safe in a file name>` with the suffix of its image."""
    assert item.image is not None  # noqa: S101 (asked for items with an image alone)
    own = _UNSAFE.sub("_", Path(item.external_id).stem).strip("_.")[:_LONGEST_NAME]
    suffix = Path(item.image.file.name or "").suffix.lower()
    return f"{item.pk}-{own}{suffix}" if own else f"{item.pk}{suffix}"
