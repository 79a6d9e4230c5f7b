"""One item with everything that is known about it, as far as whoever looks may know it."""

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from annotate.access import May, permissions, project_for
from annotate.errors import Refusal
from annotate.models import Annotation, CalibrationLabel, Item, Label, LabelExample, Project
from annotate.requests import PageRequest, number_of, without_nul
from annotate.selectors import item_count
from annotate.services.comments import MOST_CHARACTERS, comment_add
from review.blindness import waits_blind
from review.browsing import Chain, ItemFilter
from review.commenting import comments_shown, may_comment, may_read_all, may_resolve, require_may_comment
from review.models import Correction, ReviewRound
from review.provenance import deciding_round, how_final, permalink
from review.span_marks import marked, marks_of_item
from review.views.browse import Listing, listing_of
from review.walking import MOST_COUNTED, Neighbors, Walk

_SMALL = 128  # pixels: a smaller image is shown enlarged
_NOT_YET = "You can open an item's page once you have answered it, and nothing of it waits for you any more."


@require_GET
def item(request: PageRequest, project_id: int, item_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.ENTER)
    row = _item(project, pk=item_id)
    if row is None:
        # To who does not see items it says the same of one that is there.
        _require_to_open(request, project, None)
        return gone(request, project)
    _require_to_open(request, project, row)
    if request.htmx and request.GET.get("part") == "place":
        project_for(request.user, project_id, may=May.SEE)
        listing = listing_of(project, request.GET)
        return render(request, "items/place.html", _place(listing, listing.walk, row))
    return _page(request, project, row)


@require_GET
def item_permalink(request: PageRequest, project_id: int, external_id: str = "") -> HttpResponse:
    """Lead to the item with this id of its own; `?external_id=` names one that an address's path would mangle."""
    project = project_for(request.user, project_id, may=May.ENTER)
    name = without_nul(external_id or request.GET.get("external_id", ""))
    row = project.items.filter(external_id=name).first()
    if row is None:
        _require_to_open(request, project, None)
        return gone(request, project, name)
    _require_to_open(request, project, row)
    round_id = request.GET.get("round", "")
    kept = f"?round={round_id}" if round_id.isdecimal() else ""
    return redirect(reverse("item", args=[project.pk, row.pk]) + kept)


@require_POST
def comment_new(request: PageRequest, project_id: int, item_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.ENTER)
    row = _item(project, pk=item_id)
    if row is None:
        _require_to_open(request, project, None)
        return gone(request, project)
    require_may_comment(request.user, row)
    text = request.POST.get("text", "")
    try:
        comment_add(item=row, user=request.user, text=text, key=_key(request.POST.get("key", "")))
    except Refusal as refusal:
        _require_to_open(request, project, row)
        return _page(request, project, row, comment_text=text, comment_problem=refusal.sentence)
    if not may_read_all(request.user, row):
        messages.success(request, "Your comment is kept.")
        return redirect("project", project.pk)
    query = listing_of(project, request.GET).query() if permissions(request.user, project).see else ""
    asked = f"?{query}" if query else ""
    return redirect(reverse("item", args=[project.pk, row.pk]) + asked + "#comments")


def gone(request: HttpRequest, project: Project, name: str = "") -> HttpResponse:
    return render(request, "items/gone.html", {"project": project, "name": name}, status=404)


