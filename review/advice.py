"""What the reviews so far say about those to come (appendix G.2): how often ε̂ is right, and whether to go on.

The reviewed items are no random sample: the most suspicious come first. That does no harm to a fit of the share wrong
*given* ε̂, since whether an item was reviewed depends on its ε̂ alone; but it leaves low ε̂ without reviews. There
the fit's lowest step holds, which is an upper bound, as suspicion falls.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import betabinom
from sklearn.isotonic import IsotonicRegression

from criticize.leaderboard import wilson_interval

FloatArray = npt.NDArray[np.float64]

# Fewer answers than this say too little for a fit. More, all right or all wrong, are one step, whose wide interval says
# how little that is.
LEAST_REVIEWED = 20
# The outermost steps rest on at least so many answers: a few lucky ones at an end would else be a bound of 0 errors.
LEAST_AT_THE_ENDS = 20
# Beyond so many reviews the normal distribution serves as well as the exact one.
_MOST_EXACT = 1000
GROUP = 50
LEAST_IN_A_BIN = 5
# One error found in twenty reviews: below that, a review is better spent elsewhere.
WORTHWHILE = 0.05
# Within so many reviews of its end, what lies beyond the budget counts too.
NEAR_THE_END = 50
# An order that finds hardly more than this many times what random review finds is no help.
_NO_HELP = 1.25

EARLY, GO_ON, RAISE, ENOUGH = "early", "go_on", "raise", "enough"
TITLES = {
    EARLY: "Too early to say",
    GO_ON: "Go on",
    RAISE: "Raise the budget",
    ENOUGH: "Enough",
}


class TooFew(ValueError):
    """There are not enough answers yet; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the calibrated error probability is constant: over scores from `low` to `high`."""

    low: float
    high: float
    reviewed: int
    errors: int

    @property
    def error_prob(self) -> float:
        return self.errors / self.reviewed

    def __add__(self, above: "Step") -> "Step":
        return Step(self.low, above.high, self.reviewed + above.reviewed, self.errors + above.errors)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A share wrong that never falls as the score rises, by steps from the lowest score to the highest."""

    steps: tuple[Step, ...]

    @property
    def reviewed(self) -> int:
        return sum(step.reviewed for step in self.steps)

    def places(self, scores: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Which step each score lies on, shape (n,). Between two steps it is the higher one."""
        tops = np.array([step.high for step in self.steps[:-1]])
        return np.searchsorted(tops, np.asarray(scores, dtype=np.float64), side="left")

    def error_probs(self, scores: npt.ArrayLike) -> FloatArray:
        """Calibrated error probability of each score, shape (n,) in [0, 1].

        Below the lowest reviewed score it is an upper bound, and above the highest a lower one.
        """
        values: FloatArray = np.array([step.error_prob for step in self.steps])[self.places(scores)]
        return values

    def is_below(self, scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which scores, shape (n,), are lower than all that were reviewed, where the fit is an upper bound only."""
        return np.asarray(scores, dtype=np.float64) < self.steps[0].low


def isotonic(scores: npt.ArrayLike, is_error: npt.ArrayLike) -> Calibration:
    """The share wrong as a rising step function of the score, by isotonic regression.

    `scores` (n,) finite: ε̂, or any other priority where higher is more suspicious; only their order counts.
    `is_error` (n,) bool. Equal scores share a step; steps at either end that rest on fewer than
    `LEAST_AT_THE_ENDS` answers are joined with their neighbors. Raises TooFew below `LEAST_REVIEWED` answers, and
    ValueError for shapes that differ, NaN or infinity.
    """
    x, wrong = _checked(scores, is_error)
    if len(x) < LEAST_REVIEWED:
        raise TooFew(
            f"{_counted(len(x), 'answer')} so far: advice needs at least {LEAST_REVIEWED} to be more than a guess."
        )
    values, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    errors = np.bincount(place, weights=wrong)
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted = fit.fit_transform(np.arange(len(values)), errors / counts, sample_weight=counts)
    starts = np.flatnonzero(np.diff(fitted, prepend=-1.0) > 1e-12)
    ends = np.append(starts[1:], len(values))
    steps = [
        Step(float(values[a]), float(values[b - 1]), int(counts[a:b].sum()), round(float(errors[a:b].sum())))
        for a, b in zip(starts, ends, strict=True)
    ]
    while len(steps) > 1 and steps[0].reviewed < LEAST_AT_THE_ENDS:
        steps[:2] = [steps[0] + steps[1]]
    while len(steps) > 1 and steps[-1].reviewed < LEAST_AT_THE_ENDS:
        steps[-2:] = [steps[-2] + steps[-1]]
    return Calibration(tuple(steps))


@dataclass(frozen=True, slots=True)
class Bin:
    """Reviewed items with neighboring scores: their mean score, and the share wrong with its 95% interval."""

    low: float
    high: float
    mean: float
    reviewed: int
    errors: int
    share_low: float
    share_high: float

    @property
    def share(self) -> float:
        return self.errors / self.reviewed


def reliability(scores: npt.ArrayLike, is_error: npt.ArrayLike, *, bins: int = 10) -> list[Bin]:
    """The reviewed items in up to `bins` bins of as equal counts as ties allow, lowest scores first.

    `scores` (n,) finite, `is_error` (n,) bool. Fewer bins where each would hold under `LEAST_IN_A_BIN` items, none
    without items; equal scores are never parted. Intervals are Wilson's. Raises ValueError as `isotonic`.
    """
    x, wrong = _checked(scores, is_error)
    if not len(x):
        return []
    order = np.argsort(x, kind="stable")
    x, wrong = x[order], wrong[order]
    wanted = max(1, min(bins, len(x) // LEAST_IN_A_BIN))
    # A bin ends after the last of the scores that are equal where it would end.
    last = x[[len(x) * number // wanted - 1 for number in range(1, wanted + 1)]]
    ends = np.unique(np.searchsorted(x, last, side="right")).tolist()
    found = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        errors = int(wrong[start:end].sum())
        interval = wilson_interval(errors, end - start)
        mean = float(np.clip(x[start:end].mean(), x[start], x[end - 1]))
        found.append(Bin(float(x[start]), float(x[end - 1]), mean, end - start, errors, *interval))
    return found


@dataclass(frozen=True, slots=True)
class Group:
    """Reviews one after another: the `first` to the `last`, counted from 1, and how many found an error."""

    first: int
    last: int
    errors: int
    is_whole: bool

    @property
    def reviewed(self) -> int:
        return self.last - self.first + 1


def errors_by_group(is_error: Sequence[bool] | npt.NDArray[np.bool_], *, size: int = GROUP) -> list[Group]:
    """Errors found in each `size` reviews, in the order of review; the last group may be a shorter one."""
    found = []
    for start in range(0, len(is_error), size):
        part = is_error[start : start + size]
        found.append(Group(start + 1, start + len(part), int(sum(part)), len(part) == size))
    return found


@dataclass(frozen=True, slots=True)
class Expected:
    """How many errors so many reviews should find: an estimate and a 95% interval.

    `is_bound`: some of the items are less suspicious than all reviewed, so that the estimate is an upper bound.
    """

    reviews: int
    errors: float
    low: int
    high: int
    is_bound: bool

    @property
    def rate(self) -> float:
        return self.errors / self.reviews if self.reviews else 0.0

    def sentence(self, subject: str) -> str:
        """`subject`, such as "The next 100 reviews", with what it should find."""
        number = f"{self.errors:.0f} error{'' if round(self.errors) == 1 else 's'}"
        if self.is_bound:
            return f"{subject} should find at most about {number} (between {self.low} and {self.high})."
        return f"{subject} should find about {number} (between {self.low} and {self.high})."


def expected_errors(calibration: Calibration, scores: npt.ArrayLike, *, level: float = 0.95) -> Expected:
    """How many errors reviewing items with these scores, shape (n,), should find.

    The estimate is the sum of the calibrated error probabilities. The interval allows for chance (an item is wrong or
    it is not) and for the few answers behind each step: a beta-binomial for each step, with Jeffreys' prior, the steps
    added. It ignores that the calibration chose its own steps, that reviewers err, and that items of one step may
    differ. Items below all reviewed scores count with the lowest step towards the upper end and with none towards the
    lower one.
    """
    x = np.asarray(scores, dtype=np.float64)
    if x.ndim != 1 or not np.all(np.isfinite(x)):
        raise ValueError("Scores must be a one-dimensional array of finite numbers.")
    below = calibration.is_below(x)
    mean = float(calibration.error_probs(x).sum())
    tail = (1 - level) / 2
    low = _quantile(calibration, x[~below], tail)
    high = _quantile(calibration, x, 1 - tail)
    return Expected(len(x), mean, min(low, math.floor(mean)), max(high, math.ceil(mean)), bool(below.any()))


def _quantile(calibration: Calibration, scores: FloatArray, probability: float) -> int:
    """Of the number of errors among items with these scores."""
    numbers = np.bincount(calibration.places(scores), minlength=len(calibration.steps))
    counted = [(int(n), step) for n, step in zip(numbers, calibration.steps, strict=True) if n]
    if not counted:
        return 0
    parts = [betabinom(n, step.errors + 0.5, step.reviewed - step.errors + 0.5) for n, step in counted]
    if len(scores) > _MOST_EXACT:
        mean, variance = sum(part.mean() for part in parts), sum(part.var() for part in parts)
        value = mean + float(ndtri(probability)) * math.sqrt(variance)
        return round(float(np.clip(value, 0, len(scores))))
    density = np.ones(1)
    for part, (n, _) in zip(parts, counted, strict=True):
        density = np.convolve(density, part.pmf(np.arange(n + 1)))
    return min(int(np.searchsorted(np.cumsum(density), probability)), len(scores))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, as one of EARLY, GO_ON, RAISE and ENOUGH, and why."""

    advice: str
    reason: str

    @property
    def title(self) -> str:
        return TITLES[self.advice]


def verdict(
    *, left: int, ahead: Expected, beyond: Expected, at_random: float | None, review_price: float
) -> Verdict:
    """Go on, raise or stop: whether the next reviews find an error often enough.

    `left`: reviews left in the budget, of which `ahead` are the next, at most 100; `beyond` are up to 100 that a larger
    budget would add. Reviews are worth their while where at least `WORTHWHILE` of them find an error. `at_random`: the
    share wrong among all items that are not reviewed, which random review would find, where it is known. Prices are in
    US dollars.

    - Reviews left: go on if those ahead are worth their while, else enough. Within `NEAR_THE_END` of the end: raise if
      those beyond are worth it too.
    - None left: raise if those beyond are worth their while, else enough.
    """
    if not left and not beyond.reviews:
        return Verdict(ENOUGH, "Every item was selected: there is nothing left to add.")
    ends = not left or (left <= NEAR_THE_END and min(ahead.rate, beyond.rate) >= WORTHWHILE)
    next_ones = beyond if ends else ahead
    reason = _rate_in_words(next_ones, review_price, beyond_budget=ends)
    if at_random is not None:
        reason += f" Random review of what is left would find about {100 * at_random:.0f} in 100"
        reason += ": the order hardly helps any more." if next_ones.rate <= _NO_HELP * at_random else "."
    if next_ones.rate < WORTHWHILE:
        return Verdict(
            ENOUGH, f"{reason} Fewer than {100 * WORTHWHILE:.0f} in 100 is seldom worth a person's time."
        )
    if not ends:
        return Verdict(GO_ON, reason)
    spent = "nearly spent" if left else "spent"
    steps = " Nothing as unsuspicious was reviewed yet, so raise it in small steps and look here again."
    return Verdict(RAISE, f"The budget is {spent}. {reason}{steps if next_ones.is_bound else ''}")


def _rate_in_words(expected: Expected, review_price: float, *, beyond_budget: bool) -> str:
    about = "At most about" if expected.is_bound else "About"
    where = "reviews beyond the budget" if beyond_budget else "of the next reviews"
    sentence = f"{about} {100 * expected.rate:.0f} in 100 {where} find an error"
    if review_price <= 0 or expected.rate < 0.005:
        return f"{sentence}."
    least = "at least " if expected.is_bound else ""
    return f"{sentence}: {least}${review_price / expected.rate:,.2f} for each."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _checked(scores: npt.ArrayLike, is_error: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, wrong = np.asarray(scores, dtype=np.float64), np.asarray(is_error)
    if x.ndim != 1 or wrong.shape != x.shape:
        raise ValueError("Scores and errors must be one-dimensional and of the same length.")
    if not np.all(np.isfinite(x)):
        raise ValueError("Scores must be finite; there is NaN or infinity among them.")
    if wrong.dtype != np.bool_ and not np.all((wrong == 0) | (wrong == 1)):
        raise ValueError("Whether an item was an error is true or false.")
    return x, wrong.astype(np.float64)
