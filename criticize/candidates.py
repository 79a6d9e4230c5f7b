"""What is known of candidate annotators: who was tried on the calibration items, how well they did, and who is best.

A candidate is an annotation run over the calibration items. A person's labels as they are now are what it is held
against, whatever they were when it ran.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Avg, Count, F, Q, QuerySet, Sum

from annotate.connections import default_answer_format
from annotate.models import Annotation, AnnotationRun, ModelRun, Project
from annotate.rightness import Judgment, Scores, Truth, judgments, scores_of
from annotate.selectors import made_of
from annotate.services.runs import ModelChoice
from criticize.leaderboard import Score, Tally, leaderboard, order_in_words
from criticize.recommendation import Candidate, Pair, Recommendation, recommend

Run = TypeVar("Run", bound=ModelRun)

TRAINED_MODEL = "trained"
_TRAINED_NAME = "the trained classifier"


@dataclass(frozen=True, slots=True)
class ModelAndStrategy:
    """What makes two runs the same candidate: who is asked, and how. `own` tells apart what is never the same."""

    kind: str
    connection: int | None = None
    provider: str = ""
    model: str = ""
    strategy: str = ""
    answer_format: str = ""
    confidence: bool = False
    examples: int = 0
    own: int | None = None


def pair_of_run(run: ModelRun) -> ModelAndStrategy:
    if run.kind == ModelRun.Kind.TRAINED:
        return ModelAndStrategy(run.kind)
    if run.kind == ModelRun.Kind.VOTED or run.parameters.get("sources"):
        return ModelAndStrategy(run.kind, own=run.pk)
    return ModelAndStrategy(
        run.kind,
        run.connection_id,
        run.provider,
        run.model,
        run.strategy,
        run.answer_format,
        bool(run.parameters.get("confidence")),
        int(run.parameters.get("examples") or 0),
    )


def pair_of_choice(choice: ModelChoice) -> ModelAndStrategy:
    """As `pair_of_run` of the run that the choice would start."""
    if choice.connection is None:
        return ModelAndStrategy(choice.kind)
    return ModelAndStrategy(
        choice.kind,
        choice.connection.pk,
        choice.connection.provider,
        choice.model.strip(),
        choice.strategy,
        choice.answer_format or default_answer_format(choice.connection),
        choice.confidence,
        choice.examples,
    )


def name_of_run(run: ModelRun) -> str:
    """A run as tables of candidates name it."""
    if run.kind == ModelRun.Kind.TRAINED:
        return "Trained classifier"
    pair = pair_of_run(run)
    return run.who + _options(pair.confidence, pair.examples)


def name_of_choice(choice: ModelChoice) -> str:
    if choice.is_trained:
        return "Trained classifier"
    return f"{choice.model.strip()} · {choice.strategy}{_options(choice.confidence, choice.examples)}"


def _options(confidence: bool, examples: int) -> str:
    return f"{' · confidence' if confidence else ''}{f' · {examples} examples' if examples else ''}"


def model_of_run(run: ModelRun) -> str:
    """What tells models apart: the same model with another strategy is the same model."""
    if run.kind == ModelRun.Kind.PROMPTED:
        return f"{run.provider}/{run.model}"
    return TRAINED_MODEL if run.kind == ModelRun.Kind.TRAINED else f"{run.kind}-{run.pk}"


def newest_of_each(runs: Iterable[Run]) -> list[Run]:
    """Of runs that come newest first, the newest of each model and strategy."""
    found: dict[ModelAndStrategy, Run] = {}
    for run in runs:
        found.setdefault(pair_of_run(run), run)
    return list(found.values())


def candidates_of(project: Project) -> list[AnnotationRun]:
    """The newest candidate run of each model and strategy, newest first."""
    runs = project.annotation_runs.filter(scope=AnnotationRun.Scope.CALIBRATION)
    return newest_of_each(runs.select_related("project", "job", "connection", "created_by").order_by("-pk"))


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A candidate on the leaderboard: `asked` of the `items` calibration items have a result.

    `score` is None until it is finished, and where nothing was asked.
    """

    run: AnnotationRun
    name: str
    asked: int
    items: int
    score: Score | None

    @property
    def missing(self) -> int:
        """Calibration items that it was never asked about: the set grew, or it was cancelled."""
        return max(0, self.items - self.asked)

    @property
    def can_go_on(self) -> bool:
        return bool(self.missing) and self.run.job.is_finished and self.run.kind != ModelRun.Kind.VOTED


@dataclass(frozen=True, slots=True)
class Board:
    """The leaderboard: finished candidates by accuracy, then the others; and what the order is worth."""

    items: int
    rows: list[CandidateRow]
    words: str

    @property
    def is_running(self) -> bool:
        return any(row.run.job.is_active for row in self.rows)

    @property
    def scored(self) -> list[CandidateRow]:
        return [row for row in self.rows if row.score is not None]

    @property
    def axis_start(self) -> float:
        """Where the intervals' common axis begins: the tenth below the lowest bound."""
        lows = [row.score.low for row in self.rows if row.score is not None]
        return int(min(lows, default=0.0) * 10) / 10


