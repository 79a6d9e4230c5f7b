"""How often people accept a machine's label or answer that is known to be wrong, by what they saw of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from criticize.leaderboard import wilson_interval

_Z = 1.959963984540054  # of a 95% interval
# The difference of two shares that should be told apart, at the least.
POINTS = 0.10


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`, with Wilson's 95% interval; all three are None where there is nothing to count."""

    count: int
    total: int

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def low(self) -> float | None:
        return wilson_interval(self.count, self.total)[0] if self.total else None

    @property
    def high(self) -> float | None:
        return wilson_interval(self.count, self.total)[1] if self.total else None


@dataclass(frozen=True, slots=True)
class Difference:
    """One share minus another, in [−1, 1], with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def difference(one: Share, other: Share) -> Difference | None:
    """`one` minus `other` with Newcombe's interval, made of both Wilson intervals; None where either is empty."""
    if not one.total or not other.total:
        return None
    p, q = one.count / one.total, other.count / other.total
    (p_low, p_high), (q_low, q_high) = (wilson_interval(each.count, each.total) for each in (one, other))
    below = math.hypot(p - p_low, q_high - q)
    above = math.hypot(p_high - p, q - q_low)
    return Difference(p - q, max(-1.0, p - q - below), min(1.0, p - q + above))


def items_needed(points: float = POINTS) -> int:
    """In each of two groups, so that the 95% interval of their difference reaches at most `points` to each side.

    n = 2·¼·(z/points)², for the shares at which most is needed, ½. Raises ValueError unless 0 < points ≤ 1.
    """
    if not 0 < points <= 1:
        raise ValueError("The difference to tell must lie between 0 and 1.")
    return math.ceil(0.5 * (_Z / points) ** 2)


def median_interval(values: npt.ArrayLike) -> tuple[float, float, float] | None:
    """(low, median, high) of values (N,), finite: the interval of the median by order statistics.

    It needs no assumption on how the values are spread, and covers at least 95%; with fewer than six values it is
    their whole range, which covers less. None without values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if not n:
        return None
    # The number of values below the median is binomial with ½; the normal approximation to it, rounded outwards.
    reach = _Z * math.sqrt(n) / 2
    low = max(0, math.floor(n / 2 - reach) - 1)
    high = min(n - 1, math.ceil(n / 2 + reach))
    return float(ordered[low]), float(np.median(ordered)), float(ordered[high])


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What was counted in one arm.

    `accepted` of the answers to items whose machine's label is known to be wrong: the wrong label was given again.
    `changed` of those to items where it is right: a wrong one was given. `seconds` as of `median_interval`.
    """

    arm: str
    answers: int
    accepted: Share
    changed: Share
    seconds: tuple[float, float, float] | None


def pooled(arms: Sequence[ArmFigures]) -> Share:
    """How often a wrong label was accepted in all of these arms together."""
    return Share(sum(arm.accepted.count for arm in arms), sum(arm.accepted.total for arm in arms))


def in_a_sentence(shown: Share, blind: Share, noun: str = "label") -> str:
    """What seeing a wrong label does to how often it is given again, or how much is missing to say so.

    `noun` is what an item is given: "label" or "answer".
    """
    needed = items_needed()
    found = difference(shown, blind)
    enough = min(shown.total, blind.total) >= needed
    if found is None or (not found.is_clear and not enough):
        fewest = min(shown.total, blind.total)
        return (
            f"Too early to say: {shown.total:,} answers to items whose machine {noun} is known to be wrong were given "
            f"by people who saw it, and {blind.total:,} by people who did not. About {round(needed, -1):,} of each are "
            f"needed to tell {100 * POINTS:.0f} points apart{'' if fewest else ', and one of the two is still empty'}."
        )
    points = f"{100 * abs(found.value):.0f} points"
    between = f"between {100 * found.low:+.0f} and {100 * found.high:+.0f}"
    if not found.is_clear:
        return (
            f"Seeing the machine's {noun} makes no clear difference: wrong {noun}s are given again {points} "
            f"{'more' if found.value >= 0 else 'less'} often by those who see them ({between})."
        )
    if found.value > 0:
        return (
            f"Whoever sees a wrong machine {noun} gives it again {points} more often ({between}) than whoever does "
            "not: it sways people."
        )
    return (
        f"Whoever sees a wrong machine {noun} gives it again {points} less often ({between}) than whoever does not see "
        "it: it makes people look twice."
    )
