"""Demonstrations are the nearest labelled items, in an order that rounding does not decide."""

import numpy as np
import pytest

from route.retrieval import Demonstrations

VECTORS = [[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0], [2.0, 0.0]]
POOL = Demonstrations(VECTORS, [0, 0, 1, 1, 0])


def test_the_nearest_come_first_and_ties_by_place():
    assert POOL.retrieve([3.0, 0.0], 3) == [0, 4, 1]
    assert POOL.retrieve([0.0, 0.1], 2) == [3, 2]
    assert POOL.retrieve([0.0, 0.0], 2) == [0, 1]
    assert POOL.retrieve([1.0, 0.0], 0) == []
    assert POOL.retrieve([1.0, 0.0], 9) == [0, 4, 1, 2, 3]


def test_the_item_itself_is_left_out():
    assert POOL.retrieve(VECTORS[0], 2, without=frozenset({0, 4})) == [1, 2]


def test_balanced_demonstrations_are_half_wrong_and_half_right():
    assert POOL.retrieve([1.0, 0.0], 2, "balanced") == [0, 2]
    assert POOL.retrieve([1.0, 0.0], 3, "balanced") == [0, 2, 3]
    assert POOL.retrieve([1.0, 0.0], 1, "balanced") == [2]


def test_what_one_kind_lacks_the_other_fills_up():
    assert POOL.retrieve([1.0, 0.0], 4, "balanced", without=frozenset({2})) == [0, 4, 1, 3]
    assert POOL.retrieve([0.0, 1.0], 4, "balanced", without=frozenset({0, 1})) == [3, 2, 4]
    assert Demonstrations(VECTORS, np.ones(5)).retrieve([1.0, 0.0], 2, "balanced") == [0, 4]


def test_rounding_decides_no_tie():
    rng = np.random.default_rng(0)
    vector = rng.normal(size=50)
    copies = vector * rng.uniform(0.1, 9, size=(40, 1))

    assert Demonstrations(copies, np.zeros(40)).retrieve(vector, 40) == list(range(40))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([1.0, 0.0], -1), "negative"),
        (([1.0, 0.0], 1, "farthest"), "farthest"),
        (([1.0], 1), "length 2"),
        (([np.nan, 0.0], 1), "finite"),
    ],
)
def test_wrong_values_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        POOL.retrieve(*arguments)
    with pytest.raises(ValueError, match="2 items"):
        Demonstrations([[1.0], [2.0]], [1])


def test_nearness_is_the_mean_cosine_with_the_nearest():
    pool = Demonstrations([[1, 0], [0, 1], [-1, 0]], [0, 1, 0])

    assert pool.nearness([[2, 0], [1, 1]], 1).tolist() == pytest.approx([1, 0.5**0.5])
    assert pool.nearness([[2, 0]], 2).tolist() == pytest.approx([0.5])
    assert pool.nearness([[2, 0]], 9).tolist() == pytest.approx([0])
    with pytest.raises(ValueError, match="at least one"):
        pool.nearness([[2, 0]], 0)
    with pytest.raises(ValueError, match="length 2"):
        pool.nearness([[2, 0, 1]], 1)
