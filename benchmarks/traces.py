"""Routing by traces on generated items, where it is known which steps give errors away.

    python -m benchmarks.traces

prints the table of the trace-aware router and of everything it is compared with, at ρ = 0.3, and its escalations and
tokens with 1, 16 and 64 streams at once. It fails where the router's error recall is not above that of every one-shot
baseline, where more than B items are escalated, or where the annotator's tokens are not below annotating everything by
the share that the stopping points imply.

Generated are the items, the annotator's texts and the router model. Real are the parser, the disagreement scorer, the
choice of the setting by replay, the budget, the deployment over streams and the figures. The generated router model
reads words of doubt in the steps and weighs them against how much it has read, with noise: a single step that gives an
error away stands out when it comes, and is thin in the whole trace. That is an assumption about models that read long
texts; where it does not hold, a single look at the full trace finds as much, and saves no tokens.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from route.escalation import Decision, End, MemoryBudget, Outcome, deploy
from route.replay import (
    POLLING_INTERVALS,
    RETRIEVAL_STYLES,
    RoutingMetrics,
    choose_setting,
    deployment_order,
    escalation_budget,
    replay,
    routing_metrics,
    stopping_step,
)
from route.retrieval import Demonstrations
from route.risk import DisagreementScorer, LogisticScorer
from route.splits import risk_demo_dev
from route.trace import steps_of
from route.trace_baselines import baseline_escalations

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

LIMIT = 0.3
CONCURRENCIES = (1, 16, 64)
# They look at an item once, before or after the trace. "trace only" and "trace + retrieval" read it step by step.
ONE_SHOT = (
    "one-shot on the full trace",
    "no trace",
    "similarity rule",
    "logistic regression",
    "MLP",
    "model-stated risk",
)
# Doubt above which a router escalates, by the strictness of its wording; demonstrations move it to where errors begin.
THRESHOLDS = {"lenient": 1.05, "balanced": 0.8, "strict": 0.55}
CHARACTERS_A_TOKEN = 4
TOKENS_A_CALL = 150

_CALM = (
    "the shape in the middle has the outline that the caption names",
    "the color of the background fits what is said about the place",
    "both objects are there, and each is where the text puts it",
    "the light suggests the same time of day as the words do",
    "nothing in the corner speaks against the description",
)
_DOUBTFUL = (
    "the object cannot be seen clearly, so it is assumed to be the one that is meant",
    "the number is hard to count here, so the one in the text is taken over",
    "this part seems to contradict the step before, which is left aside",
    "perhaps this is a reflection, but it is treated as a second object",
)
_DOUBT = ("assumed", "taken over", "left aside", "perhaps")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=2_000, help="Items to route")
    parser.add_argument("--labelled", type=int, default=600, help="Items with both labels, to learn from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failures = print_traces(options.items, options.labelled, options.seed)
    if failures:
        sys.exit("The trace router falls short: " + " ".join(failures))


def print_traces(n_items: int, n_labelled: int, seed: int) -> list[str]:
    """Print all tables; a sentence for each thing that does not hold."""
    started = time.perf_counter()
    labelled, items = generated_items(n_labelled, seed + 1), generated_items(n_items, seed + 2)
    split = risk_demo_dev(labelled.is_error, seed=seed)
    scorer = DisagreementScorer(random_state=seed).fit(
        labelled.features[split.risk], labelled.is_error[split.risk]
    )
    pool = labelled.part(split.demo)
    setting = chosen_setting(labelled.part(split.dev), pool, LIMIT)
    disagreement = scorer.predict(items.features)
    budget = escalation_budget(LIMIT, n_items)
    print(
        f"{n_items} items of which {items.is_error.mean():.1%} are labelled wrongly, ρ = {LIMIT}, B = {budget}; "
        f"{n_labelled} labelled items; p̂ has AUC {scorer.auc_ or 0:.2f}\nchosen on the development split: {setting}\n"
    )
    runs = {
        concurrency: deployed(items, pool, setting, disagreement, concurrency)
        for concurrency in CONCURRENCIES
    }
    figures = {f"trace router, {number} at once": run.metrics(items) for number, run in runs.items()}
    baselines = baseline_figures(items, labelled, split.risk, split.dev, pool, disagreement, runs[1], seed)
    print_table(figures | baselines)
    failures = list(shortfalls(items, runs, figures, baselines, budget))
    print(f"\n{'':<34}{'tokens saved':>14}{'implied by τ':>14}{'by τ/T alone':>14}")
    for number, run in runs.items():
        print(
            f"{f'trace router, {number} at once':<34}{run.tokens_saved(items):>14.2%}"
            f"{run.implied_saving(items):>14.2%}{run.step_saving(items):>14.2%}"
        )
    print(f"{time.perf_counter() - started:.0f} seconds")
    return failures


@dataclass(frozen=True, slots=True)
class Items:
    """Features (n, 8), similarity (n,), whether the annotator is wrong (n,), and its traces."""

    features: FloatArray
    similarity: FloatArray
    is_error: BoolArray
    traces: Sequence[str]
    looks: FloatArray  # (n, 9) the router's noise at each look at an item: at none of its steps, at one, …

    def part(self, places: IntArray) -> "Items":
        return Items(
            self.features[places],
            self.similarity[places],
            self.is_error[places],
            [self.traces[place] for place in places],
            self.looks[places],
        )


def generated_items(n: int, seed: int) -> Items:
    """Items that are labelled wrongly the more often the harder they are, with traces of three to eight steps.

    Of a wrong label's steps one or two nearly always give it away; now and then those of a right one sound the same.
    """
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 8))
    hardness = (
        -1.5 + 0.7 * features[:, 0] + 0.5 * features[:, 1] * features[:, 2] + 0.4 * np.abs(features[:, 3])
    )
    is_error = rng.random(n) < 1 / (1 + np.exp(-hardness))
    similarity = 0.3 - 0.05 * features[:, 0] + rng.normal(scale=0.15, size=n)
    traces = []
    for wrong in is_error:
        n_steps = int(rng.integers(3, 9))
        chance = 0.92 if wrong else 0.12
        n_doubtful = int(rng.integers(1, 3)) if rng.random() < chance else 0
        doubtful = set(rng.permutation(n_steps)[:n_doubtful].tolist())
        lines = [
            f"Step {number}: {_DOUBTFUL[rng.integers(len(_DOUBTFUL))]}"
            if number - 1 in doubtful
            else f"Step {number}: {_CALM[rng.integers(len(_CALM))]}"
            for number in range(1, n_steps + 1)
        ]
        traces.append("\n".join([*lines, f"Label: [{rng.integers(2)}]"]))
    return Items(features, similarity, is_error, traces, rng.normal(size=(n, 9)))


@dataclass(frozen=True, slots=True)
class Setting:
    """ψ: strictness of the wording, demonstrations m and how they are retrieved, polling interval Δ."""

    strictness: str
    m: int
    style: str
    interval: int

    def __str__(self) -> str:
        shown = f"{self.m} demonstrations ({self.style})" if self.m else "no demonstrations"
        return f"{self.strictness} wording, {shown}, Δ = {self.interval}"


SETTINGS = tuple(
    Setting(strictness, m, style, interval)
    for strictness in THRESHOLDS
    for m in (0, 4)
    for style in (RETRIEVAL_STYLES if m else RETRIEVAL_STYLES[:1])
    for interval in POLLING_INTERVALS
)


def doubt(steps: Sequence[str]) -> float:
    """How doubtful a reading is: each doubtful step adds to it, and the more is read, the less each weighs."""
    return 2 * sum(any(word in step for word in _DOUBT) for step in steps) / (1 + 0.5 * len(steps))


class GeneratedRouter:
    """The router model: doubt in what it reads and noise of its own, which demonstrations make smaller."""

    def __init__(self, items: Items, pool: Items, setting: Setting) -> None:
        self._items, self._setting = items, setting
        self._threshold = THRESHOLDS[setting.strictness]
        # The more wrong ones among the items shown, the more it looks for.
        demonstrations = Demonstrations(pool.features, pool.is_error)
        self._shift = np.zeros(len(items.traces))
        for place, vector in enumerate(items.features if setting.m else ()):
            shown = demonstrations.retrieve(vector, setting.m, setting.style)
            self._shift[place] = 0.15 * (float(pool.is_error[shown].mean()) - 0.25)
        self._noise = 0.12 if setting.m else 0.2

    def score(self, item: int, steps: Sequence[str]) -> float:
        """Doubt about an item after these steps; without steps, about how little text and image are alike."""
        noise = self._noise * float(self._items.looks[item, len(steps)])
        seen = doubt(steps) if steps else 0.6 + 2 * (0.3 - float(self._items.similarity[item]))
        return seen + float(self._shift[item]) + noise

    def escalates(self, item: int, steps: Sequence[str]) -> bool:
        return self.score(item, steps) > self._threshold

    def stopped_at(self, item: int, steps: Sequence[str]) -> int:
        """τ of a logged trace, 0 where it is not escalated."""
        said = [self.escalates(item, steps[:number]) for number in range(1, len(steps) + 1)]
        return stopping_step(said, self._setting.interval)

    async def __call__(self, item: int, steps: Sequence[str]) -> Decision:
        await asyncio.sleep(0)
        tokens = TOKENS_A_CALL + sum(map(len, steps)) // CHARACTERS_A_TOKEN
        return Decision(self.escalates(item, steps), tokens=tokens)


def chosen_setting(dev: Items, pool: Items, limit: float) -> Setting:
    """The setting that replays best on the development split (Eq. 2)."""
    steps = [steps_of(trace) for trace in dev.traces]
    replays = []
    for setting in SETTINGS:
        router = GeneratedRouter(dev, pool, setting)
        stops = [router.stopped_at(item, read) for item, read in enumerate(steps)]
        replays.append(replay(dev.is_error, stops, [len(read) for read in steps]))
    best = choose_setting(replays, limit)
    if best is None:
        sys.exit(f"No setting escalates at most {limit:.0%} of the development split.")
    return SETTINGS[best]


@dataclass(frozen=True, slots=True)
class Run:
    """What a deployment did, by item: how much of its trace was written (characters), and how it ended."""

    setting: Setting
    written: IntArray
    outcomes: Sequence[Outcome[int]]

    @property
    def stopped_at(self) -> IntArray:
        return np.array([outcome.stopped_at for outcome in self.outcomes], dtype=np.intp)

    def metrics(self, items: Items) -> RoutingMetrics:
        return routing_metrics(
            items.is_error,
            [outcome.end is End.ESCALATED for outcome in self.outcomes],
            judge_tokens=tokens(self.written),
            full_tokens=full_tokens(items),
            router_tokens=[outcome.router_tokens for outcome in self.outcomes],
        )

    def tokens_saved(self, items: Items) -> float:
        return 1 - float(tokens(self.written).sum() / full_tokens(items).sum())

    def implied_saving(self, items: Items) -> float:
        """The share of tokens after the places in the logged traces where the stopping steps are complete."""
        ends = [
            self._completed_at(trace, step) for trace, step in zip(items.traces, self.stopped_at, strict=True)
        ]
        return 1 - float(tokens(np.array(ends)).sum() / full_tokens(items).sum())

    def step_saving(self, items: Items) -> float:
        """The share of steps saved, as if all were equally long: 1 − mean τ/T."""
        n_steps = [trace.count("Step ") for trace in items.traces]
        return 1 - replay(items.is_error, self.stopped_at, n_steps).effort

    def _completed_at(self, trace: str, step: int) -> int:
        """Where the marker ends that completes a step; the whole trace where it was not stopped before its end."""
        is_last = step == trace.count("Step ")
        if step == 0 or (is_last and step % self.setting.interval):
            return len(trace)
        marker = "\nLabel:" if is_last else f"\nStep {step + 1}:"
        return trace.index(marker) + len(marker)


def deployed(items: Items, pool: Items, setting: Setting, disagreement: FloatArray, concurrency: int) -> Run:
    """Algorithm 1 on streams of the traces, so many at once."""
    n_items = len(items.traces)
    written = np.zeros(n_items, dtype=np.intp)

    async def stream(item: int) -> AsyncGenerator[str, None]:
        trace = items.traces[item]
        for start in range(0, len(trace), CHARACTERS_A_TOKEN):
            if (start // CHARACTERS_A_TOKEN + item) % 5 == 0:
                await asyncio.sleep(0)  # streams do not come in step
            written[item] = min(start + CHARACTERS_A_TOKEN, len(trace))
            yield trace[start : start + CHARACTERS_A_TOKEN]

    order = deployment_order(disagreement)
    outcomes = asyncio.run(
        deploy(
            order.tolist(),
            stream,
            GeneratedRouter(items, pool, setting),
            MemoryBudget.of(LIMIT, n_items),
            interval=setting.interval,
            concurrency=concurrency,
        )
    )
    return Run(setting, written, sorted(outcomes, key=lambda outcome: outcome.item))


def baseline_figures(
    items: Items,
    labelled: Items,
    risk: IntArray,
    dev: IntArray,
    pool: Items,
    disagreement: FloatArray,
    run: Run,
    seed: int,
) -> dict[str, RoutingMetrics]:
    """Figures of every baseline; each that asks the router model has the wording that is best for it on dev."""
    logistic = LogisticScorer().fit(labelled.features[risk], labelled.is_error[risk])
    n_items = len(items.traces)
    one_setting = Setting("balanced", run.setting.m, run.setting.style, 1)
    on_item = GeneratedRouter(items, pool, one_setting)
    scores = np.array([on_item.score(item, ()) for item in range(n_items)])
    stops = {
        name: stops_of(items, labelled.part(dev), pool, m, look)
        for name, m, look in (
            ("full_trace", run.setting.m, at_the_end),
            ("no_trace", run.setting.m, before_the_trace),
            ("trace_only", 0, step_by_step),
            ("trace_and_retrieval", 4, step_by_step),
        )
    }
    found = baseline_escalations(
        LIMIT,
        disagreement,
        n_escalated=int((run.stopped_at > 0).sum()),
        rng=np.random.default_rng(seed),
        full_trace=stops["full_trace"] != 0,
        no_trace=stops["no_trace"] != 0,
        trace_only=stops["trace_only"] != 0,
        trace_and_retrieval=stops["trace_and_retrieval"] != 0,
        similarity=items.similarity,
        logistic=logistic.predict(items.features),
        stated_risk=np.where(scores > 0.9, "high", np.where(scores > 0.6, "medium", "low")),
    )
    full = full_tokens(items)
    reads_steps = {
        "trace only": stops["trace_only"],
        "trace + retrieval": stops["trace_and_retrieval"],
    }
    figures = {}
    for name, escalated in found.items():
        if name in reads_steps:
            shares = reads_steps[name] / [trace.count("Step ") for trace in items.traces]
            spent = np.where(escalated, np.ceil(full * shares), full).astype(np.intp)
        elif name in ("AI only", "one-shot on the full trace"):
            spent = full
        else:
            spent = np.where(escalated, 0, full)
        figures[name] = routing_metrics(items.is_error, escalated, judge_tokens=spent, full_tokens=full)
    return figures


Look = Callable[[GeneratedRouter, int, Sequence[str]], int]


def step_by_step(router: GeneratedRouter, item: int, steps: Sequence[str]) -> int:
    return router.stopped_at(item, steps)


def at_the_end(router: GeneratedRouter, item: int, steps: Sequence[str]) -> int:
    return len(steps) if router.escalates(item, steps) else 0


def before_the_trace(router: GeneratedRouter, item: int, steps: Sequence[str]) -> int:
    return len(steps) if router.escalates(item, ()) else 0


def stops_of(items: Items, dev: Items, pool: Items, m: int, look: Look) -> IntArray:
    """τ of every item for a way of looking, by the wording that misses fewest errors on dev within ρ."""

    def stops(of: Items, strictness: str) -> IntArray:
        router = GeneratedRouter(of, pool, Setting(strictness, m, RETRIEVAL_STYLES[0], 1))
        return np.array([look(router, item, steps_of(trace)) for item, trace in enumerate(of.traces)])

    n_steps = [len(steps_of(trace)) for trace in dev.traces]
    wordings = tuple(THRESHOLDS)
    best = choose_setting([replay(dev.is_error, stops(dev, one), n_steps) for one in wordings], LIMIT)
    # Where every wording escalates too much, the budget cuts the one that escalates least.
    return stops(items, wordings[best or 0])


def tokens(characters: IntArray) -> IntArray:
    return -(-characters // CHARACTERS_A_TOKEN)


def full_tokens(items: Items) -> IntArray:
    return tokens(np.array([len(trace) for trace in items.traces]))


def print_table(figures: dict[str, RoutingMetrics]) -> None:
    print(
        f"{'':<34}{'accuracy':>9}{'escalated':>10}{'recall':>8}{'false':>8}{'precision':>10}{'tokens saved':>14}"
    )
    for name, one in figures.items():
        shares = (one.recall, one.false_escalation_rate, one.precision)
        recall, false, precision = ("–" if share is None else f"{share:.3f}" for share in shares)
        print(
            f"{name:<34}{one.accuracy:>9.3f}{one.escalation_rate:>10.3f}{recall:>8}{false:>8}{precision:>10}"
            f"{one.judge_tokens_saved or 0:>14.2%}"
        )


def shortfalls(
    items: Items,
    runs: dict[int, Run],
    figures: dict[str, RoutingMetrics],
    baselines: dict[str, RoutingMetrics],
    budget: int,
) -> Iterator[str]:
    """A sentence for each thing that must hold and does not."""
    best = max(ONE_SHOT, key=lambda name: baselines[name].recall or 0)
    for (number, run), one in zip(runs.items(), figures.values(), strict=True):
        n_escalated = int((run.stopped_at > 0).sum())
        if n_escalated > budget:
            yield f"With {number} at once {n_escalated} items were escalated, {n_escalated - budget} above B."
        if not (one.recall or 0) > (baselines[best].recall or 0):
            yield f"With {number} at once its error recall is not above that of {best}."
        if run.tokens_saved(items) <= 0 or run.tokens_saved(items) != run.implied_saving(items):
            yield f"With {number} at once the tokens saved are not what the stopping points imply."


if __name__ == "__main__":
    main()
