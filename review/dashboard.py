"""A project's dashboard: its parts, counted when they are looked at; those of a large project are kept for a while."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.http import Http404, StreamingHttpResponse
from django.utils import timezone

from annotate.csv_response import csv_response
from annotate.task_types import TaskType
from jobs.models import Job
from review import keeping
from review.dashboard_errors import budget_curve_of, confusion, doubts
from review.dashboard_pipeline import pipeline
from review.dashboard_scope import Scope, Table
from review.dashboard_spans import span_matches
from review.dashboard_work import cost, pace, runs
from review.keeping import counted, last_counted
from review.models import Correction, ReviewRound, ReviewTask

# Parts that share what they read are good for so long, in seconds: the one that came second seems to be quick. What
# models are at work on is quick, and changes all the time.
_SHARED_AT_LEAST = 20.0
_LIVE = "runs"
_REVIEWED_LATELY = timedelta(minutes=5)
BUSY_POLL, QUIET_POLL = 3, 20  # seconds

PARTS: dict[str, Callable[[Scope], Any]] = {
    "pipeline": pipeline,
    "runs": runs,
    "curve": budget_curve_of,
    "doubts": doubts,
    "confusion": confusion,
    "matches": span_matches,
    "cost": cost,
    "pace": pace,
}
# By the name of the CSV file: its part, and the part's attribute.
TABLES = {name: (name, "table") for name in PARTS} | {
    "match_kinds": ("matches", "kind_table"),
    "reviewers": ("pace", "reviewer_table"),
}


def parts_shown(task: TaskType) -> list[str]:
    """The parts that a page of the project has: spans are laid beside each other by their words, not by labels."""
    return [name for name in PARTS if name != ("confusion" if task.is_span else "matches")]


def is_large(scope: Scope) -> bool:
    """Whether counting takes too long for a page to wait for it."""
    run, round = scope.annotation, scope.round
    return max(run.job.total if run else 0, round.budget if round else 0) >= keeping.LARGE


def part_of(scope: Scope, name: str) -> Any:
    """A part of the dashboard, or None where there is nothing to say yet. Raises KeyError for an unknown one."""
    count = PARTS[name]
    if not is_large(scope):
        return count(scope)
    at_least = 0.0 if name == _LIVE else _SHARED_AT_LEAST
    return counted(_key(scope, name), partial(count, scope), at_least=at_least)


def _key(scope: Scope, name: str) -> str:
    return f"dashboard-part-{name}-{scope.key}"


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Parts by name, without waiting; `is_old` where some of them should be counted anew."""

    parts: dict[str, Any]
    is_old: bool


def parts_at_once(scope: Scope) -> AtOnce | None:
    """All parts that a page has; None where one would have to be counted and that takes long."""
    names = parts_shown(scope.project.task)
    if not is_large(scope):
        return AtOnce({name: part_of(scope, name) for name in names}, is_old=False)
    found = {name: kept for name in names if (kept := last_counted(_key(scope, name)))}
    if len(found) < len(names):
        return None
    parts = {name: part_of(scope, name) if name == _LIVE else kept.value for name, kept in found.items()}
    is_old = any(kept.is_old for name, kept in found.items() if name != _LIVE)
    return AtOnce(parts, is_old)


def table_of(scope: Scope, name: str) -> Table:
    """The numbers of a chart; without rows where there is nothing to say yet. Raises KeyError for an unknown one."""
    part, attribute = TABLES[name]
    value = part_of(scope, part)
    return Table((), []) if value is None else getattr(value, attribute)


def table_file(scope: Scope, name: str) -> StreamingHttpResponse:
    """The numbers of a chart as a CSV file. Raises Http404 for an unknown one."""
    if name not in TABLES:
        raise Http404(f"There is no such table; known are: {', '.join(TABLES)}.")
    table = table_of(scope, name)
    round = f"-round-{scope.round.pk}" if scope.round else ""
    return csv_response(f"overread-{scope.project.pk}{round}-{name}.csv", table.columns, table.rows)


def is_busy(scope: Scope) -> bool:
    """Whether the numbers change by themselves: a job is at work, or somebody has reviewed within five minutes."""
    project = scope.project
    active = (Job.State.QUEUED, Job.State.RUNNING)
    if project.annotation_runs.filter(job__state__in=active).exists():
        return True
    if project.annotation_runs.filter(criticism_runs__job__state__in=active).exists():
        return True
    if project.uploads.filter(job__state__in=active).exists():
        return True
    rounds = project.review_rounds.filter(state=ReviewRound.State.OPEN)
    if ReviewTask.objects.filter(round__in=rounds, state=ReviewTask.State.LEASED).exists():
        return True
    # The newest answers of all projects: few of five minutes, and found by their key.
    lately = Correction.objects.order_by("-pk").values_list("task__round__project", "created_at")[:200]
    since = timezone.now() - _REVIEWED_LATELY
    return any(project_id == project.pk and at >= since for project_id, at in lately)
