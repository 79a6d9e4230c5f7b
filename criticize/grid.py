"""The grid of the calibration set: how soon each criticizer finds the errors of each candidate annotator.

Beside the criticizers stand what costs no further call: the annotator's own confidence, the error detector that
learns from it (CDI), and each criticizer combined with it. Those that learn are judged out of fold.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from django.core.cache import cache

from annotate.models import Annotation, AnnotationRun, Project
from annotate.rightness import Truth, judgments
from criticize.candidates import (
    ModelAndStrategy,
    candidates_of,
    model_of_run,
    name_of_run,
    newest_of_each,
    pair_of_run,
)
from criticize.leaderboard import abs_interval
from criticize.metrics import area_under_budget_sensitivity, budget_curve
from criticize.models import Criticism, CriticismRun
from criticize.recommendation import Pair
from criticize.selectors import suspicion

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Value = TypeVar("Value")

CRITICISM, COMBINED, CONFIDENCE, CDI = "criticism", "combined", "confidence", "cdi"
# Below this many errors a bootstrap interval is too narrow to be believed.
FEW_ERRORS = 10
SHADES = 6
_KEPT = 3600  # seconds


@dataclass(frozen=True, slots=True)
class Cell:
    """One criticizer on one annotator's labels.

    `abs` with its interval is None without errors to find, while the run goes on, and where `problem` says why.
    `items` of the annotator's `of` labels were criticized or had failed; `failed_share` is of the criticizer's calls.
    """

    id: str
    annotator: int
    items: int = 0
    of: int = 0
    errors: int = 0
    abs: float | None = None
    low: float | None = None
    high: float | None = None
    failed_share: float | None = None
    is_self_criticism: bool = False
    run: CriticismRun | None = None
    problem: str = ""

    @property
    def is_measured(self) -> bool:
        return self.abs is not None

    @property
    def shade(self) -> int:
        """How dark it is drawn: 0 for a random order and worse, up to `SHADES` for 1."""
        return 0 if self.abs is None else round(SHADES * max(0.0, min(1.0, 2 * self.abs - 1)))


@dataclass(frozen=True, slots=True)
class GridRow:
    name: str
    kind: str
    cells: list[Cell | None]


@dataclass(frozen=True, slots=True)
class Column:
    """A finished candidate annotator, with what it got wrong among the calibration items."""

    run: AnnotationRun
    name: str
    items: int
    errors: int


@dataclass(frozen=True, slots=True)
class Series:
    """A cell's AQG against the budget, both as shares, and the share of errors: with the ideal order all are found
    at that budget.
    """

    id: str
    name: str
    points: list[tuple[float, float]]
    error_share: float


@dataclass(slots=True)
class Grid:
    columns: list[Column]
    rows: list[GridRow]
    arrays: dict[str, tuple[FloatArray, BoolArray]] = field(default_factory=dict)
    """(priority, is_error) of each measured cell."""

    @property
    def is_running(self) -> bool:
        return any(cell.run is not None and cell.run.job.is_active for cell in self.cells)

    @property
    def cells(self) -> list[Cell]:
        return [cell for row in self.rows for cell in row.cells if cell is not None]

    @property
    def has_few_errors(self) -> bool:
        return any(cell.is_measured and cell.errors < FEW_ERRORS for cell in self.cells)

    def name_of(self, cell: Cell) -> str:
        row = next(row for row in self.rows if cell in row.cells)
        column = next(column for column in self.columns if column.run.pk == cell.annotator)
        return f"{row.name} on {column.name}"

    def pairs(self) -> list[Pair]:
        """The measured criticizers, for the recommendation."""
        names = {column.run.pk: column.name for column in self.columns}
        return [
            Pair(
                annotator=cell.annotator,
                annotator_name=names[cell.annotator],
                criticizer=model_of_run(cell.run),
                criticizer_strategy=cell.run.strategy,
                criticizer_name=row.name,
                abs=cell.abs,
                low=cell.low,
                high=cell.high,
            )
            for row in self.rows
            if row.kind == CRITICISM
            for cell in row.cells
            if cell is not None
            and cell.run is not None
            and cell.abs is not None
            and cell.low is not None
            and cell.high is not None
        ]

    def best(self) -> list[str]:
        """The id of the cell with the highest ABS, in a list; empty where nothing is measured."""
        measured = [cell for cell in self.cells if cell.abs is not None]
        return [max(measured, key=lambda cell: cell.abs or 0.0).id] if measured else []

    def series(self, ids: Sequence[str], *, points: int = 100) -> list[Series]:
        """The budget curves of the cells with these ids, in the grid's order, without unknown and unmeasured ones."""
        drawn = []
        for cell in self.cells:
            if cell.id not in ids or cell.id not in self.arrays or cell.abs is None:
                continue
            curve = budget_curve(*self.arrays[cell.id])
            assert curve is not None  # noqa: S101 (a measured cell has errors)
            budgets, gains = curve
            at = np.unique(np.linspace(0, len(budgets) - 1, points + 1).round().astype(int))
            n = int(budgets[-1])
            drawn.append(
                Series(
                    cell.id,
                    self.name_of(cell),
                    [(float(budgets[i]) / n, float(gains[i])) for i in at],
                    cell.errors / n,
                )
            )
        return drawn


