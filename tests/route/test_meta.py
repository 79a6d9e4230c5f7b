"""The meta-router corrects the judge's bias, leaves out what does not overlap, and refuses what it cannot learn."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from benchmarks.routing import comparisons, falls_short, meta_scores
from route.meta import (
    FOLDS,
    LEARNERS,
    MOST_FEATURES,
    MetaRouter,
    choose_w,
    cross_fitted_propensity,
    gold_scale,
    has_overlap,
    premium_items,
    propensity_range,
)


def linear_comparisons(n_gold: int, n_preference: int, seed: int = 0, scale: float = 1.0, noise: float = 0.1):
    """ψ = x_0 − 1 and η = x_0 + x_1, so Δ = −1 − x_1; gold outcomes are given in units of `scale`."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_gold + n_preference, 3))
    is_gold = np.arange(len(features)) < n_gold
    psi, eta = features[:, 0] - 1, features[:, 0] + features[:, 1]
    outcome = np.where(is_gold, psi, eta) + rng.normal(scale=noise, size=len(features))
    return features, is_gold, np.where(is_gold, outcome * scale, outcome), psi * scale


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_linear_shift_is_corrected_exactly_by_linear_regressions(learner):
    features, is_gold, outcome, psi = linear_comparisons(200, 800, noise=1e-6)

    router = MetaRouter(learner, LinearRegression(), scaling=None, random_state=0).fit(
        features, is_gold, outcome
    )

    # γ(s) is no linear function where the propensity is estimated, but its error is orthogonal to that of Δ.
    assert router.predict(features) == pytest.approx(psi, abs=1e-4 if learner == "dr" else 0.1)
    assert (router.n_gold_, router.n_preference_, router.n_left_out_) == (200, 800, 0)


@pytest.mark.parametrize("scaling", ["variance", "maximum", "wasserstein", None])
@pytest.mark.parametrize("learner", LEARNERS)
def test_predictions_are_on_the_scale_of_gold(learner, scaling):
    features, is_gold, outcome, psi = linear_comparisons(300, 700, scale=50.0)

    router = MetaRouter(learner, LinearRegression(), scaling, random_state=0).fit(features, is_gold, outcome)

    assert np.sqrt(np.mean((router.predict(features) - psi) ** 2)) < 0.15 * psi.std()


def test_scales_are_those_of_the_definitions():
    gold, preference = np.array([-4.0, 1.0, 2.0]), np.array([-1.0, 0.0, 0.0, 1.0, 0.5])

    assert gold_scale(gold, preference, None) == 1
    assert gold_scale(gold, preference, "maximum") == pytest.approx(1 / 4)
    assert (gold * gold_scale(gold, preference, "variance")).var() == pytest.approx(preference.var())

    def squared_distance(c):
        # Both quantile functions on a grid that has every step of either in it.
        return ((c * np.repeat(np.sort(gold), 5) - np.repeat(np.sort(preference), 3)) ** 2).mean()

    best = minimize_scalar(squared_distance, bounds=(0, 2), method="bounded", options={"xatol": 1e-10}).x
    assert gold_scale(gold, preference, "wasserstein") == pytest.approx(best, abs=1e-6)


def test_no_scale_brings_opposite_outcomes_together():
    with pytest.raises(ValueError, match="no scale"):
        gold_scale(np.array([1.0, 2.0]), np.array([-1.0, -2.0]), "wasserstein")


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_same_seed_gives_the_same_router(learner):
    data = comparisons(40, 100, seed=0)

    first, again, other = (
        MetaRouter(learner, random_state=seed)
        .fit(data.features, data.is_gold, data.outcome)
        .predict(data.features)
        for seed in (1, 1, 2)
    )

    assert (first == again).all()
    assert (first != other).any()


def test_without_a_seed_a_fresh_one_is_recorded():
    data = comparisons(20, 40, seed=0)

    router = MetaRouter(random_state=None).fit(data.features, data.is_gold, data.outcome)

    again = MetaRouter(random_state=router.seed_).fit(data.features, data.is_gold, data.outcome)
    assert (again.predict(data.features) == router.predict(data.features)).all()


def test_other_regressors_are_copied_and_seeded():
    data = comparisons(40, 100, seed=0)
    regressor = GradientBoostingRegressor(n_estimators=5, subsample=0.5)

    first, again = (
        MetaRouter("r", regressor, random_state=3).fit(data.features, data.is_gold, data.outcome)
        for _ in "ab"
    )

    assert (first.predict(data.features) == again.predict(data.features)).all()
    assert not hasattr(regressor, "estimators_")


