"""What every registered sampling rule keeps to; a new rule is held to it by being registered."""

import json
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from review.sampling import RULES, draw, inclusion_probabilities

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "act.json").read_text())["cases"]

pytestmark = pytest.mark.parametrize("rule", RULES)

# Three decimals as criticizers give them, with zeros, ones and ties.
error_probs = st.lists(
    st.sampled_from([0.0, 0.001, 0.1, 0.25, 0.5, 0.5, 0.9, 0.999, 1.0]), min_size=1, max_size=40
)
seeds = st.integers(0, 2**32 - 1)


def chances(error_prob, budget, rule, *, rounds, seed):
    """The mean of π over rounds: each item's chance where the rule breaks ties at random, else π itself."""
    rng = np.random.default_rng(seed)
    drawn = [inclusion_probabilities(error_prob, budget, rule, rng=rng)[0] for _ in range(rounds)]
    return np.mean(drawn, axis=0)


@given(error_prob=error_probs, budget=st.integers(0, 50), seed=seeds)
def test_the_budget_is_spent_and_suspicion_followed(rule, error_prob, budget, seed):
    error_prob = np.array(error_prob)
    probabilities, parameters = inclusion_probabilities(
        error_prob, budget, rule, rng=np.random.default_rng(seed)
    )

    assert probabilities.shape == error_prob.shape
    assert probabilities.dtype == np.float64
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert probabilities.sum() == pytest.approx(min(budget, len(error_prob)), abs=1e-9)
    assert json.loads(json.dumps(parameters, allow_nan=False)) == parameters
    order = np.argsort(error_prob, kind="stable")
    rises = np.diff(error_prob[order]) > 0
    assert np.all(np.diff(probabilities[order])[rises] >= -1e-12)


@given(error_prob=error_probs, budget=st.integers(0, 50), seed=seeds)
@example(error_prob=[0.1] * 10, budget=3, seed=0)
def test_a_selection_is_of_the_budgets_size_and_repeats_under_its_seed(rule, error_prob, budget, seed):
    def select():
        rng = np.random.default_rng(seed)
        probabilities, parameters = inclusion_probabilities(error_prob, budget, rule, rng=rng)
        return probabilities, parameters, draw(probabilities, rng=rng)

    probabilities, parameters, selected = select()

    assert selected.dtype == np.bool_
    assert selected.sum() == min(budget, len(error_prob))
    assert not selected[probabilities == 0].any()
    assert selected[probabilities == 1].all()
    again = select()
    assert np.array_equal(probabilities, again[0])
    assert parameters == again[1]
    assert np.array_equal(selected, again[2])


def test_without_a_generator_it_repeats_too(rule):
    error_prob = [0.5] * 30

    first, _ = inclusion_probabilities(error_prob, 7, rule)

    assert np.array_equal(first, inclusion_probabilities(error_prob, 7, rule)[0])


def test_what_is_given_is_left_as_it_was(rule):
    error_prob = np.array([0.3, 0.9, 0.3, 0.0])

    inclusion_probabilities(error_prob, 2, rule)

    assert error_prob.tolist() == [0.3, 0.9, 0.3, 0.0]


@given(order=st.permutations(range(25)), budget=st.integers(0, 30))
def test_items_that_differ_keep_their_probabilities_in_any_order(rule, order, budget):
    error_prob = np.random.default_rng(3).permutation(25) / 24

    straight, _ = inclusion_probabilities(error_prob, budget, rule)
    mixed, _ = inclusion_probabilities(error_prob[order], budget, rule)

    assert mixed == pytest.approx(straight[order], abs=1e-12)


