"""Which of several agents gets each item: predicted gains over the default agent against extra costs.

Agent 0 is the default. `gains` (n, K) are the agents' predicted gold gains over it, and `extra_costs` what each one
costs above it: (K,), or (n, K) where that differs between items. Of both, the default's column is 0.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ChosenAmong:
    """A w, and what it does on held-out gold.

    `moved_share` of the items in [0, 1] go to another agent than the default; `extra_cost` is the mean of what an item
    costs above the default, `mean_gain` the mean gold gain over giving every item to the default.
    """

    w: float
    moved_share: float
    extra_cost: float
    mean_gain: float


class Steps(NamedTuple):
    """Where items change hands as w falls from infinity to minus infinity, by falling w, each (m,).

    Where w falls below `w[j]`, the item `item[j]` goes from agent `before[j]` to agent `after[j]`, which costs more.
    """

    w: FloatArray
    item: IntArray
    before: IntArray
    after: IntArray


def allocate(gains: npt.ArrayLike, w: float, extra_costs: npt.ArrayLike) -> IntArray:
    """The agent of each item, (n,): the one with the largest gain − w · extra cost, of equal ones the cheapest.

    With two agents that is Eq. 4: the premium one where its gain is above w times what it costs more. Raises ValueError
    for other shapes, values that are not finite, w < 0, or an agent that costs less than the default.
    """
    if not (np.isfinite(w) and w >= 0):
        raise ValueError("w must be a number of at least 0.")
    predicted = checked_gains(gains)
    return _allocated(predicted, w, checked_extra_costs(extra_costs, predicted.shape))


def choose_w_among(
    gains: npt.ArrayLike,
    gold_gains: npt.ArrayLike,
    extra_costs: npt.ArrayLike,
    *,
    max_share: float | None = None,
    max_cost: float | None = None,
) -> ChosenAmong:
    """The smallest w that keeps to a limit on held-out gold.

    `gold_gains` (n, K) are the realized gains over the default. Either `max_share` in [0, 1] of the items that do not
    go to the default, or `max_cost` ≥ 0, the mean extra cost over all items. The larger w, the fewer items leave the
    default and the less they cost. Raises ValueError for anything else, or where no w keeps to the limit because agents
    that cost nothing extra already exceed it.
    """
    predicted, realized = checked_gains(gains), checked_gains(gold_gains)
    if not len(predicted) or realized.shape != predicted.shape:
        raise ValueError(
            "Every held-out item needs a predicted and a gold gain of each agent, and there must be at least one."
        )
    if (max_share is None) == (max_cost is None):
        raise ValueError("Give a limit on the share of items or on their mean extra cost, one of the two.")
    if max_share is not None and not 0 <= max_share <= 1:
        raise ValueError("The share of items must lie between 0 and 1.")
    if max_cost is not None and not max_cost >= 0:
        raise ValueError("The mean extra cost must be at least 0.")
    costs = checked_extra_costs(extra_costs, predicted.shape)
    rows = np.arange(len(predicted))

    def outcome_of(w: float) -> ChosenAmong:
        agents = _allocated(predicted, w, costs)
        return ChosenAmong(
            w,
            float((agents != 0).mean()),
            float(costs[rows, agents].mean()),
            float(realized[rows, agents].mean()),
        )

    def keeps(chosen: ChosenAmong) -> bool:
        if max_share is not None:
            return chosen.moved_share <= max_share + _ROUNDING
        return chosen.extra_cost <= (max_cost or 0.0) + _ROUNDING

    # Items change hands only at these w. Rounded up, so that the item is at the cheaper agent.
    passed = steps_of(predicted, costs).w
    passed = np.nextafter(passed[passed > 0], np.inf)
    candidates = np.unique(np.concatenate([[0.0], passed, 2 * passed.max(initial=0.0, keepdims=True)]))
    low, high = 0, len(candidates) - 1
    if not keeps(outcome_of(float(candidates[high]))):
        raise ValueError("No w keeps to this limit: items that cost nothing extra already exceed it.")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(outcome_of(float(candidates[middle]))) else (middle + 1, high)
    return outcome_of(float(candidates[low]))


def first_agents(gains: FloatArray, costs: FloatArray) -> IntArray:
    """The agent of each item for any large w, (n,): of those that cost the least, the one with the largest gain."""
    cheapest = costs == costs.min(axis=1, keepdims=True)
    return np.asarray(np.where(cheapest, gains, -np.inf).argmax(axis=1))


def steps_of(gains: FloatArray, costs: FloatArray) -> Steps:
    """The upper envelopes of the lines gain − w · cost, one line an agent; both (n, K), n (K − 1) steps at most."""
    rows, current = np.arange(len(gains)), first_agents(gains, costs)
    found: list[Steps] = []
    while len(rows):
        at = np.arange(len(rows)), current
        dearer_by = costs[rows] - costs[rows][at][:, np.newaxis]
        is_dearer = dearer_by > 0
        goes_on = is_dearer.any(axis=1)
        rows, current = rows[goes_on], current[goes_on]
        dearer_by, is_dearer = dearer_by[goes_on], is_dearer[goes_on]
        if not len(rows):
            break
        at = np.arange(len(rows)), current
        gained = gains[rows] - gains[rows][at][:, np.newaxis]
        slopes = np.where(is_dearer, gained / np.where(is_dearer, dearer_by, 1.0), -np.inf)
        steepest = slopes.max(axis=1)
        # Of agents on one line the last: those between never are the only best.
        following = np.where(slopes == steepest[:, np.newaxis], dearer_by, -1.0).argmax(axis=1)
        found.append(Steps(steepest, rows, current, following))
        current = following
    if not found:
        nothing = np.zeros(0, dtype=np.intp)
        return Steps(np.zeros(0), nothing, nothing, nothing)
    joined = [np.concatenate(part) for part in zip(*found, strict=True)]
    order = np.argsort(-joined[0], kind="stable")
    return Steps(*(part[order] for part in joined))


def checked_gains(gains: npt.ArrayLike) -> FloatArray:
    """Gains of at least two agents, (n, K), the default's 0; ValueError for anything else."""
    values = np.asarray(gains, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError("Gains must be finite, one for each item and each of at least two agents.")
    if (values[:, 0] != 0).any():
        raise ValueError("Gains are over the default agent, whose own are 0.")
    return values


def checked_extra_costs(extra_costs: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Extra costs of shape (n, K), the default's 0 and no other below; ValueError for anything else."""
    costs = np.asarray(extra_costs, dtype=float)
    if costs.shape not in (shape, shape[1:]):
        raise ValueError(
            f"Extra costs need one number for each of the {shape[1]} agents, or also for each item."
        )
    if not np.isfinite(costs).all() or (costs < 0).any():
        raise ValueError("No agent may cost less than the default: extra costs must be at least 0.")
    if (costs[..., 0] != 0).any():
        raise ValueError("Extra costs are those above the default agent, whose own are 0.")
    return np.asarray(np.broadcast_to(costs, shape))


def _allocated(gains: FloatArray, w: float, costs: FloatArray) -> IntArray:
    worth = gains - w * costs
    best = worth == worth.max(axis=1, keepdims=True)
    return np.asarray(np.where(best, costs, np.inf).argmin(axis=1))
