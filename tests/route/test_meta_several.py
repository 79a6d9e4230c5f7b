"""Among several agents the pair belongs to what is learned from; with two it is the meta-router as it is."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from benchmarks.routing import PAIRS, comparisons, several_comparisons, several_fall_short, several_scores
from route.meta import LEARNERS, MetaRouter
from route.meta_baselines import BASELINE_KINDS, BaselineRouter
from route.meta_several import SeveralBaseline, SeveralRouter

FOREST = RandomForestRegressor(10, min_samples_leaf=5)
QUALITY, LIKED = np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.5, -2.0])


def constant_comparisons(n: int, seed: int = 0):
    """Agents' qualities are those above wherever an item lies, and a judge adds what it likes of each."""
    rng = np.random.default_rng(seed)
    pairs = rng.permuted(np.array(PAIRS)[rng.integers(3, size=n)], axis=1)
    is_gold = np.arange(n) % 3 == 0
    seen = np.where(is_gold[:, np.newaxis], QUALITY, QUALITY + LIKED)
    rows = np.arange(n)
    outcome = seen[rows, pairs[:, 0]] - seen[rows, pairs[:, 1]] + rng.normal(scale=1e-6, size=n)
    return rng.normal(size=(n, 2)), is_gold, outcome, pairs


@pytest.mark.parametrize("learner", LEARNERS)
def test_with_two_agents_it_is_the_meta_router_to_the_last_bit(learner):
    data = comparisons(40, 100, seed=0)
    turned = np.arange(140) % 2 == 0
    pairs = np.where(turned[:, np.newaxis], [0, 1], [1, 0])

    two = MetaRouter(learner, FOREST, random_state=1).fit(data.features, data.is_gold, data.outcome)
    several = SeveralRouter(learner, FOREST, random_state=1).fit(
        data.features, data.is_gold, np.where(turned, -data.outcome, data.outcome), pairs
    )

    expected = two.predict(data.features)
    assert (several.predict(data.features) == expected).all()
    assert (several.gains(data.features) == np.column_stack([np.zeros(140), expected])).all()
    assert (several.allocate(data.features, 0.2, [0, 1]) == two.route(data.features, 0.2)).all()
    assert (several.n_left_out_, several.scale_) == (two.n_left_out_, two.scale_)
    for kind in BASELINE_KINDS:
        baseline = BaselineRouter(kind, FOREST, random_state=1).fit(data.features, data.is_gold, data.outcome)
        among = SeveralBaseline(kind, FOREST, random_state=1).fit(data.features, data.is_gold, data.outcome)
        assert (among.predict(data.features) == baseline.predict(data.features)).all()


def test_gains_and_the_bias_of_every_pair_are_learned():
    features, is_gold, outcome, pairs = constant_comparisons(600)

    router = SeveralRouter(regressor=LinearRegression(), scaling=None, random_state=0)
    router.fit(features, is_gold, outcome, pairs)

    for k in range(3):
        assert router.gains(features)[:, k] == pytest.approx(QUALITY[k] - QUALITY[0], abs=1e-3)
        for other in range(3):
            assert router.predict(features, k, other) == pytest.approx(QUALITY[k] - QUALITY[other], abs=1e-3)
            if k != other:
                bias = LIKED[k] - LIKED[other]
                assert router.shift(features, k, other) == pytest.approx(-bias, abs=1e-3)
    assert router.compared_.tolist() == [[1, 0], [2, 0], [2, 1]]
    assert router.pair_shift_ == pytest.approx([-0.5, 2.0, 2.5], abs=1e-3)


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_order_in_which_agents_are_named_turns_the_sign_and_nothing_else(learner):
    data = several_comparisons(30, 150, seed=0)
    first, turned = (
        SeveralRouter(learner, FOREST, random_state=2).fit(
            data.features, data.is_gold, sign * data.outcome, data.pairs[:, ::sign], data.items
        )
        for sign in (1, -1)
    )

    gains = first.gains(data.features)

    assert (turned.gains(data.features) == gains).all()
    for k in range(3):
        for other in range(3):
            forth, back = first.predict(data.features, k, other), first.predict(data.features, other, k)
            assert (forth == -back).all()
            assert forth == pytest.approx(gains[:, k] - gains[:, other])


def test_comparisons_of_an_item_are_never_on_both_sides_of_a_fold():
    class Watching(LinearRegression):  # type: ignore[misc]
        seen: list = []

        def fit(self, X, y, sample_weight=None):  # noqa: N803
            self.items_ = set(np.unique(X[:, 0]))
            return super().fit(X, y, sample_weight)

        def predict(self, X):  # noqa: N803
            self.seen.append((self.items_, set(np.unique(X[:, 0]))))
            return super().predict(X)

    data = several_comparisons(20, 40, seed=0)
    features = np.column_stack([np.random.default_rng(0).permutation(60)[data.items], data.features])
    SeveralRouter("r", Watching(), random_state=0).fit(
        features, data.is_gold, data.outcome, data.pairs, data.items
    )

    folds = Watching.seen[:5]
    assert set().union(*(asked for _, asked in folds)) == set(range(60))
    assert not any(learned & asked for learned, asked in folds)


