from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from review.certificate import accuracy_interval


@st.composite
def audits(draw):
    population = draw(st.integers(1, 40))
    audited = draw(st.integers(1, population))
    return draw(st.integers(0, audited)), audited, population


@given(audits(), st.integers(0, 30), st.sampled_from([0.8, 0.95, 0.99]))
def test_agrees_with_trying_every_number_of_wrong_labels(audit, reviewed, level):
    wrong, audited, population = audit
    tail = (1 - level) / 2

    def chance(found, total):
        ways = comb(total, found) * comb(population - total, audited - found)
        return ways / comb(population, audited)

    agree = [
        total
        for total in range(population + 1)
        if sum(chance(found, total) for found in range(wrong + 1)) > tail
        and sum(chance(found, total) for found in range(wrong, audited + 1)) > tail
    ]
    n = population + reviewed

    low, high = accuracy_interval(wrong, audited, population, reviewed=reviewed, level=level)

    assert low == pytest.approx(1 - max(agree) / n)
    assert high == pytest.approx(1 - min(agree) / n)


@given(audits())
def test_what_was_seen_is_inside_and_more_audit_or_less_level_does_not_leave_it(audit):
    wrong, audited, population = audit
    low, high = accuracy_interval(wrong, audited, population)
    narrow_low, narrow_high = accuracy_interval(wrong, audited, population, level=0.8)

    assert 0 <= low <= narrow_low <= narrow_high <= high <= 1
    # The whole number of wrong labels nearest to the audit's share always agrees with it.
    assert low - 1e-9 <= 1 - round(wrong / audited * population) / population <= high + 1e-9


def test_a_full_audit_is_certain():
    assert accuracy_interval(3, 50, 50) == pytest.approx((0.94, 0.94))
    assert accuracy_interval(3, 50, 50, reviewed=50) == pytest.approx((0.97, 0.97))
    assert accuracy_interval(0, 0, 0, reviewed=50) == (1.0, 1.0)


def test_for_a_large_population_it_is_clopper_and_pearsons_interval():
    wrong, audited = 7, 300

    low, high = accuracy_interval(wrong, audited, 10_000_000)

    assert low == pytest.approx(1 - beta.ppf(0.975, wrong + 1, audited - wrong), abs=1e-5)
    assert high == pytest.approx(1 - beta.ppf(0.025, wrong, audited - wrong + 1), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 2, 10), "wrong ≤ audited"),
        ((1, 20, 10), "audited ≤ population"),
        ((-1, 2, 10), "0 ≤ wrong"),
        ((0, 0, 10), "None of the unreviewed items was audited"),
        ((0, 0, 0), "no items"),
        ((0.5, 2, 10), "whole numbers"),
    ],
)
def test_invalid_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        accuracy_interval(*arguments)


@pytest.mark.parametrize("level", [0.0, 1.0, np.nan])
def test_invalid_levels_are_refused(level):
    with pytest.raises(ValueError, match="level"):
        accuracy_interval(0, 5, 10, level=level)
