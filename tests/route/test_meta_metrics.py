"""Efficiency curves in cases worked by hand, and the laws that they follow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from route.meta_metrics import RoutingCost, efficiency_curve, routing_cost


def test_a_worked_curve():
    curve = efficiency_curve([0.1, 0.9, 0.5, 0.3], [-1, 1, 0, 2])

    assert curve.premium_share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.total_efficiency.tolist() == [0, 1, 1, 3, 2]
    # Random routing has 0, 0.5, 1, 1.5 and 2.
    assert curve.efficiency_gain == pytest.approx([0, 0.5 / 4, 0, 1.5 / 4, 0])
    assert curve.area == pytest.approx(0.25 * (0.5 + 1.5) / 4)


def test_ties_are_taken_in_expectation():
    assert efficiency_curve([0.5, 0.5, 0.1], [1, 0, 0]).total_efficiency == pytest.approx([0, 0.5, 1, 1])
    assert efficiency_curve([0.0, 0.0, 0.0], [1, -1, 3]).area == pytest.approx(0)


items = st.lists(st.tuples(st.integers(-3, 3), st.integers(-5, 5)), min_size=1, max_size=12)


@settings(deadline=None)
@given(items, st.randoms(use_true_random=False))
def test_the_curve_does_not_depend_on_the_order_of_items_and_the_best_order_wins(pairs, random):
    predicted, gain = map(list, zip(*pairs, strict=True))
    shuffled = random.sample(pairs, len(pairs))

    curve = efficiency_curve(predicted, gain)

    again = efficiency_curve(*zip(*shuffled, strict=True))
    assert again.efficiency_gain == pytest.approx(curve.efficiency_gain)
    assert curve.efficiency_gain[[0, -1]] == pytest.approx([0, 0])
    assert curve.area <= efficiency_curve(gain, gain).area + 1e-9
    assert efficiency_curve([-score for score in predicted], gain).area == pytest.approx(-curve.area)


@pytest.mark.parametrize("arguments", [([], []), ([1, 2], [1]), ([np.nan], [1]), ([[1]], [[1]])])
def test_wrong_values_are_refused(arguments):
    with pytest.raises(ValueError, match="item"):
        efficiency_curve(*arguments)


def test_cost_against_the_two_annotators_alone():
    assert routing_cost([1, 0, 0, 0], 4, 1) == RoutingCost(7, 16, 4, 9 / 16)
    assert routing_cost([1, 0], [3, 5], [1, 2]) == RoutingCost(5, 8, 3, 3 / 8)
    assert routing_cost([1], 0, 0).saved is None
    for arguments in (([2], 1, 1), ([], 1, 1), ([1], -1, 1), ([1], 1, [1, 2])):
        with pytest.raises(ValueError, match="item"):
            routing_cost(*arguments)
