"""Items go where gain minus w times cost is largest, and w keeps to what may be spent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from route.meta import choose_w, premium_items
from route.meta_allocation import allocate, choose_w_among
from route.meta_metrics import cost_curve, efficiency_curve

GAINS = [[0, 0.4, 0.9], [0, 0.5, 0.6], [0, -0.2, 0.3], [0, -0.1, -0.3]]
COSTS = [0, 1, 3]


def test_the_agent_with_the_largest_gain_for_its_cost_gets_an_item():
    assert allocate(GAINS, 0, COSTS).tolist() == [2, 2, 2, 0]
    # Of the second item agent 2 brings 0.05 for each further unit of cost, agent 1 brings 0.5.
    assert allocate(GAINS, 0.07, COSTS).tolist() == [2, 1, 2, 0]
    assert allocate(GAINS, 0.3, COSTS).tolist() == [1, 1, 0, 0]
    assert allocate(GAINS, 1, COSTS).tolist() == [0, 0, 0, 0]
    costs = [[0, 0, 3], [0, 1, 0], [0, 1, 1], [0, 1, 1]]
    assert allocate(GAINS, 0.2, costs).tolist() == [1, 2, 2, 0]


def test_the_smallest_w_within_a_limit_is_chosen():
    gold = [[0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, -1]]

    by_cost = choose_w_among(GAINS, gold, COSTS, max_cost=1)
    by_share = choose_w_among(GAINS, gold, COSTS, max_share=0.5)

    # 0.1 is what agent 2 brings the third item for a unit of cost, 0.25 what it brings the first one above agent 1.
    assert by_cost.w == pytest.approx(0.1)
    assert (by_cost.extra_cost, by_cost.moved_share, by_cost.mean_gain) == (1.0, 0.5, 0.25)
    assert by_share == by_cost
    assert choose_w_among(GAINS, gold, COSTS, max_cost=2).w == pytest.approx(0.05)
    assert choose_w_among(GAINS, gold, COSTS, max_share=1).w == 0
    assert choose_w_among(GAINS, gold, COSTS, max_cost=0).moved_share == 0


numbers = st.integers(-4, 4).map(lambda number: number / 4)
items = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=10)
prices = st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 4))


@settings(deadline=None)
@given(items, prices, st.floats(0, 4))
def test_no_smaller_w_keeps_to_the_cost(gains, costs, most):
    among = np.column_stack([np.zeros(len(gains)), gains])
    extra = np.array([0, *costs], dtype=float)

    chosen = choose_w_among(among, np.zeros(among.shape), extra, max_cost=most)

    assert extra[allocate(among, chosen.w, extra)].mean() <= most + 1e-9
    if chosen.w > 0:
        below = allocate(among, chosen.w - 1e-6, extra)
        assert extra[below].mean() > most


@settings(deadline=None)
@given(items, prices)
def test_the_curve_says_what_allocating_by_w_costs_and_brings(gains, costs):
    among = np.column_stack([np.zeros(len(gains)), gains])
    gold = np.roll(among, 1, axis=0)
    extra = np.array([0, *costs], dtype=float)

    curve = cost_curve(among, gold, extra)

    assert curve.cost_share[-1] == pytest.approx(1)
    assert (np.diff(curve.cost_share) > 0).all()
    assert curve.shares.sum(axis=1) == pytest.approx(1)
    for w in (0.013, 0.29, 1.03):
        agents = allocate(among, w, extra)
        at = extra[agents].mean() / extra.max()
        place = np.abs(curve.cost_share - at).argmin()
        assert curve.cost_share[place] == pytest.approx(at)
        assert curve.mean_gain[place] == pytest.approx(gold[np.arange(len(gold)), agents].mean())


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12), st.floats(0, 1))
def test_two_agents_are_the_case_of_premium_and_cheap(pairs, share):
    predicted, gold = (np.array(part) for part in zip(*pairs, strict=True))
    both, realized = (np.column_stack([np.zeros(len(part)), part]) for part in (predicted, gold))

    two, among = (
        choose_w(predicted, gold, max_share=share),
        choose_w_among(both, realized, [0, 1], max_share=share),
    )

    assert (two.w, two.premium_share, two.mean_gain) == (among.w, among.moved_share, among.mean_gain)
    assert (allocate(both, two.w, [0, 1]) == premium_items(predicted, two.w)).all()
    old, new = efficiency_curve(predicted, gold), cost_curve(both, realized, [0, 2.5])
    assert np.interp(old.premium_share, new.cost_share, new.efficiency_gain) == pytest.approx(
        old.efficiency_gain
    )
    assert new.area == pytest.approx(old.area)


def test_a_curve_against_agents_handed_out_at_random():
    curve = cost_curve([[0, 1, 2], [0, 2, 1]], [[0, 1, 3], [0, 1, 1]], [0, 1, 2])

    # The second item first, by 2 for a unit; the first goes on over agent 1 at once; at last the second costs a gain.
    assert curve.cost_share.tolist() == [0, 0.25, 0.75, 1]
    assert curve.shares.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]]
    assert curve.mean_gain.tolist() == [0, 0.5, 2, 2]
    assert curve.efficiency_gain.tolist() == [0, 0, 0.5, 0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([[0, 1]], -1, [0, 1]), "w must"),
        (([[0, np.nan]], 0, [0, 1]), "finite"),
        (([[0]], 0, [0]), "at least two agents"),
        (([[1, 1]], 0, [0, 1]), "over the default"),
        (([[0, 1]], 0, [0, -1]), "less than the default"),
        (([[0, 1]], 0, [1, 1]), "above the default"),
        (([[0, 1]], 0, [0, 1, 2]), "each of the 2 agents"),
    ],
)
def test_what_cannot_be_allocated_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        allocate(*arguments)


def test_limits_and_curves_that_make_no_sense_are_refused():
    gains = [[0, 1.0], [0, 1.0]]
    for limits in ({}, {"max_share": 0.5, "max_cost": 1}, {"max_share": 2}, {"max_cost": -1}):
        with pytest.raises(ValueError, match=r"limit|between|at least"):
            choose_w_among(gains, gains, [0, 1], **limits)
    with pytest.raises(ValueError, match="No w keeps"):
        choose_w_among(gains, gains, [0, 0], max_share=0.5)
    with pytest.raises(ValueError, match="gold gain of each agent"):
        choose_w_among(gains, gains[:1], [0, 1], max_share=0.5)
    with pytest.raises(ValueError, match="must cost more"):
        cost_curve(gains, gains, [0, 0])
    with pytest.raises(ValueError, match="gold gains of each agent"):
        cost_curve(gains, gains[:1], [0, 1])