def test_items_that_tie_have_the_same_chances_in_any_order(rule):
    error_prob = np.array([0.1, 0.6, 0.6, 0.6, 0.6, 0.9, 0.6, 0.1, 0.6, 0.0])
    order = np.random.default_rng(0).permutation(10)

    straight = chances(error_prob, 4, rule, rounds=2000, seed=1)
    mixed = chances(error_prob[order], 4, rule, rounds=2000, seed=2)

    # A share of 2,000 has a standard error of at most 0.0112, the difference of two of them 0.0158; four of those.
    assert np.abs(mixed - straight[order]).max() < 0.064
    assert np.ptp(straight[error_prob == 0.6]) < 0.064


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_all_equal_items_have_equal_chances(rule, value):
    rng = np.random.default_rng(1)
    means = np.zeros(8)
    for _ in range(2000):
        probabilities, _ = inclusion_probabilities(np.full(8, value), 3, rule, rng=rng)
        means += draw(probabilities, rng=rng) / 2000

    # Each mean has a standard error of at most 0.011; four of them.
    assert np.abs(means - 3 / 8).max() < 0.045


def test_one_item_no_budget_and_more_budget_than_items(rule):
    assert inclusion_probabilities([0.2], 1, rule)[0].tolist() == [1.0]
    assert inclusion_probabilities([0.0], 5, rule)[0].tolist() == [1.0]
    assert inclusion_probabilities([0.2], 0, rule)[0].tolist() == [0.0]
    assert inclusion_probabilities([0.2, 0.0], 0, rule)[0].tolist() == [0.0, 0.0]
    assert inclusion_probabilities([0.2, 0.0], 9, rule)[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("error_prob", "message"),
    [
        ([0.1, np.nan], "NaN"),
        ([np.nan], "NaN"),
        ([0.1, np.inf], "infinity"),
        ([0.1, 1.2], "between 0 and 1"),
        ([-0.1, 0.2], "between 0 and 1"),
        ([], "at least one item"),
        ([[0.1, 0.2]], "one-dimensional"),
        (0.5, "one-dimensional"),
    ],
)
def test_invalid_error_probabilities_are_refused(rule, error_prob, message):
    with pytest.raises(ValueError, match=message):
        inclusion_probabilities(error_prob, 1, rule)


@pytest.mark.parametrize("budget", [-1, 1.5, True, np.nan])
def test_invalid_budgets_are_refused(rule, budget):
    with pytest.raises(ValueError, match="whole number of reviews"):
        inclusion_probabilities([0.1, 0.2], budget, rule)


def test_ranks_alone_are_refused_by_rules_that_need_probabilities(rule):
    ranks = np.array([5.0, -1.0, 3.0, 4.0])

    if RULES[rule].needs_probabilities:
        with pytest.raises(ValueError, match="only ranks"):
            inclusion_probabilities(ranks, 2, rule, rank_only=True)
    else:
        probabilities, _ = inclusion_probabilities(ranks, 2, rule, rank_only=True)
        assert probabilities.tolist() == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_expected_figures(rule, case):
    """π where figures of it are given; for `threshold` the errors among the selected, which are the AQG."""
    probabilities, parameters = inclusion_probabilities(
        case["error_prob"], case["budget"], rule, beta=case["exponential_beta"]
    )

    if rule == "threshold":
        error_prob, is_error = np.array(case["error_prob"]), np.array(case["is_error"], dtype=bool)
        tied = error_prob == parameters["tau"]
        expected = np.where(tied, parameters["tied_prob"], error_prob > parameters["tau"])
        assert expected[is_error].sum() / is_error.sum() == pytest.approx(case["aqg_at_budget"], abs=1e-9)
        assert np.array_equal(probabilities[~tied], expected[~tied])
    elif f"{rule}_inclusion" in case:
        assert probabilities == pytest.approx(case[f"{rule}_inclusion"], abs=1e-9)
    if f"{rule}_alpha" in case:
        assert parameters["alpha"] == pytest.approx(case[f"{rule}_alpha"], abs=1e-9)


def test_a_million_items_take_less_than_two_seconds(rule):
    rng = np.random.default_rng(0)
    error_prob = rng.random(1_000_000)
    start = process_time()

    probabilities, _ = inclusion_probabilities(error_prob, 100_000, rule, rng=rng)
    selected = draw(probabilities, rng=rng)

    assert process_time() - start < 2
    assert selected.sum() == 100_000
