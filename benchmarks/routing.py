"""How well the rejector and the meta-router do on generated items, where the best that can be done is known.

    python -m benchmarks.routing deferral

prints the true deferral loss on fresh items of rejectors and of everything they are compared with, by the cost β of
asking the second agent; the third costs twice as much. It fails where a rejector is not below random allocation at
equal shares and below every agent alone, or where none is within 2% of the Bayes allocation.

    python -m benchmarks.routing meta --gold 100 --seeds 50
    python -m benchmarks.routing meta --gold 1000 --seeds 5

prints the mean squared error of the predicted gold gain, and the area under the efficiency gain on fresh items, of the
meta-router with both learners and of its baselines, as means over the seeds, with 2,000 preferences whose bias differs
from item to item. It fails where a learner is not better in both than every baseline but the oracle, or, from 1,000
gold comparisons on, where its area is more than 15% below the oracle's. Then the same among three agents of rising
cost, any two of which were compared: the mean quality that each method brings for what one agent alone would cost, all
above the default. It fails where a learner is not above that agent, and above handing out at random, for each.

    python -m benchmarks.routing speed

prints how long the rejector, the meta-router and the disagreement scorer take to learn from 10,000 items with 50
features, and to route 100,000. It fails where one takes 30 seconds to learn, or 5 to route.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from route.meta import LEARNERS, MetaRouter
from route.meta_baselines import BASELINE_KINDS, BaselineRouter
from route.meta_metrics import cost_curve, efficiency_curve
from route.meta_several import SeveralBaseline, SeveralRouter
from route.risk import DisagreementScorer
from route.trace_baselines import highest_scores

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CONSULTATION_COSTS = (0.0, 0.05, 0.1, 0.2, 0.3)
REJECTORS = {
    "rejector, ν = 1": Rejector(),
    "rejector, ν = 2": Rejector(nu=2),
    "rejector, 12 hidden units": Rejector(hidden=(12,), random_state=0),
}
NEAR_BAYES = 1.02
PREFERENCES = 2_000
MANY_GOLD = 1_000
NEAR_ORACLE = 0.85
LEARNED_ITEMS, ROUTED_ITEMS = 10_000, 100_000
SECONDS_TO_LEARN, SECONDS_TO_ROUTE = 30, 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    deferral = commands.add_parser("deferral", help="Rejectors against their baselines")
    deferral.add_argument("--items", type=int, default=10_000, help="Items to learn from")
    meta = commands.add_parser("meta", help="The meta-router against its baselines")
    meta.add_argument("--gold", type=int, default=100, help="Gold comparisons")
    meta.add_argument("--seeds", type=int, default=50, help="Data sets, of which the means are printed")
    commands.add_parser("speed", help="How long learning and routing take")
    options = parser.parse_args()
    if options.command == "deferral":
        print_deferral(options.items)
    elif options.command == "speed":
        print_speed()
    else:
        print_meta(options.gold, options.seeds)


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


def print_meta(n_gold: int, n_seeds: int) -> None:
    started = time.perf_counter()
    scores = meta_scores(n_gold, n_seeds)
    print(f"{n_gold} gold, {PREFERENCES} preference comparisons, means over {n_seeds} seeds")
    print(f"{'':<16}{'squared error':>16}{'area':>10}")
    for name, (error, area) in scores.items():
        print(f"{name:<16}{error:>16.4f}{area:>10.4f}")
    print(f"{'random':<16}{'':>16}{0:>10.4f}")
    among = several_scores(n_gold, n_seeds)
    print("\nAmong three agents: quality above the default for the cost of")
    print(f"{'':<16}{'agent 1':>16}{'agent 2':>10}{'area':>10}")
    for name, (second, third, area) in among.items():
        print(f"{name:<16}{second:>16.4f}{third:>10.4f}{area:>10.4f}")
    print(f"{time.perf_counter() - started:.0f} seconds")
    if missed := [*falls_short(scores, n_gold), *several_fall_short(among)]:
        sys.exit(f"The meta-router falls short with the learner {' and '.join(missed)}.")


def meta_scores(n_gold: int, n_seeds: int) -> dict[str, tuple[float, float]]:
    """Mean squared error of the predicted gain and area under the efficiency gain, by router, means over seeds."""
    each = [meta_scores_of(n_gold, seed) for seed in range(n_seeds)]
    return {
        name: (float(np.mean([one[name][0] for one in each])), float(np.mean([one[name][1] for one in each])))
        for name in each[0]
    }


def meta_scores_of(n_gold: int, seed: int) -> dict[str, tuple[float, float]]:
    train, test = comparisons(n_gold, PREFERENCES, seed), comparisons(1_000, 0, seed + 1_000_000)
    routers: dict[str, MetaRouter | BaselineRouter] = {
        learner: MetaRouter(learner, random_state=seed) for learner in LEARNERS
    }
    routers |= {kind: BaselineRouter(kind, random_state=seed) for kind in BASELINE_KINDS}
    for router in routers.values():
        router.fit(train.features, train.is_gold, train.outcome)
    oracle = BaselineRouter("gold", random_state=seed)
    routers["oracle"] = oracle.fit(train.features, np.ones_like(train.is_gold), train.gold_outcome)
    scores = {}
    for name, router in routers.items():
        predicted = router.predict(test.features)
        error = float(np.mean((predicted - test.expected_gain) ** 2))
        scores[name] = error, efficiency_curve(predicted, test.gold_outcome).area
    return scores


def falls_short(scores: dict[str, tuple[float, float]], n_gold: int) -> list[str]:
    """The learners that are not better than each baseline, or, with many gold comparisons, not near the oracle."""
    lowest_error = min(scores[kind][0] for kind in BASELINE_KINDS)
    largest_area = max(scores[kind][1] for kind in BASELINE_KINDS)
    needed = NEAR_ORACLE * scores["oracle"][1] if n_gold >= MANY_GOLD else 0.0
    return [
        learner
        for learner in LEARNERS
        if scores[learner][0] >= lowest_error
        or scores[learner][1] <= largest_area
        or scores[learner][1] < needed
    ]


def several_scores(n_gold: int, n_seeds: int) -> dict[str, tuple[float, float, float]]:
    """By method, means over seeds: the expected quality above the default for at most what agent 1, and what agent 2
    alone costs, and the area under the efficiency gain over the cost.
    """
    each = [several_scores_of(n_gold, seed) for seed in range(n_seeds)]
    return {
        name: (
            float(np.mean([one[name][0] for one in each])),
            float(np.mean([one[name][1] for one in each])),
            float(np.mean([one[name][2] for one in each])),
        )
        for name in each[0]
    }


def several_scores_of(n_gold: int, seed: int) -> dict[str, tuple[float, float, float]]:
    train, test = (
        several_comparisons(n_gold, PREFERENCES, seed),
        several_comparisons(1_000, 0, seed + 1_000_000),
    )
    features = test.features[:: len(PAIRS)]
    predicted: dict[str, FloatArray] = {}
    for learner in LEARNERS:
        router = SeveralRouter(learner, random_state=seed)
        predicted[learner] = router.fit(
            train.features, train.is_gold, train.outcome, train.pairs, train.items
        ).gains(features)
    for kind in BASELINE_KINDS:
        baseline = SeveralBaseline(kind, random_state=seed)
        predicted[kind] = baseline.fit(train.features, train.is_gold, train.outcome, train.pairs).gains(
            features
        )
    predicted["best possible"] = test.expected_gains
    scores = {}
    for name, gains in predicted.items():
        curve = cost_curve(gains, test.expected_gains, EXTRA_COSTS)
        most = np.maximum.accumulate(curve.mean_gain)  # what is left over need not be spent
        second, third = np.interp(EXTRA_COSTS[1:] / EXTRA_COSTS[2], curve.cost_share, most)
        scores[name] = float(second), float(third), curve.area
    alone = test.expected_gains.mean(axis=0)
    at_random = max(alone[1], EXTRA_COSTS[1] / EXTRA_COSTS[2] * alone[2])
    scores["random"] = float(at_random), float(max(at_random, alone[2])), 0.0
    scores["each alone"] = float(alone[1]), float(alone[2]), 0.0
    return scores


def several_fall_short(scores: dict[str, tuple[float, float, float]]) -> list[str]:
    """The learners that do not bring more than each agent alone, and than chance, for what that agent costs."""
    return [
        f"{learner} among several agents"
        for learner in LEARNERS
        if any(
            scores[learner][at] <= max(0.0, scores["each alone"][at], scores["random"][at]) for at in (0, 1)
        )
        or scores[learner][2] <= 0
    ]


def print_speed() -> None:
    rng = np.random.default_rng(0)
    features, new = rng.normal(size=(LEARNED_ITEMS, 50)), rng.normal(size=(ROUTED_ITEMS, 50))
    error_prob = 1 / (1 + np.exp(1 - features[:, :3] - features[:, 3:6] * features[:, 6:9]))
    wrong = rng.random(error_prob.shape) < error_prob
    costs = agent_costs(wrong, 1, consultation(0.1))
    is_gold = np.arange(LEARNED_ITEMS) % 10 == 0
    outcome = features[:, 0] + ~is_gold * features[:, 1] + rng.normal(size=LEARNED_ITEMS)
    learning: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {}
    for name, rejector in REJECTORS.items():
        learning[name] = partial(rejector.fit, features, costs), lambda learned: learned.allocate(new)
    for learner in LEARNERS:
        router = MetaRouter(learner, random_state=0)
        learning[f"meta-router, {learner}"] = (
            partial(router.fit, features, is_gold, outcome),
            lambda learned: learned.route(new, 0.1),
        )
    scorer = DisagreementScorer(random_state=0)
    learning["disagreement scorer"] = (
        partial(scorer.fit, features, wrong[:, 0]),
        lambda learned: highest_scores(learned.predict(new), 0.3),
    )
    print(f"{'seconds':<28}{f'learn {LEARNED_ITEMS:,}':>16}{f'route {ROUTED_ITEMS:,}':>16}")
    slow = []
    for name, (fit, route) in learning.items():
        learned, to_learn = timed(fit)
        _, to_route = timed(partial(route, learned))
        print(f"{name:<28}{to_learn:>16.2f}{to_route:>16.2f}", flush=True)
        if to_learn >= SECONDS_TO_LEARN or to_route >= SECONDS_TO_ROUTE:
            slow.append(name)
    if slow:
        sys.exit(f"Too slow: {'; '.join(slow)}.")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and how many seconds it takes: of the clock, or of the processor where others keep it busy."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, min(time.perf_counter() - clock, time.process_time() - processor)


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Features (n, 10); then of shape (n,): source, outcome under it, gold outcome, and expected gold gain ψ."""

    features: FloatArray
    is_gold: BoolArray
    outcome: FloatArray
    gold_outcome: FloatArray
    expected_gain: FloatArray


