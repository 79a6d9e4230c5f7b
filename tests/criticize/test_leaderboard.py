import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from criticize.leaderboard import wilson_interval


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
    assert wilson_interval(np.int64(3), np.int64(4)) == wilson_interval(3, 4)


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
