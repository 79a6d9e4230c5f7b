"""What goes on in a project and what it took: runs under way, money spent, and the pace of its reviewers."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
from django.db.models import BigIntegerField, Case, Count, Func, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from annotate.models import AnnotationRun, ModelRun, Project, User
from criticize.models import CriticismRun
from jobs.models import Job
from jobs.selectors import FailureCount, JobProgress, failures_by_name, job_progress
from review.dashboard_scope import Cell, Scope, Table
from review.models import Correction, ReviewRound, ReviewTask
from review.services.picking import BROWSE, answered_at_once

Run = TypeVar("Run", AnnotationRun, CriticismRun)

DAYS = 14
# A longer gap between two answers of one person is a pause.
LONGEST_GAP = 300.0  # seconds
_NOT_TIMED = -1.0  # no answer takes so long
_ROWS_AT_ONCE = 10_000


# --- Runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run at a moment. `is_priced` is False where it used tokens whose price is not known."""

    kind: str  # "annotation" or "criticism"
    run_id: int
    who: str
    job: Job
    progress: JobProgress
    failures: list[FailureCount]
    is_priced: bool

    @property
    def state(self) -> str:
        return self.progress.state

    @property
    def per_minute(self) -> float:
        """Subjects a minute."""
        return 60 * self.progress.rate


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs under way or paused, oldest first; without any, the last of each kind."""

    runs: list[RunProgress]
    is_active: bool

    @property
    def table(self) -> Table:
        rows: list[tuple[Cell, ...]] = [
            (
                run.kind,
                run.run_id,
                run.who,
                run.state,
                run.progress.done,
                run.progress.total,
                run.progress.failed,
                ", ".join(f"{failure.label}: {failure.count}" for failure in run.failures),
                round(run.per_minute, 2),
                None if run.progress.eta is None else round(run.progress.eta),
                round(run.progress.cost, 6) if run.is_priced else None,
                run.progress.spend_limit,
            )
            for run in self.runs
        ]
        return Table(
            (
                "kind",
                "run",
                "who",
                "state",
                "done",
                "total",
                "failed",
                "failures",
                "per_minute",
                "seconds_left",
                "spent_usd",
                "limit_usd",
            ),
            rows,
        )


def runs(scope: Scope) -> Runs:
    """What models are at work on, or were last."""
    annotations, criticisms = _runs_of(scope.project)
    found: list[AnnotationRun | CriticismRun] = [*_shown(annotations), *_shown(criticisms)]
    return Runs([_run_progress(run) for run in found], any(run.job.is_active for run in found))


def _shown(rows: QuerySet[Run]) -> list[Run]:
    """Those under way, or the last."""
    return list(rows.filter(job__state__in=Job.UNFINISHED).order_by("pk")) or list(rows.order_by("-pk")[:1])


def _runs_of(project: Project) -> tuple[QuerySet[AnnotationRun], QuerySet[CriticismRun]]:
    return (
        AnnotationRun.objects.filter(project=project).select_related("job"),
        CriticismRun.objects.filter(annotation_run__project=project).select_related("annotation_run", "job"),
    )


def _run_progress(run: AnnotationRun | CriticismRun) -> RunProgress:
    answers: QuerySet[Any] = run.annotations.all() if isinstance(run, AnnotationRun) else run.criticisms.all()
    return RunProgress(
        kind=_kind(run),
        run_id=run.pk,
        who=run.who,
        job=run.job,
        progress=job_progress(run.job),
        failures=failures_by_name(answers) if run.job.failed else [],
        is_priced=_is_priced(run),
    )


def _kind(run: ModelRun) -> str:
    return "annotation" if isinstance(run, AnnotationRun) else "criticism"


def _is_priced(run: ModelRun) -> bool:
    tokens = run.job.input_tokens + run.job.output_tokens
    return run.kind != ModelRun.Kind.PROMPTED or bool(run.job.cost) or not tokens


# --- Costs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunCost:
    """What a run's model was paid, US$; None where no price is known."""

    kind: str
    run_id: int
    who: str
    is_candidate: bool
    input_tokens: int
    output_tokens: int
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class ReviewCost:
    """Turns of people, answered or skipped, at the project's price of a review, US$; many at once cost nothing."""

    name: str
    reviews: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Cost:
    """The project's costs so far, US$, against labeling every item by hand once."""

    runs: list[RunCost]
    reviews: list[ReviewCost]
    items: int
    review_price: Decimal

    @property
    def models(self) -> Decimal:
        return sum((run.cost for run in self.runs if run.cost is not None), Decimal(0))

    @property
    def people(self) -> Decimal:
        return sum((part.cost for part in self.reviews), Decimal(0))

    @property
    def total(self) -> Decimal:
        return self.models + self.people

    @property
    def by_hand(self) -> Decimal:
        return self.items * self.review_price

    @property
    def reviewed(self) -> int:
        """Turns that are paid for."""
        return sum(part.reviews for part in self.reviews if part.name != _AT_ONCE)

    @property
    def at_once(self) -> int:
        """Answers that were given to many items at once, which nobody is paid for one by one."""
        return sum(part.reviews for part in self.reviews if part.name == _AT_ONCE)

    @property
    def unpriced(self) -> int:
        """Runs whose model's price is not known: the true total is higher."""
        return sum(run.cost is None for run in self.runs)

    @property
    def table(self) -> Table:
        rows: list[tuple[Cell, ...]] = [
            (
                "model",
                f"{run.kind} {run.run_id}, {run.who}",
                None,
                run.input_tokens,
                run.output_tokens,
                None if run.cost is None else float(run.cost),
            )
            for run in self.runs
        ]
        rows += [("people", part.name, part.reviews, None, None, float(part.cost)) for part in self.reviews]
        rows.append(("all by hand", "Every item once", self.items, None, None, float(self.by_hand)))
        return Table(("part", "what", "reviews", "input_tokens", "output_tokens", "cost_usd"), rows)


