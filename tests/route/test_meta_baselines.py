"""Each baseline uses the comparisons that its name says, on the scale of gold."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from route.meta_baselines import BASELINE_KINDS, BaselineRouter


def biased_comparisons():
    """ψ = 2x, η = 2x + 3 + z; gold outcomes without noise."""
    features = np.random.default_rng(0).normal(size=(400, 2))
    is_gold = np.arange(400) < 200
    outcome = 2 * features[:, 0] + np.where(is_gold, 0, 3 + features[:, 1])
    return features, is_gold, outcome


@pytest.mark.parametrize(
    ("kind", "expected"), [("gold", [2, 0, 0]), ("preference", [2, 1, 3]), ("pooled", [2, 0.5, 1.5])]
)
def test_what_each_kind_learns(kind, expected):
    features, is_gold, outcome = biased_comparisons()

    router = BaselineRouter(kind, LinearRegression(), scaling=None).fit(features, is_gold, outcome)

    intercept = router.predict([[0, 0]])[0]
    slopes = router.predict([[1, 0], [0, 1]]) - intercept
    # Half of the comparisons have the bias; the features of the two halves differ by chance.
    assert [*slopes, intercept] == pytest.approx(expected, abs=0.15 if kind == "pooled" else 1e-9)


def test_the_mean_shift_corrects_a_constant_bias_and_no_other():
    features, is_gold, outcome = biased_comparisons()
    constant = np.where(is_gold, 0.5, 4.0)

    router = BaselineRouter("mean_shift", LinearRegression(), scaling=None)

    assert router.fit(features, is_gold, constant).predict(features) == pytest.approx(0.5)
    router.fit(features, is_gold, outcome)
    assert router.predict([[0, 1]])[0] - router.predict([[0, 0]])[0] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("kind", ["preference", "pooled", "mean_shift"])
def test_predictions_are_on_the_scale_of_gold(kind):
    features, is_gold, _ = biased_comparisons()
    outcome = np.where(is_gold, 100.0, 1.0) * features[:, 0]

    router = BaselineRouter(kind, LinearRegression()).fit(features, is_gold, outcome)

    assert router.predict([[1, 0], [-1, 0]]) == pytest.approx([100, -100], rel=0.15)


@pytest.mark.parametrize("kind", BASELINE_KINDS)
def test_seeds_decide(kind):
    features, is_gold, outcome = biased_comparisons()

    first, again = (
        BaselineRouter(kind, random_state=1).fit(features[150:250], is_gold[150:250], outcome[150:250])
        for _ in "ab"
    )

    assert (first.predict(features) == again.predict(features)).all()


def test_comparisons_that_are_missing_are_said():
    features, is_gold, outcome = biased_comparisons()

    for kind in ("preference", "pooled", "mean_shift"):
        with pytest.raises(ValueError, match="missing"):
            BaselineRouter(kind).fit(features[is_gold], is_gold[is_gold], outcome[is_gold])
    with pytest.raises(ValueError, match="missing"):
        BaselineRouter("gold").fit(features[~is_gold], is_gold[~is_gold], outcome[~is_gold])
    with pytest.raises(ValueError, match="baseline"):
        BaselineRouter("oracle")
    with pytest.raises(ValueError, match="scaling"):
        BaselineRouter("gold", scaling="x")
    with pytest.raises(ValueError, match="fitted first"):
        BaselineRouter("gold").predict(features)
