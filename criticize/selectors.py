"""How good annotations and criticisms are, where gold labels say."""

from dataclasses import dataclass

import numpy as np
from django.db.models import F

from annotate.models import AnnotationRun
from criticize.metrics import annotation_quality_gain, area_under_budget_sensitivity, budget_curve
from criticize.models import CriticismRun


@dataclass(frozen=True)
class Quality:
    """A criticizer against gold: AQG at each share of the budget, and ABS; None without errors to find."""

    items: int
    errors: int
    abs: float | None
    curve: list[tuple[float, float]]  # (budget share, AQG)


def machine_accuracy(run: AnnotationRun) -> tuple[int, int]:
    """(right, judged): annotations that match gold, and those that have gold; failures count as wrong."""
    judged = run.annotations.filter(item__gold__isnull=False)
    return judged.filter(label=F("item__gold")).count(), judged.count()


def gold_arrays(run: CriticismRun) -> tuple[np.ndarray, np.ndarray]:
    """(ε̂, is_error) of the annotations whose item has a gold label, in order of item.

    A missing answer counts as a draw treats it: no label is an error, and no ε̂ is a suspicion of 1.
    """
    judged = run.annotation_run.annotations.filter(item__gold__isnull=False).order_by("item_id")
    annotations = list(judged.values_list("pk", "label_id", "item__gold_id"))
    error_probs = dict(run.criticisms.filter(failure="").values_list("annotation_id", "error_prob"))
    return (
        np.array([error_probs.get(pk, 1.0) for pk, _, _ in annotations], dtype=float),
        np.array([label != gold for _, label, gold in annotations], dtype=bool),
    )


def criticism_quality(run: CriticismRun, *, points: int = 100) -> Quality:
    """AQG and ABS of the run on the items with gold."""
    error_probs, is_error = gold_arrays(run)
    curve = budget_curve(error_probs, is_error) if len(is_error) else None
    if curve is None:
        return Quality(len(is_error), 0, None, [])
    budgets, aqg = curve
    at = np.unique(np.linspace(0, len(budgets) - 1, points + 1).round().astype(int))
    return Quality(
        items=len(is_error),
        errors=int(is_error.sum()),
        abs=area_under_budget_sensitivity(error_probs, is_error),
        curve=[(float(budgets[i]) / len(is_error), float(aqg[i])) for i in at],
    )


def aqg_at(run: CriticismRun, budget: int) -> float | None:
    """AQG of the run at a budget of reviews, on the items with gold."""
    error_probs, is_error = gold_arrays(run)
    if not is_error.any():
        return None
    return annotation_quality_gain(error_probs, is_error, min(budget, len(is_error)))


def error_prob_histogram(run: CriticismRun, *, bins: int = 20) -> list[int]:
    """Counts of ε̂ in equal bins over [0, 1]."""
    values = np.fromiter(run.criticisms.filter(failure="").values_list("error_prob", flat=True), dtype=float)
    counts, _ = np.histogram(values, bins=bins, range=(0, 1))
    return [int(count) for count in counts]
