"""Where a round's errors lie: along its order, along its error probabilities, and between labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.core.cache import cache
from django.db.models import F, Q, QuerySet

from annotate.models import Annotation
from annotate.rightness import Truth, is_known, judgments
from criticize.combination import rank_shares
from criticize.metrics import budget_curve
from criticize.selectors import criticism_quality, suspicion
from review.answers import judged_by_people
from review.dashboard_answers import NOTHING, answered_tasks, answers_of, draw_of
from review.dashboard_scope import Scope, Table
from review.models import DrawArrays, ReviewRound
from review.priorities import criticisms_like, is_training

BINS = 20
DECILES = 10
POINTS = 100
# Up to so many labels a matrix shows all of them; above, the busiest and "other".
MOST_LABELS = 20
MOST_PAIRS = 12
OTHER = "other"
NO_LABEL = "no label"

GOLD, CALIBRATION = "gold", "calibration"
_GOLD_KEPT = 600  # seconds


# --- Along the order -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BudgetCurve:
    """Which share of all errors the first items in the order hold: points (share of items, share of errors).

    Measured on `items` items with a right label, `errors` of them wrong; `source` says where the right labels come
    from, "gold" or "calibration", "" where there are none. `budget_share` is the round's budget in items, `at_budget`
    the curve there. `reviewed` items of the round are answered, and the machine was wrong on `found` of them, which is
    `found_share` of all errors that the measured share of errors lets expect.
    """

    source: str
    items: int
    errors: int
    points: list[tuple[float, float]]
    population: int
    budget: int | None
    budget_share: float | None
    at_budget: float | None
    reviewed: int
    found: int
    found_share: float | None

    @property
    def reviewed_share(self) -> float | None:
        return self.reviewed / self.population if self.population else None

    @property
    def error_share(self) -> float | None:
        """Of the measured items, those whose label is wrong."""
        return self.errors / self.items if self.items else None

    @property
    def expected_errors(self) -> float | None:
        """In the round's whole population."""
        return self.errors / self.items * self.population if self.items and self.population else None

    @property
    def table(self) -> Table:
        return Table(("share_of_items", "share_of_errors"), [(x, y) for x, y in self.points])


def budget_curve_of(scope: Scope) -> BudgetCurve | None:
    """The curve of the round's order, or of the criticizer's while there is no round; None without either."""
    if scope.round is None:
        return _curve_of_run(scope)
    draw = draw_of(scope, scope.round)
    scores = _suspicion(scope.round, draw)
    reviewed, wrong = _answered(scope, scope.round)
    source, measured = GOLD, _against_gold(scope, draw, scores)
    if measured is None:
        source, measured = CALIBRATION, _against_calibration(scope)
    points, items, errors = measured or ([], 0, 0)
    population = len(draw.item_ids)
    share = min(1.0, scope.round.budget / population) if population else None
    found = int(wrong.sum())
    expected = errors / items * population if items else 0.0
    return BudgetCurve(
        source=source if measured else "",
        items=items,
        errors=errors,
        points=points,
        population=population,
        budget=scope.round.budget,
        budget_share=share,
        at_budget=None if share is None or not points else _at(points, share),
        reviewed=len(reviewed),
        found=found,
        # More than all are found where the measured items were luckier than the others.
        found_share=min(1.0, found / expected) if expected else None,
    )


def _curve_of_run(scope: Scope) -> BudgetCurve | None:
    run = scope.criticism
    if run is None or not run.job.is_finished:
        return None
    quality = criticism_quality(run, points=POINTS)
    source, points, items, errors = GOLD, quality.curve, quality.items, quality.errors
    if not points:
        measured = _against_calibration(scope)
        source, (points, items, errors) = CALIBRATION, measured or ([], 0, 0)
    nothing = (None, None, None)
    return BudgetCurve(source if points else "", items, errors, points, 0, *nothing, 0, 0, None)


Measured = tuple[list[tuple[float, float]], int, int]  # points, items, errors


def _against_gold(scope: Scope, draw: DrawArrays, scores: np.ndarray) -> Measured | None:
    """On the drawn items that came with a gold label. None without any, or without errors.

    Kept for some minutes: it reads every item, and a finished run's labels change only with a retry.
    """
    round, run = scope.round, scope.annotation
    if round is None or run is None or not scope.project.items.filter(_has_gold(scope)).exists():
        return None
    key = f"dashboard-gold-{round.pk}-{round.draw_number}-{run.job.done}-{run.job.failed}"
    kept: tuple[Measured | None] | None = cache.get(key)
    if kept is None:
        kept = (_measured_on_gold(scope, draw, scores),)
        cache.set(key, kept, _GOLD_KEPT)
    return kept[0]


