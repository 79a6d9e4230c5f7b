"""Routing by traces of real models: a committee speaks member by member, and a rule reads along.

Real are the items, what each member says and how sure it is, and so the errors and what gives them away. Constructed is
that this is written down as numbered steps; and in place of a router model there is a fixed rule that reads that text:
it adds how unlikely the label that leads seems, and how many members speak against it. No one has fitted it to the
items; as with a model, only its wording (how much doubt it takes), its demonstrations and its polling are chosen on the
development split.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.downstream.data import IndexArray
from benchmarks.routing_real.annotators import FloatArray, RealItems, dealt, mean_and_error, trained
from benchmarks.traces import (
    CHARACTERS_A_TOKEN,
    LIMIT,
    ONE_SHOT,
    SETTINGS,
    TOKENS_A_CALL,
    Items,
    Run,
    Setting,
)
from benchmarks.traces import full_tokens as full_tokens_of
from route.deferral import IntArray
from route.escalation import Decision, MemoryBudget, deploy
from route.replay import (
    RoutingMetrics,
    choose_setting,
    escalation_budget,
    replay,
    routing_metrics,
    stopping_step,
)
from route.retrieval import Demonstrations
from route.risk import DisagreementScorer, LogisticScorer
from route.splits import risk_demo_dev, unit_rows
from route.trace import steps_of
from route.trace_baselines import baseline_escalations, least_similar

MEMBERS = 8
# Labels that the committee learns from, and of them each member; items with both labels; items to route.
COMMITTEE, EACH_MEMBER, LABELLED, ROUTED = 1_500, 300, 600, 2_000
CONCURRENCIES = (1, 16, 64)
# Not among the product's baselines: it knows the label at the end of the trace, and the items labeled by people.
AFTERWARDS = "similarity to the final label"
# Doubt above which the rule escalates: 0 is a label that all give and that is certain.
THRESHOLDS = {"lenient": 0.45, "balanced": 0.35, "strict": 0.25}

_READ = re.compile(
    r"so far [^;]+ at (?P<probability>[01]\.\d\d); (?P<against>\d+) of (?P<members>\d+) against it$"
)


def committee(items: RealItems, rows: IndexArray, seed: int) -> tuple[list[list[str]], FloatArray]:
    """What each member says of every item, (members, n) labels, and the probabilities, (members, n, classes).

    Each member learned from its own sample of the rows, all classes among them.
    """
    rng = np.random.default_rng([seed, 1])
    labels, probabilities = [], []
    for _ in range(MEMBERS):
        own = rng.choice(rows, EACH_MEMBER, replace=False)
        while len(np.unique(items.gold[own])) < len(np.unique(items.gold)):
            own = rng.choice(rows, EACH_MEMBER, replace=False)
        member = trained(items.much, items.gold, own, items.strength)
        labels.append(member.answers.tolist())
        probabilities.append(member.probabilities)
    return labels, np.array(probabilities)


def trace_of(said: Sequence[str], probabilities: FloatArray, classes: Sequence[str]) -> tuple[str, str]:
    """The trace of one item from what each member says, and the label it ends with.

    `probabilities` (members, classes). The label that leads after a step is the one with the highest mean probability.
    """
    lines, leading = [], ""
    for number in range(1, len(said) + 1):
        mean = probabilities[:number].mean(axis=0)
        leading = classes[int(mean.argmax())]
        against = sum(label != leading for label in said[:number])
        own = probabilities[number - 1].max()
        lines.append(
            f"Step {number}: member {number} says {said[number - 1]} ({own:.2f}); "
            f"so far {leading} at {mean.max():.2f}; {against} of {number} against it"
        )
    return "\n".join([*lines, f"Label: [{list(classes).index(leading)}]"]), leading


def doubt(step: str) -> float:
    """How doubtful the label that leads is after a step, in [0, 1], read from its text.

    Raises ValueError for a step of another form.
    """
    found = _READ.search(step)
    if found is None:
        raise ValueError(f"This is no step of the committee: {step!r}.")
    return (1 - float(found["probability"]) + int(found["against"]) / int(found["members"])) / 2


class ReadingRouter:
    """The rule in place of a router model: doubt in the last step that it has read, more where the items it is shown
    as demonstrations were mostly wrong.
    """

    def __init__(self, items: Items, pool: Items, setting: Setting) -> None:
        self._setting = setting
        self._share_wrong = float(pool.is_error.mean())
        demonstrations = Demonstrations(pool.features, pool.is_error)
        self._shift = np.zeros(len(items.traces))
        for place, vector in enumerate(items.features if setting.m else ()):
            shown = demonstrations.retrieve(vector, setting.m, setting.style)
            self._shift[place] = (float(pool.is_error[shown].mean()) - self._share_wrong) / 2

    def score(self, item: int, steps: Sequence[str]) -> float:
        """Doubt after these steps; before the first, how often the annotator is wrong."""
        return (doubt(steps[-1]) if steps else self._share_wrong) + float(self._shift[item])

    def escalates(self, item: int, steps: Sequence[str]) -> bool:
        return self.score(item, steps) > THRESHOLDS[self._setting.strictness]

    def stopped_at(self, item: int, steps: Sequence[str]) -> int:
        """τ of a logged trace, 0 where it is not escalated."""
        said = [self.escalates(item, steps[:number]) for number in range(1, len(steps) + 1)]
        return stopping_step(said, self._setting.interval)

    async def __call__(self, item: int, steps: Sequence[str]) -> Decision:
        await asyncio.sleep(0)
        tokens = TOKENS_A_CALL + sum(map(len, steps)) // CHARACTERS_A_TOKEN
        return Decision(self.escalates(item, steps), tokens=tokens)


Look = Callable[[ReadingRouter, int, Sequence[str]], int]


def step_by_step(router: ReadingRouter, item: int, steps: Sequence[str]) -> int:
    return router.stopped_at(item, steps)


def at_the_end(router: ReadingRouter, item: int, steps: Sequence[str]) -> int:
    return len(steps) if router.escalates(item, steps) else 0


def before_the_trace(router: ReadingRouter, item: int, steps: Sequence[str]) -> int:
    return len(steps) if router.escalates(item, ()) else 0


def stops_of(items: Items, pool: Items, setting: Setting, look: Look) -> IntArray:
    """τ of every item, 0 where it is not escalated, (n,)."""
    router = ReadingRouter(items, pool, setting)
    return np.array([look(router, item, steps_of(trace)) for item, trace in enumerate(items.traces)])


def chosen(dev: Items, pool: Items, settings: Sequence[Setting], look: Look) -> Setting:
    """The setting that replays best on the development split (Eq. 2); the most lenient where none keeps to ρ, whose
    escalations the budget then cuts.
    """
    n_steps = [MEMBERS] * len(dev.traces)
    replays = [replay(dev.is_error, stops_of(dev, pool, setting, look), n_steps) for setting in settings]
    best = choose_setting(replays, LIMIT)
    return settings[best or 0]


@dataclass(frozen=True)
class Dealt:
    """Items to route, and those with both labels: to learn p̂ from, as demonstrations, and to choose on.

    `to_final` (n,): how like each item to route is to the labelled items of the label that its trace ends with.
    """

    items: Items
    to_final: FloatArray
    risk: Items
    demo: Items
    dev: Items


def traced_items(items: RealItems, seed: int) -> Dealt:
    """Train a committee, and write down what it says of the labelled items and of those to route."""
    rows, labelled, routed, _ = dealt(len(items), (COMMITTEE, LABELLED, ROUTED), seed)
    said, probabilities = committee(items, rows, seed)
    classes = np.unique(items.gold).tolist()
    # What a rule without training can look at: how like an item is to the labelled items of each label.
    centers = unit_rows(
        np.array([items.vectors[labelled[items.gold[labelled] == label]].mean(axis=0) for label in classes])
    )

    def traced(places: IndexArray) -> tuple[Items, FloatArray]:
        found = [
            trace_of([member[place] for member in said], probabilities[:, place], classes)
            for place in places.tolist()
        ]
        final = [label for _, label in found]
        similarity = unit_rows(items.vectors[places]) @ centers.T
        to_final = similarity[np.arange(len(places)), [classes.index(label) for label in final]]
        is_error = np.array(final) != items.gold[places]
        traces = [trace for trace, _ in found]
        looks = np.zeros((len(places), 0))  # the rule makes no mistakes of its own
        return Items(items.vectors[places], similarity.max(axis=1), is_error, traces, looks), to_final

    known, _ = traced(labelled)
    split = risk_demo_dev(known.is_error, seed=seed)
    return Dealt(*traced(routed), known.part(split.risk), known.part(split.demo), known.part(split.dev))


def deployed(items: Items, pool: Items, setting: Setting, order: IntArray, concurrency: int) -> Run:
    """Algorithm 1 on streams of the traces, so many at once."""
    written = np.zeros(len(items.traces), dtype=np.intp)

    async def stream(item: int) -> AsyncGenerator[str, None]:
        trace = items.traces[item]
        for start in range(0, len(trace), CHARACTERS_A_TOKEN):
            if (start // CHARACTERS_A_TOKEN + item) % 5 == 0:
                await asyncio.sleep(0)  # streams do not come in step
            written[item] = min(start + CHARACTERS_A_TOKEN, len(trace))
            yield trace[start : start + CHARACTERS_A_TOKEN]

    budget = MemoryBudget.of(LIMIT, len(items.traces))
    router = ReadingRouter(items, pool, setting)
    outcomes = asyncio.run(
        deploy(order.tolist(), stream, router, budget, interval=setting.interval, concurrency=concurrency)
    )
    return Run(setting, written, sorted(outcomes, key=lambda outcome: outcome.item))


def figures_of(given: Dealt, seed: int) -> tuple[dict[str, RoutingMetrics], list[str]]:
    """The figures of the router and of every baseline, and what must hold and does not."""
    items, pool = given.items, given.demo
    scorer = DisagreementScorer(random_state=seed).fit(given.risk.features, given.risk.is_error)
    logistic = LogisticScorer().fit(given.risk.features, given.risk.is_error)
    disagreement = scorer.predict(items.features)
    setting = chosen(given.dev, pool, SETTINGS, step_by_step)
    order = np.argsort(-disagreement, kind="stable")
    runs = {number: deployed(items, pool, setting, order, number) for number in CONCURRENCIES}
    figures = {f"trace router, {number} at once": run.metrics(items) for number, run in runs.items()}
    failures = list(shortfalls(items, runs))
    with_demonstrations = [one for one in SETTINGS if one.m and one.interval == 1]
    without = [one for one in SETTINGS if not one.m and one.interval == 1]
    same = [one for one in SETTINGS if (one.m, one.style) == (setting.m, setting.style) and one.interval == 1]
    stops = {
        name: stops_of(items, pool, chosen(given.dev, pool, settings, look), look)
        for name, settings, look in (
            ("full_trace", same, at_the_end),
            ("no_trace", with_demonstrations, before_the_trace),
            ("trace_only", without, step_by_step),
            ("trace_and_retrieval", with_demonstrations, step_by_step),
        )
    }
    asked_once = ReadingRouter(items, pool, with_demonstrations[0])
    risk = np.array([asked_once.score(item, ()) for item in range(len(items.traces))])
    found = baseline_escalations(
        LIMIT,
        disagreement,
        n_escalated=int((runs[1].stopped_at > 0).sum()),
        rng=np.random.default_rng(seed),
        full_trace=stops["full_trace"] > 0,
        no_trace=stops["no_trace"] > 0,
        trace_only=stops["trace_only"] > 0,
        trace_and_retrieval=stops["trace_and_retrieval"] > 0,
        similarity=items.similarity,
        logistic=logistic.predict(items.features),
        stated_risk=np.where(
            risk > THRESHOLDS["lenient"], "high", np.where(risk > THRESHOLDS["strict"], "medium", "low")
        ),
    )
    found[AFTERWARDS] = least_similar(given.to_final, LIMIT)
    full = full_tokens_of(items)
    read = {"trace only": stops["trace_only"], "trace + retrieval": stops["trace_and_retrieval"]}
    for name, escalated in found.items():
        at_end = name in ("one-shot on the full trace", AFTERWARDS)
        shares = read[name] / MEMBERS if name in read else float(at_end)
        spent = np.where(escalated, np.ceil(full * shares), full).astype(np.intp)
        figures[name] = routing_metrics(items.is_error, escalated, judge_tokens=spent, full_tokens=full)
    return figures, failures


def shortfalls(items: Items, runs: Mapping[int, Run]) -> list[str]:
    """A sentence for each thing that must hold of a deployment and does not."""
    found = []
    budget = escalation_budget(LIMIT, len(items.traces))
    for number, run in runs.items():
        n_escalated = int((run.stopped_at > 0).sum())
        if n_escalated > budget:
            found.append(f"With {number} at once {n_escalated} items were escalated, B is {budget}.")
        if run.tokens_saved(items) != run.implied_saving(items):
            found.append(f"With {number} at once the tokens saved are not what the stopping points imply.")
    return found


def verdict(recalls: Mapping[str, Sequence[float]]) -> str:
    """Which baselines that look once the router's mean error recall is above and which not, over the same seeds."""
    router = np.array(recalls[f"trace router, {CONCURRENCIES[0]} at once"])
    lines = []
    for name in (*ONE_SHOT, AFTERWARDS):
        mean, error = mean_and_error(router - np.array(recalls[name]))
        lines.append(f"{'above' if mean > 0 else 'NOT above'} {name}: {mean:+.3f} ± {error:.3f}")
    return "\n".join(lines)


