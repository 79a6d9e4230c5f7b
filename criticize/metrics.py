"""How well a criticizer's order finds the annotator's errors: AQG, ABS and detection counts.

Everywhere: higher priority is reviewed first, and items of equal priority are reviewed in random order, of
which the expectation is taken. N is the number of items.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DetectionCounts:
    """What reviewing the first B items meets (tables 10 and 11): errors, correct labels, and their shares.

    `precision` is None at a budget of 0, `recall` (which is the AQG) where there are no errors.
    """

    true_positives: float
    false_positives: float
    precision: float | None
    recall: float | None


def annotation_quality_gain(priority: npt.ArrayLike, is_error: npt.ArrayLike, budget: int) -> float | None:
    """AQG at budget B (Eq. 4, with accuracy as the quality): errors among the first B items / all errors.

    `priority` (N,) finite, `is_error` (N,) boolean or 0/1, 0 ≤ `budget` ≤ N. In [0, 1]; None where there
    are no errors. Raises ValueError for anything else.
    """
    return detection_counts(priority, is_error, budget).recall


def area_under_budget_sensitivity(priority: npt.ArrayLike, is_error: npt.ArrayLike) -> float | None:
    """ABS as the sum of Eq. 5: (1/N) · Σ AQG(B) over B = 0 … N, in O(N log N).

    A random order gives (N + 1) / 2N, a little above 0.5. None where there are no errors. Raises ValueError
    as `annotation_quality_gain` does.
    """
    curve = budget_curve(priority, is_error)
    if curve is None:
        return None
    budgets, gains = curve
    return float(gains.sum() / budgets[-1])


def budget_curve(
    priority: npt.ArrayLike, is_error: npt.ArrayLike
) -> tuple[npt.NDArray[np.intp], FloatArray] | None:
    """Budgets 0 … N and the AQG at each, both of shape (N + 1,); None where there are no errors."""
    found = _errors_found(*_checked(priority, is_error))
    if found[-1] == 0:
        return None
    return np.arange(len(found)), found / found[-1]


def detection_counts(priority: npt.ArrayLike, is_error: npt.ArrayLike, budget: int) -> DetectionCounts:
    """Expected true and false positives when the first `budget` items are taken as suspected."""
    found = _errors_found(*_checked(priority, is_error))
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer):
        raise ValueError("The budget must be a whole number of reviews.")
    if not 0 <= budget < len(found):
        raise ValueError(f"The budget must lie between 0 and the number of items, {len(found) - 1}.")
    hits = float(found[budget])
    return DetectionCounts(
        true_positives=hits,
        false_positives=budget - hits,
        precision=hits / budget if budget else None,
        recall=hits / float(found[-1]) if found[-1] else None,
    )


def perplexity_priority(answer_is_error: npt.ArrayLike, perplexity: npt.ArrayLike) -> FloatArray:
    """Priority scores that order items as Eq. 7: *yes, it is wrong* by rising perplexity, then *no* by
    falling.

    `answer_is_error` (N,) boolean or 0/1 is the criticizer's answer, `perplexity` (N,) that of its
    reasoning, finite and at least 1. The score is 1/perplexity for *yes* and −1/perplexity for *no*, so it
    orders, but is no probability.
    """
    reasoning, wrong = _checked(perplexity, answer_is_error, ("perplexity", "answer_is_error"))
    # The margin is for providers that round log-probabilities to just above 0.
    if np.any(reasoning < 1 - 1e-6):
        raise ValueError("A perplexity is at least 1.")
    return np.where(wrong, 1.0, -1.0) / reasoning


def _errors_found(priority: FloatArray, is_error: BoolArray) -> FloatArray:
    """Expected number of errors among the first B items, for B = 0 … N."""
    order = np.argsort(-priority, kind="stable")
    ranked = priority[order]
    ends_tie = np.append(ranked[1:] != ranked[:-1], True) if len(ranked) else np.empty(0, dtype=np.bool_)
    tie_ends = np.concatenate([[0], np.flatnonzero(ends_tie) + 1])
    found_at_ends = np.concatenate([[0.0], np.cumsum(is_error[order])[ends_tie]])
    # Within a tie every item is an error with the same probability, so the expectation grows evenly.
    found: FloatArray = np.interp(np.arange(len(ranked) + 1), tie_ends, found_at_ends)
    return found


def _checked(
    priority: npt.ArrayLike, is_error: npt.ArrayLike, names: tuple[str, str] = ("priority", "is_error")
) -> tuple[FloatArray, BoolArray]:
    scores = np.asarray(priority, dtype=np.float64)
    flags = np.asarray(is_error)
    if scores.ndim != 1 or flags.shape != scores.shape:
        raise ValueError(f"{names[0]} and {names[1]} must be one-dimensional and of the same length.")
    if not np.all(np.isfinite(scores)):
        raise ValueError(f"{names[0]} must be finite; it contains NaN or infinity.")
    if flags.dtype != np.bool_ and not np.all((flags == 0) | (flags == 1)):
        raise ValueError(f"{names[1]} must contain only true and false, or 1 and 0.")
    return scores, flags.astype(np.bool_)