def test_preferences_without_overlap_are_left_out_and_gold_never():
    features, is_gold, outcome, psi = linear_comparisons(200, 400)
    features = np.hstack([features, np.random.default_rng(1).normal(size=(600, 1))])
    features[300:, 3] += 50  # preferences about items of a kind without gold
    outcome[300:] += 1_000

    router = MetaRouter(regressor=LinearRegression(), random_state=0).fit(features, is_gold, outcome)

    assert router.is_used_.tolist() == [True] * 300 + [False] * 300
    assert (router.n_left_out_, router.n_gold_, router.n_preference_) == (300, 200, 100)
    assert router.predict(features[:300]) == pytest.approx(psi[:300], abs=0.2)


def test_items_around_the_gold_ones_do_not_overlap_either():
    rng = np.random.default_rng(0)
    features = np.vstack([rng.normal(size=(200, 2)), rng.normal(size=(200, 2)), rng.normal(size=(400, 2))])
    features[400:, 0] = np.where(features[400:, 0] > 0, 8, -8)

    is_gold = np.arange(800) < 200
    overlap = has_overlap(cross_fitted_propensity(features, is_gold, seed=0), is_gold)

    assert overlap[:400].mean() > 0.9
    assert not overlap[400:].any()


def test_no_overlap_at_all_is_said():
    features, is_gold, outcome, _ = linear_comparisons(100, 100)
    features[~is_gold, 2] += 1_000

    with pytest.raises(
        ValueError, match="Only 0 of the items that a judge compared are like those with gold"
    ):
        MetaRouter(random_state=0).fit(features, is_gold, outcome)


def test_propensities_are_clipped_around_those_of_all_comparisons():
    low, high = propensity_range(np.arange(100) < 20)

    assert low / (1 - low) == pytest.approx(0.25 / 5)
    assert high / (1 - high) == pytest.approx(0.25 * 5)


def test_many_features_are_reduced():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(150, 2))
    features = latent @ rng.normal(size=(2, MOST_FEATURES + 10))
    is_gold = np.arange(150) < 50

    router = MetaRouter(regressor=LinearRegression(), scaling=None, random_state=0)
    router.fit(features, is_gold, np.where(is_gold, latent[:, 0], latent[:, 0] + 1))

    assert router.model_.n_features_in_ == MOST_FEATURES
    assert router.predict(features) == pytest.approx(latent[:, 0], abs=1e-6)


@pytest.mark.parametrize("learner", LEARNERS)
def test_constant_features_give_one_number(learner):
    rng = np.random.default_rng(0)
    outcome = rng.choice([-1, 0, 1], 60)

    router = MetaRouter(learner, random_state=0).fit(np.ones((60, 2)), np.arange(60) < 20, outcome)

    assert len(set(router.predict(np.ones((5, 2))))) == 1


@pytest.mark.parametrize("learner", LEARNERS)
def test_preferences_may_be_the_rarer_source(learner):
    data = comparisons(150, 20, seed=0)

    router = MetaRouter(learner, random_state=0).fit(data.features, data.is_gold, data.outcome)

    assert np.corrcoef(router.predict(data.features), data.expected_gain)[0, 1] > 0.7


X, GOLD, OUTCOME = np.arange(40.0).reshape(20, 2), np.arange(20) < 8, np.tile([1.0, -1.0], 10)