def print_traces(items: RealItems, n_seeds: int) -> list[str]:
    """Print the table of means over seeds, and how recall compares; what must hold and does not, as sentences."""
    each: list[dict[str, RoutingMetrics]] = []
    failures = []
    share_wrong = []
    for seed in range(n_seeds):
        given = traced_items(items, seed)
        figures, missed = figures_of(given, seed)
        each.append(figures)
        failures += [f"Seed {seed}: {sentence}" for sentence in missed]
        share_wrong.append(float(given.items.is_error.mean()))
    print(
        f"{items.key}: a committee of {MEMBERS} models with {EACH_MEMBER} labels each; {LABELLED} items with both "
        f"labels; {ROUTED:,} items to route, of which it labels {np.mean(share_wrong):.1%} wrongly; ρ = {LIMIT}; "
        f"means over {n_seeds} seeds, of recall ± its standard error\n"
    )
    print(f"{'':<30}{'recall':>16}{'escalated':>11}{'precision':>11}{'accuracy':>10}{'tokens saved':>14}")
    recalls = {name: [one[name].recall or 0.0 for one in each] for name in each[0]}
    for name, of_seeds in recalls.items():
        recall, error = mean_and_error(of_seeds)
        same = [one[name] for one in each]
        known = [one.precision for one in same if one.precision is not None]
        print(
            f"{name:<30}{f'{recall:.3f} ± {error:.3f}':>16}{np.mean([one.escalation_rate for one in same]):>11.3f}"
            f"{f'{np.mean(known):.3f}' if known else '–':>11}{np.mean([one.accuracy for one in same]):>10.3f}"
            f"{np.mean([one.judge_tokens_saved or 0.0 for one in same]):>14.2%}"
        )
    print(
        f"\nerror recall of the trace router against those that look once (difference, same seeds)\n{verdict(recalls)}"
    )
    return failures
