"""The dashboard: its page, what of it has changed since it was shown, and each chart's numbers as CSV."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from annotate.access import May, permissions, project_for
from annotate.models import Item
from annotate.requests import PageRequest, number_of
from review.browsing import ERROR_HIGH, ItemFilter
from review.dashboard import (
    BUSY_POLL,
    QUIET_POLL,
    TABLES,
    AtOnce,
    is_busy,
    part_of,
    parts_at_once,
    parts_shown,
    table_file,
)
from review.dashboard_errors import ERROR_PROBABILITY, Confusion, Doubts
from review.dashboard_pipeline import Pipeline
from review.dashboard_scope import Scope, rounds_to_choose, scope_of
from review.dashboard_spans import SpanMatches
from review.dashboard_work import Cost


@require_GET
def dashboard(request: PageRequest, project_id: int) -> HttpResponse | StreamingHttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    asked = request.GET.get("round", "")
    round_id = number_of(asked)
    if asked and round_id is None:
        raise Http404("There is no such review round in this project.")
    scope = scope_of(project, round_id)
    if "csv" in request.GET:
        return table_file(scope, request.GET["csv"])
    context = _context(request, scope)
    waits = bool(request.htmx) or "wait" in request.GET
    found = _all_counted(scope) if waits else parts_at_once(scope)
    if found is None:
        return render(request, "review/dashboard.html", context | {"live_url": _live_url(request, scope, {})})
    parts = {name: _rendered(name, scope, part, context) for name, part in found.parts.items()}
    seen = {name: _fingerprint(html) for name, html in parts.items()}
    context |= {
        "parts": parts,
        "is_old": found.is_old,
        "live_url": _live_url(request, scope, seen),
        "poll": BUSY_POLL if is_busy(scope) else QUIET_POLL,
    }
    if not request.htmx:
        return render(request, "review/dashboard.html", context)
    known = _unpacked(request.GET.get("seen", ""))
    if not known:
        return render(request, "review/dashboard_parts.html", context)
    changed = {name: html for name, html in parts.items() if known.get(name) != seen[name]}
    if not changed and known.get("poll") == str(context["poll"]):
        return HttpResponse(status=204)
    return render(request, "review/dashboard_changes.html", context | {"changed": changed})


def _all_counted(scope: Scope) -> AtOnce:
    return AtOnce({name: part_of(scope, name) for name in parts_shown(scope.project.task)}, is_old=False)


def _live_url(request: PageRequest, scope: Scope, seen: Mapping[str, str]) -> str:
    """Where the page asks what has changed since it has `seen` its parts."""
    return f"{request.path}?{urlencode({**_round_query(scope), 'seen': _packed(seen)})}"


def _context(request: PageRequest, scope: Scope) -> dict[str, Any]:
    project = scope.project
    return {
        "project": project,
        "can": permissions(request.user, project),
        "scope": scope,
        "round": scope.round,
        "rounds": rounds_to_choose(project),
        "zone": timezone.get_current_timezone_name(),
        "csv_urls": {
            name: f"{request.path}?{urlencode({**_round_query(scope), 'csv': name})}" for name in TABLES
        },
    }


def _round_query(scope: Scope) -> dict[str, int]:
    return {"round": scope.round.pk} if scope.round else {}


def _rendered(name: str, scope: Scope, part: Any, context: Mapping[str, Any]) -> str:
    own = {"part": part, "name": name, "csv_url": context["csv_urls"][name]}
    if name in _MORE and part is not None:
        own |= _MORE[name](scope, part)
    return render_to_string("review/dashboard_part.html", {**context, **own})


def _fingerprint(html: str) -> str:
    return hashlib.blake2s(html.encode(), digest_size=6).hexdigest()


def _packed(seen: Mapping[str, str]) -> str:
    return ",".join(f"{name}.{fingerprint}" for name, fingerprint in seen.items())


def _unpacked(text: str) -> dict[str, str]:
    return dict(each.split(".", 1) for each in text.split(",") if "." in each)


# --- Links to the items ----------------------------------------------------------------------------------------------


def _items_url(scope: Scope, **wanted: Any) -> str:
    query = ItemFilter(round=scope.round.pk if scope.round else None, **wanted).query()
    url = reverse("items", args=[scope.project.pk])
    return f"{url}?{query}" if query else url


def _of_pipeline(scope: Scope, part: Pipeline) -> dict[str, Any]:
    """Links of the stages: to their items where the list can tell them apart, else to where they come from."""
    urls = {stage.key: _items_url(scope, status=stage.status) for stage in part.stages if stage.status}
    urls["uploaded"] = _items_url(scope)
    project = scope.project.pk
    if scope.annotation is not None:
        urls["annotated"] = reverse("annotation_run", args=[project, scope.annotation.pk])
    if scope.criticism is not None:
        urls["criticized"] = reverse("criticism_run", args=[project, scope.criticism.pk])
    if scope.round is not None:
        urls["drawn"] = reverse("review_round", args=[project, scope.round.pk])
    turns = (
        (part.further_readings, "further reading"),
        (part.adjudications, "adjudication"),
        (part.known_items, "known item"),
    )
    on_top = [f"{count:,} {name}{'' if count == 1 else 's'}" for count, name in turns if count]
    return {"urls": urls, "on_top": on_top}


def _of_doubts(scope: Scope, part: Doubts) -> dict[str, Any]:
    """A link a bin, where the list of items can be narrowed to it."""
    if part.is_rank or part.scale != ERROR_PROBABILITY:
        return {"urls": []}
    urls = [
        _items_url(scope, eps_min=each.low, eps_max=_below(each.high), sort=ERROR_HIGH) for each in part.bins
    ]
    return {"urls": urls}


def _below(high: float) -> float:
    """The list includes both bounds, and a bin its lower one, but for the last."""
    return high if high >= 1 else round(high - 1e-6, 6)


def _of_confusion(scope: Scope, part: Confusion) -> dict[str, Any]:
    """Links of the pairs that are shown; of many labels there are far more."""
    shown = [*part.confused, *(cell for row in part.rows for cell in row.cells if cell.count)]
    urls = {
        (pair.machine, pair.human): _items_url(scope, label=pair.machine_id, human=pair.human_id)
        for pair in shown
        if pair.machine_id is not None and pair.human_id is not None
    }
    confused = [{"pair": pair, "url": urls.get((pair.machine, pair.human), "")} for pair in part.confused]
    return {"urls": urls, "confused": confused}


def _of_matches(scope: Scope, part: SpanMatches) -> dict[str, Any]:
    """The parts of its bar, and the items whose answers are furthest apart."""
    return {
        "kinds": [{"label": name, "value": count, "tone": tone} for name, count, tone in part.kinds],
        "items": Item.objects.in_bulk({each.item_id for each in part.apart}),
    }


def _of_cost(scope: Scope, part: Cost) -> dict[str, Any]:
    """The rows of its bars: what was spent, and what labeling everything by hand would cost."""
    spent = [
        {"label": "Models", "value": float(part.models), "tone": "machine"},
        {"label": "People", "value": float(part.people), "tone": "human"},
    ]
    by_hand = [{"label": "All by hand", "value": float(part.by_hand), "tone": "quiet"}]
    return {
        "cost_bars": [
            {"name": "So far", "parts": spent, "total": part.total},
            {"name": "All by hand", "parts": by_hand, "total": part.by_hand},
        ]
    }


# What a part's template needs beside its numbers.
_MORE: dict[str, Callable[[Scope, Any], dict[str, Any]]] = {
    "pipeline": _of_pipeline,
    "doubts": _of_doubts,
    "confusion": _of_confusion,
    "matches": _of_matches,
    "cost": _of_cost,
}
