"""How well a rejector does on items that it did not learn from, beside everything that it is compared with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from route.deferral import Rejector, agent_costs, deferral_metrics
from route.deferral_baselines import (
    ROUTER_KINDS,
    SingleExpertRouter,
    confidence_cascade,
    majority_vote,
    random_allocation,
    single_agent,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

FOLDS = 5
_INNER_FOLDS = 3
# β of all agents is multiplied by these for the curve: from answers for nothing to answers that are dear.
FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# What multiplies the squared weights of a rejector: the one with the least true deferral loss on items that were held
# out. The usual one gives nearly everything to one agent where mistakes are few and dear, and learns by heart where
# they are many and the vectors say little of them. Layers are slow to train: fewer are tried.
PENALTIES = (1.0, 10.0, 100.0, 0.1, 0.01, 0.001)
_PENALTIES_OF_LAYERS = (1.0, 10.0, 100.0)
_CASCADE_THRESHOLDS = np.linspace(0.0, 1.0, 21)
_BETWEEN = lambda: None  # noqa: E731
_SAME = 1e-9


@dataclass(frozen=True)
class Data:
    """n items and m agents, of whom 0 is the default: features (n, d), `wrong` (n, m) whole answers, `head_wrong`
    (n, heads, m), `alpha`, `beta` and `prices` (m,), `confidences` (n, m) with NaN, `answers` (n, m) codes, and for
    spans `f1` (n, m).
    """

    features: FloatArray
    wrong: BoolArray
    head_wrong: BoolArray
    alpha: FloatArray
    beta: FloatArray
    prices: FloatArray
    confidences: FloatArray
    answers: npt.NDArray[np.int64]
    f1: FloatArray | None = None

    @property
    def n_agents(self) -> int:
        return int(self.wrong.shape[1])

    def costs(self, factor: float = 1.0) -> FloatArray:
        """(n, heads, m) with every β multiplied by `factor`; of each head, as definition 1 has it."""
        return agent_costs(self.head_wrong, self.alpha, self.beta * factor)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: an allocation, and what it does on items that nothing was learned from.

    `price` is what an item costs on average. `shares` are by agent; of methods that ask several agents about an item,
    the shares of whose answer is taken, while `loss` and `price` count everybody that was asked.
    """

    name: str
    kind: str
    loss: float
    accuracy: float
    f1: float | None
    price: float
    cost_per_correct: float | None
    tpr: float | None
    fpr: float | None
    shares: list[float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """The table, the curve over β, the penalty to train with, and the scores of each item by a rejector that did not
    learn from it, (n, m).
    """

    rows: list[Row]
    sweep: list[dict[str, Any]]
    penalty: float
    scores: FloatArray

    def said(self) -> list[str]:
        """What has to be said before anybody relies on the rejector: that one agent alone costs less."""
        rejector = next(row for row in self.rows if row.kind == "rejector")
        best = min((row for row in self.rows if row.kind == "agent"), key=lambda row: row.loss)
        if best.loss > rejector.loss - _SAME:
            return []
        return [
            f"{best.name} comes to a deferral loss of {best.loss:.3f}, this router to {rejector.loss:.3f}, on items "
            "that it did not learn from. Give all items to that agent, or label more calibration items and train again."
        ]

    def as_dict(self) -> dict[str, Any]:
        return {
            "table": [row.as_dict() for row in self.rows],
            "sweep": self.sweep,
            "penalty": self.penalty,
        }


def folds_of(n_items: int, seed: int, folds: int = FOLDS) -> list[tuple[IntArray, IntArray]]:
    """(learned from, measured on) of each fold: every item is measured on once. Seeded."""
    order = np.random.default_rng([seed, n_items]).permutation(n_items)
    parts = np.array_split(order, max(2, min(folds, n_items // 2)))
    return [
        (np.sort(np.concatenate([*parts[:k], *parts[k + 1 :]])), np.sort(parts[k])) for k in range(len(parts))
    ]


def report_of(
    data: Data,
    names: Sequence[str],
    *,
    nu: float,
    hidden: Sequence[int],
    seed: int,
    between: Callable[[], object] = _BETWEEN,
) -> Report:
    """Measure by cross-validation; `names` are the agents'. `between` is called between fits.

    Raises ValueError as `Rejector.fit`.
    """
    folds = folds_of(len(data.features), seed)
    settings = _Settings(nu, tuple(hidden), seed, between)
    everything = np.arange(len(data.features))
    penalties = [_best_penalty(data, train, settings) for train, _ in folds]
    scores = _held_out(data, folds, penalties, data.costs(), settings)
    learned: IntArray = scores.argmax(axis=1)
    rows = [_row("Rejector", "rejector", data, learned)]
    rows += [
        _row(f"{name} alone", "agent", data, single_agent(agent, len(learned), data.n_agents))
        for agent, name in enumerate(names)
    ]
    rng = np.random.default_rng([seed, 7])
    rows.append(_row("Random, same shares", "baseline", data, random_allocation(learned, rng=rng)))
    rows += _votes(data)
    rows += _cascades(data, folds)
    rows += _single_experts(data, names, folds, between)
    sweep = []
    for factor in FACTORS:
        agents = learned
        if factor != 1.0:
            agents = _held_out(data, folds, penalties, data.costs(factor), settings).argmax(axis=1)
        sweep.append(_point(data, agents, factor, names))
    return Report(rows, sweep, _best_penalty(data, everything, settings), scores)


@dataclass(frozen=True)
class _Settings:
    nu: float
    hidden: tuple[int, ...]
    seed: int
    between: Callable[[], object]

    def rejector(self, penalty: float) -> Rejector:
        return Rejector(nu=self.nu, hidden=self.hidden, random_state=self.seed, penalty=penalty)


def _best_penalty(data: Data, rows: IntArray, settings: _Settings) -> float:
    """Of the penalties the one with the least true deferral loss in a cross-validation among these rows."""
    penalties = _PENALTIES_OF_LAYERS if settings.hidden else PENALTIES
    if len(rows) < 2 * _INNER_FOLDS:
        return penalties[0]
    costs = data.costs()
    losses = []
    for penalty in penalties:
        loss = 0.0
        for train, test in folds_of(len(rows), settings.seed, _INNER_FOLDS):
            fitted = settings.rejector(penalty).fit(data.features[rows[train]], costs[rows[train]])
            agents = fitted.allocate(data.features[rows[test]])
            loss += float(costs[rows[test]].sum(axis=1)[np.arange(len(test)), agents].sum())
            settings.between()
        losses.append(loss)
    return penalties[int(np.argmin(losses))]


def _held_out(
    data: Data,
    folds: Sequence[tuple[IntArray, IntArray]],
    penalties: Sequence[float],
    costs: FloatArray,
    settings: _Settings,
) -> FloatArray:
    """The scores of each item, (n, m), by a rejector that learned from the other folds."""
    scores = np.zeros((len(data.features), data.n_agents))
    for (train, test), penalty in zip(folds, penalties, strict=True):
        fitted = settings.rejector(penalty).fit(data.features[train], costs[train])
        scores[test] = fitted.scores(data.features[test])
        settings.between()
    return scores


def accuracy_by_agent(wrong: BoolArray, agents: IntArray) -> FloatArray:
    """Of the items that each agent gets, the share that it answers right, (m,); of one without items, of all items.

    `wrong` (n, m) as of `Data`, `agents` (n,).
    """
    found = []
    for agent in range(wrong.shape[1]):
        mine = agents == agent
        found.append(1.0 - float((wrong[mine, agent] if mine.any() else wrong[:, agent]).mean()))
    return np.array(found)


def losses_of_asked(data: Data, agents: IntArray, asked: BoolArray) -> FloatArray:
    """What each item costs, (n,), where several agents are asked about it: α for a mistake of the one whose answer is
    taken, `agents` (n,), and β for each of those that were `asked` (n, m), answers that are not taken included.
    """
    rows, heads = np.arange(len(agents)), data.head_wrong.shape[1]
    others = asked.copy()
    others[rows, agents] = False
    losses: FloatArray = data.costs().sum(axis=1)[rows, agents] + heads * (others @ data.beta)
    return losses


def _row(name: str, kind: str, data: Data, agents: IntArray, *, asked: BoolArray | None = None) -> Row:
    """`asked` (n, m) where more agents are asked about an item than the one whose answer is taken."""
    figures = deferral_metrics(data.wrong, data.costs(), agents, data.prices)
    chosen = np.arange(len(agents)), agents
    if asked is None:
        loss, paid = figures.loss, float(data.prices[agents].mean())
    else:
        loss = float(losses_of_asked(data, agents, asked).mean())
        paid = float((asked @ data.prices).mean())
    return Row(
        name=name,
        kind=kind,
        loss=loss,
        accuracy=figures.accuracy,
        f1=None if data.f1 is None else float(data.f1[chosen].mean()),
        price=paid,
        cost_per_correct=paid / figures.accuracy if figures.accuracy else None,
        tpr=figures.tpr,
        fpr=figures.fpr,
        shares=figures.shares.tolist(),
    )


def _votes(data: Data) -> Iterator[Row]:
    """The majority of all agents that are no people: people's answer is the truth, and would need no vote."""
    voters = [agent for agent in range(data.n_agents) if (data.answers[:, agent] >= 0).any()]
    if len(voters) < 3:
        return
    said = data.answers[:, voters].copy()
    # One that failed agrees with nobody, not with others that failed.
    said[said < 0] = -1 - np.arange(data.answers.shape[0] * len(voters)).reshape(said.shape)[said < 0]
    taken = np.array(voters)[majority_vote(said)]
    asked = np.zeros(data.wrong.shape, dtype=np.bool_)
    asked[:, voters] = True
    yield _row("Majority vote of all", "baseline", data, taken, asked=asked)


def _cascades(data: Data, folds: Sequence[tuple[IntArray, IntArray]]) -> Iterator[Row]:
    """Agent after agent until one is sure enough; the threshold is the one with the least loss in the other folds."""
    given = data.confidences.copy()
    given[:, -1] = 1.0  # the last is always taken
    if np.isnan(given).any():
        return
    agents, asked = np.zeros(len(given), dtype=np.intp), np.zeros(given.shape, dtype=np.bool_)
    tried = [confidence_cascade(given, float(threshold)) for threshold in _CASCADE_THRESHOLDS]
    losses = np.array([losses_of_asked(data, *each) for each in tried])
    for train, test in folds:
        taken, whom = tried[int(losses[:, train].mean(axis=1).argmin())]
        agents[test], asked[test] = taken[test], whom[test]
    yield _row("Confidence cascade", "baseline", data, agents, asked=asked)


def _single_experts(
    data: Data,
    names: Sequence[str],
    folds: Sequence[tuple[IntArray, IntArray]],
    between: Callable[[], object],
) -> Iterator[Row]:
    """Routers between the default and the other agent that costs least overall, by the costs of both."""
    costs = data.costs().sum(axis=1)
    expert = 1 + int(costs[:, 1:].mean(axis=0).argmin())
    for kind in ROUTER_KINDS:
        agents = np.zeros(len(costs), dtype=np.intp)
        for train, test in folds:
            router = SingleExpertRouter(kind).fit(
                data.features[train], -costs[train, 0], -costs[train, expert]
            )
            agents[test] = router.allocate(data.features[test]) * expert
            between()
        yield _row(f"Single expert, {kind} ({names[expert]})", "baseline", data, agents)


def _point(data: Data, agents: IntArray, factor: float, names: Sequence[str]) -> dict[str, Any]:
    """The curve's point: β · `factor`, the rejector's figures, and the losses that it has to stay below."""
    costs = data.costs(factor)
    figures = deferral_metrics(data.wrong, costs, agents, data.prices)
    per_agent = costs.sum(axis=1).mean(axis=0)
    return {
        "factor": factor,
        "loss": figures.loss,
        "accuracy": figures.accuracy,
        "price": float(data.prices[agents].mean()),
        "tpr": figures.tpr,
        "fpr": figures.fpr,
        "shares": dict(zip(names, figures.shares.tolist(), strict=True)),
        "best_agent_loss": float(per_agent.min()),
        "random_loss": float(per_agent @ figures.shares),
    }
