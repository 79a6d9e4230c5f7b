"""Every baseline keeps to the budget and escalates whom its rule says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from route.replay import escalation_budget, routing_metrics
from route.trace_baselines import (
    BASELINES,
    ai_only,
    baseline_escalations,
    highest_risk_levels,
    highest_scores,
    least_similar,
    random_items,
    within_budget,
)


def places(escalated):
    return np.flatnonzero(escalated).tolist()


def test_scores_take_the_highest_and_ties_by_place():
    assert places(highest_scores([0.1, 0.9, 0.5, 0.9, 0.2], 0.4)) == [1, 3]
    assert places(highest_scores([1, 1, 1, 1], 0.5)) == [0, 1]
    assert places(least_similar([0.1, 0.9, -0.5], 0.67)) == [0, 2]
    assert places(highest_risk_levels(["low", "high", "", "medium", "high"], 0.6)) == [1, 3, 4]
    assert places(highest_risk_levels(["low", "unheard of"], 0.5)) == [0]


def test_decisions_are_cut_by_priority():
    decisions = [1, 0, 1, 1, 0]

    assert places(within_budget(decisions, 0.4)) == [0, 2]
    assert places(within_budget(decisions, 0.4, priority=[0.1, 0.9, 0.2, 0.3, 0.8])) == [2, 3]
    assert places(within_budget(decisions, 1)) == [0, 2, 3]
    assert places(within_budget(decisions, 0)) == []


def test_chance_is_seeded_and_takes_as_many():
    one, same = (random_items(3, 10, rng=np.random.default_rng(1)) for _ in range(2))

    assert one.sum() == 3
    assert places(one) == places(same)
    assert ai_only(4).tolist() == [False] * 4
    with pytest.raises(ValueError, match="cannot"):
        random_items(3, 2, rng=np.random.default_rng(1))


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 3))
def test_no_baseline_is_above_the_budget(n, limit, seed):
    rng = np.random.default_rng(seed)
    budget = escalation_budget(limit, n)
    found = baseline_escalations(
        limit,
        rng.random(n),
        n_escalated=budget,
        rng=rng,
        full_trace=rng.random(n) < 0.5,
        no_trace=rng.random(n) < 0.5,
        trace_only=rng.random(n) < 0.5,
        trace_and_retrieval=rng.random(n) < 0.5,
        similarity=rng.random(n),
        logistic=rng.random(n),
        stated_risk=rng.choice(["low", "medium", "high"], n),
    )

    assert tuple(found) == BASELINES
    for escalated in found.values():
        assert escalated.shape == (n,)
        assert escalated.sum() <= budget
        routing_metrics(np.ones(n), escalated)


def test_only_what_was_given_is_in_the_table():
    found = baseline_escalations(0.5, [0.1, 0.2], n_escalated=1, rng=np.random.default_rng(0))

    assert list(found) == ["AI only", "MLP", "random"]
    assert places(found["MLP"]) == [1]


def test_wrong_values_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="trace only"):
        baseline_escalations(0.5, [0.1, 0.2], n_escalated=1, rng=rng, trace_only=[1])
    with pytest.raises(ValueError, match="priorities"):
        within_budget([1, 0], 0.5, priority=[0.1])
    with pytest.raises(ValueError, match="finite"):
        highest_scores([0.1, np.nan], 0.5)
    with pytest.raises(ValueError, match="true or false"):
        within_budget([1, 2], 0.5)
