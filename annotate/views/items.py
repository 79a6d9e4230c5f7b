"""The list of a project's items. An item's own page also shows what later rooms know, so it is in `review`."""

from typing import Any
from urllib.parse import urlencode

from django.core.cache import cache
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import May, permissions, project_for
from annotate.forms import ItemFilterForm
from annotate.models import Item, Project
from annotate.requests import PageRequest

ROWS_A_PAGE = 50
TILES_A_PAGE = 96
_COUNT_KEPT = 30  # seconds


@require_GET
def items(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    wanted = item_filter(request)
    task = project.task
    tiles = task.needs_image and not task.needs_text and not task.needs_question
    rows = matching_items(project, wanted["show"], wanted["q"]).select_related("image", "gold")
    page = keyset_page(
        rows, after=wanted["after"], before=wanted["before"], size=TILES_A_PAGE if tiles else ROWS_A_PAGE
    )
    kept = {key: wanted[key] for key in ("show", "q") if wanted[key]}
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "tiles": tiles,
        "show": wanted["show"],
        "q": wanted["q"],
        "filters": [
            (key, name, urlencode({k: v for k, v in {"show": key, "q": wanted["q"]}.items() if v}))
            for key, name in ItemFilterForm.SHOWN
        ],
        "items": page,
        "count": item_count(project),
        "newer": urlencode(kept | {"before": page[0].pk}) if page and _has(rows, pk__lt=page[0].pk) else "",
        "older": urlencode(kept | {"after": page[-1].pk}) if page and _has(rows, pk__gt=page[-1].pk) else "",
        "first": urlencode(kept),
    }
    return render(request, "items/list.html", context)


def item_filter(request: PageRequest) -> dict[str, Any]:
    """The filters of the address, without those that make no sense."""
    form = ItemFilterForm(request.GET)
    form.is_valid()
    return {name: form.cleaned_data.get(name) or "" for name in form.fields}


def matching_items(project: Project, show: str, q: str) -> QuerySet[Item]:
    """The project's items of one state whose id or words contain `q`."""
    rows = project.items.order_by("id")
    if show == "gold":
        rows = rows.filter(gold__isnull=False)
    elif show == "calibration":
        rows = rows.filter(calibration_label__isnull=False)
    elif show == "plain":
        rows = rows.filter(gold=None, calibration_label=None)
    if q:
        rows = rows.filter(Q(external_id__icontains=q) | Q(text__icontains=q) | Q(question__icontains=q))
    return rows


def keyset_page(rows: QuerySet[Item], *, after: int | str, before: int | str, size: int) -> list[Item]:
    """Up to `size` items after one key, or before another: as fast at the end of a million as at their start."""
    if before:
        return list(rows.filter(pk__lt=before).order_by("-id")[:size])[::-1]
    return list(rows.filter(pk__gt=after or 0)[:size])


def _has(rows: QuerySet[Item], **where: int) -> bool:
    return rows.filter(**where).exists()


def item_count(project: Project) -> int:
    """How many items the project has; up to half a minute old, since pages ask often and imports add fast."""
    key = f"item-count-{project.pk}"
    count: int | None = cache.get(key)
    if count is None:
        count = project.items.count()
        cache.set(key, count, _COUNT_KEPT)
    return count
