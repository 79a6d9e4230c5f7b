"""How well a meta-router tells where the premium annotator is worth its price, beside what it is compared with."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingRegressor
from threadpoolctl import threadpool_limits

from route.meta import FOLDS, LEARNERS, MetaRouter, reduced, reduction
from route.meta_baselines import BASELINE_KINDS, BaselineRouter
from route.meta_metrics import CostCurve, EfficiencyCurve, cost_curve, efficiency_curve
from route.meta_several import SeveralBaseline, SeveralRouter
from route.meta_sharing import Dealt, SharedFits
from route.trained import Between
from route.training_data import checked_features

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

REGRESSORS = ("forest", "boosting")
POINTS = 51  # of each curve
_LOOK_EVERY = 1.0  # seconds
_DEALS = 20  # tries to hold out parts that leave both outcomes to learn from
_NAMES = {
    "dr": "Meta-router, DR-learner",
    "r": "Meta-router, R-learner",
    "gold": "Gold alone",
    "preference": "Preferences alone",
    "pooled": "Both, pooled",
    "mean_shift": "Both, mean-shifted",
}
_BETWEEN: Between = lambda done=0, total=0: None  # noqa: E731


def regressor_of(name: str) -> Any:
    """An unfitted regressor by its name; None for the default forest. Raises ValueError for another name."""
    if name not in REGRESSORS:
        raise ValueError(f"The regressor is one of {', '.join(REGRESSORS)}, not {name!r}.")
    return GradientBoostingRegressor() if name == "boosting" else None


@dataclass(frozen=True, slots=True)
class Line:
    """One method: squared error of the predicted gain and area under the efficiency gain, on gold that was held out.

    `share` and `gain` are the points of its curve: the premium share, and the gain over random routing for one item.
    """

    name: str
    kind: str
    squared_error: float | None
    area: float
    share: list[float]
    gain: list[float]


@dataclass(frozen=True)
class Report:
    """The router, the table with its curves, and the predictions for the gold comparisons by routers that were learned
    without them.
    """

    router: MetaRouter
    lines: list[Line]
    predicted: FloatArray
    missing: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {"table": [asdict(line) for line in self.lines], "missing": self.missing}


def report_of(
    features: FloatArray,
    is_gold: BoolArray,
    outcome: FloatArray,
    *,
    learner: str,
    regressor: str = "forest",
    scaling: str | None = "variance",
    seed: int,
    between: Between = _BETWEEN,
) -> Report:
    """Learn, and measure by cross-validation over the gold comparisons: all methods predict each without it.

    `features` (n, d), `is_gold` (n,), `outcome` (n,) premium minus cheap. `missing` says which methods could not be
    fitted, and why. Raises ValueError as `MetaRouter.fit` where `learner` itself cannot.

    Everything that the router learns from is dealt into folds once, and what does not overlap is left out of all that
    measures a meta-router: this looks at no outcome. So what is learned of the preferences is learned once.
    """
    gold = np.flatnonzero(is_gold)
    gains = outcome[gold]
    parts = held_out_parts(gains, seed)

    def router(kind: str, rows: BoolArray, known: FloatArray, shared: _Shared) -> MetaRouter:
        made = MetaRouter(kind, regressor_of(regressor), scaling, seed)
        return made.fit(known[rows], is_gold[rows], outcome[rows], **shared)

    def baseline(kind: str, rows: BoolArray, known: FloatArray, fits: SharedFits) -> BaselineRouter:
        made = BaselineRouter(kind, regressor_of(regressor), scaling, seed)
        return made.fit(known[rows], is_gold[rows], outcome[rows], fits=fits)

    def without(part: IntArray) -> BoolArray:
        rows = np.ones(len(features), dtype=np.bool_)
        rows[gold[part]] = False
        return rows

    measuring = _Measuring(
        features=features,
        learner=learner,
        seed=seed,
        router=router,
        baseline=baseline,
        parts=[_Part(part, without(part), gold[part]) for part in parts],
        predict=lambda fitted, asked: fitted.predict(asked),
        shape=gains.shape,
    )
    learned, predictions, missing = measuring.run(between)
    lines = [
        _line(_NAMES[kind], _kind_of(kind), predicted, gains, float(((predicted - gains) ** 2).mean()))
        for kind, predicted in predictions.items()
    ]
    lines.append(_line("Oracle", "oracle", gains, gains, 0.0))
    lines.append(_line("Random", "baseline", np.zeros(len(gains)), gains, None))
    return Report(learned, lines, predictions[learner], missing)


def extra_costs_of(prices: Sequence[Decimal | None]) -> tuple[FloatArray, bool]:
    """US$ that each agent's answer costs above the default's, (K,), and whether they are 1 for want of prices.

    They are 1 where a price is not known, where an agent costs less than the default, and where none costs more.
    """
    known = [float(price) for price in prices if price is not None]
    if len(known) == len(prices) and min(known) == known[0] < max(known):
        return np.array(known) - known[0], False
    return np.append(0.0, np.ones(len(prices) - 1)), True


@dataclass(frozen=True)
class SeveralReport(Report):
    """The same among several agents: `predicted` (g, K) over the default.

    `at_cost` (K,): what the router gains over the default for at most what each agent alone costs above it, in shares
    of right answers.
    """

    router: SeveralRouter
    at_cost: list[float]


def report_among(
    features: FloatArray,
    is_gold: BoolArray,
    outcome: FloatArray,
    pairs: npt.NDArray[np.int64],
    items: npt.NDArray[np.int64],
    gains: FloatArray,
    extra_costs: FloatArray,
    *,
    learner: str,
    regressor: str = "forest",
    scaling: str | None = "variance",
    seed: int,
    between: Between = _BETWEEN,
) -> SeveralReport:
    """Learn and measure as `report_of` among several agents, by the curve over the extra cost.

    All comparisons of a gold item are held out together. `gains` (g, K) are those of the gold items over the default,
    in order of their first comparison; `extra_costs` (K,). Squared errors are those of the gains over the default.
    """
    gold_items, first_rows = np.unique(items[is_gold], return_index=True)
    asked_rows = np.flatnonzero(is_gold)[first_rows]
    order = np.argsort(first_rows)
    gold_items, asked_rows = gold_items[order], asked_rows[order]
    n_agents = gains.shape[1]

    def router(kind: str, rows: BoolArray, known: FloatArray, shared: _Shared) -> SeveralRouter:
        made = SeveralRouter(kind, regressor_of(regressor), scaling, seed)
        return made.fit(
            known[rows], is_gold[rows], outcome[rows], pairs[rows], items[rows], n_agents, **shared
        )

    def baseline(kind: str, rows: BoolArray, known: FloatArray, fits: SharedFits) -> SeveralBaseline:
        made = SeveralBaseline(kind, regressor_of(regressor), scaling, seed)
        return made.fit(known[rows], is_gold[rows], outcome[rows], pairs[rows], n_agents, fits=fits)

    measuring = _Measuring(
        features=features,
        learner=learner,
        seed=seed,
        router=router,
        baseline=baseline,
        parts=[
            _Part(part, ~(is_gold & np.isin(items, gold_items[part])), asked_rows[part])
            for part in held_out_parts(gains, seed)
        ],
        predict=lambda fitted, asked: fitted.gains(asked),
        shape=gains.shape,
    )
    learned, predictions, missing = measuring.run(between)
    lines = []
    for kind, predicted in predictions.items():
        error_of = float(((predicted - gains)[:, 1:] ** 2).mean())
        curve = cost_curve(predicted, gains, extra_costs)
        lines.append(_line_of(_NAMES[kind], _kind_of(kind), curve, error_of))
    lines.append(_line_of("Oracle", "oracle", cost_curve(gains, gains, extra_costs), 0.0))
    share = np.linspace(0.0, 1.0, POINTS).tolist()
    lines.append(Line("Random", "baseline", None, 0.0, share, [0.0] * POINTS))
    curve = cost_curve(predictions[learner], gains, extra_costs)
    most = np.maximum.accumulate(curve.mean_gain)  # what is left over need not be spent
    at_cost = np.interp(extra_costs / extra_costs.max(), curve.cost_share, most)
    return SeveralReport(learned, lines, predictions[learner], missing, at_cost.tolist())


class _Shared(TypedDict, total=False):
    fits: SharedFits
    dealt: Dealt


class _Part(NamedTuple):
    """Gold that is held out: its places among the predictions, the rows without it, (n,), and the rows asked about."""

    places: IntArray
    rows: BoolArray
    asked: IntArray


@dataclass(frozen=True)
class _Measuring:
    """The fits of a report, as many at once as there are processors: each gives what it would give alone."""

    features: FloatArray
    learner: str
    seed: int
    router: Callable[[str, BoolArray, FloatArray, _Shared], Any]
    baseline: Callable[[str, BoolArray, FloatArray, SharedFits], Any]
    parts: Sequence[_Part]
    predict: Callable[[Any, FloatArray], FloatArray]
    shape: tuple[int, ...]

    def run(self, between: Between) -> tuple[Any, dict[str, FloatArray], list[str]]:
        """The learner fitted to everything, the held-out predictions by kind, and what could not be measured."""
        features = checked_features(self.features)
        components = reduction(features, self.seed)
        known = reduced(components, features)
        others = [kind for kind in LEARNERS if kind != self.learner]
        fits = SharedFits()
        with _own_warnings(), threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
            tasks = _Tasks(pool, 1 + (len(LEARNERS) + len(BASELINE_KINDS)) * len(self.parts), between)
            try:
                everything = np.ones(len(features), dtype=np.bool_)
                learning = tasks.add(lambda: self.router(self.learner, everything, known, {"fits": fits}))
                predicting = {
                    kind: [
                        tasks.add(partial(self._by_baseline, kind, part, known, fits)) for part in self.parts
                    ]
                    for kind in BASELINE_KINDS
                }
                learned = tasks.result(learning)
                folds = np.full(len(features), -1)
                folds[learned.is_used_] = fits.folds
                dealt = Dealt(folds, fits)
                for kind in (self.learner, *others):
                    predicting[kind] = [
                        tasks.add(partial(self._by_router, kind, part, known, dealt)) for part in self.parts
                    ]
                predictions, missing = {}, []
                for kind in (self.learner, *others, *BASELINE_KINDS):
                    predicted = np.zeros(self.shape)
                    try:
                        for part, task in zip(self.parts, predicting[kind], strict=True):
                            predicted[part.places] = tasks.result(task)
                    except ValueError as error:
                        if kind == self.learner:
                            raise
                        missing.append(f"{_NAMES[kind]}: {error}")
                        continue
                    predictions[kind] = predicted
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        learned.reduction_ = components
        return learned, predictions, missing

    def _by_router(self, kind: str, part: _Part, known: FloatArray, dealt: Dealt) -> FloatArray:
        rows = part.rows & (dealt.folds >= 0)
        return self.predict(self.router(kind, rows, known, {"dealt": dealt.part(rows)}), known[part.asked])

    def _by_baseline(self, kind: str, part: _Part, known: FloatArray, fits: SharedFits) -> FloatArray:
        return self.predict(self.baseline(kind, part.rows, known, fits), known[part.asked])


@contextmanager
def _own_warnings() -> Iterator[None]:
    """scikit-learn empties the filters of warnings in every thread for a moment, and warns where it finds them empty.

    That is not shown, and afterwards the filters are as they were.
    """
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, *about: Any, **more: Any) -> None:
            if "sklearn.utils.parallel.Parallel" not in str(message):
                shown(message, *about, **more)

        warnings.showwarning = show
        yield


class _Tasks:
    """What runs in threads, and how far it is: `between` is told in the thread that waits."""

    def __init__(self, pool: Executor, total: int, between: Between) -> None:
        self._pool = pool
        self._total = total
        self._between = between
        self._tasks: list[Future[Any]] = []

    def add(self, work: Callable[[], Any]) -> "Future[Any]":
        task = self._pool.submit(work)
        self._tasks.append(task)
        return task

    def result(self, task: "Future[Any]") -> Any:
        """Of one of them, once it is there. Raises what it, or `between`, raises."""
        while not task.done():
            wait([task], timeout=_LOOK_EVERY)
            self._between(sum(each.done() for each in self._tasks), self._total)
        return task.result()


def _kind_of(kind: str) -> str:
    return "router" if kind in LEARNERS else "baseline"


def _line_of(name: str, kind: str, curve: CostCurve, squared_error: float) -> Line:
    share = np.linspace(0.0, 1.0, POINTS)
    gain = np.interp(share, curve.cost_share, curve.efficiency_gain)
    return Line(name, kind, squared_error, curve.area, share.tolist(), gain.tolist())


def held_out_parts(gains: FloatArray, seed: int) -> list[IntArray]:
    """Places of gold, `gains` (g,) or (g, K), that are held out together: each once. Seeded.

    No part holds all gold of one of two outcomes, where that can be: nothing could be learned without it.
    """
    entropy = [seed, len(gains)]
    parts = _dealt(len(gains), entropy)
    for attempt in range(1, _DEALS):
        if not any(_is_constant(np.delete(gains, part, axis=0)) for part in parts):
            break
        parts = _dealt(len(gains), [*entropy, attempt])
    return parts


def _dealt(n_gold: int, entropy: Sequence[int]) -> list[IntArray]:
    order = np.random.default_rng(entropy).permutation(n_gold)
    return np.array_split(order, max(2, min(FOLDS, n_gold // 2)))


def _is_constant(gains: FloatArray) -> bool:
    return bool((gains == gains[:1]).all())


def _line(
    name: str, kind: str, predicted: FloatArray, gains: FloatArray, squared_error: float | None
) -> Line:
    curve = efficiency_curve(predicted, gains)
    share, gain = thinned(curve)
    return Line(name, kind, squared_error, curve.area, share, gain)


def thinned(curve: EfficiencyCurve) -> tuple[list[float], list[float]]:
    """`POINTS` points of the curve, evenly spread over the premium share."""
    share = np.linspace(0.0, 1.0, POINTS)
    gain = np.interp(share, curve.premium_share, curve.efficiency_gain)
    return share.tolist(), gain.tolist()
