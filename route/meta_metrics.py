"""What a router between a premium and a cheap annotator is worth, over all shares of items that go to the premium one.

Total efficiency and efficiency gain as in section 4.1; items of equal predicted gain are routed in random order, of
which the expectation is taken. N is the number of items.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from route.meta_allocation import checked_extra_costs, checked_gains, first_agents, steps_of

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


@dataclass(frozen=True, slots=True)
class CostCurve:
    """What several agents bring as more may be spent, each of p points; between them the curve is straight.

    `cost_share` in [0, 1]: the mean extra cost over that of the dearest agent answering everything; `shares` (p, K) of
    the items by agent; `mean_gain`, the mean gold gain over the default alone; `efficiency_gain`, what of that is above
    handing items out at random with the same shares. With two agents it is the curve of `efficiency_curve`.
    """

    cost_share: FloatArray
    shares: FloatArray
    mean_gain: FloatArray
    efficiency_gain: FloatArray

    @property
    def area(self) -> float:
        """Area under the efficiency gain over the cost; 0 for a random order, negative for worse."""
        return float(np.trapezoid(self.efficiency_gain, self.cost_share))


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


def cost_curve(predicted: npt.ArrayLike, gold_gains: npt.ArrayLike, extra_costs: npt.ArrayLike) -> CostCurve:
    """The curve of a router that gives each item to the agent with the largest gain − w · extra cost, over all w.

    `predicted` and `gold_gains` are gains over the default, (N, K) with zeros in its column, N ≥ 1; `extra_costs` (K,)
    what an agent's answer costs above the default's. Raises ValueError for anything else, or if no agent costs more.
    """
    gains, realized = checked_gains(predicted), checked_gains(gold_gains)
    n, n_agents = gains.shape
    if not n or realized.shape != gains.shape:
        raise ValueError("Every item needs predicted and gold gains of each agent, and there must be one.")
    costs = checked_extra_costs(extra_costs, gains.shape)[0]
    if costs.max() <= 0 or np.ndim(extra_costs) != 1:
        raise ValueError("Each agent needs one extra cost, and one agent must cost more than the default.")
    at_first = first_agents(gains, np.broadcast_to(costs, gains.shape))
    steps = steps_of(gains, np.broadcast_to(costs, gains.shape))
    ends = np.flatnonzero(np.append(steps.w[1:] != steps.w[:-1], True))

    def accumulated(start: float, changes: FloatArray) -> FloatArray:
        return start + np.append(0.0, np.cumsum(changes)[ends])

    spent = accumulated(costs[at_first].sum(), costs[steps.after] - costs[steps.before])
    gained = accumulated(
        realized[np.arange(n), at_first].sum(),
        realized[steps.item, steps.after] - realized[steps.item, steps.before],
    )
    counts = [
        accumulated((at_first == agent).sum(), (steps.after == agent) * 1.0 - (steps.before == agent))
        for agent in range(n_agents)
    ]
    shares = np.stack(counts, axis=1) / n
    mean_gain = gained / n
    return CostCurve(spent / (n * costs.max()), shares, mean_gain, mean_gain - shares @ realized.mean(axis=0))


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