# What a turn was, in words, in the order of the table.
_TURNS = ("Review", "Further readings", "Adjudication", "Known items", "Calibration", "Audit")
_AT_ONCE = "Many at once"


def cost(scope: Scope) -> Cost:
    """What the project's runs and people cost so far. What was taken back does not count, and no review is paid where
    one action answered many items."""
    project = scope.project
    annotations, criticisms = _runs_of(project)
    paid = [_run_cost(run, run) for run in annotations.order_by("pk")]
    paid += [_run_cost(run, run.annotation_run) for run in criticisms.order_by("pk")]
    done = ReviewTask.objects.filter(
        round__project=project, state__in=(ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)
    )
    at_once: Counter[str] = sum(map(_turns, answered_at_once(project, done)), Counter())
    turns = _turns(done) - at_once
    price = project.review_price
    reviews = [ReviewCost(name, turns[name], turns[name] * price) for name in _TURNS if turns[name]]
    if at_once:
        reviews.append(ReviewCost(_AT_ONCE, at_once.total(), Decimal(0)))
    return Cost(runs=paid, reviews=reviews, items=project.items.count(), review_price=price)


def _turns(tasks: QuerySet[ReviewTask]) -> Counter[str]:
    """How many of the tasks are which kind of turn."""
    kind, purpose = ReviewRound.Kind, ReviewTask.Purpose
    turn = Case(
        When(purpose=purpose.GOLD, then=Value("Known items")),
        When(purpose=purpose.ADJUDICATION, then=Value("Adjudication")),
        When(copy__gt=0, then=Value("Further readings")),
        When(round__kind=kind.CALIBRATION, then=Value("Calibration")),
        When(round__kind=kind.AUDIT, then=Value("Audit")),
        default=Value("Review"),
    )
    return Counter(dict(tasks.order_by().annotate(turn=turn).values_list("turn").annotate(Count("pk"))))


def _run_cost(run: ModelRun, annotator: AnnotationRun) -> RunCost:
    return RunCost(
        kind=_kind(run),
        run_id=run.pk,
        who=run.who,
        is_candidate=annotator.scope == AnnotationRun.Scope.CALIBRATION,
        input_tokens=run.job.input_tokens,
        output_tokens=run.job.output_tokens,
        cost=run.job.cost if _is_priced(run) else None,
    )


# --- The pace of reviewers -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """Reviews in an hour or a day that begins at `start`."""

    start: datetime
    reviews: int


@dataclass(frozen=True, slots=True)
class ReviewerPace:
    """One person's pace. `median_seconds` is from showing an item to its answer. `active_seconds` are the gaps between
    answers of under five minutes; `per_hour`, reviews an hour of them. None where nothing was timed."""

    reviewer: str
    reviews: int
    median_seconds: float | None
    active_seconds: float
    per_hour: float | None