def comparisons(n_gold: int, n_preference: int, seed: int) -> Comparisons:
    """Gold comparisons on a scale of their own, and preferences −1, 0, 1 of a judge with a bias of its own.

    What decides the gain is intricate; the judge's bias goes with a single feature, as one for long answers would.
    Items with preferences lie a little elsewhere than those with gold comparisons.
    """
    rng = np.random.default_rng(seed)
    n = n_gold + n_preference
    is_gold = np.arange(n) < n_gold
    features = rng.normal(size=(n, 10))
    features[~is_gold, 2] += 0.3
    preference = (
        0.8 * np.sin(2 * features[:, 0])
        + 0.55 * features[:, 1] * features[:, 2]
        + 0.6 * (features[:, 3] > 0)
        - 0.3
    )
    expected_gain = (preference - 0.4 - 0.7 * features[:, 4]) / 2
    gold_outcome = expected_gain + rng.normal(scale=0.35, size=n)
    noisy = preference + rng.normal(scale=0.7, size=n)
    said = np.where(np.abs(noisy) < 0.35, 0.0, np.sign(noisy))
    return Comparisons(features, is_gold, np.where(is_gold, gold_outcome, said), gold_outcome, expected_gain)


PAIRS = ((1, 0), (2, 0), (2, 1))
EXTRA_COSTS = np.array([0.0, 1.0, 3.0])


