"""What pages and the API say about criticism runs: their answers, and how good they are where gold labels say."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from django.db.models import QuerySet

from annotate.columns import by_few_values, columns_by, looked_up
from annotate.contents import BLOCK
from annotate.models import Annotation, Item, Project
from annotate.rightness import Truth, judgments
from annotate.selectors import LATEST
from criticize.methods import RANK_ANSWERS, rank_of
from criticize.metrics import annotation_quality_gain, area_under_budget_sensitivity, budget_curve
from criticize.models import Criticism, CriticismRun

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Quality:
    """A criticizer against gold: AQG at each share of the budget, and ABS; None without errors to find."""

    items: int
    errors: int
    abs: float | None
    curve: list[tuple[float, float]]  # (budget share, AQG)

    @property
    def right(self) -> int:
        """Of the items, those whose annotation is right."""
        return self.items - self.errors


def gold_arrays(run: CriticismRun) -> tuple[np.ndarray, np.ndarray]:
    """(priority, is_error) of the annotations whose item has a gold label or gold answers, in order of item.

    A missing answer counts as a draw treats it: no label is an error, and no criticism is the highest priority.
    """
    annotation_ids, is_right = _judged(run)
    rated_ids, priorities = _priorities(run)
    given = np.full(len(annotation_ids), np.nan)
    if len(rated_ids):
        at = np.searchsorted(rated_ids, annotation_ids).clip(max=len(rated_ids) - 1)
        is_given = rated_ids[at] == annotation_ids
        given[is_given] = priorities[at[is_given]]
    return suspicion(given, ranks_only=run.ranks_only), ~is_right


def _priorities(run: CriticismRun) -> tuple[np.ndarray, np.ndarray]:
    """(annotation id, priority) of the criticisms that did not fail, in order of annotation."""
    # All that have a priority, and no others, did not fail; of these an index has both columns.
    rated = run.criticisms.filter(priority__isnull=False)
    # What models say has two digits, as a rule: a hundred values, and then a fifth of the time is enough.
    few = by_few_values(rated, "priority", "annotation_id")
    if few:
        ids = np.concatenate([each for _, each in few])
        priorities = np.repeat([priority for priority, _ in few], [len(each) for _, each in few])
    else:
        rows = rated.order_by().values_list("annotation_id", "priority")
        columns = [("annotation", np.int64), ("priority", float)]
        found = np.fromiter(rows.iterator(_ROWS_AT_ONCE), dtype=columns)
        ids, priorities = found["annotation"], found["priority"]
    order = np.argsort(ids)
    return ids[order], priorities[order]


def _judged(run: CriticismRun) -> tuple[np.ndarray, np.ndarray]:
    """(annotation id, is right) of the annotations whose item has a gold label or gold answers, in order of item."""
    annotations, project = run.annotation_run.annotations, run.annotation_run.project
    task = project.task
    if task.is_span:
        judged = list(judgments(annotations.order_by("item_id"), task, Truth.GOLD))
        ids = np.array([each.annotation_id for each in judged], dtype=np.int64)
        return ids, np.array([each.is_right for each in judged], dtype=bool)
    # Each from an index of labels, and laid beside each other here: joined, a million rows take twice as long.
    labels = list(project.labels.values_list("pk", flat=True))
    golds = columns_by(Item.objects.filter(gold__in=labels), "gold_id", "pk")
    said = columns_by(annotations.all(), "label_id", "item_id", "pk")
    said = said[np.argsort(said[:, 1], kind="stable")]
    gold = looked_up(said[:, 1], golds[:, 1], golds[:, 0])
    is_known_item = gold != 0
    return said[is_known_item, 2], (said[:, 0] == gold)[is_known_item]


def suspicion(priorities: np.ndarray, *, ranks_only: bool = False) -> np.ndarray:
    """Priorities without gaps, shape (n,): a missing one, NaN, is as high as can be, so that a person looks.

    That is 1 on a scale of probabilities, and above all others where there is only an order.
    """
    is_missing = np.isnan(priorities)
    if not ranks_only or is_missing.all():
        return np.where(is_missing, 1.0, priorities)
    return np.where(is_missing, priorities[~is_missing].max() + 1.0, priorities)


def criticism_quality(run: CriticismRun, *, points: int = 100) -> Quality:
    """AQG and ABS of the run on the items with gold."""
    priorities, is_error = gold_arrays(run)
    curve = budget_curve(priorities, is_error) if len(is_error) else None
    if curve is None:
        return Quality(len(is_error), 0, None, [])
    budgets, aqg = curve
    at = np.unique(np.linspace(0, len(budgets) - 1, points + 1).round().astype(int))
    return Quality(
        items=len(is_error),
        errors=int(is_error.sum()),
        abs=area_under_budget_sensitivity(priorities, is_error),
        curve=[(float(budgets[i]) / len(is_error), float(aqg[i])) for i in at],
    )


def aqg_at(run: CriticismRun, budget: int) -> float | None:
    """AQG of the run at a budget of reviews, on the items with gold."""
    priorities, is_error = gold_arrays(run)
    if not is_error.any():
        return None
    return annotation_quality_gain(priorities, is_error, min(budget, len(is_error)))


def error_prob_histogram(run: CriticismRun, *, bins: int = 20) -> list[int] | None:
    """Counts of ε̂, or of 1 − quality, in equal bins over [0, 1]; None for a run that only orders."""
    if run.ranks_only:
        return None
    given = run.criticisms.filter(failure="").values_list("priority", flat=True)
    counts, _ = np.histogram(np.fromiter(given, dtype=float), bins=bins, range=(0, 1))
    return [int(count) for count in counts]


def rank_counts(run: CriticismRun) -> list[tuple[str, int]] | None:
    """How often each answer was given, most suspicious first; None for a run that gives more than an order."""
    if not run.ranks_only:
        return None
    priorities = run.criticisms.filter(failure="").values_list("priority", flat=True)
    given = Counter(rank.answer for rank in (rank_of(run.strategy, each) for each in priorities) if rank)
    return [(answer, given[answer]) for answer in RANK_ANSWERS[run.strategy]]


def criticism_runs_of(project: Project) -> QuerySet[CriticismRun]:
    return CriticismRun.objects.filter(annotation_run__project=project).select_related(
        "job", "created_by", "annotation_run__project"
    )


def latest_criticisms(run: CriticismRun) -> QuerySet[Criticism]:
    """The last results that were written, newest first."""
    return run.criticisms.select_related("annotation__item__gold", "annotation__label").order_by("-pk")[
        :LATEST
    ]


def failed_criticisms(run: CriticismRun, failure: str = "") -> QuerySet[Criticism]:
    """Results that are failures, in order; with `failure`, those of that name."""
    failed = run.criticisms.exclude(failure="").select_related("annotation__item", "annotation__label")
    failed = failed.order_by("pk")
    return failed.filter(failure=failure) if failure else failed


def annotations_in_order(annotation_ids: Sequence[int]) -> Iterator[Annotation]:
    """The annotations with these ids, in this order, read in blocks, each with its item, image and label."""
    for start in range(0, len(annotation_ids), BLOCK):
        block = annotation_ids[start : start + BLOCK]
        found = Annotation.objects.select_related("item__image", "label").in_bulk(block)
        yield from (found[pk] for pk in block if pk in found)
