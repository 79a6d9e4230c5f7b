"""The rows of an export, computed block by block so that memory stays flat."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotate.models import Annotation, Item
from review.models import Correction, Export, ReviewTask
from review.weights import act_weights

BLOCK = 1000

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
LEADING = ("item_id", "external_id")
NUMBERS = frozenset({"error_prob", "inclusion_prob", "machine_weight", "human_weight", "weight"})


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the round says about one item."""

    error_prob: float | None
    inclusion_prob: float
    selected: bool


# A part of every item ("part", "text") or a column of its upload ("column", "author").
Column = tuple[str, str]


def own_columns(export: Export) -> dict[Column, str]:
    """The items' own columns in the order of the uploads, with the name of each in the export.

    A name that the export or another column uses gets "source_" before it.
    """
    project = export.project
    task = project.task
    parts = {"file": task.needs_image, "text": task.needs_text, "question": task.needs_question}
    found: dict[Column, None] = {("part", name): None for name, used in parts.items() if used}
    present: dict[str, None] = {}
    for columns in project.items.order_by("id").values_list("columns", flat=True).iterator(chunk_size=2000):
        present.update(dict.fromkeys(columns))
    # A database may sort the keys of JSON, so the uploads know the order.
    uploads = project.uploads.order_by("pk").values_list("columns", flat=True)
    known = dict.fromkeys(name for columns in uploads for name in columns if name in present)
    # The column "file" of a zip of images is the image's name.
    skipped = {"file"} if task.needs_image else set()
    found.update({("column", name): None for name in known | present if name not in skipped})
    taken = {*LEADING, *WIDE, *LONG}
    exported: dict[Column, str] = {}
    for column in found:
        name = column[1]
        while name in taken:
            name = f"source_{name}"
        taken.add(name)
        exported[column] = name
    return exported


def rows(export: Export, columns: Mapping[Column, str]) -> Iterator[dict[str, Any]]:
    """The export's rows as dictionaries, in order of item id, in its layout; `columns` as of `own_columns`."""
    drawn = _Draws(export)
    last = 0
    while True:
        items = list(
            export.project.items.filter(pk__gt=last)
            .select_related("calibration_label__label", "image")
            .order_by("pk")[:BLOCK]
        )
        if not items:
            return
        last = items[-1].pk
        yield from _block(export, items, columns, drawn.of([item.pk for item in items]))


class _Draws:
    """The round's draw, looked up by item id; blocks are read as the ids rise, one in memory at a time."""

    def __init__(self, export: Export) -> None:
        self._blocks = export.round.current_blocks.order_by("number").iterator(chunk_size=1)
        self._next()

    def _next(self) -> None:
        block = next(self._blocks, None)
        self._ids = np.array([], dtype=np.int64)
        if block is not None:
            self._ids, self._error_probs, _, self._inclusion, self._selected = block.arrays()

    def of(self, item_ids: list[int]) -> dict[int, Drawn]:
        found: dict[int, Drawn] = {}
        for item_id in item_ids:
            while len(self._ids) and self._ids[-1] < item_id:
                self._next()
            at = int(np.searchsorted(self._ids, item_id))
            if at < len(self._ids) and self._ids[at] == item_id:
                error_prob = float(self._error_probs[at])
                found[item_id] = Drawn(
                    None if np.isnan(error_prob) else error_prob,
                    float(self._inclusion[at]),
                    bool(self._selected[at]),
                )
        return found


def _block(
    export: Export, items: list[Item], columns: Mapping[Column, str], drawn: dict[int, Drawn]
) -> Iterator[dict[str, Any]]:
    ids = [item.pk for item in items]
    run = export.round.criticism_run
    annotations = {
        annotation.item_id: annotation
        for annotation in Annotation.objects.filter(
            run=run.annotation_run_id if run else None, item_id__in=ids
        ).select_related("label")
    }
    answers = {
        task.item_id: task.correction
        for task in ReviewTask.objects.filter(
            round=export.round, item_id__in=ids, state=ReviewTask.State.ANSWERED
        ).select_related("correction__label", "correction__author")
    }
    for item in items:
        wide = _wide(item, annotations.get(item.pk), answers.get(item.pk), drawn.get(item.pk), export.lam)
        shared = {"item_id": item.pk, "external_id": item.external_id, **_own(item, columns)}
        if export.layout == Export.Layout.WIDE:
            yield shared | wide
            continue
        for source in ("machine", "human"):
            if wide[f"{source}_weight"]:
                yield shared | {
                    "label": wide[f"{source}_label"],
                    "weight": wide[f"{source}_weight"],
                    "source": source,
                }


def _own(item: Item, columns: Mapping[Column, str]) -> dict[str, Any]:
    parts = {
        "text": item.text or None,
        "question": item.question or None,
        "file": item.columns.get("file") or item.file_name or (item.image.file.name if item.image else None),
    }
    values = {"part": parts, "column": item.columns}
    return {name: values[kind].get(key) for (kind, key), name in columns.items()}


def _wide(
    item: Item, annotation: Annotation | None, answer: Correction | None, drawn: Drawn | None, lam: float
) -> dict[str, Any]:
    """The columns of the wide layout for one item."""
    machine = annotation.label.name if annotation and annotation.label else None
    calibration = getattr(item, "calibration_label", None)
    if drawn is None:
        return _not_drawn(machine, calibration.label.name if calibration else None, calibration)
    reviewed = answer is not None and answer.label is not None
    # A selected item that nobody answered counts as not reviewed.
    machine_weight, human_weight = act_weights(np.array([reviewed]), np.array([drawn.inclusion_prob]), lam)
    human = answer.label.name if answer is not None and answer.label is not None else None
    status = (
        "reviewed" if reviewed else "unanswered" if drawn.selected else "machine" if machine else "failed"
    )
    return {
        "machine_label": machine,
        "human_label": human,
        "final_label": human or machine,
        "label_source": "human" if human else "machine" if machine else None,
        "error_prob": drawn.error_prob,
        "selected": drawn.selected,
        "inclusion_prob": drawn.inclusion_prob,
        "machine_weight": float(machine_weight[0]) if machine else 0.0,
        "human_weight": float(human_weight[0]),
        "reviewer": answer.author.username if reviewed and answer else None,
        "reviewed_at": answer.created_at.isoformat() if reviewed and answer else None,
        "status": status,
    }


def _not_drawn(machine: str | None, human: str | None, calibration: Any) -> dict[str, Any]:
    """An item outside the round's draw: a calibration item, labelled by a person for certain, or one added later."""
    is_calibration = human is not None
    return {
        "machine_label": machine,
        "human_label": human,
        "final_label": human or machine,
        "label_source": "human" if human else "machine" if machine else None,
        "error_prob": None,
        "selected": is_calibration,
        "inclusion_prob": 1.0 if is_calibration else None,
        "machine_weight": 0.0,
        "human_weight": 1.0 if is_calibration else 0.0,
        "reviewer": calibration.author.username if is_calibration and calibration.author else None,
        "reviewed_at": calibration.created_at.isoformat() if is_calibration else None,
        "status": "calibration" if is_calibration else "not_annotated",
    }


def header(export: Export, columns: Mapping[Column, str]) -> list[str]:
    """The export's column names, in order; `columns` as of `own_columns`."""
    ours = WIDE if export.layout == Export.Layout.WIDE else LONG
    return [*LEADING, *columns.values(), *ours]
