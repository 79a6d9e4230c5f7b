"""Learning to defer: which of several agents should answer an item, learned from what each one's answers cost.

Agents j = 0 … J (0 is the default model, the others are models or people) are numbered along the last axis. A head is a
part of the answer with a cost of its own: the start and the end of a span; a class label has one head.

Notation: c_j cost of agent j, τ_j = Σ_{q≠j} c_q, r the rejector's scores, p = softmax(r), ν the surrogate's parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from route.training_data import checked_features, recorded_seed

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]
Layer = tuple[FloatArray, FloatArray]

# exp(500) is a finite number, and so is its product with any sensible cost.
_LARGEST_EXPONENT = 500.0
# A linear rejector is solved to the last digit that matters; a hidden layer would be fitted to noise by then.
_LINEAR_OPTIONS = {"maxiter": 5_000, "maxfun": 10_000, "ftol": 1e-13, "gtol": 1e-8, "maxcor": 20}
_HIDDEN_OPTIONS = {"maxiter": 300, "maxfun": 600, "ftol": 1e-8, "gtol": 1e-6, "maxcor": 20}


class Rejector:
    """Scores agents by features of the item; the agent with the highest score gets the item (corollary 2).

    Minimizes the surrogate deferral loss (lemma 2), summed over items, plus half the squared weights:

        Σ_items Σ_heads Σ_j τ_j · Φ_ν(r, j),  Φ_1 = −log p_j,  Φ_ν = ((1 / p_j)^(1−ν) − 1) / (1 − ν)

    With `hidden=()` the scores are linear in the features, and ν = 1 is multinomial logistic regression in which each
    item occurs once with each agent as its class and the weight τ_j, regularized as scikit-learn does by default (for
    two agents as its binary regression does). ν = 0 … any number ≥ 0; ν ≠ 1 is not convex in general and starts from
    the solution for ν = 1; ν = 2 gives the bounded loss 1 − p_j. `hidden` are the sizes of layers with tanh, shared by
    the heads; their features are standardized. The same data and `random_state` give the same rejector; without hidden
    layers nothing is random.

    After `fit`: `layers_` (weights, biases) in the units of the features, `n_heads_`, `n_agents_`, `loss_` (the
    minimized sum), `converged_` (False where the optimizer stopped at its limit of steps), `seed_` (to fit the same
    again), and `fallback_`: None, or a sentence that says why every item goes to the same agent.

    Differs from the paper in that the whole data are used in each step (L-BFGS) and the features are given.
    """

    def __init__(
        self,
        nu: float = 1.0,
        hidden: Sequence[int] = (),
        random_state: int | None = None,
        penalty: float = 1.0,
    ) -> None:
        """`penalty` multiplies the squared weights. Raises ValueError for a negative ν, a layer without units,
        or a penalty that is not above 0.
        """
        if not (np.isfinite(penalty) and penalty > 0):
            raise ValueError("The penalty on the weights must be a number above 0.")
        if not (np.isfinite(nu) and nu >= 0):
            raise ValueError("ν must be a number of at least 0.")
        if any(units < 1 for units in hidden):
            raise ValueError("A hidden layer needs at least one unit.")
        self.nu = float(nu)
        self.hidden = tuple(hidden)
        self.random_state = random_state
        self.penalty = float(penalty)

    def fit(self, X: npt.ArrayLike, costs: npt.ArrayLike) -> "Rejector":  # noqa: N803
        """Learn from `X` (n, features) and `costs` (n, agents) or (n, heads, agents), finite and ≥ 0.

        Two cases are answered without features: where every agent costs the same on every item, all scores are zero
        and the default agent gets everything; where the features are the same for every item, so are the scores.
        An agent that is always wrong needs no special care: its cost is as high as it says. Raises ValueError for other
        shapes, values that are not finite, negative costs, fewer than two agents, or no items.
        """
        features = checked_features(X)
        head_costs = checked_costs(costs)
        if len(head_costs) != len(features):
            raise ValueError(f"{len(features)} items have features, but {len(head_costs)} have costs.")
        _, self.n_heads_, self.n_agents_ = head_costs.shape
        self.seed_ = recorded_seed(self.random_state)
        self.converged_, self.loss_ = True, 0.0
        self.fallback_ = _fallback(features, head_costs)
        weights = head_costs.sum(axis=2, keepdims=True) - head_costs
        if (head_costs == head_costs[:, :, :1]).all():
            outputs = self.n_heads_ * self.n_agents_
            self.layers_: list[Layer] = [(np.zeros((features.shape[1], outputs)), np.zeros(outputs))]
            return self
        means, scales = _standardization(features)
        layers = self._initial_layers(features.shape[1])
        # The matrices are small: several threads take many times as long, and round differently.
        with threadpool_limits(1):
            for nu in dict.fromkeys((1.0, self.nu)):
                layers = self._minimize(layers, (features - means) / scales, weights, scales, nu)
        first, biases = layers[0]
        first = first / scales[:, None]
        self.layers_ = [(first, biases - means @ first), *layers[1:]]
        if not self.hidden:
            self.layers_ = [self._centered(*self.layers_[0])]
        return self

    def scores(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """Score of each agent, summed over the heads, (n, agents); higher is better. Raises ValueError as `fit`."""
        summed: FloatArray = self.head_scores(X).sum(axis=1)
        return summed

    def head_scores(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """Score of each agent by head, (n, heads, agents). Only differences between agents mean something."""
        if not hasattr(self, "layers_"):
            raise ValueError("The rejector has to be fitted first.")
        features = checked_features(X)
        if features.shape[1] != len(self.layers_[0][0]):
            raise ValueError(
                f"The rejector was fitted on {len(self.layers_[0][0])} features; the items have {features.shape[1]}."
            )
        return _forward(self.layers_, features)[-1].reshape(len(features), self.n_heads_, self.n_agents_)

    def allocate(self, X: npt.ArrayLike) -> IntArray:  # noqa: N803
        """The agent of each item, (n,); of equal scores the agent that comes first. Raises ValueError as `fit`."""
        best: IntArray = self.scores(X).argmax(axis=1)
        return best

    def _initial_layers(self, n_features: int) -> list[Layer]:
        sizes = [n_features, *self.hidden, self.n_heads_ * self.n_agents_]
        if not self.hidden:
            return [(np.zeros(sizes), np.zeros(sizes[1]))]
        rng = np.random.default_rng(self.seed_)
        layers = []
        for inputs, outputs in pairwise(sizes):
            # Keeps tanh out of its flat parts (Glorot and Bengio, 2010).
            bound = np.sqrt(6 / (inputs + outputs))
            layers.append((rng.uniform(-bound, bound, (inputs, outputs)), np.zeros(outputs)))
        return layers

    def _minimize(
        self, layers: list[Layer], features: FloatArray, weights: FloatArray, scales: FloatArray, nu: float
    ) -> list[Layer]:
        """The layers, in units of the standardized features, that minimize the loss from those given."""
        penalties = [np.full((1, 1), self.penalty) for _ in layers]
        if not self.hidden:
            # Standardizing is for the optimizer's sake; the penalty is on the weights of the features as given.
            penalties[0] = self.penalty / scales[:, None] ** 2
        if self.n_agents_ == 2:
            # Two agents' weights are each other's negatives; binary regression penalizes their difference once.
            penalties[-1] = 2 * penalties[-1]
        # The minimum is the same; the optimizer's tolerances are made for sums of about 1.
        unit = float(weights.sum())

        def objective(flat: FloatArray) -> tuple[float, FloatArray]:
            loss, gradient = penalized_loss(_unflattened(flat, layers), features, weights, nu, penalties)
            return loss / unit, gradient / unit

        found = minimize(
            objective,
            _flattened(layers),
            jac=True,
            method="L-BFGS-B",
            options=_HIDDEN_OPTIONS if self.hidden else _LINEAR_OPTIONS,
        )
        self.converged_ = bool(found.status == 0)
        self.loss_ = float(found.fun) * unit
        return _unflattened(np.asarray(found.x), layers)

    def _centered(self, weights: FloatArray, biases: FloatArray) -> Layer:
        """The same differences between agents, with a mean of zero over the agents of each head."""
        by_agent = weights.reshape(len(weights), self.n_heads_, self.n_agents_)
        bias_by_agent = biases.reshape(self.n_heads_, self.n_agents_)
        by_agent = by_agent - by_agent.mean(axis=2, keepdims=True)
        bias_by_agent = bias_by_agent - bias_by_agent.mean(axis=1, keepdims=True)
        return by_agent.reshape(weights.shape), bias_by_agent.reshape(-1)


@dataclass(frozen=True, slots=True)
class DeferralMetrics:
    """What an allocation of n items does.

    `loss` true deferral loss; `accuracy` share of items whose agent is right; `shares` of items by agent, (agents,);
    `cost_per_correct` price of all answers / number of right ones, None where none is right; `tpr` share of the items
    where the default is wrong that go to an agent that is right; `fpr` share of the items where the default is right
    that go to an agent that is wrong. A share of nothing is None.
    """

    loss: float
    accuracy: float
    shares: FloatArray
    cost_per_correct: float | None
    tpr: float | None
    fpr: float | None


def agent_costs(wrong: npt.ArrayLike, alpha: npt.ArrayLike, beta: npt.ArrayLike) -> FloatArray:
    """c_j = α_j · 1{wrong} + β_j, of the shape of `wrong`: (n, agents) or (n, heads, agents).

    `wrong` boolean or 0/1; `alpha` and `beta` ≥ 0, a number for all agents or one for each, (agents,), the default
    agent included: it has α = 1 and β = 0 in definition 1. With several heads β is charged for each, as there. Raises
    ValueError for other shapes or values.
    """
    mistakes = np.asarray(wrong)
    if mistakes.ndim not in (2, 3) or not np.isin(mistakes, (0, 1)).all():
        raise ValueError("wrong must hold true and false (or 1 and 0), shaped (items, agents) or with heads.")
    n_agents = mistakes.shape[-1]
    factors = []
    for name, given in (("α", alpha), ("β", beta)):
        values = np.asarray(given, dtype=float)
        if values.shape not in ((), (n_agents,)):
            raise ValueError(f"{name} needs one number, or one for each of the {n_agents} agents.")
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"{name} must be at least 0.")
        factors.append(values)
    costs: FloatArray = factors[0] * mistakes + factors[1]
    return costs


def true_deferral_loss(costs: npt.ArrayLike, allocation: npt.ArrayLike) -> float:
    """Mean over the items of the allocated agent's cost, summed over the heads (definition 1).

    `costs` (n, agents) or (n, heads, agents), `allocation` (n,) agent indices. Raises ValueError for anything else.
    """
    head_costs = checked_costs(costs)
    agents = checked_allocation(allocation, len(head_costs), head_costs.shape[2])
    return float(head_costs.sum(axis=1)[np.arange(len(agents)), agents].mean())


def deferral_metrics(
    wrong: npt.ArrayLike, costs: npt.ArrayLike, allocation: npt.ArrayLike, prices: npt.ArrayLike
) -> DeferralMetrics:
    """The figures of one allocation.

    `wrong` (n, agents) says whether an agent's whole answer is wrong (for spans: no exact match), `costs` as in
    `true_deferral_loss`, `allocation` (n,), `prices` (agents,) what one answer of each agent costs, ≥ 0, in any unit.
    Raises ValueError for anything else.
    """
    head_costs = checked_costs(costs)
    n_items, _, n_agents = head_costs.shape
    mistakes = np.asarray(wrong)
    if mistakes.shape != (n_items, n_agents) or not np.isin(mistakes, (0, 1)).all():
        raise ValueError("wrong must say true or false of each agent on each item.")
    mistakes = mistakes.astype(bool)
    agents = checked_allocation(allocation, n_items, n_agents)
    price = np.asarray(prices, dtype=float)
    if price.shape != (n_agents,) or not np.isfinite(price).all() or (price < 0).any():
        raise ValueError(f"prices needs one number of at least 0 for each of the {n_agents} agents.")
    is_right = ~mistakes[np.arange(n_items), agents]
    default_wrong, deferred = mistakes[:, 0], agents != 0
    n_right = int(is_right.sum())
    return DeferralMetrics(
        loss=true_deferral_loss(costs, agents),
        accuracy=n_right / n_items,
        shares=agent_shares(agents, n_agents),
        cost_per_correct=float(price[agents].sum()) / n_right if n_right else None,
        tpr=_share(default_wrong & deferred & is_right, default_wrong),
        fpr=_share(~default_wrong & deferred & ~is_right, ~default_wrong),
    )


def agent_shares(allocation: npt.ArrayLike, n_agents: int) -> FloatArray:
    """Share of the items that each agent gets, (agents,), summing to 1."""
    agents = checked_allocation(allocation, len(np.asarray(allocation)), n_agents)
    return np.bincount(agents, minlength=n_agents) / len(agents)


def penalized_loss(
    layers: list[Layer], features: FloatArray, weights: FloatArray, nu: float, penalties: list[FloatArray]
) -> tuple[float, FloatArray]:
    """The surrogate deferral loss summed over items, plus ½ Σ penalty · weight², and its gradient, flattened.

    `weights` are the τ_j, (n, heads, agents); `penalties` one array for each layer that multiplies its weights.
    """
    activations = _forward(layers, features)
    scores = activations[-1].reshape(weights.shape)
    losses, gradient_by_score = surrogate(scores, weights, nu)
    loss = float(losses.sum())
    backward = gradient_by_score.reshape(len(features), -1)
    gradients: list[Layer] = []
    for depth in range(len(layers) - 1, -1, -1):
        layer_weights, _ = layers[depth]
        loss += 0.5 * float((penalties[depth] * layer_weights**2).sum())
        weight_gradient = activations[depth].T @ backward + penalties[depth] * layer_weights
        gradients.append((weight_gradient, backward.sum(axis=0)))
        if depth:
            backward = (backward @ layer_weights.T) * (1 - activations[depth] ** 2)
    return loss, _flattened(gradients[::-1])


def surrogate(scores: FloatArray, weights: FloatArray, nu: float) -> tuple[FloatArray, FloatArray]:
    """Σ_j τ_j · Φ_ν(r, j) over the last axis of `scores` (…, agents), and its gradient by the scores.

    ∂/∂r_q = p_q · Σ_j τ_j p_j^(ν−1) − τ_q p_q^(ν−1).
    """
    highest = scores.max(axis=-1, keepdims=True)
    log_p = scores - highest - np.log(np.exp(scores - highest).sum(axis=-1, keepdims=True))
    if nu == 1:
        phi, slopes = -log_p, weights
    else:
        exponents = np.minimum((nu - 1) * log_p, _LARGEST_EXPONENT)
        phi, slopes = np.expm1(exponents) / (1 - nu), weights * np.exp(exponents)
    gradient: FloatArray = np.exp(log_p) * slopes.sum(axis=-1, keepdims=True) - slopes
    losses: FloatArray = (weights * phi).sum(axis=-1)
    return losses, gradient


def checked_costs(costs: npt.ArrayLike) -> FloatArray:
    """Costs as floats, (n, heads, agents), finite, ≥ 0, of at least two agents; ValueError otherwise."""
    values = np.asarray(costs, dtype=float)
    if values.ndim not in (2, 3) or not values.size:
        raise ValueError(
            "Costs need the shape (items, agents) or (items, heads, agents), with at least one of each."
        )
    if values.shape[-1] < 2:
        raise ValueError("There is one agent only, so there is nothing to decide. Give at least two.")
    if not np.isfinite(values).all():
        raise ValueError("Costs must be finite numbers: NaN or infinity was found.")
    if (values < 0).any():
        raise ValueError("Costs must be at least 0.")
    return values if values.ndim == 3 else values[:, None, :]


def checked_allocation(allocation: npt.ArrayLike, n_items: int, n_agents: int) -> IntArray:
    """Agent indices, (n,), each in 0 … agents − 1; ValueError otherwise."""
    agents = np.asarray(allocation)
    if agents.shape != (n_items,) or not n_items or not np.issubdtype(agents.dtype, np.integer):
        raise ValueError("An allocation needs one agent's index for each of at least one item.")
    if agents.min() < 0 or agents.max() >= n_agents:
        raise ValueError(f"Agents are numbered from 0 to {n_agents - 1}.")
    return agents.astype(np.intp)


def _fallback(features: FloatArray, costs: FloatArray) -> str | None:
    if (costs == costs[:, :, :1]).all():
        return "Every agent costs the same on every item, so the default agent gets all of them."
    if (features == features[0]).all():
        return "All items have the same features, so all of them go to the same agent."
    return None


def _share(part: BoolArray, whole: BoolArray) -> float | None:
    return int(part.sum()) / int(whole.sum()) if whole.any() else None


def _standardization(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each feature; a feature that is constant keeps its scale."""
    scales = features.std(axis=0)
    is_constant = (features == features[0]).all(axis=0) | (scales == 0)
    return features.mean(axis=0), np.where(is_constant, 1.0, scales)


def _forward(layers: list[Layer], features: FloatArray) -> list[FloatArray]:
    """The features, the activations of each hidden layer, and the outputs."""
    activations = [features]
    for depth, (weights, biases) in enumerate(layers, start=1):
        outputs = activations[-1] @ weights + biases
        activations.append(outputs if depth == len(layers) else np.tanh(outputs))
    return activations


def _flattened(layers: list[Layer]) -> FloatArray:
    return np.concatenate([part.ravel() for layer in layers for part in layer])


def _unflattened(flat: FloatArray, like: list[Layer]) -> list[Layer]:
    layers, start = [], 0
    for weights, biases in like:
        middle, end = start + weights.size, start + weights.size + biases.size
        layers.append((flat[start:middle].reshape(weights.shape), flat[middle:end]))
        start = end
    return layers
