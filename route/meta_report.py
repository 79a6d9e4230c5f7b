"""How well a meta-router tells where the premium annotator is worth its price, beside what it is compared with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingRegressor

from route.meta import FOLDS, LEARNERS, MetaRouter
from route.meta_baselines import BASELINE_KINDS, BaselineRouter
from route.meta_metrics import CostCurve, EfficiencyCurve, cost_curve, efficiency_curve
from route.meta_several import SeveralBaseline, SeveralRouter

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

REGRESSORS = ("forest", "boosting")
POINTS = 51  # of each curve
_BASELINE_NAMES = {
    "gold": "Gold alone",
    "preference": "Preferences alone",
    "pooled": "Both, pooled",
    "mean_shift": "Both, mean-shifted",
}
_LEARNER_NAMES = {"dr": "Meta-router, DR-learner", "r": "Meta-router, R-learner"}
_BETWEEN = lambda: None  # noqa: E731


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
    """The table with its curves, and the chosen router's predictions for the gold comparisons, each held out."""

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
    between: Callable[[], object] = _BETWEEN,
) -> Report:
    """Measure by cross-validation over the gold comparisons: each is predicted without it, by all methods alike.

    `features` (n, d), `is_gold` (n,), `outcome` (n,) premium minus cheap. `missing` says which methods could not be
    fitted, and why. Raises ValueError as `MetaRouter.fit` where `learner` itself cannot.
    """
    gold = np.flatnonzero(is_gold)
    gains = outcome[gold]
    lines, missing = [], []
    chosen: FloatArray | None = None

    def fresh(kind: str) -> Any:
        if kind in LEARNERS:
            return MetaRouter(kind, regressor_of(regressor), scaling, seed)
        return BaselineRouter(kind, regressor_of(regressor), scaling, seed)

    for kind in (learner, *(each for each in LEARNERS if each != learner), *BASELINE_KINDS):
        name = _LEARNER_NAMES.get(kind) or _BASELINE_NAMES[kind]
        try:
            predicted = _held_out(fresh, kind, features, is_gold, outcome, seed, between)
        except ValueError as error:
            if kind == learner:
                raise
            missing.append(f"{name}: {error}")
            continue
        if kind == learner:
            chosen = predicted
        error_of = float(((predicted - gains) ** 2).mean())
        lines.append(_line(name, "router" if kind in LEARNERS else "baseline", predicted, gains, error_of))
    lines.append(_line("Oracle", "oracle", gains, gains, 0.0))
    lines.append(_line("Random", "baseline", np.zeros(len(gains)), gains, None))
    assert chosen is not None  # noqa: S101 (the learner came first, or raised)
    return Report(lines, chosen, missing)


def _held_out(
    fresh: Callable[[str], Any],
    kind: str,
    features: FloatArray,
    is_gold: BoolArray,
    outcome: FloatArray,
    seed: int,
    between: Callable[[], object],
) -> FloatArray:
    """Predictions for the gold comparisons, each by a router that was fitted without it."""
    gold = np.flatnonzero(is_gold)
    predicted = np.zeros(len(gold))
    for part in _parts(len(gold), seed):
        rows = np.ones(len(features), dtype=np.bool_)
        rows[gold[part]] = False
        fitted = fresh(kind).fit(features[rows], is_gold[rows], outcome[rows])
        predicted[part] = fitted.predict(features[gold[part]])
        between()
    return predicted


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
    between: Callable[[], object] = _BETWEEN,
) -> SeveralReport:
    """Measure as `report_of` among several agents, by the curve over the extra cost.

    All comparisons of a gold item are held out together. `gains` (g, K) are those of the gold items over the default,
    in order of their first comparison; `extra_costs` (K,). Squared errors are those of the gains over the default.
    """
    gold_items, first_rows = np.unique(items[is_gold], return_index=True)
    asked_rows = np.flatnonzero(is_gold)[first_rows]
    order = np.argsort(first_rows)
    gold_items, asked_rows = gold_items[order], asked_rows[order]

    def held_out(kind: str) -> FloatArray:
        predicted = np.zeros(gains.shape)
        for part in _parts(len(gold_items), seed):
            rows = ~(is_gold & np.isin(items, gold_items[part]))
            known = features[rows], is_gold[rows], outcome[rows], pairs[rows]
            fitted: SeveralRouter | SeveralBaseline
            if kind in LEARNERS:
                fitted = SeveralRouter(kind, regressor_of(regressor), scaling, seed)
                fitted.fit(*known, items=items[rows], n_agents=gains.shape[1])
            else:
                fitted = SeveralBaseline(kind, regressor_of(regressor), scaling, seed)
                fitted.fit(*known, n_agents=gains.shape[1])
            predicted[part] = fitted.gains(features[asked_rows[part]])
            between()
        return predicted

    lines, missing = [], []
    chosen: FloatArray | None = None
    for kind in (learner, *(each for each in LEARNERS if each != learner), *BASELINE_KINDS):
        name = _LEARNER_NAMES.get(kind) or _BASELINE_NAMES[kind]
        try:
            predicted = held_out(kind)
        except ValueError as error:
            if kind == learner:
                raise
            missing.append(f"{name}: {error}")
            continue
        chosen = predicted if kind == learner else chosen
        error_of = float(((predicted - gains)[:, 1:] ** 2).mean())
        curve = cost_curve(predicted, gains, extra_costs)
        lines.append(_line_of(name, "router" if kind in LEARNERS else "baseline", curve, error_of))
    lines.append(_line_of("Oracle", "oracle", cost_curve(gains, gains, extra_costs), 0.0))
    share = np.linspace(0.0, 1.0, POINTS).tolist()
    lines.append(Line("Random", "baseline", None, 0.0, share, [0.0] * POINTS))
    assert chosen is not None  # noqa: S101 (the learner came first, or raised)
    curve = cost_curve(chosen, gains, extra_costs)
    most = np.maximum.accumulate(curve.mean_gain)  # what is left over need not be spent
    at_cost = np.interp(extra_costs / extra_costs.max(), curve.cost_share, most)
    return SeveralReport(lines, chosen, missing, at_cost.tolist())


def _line_of(name: str, kind: str, curve: CostCurve, squared_error: float) -> Line:
    share = np.linspace(0.0, 1.0, POINTS)
    gain = np.interp(share, curve.cost_share, curve.efficiency_gain)
    return Line(name, kind, squared_error, curve.area, share.tolist(), gain.tolist())


def _parts(n_gold: int, seed: int) -> Iterator[IntArray]:
    order = np.random.default_rng([seed, n_gold]).permutation(n_gold)
    yield from np.array_split(order, max(2, min(FOLDS, n_gold // 2)))


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
