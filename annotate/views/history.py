"""Who changed what in a project: a page by page list, and all of it as CSV."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import May, project_for
from annotate.csv_response import csv_response
from annotate.history import changes_of, in_words
from annotate.models import Change, User
from annotate.requests import PageRequest, asked_text, number_of

CHANGES_A_PAGE = 50


@require_GET
def history(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    chosen = _chosen(request)
    changes = changes_of(project, **chosen)
    before = number_of(request.GET.get("before", ""))
    if before is not None:
        changes = changes.filter(pk__lt=before)
    rows = list(changes[: CHANGES_A_PAGE + 1])
    shown = rows[:CHANGES_A_PAGE]
    context: dict[str, Any] = {
        "project": project,
        "rows": [(change, in_words(change)) for change in shown],
        "people": User.objects.filter(pk__in=project.changes.order_by().values("actor")).order_by("username"),
        "actions": project.changes.order_by("action").values_list("action", flat=True).distinct(),
        "chosen": chosen,
        "filter_query": urlencode({name: value for name, value in chosen.items() if value}),
        "is_first_page": not before,
        "older": shown[-1].pk if len(rows) > len(shown) else None,
    }
    return render(request, "projects/history.html", context)


@require_GET
def history_csv(request: PageRequest, project_id: int) -> StreamingHttpResponse:
    """The changes that the page's filter leaves, newest first."""
    project = project_for(request.user, project_id, may=May.SEE)
    header = ["time", "person", "action", "subject", "old", "new"]
    changes = changes_of(project, **_chosen(request))
    return csv_response(f"changes-{project.pk}.csv", header, map(_row, _all(changes)))


def _all(changes: Any) -> Iterator[Change]:
    yield from changes.iterator(chunk_size=1000)


def _row(change: Change) -> list[str]:
    return [
        change.created_at.isoformat(),
        change.actor.username if change.actor else "",
        change.action,
        change.subject,
        _json(change.old),
        _json(change.new),
    ]


def _json(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _chosen(request: PageRequest) -> dict[str, str]:
    return {name: asked_text(request, name)[:150] for name in ("actor", "action")}
