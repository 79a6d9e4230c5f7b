"""The rows of an export of answers: one for everything a person answered or skipped, block by block."""

from collections.abc import Iterator
from typing import Any

from review.export_rows import says_none
from review.models import Correction, Export, ReviewTask

_BLOCK = 1000


def answer_rows(export: Export) -> Iterator[dict[str, Any]]:
    """Every answer in the export's round and its audits in the order given, those that were taken back too.

    `counted`: its turn is the one whose answer is the item's. `stands`: it was not taken back or replaced since.
    `machine_label` is the machine's answer where answers are written. Of the items there are only ids: what else
    belongs to them is in the wide layout.
    """
    rounds = [export.round_id, *export.round.audits.values_list("pk", flat=True)]
    answers = (
        Correction.objects.filter(task__round__in=rounds)
        .exclude(action=Correction.Action.UNDO)
        .select_related("task__item", "task__annotation__label", "task__round__project", "label", "author")
        .defer("task__item__text", "task__item__columns", "task__annotation__reasoning")
        .order_by("pk")
    )
    for correction in answers.iterator(chunk_size=_BLOCK):
        yield _row(correction, correction.task)


def _row(correction: Correction, task: ReviewTask) -> dict[str, Any]:
    annotation = task.annotation
    machine = None
    if annotation is not None:
        machine = annotation.label.name if annotation.label else annotation.answer or None
        machine = "" if annotation.start == 0 and not annotation.answer else machine
    row = {
        "item_id": task.item_id,
        "external_id": task.item.external_id,
        "round": task.round_id,
        "answer": _said(correction),
        "machine_label": machine,
        "reviewer": correction.author.username,
        "purpose": ReviewTask.Purpose(task.purpose).value,
        "copy": task.copy,
        "arm": correction.shown.get("arm") or ("blind" if task.round.is_blind else task.arm),
        "action": correction.action,
        "reason": correction.reason or None,
        "seconds": correction.seconds,
        "late": correction.late,
        "counted": task.is_counted,
        "stands": task.correction_id == correction.pk,
        "answered_at": correction.created_at.isoformat(),
    }
    if not task.round.project.task.is_span:
        return row
    return row | {"start": correction.start, "no_answer": says_none(_said(correction))}


def _said(correction: Correction) -> str | None:
    """The label's name or the words; "" says that the text holds no answer, None that the item was skipped."""
    if correction.start is not None:
        return correction.answer
    return correction.label.name if correction.label else correction.answer or None
