import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from review.sampling import choose_budget, draw, inclusion_probabilities

# Three decimals as criticizers give them, with zeros, ones and ties.
error_probs = st.lists(
    st.sampled_from([0.0, 0.001, 0.1, 0.25, 0.5, 0.5, 0.9, 0.999, 1.0]), min_size=1, max_size=40
)


def test_unknown_rules_and_bad_beta_are_refused():
    with pytest.raises(ValueError, match="threshold, normalize, exponential"):
        inclusion_probabilities([0.1], 1, "coin")
    for beta in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="must be above 0"):
            inclusion_probabilities([0.1, 0.4], 1, "exponential", beta=beta)


# What is particular to each rule.


def test_threshold_reports_the_cut_and_the_chances_within_its_tie():
    error_prob = [0.9, 0.5, 0.5, 0.5, 0.1]

    probabilities, parameters = inclusion_probabilities(
        error_prob, 3, "threshold", rng=np.random.default_rng(0)
    )

    assert set(probabilities.tolist()) == {0.0, 1.0}
    assert probabilities[0] == 1
    assert probabilities[4] == 0
    assert parameters == {"tau": 0.5, "tied": 3, "tied_slots": 2, "tied_prob": pytest.approx(2 / 3)}


def test_threshold_breaks_ties_by_its_generator_and_fairly():
    rng = np.random.default_rng(5)
    error_prob = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    chosen = np.mean(
        [inclusion_probabilities(error_prob, 2, "threshold", rng=rng)[0] for _ in range(4000)], axis=0
    )

    assert chosen[[0, 5]].tolist() == [1, 0]
    # A standard error is 0.0068; four of them.
    assert np.abs(chosen[1:5] - 0.25).max() < 0.028


def test_normalize_hands_on_what_is_cut_off():
    # Worked by hand: 3·(1, .5, .25, .25)/2 = (1.5, .75, .375, .375); then 2·(.5, .25, .25)/1 = (1, .5, .5).
    probabilities, parameters = inclusion_probabilities([1.0, 0.5, 0.25, 0.25], 3, "normalize")

    assert probabilities == pytest.approx([1, 1, 0.5, 0.5])
    assert parameters["scale"] == pytest.approx(2)


@given(error_prob=error_probs, budget=st.integers(1, 40))
def test_normalize_agrees_with_cutting_off_round_by_round(error_prob, budget):
    error_prob = np.array(error_prob)
    if budget >= np.count_nonzero(error_prob):
        return
    certain = np.zeros(len(error_prob), dtype=bool)
    while True:
        scale = (budget - certain.sum()) / error_prob[~certain].sum()
        over = ~certain & (scale * error_prob > 1 + 1e-12)
        if not over.any():
            break
        certain |= over
    expected = np.where(certain, 1.0, np.minimum(scale * error_prob, 1))

    probabilities, _ = inclusion_probabilities(error_prob, budget, "normalize")

    assert probabilities == pytest.approx(expected, abs=1e-9)


def test_normalize_shares_out_equally_where_no_suspicion_is_left():
    assert inclusion_probabilities([1.0, 0.5, 0.0, 0.0], 3, "normalize")[0].tolist() == [1, 1, 0.5, 0.5]
    assert inclusion_probabilities([0.0, 0.0, 0.0, 0.0], 1, "normalize")[0].tolist() == [0.25] * 4


def test_exponential_is_the_logistic_curve_around_alpha():
    error_prob = np.linspace(0, 1, 50)
    for budget in (1, 25, 49):
        for beta in (0.5, 10.0, 200.0):
            probabilities, parameters = inclusion_probabilities(error_prob, budget, "exponential", beta=beta)
            exponent = np.clip(-beta * (error_prob - parameters["alpha"]), -700, 700)
            assert probabilities == pytest.approx(1 / (1 + np.exp(exponent)), abs=1e-9)


def test_exponential_keeps_the_budget_even_when_it_is_nearly_a_step():
    error_prob = np.repeat([0.3, 0.7], 50)
    for beta in (1e3, 1e6, 1e9):
        probabilities, _ = inclusion_probabilities(error_prob, 20, "exponential", beta=beta)
        assert probabilities.sum() == pytest.approx(20)
        assert draw(probabilities, rng=np.random.default_rng(0)).sum() <= 20


