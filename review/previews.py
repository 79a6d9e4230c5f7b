"""What a draw would do, in figures and a picture, before anything is committed."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from scipy.special import expit

from annotate.models import Project
from criticize.combination import rank_shares
from review.drawing import Population, Selection
from review.models import Correction
from review.sampling import FloatArray

HISTOGRAM_BINS = 20
CURVE_STEPS = 100
# The latest answers say how long one takes now; more would only cost time.
_TIMED_ANSWERS = 1000

ERROR_PROBABILITY = "Error probability ε̂"
RANK = "Place in the order, from least to most suspicious"
PRIORITY = "Priority"
LOW_QUALITY = "1 − quality"


@dataclass(frozen=True)
class RoundPreview:
    """What a budget would select. The draw of the same arguments selects exactly this.

    `expected_errors` and `expected_found` are Σε̂ and Σπε̂, None where priorities are no error probabilities. `counts`
    is a histogram in equal bins over [0, 1] of what `scale` names, without the `unanswered`; `cut` is τ or α there,
    and `curve` π over it, for rules that give chances.
    """

    items: int
    budget: int
    planned_budget: int
    selected: int
    unanswered: int
    rule: str
    priority: str
    seed: int
    parameters: dict[str, Any]
    inclusion_sum: float
    expected_errors: float | None
    expected_found: float | None
    scale: str
    counts: list[int]
    selected_counts: list[int]
    cut: float | None
    curve: list[tuple[float, float]]
    cost: Decimal
    seconds: float | None


@dataclass(frozen=True)
class Drawn:
    """A population, what was selected of it, and how. `planned_budget` counts what a training draw leaves for later."""

    items: Population
    selection: Selection
    rule: str
    priority: str
    seed: int
    budget: int
    planned_budget: int
    is_training: bool


def preview_of(project: Project, drawn: Drawn) -> RoundPreview:
    """The figures and the picture of a draw; `cost` and `seconds` are of its whole planned budget."""
    items, selection = drawn.items, drawn.selection
    scale, places = _places(drawn)
    if scale == PRIORITY and project.task.is_rated:
        scale = LOW_QUALITY
    known = ~np.isnan(places)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    sums_say = items.has_probabilities and not drawn.is_training
    seconds = seconds_per_review(project)
    return RoundPreview(
        items=len(items),
        budget=drawn.budget,
        planned_budget=drawn.planned_budget,
        selected=int(selection.selected.sum()),
        unanswered=int(np.isnan(items.priorities).sum()),
        rule=drawn.rule,
        priority=drawn.priority,
        seed=drawn.seed,
        parameters=selection.parameters,
        inclusion_sum=float(selection.inclusion_probs.sum()),
        expected_errors=float(items.suspicion.sum()) if sums_say else None,
        expected_found=float(selection.inclusion_probs @ items.suspicion) if sums_say else None,
        scale=scale,
        counts=np.histogram(places[known], edges)[0].tolist(),
        selected_counts=np.histogram(places[known & selection.selected], edges)[0].tolist(),
        cut=_cut(drawn, places),
        curve=_curve(drawn),
        cost=drawn.planned_budget * project.review_price,
        seconds=None if seconds is None else drawn.planned_budget * seconds,
    )


def seconds_per_review(project: Project) -> float | None:
    """The median of what the latest answers took, None where none was timed."""
    timed = Correction.objects.filter(
        task__round__project=project, action=Correction.Action.LABEL, seconds__isnull=False
    ).order_by("-pk")
    seconds = np.array(timed.values_list("seconds", flat=True)[:_TIMED_ANSWERS], dtype=np.float64)
    return float(np.median(seconds)) if len(seconds) else None


def _places(drawn: Drawn) -> tuple[str, FloatArray]:
    """What the histogram is of, and where each item lies on it, in [0, 1], NaN where nothing is known of it."""
    items = drawn.items
    if items.has_probabilities or drawn.is_training:
        return ERROR_PROBABILITY, items.error_probs
    if not items.ranks_only:
        return PRIORITY, items.priorities
    places = np.full(len(items), np.nan)
    known = ~np.isnan(items.priorities)
    places[known] = rank_shares(items.priorities[known])
    return RANK, places


def _cut(drawn: Drawn, places: FloatArray) -> float | None:
    """Where the picture has its line: τ, or α where it lies in the picture."""
    parameters = drawn.selection.parameters
    tau = parameters.get("tau")
    if tau is not None and drawn.items.ranks_only:
        at_tau = places[
            drawn.items.suspicion == tau
        ]  # of missing answers, which come first, the place is not known
        return None if np.all(np.isnan(at_tau)) else float(np.nanmin(at_tau))
    alpha = parameters.get("alpha")
    return tau if tau is not None else alpha if alpha is not None and 0 <= alpha <= 1 else None


def _curve(drawn: Drawn) -> list[tuple[float, float]]:
    """(ε̂, π) over [0, 1] by the rule; empty for the threshold, which its cut says all of, and for a training draw."""
    parameters, across = drawn.selection.parameters, np.linspace(0, 1, CURVE_STEPS + 1)
    if drawn.is_training or drawn.rule == "threshold":
        return []
    if parameters.get("scale") is not None:
        kink = min(1.0, 1 / parameters["scale"])  # from here on π is 1
        across = np.union1d(across, [kink])
        chances = np.minimum(1.0, parameters["scale"] * across)
    elif parameters.get("alpha") is not None:
        chances = expit(parameters["beta"] * (across - parameters["alpha"]))
    else:
        # Everything above 0 is certain. What ε̂ = 0 gets depends on how many there are.
        without_doubt = drawn.selection.inclusion_probs[drawn.items.suspicion == 0]
        across = np.array([0.0, 0.0, 1.0])
        chances = np.array([without_doubt[0] if len(without_doubt) else 1.0, 1.0, 1.0])
    return list(zip(across.tolist(), chances.tolist(), strict=True))
