"""Handing out items when one agent can take only so many."""

import numpy as np
import numpy.typing as npt

from route.deferral import checked_allocation

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def within_capacity(scores: npt.ArrayLike, agent: int, capacity: int) -> IntArray:
    """The agent of each item, (n,), where `agent` gets at most `capacity` items.

    `scores` (n, agents) as a rejector gives them. Of the items that would be the agent's it keeps those where its score
    is furthest above the next best, the earlier item where they are equal; the others go to their next best agent.
    Raises ValueError for another shape, values that are not finite, an unknown agent or a negative capacity.
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError("Scores need the shape (items, agents), two agents at least, and finite numbers.")
    if not 0 <= agent < values.shape[1] or capacity < 0:
        raise ValueError("The agent must be one of those that have scores, and its capacity at least 0.")
    if not len(values):
        return np.zeros(0, dtype=np.intp)
    chosen: IntArray = values.argmax(axis=1)
    mine = np.flatnonzero(chosen == agent)
    if len(mine) <= capacity:
        return chosen
    others = values.copy()
    others[:, agent] = -np.inf
    margin = values[mine, agent] - others[mine].max(axis=1)
    over = mine[np.argsort(-margin, kind="stable")[capacity:]]
    chosen[over] = others[over].argmax(axis=1)
    return checked_allocation(chosen, len(values), values.shape[1])
