"""A project's dashboard: its parts, each counted when it is looked at and kept for a moment."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.cache import cache
from django.http import Http404, StreamingHttpResponse
from django.utils import timezone

from annotate.csv_response import csv_response
from annotate.task_types import TaskType
from jobs.models import Job
from review.dashboard_errors import budget_curve_of, confusion, doubts
from review.dashboard_pipeline import pipeline
from review.dashboard_scope import Scope, Table
from review.dashboard_spans import span_matches
from review.dashboard_work import cost, pace, runs
from review.models import Correction, ReviewRound, ReviewTask

# A part is kept so many times as long as it took to count, but no longer than a minute: small projects are always up
# to date, and counting never takes more than a hundredth of a large one's time.
_KEPT_TIMES = 100
_KEPT_AT_MOST = 60  # seconds
_NOT_KEPT_BELOW = 1  # seconds
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


@dataclass(frozen=True, slots=True)
class _Kept:
    value: Any  # a part may be None, which no cache tells from nothing


def parts_shown(task: TaskType) -> list[str]:
    """The parts that a page of the project has: spans are laid beside each other by their words, not by labels."""
    return [name for name in PARTS if name != ("confusion" if task.is_span else "matches")]


def part_of(scope: Scope, name: str) -> Any:
    """A part of the dashboard, or None where there is nothing to say yet. Raises KeyError for an unknown one."""
    count = PARTS[name]
    key = f"dashboard-{name}-{scope.key}"
    kept: _Kept | None = cache.get(key)
    if kept is not None:
        return kept.value
    began = time.perf_counter()
    value = count(scope)
    seconds = min(_KEPT_AT_MOST, int(_KEPT_TIMES * (time.perf_counter() - began)))
    if seconds >= _NOT_KEPT_BELOW:
        cache.set(key, _Kept(value), seconds)
    return value


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
