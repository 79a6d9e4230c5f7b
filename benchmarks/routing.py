"""How well the rejector and the meta-router do on generated items, where the best that can be done is known.

    python -m benchmarks.routing deferral

prints the true deferral loss on fresh items of rejectors and of everything they are compared with, by the cost β of
asking the second agent; the third costs twice as much. It fails where a rejector is not below random allocation at
equal shares and below every agent alone, or where none is within 2% of the Bayes allocation.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from route.deferral import Rejector, agent_costs, true_deferral_loss
from route.deferral_baselines import (
    ROUTER_KINDS,
    SingleExpertRouter,
    confidence_cascade,
    majority_vote,
    random_allocation,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CONSULTATION_COSTS = (0.0, 0.05, 0.1, 0.2, 0.3)
REJECTORS = {
    "rejector, ν = 1": Rejector(),
    "rejector, ν = 2": Rejector(nu=2),
    "rejector, 12 hidden units": Rejector(hidden=(12,), random_state=0),
}
NEAR_BAYES = 1.02


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    deferral = commands.add_parser("deferral", help="Rejectors against their baselines")
    deferral.add_argument("--items", type=int, default=10_000, help="Items to learn from")
    options = parser.parse_args()
    print_deferral(options.items)


def print_deferral(n_items: int) -> None:
    train, test = deferral_items(n_items, seed=1), deferral_items(20_000, seed=2)
    columns = [deferral_losses(train, test, cost) for cost in CONSULTATION_COSTS]
    print(f"{'true deferral loss at β =':<40}" + "".join(f"{cost:>8}" for cost in CONSULTATION_COSTS))
    for name in columns[0]:
        print(f"{name:<40}" + "".join(f"{column[name]:>8.4f}" for column in columns))
    if missed := [
        cost for cost, column in zip(CONSULTATION_COSTS, columns, strict=True) if not holds(column)
    ]:
        sys.exit(f"Rejectors fall short at β = {', '.join(map(str, missed))}.")


def deferral_losses(train: "DeferralItems", test: "DeferralItems", cost: float) -> dict[str, float]:
    """True deferral loss on the test items, in expectation over the agents' answers where they are not needed."""
    rng = np.random.default_rng(0)
    beta = consultation(cost)
    costs, expected = agent_costs(train.wrong, 1, beta), test.error_prob + beta
    losses = {"Bayes allocation": float(expected.min(axis=1).mean())}
    for name, rejector in REJECTORS.items():
        allocation = rejector.fit(train.features, costs).allocate(test.features)
        losses[name] = true_deferral_loss(expected, allocation)
        at_random = random_allocation(allocation, rng=rng)
        losses[f"  random, same shares ({name[10:]})"] = true_deferral_loss(expected, at_random)
    for agent, loss in enumerate(expected.mean(axis=0)):
        losses[f"agent {agent} alone"] = float(loss)
    vote = majority_vote(test.wrong)
    rows = np.arange(len(vote))
    losses["majority vote of all"] = float(test.wrong[rows, vote].mean() + beta.sum())
    confidences = np.clip(1 - test.error_prob + rng.normal(scale=0.1, size=test.error_prob.shape), 0, 1)
    taken, asked = confidence_cascade(confidences, 0.8)
    losses["confidence cascade at 0.8"] = float((test.error_prob[rows, taken] + asked @ beta).mean())
    for kind in ROUTER_KINDS:
        router = SingleExpertRouter(kind).fit(train.features, -costs[:, 0], -costs[:, 2])
        losses[f"{kind} router, agents 0 and 2"] = true_deferral_loss(
            expected, 2 * router.allocate(test.features)
        )
    return losses


def holds(losses: dict[str, float]) -> bool:
    """Whether every rejector is below chance and each agent alone, and one is near the Bayes allocation."""
    alone = min(loss for name, loss in losses.items() if name.endswith("alone"))
    near = min(losses[name] for name in REJECTORS) <= NEAR_BAYES * losses["Bayes allocation"]
    return near and all(
        losses[name] < min(alone, losses[f"  random, same shares ({name[10:]})"]) for name in REJECTORS
    )


@dataclass(frozen=True, slots=True)
class DeferralItems:
    """Features (n, 6), who is wrong (n, agents), and how likely each agent is to be wrong (n, agents)."""

    features: FloatArray
    wrong: BoolArray
    error_prob: FloatArray


def deferral_items(n_items: int, seed: int) -> DeferralItems:
    """Three agents, each strong where others are weak; the later ones are better on average, and dearer."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_items, 6))
    difficulty = np.stack(
        [
            -0.4 + 2.0 * features[:, 0] + 0.5 * features[:, 1],
            -1.0 + 1.5 * features[:, 1] - 1.0 * features[:, 2],
            -1.8 - 1.5 * features[:, 0] + 0.8 * features[:, 2],
        ],
        axis=1,
    )
    error_prob = 1 / (1 + np.exp(-difficulty))
    return DeferralItems(features, rng.random(error_prob.shape) < error_prob, error_prob)


def consultation(cost: float) -> FloatArray:
    """β of the three agents: the default is free, the third one costs twice as much as the second."""
    return np.array([0.0, cost, 2 * cost])


if __name__ == "__main__":
    main()