def test_agents_that_were_never_compared_are_compared_through_others():
    features, is_gold, outcome, pairs = constant_comparisons(900)
    kept = pairs.sum(axis=1) != 2  # agents 2 and 0

    router = SeveralRouter(regressor=LinearRegression(), scaling=None, random_state=0)
    router.fit(features[kept], is_gold[kept], outcome[kept], pairs[kept])

    assert router.predict(features, 2, 0) == pytest.approx(3.0, abs=1e-3)
    with pytest.raises(ValueError, match="Agents 2 and 0 were not compared"):
        router.shift(features, 2, 0)


def test_preferences_about_a_pair_without_gold_are_left_out():
    features, is_gold, outcome, pairs = constant_comparisons(900)
    unanchored = pairs.sum(axis=1) == 2
    kept = ~(unanchored & is_gold)
    kept[np.flatnonzero(unanchored & is_gold)[:4]] = True  # fewer than folds

    router = SeveralRouter(regressor=LinearRegression(), scaling=None, random_state=0)
    router.fit(
        features[kept], is_gold[kept], outcome[kept] + 100 * (unanchored & ~is_gold)[kept], pairs[kept]
    )

    left_out = (unanchored & ~is_gold)[kept]
    assert (router.is_used_ == ~left_out).all()
    assert router.n_left_out_ == left_out.sum()
    assert router.compared_.tolist() == [[1, 0], [2, 1]]
    assert router.gains(features)[:, 2] == pytest.approx(3.0, abs=0.05)


def test_a_pair_that_only_people_compared_is_learned_from_them():
    features, is_gold, outcome, pairs = constant_comparisons(900)
    kept = is_gold | (pairs.sum(axis=1) != 2)

    router = SeveralRouter(regressor=LinearRegression(), scaling=None, random_state=0)
    router.fit(features[kept], is_gold[kept], outcome[kept], pairs[kept])

    assert router.predict(features, 2, 0) == pytest.approx(3.0, abs=1e-2)
    assert np.isnan(router.pair_shift_).tolist() == [False, True, False]


X, GOLD, OUTCOME = np.arange(240.0).reshape(120, 2), np.arange(120) < 60, np.tile([1.0, -1.0, 0.5], 40)
THREE = np.tile(PAIRS, (40, 1))


@pytest.mark.parametrize(
    ("pairs", "more", "sentence"),
    [
        (np.where(THREE == 2, 3, THREE), {}, r"agent 2 was not compared by people on at least 5 items"),
        (THREE, {"n_agents": 5}, r"agents 3, 4 were not compared"),
        (np.where(GOLD[:, None], [1, 0], THREE), {}, "agent 2 was not compared by people"),
        (THREE, {"n_agents": 2}, "none has the position 2"),
        (THREE, {"n_agents": 1}, "one agent only"),
        (np.ones((120, 2), dtype=int), {}, "two different agents"),
        (-THREE, {}, "pairs must name"),
        (THREE * 1.0, {}, "pairs must name"),
        (THREE[:-1], {}, "pairs must name"),
        (THREE, {"items": np.zeros(119, dtype=int)}, "items must hold"),
        (
            THREE,
            {"items": np.where(GOLD, np.arange(120) % 4, np.arange(120) + 9)},
            "4 items with gold comparisons",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused(pairs, more, sentence):
    with pytest.raises(ValueError, match=sentence):
        SeveralRouter(regressor=FOREST, random_state=0).fit(X, GOLD, OUTCOME, pairs, **more)


def test_wrong_use_is_refused():
    for fitted in (SeveralRouter(), SeveralBaseline("gold")):
        with pytest.raises(ValueError, match="fitted first"):
            fitted.predict(X)
    router = SeveralBaseline("gold", FOREST, random_state=0).fit(X, GOLD, OUTCOME, THREE)
    with pytest.raises(ValueError, match="their positions are 0 to 2"):
        router.predict(X, 3)
    with pytest.raises(ValueError, match="was not compared with the default"):
        SeveralBaseline("preference", FOREST).fit(X, GOLD, OUTCOME, np.where(GOLD[:, None], THREE, [1, 0]))


def test_both_learners_bring_more_than_each_agent_alone_and_chance_for_the_same_cost():
    scores = several_scores(100, n_seeds=1)

    assert several_fall_short(scores) == []
    for learner in LEARNERS:
        assert scores[learner][2] > max(scores[kind][2] for kind in BASELINE_KINDS)
