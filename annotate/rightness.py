"""Which annotations are right, by what is known of their items: the same label, or an exact match of the answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from django.core.cache import cache
from django.db.models import Count, F, Q, QuerySet

from annotate.models import Annotation, AnnotationRun
from annotate.spans import answer_f1, is_right
from annotate.task_types import TaskType

_ROWS_AT_ONCE = 2000
_KEPT = 300  # seconds


class Truth(StrEnum):
    """Where the known label or answers of an item come from."""

    GOLD = "gold"
    CALIBRATION = "calibration"


_LABEL = {Truth.GOLD: "gold", Truth.CALIBRATION: "calibration_label__label"}
_ANSWERS = {Truth.GOLD: "gold_answers", Truth.CALIBRATION: "calibration_label__answers"}


def is_known(task: TaskType, truth: Truth, prefix: str = "item__") -> Q:
    """Of rows from which `prefix` leads to the item: those whose item has a known label, or known answers."""
    return Q(**{f"{prefix}{known_field(task, truth)}__isnull": False})


def known_field(task: TaskType, truth: Truth) -> str:
    """The field, from the item, that holds what is known of it."""
    return (_ANSWERS if task.is_span else _LABEL)[truth]


@dataclass(frozen=True, slots=True)
class Judgment:
    """Whether an annotation is right; one that failed is wrong. `f1` of answers that are spans, in [0, 1]."""

    annotation_id: int
    item_id: int
    run_id: int
    is_right: bool
    f1: float | None = None


def judgments(annotations: QuerySet[Annotation], task: TaskType, truth: Truth) -> Iterator[Judgment]:
    """Of those annotations, in their order, whose item's label or answers are known."""
    known = annotations.filter(is_known(task, truth))
    keys = ("pk", "item_id", "run_id")
    field = f"item__{known_field(task, truth)}"
    if not task.is_span:
        rows = known.values_list(*keys, "label_id", f"{field}_id")
        for pk, item, run, label, right in rows.iterator(chunk_size=_ROWS_AT_ONCE):
            yield Judgment(pk, item, run, label == right)
        return
    spans = known.values_list(*keys, "answer", "start", field)
    for pk, item, run, answer, start, gold in spans.iterator(chunk_size=_ROWS_AT_ONCE):
        said = None if start is None else answer
        yield Judgment(pk, item, run, is_right(said, gold), answer_f1(said, gold))


@dataclass(frozen=True, slots=True)
class Scores:
    """Of `judged` annotations `right` are right. `f1` is the mean over all of them where answers are spans."""

    right: int
    judged: int
    f1: float | None = None


def scores_against(annotations: QuerySet[Annotation], task: TaskType, truth: Truth) -> Scores:
    """How good these annotations are by what is known of their items."""
    if not task.is_span:
        known = annotations.filter(is_known(task, truth))
        is_same = Q(label=F(f"item__{known_field(task, truth)}"))
        return Scores(**known.aggregate(right=Count("pk", filter=is_same), judged=Count("pk")))
    return scores_of(judgments(annotations, task, truth))


def scores_of(found: Iterator[Judgment]) -> Scores:
    """The same of judgments."""
    right = judged = 0
    f1 = 0.0
    for each in found:
        judged += 1
        right += each.is_right
        f1 += each.f1 or 0.0
    return Scores(right, judged, f1 / judged if judged else None)


def gold_scores(run: AnnotationRun) -> Scores:
    """How good the run is by the gold of its items. Where answers are spans, kept for some minutes while it rests."""
    task = run.project.task
    if not task.is_span:
        return scores_against(run.annotations.all(), task, Truth.GOLD)
    key = f"gold-scores-{run.pk}-{run.job.done}-{run.job.failed}"
    kept: Scores | None = cache.get(key)
    if kept is None:
        kept = scores_against(run.annotations.order_by("item_id"), task, Truth.GOLD)
        cache.set(key, kept, _KEPT)
    return kept