def board_of(project: Project) -> Board:
    """How each candidate does on the calibration items, in a fixed number of queries."""
    runs = candidates_of(project)
    items = project.calibration_labels.count()
    tallies = _tallies(runs)
    finished = [tallies[run.pk] for run in runs if run.job.is_finished]
    scores = {score.tally.key: score for score in leaderboard(finished)}
    rows = {
        run.pk: CandidateRow(run, name_of_run(run), tallies[run.pk].judged, items, scores.get(run.pk))
        for run in runs
    }
    ordered = [*scores, *(pk for pk in rows if pk not in scores)]
    return Board(items, [rows[pk] for pk in ordered], order_in_words(list(scores.values())))


def _tallies(runs: Sequence[AnnotationRun]) -> dict[int, Tally]:
    """By run: what was counted on the items that are calibration items now, with the labels they have now."""
    sources = made_of(runs)
    asked = {run.pk for run in runs}.union(*sources.values())
    on_calibration = Annotation.objects.filter(run__in=asked, item__calibration_label__isnull=False)
    spans = _span_scores(runs, on_calibration)
    counts = {
        row["run"]: row
        for row in on_calibration.order_by()
        .values("run")
        .annotate(
            judged=Count("pk"),
            right=Count("pk", filter=Q(label=F("item__calibration_label__label"))),
            failed=Count("pk", filter=~Q(failure="")),
            unparseable=Count("pk", filter=Q(failure="unparseable")),
            paid=Sum("cost"),
            seconds=Avg("latency", filter=Q(latency__gt=0)),
            input=Sum("input_tokens"),
            output=Sum("output_tokens"),
        )
    }
    free = AnnotationRun.objects.filter(pk__in=asked).exclude(kind=ModelRun.Kind.PROMPTED)
    free_ids = set(free.values_list("pk", flat=True))

    def paid(run_id: int) -> float | None:
        row = counts.get(run_id)
        if run_id in free_ids or row is None:
            return 0.0
        return None if row["paid"] is None else float(row["paid"])

    costs = {run.pk: [paid(pk) for pk in (run.pk, *sorted(sources[run.pk]))] for run in runs}
    return {run.pk: _tally(run, counts.get(run.pk), costs[run.pk], spans.get(run.pk)) for run in runs}


def _span_scores(runs: Sequence[AnnotationRun], annotations: QuerySet[Annotation]) -> dict[int, Scores]:
    """By run, where answers are spans: a database cannot tell which of them match a known one."""
    if not runs or not runs[0].project.task.is_span:
        return {}
    by_run: dict[int, list[Judgment]] = {}
    for each in judgments(annotations, runs[0].project.task, Truth.CALIBRATION):
        by_run.setdefault(each.run_id, []).append(each)
    return {run_id: scores_of(iter(found)) for run_id, found in by_run.items()}


def _tally(
    run: AnnotationRun, row: Mapping[str, Any] | None, costs: Sequence[float | None], spans: Scores | None
) -> Tally:
    """`costs` are those of the run and of all that it is made of: without them there were no vote and no discussion."""
    name = name_of_run(run)
    if row is None:
        return Tally(run.pk, name, 0, 0)
    known = [cost for cost in costs if cost is not None]
    return Tally(
        key=run.pk,
        name=name,
        judged=int(row["judged"] or 0),
        right=spans.right if spans else int(row["right"] or 0),
        f1=spans.f1 if spans else None,
        failed=int(row["failed"] or 0),
        unparseable=int(row["unparseable"] or 0),
        cost=sum(known) if len(known) == len(costs) else None,
        seconds=row["seconds"],
        input_tokens=int(row["input"] or 0),
        output_tokens=int(row["output"] or 0),
    )


def recommendation_of(board: Board, pairs: Sequence[Pair] = ()) -> Recommendation | None:
    """Who should annotate and criticize, of the candidates that were asked about at least half the calibration items.

    A candidate that was cancelled after three lucky answers is on the leaderboard, but no advice rests on it.
    """
    candidates = [
        _candidate(row.run, row.score)
        for row in board.rows
        if row.score is not None and 2 * row.asked >= board.items
    ]
    return recommend(candidates, pairs)


def _candidate(run: AnnotationRun, score: Score) -> Candidate:
    is_prompted = run.kind == ModelRun.Kind.PROMPTED
    return Candidate(
        score=score,
        model=model_of_run(run),
        model_name=run.model
        if is_prompted
        else _TRAINED_NAME
        if run.kind == ModelRun.Kind.TRAINED
        else run.who,
        strategy=run.strategy if is_prompted else "",
        can_criticize=run.kind != ModelRun.Kind.VOTED,
    )
