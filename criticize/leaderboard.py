"""How good candidates are on the calibration items: shares with intervals, their order, and how sure it is."""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

# Resampled counts are held for so many numbers at once: some 16 MB.
_AT_ONCE = 2_000_000


def wilson_interval(right: int, judged: int, level: float = 0.95) -> tuple[float, float]:
    """Lowest and highest share, in [0, 1], that `right` of `judged` random items agree with: Wilson's score interval.

    It contains right / judged. Nothing judged says nothing: (0, 1). Raises ValueError unless both are whole
    numbers with 0 ≤ right ≤ judged and 0 < level < 1.
    """
    if not all(isinstance(count, numbers.Integral) for count in (right, judged)):
        raise ValueError("An interval is computed from whole numbers of items.")
    if not 0 <= right <= judged:
        raise ValueError("The numbers must satisfy 0 ≤ right ≤ judged.")
    _check_level(level)
    if not judged:
        return 0.0, 1.0
    z = float(ndtri((1 + level) / 2))
    spread = z * math.sqrt(z * z / 4 + right * (judged - right) / judged)
    # Exactly 0 and 1 at the ends, where rounding could leave a little more or less.
    low = (right + z * z / 2 - spread) / (judged + z * z) if right else 0.0
    high = (right + z * z / 2 + spread) / (judged + z * z) if right < judged else 1.0
    return low, high


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted of one candidate on the calibration items that it was asked about.

    `right` of `judged` items have the person's label, or match the person's answer exactly; those without an answer
    count as wrong. `f1` is the mean token F1 where answers are spans. `unparseable` is part of `failed`. `cost` is US$
    for all of them together, None without a price; `seconds` the mean of a call, None where no call was made.
    """

    key: int
    name: str
    judged: int
    right: int
    failed: int = 0
    unparseable: int = 0
    cost: float | None = None
    seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    f1: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A candidate's place on the leaderboard, 1 first and shared where accuracies are equal, and its shares."""

    tally: Tally
    place: int
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        return self.tally.right / self.tally.judged

    @property
    def failed_share(self) -> float:
        return self.tally.failed / self.tally.judged

    @property
    def unparseable_share(self) -> float:
        return self.tally.unparseable / self.tally.judged

    @property
    def cost_per_thousand(self) -> float | None:
        """US$ for 1,000 items like these; None without a price."""
        return None if self.tally.cost is None else 1000 * self.tally.cost / self.tally.judged

    def overlaps(self, other: "Score") -> bool:
        """Whether some accuracy lies in both intervals, so that either may be the better one."""
        return self.low <= other.high and other.low <= self.high


def leaderboard(tallies: Sequence[Tally], level: float = 0.95) -> list[Score]:
    """Candidates by falling accuracy; among equals the cheaper first, one without a price last, then by name.

    Candidates of which nothing was judged are left out.
    """
    judged = [tally for tally in tallies if tally.judged]
    scores = []
    for tally in sorted(judged, key=_order):
        better = sum(
            other.right * tally.judged > tally.right * other.judged for other in judged
        )  # in whole numbers: equal shares are equal
        low, high = wilson_interval(tally.right, tally.judged, level)
        scores.append(Score(tally, better + 1, low, high))
    return scores


def _order(tally: Tally) -> tuple[float, bool, float, str, int]:
    unknown = tally.cost is None
    cost = 0.0 if tally.cost is None else tally.cost / tally.judged
    return -tally.right / tally.judged, unknown, cost, tally.name, tally.key


def order_in_words(scores: Sequence[Score]) -> str:
    """What a leaderboard's order is worth: who is ahead, who is equal, and whose interval overlaps the first's."""
    if not scores:
        return ""
    first, rest = scores[0], scores[1:]
    if not rest:
        return f"{first.tally.name} is the only candidate so far: try others to compare it with."
    equal = [score.tally.name for score in rest if score.place == first.place]
    close = [score for score in rest if score.place != first.place and score.overlaps(first)]
    sentences = []
    if equal:
        sentences.append(f"{in_words([first.tally.name, *equal])} are equally accurate.")
    if close:
        subject = "The first are" if equal else f"{first.tally.name} is"
        names = in_words([score.tally.name for score in close])
        sentences.append(
            f"{subject} ahead of {names}, but the intervals overlap: with so few calibration items the order is not "
            "established."
        )
    elif not equal:
        sentences.append(f"{first.tally.name} is the most accurate: its interval lies above all others.")
    elif len(equal) < len(rest):
        sentences.append("Their intervals lie above all others.")
    return " ".join(sentences)


def in_words(names: Sequence[str], most: int = 4) -> str:
    """Names as a sentence lists them: "a", "a and b", "a, b and c"; beyond `most`, "… and 3 others"."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} others"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def abs_interval(
    priority: npt.ArrayLike,
    is_error: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Bootstrap interval of `criticize.metrics.area_under_budget_sensitivity`, ties in expectation as there.

    `priority` (N,) finite, `is_error` (N,) boolean or 0/1. Items are drawn anew with replacement, draws without an
    error are left out, and the middle `level` of what remains is the interval. None where there are no errors.
    Few errors make it narrower than it should be. Raises ValueError for anything else.
    """
    priorities, errors = np.asarray(priority, dtype=np.float64), np.asarray(is_error).astype(np.bool_)
    if priorities.ndim != 1 or errors.shape != priorities.shape or not np.all(np.isfinite(priorities)):
        raise ValueError("Each item needs one finite priority and whether its label is wrong.")
    _check_level(level)
    if not errors.any():
        return None
    order = np.argsort(-priorities, kind="stable")
    ranked, errors = priorities[order], errors[order]
    tie_starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    n = len(ranked)
    areas = []
    left = resamples
    while left > 0:
        draws = min(left, max(1, _AT_ONCE // n))
        drawn = rng.integers(n, size=(draws, n)) + np.arange(draws)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n)
        areas.append(_areas(counts, errors, tie_starts))
        left -= draws
    defined = np.concatenate(areas)
    defined = defined[~np.isnan(defined)]
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _areas(
    counts: npt.NDArray[np.intp], errors: npt.NDArray[np.bool_], tie_starts: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """ABS of each row of `counts`, how often each item, most suspicious first, was drawn; NaN without errors.

    An error at place p of N adds N − p + 1 to Σ AQG(B)·errors, and within a tie its place is the tie's middle.
    """
    sizes = np.add.reduceat(counts, tie_starts, axis=1).astype(np.float64)
    found = np.add.reduceat(counts * errors, tie_starts, axis=1)
    total = counts.shape[1]
    before = np.cumsum(sizes, axis=1) - sizes
    places = before + (sizes + 1) / 2
    all_found = found.sum(axis=1)
    with np.errstate(invalid="ignore"):
        areas: npt.NDArray[np.float64] = (found * (total - places + 1)).sum(axis=1) / (total * all_found)
    return areas


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError("The level of an interval must lie between 0 and 1.")
