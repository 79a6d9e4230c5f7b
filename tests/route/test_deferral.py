"""The rejector minimizes its surrogate exactly, allocates better than any agent alone, and says what it cannot do."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from benchmarks.routing import CONSULTATION_COSTS, consultation, deferral_items
from route.deferral import (
    Rejector,
    agent_costs,
    agent_shares,
    deferral_metrics,
    penalized_loss,
    surrogate,
    true_deferral_loss,
)
from route.deferral_baselines import random_allocation


def some_items(n_agents: int, n_items: int = 120, seed: int = 0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_items, 4)) * [1, 20, 0.05, 3] + [0, 5, 0, -2]
    error_prob = 1 / (1 + np.exp(-features @ rng.normal(size=(4, n_agents)) * 0.3))
    return features, agent_costs(rng.random(error_prob.shape) < error_prob, 1, np.linspace(0, 0.3, n_agents))


def logistic_regression(features, costs) -> LogisticRegression:
    """Each item once with each agent as its class, weighted by τ."""
    n_items, n_agents = costs.shape
    weights = costs.sum(axis=1, keepdims=True) - costs
    return LogisticRegression(tol=1e-10, max_iter=100_000).fit(
        np.repeat(features, n_agents, axis=0),
        np.tile(np.arange(n_agents), n_items),
        sample_weight=weights.ravel(),
    )


@pytest.mark.parametrize("n_agents", [3, 4])
def test_a_linear_rejector_is_weighted_multinomial_logistic_regression(n_agents):
    features, costs = some_items(n_agents)
    regression = logistic_regression(features, costs)

    rejector = Rejector().fit(features, costs)

    expected = regression.decision_function(features)
    # Both solvers stop at a gradient of about 1e-8 of the sum of the weights; scores are of order 1.
    assert rejector.scores(features) == pytest.approx(
        expected - expected.mean(axis=1, keepdims=True), abs=1e-3
    )
    coefficients = rejector.layers_[0][0].T
    assert coefficients == pytest.approx(regression.coef_, abs=1e-4)
    assert (rejector.allocate(features) == regression.predict(features)).mean() > 0.99
    assert rejector.converged_
    assert rejector.fallback_ is None


def test_with_two_agents_it_is_weighted_binary_logistic_regression():
    features, costs = some_items(2)

    scores = Rejector().fit(features, costs).scores(features)

    expected = logistic_regression(features, costs).decision_function(features)
    assert scores[:, 1] - scores[:, 0] == pytest.approx(expected, abs=1e-3)


def test_heads_are_fitted_apart_and_their_scores_summed():
    features, start = some_items(3, seed=1)
    _, end = some_items(3, seed=2)

    rejector = Rejector().fit(features, np.stack([start, end], axis=1))

    each = [Rejector().fit(features, costs).scores(features) for costs in (start, end)]
    assert rejector.head_scores(features) == pytest.approx(np.stack(each, axis=1), abs=1e-3)
    assert rejector.scores(features) == pytest.approx(sum(each), abs=1e-3)
    assert (rejector.allocate(features) == rejector.scores(features).argmax(axis=1)).all()


@pytest.mark.parametrize("nu", [0, 0.5, 1, 1.3, 2, 3])
def test_the_surrogate_is_that_of_the_paper(nu):
    scores, weights = np.array([[0.3, -1.0, 2.0]]), np.array([[0.5, 1.5, 1.0]])

    losses, _ = surrogate(scores, weights, nu)

    psi = [sum(np.exp(other - score) for other in scores[0]) for score in scores[0]]
    phi = [np.log(value) if nu == 1 else (value ** (1 - nu) - 1) / (1 - nu) for value in psi]
    assert losses == pytest.approx([weights[0] @ phi])


@pytest.mark.parametrize("nu", [0, 0.5, 1, 2])
def test_the_surrogate_stays_finite_for_extreme_scores(nu):
    losses, gradient = surrogate(np.array([[0.0, 2000.0], [-2000.0, 0.0]]), np.ones((2, 2)), nu)

    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("sizes", [(3, 6), (3, 4, 6), (3, 4, 2, 6)])
def test_gradients_are_those_of_finite_differences(nu, sizes):
    rng = np.random.default_rng(4)
    layers = [
        (rng.normal(size=(inputs, outputs)), rng.normal(size=outputs)) for inputs, outputs in pairwise(sizes)
    ]
    features, weights = rng.normal(size=(7, 3)), rng.random((7, 2, 3))
    penalties = [rng.random((len(layer), 1)) for layer, _ in layers]
    flat = np.concatenate([part.ravel() for layer in layers for part in layer])

    def at(point):
        parts, start = [], 0
        for shape in [part.shape for layer in layers for part in layer]:
            size = int(np.prod(shape))
            parts.append(point[start : start + size].reshape(shape))
            start += size
        return penalized_loss(
            list(zip(parts[::2], parts[1::2], strict=True)), features, weights, nu, penalties
        )

    numeric = approx_fprime(flat, lambda point: at(point)[0], 1e-6)
    assert at(flat)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("nu", [0.5, 2.0])
def test_other_surrogates_start_from_the_convex_one_and_lower_their_loss(nu):
    features, costs = some_items(3)
    weights = (costs.sum(axis=1, keepdims=True) - costs)[:, None, :]

    def loss(rejector):
        return penalized_loss(rejector.layers_, features, weights, nu, [np.ones((1, 1))])[0]

    start, found = Rejector().fit(features, costs), Rejector(nu=nu).fit(features, costs)

    assert loss(found) < loss(start)
    assert found.loss_ == pytest.approx(loss(found), rel=1e-6)


def test_hidden_layers_are_seeded_and_learn_what_a_line_cannot():
    rng = np.random.default_rng(0)
    features = rng.uniform(-1, 1, (300, 2))
    first_is_right = features[:, 0] * features[:, 1] > 0
    costs = np.stack([~first_is_right, first_is_right], axis=1).astype(float)

    rejector = Rejector(hidden=(8,), random_state=3).fit(features, costs)
    again = Rejector(hidden=(8,), random_state=3).fit(features, costs)
    linear = Rejector().fit(features, costs)

    assert true_deferral_loss(costs, rejector.allocate(features)) < 0.1
    assert true_deferral_loss(costs, linear.allocate(features)) > 0.3
    assert (rejector.scores(features) == again.scores(features)).all()
    assert rejector.seed_ == 3


def test_without_a_seed_a_fresh_one_is_recorded():
    features, costs = some_items(3, n_items=30)

    rejector = Rejector(hidden=(2,)).fit(features, costs)

    again = Rejector(hidden=(2,), random_state=rejector.seed_).fit(features, costs)
    assert (again.scores(features) == rejector.scores(features)).all()


def test_hidden_layers_do_not_mind_the_units_of_features():
    features, costs = some_items(3)

    scores = Rejector(hidden=(3,), random_state=0).fit(features, costs).scores(features)

    scaled = features * [1024, 2, 0.5, 8]  # powers of two, so that only the units change and no digit
    assert Rejector(hidden=(3,), random_state=0).fit(scaled, costs).scores(scaled) == pytest.approx(
        scores, abs=1e-6
    )


def test_agents_that_cost_the_same_leave_everything_to_the_default():
    features, _ = some_items(3)

    rejector = Rejector(hidden=(3,), random_state=0).fit(features, np.full((len(features), 2, 3), 0.7))

    assert rejector.fallback_ is not None
    assert "default agent" in rejector.fallback_
    assert (rejector.scores(features) == 0).all()
    assert (rejector.allocate(features) == 0).all()


@pytest.mark.parametrize("hidden", [(), (3,)])
def test_constant_features_send_everything_to_the_cheapest_agent(hidden):
    costs = agent_costs(np.random.default_rng(0).random((50, 3)) < [0.5, 0.2, 0.8], 1, 0)

    rejector = Rejector(hidden=hidden, random_state=0).fit(np.full((50, 2), 0.1), costs)

    assert rejector.fallback_ is not None
    assert "same agent" in rejector.fallback_
    assert set(rejector.allocate(np.full((4, 2), 0.1))) == {int(costs.mean(axis=0).argmin())}


def test_a_constant_feature_among_others_changes_nothing():
    features, costs = some_items(3)

    with_constant = Rejector().fit(np.hstack([features, np.full((len(features), 1), 1e6)]), costs)

    assert with_constant.layers_[0][0][-1] == pytest.approx(0, abs=1e-12)
    assert with_constant.layers_[0][0][:-1] == pytest.approx(
        Rejector().fit(features, costs).layers_[0][0], abs=1e-4
    )


def test_an_agent_that_is_always_wrong_gets_nothing():
    features, costs = some_items(3)
    costs[:, 1] = 1.3

    assert agent_shares(Rejector().fit(features, costs).allocate(features), 3)[1] == 0


FEATURES, COSTS = np.ones((3, 2)), np.eye(3)


@pytest.mark.parametrize(
    ("features", "costs", "sentence"),
    [
        (np.full((3, 2), np.nan), COSTS, "Features must be finite"),
        (FEATURES, np.full((3, 2), np.inf), "Costs must be finite"),
        (FEATURES, -COSTS, "at least 0"),
        (FEATURES, np.ones((3, 1)), "one agent only"),
        (FEATURES, np.ones(3), "shape"),
        (np.ones(3), COSTS, "shape"),
        (FEATURES[:2], COSTS, "2 items have features, but 3"),
        (np.empty((0, 2)), np.empty((0, 2)), "at least one"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(features, costs, sentence):
    with pytest.raises(ValueError, match=sentence):
        Rejector().fit(features, costs)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="ν"):
        Rejector(nu=-1)
    with pytest.raises(ValueError, match="unit"):
        Rejector(hidden=(0,))
    with pytest.raises(ValueError, match="fitted first"):
        Rejector().scores(FEATURES)
    with pytest.raises(ValueError, match="2 features; the items have 3"):
        Rejector().fit(FEATURES, COSTS).allocate(np.ones((1, 3)))


def test_costs_charge_errors_and_consultations():
    assert agent_costs([[1, 0], [0, 1]], [1, 2], [0, 0.5]) == pytest.approx(np.array([[1, 0.5], [0, 2.5]]))
    assert agent_costs([[[1, 0], [0, 1]]], 1, [0, 0.5]) == pytest.approx(np.array([[[1, 0.5], [0, 1.5]]]))
    for arguments in (([[2, 0]], 1, 0), ([1, 0], 1, 0), ([[1, 0]], [1, 1, 1], 0), ([[1, 0]], 1, -1)):
        with pytest.raises(ValueError, match=r"α|β|wrong"):
            agent_costs(*arguments)


def test_the_true_deferral_loss_sums_heads():
    costs = np.array([[[1, 0.5], [0, 0.25]], [[0, 2], [0, 4]]])

    assert true_deferral_loss(costs, [1, 1]) == pytest.approx((0.75 + 6) / 2)
    assert true_deferral_loss(costs, [0, 0]) == pytest.approx((1 + 0) / 2)
    for allocation in ([0], [0, 2], [0, -1], [0.0, 1.0]):
        with pytest.raises(ValueError, match=r"agent|Agents"):
            true_deferral_loss(costs, allocation)


def test_worked_metrics():
    wrong = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]
    metrics = deferral_metrics(wrong, agent_costs(wrong, 1, [0, 0.1, 0.2]), [1, 1, 1, 0, 0], [1, 2, 5])

    assert metrics.accuracy == pytest.approx(2 / 5)
    assert metrics.shares == pytest.approx([0.4, 0.6, 0])
    assert metrics.loss == pytest.approx((0.1 + 1.1 + 1.1 + 0 + 1) / 5)
    assert metrics.cost_per_correct == pytest.approx((3 * 2 + 2 * 1) / 2)
    assert metrics.tpr == pytest.approx(1 / 3)
    assert metrics.fpr == pytest.approx(1 / 2)


def test_shares_of_nothing_are_none():
    all_wrong = deferral_metrics([[1, 1]], [[1, 1]], [1], [1, 1])

    assert (all_wrong.cost_per_correct, all_wrong.fpr, all_wrong.tpr) == (None, None, 0)


@pytest.mark.parametrize("cost", CONSULTATION_COSTS)
def test_it_beats_chance_and_every_agent_alone(cost):
    train, test = deferral_items(1_000, 1), deferral_items(4_000, 2)
    beta = consultation(cost)

    allocation = Rejector().fit(train.features, agent_costs(train.wrong, 1, beta)).allocate(test.features)

    costs = agent_costs(test.wrong, 1, beta)
    loss = true_deferral_loss(costs, allocation)
    assert loss < true_deferral_loss(costs, random_allocation(allocation, rng=np.random.default_rng(0)))
    assert loss < costs.mean(axis=0).min()


@pytest.mark.parametrize("cost", [0.0, 0.3])
def test_with_much_data_it_comes_within_two_percent_of_the_best_allocation(cost):
    train, test = deferral_items(8_000, 1), deferral_items(20_000, 2)
    beta = consultation(cost)
    expected_costs = test.error_prob + beta

    rejector = Rejector(nu=2).fit(train.features, agent_costs(train.wrong, 1, beta))

    loss = true_deferral_loss(expected_costs, rejector.allocate(test.features))
    assert loss < 1.02 * expected_costs.min(axis=1).mean()


def test_the_convex_surrogate_too_where_its_solution_is_linear():
    # One of two agents is right, with log odds linear in the features: so are log τ̄_1 − log τ̄_0.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(25_000, 5))
    first_wrong = 1 / (1 + np.exp(-features @ [1.0, -2.0, 0.5, 0.0, 0.0]))
    is_first = rng.random(len(features)) < first_wrong
    costs = np.stack([is_first, ~is_first], axis=1).astype(float)

    allocation = Rejector().fit(features[:5_000], costs[:5_000]).allocate(features[5_000:])

    expected = np.stack([first_wrong, 1 - first_wrong], axis=1)[5_000:]
    assert true_deferral_loss(expected, allocation) < 1.02 * expected.min(axis=1).mean()


@pytest.mark.parametrize("order", [[1, 0, 2], [2, 0, 1], [2, 1, 0]])
def test_agents_may_come_in_any_order(order):
    features, costs = some_items(3, n_items=40)

    scores = Rejector().fit(features, costs).scores(features)

    assert Rejector().fit(features, costs[:, order]).scores(features) == pytest.approx(
        scores[:, order], abs=2e-3
    )
