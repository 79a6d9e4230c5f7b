"""What an audit of unreviewed items says about the accuracy of the final labels, and what it does to the weights."""

import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

# Sizes that are offered; the largest says what auditing still more would bring.
_SIZES = (50, 100, 200, 400, 800, 1600)
USUAL_ERROR_SHARE = 0.05


def accuracy_interval(
    wrong: int, audited: int, population: int, *, reviewed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Lowest and highest accuracy, in [0, 1], of `reviewed + population` final labels, from an audit.

    `audited` of the `population` items that nobody reviewed were drawn at random, each set as likely as any
    other, and `wrong` of them had a wrong label. The `reviewed` items count as right. The interval covers
    the true accuracy with at least probability `level`: Clopper and Pearson's construction, with the
    hypergeometric distribution because the population is finite. It describes the labels as the audit met
    them; correcting the wrong ones that it found only makes them better.

    Raises ValueError unless 0 ≤ wrong ≤ audited ≤ population and 0 < level < 1, and when nothing was
    audited although there are unreviewed items: an accuracy that nobody measured is not stated.
    """
    counts = (wrong, audited, population, reviewed)
    if not all(isinstance(count, numbers.Integral) for count in counts):
        raise ValueError("An accuracy interval is computed from whole numbers of items.")
    if not 0 <= wrong <= audited <= population or reviewed < 0:
        raise ValueError("The numbers must satisfy 0 ≤ wrong ≤ audited ≤ population and reviewed ≥ 0.")
    if not 0 < level < 1:
        raise ValueError("The level of an interval must lie between 0 and 1.")
    if not population + reviewed:
        raise ValueError("There are no items whose accuracy could be stated.")
    if population and not audited:
        raise ValueError("None of the unreviewed items was audited, so their accuracy is unknown.")
    tail = (1.0 - level) / 2.0
    least, most = int(wrong), int(population - (audited - wrong))
    # With the number of wrong labels P(X ≥ wrong) rises and P(X ≤ wrong) falls: each bound is a turning
    # point.
    fewest_wrong = _first_true(
        least, most, lambda total: hypergeom.sf(wrong - 1, population, total, audited) > tail
    )
    most_wrong = most - _first_true(
        0, most - least, lambda below: hypergeom.cdf(wrong, population, most - below, audited) > tail
    )
    n = population + reviewed
    return 1.0 - most_wrong / n, 1.0 - fewest_wrong / n


class AuditSize(NamedTuple):
    """What auditing `audited` items would say: the interval of the final accuracy, and half its width."""

    audited: int
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def audit_size(
    audited: int, population: int, *, reviewed: int = 0, error_share: float = USUAL_ERROR_SHARE
) -> AuditSize:
    """The interval that an audit of this size gives if `error_share` of the unreviewed labels are wrong.

    `error_share` in [0, 1] is of the audited items, rounded to whole ones. Raises ValueError as
    `accuracy_interval` does.
    """
    if not 0 <= error_share <= 1:
        raise ValueError("The share of wrong labels must lie between 0 and 1.")
    wrong = int(np.floor(error_share * audited + 0.5))
    return AuditSize(audited, *accuracy_interval(wrong, audited, population, reviewed=reviewed))


def audit_sizes(
    population: int, *, reviewed: int = 0, error_share: float = USUAL_ERROR_SHARE
) -> list[AuditSize]:
    """The usual sizes below `population`, and auditing everything; none where there is nothing to audit."""
    if not population:
        return []
    sizes = [size for size in _SIZES if size < population]
    return [
        audit_size(size, population, reviewed=reviewed, error_share=error_share)
        for size in [*sizes, population]
    ]


def inclusion_with_audits(
    inclusion_prob: npt.ArrayLike, audited_shares: Sequence[float]
) -> npt.NDArray[np.float64]:
    """π of being labelled by a person at all, shape (N,): drawn by the rule, or else in an audit of the rest.

    An audit takes the `share` n/M of the M items that the draw left, each set as likely as any other, so an
    item is labelled with π + (1 − π)·share. With these π the ACT loss over draw and audit together has the
    fully labelled loss as its mean, for every item with a share above 0 or π above 0. Giving audited items
    their human label with weight 1 and leaving all other weights would not: only items that the draw passed
    over can be audited, and their part in the loss is already carried by those it took.

    `inclusion_prob` π (N,) in [0, 1]. Shares in [0, 1], one for each audit after the other; none changes
    nothing.
    """
    probabilities = np.asarray(inclusion_prob, dtype=np.float64)
    if not all(0 <= share <= 1 for share in audited_shares):
        raise ValueError("The audited share of the unreviewed items must lie between 0 and 1.")
    missed = 1.0 - probabilities
    for share in audited_shares:
        missed = missed * (1.0 - share)
    # Where nothing was audited π stays as it is, to the last bit.
    return probabilities if not audited_shares else np.clip(1.0 - missed, 0.0, 1.0)


def _first_true(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest integer in low … high for which `holds`, known to hold at `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