@dataclass(frozen=True, slots=True)
class _Labels:
    """An annotator's labels of the calibration items, in order of item; positions among the project's labels."""

    annotation_ids: list[int]
    label_index: npt.NDArray[np.intp]  # one more than the last label where it failed
    has_label: BoolArray
    confidence: FloatArray  # NaN where there is none
    is_error: BoolArray


def grid_of(project: Project) -> Grid:
    """Every finished candidate annotator against everything that has doubted its labels."""
    runs = [run for run in candidates_of(project) if run.job.is_finished]
    labels = _labels_of(project, runs)
    runs = [run for run in runs if run.pk in labels]
    # The most accurate first, as on the leaderboard.
    runs.sort(key=lambda run: (float(labels[run.pk].is_error.mean()), name_of_run(run), run.pk))
    columns = [
        Column(run, name_of_run(run), len(labels[run.pk].is_error), int(labels[run.pk].is_error.sum()))
        for run in runs
    ]
    grid = Grid(columns, [])
    criticisms = _criticism_runs(runs)
    answers = _answers_of([run for by_annotator in criticisms.values() for run in by_annotator.values()])
    confident = {run.pk for run in runs if not np.all(np.isnan(labels[run.pk].confidence))}
    for by_annotator in criticisms.values():
        name = name_of_run(next(iter(by_annotator.values())))
        own: list[Cell | None] = []
        combined: list[Cell | None] = []
        for run in runs:
            criticism = by_annotator.get(run.pk)
            if criticism is None:
                own.append(None)
                combined.append(None)
                continue
            criticism.annotation_run = run
            cell, with_confidence = _criticism_cells(
                grid, criticism, labels[run.pk], answers.get(criticism.pk, {}), run.pk in confident
            )
            own.append(cell)
            combined.append(with_confidence)
        grid.rows.append(GridRow(name, CRITICISM, own))
        if any(cell is not None for cell in combined):
            grid.rows.append(GridRow(f"{name} + the annotator's confidence", COMBINED, combined))
    if confident:
        for kind, title in (
            (CONFIDENCE, "The annotator's confidence alone"),
            (CDI, "CDI, learned from the confidence"),
        ):
            cells = [
                _confidence_cell(grid, kind, run, labels[run.pk]) if run.pk in confident else None
                for run in runs
            ]
            grid.rows.append(GridRow(title, kind, cells))
    return grid


def _labels_of(project: Project, runs: Sequence[AnnotationRun]) -> dict[int, _Labels]:
    """By run, what it said of today's calibration items; without the runs that said nothing of them."""
    position = {
        pk: index for index, pk in enumerate(project.labels.order_by("position").values_list("pk", flat=True))
    }
    asked = Annotation.objects.filter(run__in=runs, item__calibration_label__isnull=False)
    right = {each.annotation_id: each.is_right for each in judgments(asked, project.task, Truth.CALIBRATION)}
    rows = asked.order_by("run_id", "item_id").values_list(
        "run_id", "pk", "label_id", "confidence", "failure"
    )
    by_run: dict[int, list[Any]] = {}
    for run_id, *row in rows:
        by_run.setdefault(run_id, []).append(row)
    return {
        run_id: _Labels(
            annotation_ids=[pk for pk, _, _, _ in said],
            label_index=np.array(
                [position.get(label, len(position)) for _, label, _, _ in said], dtype=np.intp
            ),
            has_label=np.array([not failure for _, _, _, failure in said], dtype=bool),
            confidence=np.array([np.nan if c is None else c for _, _, c, _ in said], dtype=float),
            is_error=np.array([not right.get(pk, False) for pk, _, _, _ in said], dtype=bool),
        )
        for run_id, said in by_run.items()
    }


def _criticism_runs(runs: Sequence[AnnotationRun]) -> dict[ModelAndStrategy, dict[int, CriticismRun]]:
    """By model and strategy, oldest first: the newest criticism of each annotation run."""
    found: dict[ModelAndStrategy, dict[int, CriticismRun]] = {}
    rows = CriticismRun.objects.filter(annotation_run__in=runs).select_related("job").order_by("-pk")
    by_annotator: dict[int, list[CriticismRun]] = {}
    for criticism in rows:
        by_annotator.setdefault(criticism.annotation_run_id, []).append(criticism)
    newest = [run for of_one in by_annotator.values() for run in newest_of_each(of_one)]
    for criticism in sorted(newest, key=lambda run: run.pk):
        found.setdefault(pair_of_run(criticism), {})[criticism.annotation_run_id] = criticism
    return found


def _answers_of(runs: Sequence[CriticismRun]) -> dict[int, dict[int, float]]:
    """By run and annotation: its priority, NaN where the call failed."""
    rows = Criticism.objects.filter(run__in=runs).values_list("run_id", "annotation_id", "priority")
    answers: dict[int, dict[int, float]] = {}
    for run_id, annotation_id, priority in rows:
        answers.setdefault(run_id, {})[annotation_id] = np.nan if priority is None else priority
    return answers


