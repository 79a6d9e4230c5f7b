"""The meta-router: is the premium annotator worth its price on an item? Learned from few gold and many cheap
comparisons.

An item s has features; a comparison says by how much the premium annotator's answer is better than the cheap one's.
Gold comparisons (t = 1) are people's, preference comparisons (t = 0) those of a biased judge. ψ(s) is the expected gold
gain, η(s) the expected preference, Δ(s) = ψ(s) − η(s) the judge's bias, which is the conditional average treatment
effect of the way of comparing (section 3.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from route.meta_allocation import choose_w_among
from route.meta_sharing import Dealt, SharedFits
from route.training_data import checked_features, recorded_seed

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

LEARNERS = ("dr", "r")
SCALINGS = ("variance", "maximum", "wasserstein")
FOLDS = 5
# More features than this are reduced to as many principal components (section 4.1).
MOST_FEATURES = 50
# Preference data are left out where the estimated density of gold items is below this share of theirs.
LOWEST_DENSITY_RATIO = 1 / 20
# The scale between gold and preferences, and one over it, are no smaller: beyond that digits are lost.
_LOWEST_SCALE = 1e-12
# Propensities are clipped so that no comparison weighs more than so many times what it would if t were random.
_PROPENSITY_RATIO = 5.0

_TREES = 100
_SMALLEST_LEAF = 5
# Each tree of the default forest sees at most so many comparisons; more made it slower but no better.
_TREE_SAMPLE = 2_500
# A leaf of the forest that estimates the shift holds about so many comparisons of the rarer source, mostly gold: with
# fewer its estimate is noise.
_RARER_IN_LEAF = 5
_INVERSE_REGULARIZATIONS = (0.01, 0.1, 1.0, 10.0, 100.0)


class MetaRouter:
    """Predicts ψ from gold and preference comparisons together (section 3.3), and routes by Eq. 4.

    Gold outcomes are brought to the scale of the preferences (remark 1), Δ is estimated, and ψ̂ is the regression of the
    gold outcomes and of the preferences shifted by Δ̂ (Eq. 6). Δ̂ is either

    - learner "dr" (S4): the regression of φ = (t − p̂) / (p̂ (1 − p̂)) · (o − μ̂_t) + μ̂_1 − μ̂_0, or
    - learner "r" (S3): minimizes Σ (õ − t̃ h(s))², õ = o − γ̂, t̃ = t − p̂, as a regression of õ / t̃ with weights t̃².

    μ̂, γ̂ = E(o | s) and the propensity p̂ = Pr(t = 1 | s) are cross-fitted in 5 folds, stratified by source. p̂ is a
    logistic regression on the features and their squares, clipped so that the odds differ at most 5 times from those of
    all comparisons (`propensity_range_`). Preference data where the density of gold items is below 1/20 of that of
    preference items are left out (`is_used_`, `n_left_out_`), gold data never (section 5).

    `regressor` is any scikit-learn regressor that takes sample weights; a copy of it, seeded where it has a
    `random_state`, makes every regression. The default is a random forest whose leaves hold at least 5 comparisons;
    for Δ, about 5 of the rarer source, because both sources are needed to tell Δ. More than 50 features are reduced by
    PCA to 50; where all items have the same features, ψ̂ is one number. The same data and `random_state` give the same
    router (`seed_` is the one used).

    Also after `fit`: `scale_` (gold outcomes were multiplied by it), `n_gold_`, `n_preference_` (those used).
    """

    def __init__(
        self,
        learner: str = "dr",
        regressor: Any = None,
        scaling: str | None = "variance",
        random_state: int | None = None,
    ) -> None:
        """Raises ValueError for an unknown learner or scaling."""
        if learner not in LEARNERS:
            raise ValueError(f'The learner is "dr" or "r", not {learner!r}.')
        if scaling is not None and scaling not in SCALINGS:
            raise ValueError(f"The scaling is one of {', '.join(SCALINGS)} or None, not {scaling!r}.")
        self.learner = learner
        self.regressor = regressor
        self.scaling = scaling
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        is_gold: npt.ArrayLike,
        outcome: npt.ArrayLike,
        *,
        fits: SharedFits | None = None,
        dealt: Dealt | None = None,
    ) -> "MetaRouter":
        """Learn from `X` (n, features), `is_gold` (n,) boolean or 0/1, `outcome` (n,) finite, premium minus cheap.

        Where other routers learn from some of the same comparisons, `fits` keeps what they have in common, and how
        those used were dealt into folds; `dealt` says that they were, and left out, together with others.

        Raises ValueError for other shapes or values, for fewer gold or preference comparisons than folds (before or
        after those without overlap are left out), and where all gold or all preference outcomes are the same.
        """
        features = checked_features(X)
        gold, outcomes = checked_comparisons(is_gold, outcome, len(features))
        self._check(gold, outcomes, None)
        self.seed_ = recorded_seed(self.random_state)
        self.reduction_ = reduction(features, self.seed_)
        self._learn(reduced(self.reduction_, features), gold, outcomes, None, fits, dealt)
        return self

    def predict(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """ψ̂ on the scale of the gold outcomes, (n,). Raises ValueError before `fit` or for other features."""
        if not hasattr(self, "model_"):
            raise ValueError("The router has to be fitted first.")
        features = reduced(self.reduction_, checked_features(X))
        gains: FloatArray = np.asarray(self.model_.predict(features), dtype=float) / self.scale_
        return gains

    def route(self, X: npt.ArrayLike, w: float, cost_gap: npt.ArrayLike = 1.0) -> BoolArray:  # noqa: N803
        """Which items go to the premium annotator, (n,): those with ψ̂(s) > w · (premium cost − cheap cost) (Eq. 4).

        `w` ≥ 0 is gold gain for a unit of cost; `cost_gap` ≥ 0, one for all items or one for each. Raises ValueError
        for other values.
        """
        return premium_items(self.predict(X), w, cost_gap)

    def _check(self, gold: BoolArray, outcomes: FloatArray, items: IntArray | None) -> None:
        _check_comparisons(gold, outcomes, items, "")
        if self.learner == "r" and not has_fit_parameter(
            regression(self.regressor, len(gold), 0), "sample_weight"
        ):
            raise ValueError(
                'The learner "r" needs a regressor that takes sample weights. Choose the learner "dr".'
            )

    def _learn(
        self,
        covariates: FloatArray,
        gold: BoolArray,
        outcomes: FloatArray,
        items: IntArray | None,
        fits: SharedFits | None,
        dealt: Dealt | None,
    ) -> Any:
        """Leave out what does not overlap, estimate Δ and regress ψ on the covariates; the fitted regression of Δ.

        `items` (n,) says which comparisons are about the same item and so belong in the same fold; None: each is about
        an item of its own.
        """
        fits = dealt.fits if dealt is not None else fits or SharedFits()
        if dealt is None:
            splits = list(_folds(gold, self.seed_, items))
            self.is_used_ = gold | has_overlap(_propensity(covariates, gold, splits, fits), gold)
        else:
            splits = dealt.splits()
            self.is_used_ = np.ones(len(gold), dtype=np.bool_)
        self.n_left_out_ = int((~self.is_used_).sum())
        covariates, gold, outcomes = covariates[self.is_used_], gold[self.is_used_], outcomes[self.is_used_]
        items = None if items is None else items[self.is_used_]
        _check_overlap(gold, items)
        _check_comparisons(gold, outcomes, items, " where gold and preference items overlap")
        if self.n_left_out_:
            splits = list(_folds(gold, self.seed_, items))
        propensity = _propensity(covariates, gold, splits, fits)
        self.n_gold_, self.n_preference_ = int(gold.sum()), int((~gold).sum())
        if dealt is None:
            fits.folds = _fold_of(splits, len(gold))

        self.scale_ = gold_scale(outcomes[gold], outcomes[~gold], self.scaling)
        scaled = np.where(gold, self.scale_ * outcomes, outcomes)
        shift = self._shift(covariates, gold, scaled, propensity, splits, fits)
        expected = np.asarray(shift.predict(covariates), dtype=float)
        corrected = np.where(gold, scaled, scaled + expected)
        self.model_ = self._regression(len(covariates)).fit(covariates, corrected)
        return shift

    def _shift(
        self,
        features: FloatArray,
        gold: BoolArray,
        outcomes: FloatArray,
        propensity: FloatArray,
        splits: list[tuple[IntArray, IntArray]],
        fits: SharedFits,
    ) -> Any:
        """The fitted regression of Δ, on the scale of the preferences."""
        self.propensity_range_ = propensity_range(gold)
        propensity = propensity.clip(*self.propensity_range_)
        regression = self._shift_regression(gold)
        if self.learner == "r":
            marginal = np.empty(len(gold))
            for train, held_out in splits:
                marginal[held_out] = self._fitted(
                    features[train], outcomes[train], features[held_out], SharedFits()
                )
            residuals = gold - propensity
            regression.fit(features, (outcomes - marginal) / residuals, sample_weight=residuals**2)
        else:
            means = np.empty((2, len(gold)))
            for train, held_out in splits:
                for source, is_source in enumerate((~gold, gold)):
                    rows = train[is_source[train]]
                    means[source, held_out] = self._fitted(
                        features[rows], outcomes[rows], features[held_out], fits
                    )
            expected = np.where(gold, means[1], means[0])
            balance = (gold - propensity) / (propensity * (1 - propensity))
            regression.fit(features, balance * (outcomes - expected) + means[1] - means[0])
        return regression

    def _fitted(
        self, features: FloatArray, outcomes: FloatArray, where: FloatArray, fits: SharedFits
    ) -> FloatArray:
        regression = fits.fitted(self._regression(len(features)), features, outcomes)
        predicted: FloatArray = np.asarray(regression.predict(where), dtype=float)
        return predicted

    def _regression(self, n: int) -> Any:
        return regression(self.regressor, n, self.seed_)

    def _shift_regression(self, gold: BoolArray) -> Any:
        forest = self._regression(len(gold))
        if self.regressor is not None:
            return forest
        forest.set_params(max_samples=None)
        rarer = int(min(gold.sum(), (~gold).sum()))
        if self.learner == "r":
            # Weights decide here: t̃² of the rarer source is nearly all of them.
            return forest.set_params(min_weight_fraction_leaf=min(0.25, _RARER_IN_LEAF / rarer))
        leaf = min(round(_RARER_IN_LEAF * len(gold) / rarer), len(gold) // 4)
        return forest.set_params(min_samples_leaf=max(_SMALLEST_LEAF, leaf))


@dataclass(frozen=True, slots=True)
class ChosenW:
    """A w for Eq. 4 and what it does on held-out gold comparisons.

    `premium_share` of the items in [0, 1]; `premium_cost`, the mean extra cost of an item; `mean_gain`, the mean gold
    gain over giving every item to the cheap annotator.
    """

    w: float
    premium_share: float
    premium_cost: float
    mean_gain: float


def premium_items(predicted: npt.ArrayLike, w: float, cost_gap: npt.ArrayLike = 1.0) -> BoolArray:
    """Which items go to the premium annotator, (n,): `predicted` > `w` · `cost_gap` (Eq. 4).

    Raises ValueError unless `predicted` (n,) is finite and `w` and `cost_gap`, one number or (n,), are finite and ≥ 0.
    """
    gains = np.asarray(predicted, dtype=float)
    if gains.ndim != 1 or not np.isfinite(gains).all():
        raise ValueError("Predicted gains must be finite, one for each item.")
    if not (np.isfinite(w) and w >= 0):
        raise ValueError("w must be a number of at least 0.")
    gaps = _checked_gaps(cost_gap, len(gains))
    is_premium: BoolArray = gains > w * gaps
    return is_premium


def choose_w(
    predicted: npt.ArrayLike,
    gold_gain: npt.ArrayLike,
    cost_gap: npt.ArrayLike = 1.0,
    *,
    max_share: float | None = None,
    max_cost: float | None = None,
) -> ChosenW:
    """The smallest w that keeps to a limit on held-out gold comparisons (appendix A.1).

    `predicted` and `gold_gain` (n,), `cost_gap` as in `premium_items`; either `max_share` in [0, 1] of the items that
    go to the premium annotator, or `max_cost` ≥ 0, the mean of `cost_gap` over all items with 0 for those that stay
    cheap. Raises ValueError for anything else, or where no w keeps to the limit because items with no extra cost
    exceed it.
    """
    gains, realized = np.asarray(predicted, dtype=float), np.asarray(gold_gain, dtype=float)
    if gains.ndim != 1 or not len(gains) or realized.shape != gains.shape or not np.isfinite(realized).all():
        raise ValueError(
            "Every held-out item needs a predicted and a finite gold gain, and there must be at least one."
        )
    gaps = _checked_gaps(cost_gap, len(gains))
    nothing = np.zeros(len(gains))
    chosen = choose_w_among(
        np.stack([nothing, gains], axis=1),
        np.stack([nothing, realized], axis=1),
        np.stack([nothing, gaps], axis=1),
        max_share=max_share,
        max_cost=max_cost,
    )
    return ChosenW(chosen.w, chosen.moved_share, chosen.extra_cost, chosen.mean_gain)


def gold_scale(gold: FloatArray, preference: FloatArray, scaling: str | None) -> float:
    """c > 0 by which gold outcomes are multiplied to be on the scale of the preferences (remark 1).

    "maximum": max |c r| = max |y|; "variance": Var(c r) = Var(y); "wasserstein": the c that minimizes the 2-Wasserstein
    distance between the distributions of c r and y; None: 1. Raises ValueError where there is no such c above 0, or
    where it is so small or large that what is learned would be rounding.
    """
    if scaling is None:
        return 1.0
    # Numbers near the smallest that a computer has become 0 when they are squared: that is told below.
    with np.errstate(all="ignore"):
        scale = _scale(gold, preference, scaling)
    if scale <= 0 and scaling == "wasserstein" and gold.std() > 0 and preference.std() > 0:
        raise ValueError(
            "Gold and preference outcomes are distributed so differently that no scale brings them together. "
            'Choose the scaling "variance".'
        )
    if not _LOWEST_SCALE <= scale <= 1 / _LOWEST_SCALE:
        raise ValueError(
            f"Gold outcomes, up to {np.abs(gold).max():.3g}, and preferences, up to {np.abs(preference).max():.3g}, "
            "differ so much in size that they cannot be brought onto one scale. Give both in numbers of a similar "
            "size, as from 0 to 1."
        )
    return scale


def _scale(gold: FloatArray, preference: FloatArray, scaling: str) -> float:
    if scaling == "maximum":
        return float(np.abs(preference).max() / np.abs(gold).max())
    if scaling == "variance":
        return float(preference.std() / gold.std())
    # W2² = ∫ (c F_r⁻¹(u) − F_y⁻¹(u))² du: least squares of one quantile function on the other, both step functions.
    steps = np.unique(
        np.concatenate([np.arange(1, len(part) + 1) / len(part) for part in (gold, preference)])
    )
    widths, middles = np.diff(steps, prepend=0.0), steps - np.diff(steps, prepend=0.0) / 2
    r, y = (np.sort(part)[(middles * len(part)).astype(np.intp)] for part in (gold, preference))
    return float((widths * r * y).sum() / (widths * r * r).sum())


def cross_fitted_propensity(
    features: FloatArray, gold: BoolArray, seed: int, items: IntArray | None = None
) -> FloatArray:
    """Pr(t = 1 | s) of each comparison by a model that has not seen it or another of its item, (n,), in [0, 1].

    A logistic regression on standardized features and their squares, with the regularization that predicts the held-out
    folds best: strong where the sources do not differ, weak where they lie apart.
    """
    return _propensity(features, gold, list(_folds(gold, seed, items)), SharedFits())


def _propensity(
    features: FloatArray, gold: BoolArray, splits: list[tuple[IntArray, IntArray]], fits: SharedFits
) -> FloatArray:
    found: FloatArray = fits.once(
        lambda: _propensity_by(features, gold, splits),
        "propensity",
        features,
        gold,
        _fold_of(splits, len(gold)),
    )
    return found


def _propensity_by(
    features: FloatArray, gold: BoolArray, splits: list[tuple[IntArray, IntArray]]
) -> FloatArray:
    means, scales = features.mean(axis=0), features.std(axis=0)
    # Beyond three standard deviations a square would decide alone.
    standardized = ((features - means) / np.where(scales > 0, scales, 1.0)).clip(-3, 3)
    expanded = np.hstack([standardized, standardized**2])
    fits = []
    for strength in _INVERSE_REGULARIZATIONS:
        propensity = np.empty(len(gold))
        # The matrices are small: several threads take many times as long, and round differently.
        with threadpool_limits(1):
            for train, held_out in splits:
                model = LogisticRegression(C=strength, max_iter=1000).fit(expanded[train], gold[train])
                propensity[held_out] = model.predict_proba(expanded[held_out])[:, 1]
        fits.append(propensity)
    return min(fits, key=lambda propensity: log_loss(gold, propensity, labels=[False, True]))


def propensity_range(gold: BoolArray) -> tuple[float, float]:
    """Where propensities are clipped: at odds 5 times lower and 5 times higher than those of all comparisons."""
    odds = float(gold.sum() / (~gold).sum())
    low, high = odds / _PROPENSITY_RATIO, odds * _PROPENSITY_RATIO
    return low / (1 + low), high / (1 + high)


def has_overlap(propensity: FloatArray, gold: BoolArray) -> BoolArray:
    """Where there are gold items among the others, (n,): their density is at least 1/20 of the preference items'.

    The ratio of the densities is the odds of the propensity over the odds of all comparisons. It has no upper bound:
    where a preference item lies, there are preference items.
    """
    inside = propensity.clip(1e-12, 1 - 1e-12)
    ratios = inside / (1 - inside) * float((~gold).sum() / gold.sum())
    overlap: BoolArray = ratios >= LOWEST_DENSITY_RATIO
    return overlap


def reduction(features: FloatArray, seed: int) -> PCA | None:
    """The principal components of more than 50 features, None for fewer."""
    if features.shape[1] <= MOST_FEATURES:
        return None
    components = min(MOST_FEATURES, len(features))
    return PCA(components, svd_solver="full", random_state=seed).fit(features)


def reduced(components: PCA | None, features: FloatArray) -> FloatArray:
    """The features, or their principal components."""
    if components is None:
        return features
    projected: FloatArray = components.transform(features)
    return projected


def regression(regressor: Any, n: int, seed: int) -> Any:
    """A seeded copy of `regressor`, or the default random forest for n comparisons, not fitted."""
    if regressor is None:
        return RandomForestRegressor(
            _TREES,
            min_samples_leaf=_SMALLEST_LEAF,
            max_features=1 / 3,
            max_samples=min(1.0, _TREE_SAMPLE / n),
            random_state=seed,
        )
    copy = clone(regressor)
    return copy.set_params(random_state=seed) if "random_state" in copy.get_params() else copy


def checked_comparisons(
    is_gold: npt.ArrayLike, outcome: npt.ArrayLike, n: int
) -> tuple[BoolArray, FloatArray]:
    """Source and outcome of each of n comparisons, checked; ValueError for other shapes or values."""
    gold, outcomes = np.asarray(is_gold), np.asarray(outcome, dtype=float)
    if gold.shape != (n,) or not np.isin(gold, (0, 1)).all():
        raise ValueError(f"is_gold must say true or false (or 1 or 0) of each of the {n} comparisons.")
    if outcomes.shape != (n,) or not np.isfinite(outcomes).all():
        raise ValueError(
            f"Each of the {n} comparisons needs a finite outcome: NaN or infinity cannot be learned from."
        )
    return gold.astype(bool), outcomes


def _check_comparisons(gold: BoolArray, outcomes: FloatArray, items: IntArray | None, where: str) -> None:
    for name, is_source in (("gold", gold), ("preference", ~gold)):
        values = outcomes[is_source]
        if not len(values):
            raise ValueError(
                f"There are no {name} comparisons{where}; the router learns from gold and preferences."
            )
        count = len(values) if items is None else len(np.unique(items[is_source]))
        if count < FOLDS:
            what = f"{name} comparisons" if items is None else f"items with {name} comparisons"
            raise ValueError(
                f"{count} {what}{where} are fewer than the {FOLDS} folds. Add at least {FOLDS - count} more."
            )
        if (values == values[0]).all():
            raise ValueError(
                f"All {name} outcomes{where} are {values[0]:g}, so there is nothing to learn from them."
            )


def _check_overlap(gold: BoolArray, items: IntArray | None) -> None:
    """Raise ValueError where too few preferences are left among the gold."""
    left = int((~gold).sum()) if items is None else len(np.unique(items[~gold]))
    if left < FOLDS:
        raise ValueError(
            f"Only {left} of the items that a judge compared are like those with gold; at least {FOLDS} are needed to "
            "learn how far the judge can be trusted. Let people label items of the kind that the judge compares."
        )


def _checked_gaps(cost_gap: npt.ArrayLike, n: int) -> FloatArray:
    gaps = np.asarray(cost_gap, dtype=float)
    if gaps.shape not in ((), (n,)):
        raise ValueError(f"cost_gap needs one number, or one for each of the {n} items.")
    if not np.isfinite(gaps).all() or (gaps < 0).any():
        raise ValueError("The premium annotator's extra cost must be at least 0.")
    return np.broadcast_to(gaps, (n,))


def _folds(gold: BoolArray, seed: int, items: IntArray | None = None) -> Iterator[tuple[IntArray, IntArray]]:
    """Rows to learn from and rows held out, 5 times; all comparisons of an item are on the same side."""
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    if items is None:
        yield from splitter.split(np.zeros(len(gold)), gold)
        return
    distinct, item_of_row = np.unique(items, return_inverse=True)
    has_gold = np.bincount(item_of_row, weights=gold) > 0
    for _, held_out in splitter.split(np.zeros(len(distinct)), has_gold):
        is_held_out = np.isin(item_of_row, held_out)
        yield np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _fold_of(splits: list[tuple[IntArray, IntArray]], n: int) -> IntArray:
    """The number of the fold that each of n comparisons is held out in, (n,)."""
    numbers = np.empty(n, dtype=np.intp)
    for number, (_, held_out) in enumerate(splits):
        numbers[held_out] = number
    return numbers
