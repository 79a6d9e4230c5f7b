"""The meta-router among several models (appendix A.2): the pair that is compared belongs to the covariates.

A comparison is about an item s and two of K agents (k, ℓ); its outcome is quality(k) − quality(ℓ), by people (t = 1) or
by a judge (t = 0). ψ(s, k, ℓ), η(s, k, ℓ) and Δ(s, k, ℓ) are learned as by `MetaRouter`, from (s, k, ℓ) instead of s.
Agent 0 is the default. With two agents all of it is what `MetaRouter` does, to the last bit.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from route.meta import (
    FOLDS,
    BoolArray,
    FloatArray,
    IntArray,
    MetaRouter,
    checked_comparisons,
    reduced,
    reduction,
)
from route.meta_allocation import allocate
from route.meta_baselines import BaselineRouter
from route.meta_sharing import Dealt, SharedFits
from route.training_data import checked_features, recorded_seed


class SeveralRouter(MetaRouter):
    """Predicts what each of K agents gains over the default, from comparisons of any two of them.

    Of the two agents of a comparison the later is put first, and the outcome's sign turned where that turns them round,
    so that ψ̂(s, k, ℓ) = −ψ̂(s, ℓ, k). The covariates are the features, reduced as ever, and e_k − e_ℓ. Gold gains are
    differences of qualities: ψ̂ is made one, too, by the qualities that come nearest to what the regression says of the
    compared pairs. So two agents that were never compared by people are compared through others.

    A pair with gold on fewer items than folds says nothing about the judge's bias: its preferences are left out
    (`is_used_`, `n_left_out_`), its gold never. `compared_` (p, 2) are the pairs with enough. `pair_shift_` (p,) is the
    mean Δ̂ of their preferences on the scale of gold, NaN without any: below 0, the judge flatters the first of the two.
    """

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        is_gold: npt.ArrayLike,
        outcome: npt.ArrayLike,
        pairs: npt.ArrayLike | None = None,
        items: npt.ArrayLike | None = None,
        n_agents: int | None = None,
        *,
        fits: SharedFits | None = None,
        dealt: Dealt | None = None,
    ) -> "SeveralRouter":
        """Learn as `MetaRouter.fit` from `pairs` (n, 2), whose outcomes are quality of the first minus of the second.

        Without `pairs` all compare agent 1 with agent 0. `items` (n,) says which comparisons are about the same item:
        none of them is predicted by what was learned from another. `n_agents` where not the largest of `pairs` + 1.
        Raises ValueError as `MetaRouter.fit`; for less than two agents, or a pair of one; and where some agent is not
        compared with the default by people, directly or through others, on as many items as there are folds.
        """
        features = checked_features(X)
        gold, outcomes = checked_comparisons(is_gold, outcome, len(features))
        ordered, outcomes, n_agents = ordered_pairs(pairs, outcomes, n_agents)
        of_item = None if n_agents == 2 and items is None else checked_items(items, len(features))
        self._check(gold, outcomes, of_item)
        self.n_agents_ = n_agents
        self.compared_ = anchored_pairs(ordered, gold, of_item, n_agents)
        usable = gold | _is_among(ordered, self.compared_)
        self.seed_ = recorded_seed(self.random_state)
        self.reduction_ = reduction(features, self.seed_)
        features = reduced(self.reduction_, features)
        self.n_reduced_ = features.shape[1]
        covariates = with_pairs(features, ordered, n_agents)
        self.shift_model_ = self._learn(
            covariates[usable],
            gold[usable],
            outcomes[usable],
            None if of_item is None else of_item[usable],
            fits,
            None if dealt is None else dealt.part(usable),
        )
        is_used = np.zeros(len(gold), dtype=np.bool_)
        is_used[usable] = self.is_used_
        self.is_used_, self.n_left_out_ = is_used, int((~is_used).sum())
        self.pair_shift_ = self._pair_shifts(covariates, ordered, is_used & ~gold)
        return self

    def predict(self, X: npt.ArrayLike, k: int = 1, other: int = 0) -> FloatArray:  # noqa: N803
        """ψ̂(s, k, other) on the scale of the gold outcomes, (n,). Raises ValueError as `MetaRouter.predict`."""
        return _between(gains_of(self, X), k, other)

    def gains(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """ψ̂(s, k, 0) of every agent, (n, K), on the scale of the gold outcomes; 0 for the default."""
        return gains_of(self, X)

    def shift(self, X: npt.ArrayLike, k: int = 1, other: int = 0) -> FloatArray:  # noqa: N803
        """Δ̂(s, k, other) on the scale of the gold outcomes, (n,): what the judge's preference misses of gold.

        Raises ValueError before `fit`, for other features, or for two agents that were not compared.
        """
        features = _features_for(self, X)
        pair = np.array([[max(k, other), min(k, other)]])
        if not _is_among(pair, self.compared_)[0]:
            raise ValueError(f"Agents {k} and {other} were not compared by people on {FOLDS} items.")
        said = self.shift_model_.predict(with_pairs(features, pair, self.n_agents_))
        shifts: FloatArray = np.asarray(said, dtype=float) / self.scale_ * (1 if k > other else -1)
        return shifts

    def allocate(self, X: npt.ArrayLike, w: float, extra_costs: npt.ArrayLike) -> IntArray:  # noqa: N803
        """The agent of each item, (n,): that of the largest ψ̂(s, k, 0) − w · extra cost. Raises ValueError."""
        return allocate(self.gains(X), w, extra_costs)

    def _pair_shifts(self, covariates: FloatArray, ordered: IntArray, is_preferred: BoolArray) -> FloatArray:
        shifts = np.full(len(self.compared_), np.nan)
        for number, pair in enumerate(self.compared_):
            rows = is_preferred & (ordered == pair).all(axis=1)
            if rows.any():
                shifts[number] = float(self.shift_model_.predict(covariates[rows]).mean()) / self.scale_
        return shifts


class SeveralBaseline(BaselineRouter):
    """A baseline among several agents, with the covariates of `SeveralRouter`."""

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        is_gold: npt.ArrayLike,
        outcome: npt.ArrayLike,
        pairs: npt.ArrayLike | None = None,
        n_agents: int | None = None,
        *,
        fits: SharedFits | None = None,
    ) -> "SeveralBaseline":
        """Learn from pairs as `SeveralRouter.fit`. Raises ValueError, also where what it uses leaves an agent out."""
        features = checked_features(X)
        gold, outcomes = checked_comparisons(is_gold, outcome, len(features))
        ordered, outcomes, self.n_agents_ = ordered_pairs(pairs, outcomes, n_agents)
        used = {"gold": gold, "preference": ~gold}.get(self.kind, np.ones(len(gold), dtype=np.bool_))
        self.compared_ = np.unique(ordered[used], axis=0)
        _check_connected(self.compared_, self.n_agents_, "")
        self.seed_ = recorded_seed(self.random_state)
        self.reduction_ = reduction(features, self.seed_)
        covariates = with_pairs(reduced(self.reduction_, features), ordered, self.n_agents_)
        self._learn(covariates, gold, outcomes, fits)
        return self

    def predict(self, X: npt.ArrayLike, k: int = 1, other: int = 0) -> FloatArray:  # noqa: N803
        """The gain of k over the other predicted, on the scale of the gold outcomes, (n,)."""
        return _between(gains_of(self, X), k, other)

    def gains(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """The gain of every agent over the default, (n, K)."""
        return gains_of(self, X)


class _Fitted(Protocol):
    model_: Any
    reduction_: PCA | None
    scale_: float
    n_agents_: int
    compared_: IntArray


def ordered_pairs(
    pairs: npt.ArrayLike | None, outcomes: FloatArray, n_agents: int | None
) -> tuple[IntArray, FloatArray, int]:
    """Pairs with the later agent first, their outcomes, and the number of agents; ValueError for what is no pair."""
    n = len(outcomes)
    given = np.tile([1, 0], (n, 1)) if pairs is None else np.asarray(pairs)
    if given.shape != (n, 2) or given.dtype.kind not in "iu" or (given < 0).any():
        raise ValueError(
            f"pairs must name two agents, by their positions from 0 on, of each of the {n} comparisons."
        )
    if (given[:, 0] == given[:, 1]).any():
        raise ValueError("A comparison is between two different agents.")
    count = int(given.max(initial=0)) + 1 if n_agents is None else n_agents
    if count < 2:
        raise ValueError(
            "There is one agent only, so there is nothing to choose between. Compare two or more."
        )
    if given.max(initial=0) >= count:
        raise ValueError(f"There are {count} agents, so none has the position {int(given.max())}.")
    signs = np.where(given[:, 0] > given[:, 1], 1.0, -1.0)
    ordered: IntArray = np.stack([given.max(axis=1), given.min(axis=1)], axis=1).astype(np.intp)
    return ordered, outcomes * signs, count


def checked_items(items: npt.ArrayLike | None, n: int) -> IntArray:
    """Which item each of n comparisons is about: each one an item of its own where nothing is said."""
    given = np.arange(n) if items is None else np.asarray(items)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise ValueError(f"items must hold one whole number for each of the {n} comparisons.")
    return given.astype(np.intp)


def anchored_pairs(ordered: IntArray, gold: BoolArray, items: IntArray | None, n_agents: int) -> IntArray:
    """The pairs that people compared on at least as many items as there are folds, (p, 2), in order.

    Raises ValueError where these do not lead from the default to every agent.
    """
    rows = np.flatnonzero(gold)
    of_item = rows if items is None else items[rows]
    distinct = np.unique(np.column_stack([ordered[rows], of_item]), axis=0)
    found, counts = np.unique(distinct[:, :2], axis=0, return_counts=True)
    anchored: IntArray = found[counts >= FOLDS]
    _check_connected(anchored, n_agents, f" by people on at least {FOLDS} items")
    return anchored


def with_pairs(features: FloatArray, ordered: IntArray, n_agents: int) -> FloatArray:
    """Features with e_k − e_ℓ beside them, `n_covariates` columns; of one pair for all items where one is given.

    Of two agents the features alone: all of their comparisons are about the same pair. Beside many features e_k − e_ℓ
    stands several times, because a tree looks at some columns only where it parts, and nearly always needs the pair.
    """
    if n_agents == 2:
        return features
    units = np.eye(n_agents)
    which = np.tile(units[ordered[:, 0]] - units[ordered[:, 1]], _copies(features.shape[1], n_agents))
    return np.hstack([features, np.broadcast_to(which, (len(features), which.shape[1]))])


def n_covariates(n_features: int, n_agents: int) -> int:
    """How many columns there are of so many (reduced) features and agents."""
    return n_features if n_agents == 2 else n_features + n_agents * _copies(n_features, n_agents)


def _copies(n_features: int, n_agents: int) -> int:
    """How often e_k − e_ℓ stands there: so that about a quarter of all columns say which pair it is."""
    return max(1, round(n_features / (3 * n_agents)))


def gains_of(fitted: _Fitted, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
    """What each agent is predicted to gain over the default, (n, K), on the scale of gold. Raises ValueError."""
    features = _features_for(fitted, X)
    n_agents, pairs = fitted.n_agents_, fitted.compared_
    said = np.stack(
        [fitted.model_.predict(with_pairs(features, pair[np.newaxis], n_agents)) for pair in pairs], axis=1
    )
    between = np.asarray(said, dtype=float) / fitted.scale_
    if n_agents == 2:
        return np.hstack([np.zeros((len(between), 1)), between])
    # The qualities θ whose differences θ_k − θ_ℓ are nearest, by least squares, to what was said of the pairs.
    units = np.eye(n_agents)
    qualities = between @ np.linalg.pinv(units[pairs[:, 0]] - units[pairs[:, 1]]).T
    gains: FloatArray = qualities - qualities[:, :1]
    return gains


def _features_for(fitted: _Fitted, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
    if not hasattr(fitted, "model_"):
        raise ValueError("The router has to be fitted first.")
    return reduced(fitted.reduction_, checked_features(X))


def _between(gains: FloatArray, k: int, other: int) -> FloatArray:
    agents = range(gains.shape[1])
    if k not in agents or other not in agents:
        raise ValueError(f"There are {len(agents)} agents: their positions are 0 to {len(agents) - 1}.")
    difference: FloatArray = gains[:, k] - gains[:, other]
    return difference


def _is_among(ordered: IntArray, pairs: IntArray) -> BoolArray:
    return np.asarray((ordered[:, np.newaxis] == pairs[np.newaxis]).all(axis=2).any(axis=1))


def _check_connected(pairs: IntArray, n_agents: int, how: str) -> None:
    reached = {0}
    for _ in range(n_agents):
        reached |= {int(agent) for pair in pairs for agent in pair if reached & {int(each) for each in pair}}
    if missing := sorted(set(range(n_agents)) - reached):
        whom = "agent" if len(missing) == 1 else "agents"
        raise ValueError(
            f"The {whom} {', '.join(map(str, missing))} {'was' if len(missing) == 1 else 'were'} not compared{how} "
            "with the default, nor with another that was. Compare them, or leave them out."
        )
