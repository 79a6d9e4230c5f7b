"""The meta-router between a cheap and a premium trained model, on real items, with a third one as the judge."""

from dataclasses import dataclass

import numpy as np

from benchmarks.downstream.data import IndexArray
from benchmarks.routing_real.annotators import (
    BoolArray,
    FloatArray,
    RealItems,
    dealt,
    mean_and_error,
    trained,
)
from route.meta import LEARNERS, MetaRouter
from route.meta_baselines import BASELINE_KINDS, BaselineRouter
from route.meta_metrics import efficiency_curve

# Labels that the cheap model, the premium one and the judge learn from.
SIZES = {"tweets": (300, 4_000, 2_000), "digits": (300, 1_000, 600)}
PREFERENCES = {"tweets": 2_000, "digits": 1_500}
# With so many gold comparisons, a learner's area has to be within this share of the oracle's.
MANY_GOLD, ORACLE_SHARE = 1_000, 0.85


@dataclass(frozen=True)
class Judge:
    """`known_of_second`: how many of its labels are of the second part of the items; None for as many as there are.

    In that part some judges prefer the answers of their kin, which is the cheap model: `kin_where_differ`, whatever
    they know themselves, and they see no equal answers; `kin_where_equal`, where the two say the same, because of how
    it is said.
    """

    known_of_second: int | None = None
    kin_where_differ: bool = False
    kin_where_equal: bool = False


JUDGES = {
    "fair": Judge(),
    "partial": Judge(known_of_second=25),
    "kin": Judge(kin_where_differ=True),
    "ties": Judge(kin_where_equal=True),
}


@dataclass(frozen=True)
class Compared:
    """All items as comparisons, premium minus cheap, each (n,) in {−1, 0, 1}: gold gain and the judge's preference.

    `differ` (n,), whether the two answers do. Accuracies of the cheap model, the premium one and the judge itself.
    """

    gain: FloatArray
    preference: FloatArray
    differ: BoolArray
    accuracies: tuple[float, float, float]


def compared(
    items: RealItems, cheap: IndexArray, premium: IndexArray, judge: IndexArray, judge_kind: str
) -> Compared:
    """Train the three, and compare. The judge prefers the answer that it finds likelier, and neither of equal ones,
    but for what its kind says of the second part.
    """
    kind, first = JUDGES[judge_kind], items.is_first_part[judge]
    known = np.concatenate([judge[first], judge[~first][: kind.known_of_second]])
    models = [
        trained(items.little, items.gold, cheap, items.strength),
        trained(items.much, items.gold, premium, items.strength),
        trained(items.much, items.gold, known, items.strength),
    ]
    cheap_said, premium_said, _ = (model.answers for model in models)
    likelier = np.sign(models[2].probability_of(premium_said) - models[2].probability_of(cheap_said))
    differ = cheap_said != premium_said
    is_for_kin = ~items.is_first_part & np.where(differ, kind.kin_where_differ, kind.kin_where_equal)
    right = [(model.answers == items.gold).astype(float) for model in models]
    return Compared(
        right[1] - right[0],
        np.where(is_for_kin, -1.0, np.where(differ, likelier, 0.0)),
        differ,
        (float(right[0].mean()), float(right[1].mean()), float(right[2].mean())),
    )


@dataclass(frozen=True)
class Figures:
    """Of one seed, on items that nothing was learned from: (squared error, area) by router, and what was compared.

    `variance` of the gain: the squared error of its mean. `bias` of the judge, preference minus gain, in both parts.
    """

    scores: dict[str, tuple[float, float]]
    variance: float
    differ: float
    bias: tuple[float, float]
    accuracies: tuple[float, float, float]


