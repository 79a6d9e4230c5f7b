"""What a rejector is compared with: other ways to decide which agent answers an item.

Baselines that allocate return agent indices, (n,), like `Rejector.allocate`. A vote and a cascade ask several agents
about an item, so they say as well whom they asked.
"""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from route.deferral import BoolArray, FloatArray, IntArray, checked_allocation
from route.training_data import checked_features

ROUTER_KINDS = ("probabilistic", "deterministic", "relaxed")

# How many relaxations t are tried between none and the largest difference of qualities.
_RELAXATIONS = 101


def single_agent(agent: int, n_items: int, n_agents: int) -> IntArray:
    """Every item to one agent, (n,). Raises ValueError for an agent that does not exist, or without items."""
    return checked_allocation(np.full(n_items, agent), n_items, n_agents)


def random_allocation(allocation: npt.ArrayLike, *, rng: np.random.Generator) -> IntArray:
    """The same number of items to each agent as `allocation` (n,) gives it, but to random items."""
    agents: IntArray = rng.permutation(np.asarray(allocation))
    return agents


def majority_vote(answers: npt.ArrayLike) -> IntArray:
    """The agent whose answer most agents give, (n,); all agents are asked about every item.

    `answers` (n, agents), answers that compare equal being the same. Of equally frequent answers the one that the
    earliest agent gives wins, and it is that agent's index that is returned. Raises ValueError for another shape.
    """
    given = np.asarray(answers)
    if given.ndim != 2 or not given.size:
        raise ValueError("A vote needs the answers of at least one agent to at least one item.")
    votes = (given[:, :, None] == given[:, None, :]).sum(axis=2)
    most: IntArray = votes.argmax(axis=1)
    return most


def confidence_cascade(confidences: npt.ArrayLike, threshold: float) -> tuple[IntArray, BoolArray]:
    """Ask agent after agent until one is confident enough; the last agent's answer is always taken.

    `confidences` (n, agents) in the order in which the agents are asked, each in [0, 1]; an agent is confident enough
    at ≥ `threshold`. Returns the agents whose answers are taken, (n,), and who was asked, (n, agents). Raises
    ValueError for other shapes or values.
    """
    given = np.asarray(confidences, dtype=float)
    if given.ndim != 2 or not given.size:
        raise ValueError("A cascade needs the confidence of at least one agent in at least one answer.")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("Confidences must lie between 0 and 1.")
    suffices = given >= threshold
    suffices[:, -1] = True
    taken: IntArray = suffices.argmax(axis=1)
    return taken, np.arange(given.shape[1]) <= taken[:, None]


class SingleExpertRouter:
    """Routers between one cheap model (agent 0) and one expert (agent 1), of Ding et al. (2024).

    A logistic regression predicts from the item whether the cheap model is good enough, and the item goes to the expert
    where the prediction is below `threshold`. H is the cheap model's quality minus the expert's. The kinds differ in
    what is predicted: "deterministic" 1{H ≥ 0} of one answer of each; "probabilistic" Pr(H ≥ 0) over the answers
    sampled from both; "relaxed" Pr(H ≥ −t), with the t that tells items apart best: the one that maximizes the mean
    difference between the targets of two items (`relaxation_`; the smallest such t).

    With a single answer of each agent "probabilistic" equals "deterministic". Quality can be minus the cost. Where all
    targets are the same, the router predicts that target for every item.
    """

    def __init__(self, kind: str = "probabilistic", threshold: float = 0.5) -> None:
        """Raises ValueError for an unknown kind or a threshold outside [0, 1]."""
        if kind not in ROUTER_KINDS:
            raise ValueError(f"A router is one of {', '.join(ROUTER_KINDS)}, not {kind}.")
        if not 0 <= threshold <= 1:
            raise ValueError("The threshold must lie between 0 and 1.")
        self.kind = kind
        self.threshold = threshold

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        cheap_quality: npt.ArrayLike,
        expert_quality: npt.ArrayLike,
    ) -> "SingleExpertRouter":
        """Learn from `X` (n, features) and qualities of answers, (n,) or (n, samples), higher is better.

        Raises ValueError for other shapes or values that are not finite.
        """
        features = checked_features(X)
        cheap, expert = _samples(cheap_quality, len(features)), _samples(expert_quality, len(features))
        targets = self._targets(cheap, expert)
        self._constant = float(targets[0]) if (targets == targets[0]).all() else None
        if self._constant is None:
            # A soft target is a positive with that weight and a negative with the rest.
            self._model = LogisticRegression(max_iter=1000).fit(
                np.vstack([features, features]),
                np.repeat([1, 0], len(features)),
                sample_weight=np.concatenate([targets, 1 - targets]),
            )
        return self

    def predict(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """How likely the cheap model is good enough, (n,), in [0, 1]."""
        if not hasattr(self, "_constant"):
            raise ValueError("The router has to be fitted first.")
        features = checked_features(X)
        if self._constant is not None:
            return np.full(len(features), self._constant)
        likely: FloatArray = self._model.predict_proba(features)[:, 1]
        return likely

    def allocate(self, X: npt.ArrayLike) -> IntArray:  # noqa: N803
        """0 for the cheap model or 1 for the expert, (n,)."""
        return (self.predict(X) < self.threshold).astype(np.intp)

    def _targets(self, cheap: FloatArray, expert: FloatArray) -> FloatArray:
        self.relaxation_ = 0.0
        if self.kind == "deterministic":
            return (cheap[:, 0] >= expert[:, 0]).astype(float)
        differences = (cheap[:, :, None] - expert[:, None, :]).reshape(len(cheap), -1)
        if self.kind == "relaxed":
            candidates = np.linspace(0, max(0.0, -float(differences.min())), _RELAXATIONS)
            spreads = [_mean_difference((differences >= -t).mean(axis=1)) for t in candidates]
            self.relaxation_ = float(candidates[int(np.argmax(spreads))])
        shares: FloatArray = (differences >= -self.relaxation_).mean(axis=1)
        return shares


def _samples(quality: npt.ArrayLike, n_items: int) -> FloatArray:
    values = np.asarray(quality, dtype=float)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != n_items or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"Each of the {n_items} items needs at least one finite quality of each agent's answers."
        )
    return values


def _mean_difference(values: FloatArray) -> float:
    """(1/n²) Σ_i Σ_k |v_i − v_k|, by sorting."""
    n = len(values)
    return float(2 * ((2 * np.arange(1, n + 1) - n - 1) * np.sort(values)).sum() / n**2)
