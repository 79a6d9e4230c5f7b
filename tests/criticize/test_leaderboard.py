import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from criticize import leaderboard as leaderboard_module
from criticize.leaderboard import (
    Tally,
    abs_interval,
    in_words,
    leaderboard,
    order_in_words,
    wilson_interval,
)
from criticize.metrics import area_under_budget_sensitivity


# Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("right", "judged", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_gives_the_published_figures(right, judged, low, high):
    assert wilson_interval(right, judged) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_agrees_with_scipy_contains_the_share_and_mirrors(counts):
    right, judged = counts

    low, high = wilson_interval(right, judged)

    known = binomtest(right, judged).proportion_ci(confidence_level=0.95, method="wilson")
    assert (low, high) == pytest.approx((known.low, known.high), abs=1e-9)
    assert 0 <= low <= right / judged <= high <= 1
    assert wilson_interval(judged - right, judged) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_interval_at_the_ends_and_without_items():
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(10, 10)[0] == pytest.approx(0.7225, abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    three, four = np.array([3, 4])
    assert wilson_interval(three, four) == wilson_interval(3, 4)


def test_wilson_interval_narrows_with_items_and_widens_with_the_level():
    low, high = wilson_interval(80, 100)
    more_low, more_high = wilson_interval(800, 1000)
    sure_low, sure_high = wilson_interval(80, 100, 0.99)

    assert sure_low < low < more_low < 0.8 < more_high < high < sure_high


@pytest.mark.parametrize(
    ("right", "judged", "level"), [(5, 4, 0.95), (-1, 4, 0.95), (1.5, 4, 0.95), (1, 4, 0.0), (1, 4, 1.0)]
)
def test_wilson_interval_refuses_what_are_no_counts(right, judged, level):
    with pytest.raises(ValueError, match=r"must satisfy|whole numbers|level"):
        wilson_interval(right, judged, level)


# --- The leaderboard -------------------------------------------------------------------------------------------------


def tally(name, right, judged=100, **fields):
    return Tally(key=fields.pop("key", 0), name=name, judged=judged, right=right, **fields)


def test_the_most_accurate_comes_first_whatever_the_number_of_items():
    scores = leaderboard([tally("many", 160, 200), tally("few", 9, 10), tally("half", 50)])

    assert [score.tally.name for score in scores] == ["few", "many", "half"]
    assert [score.place for score in scores] == [1, 2, 3]
    assert (scores[1].low, scores[1].high) == wilson_interval(160, 200)


def test_equals_share_a_place_and_the_cheaper_comes_first():
    scores = leaderboard(
        [
            tally("unpriced", 80),
            tally("dear", 8, 10, cost=1.0),
            tally("cheap", 80, cost=1.0),
            tally("last", 70),
        ]
    )

    assert [(score.tally.name, score.place) for score in scores] == [
        ("cheap", 1),
        ("dear", 1),
        ("unpriced", 1),
        ("last", 4),
    ]
    assert scores[0].cost_per_thousand == pytest.approx(10.0)
    assert scores[2].cost_per_thousand is None


def test_failures_are_shares_of_what_was_asked_and_count_as_wrong():
    (score,) = leaderboard([tally("model", 6, 10, failed=4, unparseable=1)])

    assert score.accuracy == 0.6
    assert score.failed_share == 0.4
    assert score.unparseable_share == 0.1


def test_nothing_judged_has_no_place():
    assert leaderboard([tally("new", 0, 0)]) == []
    assert order_in_words([]) == ""


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"a": 90}, "a is the only candidate so far"),
        ({"a": 95, "b": 60, "c": 50}, "a is the most accurate: its interval lies above all others"),
        ({"a": 90, "b": 85, "c": 20}, "a is ahead of b, but the intervals overlap"),
        ({"a": 90, "b": 90, "c": 20}, "a and b are equally accurate. Their intervals lie above all others."),
        ({"a": 90, "b": 90, "c": 88}, "a and b are equally accurate. The first are ahead of c, but"),
        ({"a": 90, "b": 90}, "a and b are equally accurate."),
    ],
)
def test_the_order_is_said_with_what_it_is_worth(counts, words):
    scores = leaderboard([tally(name, right) for name, right in counts.items()])

    assert order_in_words(scores).startswith(words)


def test_names_are_listed_as_a_sentence_does():
    assert in_words(["a"]) == "a"
    assert in_words(["a", "b", "c"]) == "a, b and c"
    assert in_words(list("abcdef")) == "a, b, c and 3 others"


# --- The interval of ABS ---------------------------------------------------------------------------------------------


def resampled_abs(priority, is_error, drawn):
    return area_under_budget_sensitivity(priority[drawn], is_error[drawn])


def test_abs_of_resampled_items_is_what_the_metric_gives_for_them():
    rng = np.random.default_rng(1)
    priority = rng.integers(0, 5, 30) / 4  # with ties
    is_error = rng.random(30) < 0.3
    order = np.argsort(-priority, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(priority[order]) != 0]))
    drawn = rng.integers(30, size=(50, 30))
    counts = np.array([np.bincount(row, minlength=30)[order] for row in drawn])

    areas = leaderboard_module._areas(counts, is_error[order], starts)

    assert areas == pytest.approx([resampled_abs(priority, is_error, row) for row in drawn])


def test_the_interval_of_abs_contains_it_narrows_with_items_and_repeats_under_a_seed():
    rng = np.random.default_rng(2)
    widths = []
    for n in (60, 1500):
        is_error = rng.random(n) < 0.25
        priority = np.where(is_error, 0.3, 0.0) + rng.random(n)
        interval = abs_interval(priority, is_error, rng=np.random.default_rng(0))
        assert interval == abs_interval(priority, is_error, rng=np.random.default_rng(0))
        assert interval is not None
        low, high = interval
        area = area_under_budget_sensitivity(priority, is_error)
        assert area is not None
        assert low < area < high
        widths.append(high - low)

    assert widths[1] < widths[0] / 3


def test_the_interval_of_abs_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)

    def sample(n):
        is_error = rng.random(n) < 0.3
        return np.where(is_error, 0.4, 0.0) + rng.random(n), is_error

    truth = area_under_budget_sensitivity(*sample(400_000))
    assert truth is not None
    covered = 0
    for seed in range(200):
        interval = abs_interval(*sample(100), rng=np.random.default_rng(seed), resamples=300)
        assert interval is not None
        covered += interval[0] <= truth <= interval[1]

    assert 0.88 <= covered / 200 <= 0.99


def test_without_errors_there_is_no_interval_and_with_errors_alone_no_width():
    rng = np.random.default_rng(0)

    assert abs_interval([0.1, 0.9], [False, False], rng=rng) is None
    assert abs_interval([], [], rng=rng) is None
    assert abs_interval([0.5], [True], rng=rng) == (1.0, 1.0)


@pytest.mark.parametrize("priority", [[0.1], [np.nan, 0.2], [[0.1, 0.2]]])
def test_the_interval_of_abs_refuses_what_are_no_priorities(priority):
    with pytest.raises(ValueError, match="one finite priority"):
        abs_interval(priority, [True, False], rng=np.random.default_rng(0))