@dataclass(frozen=True, slots=True)
class SeveralComparisons:
    """Comparisons of pairs among three agents, each (n, …); `expected_gains` (gold items, 3) are over agent 0."""

    features: FloatArray
    pairs: npt.NDArray[np.intp]
    items: npt.NDArray[np.intp]
    is_gold: BoolArray
    outcome: FloatArray
    expected_gains: FloatArray


def several_comparisons(n_gold: int, n_preference: int, seed: int) -> SeveralComparisons:
    """Three agents, the later ones better on average and each strong elsewhere. People compared all pairs of an item.

    The judge compared one pair of each other item, and likes the answers of agent 2 the more, the larger a feature is
    that does not matter, and those of agent 1 less than they deserve.
    """
    rng = np.random.default_rng([seed, 3])
    n = n_gold + n_preference
    features = rng.normal(size=(n, 10))
    features[n_gold:, 2] += 0.3
    quality = np.stack(
        [
            0.5 * features[:, 5],
            0.15 + 0.7 * np.sin(2 * features[:, 0]) + 0.3 * features[:, 5],
            0.3 + 0.5 * features[:, 1] * features[:, 2] + 0.4 * (features[:, 3] > 0) + 0.3 * features[:, 5],
        ],
        axis=1,
    )
    liked = quality + np.stack([np.zeros(n), np.full(n, -0.4), 0.7 * features[:, 4] + 0.4], axis=1)
    graded = quality + rng.normal(scale=0.3, size=quality.shape)
    all_pairs = np.array(PAIRS)
    gold_items = np.repeat(np.arange(n_gold), len(all_pairs))
    judged_items = np.arange(n_gold, n)
    items = np.concatenate([gold_items, judged_items])
    pairs = np.concatenate(
        [np.tile(all_pairs, (n_gold, 1)), all_pairs[rng.integers(len(all_pairs), size=n_preference)]]
    )
    is_gold = items < n_gold
    first, second = pairs.T
    noisy = liked[items, first] - liked[items, second] + rng.normal(scale=0.7, size=len(items))
    said = np.where(np.abs(noisy) < 0.35, 0.0, np.sign(noisy))
    outcome = np.where(is_gold, (graded[items, first] - graded[items, second]) / 2, said)
    gains = (quality - quality[:, :1])[:n_gold] / 2
    return SeveralComparisons(features[items], pairs, items, is_gold, outcome, gains)


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
