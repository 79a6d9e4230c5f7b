"""Everything that people answered in a project, a row each: who, when, what before, what then, and what was in view."""

import json
from typing import Any

from django.db.models import CharField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, NullIf

from annotate.models import Project
from review.models import Correction

ANSWER_COLUMNS = (
    "id",
    "time",
    "person",
    "round",
    "task",
    "purpose",
    "item",
    "action",
    "old",
    "new",
    "reason",
    "seconds",
    "late",
    "arm",
    "shown",
)


def answers_of(project: Project) -> QuerySet[Correction]:
    """The project's answers, skips and undone answers, with the task and item of each, and what it says `old`.

    `old` is what the task's turn before said: the label or written answer, "" where there was none.
    """
    before = Correction.objects.filter(task=OuterRef("task"), pk__lt=OuterRef("pk")).order_by("-pk")
    said = Coalesce(NullIf("answer", Value("")), "label__name", Value(""), output_field=CharField())
    return (
        Correction.objects.filter(task__round__project=project)
        .select_related("author", "label", "task__item")
        .annotate(old=Coalesce(Subquery(before.values_list(said)[:1]), Value(""), output_field=CharField()))
    )


def answer_row(answer: Any) -> dict[str, Any]:
    """A row of `answers_of` by column, as files have it."""
    return {
        "id": answer.pk,
        "time": answer.created_at.isoformat(),
        "person": answer.author.username,
        "round": answer.task.round_id,
        "task": answer.task_id,
        "purpose": answer.task.purpose,
        "item": answer.task.item.external_id,
        "action": answer.action,
        "old": answer.old,
        "new": said(answer),
        "reason": answer.reason,
        "seconds": answer.seconds,
        "late": answer.late,
        "arm": answer.task.arm,
        "shown": json.dumps(answer.shown, ensure_ascii=False),
    }


def said(answer: Correction) -> str:
    """The label's name or the written answer; "" for a skip or an undo."""
    return answer.label.name if answer.label is not None else answer.answer