def _criticism_cells(
    grid: Grid, criticism: CriticismRun, labels: _Labels, answers: dict[int, float], has_confidence: bool
) -> tuple[Cell, Cell | None]:
    """The criticizer's cell, and the one with the annotator's confidence where it has any and can be combined."""
    asked = np.array(
        [
            pk in answers or not labelled
            for pk, labelled in zip(labels.annotation_ids, labels.has_label, strict=True)
        ],
        dtype=bool,
    )
    given = np.array([answers.get(pk, np.nan) for pk in labels.annotation_ids], dtype=float)
    calls = sum(pk in answers for pk in labels.annotation_ids)
    known: dict[str, Any] = {
        "annotator": criticism.annotation_run_id,
        "of": len(asked),
        "items": int(asked.sum()),
        "is_self_criticism": criticism.is_self_criticism,
        "run": criticism,
        "failed_share": float(np.isnan(given[asked & labels.has_label]).sum()) / calls if calls else None,
    }
    is_silent = not calls or known["failed_share"] == 1.0
    if not criticism.job.is_finished or is_silent:
        problem = "" if not criticism.job.is_finished else "It gave no answer."
        return Cell(f"{CRITICISM}-{criticism.pk}", problem=problem, **known), None
    priority = suspicion(given[asked], ranks_only=criticism.ranks_only)
    is_error = labels.is_error[asked]
    cell = _measured(grid, f"{CRITICISM}-{criticism.pk}", priority, is_error, known)
    confidence = labels.confidence[asked]
    if not has_confidence or np.all(np.isnan(confidence)):
        return cell, None

    def combine() -> FloatArray:
        # scikit-learn takes a second to import: only who needs it pays.
        from criticize.combination import out_of_fold, rank_shares

        doubts = rank_shares(priority) if criticism.ranks_only else priority
        return out_of_fold(doubts, confidence, is_error, seed=criticism.seed)

    combined = _learned(
        grid, f"{COMBINED}-{criticism.pk}", combine, [priority, confidence], is_error, criticism.seed, known
    )
    return cell, combined


def _confidence_cell(grid: Grid, kind: str, run: AnnotationRun, labels: _Labels) -> Cell:
    known: dict[str, Any] = {
        "annotator": run.pk,
        "of": len(labels.is_error),
        "items": len(labels.is_error),
    }
    if kind == CONFIDENCE:
        priority = suspicion(1.0 - labels.confidence)
        return _measured(grid, f"{CONFIDENCE}-{run.pk}", priority, labels.is_error, known)

    def detect() -> FloatArray:
        from criticize.cdi import out_of_fold

        # An annotation that failed is a label of its own: whoever learns may learn that it is never right.
        return out_of_fold(
            labels.confidence,
            labels.label_index,
            labels.is_error,
            seed=run.seed,
            n_labels=run.project.labels.count() + 1,
        )

    known_arrays = [labels.confidence, labels.label_index]
    return _learned(grid, f"{CDI}-{run.pk}", detect, known_arrays, labels.is_error, run.seed, known)


def _learned(
    grid: Grid,
    cell_id: str,
    learn: Callable[[], FloatArray],
    arrays: Sequence[npt.NDArray[Any]],
    is_error: BoolArray,
    seed: int,
    known: dict[str, Any],
) -> Cell:
    """The cell of priorities that are learned out of fold, or of the sentence why they can't be."""
    if not is_error.any():
        return Cell(cell_id, errors=0, **known)
    try:
        kind = cell_id.partition("-")[0]
        priority = _kept(f"{kind}-{seed}", [*arrays, is_error], learn)
    except ValueError as error:
        return Cell(cell_id, errors=int(is_error.sum()), problem=str(error), **known)
    return _measured(grid, cell_id, priority, is_error, known)


def _measured(
    grid: Grid, cell_id: str, priority: FloatArray, is_error: BoolArray, known: dict[str, Any]
) -> Cell:
    errors = int(is_error.sum())
    if not errors:
        return Cell(cell_id, errors=0, **known)
    grid.arrays[cell_id] = priority, is_error
    seed = 0

    def measure() -> tuple[float | None, tuple[float, float] | None]:
        rng = np.random.default_rng(seed)
        return area_under_budget_sensitivity(priority, is_error), abs_interval(priority, is_error, rng=rng)

    area, interval = _kept(f"abs-{seed}", [priority, is_error], measure)
    low, high = interval or (None, None)
    return Cell(cell_id, errors=errors, abs=area, low=low, high=high, **known)


def _kept(name: str, arrays: Sequence[npt.NDArray[Any]], compute: Callable[[], Value]) -> Value:
    """What was computed from the same numbers before, else computed now and kept."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    key = f"grid-{name}-{digest.hexdigest()}"
    value: Value | None = cache.get(key)
    if value is None:
        value = compute()
        cache.set(key, value, _KEPT)
    return value
