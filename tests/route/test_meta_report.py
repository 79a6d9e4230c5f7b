"""The report learns once what its fits share, several at a time, and says what each of them says alone."""

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from benchmarks.routing import comparisons, several_comparisons
from route.meta import FOLDS, LEARNERS, MetaRouter
from route.meta_baselines import BASELINE_KINDS, BaselineRouter
from route.meta_report import held_out_parts, report_among, report_of
from route.meta_several import SeveralBaseline, SeveralRouter
from route.meta_sharing import Dealt, SharedFits

GOLD = 30
NAMES = {
    "dr": "Meta-router, DR-learner",
    "r": "Meta-router, R-learner",
    "gold": "Gold alone",
    "preference": "Preferences alone",
    "pooled": "Both, pooled",
    "mean_shift": "Both, mean-shifted",
}


@pytest.fixture
def small_forests(monkeypatch):
    """So that a report takes seconds, as trees are of no matter here."""
    monkeypatch.setattr("route.meta._TREES", 5)


def parts_of(n_gold: int, seed: int):
    order = np.random.default_rng([seed, n_gold]).permutation(n_gold)
    return np.array_split(order, FOLDS)


@pytest.mark.usefixtures("small_forests")
@pytest.mark.parametrize("learner", LEARNERS)
def test_every_line_is_what_each_method_says_of_gold_that_it_alone_did_not_learn_from(learner):
    data = comparisons(GOLD, 60, seed=3)
    gains = data.outcome[:GOLD]
    everything: tuple[Any, ...] = data.features, data.is_gold, data.outcome

    report = report_of(*everything, learner=learner, seed=3)

    alone: Any = MetaRouter(learner, random_state=3)
    fits = SharedFits()
    alone.fit(*everything, fits=fits)
    assert (report.router.predict(data.features) == alone.predict(data.features)).all()
    folds = np.full(len(data.features), -1)
    folds[alone.is_used_] = fits.folds
    expected = {kind: np.zeros(GOLD) for kind in (*LEARNERS, *BASELINE_KINDS)}
    for part in parts_of(GOLD, 3):
        rows = ~np.isin(np.arange(len(folds)), part)
        used = rows & (folds >= 0)
        for kind in LEARNERS:
            dealt = Dealt(folds[used])
            router: Any = MetaRouter(kind, random_state=3)
            router.fit(*(each[used] for each in everything), dealt=dealt)
            expected[kind][part] = router.predict(data.features[part])
        for kind in BASELINE_KINDS:
            baseline: Any = BaselineRouter(kind, random_state=3)
            baseline.fit(*(each[rows] for each in everything))
            expected[kind][part] = baseline.predict(data.features[part])
    assert (report.predicted == expected[learner]).all()
    errors = {line.name: line.squared_error for line in report.lines[: len(expected)]}
    assert errors == {NAMES[kind]: ((said - gains) ** 2).mean() for kind, said in expected.items()}
    assert report.lines[0].name == NAMES[learner]


@pytest.mark.usefixtures("small_forests")
def test_among_several_agents_all_comparisons_of_an_item_are_held_out_together():
    data = several_comparisons(GOLD, 60, seed=3)
    everything: tuple[Any, ...] = data.features, data.is_gold, data.outcome, data.pairs
    known = np.unique(data.items[data.is_gold])
    asked = np.array([np.flatnonzero(data.items == item)[0] for item in known])
    gains = np.random.default_rng(0).normal(size=(len(known), 3)) * [0, 1, 1]

    among: Any = report_among
    report = among(
        *everything, data.items, gains, np.array([0.0, 1.0, 3.0]), learner="dr", scaling=None, seed=3
    )

    alone: Any = SeveralRouter("dr", scaling=None, random_state=3)
    fits = SharedFits()
    alone.fit(*everything, data.items, 3, fits=fits)
    assert (report.router.gains(data.features) == alone.gains(data.features)).all()
    expected, pooled = np.zeros(gains.shape), np.zeros(gains.shape)
    folds = np.full(len(data.features), -1)
    folds[alone.is_used_] = fits.folds
    for part in parts_of(len(known), 3):
        rows = ~(data.is_gold & np.isin(data.items, known[part]))
        used = rows & (folds >= 0)
        router: Any = SeveralRouter("dr", scaling=None, random_state=3)
        router.fit(*(each[used] for each in everything), data.items[used], 3, dealt=Dealt(folds[used]))
        expected[part] = router.gains(data.features[asked[part]])
        baseline: Any = SeveralBaseline("pooled", scaling=None, random_state=3)
        baseline.fit(*(each[rows] for each in everything), 3)
        pooled[part] = baseline.gains(data.features[asked[part]])
    assert (report.predicted == expected).all()
    errors = {line.name: line.squared_error for line in report.lines}
    assert errors["Both, pooled"] == ((pooled - gains)[:, 1:] ** 2).mean()


