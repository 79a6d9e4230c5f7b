import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from criticize.metrics import (
    annotation_quality_gain,
    area_under_budget_sensitivity,
    budget_curve,
    detection_counts,
    perplexity_priority,
)

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "act.json").read_text())["cases"]

# Coarse priorities, so that ties are common.
scored_items = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30)


def gains_at_all_budgets(priority, is_error):
    curve = budget_curve(priority, is_error)
    assert curve is not None
    return curve[1]


def split(scored):
    return np.array([score for score, _ in scored], dtype=float), np.array([error for _, error in scored])


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_expected_figures(case):
    priority, is_error = case["error_prob"], case["is_error"]

    assert annotation_quality_gain(priority, is_error, case["budget"]) == pytest.approx(
        case["aqg_at_budget"], abs=1e-9
    )
    for budget, gain in case["aqg_at"].items():
        assert annotation_quality_gain(priority, is_error, int(budget)) == pytest.approx(gain, abs=1e-9)
    assert area_under_budget_sensitivity(priority, is_error) == pytest.approx(case["abs"], abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_perplexity_orders_as_expected(case):
    says_wrong = [answer == "yes" for answer in case["perplexity"]["answer"]]
    priority = perplexity_priority(says_wrong, case["perplexity"]["ppl"])
    order = np.argsort(-priority, kind="stable")

    assert order.tolist() == case["perplexity"]["most_suspicious_first"]


def test_worked_by_hand():
    # Reviewed in the order error, right, error, right: 0, ½, ½, 1, 1 of the errors after 0 … 4 reviews.
    priority, is_error = [0.9, 0.5, 0.3, 0.1], [True, False, True, False]
    curve = budget_curve(priority, is_error)

    assert curve is not None
    assert curve[0].tolist() == [0, 1, 2, 3, 4]
    assert curve[1].tolist() == [0, 0.5, 0.5, 1, 1]
    assert area_under_budget_sensitivity(priority, is_error) == pytest.approx(3 / 4)


def test_perfect_worst_and_uninformed_orders():
    is_error = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    n, errors = 10, 2

    # Perfect: AQG is 0, ½, then 1 for the nine budgets from 2 on. Worst: 1 at N only, ½ before.
    assert area_under_budget_sensitivity(is_error, is_error) == pytest.approx((0.5 + (n - errors + 1)) / n)
    assert area_under_budget_sensitivity(-is_error, is_error) == pytest.approx(1.5 / n)
    assert area_under_budget_sensitivity(np.ones(n), is_error) == pytest.approx((n + 1) / (2 * n))


def test_ties_are_the_mean_over_all_orders():
    priority = np.array([0.7, 0.4, 0.4, 0.4, 0.4, 0.1])
    is_error = np.array([0, 1, 0, 0, 1, 1])
    curves = []
    for tied in permutations(range(1, 5)):
        reviewed = is_error[[0, *tied, 5]]
        curves.append(np.concatenate([[0], np.cumsum(reviewed)]) / 3)

    assert gains_at_all_budgets(priority, is_error) == pytest.approx(np.mean(curves, axis=0))


@given(scored_items)
def test_agrees_with_an_item_by_item_recomputation(scored):
    priority, is_error = split(scored)
    if not is_error.any():
        assert area_under_budget_sensitivity(priority, is_error) is None
        return

    def gain(budget):
        # Each error's chance of being reviewed: 1 above the cut, its share of the slots within the cut's tie.
        chances = []
        for score in priority[is_error]:
            before, tied = (priority > score).sum(), (priority == score).sum()
            chances.append(np.clip((budget - before) / tied, 0, 1))
        return np.sum(chances) / is_error.sum()

    expected = [gain(budget) for budget in range(len(scored) + 1)]
    assert gains_at_all_budgets(priority, is_error) == pytest.approx(expected)
    assert area_under_budget_sensitivity(priority, is_error) == pytest.approx(sum(expected) / len(scored))


@given(scored_items, st.randoms(use_true_random=False))
def test_item_order_and_scale_do_not_matter(scored, random):
    priority, is_error = split(scored)
    shuffled = list(range(len(scored)))
    random.shuffle(shuffled)

    expected = area_under_budget_sensitivity(priority, is_error)

    assert area_under_budget_sensitivity(priority[shuffled], is_error[shuffled]) == pytest.approx(expected)
    assert area_under_budget_sensitivity(np.exp(priority) - 7, is_error) == pytest.approx(expected)


@given(scored_items, st.integers(0, 30))
def test_detection_counts_add_up(scored, budget):
    priority, is_error = split(scored)
    budget = min(budget, len(scored))
    counts = detection_counts(priority, is_error, budget)

    assert counts.true_positives + counts.false_positives == pytest.approx(budget)
    assert counts.recall == annotation_quality_gain(priority, is_error, budget)
    if budget:
        assert counts.precision == pytest.approx(counts.true_positives / budget)
    else:
        assert counts.precision is None


def test_without_errors_or_items_there_is_no_figure():
    assert annotation_quality_gain([0.3, 0.2], [0, 0], 1) is None
    assert area_under_budget_sensitivity([0.3, 0.2], [False, False]) is None
    assert budget_curve([], []) is None
    assert detection_counts([0.3], [0], 1).recall is None


@pytest.mark.parametrize(
    ("priority", "is_error", "budget", "message"),
    [
        ([0.1, np.nan], [0, 1], 1, "NaN"),
        ([0.1, np.inf], [0, 1], 1, "infinity"),
        ([0.1, 0.2], [0, 1, 1], 1, "same length"),
        ([[0.1, 0.2]], [[0, 1]], 1, "one-dimensional"),
        ([0.1, 0.2], [0, 2], 1, "true and false"),
        ([0.1, 0.2], [0, np.nan], 1, "true and false"),
        ([0.1, 0.2], [0, 1], 3, "between 0 and the number of items, 2"),
        ([0.1, 0.2], [0, 1], -1, "between 0"),
        ([0.1, 0.2], [0, 1], 1.5, "whole number"),
    ],
)
def test_invalid_input_is_refused(priority, is_error, budget, message):
    with pytest.raises(ValueError, match=message):
        annotation_quality_gain(priority, is_error, budget)


@pytest.mark.parametrize("perplexity", [[0.5, 2.0], [np.nan, 2.0], [np.inf, 2.0], [2.0]])
def test_impossible_perplexities_are_refused(perplexity):
    with pytest.raises(ValueError, match="perplexity"):
        perplexity_priority([True, False], perplexity)


def test_a_million_items_are_quick_enough_for_a_page():
    # O(N log N): a quadratic sum would need hours, so this ends only with the right algorithm.
    rng = np.random.default_rng(0)
    priority = rng.random(1_000_000)

    assert area_under_budget_sensitivity(priority, priority > 0.9) == pytest.approx(0.95, abs=1e-3)
