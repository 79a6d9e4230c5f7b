"""Baselines do what their definitions say, in cases worked by hand."""

import numpy as np
import pytest

from route.deferral_baselines import (
    ROUTER_KINDS,
    SingleExpertRouter,
    confidence_cascade,
    majority_vote,
    random_allocation,
    single_agent,
)


def test_a_single_agent_gets_everything():
    assert single_agent(2, 3, 4).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="numbered from 0 to 3"):
        single_agent(4, 3, 4)


def test_a_random_allocation_keeps_the_shares():
    allocation = np.repeat([0, 1, 2], [50, 30, 20])

    drawn = random_allocation(allocation, rng=np.random.default_rng(0))

    assert np.bincount(drawn).tolist() == [50, 30, 20]
    assert (drawn != allocation).any()
    assert (drawn == random_allocation(allocation, rng=np.random.default_rng(0))).all()


def test_votes_are_counted_and_ties_go_to_the_earliest_agent():
    assert majority_vote([["a", "b", "b"], ["a", "b", "c"], ["c", "a", "a"], ["a", "a", "b"]]).tolist() == [
        1,
        0,
        1,
        0,
    ]
    with pytest.raises(ValueError, match="vote"):
        majority_vote([1, 2])


def test_a_cascade_stops_at_the_first_confident_agent():
    taken, asked = confidence_cascade([[0.9, 0.1, 0.1], [0.2, 0.8, 0.9], [0.1, 0.1, 0.1]], 0.8)

    assert taken.tolist() == [0, 1, 2]
    assert asked.tolist() == [[True, False, False], [True, True, False], [True, True, True]]


@pytest.mark.parametrize("confidences", [[[1.2, 0.1]], [[np.nan, 0.1]], [0.3]])
def test_confidences_that_are_none_are_refused(confidences):
    with pytest.raises(ValueError, match="onfidence"):
        confidence_cascade(confidences, 0.5)


@pytest.mark.parametrize("kind", ROUTER_KINDS)
def test_single_expert_routers_learn_where_the_cheap_model_is_good_enough(kind):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 2))
    cheap = (features[:, :1] + rng.normal(scale=0.3, size=(500, 5)) > 0).astype(float) * 0.9
    expert = np.full((500, 5), 0.8)

    allocation = SingleExpertRouter(kind).fit(features, cheap, expert).allocate(features)

    assert ((allocation == 1) == (features[:, 0] < 0)).mean() > 0.9


def test_targets_of_the_three_kinds():
    cheap, expert = [[0.0, 1.0], [0.4, 0.4]], [[0.5, 1.0], [0.5, 0.5]]
    features = [[0.0], [1.0]]

    def targets(kind):
        router = SingleExpertRouter(kind).fit(features, cheap, expert)
        return router._targets(np.array(cheap), np.array(expert)).tolist(), router.relaxation_

    assert targets("deterministic") == ([0, 0], 0)
    # H of the first item is −0.5, −1, 0.5 and 0; of the second always −0.1.
    assert targets("probabilistic") == ([0.5, 0], 0)
    # At t = 0.1 the second item becomes good enough with certainty, no t tells the two apart better.
    assert targets("relaxed") == ([0.5, 0], 0)


def test_the_relaxation_makes_room_where_the_expert_always_wins():
    features = np.linspace(-1, 1, 40)[:, None]
    expert = np.full(40, 1.0)
    cheap = np.where(features[:, 0] > 0, 0.9, 0.1)

    strict = SingleExpertRouter("probabilistic").fit(features, cheap, expert)
    relaxed = SingleExpertRouter("relaxed").fit(features, cheap, expert)

    assert (strict.allocate(features) == 1).all()
    assert (strict.predict(features) == 0).all()
    assert relaxed.relaxation_ == pytest.approx(0.1, abs=0.01)
    assert (relaxed.allocate(features) == (features[:, 0] < 0)).all()


def test_wrong_use_of_routers_is_refused():
    with pytest.raises(ValueError, match="not neural"):
        SingleExpertRouter("neural")
    with pytest.raises(ValueError, match="threshold"):
        SingleExpertRouter(threshold=1.1)
    with pytest.raises(ValueError, match="fitted first"):
        SingleExpertRouter().predict([[1.0]])
    with pytest.raises(ValueError, match="Each of the 2 items"):
        SingleExpertRouter().fit([[1.0], [2.0]], [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        SingleExpertRouter().fit([[1.0]], [np.nan], [1.0])
