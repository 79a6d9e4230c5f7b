"""What an audit of unreviewed items says about the accuracy of the final labels."""

import numbers
from collections.abc import Callable

from scipy.stats import hypergeom


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


def _first_true(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest integer in low … high for which `holds`, known to hold at `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
