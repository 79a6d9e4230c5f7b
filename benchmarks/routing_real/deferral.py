"""Learning to defer among trained models and people, on real items."""

from dataclasses import dataclass

import numpy as np

from benchmarks.downstream.data import IndexArray
from benchmarks.routing_real.annotators import FloatArray, RealItems, dealt, mean_and_error, trained
from route.deferral import IntArray, Rejector, agent_costs, agent_shares, true_deferral_loss
from route.deferral_baselines import SingleExpertRouter, confidence_cascade, majority_vote
from route.deferral_report import folds_of

# β of a model's answer, beside a mistake, which costs 1; the default is free.
CONSULTATION_COSTS = (0.0, 0.05, 0.1, 0.2, 0.3)
PEOPLE_COST = 0.4
SIZES = {
    # Labels that the default, that both specialists together, and that the rejector learns from.
    "tweets": (500, 4_000, 1_500),
    "digits": (300, 1_500, 1_500),
}
# The penalty with the least true deferral loss in a cross-validation among the items to learn from is taken.
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.1)
_FOLDS = 3
_THRESHOLDS = np.linspace(0.0, 1.0, 21)


@dataclass(frozen=True)
class Kind:
    """A rejector to measure; None for `penalty` is chosen by cross-validation. Some must hold, some are shown."""

    nu: float = 1.0
    hidden: tuple[int, ...] = ()
    penalty: float | None = None

    def rejector(self, penalty: float) -> Rejector:
        return Rejector(nu=self.nu, hidden=self.hidden, random_state=0, penalty=penalty)

    def fitted(self, features: FloatArray, costs: FloatArray, seed: int) -> Rejector:
        penalty = self._best_penalty(features, costs, seed) if self.penalty is None else self.penalty
        return self.rejector(penalty).fit(features, costs)

    def _best_penalty(self, features: FloatArray, costs: FloatArray, seed: int) -> float:
        losses = [
            sum(
                len(test)
                * true_deferral_loss(
                    costs[test],
                    self.rejector(penalty).fit(features[learn], costs[learn]).allocate(features[test]),
                )
                for learn, test in folds_of(len(features), seed, _FOLDS)
            )
            for penalty in PENALTIES
        ]
        return PENALTIES[int(np.argmin(losses))]


MUST_HOLD = {
    "rejector, ν = 1": Kind(),
    "rejector, ν = 2": Kind(nu=2.0),
    "rejector, 12 hidden units": Kind(hidden=(12,)),
}
SHOWN = {"12 hidden units, penalty 1": Kind(hidden=(12,), penalty=1.0)}


@dataclass(frozen=True)
class Answered:
    """Of the default, two specialists and people, whose label is right by definition: wrong (n, 4), and how sure
    they are (n, 4), 1 for people; and the models' answers (n, 3).
    """

    wrong: FloatArray
    confidences: FloatArray
    answers: IntArray


def answered(items: RealItems, default: IndexArray, specialists: IndexArray) -> Answered:
    """Train the three models, each on its labels, and ask them about all items."""
    is_first = items.is_first_part[specialists]
    models = [
        trained(items.little, items.gold, default, items.strength),
        trained(items.much, items.gold, specialists[is_first], items.strength),
        trained(items.much, items.gold, specialists[~is_first], items.strength),
    ]
    said = np.stack([model.answers for model in models], axis=1)
    people = np.zeros((len(items), 1))
    return Answered(
        wrong=np.hstack([said != items.gold[:, None], people]),
        confidences=np.hstack([np.stack([model.confidences for model in models], axis=1), people + 1]),
        answers=np.unique(said, return_inverse=True)[1].reshape(said.shape),
    )


def consultation(cost: float) -> FloatArray:
    """β of the default, which is free, of each specialist, and of people."""
    return np.array([0.0, cost, cost, PEOPLE_COST])


def losses_of(items: RealItems, seed: int) -> list[dict[str, float]]:
    """True deferral loss on the items that nothing was learned from, by method, at each cost β."""
    default, specialists, learn, test = dealt(len(items), SIZES[items.key], seed)
    said = answered(items, default, specialists)
    return [losses_at(items.vectors, said, learn, test, cost, seed) for cost in CONSULTATION_COSTS]