@pytest.mark.usefixtures("small_forests")
def test_what_is_learned_of_the_preferences_alone_is_learned_once(monkeypatch):
    data = comparisons(GOLD, 60, seed=3)
    fitted: list[int] = []
    fit = RandomForestRegressor.fit

    def counting(forest: Any, features: Any, outcomes: Any, sample_weight: Any = None) -> Any:
        fitted.append(len(outcomes))
        return fit(forest, features, outcomes, sample_weight)

    monkeypatch.setattr(RandomForestRegressor, "fit", counting)
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    report_of(data.features, data.is_gold, data.outcome, learner="dr", seed=3)

    # 48 of the 60 preferences in each of 5 folds, whichever gold is held out and whoever learns; all of them once.
    assert (fitted.count(48), fitted.count(60)) == (FOLDS, 1)


@pytest.mark.usefixtures("small_forests")
def test_it_says_how_many_fits_are_done():
    data = comparisons(GOLD, 60, seed=3)
    said: list[tuple[int, int]] = []

    report_of(
        data.features,
        data.is_gold,
        data.outcome,
        learner="dr",
        seed=3,
        between=lambda done=0, total=0: said.append((done, total)),
    )

    done = [number for number, _ in said]
    assert done == sorted(done)
    assert {total for _, total in said} == {
        31
    }  # the router, and six methods, each without five parts of the gold
    assert 0 < done[-1] <= 31


@pytest.mark.usefixtures("small_forests")
def test_whoever_waits_can_end_it():
    data = comparisons(GOLD, 60, seed=3)

    def stop(done: int = 0, total: int = 0) -> None:
        raise RuntimeError("taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        report_of(data.features, data.is_gold, data.outcome, learner="dr", seed=3, between=stop)


@pytest.mark.usefixtures("small_forests")
def test_many_features_are_reduced_once_and_the_router_takes_them_as_they_come():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(90, 60))
    is_gold = np.arange(90) < GOLD
    outcome = features[:, 0] + rng.normal(size=90)

    report = report_of(features, is_gold, outcome, learner="dr", seed=0)

    alone = MetaRouter("dr", random_state=0).fit(features, is_gold, outcome)
    assert (report.router.predict(features) == alone.predict(features)).all()


@pytest.mark.usefixtures("small_forests")
def test_what_cannot_be_learned_is_an_error_of_the_router_and_a_missing_line_of_a_baseline():
    data = comparisons(GOLD, 60, seed=3)
    with pytest.raises(ValueError, match="All preference outcomes are 0"):
        report_of(data.features, data.is_gold, data.outcome * data.is_gold, learner="dr", seed=3)

    # Pooled sources know all three agents; no preference names the third.
    rng = np.random.default_rng(0)
    items = np.repeat(np.arange(60), 3)
    pairs = np.tile([[1, 0], [2, 0], [2, 1]], (60, 1))
    is_gold = items < GOLD
    kept = is_gold | (pairs == (1, 0)).all(axis=1)
    report = report_among(
        rng.normal(size=(60, 3))[items][kept],
        is_gold[kept],
        rng.normal(size=180)[kept],
        pairs[kept],
        items[kept],
        rng.normal(size=(GOLD, 3)) * [0, 1, 1],
        np.array([0.0, 1.0, 2.0]),
        learner="dr",
        seed=0,
    )
    assert [each.split(":")[0] for each in report.missing] == ["Preferences alone"]


def test_no_part_holds_all_gold_of_one_outcome() -> None:
    for seed in range(200):
        gains = np.zeros(40)
        first = held_out_parts(np.arange(40.0), seed)[0]
        gains[first[:5]] = 1.0  # all in the part that would be held out first

        parts = held_out_parts(gains, seed)

        assert all(np.delete(gains, part).any() for part in parts)
