"""Which items people review: budgets, inclusion probabilities (section 2 of the paper) and the draw.

N is the number of items, B the budget, ε̂ an error probability, π an inclusion probability, δ whether an
item is selected.
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Parameters = dict[str, Any]

# Steeper than this the logistic curve is a step, and no floating-point α meets the budget any more.
MOST_BETA = 1e9
# In proportion to less than this, chances overflow: it counts as 0.
_LEAST_PROPORTION = 1e-290


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """A way from error probabilities to inclusion probabilities, as it is offered to people."""

    name: str
    label: str
    description: str
    needs_probabilities: bool


RULES: Mapping[str, SamplingRule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            SamplingRule(
                name="threshold",
                label="Most suspicious first",
                description="Reviews the items with the highest error probabilities, up to the budget.",
                needs_probabilities=False,
            ),
            SamplingRule(
                name="normalize",
                label="In proportion to suspicion",
                description="Draws items with chances in proportion to their error probabilities.",
                needs_probabilities=True,
            ),
            SamplingRule(
                name="exponential",
                label="Suspicious items nearly always",
                description="Draws items with chances that rise steeply at a cut in the error probability.",
                needs_probabilities=True,
            ),
        )
    }
)


def choose_budget(n: int, *, count: int | None = None, share: float | None = None) -> int:
    """Budget B for `n` items, from a number of reviews or a share b of the items: B = floor(b·N), 1 ≤ B ≤ N.

    The product is taken in decimal, so 0.29 of 100 items is 29. Raises ValueError, in words for the user.
    """
    if n < 1:
        raise ValueError("There are no items to review.")
    if count is not None and share is None:
        return _budget_from_count(n, count)
    if share is not None and count is None:
        return _budget_from_share(n, share)
    raise ValueError("Give the budget either as a number of reviews or as a share of the items.")


def inclusion_probabilities(
    error_prob: npt.ArrayLike,
    budget: int,
    rule: str,
    *,
    beta: float = 10.0,
    rng: np.random.Generator | None = None,
    rank_only: bool = False,
) -> tuple[FloatArray, Parameters]:
    """π of each item, shape (N,), with Σπ = min(B, N), and the rule's parameters.

    `error_prob` (N,) in [0, 1]. With `rank_only` it may be any finite scores of which only the order means
    something; then rules that need probabilities are refused. A budget of 0 gives π = 0 everywhere, a budget
    of N or more π = 1.

    - `threshold`: π = 1 for the B highest, else 0; ties across the cut are broken with `rng` (None: a
      generator with seed 0). Parameters: `tau`, the lowest ε̂ selected (None at budget 0); `tied`, how many
      items have exactly that ε̂; `tied_slots`, how many of them are selected; `tied_prob` = slots / tied,
      their true probability.
    - `normalize`: π = B·ε̂/Σε̂, cut off at 1, the surplus going to the rest in proportion; where ε̂ is 0 for
      all the rest, they share it equally (the limit for tiny equal ε̂). Parameter: `scale`, which is π/ε̂
      where π < 1, or None where every ε̂ above 0 got π = 1.
    - `exponential`: π = 1/(1 + exp(−β(ε̂ − α))), α such that Σπ = B. Differs from the paper in that α may lie
      outside [0, 1], as small and large budgets need. Parameters: `alpha` (None at budget 0 or N), `beta`.

    Raises ValueError for an unknown rule, wrong shapes, NaN, values out of range, or a β that is not above 0 or is
    above `MOST_BETA`.
    """
    scores = _checked_scores(error_prob, rank_only=rank_only)
    if rule not in RULES:
        raise ValueError(f"Unknown sampling rule {rule!r}; known are {', '.join(RULES)}.")
    if rank_only and RULES[rule].needs_probabilities:
        raise ValueError(
            f"The rule {rule!r} needs error probabilities, and this criticizer only ranks items. "
            "Use the rule 'threshold'."
        )
    if not _is_whole(budget) or budget < 0:
        raise ValueError("The budget must be a whole number of reviews, 0 or more.")
    reviews = min(int(budget), len(scores))
    if rule == "threshold":
        return _threshold(scores, reviews, rng if rng is not None else np.random.default_rng(0))
    if rule == "normalize":
        return _normalize(scores, reviews)
    return _exponential(scores, reviews, beta)


def draw(inclusion_prob: npt.ArrayLike, *, rng: np.random.Generator) -> BoolArray:
    """δ of each item, shape (N,): a fixed-size sample with exactly these inclusion probabilities.

    Systematic sampling in random order (Madow 1949): E[δ] = π, and Σδ is Σπ when that is whole, else one of
    the two whole numbers beside it. A Σπ within rounding error of a whole number counts as whole, so a
    budget is never exceeded. Items with π = 1 are always selected, items with π = 0 never.
    """
    probabilities = np.asarray(inclusion_prob, dtype=np.float64)
    if probabilities.ndim != 1:
        raise ValueError("Inclusion probabilities must be one-dimensional.")
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("Inclusion probabilities must lie between 0 and 1; NaN is none.")
    selected: BoolArray = probabilities == 1
    uncertain = rng.permutation(np.flatnonzero((probabilities > 0) & (probabilities < 1)))
    if not len(uncertain):
        return selected
    steps = np.cumsum(probabilities[uncertain])
    total = float(steps[-1])
    whole = round(total)
    if whole and abs(total - whole) <= 1e-9 * whole:
        steps *= whole / total
        total = whole
    # The items lie end to end on a line, each as long as its π. Those that hold one of the points u, u + 1,
    # u + 2, … are selected. The cap keeps rounding in the sums from passing one point too many.
    passed = np.minimum(np.floor(steps + rng.random()), math.ceil(total))
    selected[uncertain] = np.diff(passed, prepend=0.0) > 0
    return selected


def _threshold(scores: FloatArray, reviews: int, rng: np.random.Generator) -> tuple[FloatArray, Parameters]:
    probabilities = np.zeros(len(scores))
    if not reviews:
        return probabilities, {"tau": None, "tied": 0, "tied_slots": 0, "tied_prob": None}
    tau = np.partition(scores, len(scores) - reviews)[len(scores) - reviews]
    above, tied = scores > tau, np.flatnonzero(scores == tau)
    slots = reviews - int(above.sum())
    probabilities[above] = 1.0
    probabilities[tied if slots == len(tied) else rng.choice(tied, slots, replace=False)] = 1.0
    return probabilities, {
        "tau": float(tau),
        "tied": len(tied),
        "tied_slots": slots,
        "tied_prob": slots / len(tied),
    }


def _normalize(error_prob: FloatArray, reviews: int) -> tuple[FloatArray, Parameters]:
    if not reviews:
        return np.zeros(len(error_prob)), {"scale": 0.0}
    error_prob = np.where(error_prob < _LEAST_PROPORTION, 0.0, error_prob)
    n_positive = int(np.count_nonzero(error_prob))
    if reviews >= n_positive:
        certain = error_prob > 0
        n_rest = len(error_prob) - n_positive
        equal_share = (reviews - n_positive) / n_rest if n_rest else 0.0
        return np.where(certain, 1.0, equal_share), {"scale": None}
    falling = np.sort(error_prob)[::-1]
    # With the first k items at 1, the rest get (B − k)·ε̂ / (sum of the rest); the first k that leaves the
    # next one at 1 or below is where handing on the surplus ends.
    rest = np.cumsum(falling[::-1])[::-1]
    left = reviews - np.arange(reviews)
    n_certain = int(np.argmax(left * falling[:reviews] <= rest[:reviews]))
    scale = float(left[n_certain] / rest[n_certain])
    return np.minimum(scale * error_prob, 1.0), {"scale": scale}


def _exponential(error_prob: FloatArray, reviews: int, beta: float) -> tuple[FloatArray, Parameters]:
    if not 0 < beta <= MOST_BETA:
        raise ValueError(
            f"Beta, the sharpness of exponential weighting, must be above 0 and at most {MOST_BETA:,.0f}."
        )
    n = len(error_prob)
    if reviews in (0, n):
        return np.full(n, float(reviews > 0)), {"alpha": None, "beta": float(beta)}
    values, counts = np.unique(error_prob, return_counts=True)

    def overspent(alpha: float) -> float:
        return float(counts @ expit(beta * (values - alpha))) - reviews

    # At the lower end every π is at least B/N, at the upper end at most.
    offset = float(logit(reviews / n)) / beta
    low, high = values[0] - offset, values[-1] - offset
    margin = 1e-9 * (1.0 + abs(low) + abs(high))
    alpha = float(brentq(overspent, low - margin, high + margin, xtol=1e-15, rtol=1e-15))
    probabilities: FloatArray = expit(beta * (error_prob - alpha))
    # For very large β no representable α meets the budget exactly; the rest of the excess is taken from all.
    probabilities *= min(1.0, reviews / float(probabilities.sum()))
    return probabilities, {"alpha": alpha, "beta": float(beta)}


def _budget_from_count(n: int, count: int) -> int:
    if not _is_whole(count):
        raise ValueError("The budget must be a whole number of reviews.")
    if count < 1:
        raise ValueError("The budget must be at least one review.")
    if count > n:
        raise ValueError(f"The budget of {int(count)} reviews is more than the {n} items there are.")
    return int(count)


def _budget_from_share(n: int, share: float) -> int:
    if not math.isfinite(share) or not 0 < share <= 1:
        raise ValueError("The budget as a share must be above 0 and at most 1; 10 % is 0.1.")
    budget = int(Decimal(repr(float(share))) * n)
    if not budget:
        raise ValueError(f"A share of {share:g} of {n} items is less than one review.")
    return budget


def _is_whole(number: object) -> bool:
    return isinstance(number, numbers.Integral) and not isinstance(number, bool)


def _checked_scores(error_prob: npt.ArrayLike, *, rank_only: bool) -> FloatArray:
    scores = np.asarray(error_prob, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError("Error probabilities must be a one-dimensional array with at least one item.")
    if not np.all(np.isfinite(scores)):
        raise ValueError("Error probabilities must be finite; there is NaN or infinity among them.")
    if not rank_only and (scores.min() < 0 or scores.max() > 1):
        raise ValueError("Error probabilities must lie between 0 and 1.")
    return scores