def losses_at(
    vectors: FloatArray, said: Answered, learn: IndexArray, test: IndexArray, cost: float, seed: int
) -> dict[str, float]:
    beta = consultation(cost)
    costs = agent_costs(said.wrong, 1, beta)
    known, new = costs[learn], costs[test]
    losses = {}
    for name, kind in (MUST_HOLD | SHOWN).items():
        allocation = kind.fitted(vectors[learn], known, seed).allocate(vectors[test])
        losses[name] = true_deferral_loss(new, allocation)
        # Its expectation, so that no chance is in it.
        losses[random_name(name)] = float(new.mean(axis=0) @ agent_shares(allocation, len(beta)))
    for agent, name in enumerate(agent_names()):
        losses[name] = float(new[:, agent].mean())
    vote = majority_vote(said.answers[test])
    losses["majority of the models"] = float(said.wrong[test, vote].mean() + beta[:-1].sum())
    losses["confidence cascade"] = cascade_loss(said, learn, test, beta)
    # With one answer of each agent the probabilistic router of Ding et al. is the deterministic one.
    router = SingleExpertRouter().fit(vectors[learn], -known[:, 0], -known[:, -1])
    to_people = (len(beta) - 1) * router.allocate(vectors[test])
    losses["default or people, single-expert router"] = true_deferral_loss(new, to_people)
    losses["the cheapest right answer, in hindsight"] = float(new.min(axis=1).mean())
    return losses


def cascade_loss(said: Answered, learn: IndexArray, test: IndexArray, beta: FloatArray) -> float:
    """Agents are asked in turn until one is sure enough, by the threshold that costs least on the items learned from;
    all who were asked are paid for.
    """

    def loss(rows: IndexArray, threshold: float) -> float:
        taken, asked = confidence_cascade(said.confidences[rows], threshold)
        return float((said.wrong[rows, taken] + asked @ beta).mean())

    return loss(test, float(min(_THRESHOLDS, key=lambda threshold: loss(learn, float(threshold)))))


def agent_names() -> tuple[str, ...]:
    return ("default alone", "first specialist alone", "second specialist alone", "people alone")


def random_name(rejector: str) -> str:
    return f"  random, same shares ({rejector.removeprefix('rejector, ')})"


def shortfalls(losses: list[dict[str, float]]) -> list[str]:
    """A sentence for each rejector and cost where it is not below chance and every agent alone; losses are means."""
    return [
        f"At β = {cost} “{name}” is not below “{other}”."
        for cost, column in zip(CONSULTATION_COSTS, losses, strict=True)
        for name in MUST_HOLD
        for other in (random_name(name), *agent_names())
        if column[name] >= column[other]
    ]


def print_deferral(items: RealItems, n_seeds: int) -> list[str]:
    """Print the table of means over seeds; what does not hold, as sentences."""
    each = [losses_of(items, seed) for seed in range(n_seeds)]
    names = list(each[0][0])
    default, specialists, learn = SIZES[items.key]
    first, second = items.part_names
    print(
        f"{items.key}: {len(items):,} items; {default} labels for the default, {specialists:,} for a specialist of "
        f"{first} and one of {second}, {learn:,} for the rejector; people cost {PEOPLE_COST}\n"
        f"true deferral loss on the other {len(items) - sum(SIZES[items.key]):,} items, mean over {n_seeds} seeds "
        "± its standard error\n"
    )
    print(f"{'β of a specialist':<50}" + "".join(f"{cost:>16}" for cost in CONSULTATION_COSTS))
    means: list[dict[str, float]] = [{} for _ in CONSULTATION_COSTS]
    for name in names:
        cells = []
        for place, mean in enumerate(means):
            mean[name], error = mean_and_error([one[place][name] for one in each])
            cells.append(f"{f'{mean[name]:.4f} ± {error:.4f}':>16}")
        print(f"{name:<50}" + "".join(cells))
    return shortfalls(means)