def _key(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _item(project: Project, **which: Any) -> Item | None:
    return project.items.select_related("project", "image", "gold", "upload").filter(**which).first()


def _require_to_open(request: PageRequest, project: Project, row: Item | None) -> None:
    """Those who see the project open every item; reviewers those that they are done with."""
    if permissions(request.user, project).see:
        return
    if row is None or not may_read_all(request.user, row):
        raise PermissionDenied(_NOT_YET)


def _page(
    request: PageRequest, project: Project, row: Item, *, comment_text: str = "", comment_problem: str = ""
) -> HttpResponse:
    can = permissions(request.user, project)
    corrections = (
        Correction.objects.filter(task__item=row)
        .select_related("label", "author", "task__round", "task")
        .order_by("pk")
    )
    context: dict[str, Any] = {
        "project": project,
        "item": row,
        "can": can,
        "permalink": request.build_absolute_uri(permalink(row)),
        "is_small": row.image is not None and max(row.image.width, row.image.height) <= _SMALL,
        "comments": [
            (comment, may_resolve(request.user, comment)) for comment in comments_shown(request.user, row)
        ],
        "may_comment": may_comment(request.user, row),
        "comment_key": uuid.uuid4(),
        "comment_text": comment_text,
        "comment_problem": comment_problem,
        "most_characters": MOST_CHARACTERS,
    }
    if can.see:
        context |= _everything(request, project, row)
    else:
        corrections = corrections.filter(author=request.user)
    context["corrections"] = corrections
    named = {answer.label_id for answer in corrections}
    named |= {annotation.label_id for annotation in context.get("annotations", [])}
    calibration: CalibrationLabel | None = context.get("calibration_label")
    if calibration is not None:
        named.add(calibration.label_id)
    if project.task.is_span:
        marks = marks_of_item(
            row, context.get("annotations", []), corrections, calibration, with_gold=can.manage
        )
        context["pieces"] = marked(row.text, marks)
        context["marked_tones"] = {mark.tone for mark in marks if mark.start < mark.end}
    labels = [pk for pk in named if pk is not None]
    context["labels"] = project.labels.filter(pk__in=labels).order_by("position")
    return render(request, "items/item.html", context, status=422 if comment_problem else 200)


def _everything(request: PageRequest, project: Project, row: Item) -> dict[str, Any]:
    """What those who see the project see beyond the item and their own answers."""
    is_blind = waits_blind(row)
    examples = LabelExample.objects.filter(item=row).select_related("label").order_by("label__position")
    return {
        "columns": {name: value for name, value in row.columns.items() if value not in (None, "")},
        "is_blind": is_blind,
        "annotations": [] if is_blind else _annotations(row),
        "final": "" if is_blind else how_final(row, _round(request, project) or deciding_round(row)),
        "calibration_label": CalibrationLabel.objects.select_related("label", "author")
        .filter(item=row)
        .first(),
        "tasks": row.review_tasks.select_related("round", "holder", "assigned_to").order_by(
            "-round_id", "copy", "pk"
        ),
        "examples": examples,
        "example_labels": _other_labels(project, row),
        **_beside(request, project, row),
    }


def _beside(request: PageRequest, project: Project, row: Item) -> dict[str, Any]:
    """The items before and after it in the list that the address tells of; of all where that has it no more."""
    listing = listing_of(project, request.GET)
    walk = listing.walk
    found = walk.neighbors(row.pk)
    beside = found or Walk(project, ItemFilter(), Chain()).neighbors(row.pk) or Neighbors(None, None)
    context = {
        "query": listing.query(),
        "previous": beside.before,
        "following": beside.after,
        "is_listed": found is not None,
    }
    # Counting among a million can take a moment: then the page asks for it by itself.
    is_quick = walk.is_counted or not listing.wanted.narrows
    return context | _place(listing, walk, row) if found and is_quick else context


def _place(listing: Listing, walk: Walk, row: Item) -> dict[str, Any]:
    """Which one of the list it is, and of how many."""
    narrows = listing.wanted.narrows
    return {
        "number": walk.number(row.pk),
        "count": walk.count() if narrows else item_count(listing.project),
        "most": MOST_COUNTED,
        "narrows": narrows,
    }


def _annotations(row: Item) -> list[Annotation]:
    rows = row.annotations.select_related("run__job", "label").prefetch_related("criticisms__run")
    return list(rows.order_by("-run_id"))


def _round(request: PageRequest, project: Project) -> ReviewRound | None:
    """The review round that the address asks about."""
    asked = number_of(request.GET.get("round", ""))
    if asked is None:
        return None
    rounds = project.review_rounds.filter(pk=asked, kind__in=ReviewRound.EXPORTED)
    return rounds.select_related("criticism_run__annotation_run", "routed_run").first()


def _other_labels(project: Project, row: Item) -> list[Label]:
    """The labels that the item is no example of yet."""
    return list(project.labels.exclude(examples__item=row).order_by("position"))