def _has_gold(scope: Scope) -> Q:
    return is_known(scope.project.task, Truth.GOLD, prefix="")


def _measured_on_gold(scope: Scope, draw: DrawArrays, scores: np.ndarray) -> Measured | None:
    def among(item_ids: "QuerySet[Any, int]") -> np.ndarray:
        return np.isin(draw.item_ids, np.fromiter(item_ids.iterator(10_000), dtype=np.int64))

    judged = ~among(scope.project.items.exclude(_has_gold(scope)).order_by().values_list("pk", flat=True))
    annotations = Annotation.objects.filter(run=scope.annotation).order_by()
    if scope.project.task.is_span:
        found = judgments(annotations, scope.project.task, Truth.GOLD)
        wrong_ids = np.array([each.item_id for each in found if not each.is_right], dtype=np.int64)
        return _measured(scores[judged], np.isin(draw.item_ids, wrong_ids)[judged])
    # Errors are few, so that reading them is quicker than reading every label.
    gold = annotations.filter(item__gold__isnull=False)
    wrong = gold.exclude(label__isnull=False, label=F("item__gold"))
    is_error = among(wrong.values_list("item_id", flat=True))
    return _measured(scores[judged], is_error[judged])


def _against_calibration(scope: Scope) -> Measured | None:
    """On the calibration items as the same criticizer judged the same annotator's labels of them."""
    run = criticisms_like(scope.criticism).first() if scope.criticism is not None else None
    if run is None:
        return None
    judged = judgments(run.annotation_run.annotations.all(), scope.project.task, Truth.CALIBRATION)
    given = dict(run.criticisms.filter(failure="").values_list("annotation_id", "priority"))
    found = [(given.get(each.annotation_id, np.nan), not each.is_right) for each in judged]
    if not found:
        return None
    scores, wrong = (np.array(column) for column in zip(*found, strict=True))
    return _measured(suspicion(scores.astype(float), ranks_only=run.ranks_only), wrong.astype(bool))


def _measured(scores: np.ndarray, is_error: np.ndarray) -> Measured | None:
    curve = budget_curve(scores, is_error) if len(scores) else None
    if curve is None:
        return None
    budgets, gains = curve
    at = np.unique(np.linspace(0, len(scores), POINTS + 1).round().astype(int))
    points = [(float(budgets[i]) / len(scores), float(gains[i])) for i in at]
    return points, len(scores), int(is_error.sum())


def _at(points: Sequence[tuple[float, float]], share: float) -> float:
    across, up = zip(*points, strict=True)
    return float(np.interp(share, across, up))


# --- Along the error probabilities -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DoubtBin:
    """Items whose doubt lies from `low` to `high`: how many, how many are reviewed, and on how many of those the
    machine was wrong."""

    low: float
    high: float
    items: int
    reviewed: int
    errors: int


@dataclass(frozen=True, slots=True)
class Doubts:
    """The round's items along what it orders them by, in equal bins over [0, 1], and where errors were found.

    `cut` is τ or α, where it lies on the scale; by rank, the place from which on items were drawn. `without` are the
    items that got no usable answer, which have no place and come first: None where there are none.
    """

    scale: str
    is_rank: bool
    bins: list[DoubtBin]
    cut: float | None
    cut_name: str
    without: DoubtBin | None

    @property
    def reviewed(self) -> int:
        return sum(each.reviewed for each in self.all_bins)

    @property
    def errors(self) -> int:
        return sum(each.errors for each in self.all_bins)

    @property
    def all_bins(self) -> list[DoubtBin]:
        return [*self.bins, *([self.without] if self.without else [])]

    @property
    def table(self) -> Table:
        rows = [(each.low, each.high, each.items, each.reviewed, each.errors) for each in self.bins]
        without = self.without
        last = [(None, None, without.items, without.reviewed, without.errors)] if without else []
        return Table(("from", "to", "items", "reviewed", "errors_found"), [*rows, *last])


