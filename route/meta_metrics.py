"""What a router between a premium and a cheap annotator is worth, over all shares of items that go to the premium one.

Total efficiency and efficiency gain as in section 4.1; items of equal predicted gain are routed in random order, of
which the expectation is taken. N is the number of items.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EfficiencyCurve:
    """For 0 … N items with the premium annotator, each (N + 1,).

    `premium_share` k/N in [0, 1]; `total_efficiency`, the sum of the gold gains of the k items with the highest
    predictions; `efficiency_gain`, what that is above random routing at the same share, for one item: 0 at both ends.
    """

    premium_share: FloatArray
    total_efficiency: FloatArray
    efficiency_gain: FloatArray

    @property
    def area(self) -> float:
        """Area under the efficiency gain over the premium share; 0 for a random order, negative for worse."""
        return float(np.trapezoid(self.efficiency_gain, self.premium_share))


@dataclass(frozen=True, slots=True)
class RoutingCost:
    """Total cost of a routing, and of giving every item to the one or the other annotator.

    `saved` is the share of always-premium's cost that is saved, None where that is 0.
    """

    routed: float
    always_premium: float
    always_cheap: float
    saved: float | None


def efficiency_curve(predicted: npt.ArrayLike, gold_gain: npt.ArrayLike) -> EfficiencyCurve:
    """The curve of a router that sends items by falling `predicted`; both of shape (N,), finite, N ≥ 1.

    Raises ValueError for anything else.
    """
    scores, gains = _finite(predicted, "predicted"), _finite(gold_gain, "gold_gain")
    if scores.shape != gains.shape:
        raise ValueError("Every item needs a predicted and a gold gain.")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # Items of equal prediction each count with the mean gain of all of them.
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    sizes = np.diff(np.append(starts, len(ranked)))
    expected = np.repeat(np.add.reduceat(gains[order], starts) / sizes, sizes)
    share = np.arange(len(gains) + 1) / len(gains)
    total = np.concatenate([[0.0], np.cumsum(expected)])
    return EfficiencyCurve(share, total, (total - share * total[-1]) / len(gains))


def routing_cost(
    is_premium: npt.ArrayLike, premium_cost: npt.ArrayLike, cheap_cost: npt.ArrayLike
) -> RoutingCost:
    """Cost of a routing, (N,) boolean or 0/1, against always-premium and always-cheap.

    Costs ≥ 0, one for all items or (N,). Raises ValueError for anything else.
    """
    premium = np.asarray(is_premium)
    if premium.ndim != 1 or not len(premium) or not np.isin(premium, (0, 1)).all():
        raise ValueError("is_premium must say true or false (or 1 or 0) of each of at least one item.")
    costs = []
    for name, cost in (("premium", premium_cost), ("cheap", cheap_cost)):
        values = np.asarray(cost, dtype=float)
        if values.shape not in ((), premium.shape) or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                f"The {name} annotator's cost must be at least 0, one number or one for each item."
            )
        costs.append(np.broadcast_to(values, premium.shape))
    routed = float(np.where(premium.astype(bool), costs[0], costs[1]).sum())
    always_premium, always_cheap = float(costs[0].sum()), float(costs[1].sum())
    saved = 1 - routed / always_premium if always_premium else None
    return RoutingCost(routed, always_premium, always_cheap, saved)


def _finite(values: npt.ArrayLike, name: str) -> FloatArray:
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} needs one finite number for each of at least one item.")
    return numbers