@dataclass(frozen=True, slots=True)
class Pace:
    """Answers and skips in all of the project's rounds over the last `DAYS` days, today included; those taken back too,
    since they took their time. Those given to many items at once took none, and are left out."""

    hours: list[Span]
    days: list[Span]
    reviewers: list[ReviewerPace]

    @property
    def today(self) -> int:
        return sum(span.reviews for span in self.hours)

    @property
    def reviews(self) -> int:
        return sum(span.reviews for span in self.days)

    @property
    def table(self) -> Table:
        rows: list[tuple[Cell, ...]] = [
            ("hour", f"{s.start:%Y-%m-%dT%H:%M%z}", s.reviews) for s in self.hours
        ]
        rows += [("day", f"{s.start:%Y-%m-%d}", s.reviews) for s in self.days]
        return Table(("span", "start", "reviews"), rows)

    @property
    def reviewer_table(self) -> Table:
        return Table(
            ("reviewer", "reviews", "median_seconds", "active_seconds", "reviews_per_active_hour"),
            [
                (
                    each.reviewer,
                    each.reviews,
                    None if each.median_seconds is None else round(each.median_seconds, 2),
                    round(each.active_seconds, 1),
                    None if each.per_hour is None else round(each.per_hour, 1),
                )
                for each in self.reviewers
            ],
        )


def pace(scope: Scope, now: datetime | None = None) -> Pace:
    """By hour of today and by day, and by person, most reviews first. `now` in any zone; days are the server's."""
    now = timezone.localtime(now)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=DAYS - 1)
    answers = _answers_since(scope.project, first)
    at = np.sort(answers["at"])
    hours = [today + timedelta(hours=number) for number in range(25)]
    days = [first + timedelta(days=number) for number in range(DAYS + 1)]
    authors = dict(
        User.objects.filter(pk__in=np.unique(answers["author"]).tolist()).values_list("pk", "username")
    )
    people = [_reviewer_pace(name, answers[answers["author"] == author]) for author, name in authors.items()]
    return Pace(
        hours=_spans(at, hours),
        days=_spans(at, days),
        reviewers=sorted(people, key=lambda each: (-each.reviews, each.reviewer)),
    )


class _UnixMicroseconds(Func):
    """A time as whole microseconds since 1970: as one number, read several times as fast as times are."""

    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, tuple[Any, ...]]:
        time, params = compiler.compile(self.source_expressions[0])
        # "2026-11-22 10:00:00.250000", and without a fraction in a whole second; SQLite would round to milliseconds.
        seconds, fraction = (
            f"CAST(STRFTIME('%%s', SUBSTR({time}, 1, 19)) AS INTEGER)",
            f"CAST(SUBSTR({time}, 21) AS INTEGER)",
        )
        return f"({seconds} * 1000000 + {fraction})", (*params, *params)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, tuple[Any, ...]]:
        time, params = compiler.compile(self.source_expressions[0])
        return f"CAST(EXTRACT(EPOCH FROM {time}) * 1000000 AS BIGINT)", tuple(params)


def _answers_since(project: Project, first: datetime) -> np.ndarray:
    """Rows of (author's id, Unix time, seconds it took) of the project's answers and skips; NaN where not timed."""
    # A condition on the JSON alone would leave out answers in which it names no arm.
    at_once = Case(When(seconds=None, shown__arm=BROWSE, then=Value(True)), default=Value(False))
    rows = (
        Correction.objects.filter(
            ~Q(action=Correction.Action.UNDO), task__round__project=project, created_at__gte=first
        )
        .alias(at_once=at_once)
        .filter(at_once=False)
        .order_by()
        .values_list("author_id", _UnixMicroseconds("created_at"), Coalesce("seconds", Value(_NOT_TIMED)))
    )
    found = np.fromiter(
        rows.iterator(_ROWS_AT_ONCE),
        dtype=[("author", np.int64), ("at", np.float64), ("seconds", np.float64)],
    )
    found["at"] /= 1e6
    found["seconds"][found["seconds"] == _NOT_TIMED] = np.nan
    return found


def _spans(at: np.ndarray, edges: list[datetime]) -> list[Span]:
    """`at` are times in order."""
    bounds = np.searchsorted(at, [edge.timestamp() for edge in edges])
    return [Span(start, int(count)) for start, count in zip(edges, np.diff(bounds), strict=False)]


def _reviewer_pace(person: str, answers: np.ndarray) -> ReviewerPace:
    gaps = np.diff(np.sort(answers["at"]))
    active = gaps[gaps < LONGEST_GAP]
    took = answers["seconds"][~np.isnan(answers["seconds"])]
    total = float(active.sum())
    return ReviewerPace(
        reviewer=person,
        reviews=len(answers),
        median_seconds=float(np.median(took)) if len(took) else None,
        active_seconds=total,
        per_hour=3600 * len(active) / total if total else None,
    )