ERROR_PROBABILITY = "Error probability ε̂"
LOW_QUALITY = "1 − quality"
RANK = "Place in the order, 1 the most suspicious"


def doubts(scope: Scope) -> Doubts | None:
    """None without a round."""
    round = scope.round
    if round is None:
        return None
    draw = draw_of(scope, round)
    is_rank = _only_ranks(round)
    scale, places = _places(round, draw)
    known = ~np.isnan(places)
    reviewed, wrong = _answered(scope, round)
    at = np.searchsorted(draw.item_ids, reviewed)
    is_drawn = at < len(draw.item_ids)
    is_drawn[is_drawn] = draw.item_ids[at[is_drawn]] == reviewed[is_drawn]
    at, wrong = at[is_drawn], wrong[is_drawn]
    count = DECILES if is_rank else BINS
    # Divided, not added up: 17/20 is the very 0.85 that a criticizer says.
    edges = np.arange(count + 1) / count

    def counts(chosen: np.ndarray) -> np.ndarray:
        return np.histogram(places[chosen][known[chosen]], edges)[0]

    everything = np.arange(len(places))
    bins = [
        DoubtBin(float(low), float(high), int(items), int(looked_at), int(errors))
        for low, high, items, looked_at, errors in zip(
            edges[:-1],
            edges[1:],
            counts(everything),
            counts(at),
            counts(at[wrong]),
            strict=True,
        )
    ]
    without = None
    if not known.all():
        missing = ~known
        without = DoubtBin(
            0.0,
            0.0,
            int(missing.sum()),
            int(missing[at].sum()),
            int(missing[at[wrong]].sum()),
        )
    cut, cut_name = _cut(round, draw, places)
    return Doubts(scale, is_rank, bins, cut, cut_name, without)


def _places(round: ReviewRound, draw: DrawArrays) -> tuple[str, np.ndarray]:
    """What the round orders items by, and where each lies on it, in [0, 1]; NaN where nothing is known of it."""
    if is_training(round):
        return ERROR_PROBABILITY, draw.error_probs
    if not _only_ranks(round):
        is_quality = round.priority == ReviewRound.Priority.CRITICISM and round.project.task.is_rated
        return (LOW_QUALITY if is_quality else ERROR_PROBABILITY), draw.priorities
    places = np.full(len(draw.item_ids), np.nan)
    known = ~np.isnan(draw.priorities)
    places[known] = rank_shares(draw.priorities[known])
    return RANK, places


def _cut(round: ReviewRound, draw: DrawArrays, places: np.ndarray) -> tuple[float | None, str]:
    """Where the draw cut, and what it is called there; None where no line on the scale says it."""
    if is_training(round):
        return None, ""
    if _only_ranks(round):
        drawn = places[draw.selected & ~np.isnan(places)]
        return (float(drawn.min()) if len(drawn) else None), "Drawn from here on"
    tau, alpha = round.parameters.get("tau"), round.parameters.get("alpha")
    if tau is not None:
        return min(1.0, max(0.0, float(tau))), "Cut τ"
    if alpha is not None and 0 <= alpha <= 1:
        return float(alpha), "Cut α"
    return None, ""


def _only_ranks(round: ReviewRound) -> bool:
    run = round.criticism_run
    return round.priority == ReviewRound.Priority.CRITICISM and run is not None and run.ranks_only


def _suspicion(round: ReviewRound, draw: DrawArrays) -> np.ndarray:
    return suspicion(draw.priorities, ranks_only=_only_ranks(round))


def _answered(scope: Scope, round: ReviewRound) -> tuple[np.ndarray, np.ndarray]:
    """(item ids, whether the machine was wrong) of the round's items with an answer that counts."""
    task = scope.project.task
    if not task.is_span:
        answers = answers_of(scope, round)
        return answers["item"], ~answers["is_agreed"]
    if "matched" not in scope.read:
        rows = judged_by_people(answered_tasks(round), task)
        found = np.array(list(rows), dtype=np.int64).reshape(-1, 2)
        scope.read["matched"] = found[:, 0], found[:, 1] == 0
    matched: tuple[np.ndarray, np.ndarray] = scope.read["matched"]
    return matched