@pytest.mark.parametrize(
    ("features", "is_gold", "outcome", "sentence"),
    [
        (
            X,
            np.arange(20) < FOLDS - 1,
            OUTCOME,
            "4 gold comparisons are fewer than the 5 folds. Add at least 1 more",
        ),
        (X, np.arange(20) >= FOLDS - 2, OUTCOME, "3 preference comparisons are fewer"),
        (X, np.ones(20), OUTCOME, "no preference comparisons"),
        (X, np.zeros(20), OUTCOME, "no gold comparisons"),
        (np.full((20, 2), np.nan), GOLD, OUTCOME, "Features must be finite"),
        (X, GOLD, np.full(20, np.nan), "finite outcome"),
        (X, GOLD, np.where(GOLD, 1.0, OUTCOME), "All gold outcomes are 1"),
        (X, GOLD, np.where(GOLD, OUTCOME, 0.0), "All preference outcomes are 0"),
        (X, GOLD[:-1], OUTCOME, "is_gold"),
        (X, GOLD * 2, OUTCOME, "is_gold"),
        (X, GOLD, OUTCOME[:-1], "outcome"),
        (X[:, 0], GOLD, OUTCOME, "shape"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(features, is_gold, outcome, sentence):
    with pytest.raises(ValueError, match=sentence):
        MetaRouter(random_state=0).fit(features, is_gold, outcome)


@pytest.mark.parametrize("scaling", ["variance", "maximum", "wasserstein"])
@pytest.mark.parametrize("sizes", [(1e-200, 1.0), (1.0, 1e-300), (1e6, 1e-9), (1e-320, 1.0)])
def test_gold_and_preferences_of_wholly_different_sizes_are_refused(scaling, sizes):
    gold, preference = (size * np.arange(1.0, 6.0) for size in sizes)

    with pytest.raises(ValueError, match="differ so much in size"):
        gold_scale(gold, preference, scaling)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="learner"):
        MetaRouter("x")
    with pytest.raises(ValueError, match="scaling"):
        MetaRouter(scaling="mean")
    with pytest.raises(ValueError, match="fitted first"):
        MetaRouter().predict(X)
    with pytest.raises(ValueError, match="sample weights"):
        MetaRouter("r", KNeighborsRegressor()).fit(X, GOLD, OUTCOME)


def test_routing_compares_gain_and_cost():
    gains = [0.5, 0.2, -0.1, 0.3]

    assert premium_items(gains, 0).tolist() == [True, True, False, True]
    assert premium_items(gains, 0.3).tolist() == [True, False, False, False]
    assert premium_items(gains, 0.3, [1, 0.5, 0, 2]).tolist() == [True, True, False, False]
    for arguments in ((gains, -1), (gains, 1, -1), (gains, 1, [1, 2]), ([np.nan], 1), (gains, np.inf)):
        with pytest.raises(ValueError, match=r"w must|at least 0|cost_gap|finite"):
            premium_items(*arguments)


def test_the_router_routes_by_its_own_predictions():
    features, is_gold, outcome, _ = linear_comparisons(50, 100)
    router = MetaRouter(regressor=LinearRegression(), random_state=0).fit(features, is_gold, outcome)

    assert (router.route(features, 0.5, 2.0) == (router.predict(features) > 1.0)).all()
    with pytest.raises(ValueError, match="features"):
        router.predict(features[:, :2])


def test_the_smallest_w_within_a_share_is_chosen():
    predicted, gain = [0.9, 0.6, 0.3, -0.2], [1, 0, 1, -1]

    chosen = choose_w(predicted, gain, max_share=0.5)

    assert chosen.w == pytest.approx(0.3)
    assert premium_items(predicted, chosen.w).tolist() == [True, True, False, False]
    assert premium_items(predicted, chosen.w * 0.999).sum() == 3
    assert (chosen.premium_share, chosen.premium_cost, chosen.mean_gain) == (0.5, 0.5, 0.25)
    assert choose_w(predicted, gain, max_share=1).w == 0
    assert choose_w(predicted, gain, max_share=0).premium_share == 0


def test_the_smallest_w_within_a_cost_is_chosen():
    # Gains for a unit of cost are 0.1, 0.4 and 1.
    chosen = choose_w([1.0, 0.8, 0.5], [1, 1, 1], [10, 2, 0.5], max_cost=1.0)

    assert chosen.w == pytest.approx(0.1)
    assert chosen.premium_cost == pytest.approx(2.5 / 3)


def test_a_limit_that_no_w_keeps_to_is_said():
    with pytest.raises(ValueError, match="No w"):
        choose_w([0.5, 0.5], [1, 1], 0.0, max_share=0.5)


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        (([0.1], [1]), {}),
        (([0.1], [1]), {"max_share": 0.5, "max_cost": 1}),
        (([0.1], [1]), {"max_share": 1.5}),
        (([0.1], [1]), {"max_cost": -1}),
        (([0.1], [1, 2]), {"max_share": 0.5}),
        (([], []), {"max_share": 0.5}),
        (([0.1], [np.nan]), {"max_share": 0.5}),
    ],
)
def test_limits_that_make_no_sense_are_refused(arguments, limits):
    with pytest.raises(ValueError, match=r"limit|between|at least|held-out"):
        choose_w(*arguments, **limits)


def test_both_learners_beat_every_baseline_with_few_gold_comparisons():
    scores = meta_scores(100, n_seeds=2)

    assert falls_short(scores, 100) == []


def test_both_learners_come_near_the_oracle_with_many_gold_comparisons():
    scores = meta_scores(1_000, n_seeds=1)

    assert all(scores[learner][1] >= 0.85 * scores["oracle"][1] for learner in LEARNERS)