@pytest.mark.parametrize("beta", [1e10, 1e300, math.inf, math.nan])
def test_a_step_too_steep_for_any_alpha_is_refused(beta):
    with pytest.raises(ValueError, match="at most 1,000,000,000"):
        inclusion_probabilities([0.3] * 10, 3, "exponential", beta=beta)


def test_error_probabilities_too_small_to_be_in_proportion_to_count_as_none():
    probabilities, parameters = inclusion_probabilities([1e-320] * 10, 3, "normalize")

    assert probabilities == pytest.approx([0.3] * 10)
    assert parameters == {"scale": None}


# The draw.


def test_every_pair_that_fits_can_be_drawn():
    # Systematic sampling in a fixed order would never draw neighbors together.
    rng = np.random.default_rng(0)
    together = np.zeros((6, 6))
    for _ in range(3000):
        selected = draw(np.full(6, 1 / 3), rng=rng)
        together += np.outer(selected, selected)

    assert together[~np.eye(6, dtype=bool)].min() > 0


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.integers(0, 2**32 - 1),
)
@example([0.1] * 10, 0)
@example([1 / 3] * 3, 0)
@example([5e-324], 0)
@example([1 - 2**-53] * 5, 0)
def test_a_draw_has_one_of_the_two_sizes_beside_the_sum(probabilities, seed):
    selected = draw(np.array(probabilities), rng=np.random.default_rng(seed))
    total = sum(probabilities)

    assert np.floor(total - 1e-6) <= selected.sum() <= np.ceil(total - 1e-6) + (total < 1e-6)


class Extreme(np.random.Generator):
    """A generator whose uniform numbers are all the same."""

    def __init__(self, number):
        super().__init__(np.random.PCG64(0))
        self.number = number

    def random(self, *args: Any, **kwargs: Any) -> Any:
        return self.number


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("probabilities", [[0.1] * 10, [0.3] * 10, [0.4] * 5, [0.7] * 10, [0.9] * 10])
def test_rounding_in_the_sum_moves_no_draw_off_its_size(number, probabilities):
    # In floating point the first two sums end just below a whole number, the last two just above one.
    selected = draw(probabilities, rng=Extreme(number))

    assert selected.sum() == round(sum(probabilities))


@pytest.mark.parametrize("probabilities", [[0.5, np.nan], [0.5, 1.1], [-0.1], [[0.5]]])
def test_invalid_inclusion_probabilities_are_refused(probabilities):
    with pytest.raises(ValueError, match="Inclusion probabilities"):
        draw(probabilities, rng=np.random.default_rng(0))


# Choosing a budget.


@pytest.mark.parametrize(
    ("n", "share", "budget"),
    [
        (1000, 0.1, 100),
        (999, 0.1, 99),
        (100, 0.29, 29),
        (10, 1.0, 10),
        (1_000_000, 0.000001, 1),
        (7, 0.15, 1),
    ],
)
def test_a_share_is_rounded_down(n, share, budget):
    assert choose_budget(n, share=share) == budget


def test_a_count_is_taken_as_it_is():
    assert choose_budget(10, count=1) == 1
    assert choose_budget(10, count=10) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "at least one review"),
        ({"count": -3}, "at least one review"),
        ({"count": 11}, "11 reviews is more than the 10 items"),
        ({"count": 2.5}, "whole number"),
        ({"count": float("nan")}, "whole number"),
        ({"count": True}, "whole number"),
        ({"share": 0.0}, "above 0 and at most 1"),
        ({"share": -0.1}, "above 0 and at most 1"),
        ({"share": 1.01}, "above 0 and at most 1"),
        ({"share": float("nan")}, "above 0 and at most 1"),
        ({"share": 0.05}, "0.05 of 10 items is less than one review"),
        ({}, "either as a number of reviews or as a share"),
        ({"count": 1, "share": 0.1}, "either as a number of reviews or as a share"),
    ],
)
def test_an_impossible_budget_is_refused_with_its_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose_budget(10, **arguments)


def test_without_items_there_is_no_budget():
    with pytest.raises(ValueError, match="no items"):
        choose_budget(0, count=1)