# --- Between labels --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """How often people answered `human` where the machine had said `machine`. Ids are None for "other" and where the
    machine gave no label."""

    machine: str
    human: str
    count: int
    machine_id: int | None = None
    human_id: int | None = None


@dataclass(frozen=True, slots=True)
class MatrixRow:
    name: str
    cells: list[ConfusedPair]
    total: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """Machine's label × person's label, over the round's reviewed items.

    `rows` are those that the matrix shows: every label that occurs, or the busiest with the rest as "other". `pairs`
    are all that occur, most frequent first; `confused` the most frequent ones that differ.
    """

    reviewed: int
    agreed: int
    labels: int
    columns: list[str]
    rows: list[MatrixRow]
    pairs: list[ConfusedPair] = field(default_factory=list)

    @property
    def confused(self) -> list[ConfusedPair]:
        given = (pair for pair in self.pairs if pair.machine_id is not None)
        return [pair for pair in given if pair.machine_id != pair.human_id][:MOST_PAIRS]

    @property
    def most_labels(self) -> int:
        return MOST_LABELS

    @property
    def is_cut(self) -> bool:
        return self.labels > self.most_labels

    @property
    def table(self) -> Table:
        return Table(("machine", "human", "items"), [(p.machine, p.human, p.count) for p in self.pairs])


def confusion(scope: Scope) -> Confusion | None:
    """None without a round, and where answers are written: there are no labels to confuse."""
    if scope.round is None or scope.project.task.is_written:
        return None
    names = dict(scope.project.labels.order_by("position").values_list("pk", "name"))
    counts = _label_counts(answers_of(scope, scope.round))
    pairs = [
        ConfusedPair(names.get(machine or NOTHING, NO_LABEL), names[human], count, machine, human)
        for (machine, human), count in counts.items()
    ]
    pairs.sort(key=lambda pair: (-pair.count, pair.machine, pair.human))
    columns, rows = _matrix(counts, names)
    return Confusion(
        reviewed=sum(counts.values()),
        agreed=sum(count for (machine, human), count in counts.items() if machine == human),
        labels=len({label for pair in counts for label in pair if label is not None}),
        columns=columns,
        rows=rows,
        pairs=pairs,
    )


def _label_counts(answers: np.ndarray) -> dict[tuple[int | None, int], int]:
    """How often each pair of the machine's label, None for none, and the person's occurs, in order of their ids."""
    machine, person = answers["machine"], answers["person"]
    labels = np.unique([machine, person])
    count = len(labels)
    # A pair is one number, that of its cell in a square of labels: numbers are counted without sorting pairs.
    cells = np.searchsorted(labels, machine) * count + np.searchsorted(labels, person)
    found, times = np.unique(cells, return_counts=True)
    pairs = zip(labels[found // count].tolist(), labels[found % count].tolist(), strict=True)
    return {
        (machine or None, person): count
        for (machine, person), count in zip(pairs, times.tolist(), strict=True)
        if person != NOTHING
    }


def _matrix(
    counts: dict[tuple[int | None, int], int], names: dict[int, str]
) -> tuple[list[str], list[MatrixRow]]:
    """Columns and rows in the order of the labels; of many labels the busiest, the others together."""
    busy: Counter[int] = Counter()
    for (machine, human), count in counts.items():
        for label in {machine, human} - {None}:
            busy[label] += count  # type: ignore[index]
    shown = [pk for pk, _ in busy.most_common(MOST_LABELS)] if len(busy) > MOST_LABELS else list(busy)
    is_cut = len(shown) < len(busy)
    ordered = [pk for pk in names if pk in set(shown)]
    cells: Counter[tuple[int | str | None, int | str]] = Counter()
    for (machine, human), count in counts.items():
        row = machine if machine is None or machine in shown else OTHER
        cells[row, human if human in shown else OTHER] += count
    columns: list[int | str] = [*ordered, *([OTHER] if is_cut else [])]
    has_failed = any(machine is None for machine, _ in counts)
    rows: list[int | str | None] = [*columns, *([None] if has_failed else [])]

    def name(label: int | str | None) -> str:
        return NO_LABEL if label is None else names[label] if isinstance(label, int) else label

    def cell(row: int | str | None, column: int | str) -> ConfusedPair:
        return ConfusedPair(
            name(row),
            name(column),
            cells[row, column],
            row if isinstance(row, int) else None,
            column if isinstance(column, int) else None,
        )

    return [name(column) for column in columns], [
        MatrixRow(
            name(row),
            [cell(row, column) for column in columns],
            sum(cells[row, column] for column in columns),
        )
        for row in rows
    ]