def figures_of(items: RealItems, judge: str, n_gold: int, seed: int) -> Figures:
    sizes = (*SIZES[items.key], n_gold, PREFERENCES[items.key])
    cheap, premium, judging, gold, preferred, test = dealt(len(items), sizes, seed)
    said = compared(items, cheap, premium, judging, judge)
    learn = np.concatenate([gold, preferred])
    is_gold = np.arange(len(learn)) < n_gold
    outcome = np.where(is_gold, said.gain[learn], said.preference[learn])
    routers: dict[str, MetaRouter | BaselineRouter] = {
        name: MetaRouter(name, random_state=seed).fit(items.vectors[learn], is_gold, outcome)
        for name in LEARNERS
    }
    for kind in BASELINE_KINDS:
        routers[kind] = BaselineRouter(kind, random_state=seed).fit(items.vectors[learn], is_gold, outcome)
    oracle = BaselineRouter("gold", random_state=seed)
    routers["oracle"] = oracle.fit(items.vectors[learn], np.ones_like(is_gold), said.gain[learn])
    scores = {}
    for name, router in routers.items():
        predicted = router.predict(items.vectors[test])
        error = float(np.mean((predicted - said.gain[test]) ** 2))
        scores[name] = error, efficiency_curve(predicted, said.gain[test]).area
    bias, first = (said.preference - said.gain)[test], items.is_first_part[test]
    return Figures(
        scores,
        float(said.gain[test].var()),
        float(said.differ[test].mean()),
        (float(bias[first].mean()), float(bias[~first].mean())),
        said.accuracies,
    )


def shortfalls(scores: dict[str, tuple[float, float]], n_gold: int) -> list[str]:
    """A sentence for each learner and baseline that it is not better than; scores are means.

    With 1,000 gold comparisons or more, also where a learner's area is not within 15% of the oracle's.
    """
    found = []
    for learner in LEARNERS:
        for kind in BASELINE_KINDS:
            if scores[learner][0] >= scores[kind][0]:
                found.append(f"The squared error of “{learner}” is not below that of “{kind}”.")
            if scores[learner][1] <= scores[kind][1]:
                found.append(f"The area of “{learner}” is not above that of “{kind}”.")
        if scores[learner][1] <= 0:
            found.append(f"The area of “{learner}” is not above chance.")
        if n_gold >= MANY_GOLD and scores[learner][1] < ORACLE_SHARE * scores["oracle"][1]:
            found.append(f"The area of “{learner}” is not within 15% of the oracle's.")
    return found


def print_meta(items: RealItems, judge: str, n_gold: int, n_seeds: int) -> list[str]:
    """Print the table of means over seeds; what does not hold, as sentences."""
    each = [figures_of(items, judge, n_gold, seed) for seed in range(n_seeds)]
    cheap, premium, judging = np.mean([one.accuracies for one in each], axis=0)
    bias = np.mean([one.bias for one in each], axis=0)
    print(
        f"{items.key}: {n_gold} gold comparisons, {PREFERENCES[items.key]:,} preferences, means over {n_seeds} seeds "
        "± standard errors\n"
        f"accuracy: cheap {cheap:.3f}, premium {premium:.3f}, {judge} judge {judging:.3f}; their answers differ on "
        f"{np.mean([one.differ for one in each]):.1%} of the items\n"
        f"bias of the judge: {bias[0]:+.3f} on {items.part_names[0]}, {bias[1]:+.3f} on {items.part_names[1]}\n"
        f"squared error of predicting the mean gain everywhere: {np.mean([one.variance for one in each]):.4f}. Gains "
        "are −1, 0 or 1, which no vector tells for certain: most of each error cannot be avoided. The last column is "
        "what the error is above the oracle's.\n"
    )
    print(f"{'':<12}{'squared error':>20}{'area':>20}{'error above oracle':>22}")
    means = {}
    for name in each[0].scores:
        errors, areas = np.array([one.scores[name] for one in each]).T
        above = errors - [one.scores["oracle"][0] for one in each]
        shown = ["{:.4f} ± {:.4f}".format(*mean_and_error(values)) for values in (errors, areas, above)]
        means[name] = float(errors.mean()), float(areas.mean())
        print(f"{name:<12}{shown[0]:>20}{shown[1]:>20}{shown[2]:>22}")
    print(f"{'random':<12}{'':>20}{'0':>20}")
    return shortfalls(means, n_gold)
