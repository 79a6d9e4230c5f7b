"""The list of all items: filters in its address, saved views, and what managers do to many items at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from annotate.access import May, members_who_may, permissions, project_for
from annotate.errors import Refusal
from annotate.models import Project, SavedView
from annotate.requests import PageRequest, number_of
from annotate.selectors import item_count
from mllm.errors import Failure
from review.browsing import (
    DISAGREEMENTS,
    SORTS,
    STATUSES,
    Chain,
    ItemFilter,
    cannot_tell,
    chain_of,
    parse,
)
from review.item_rows import rows_of
from review.models import ReviewRound
from review.services.picking import (
    ACCEPT,
    ACTIONS,
    ASSIGN,
    RELABEL,
    RETRY,
    REVIEW,
    UNDOABLE,
    Action,
    Outcome,
    can_undo,
    chosen_items,
    pick,
    pick_preview,
    pick_undo,
)
from review.services.saved_views import saved_view_delete, saved_view_save
from review.walking import MOST_COUNTED, Walk, place_from

ROWS_A_PAGE = 50
TILES_A_PAGE = 96
GRID, TABLE = "grid", "table"


@dataclass(frozen=True)
class Listing:
    """A list as its address asks for it."""

    project: Project
    wanted: ItemFilter
    chain: Chain
    problems: list[str]
    view: str

    @property
    def walk(self) -> Walk:
        return Walk(self.project, self.wanted, self.chain)

    @property
    def is_image_project(self) -> bool:
        task = self.project.task
        return task.needs_image and not task.needs_text and not task.needs_question

    def query(self, **changes: Any) -> str:
        """The address's query with some filters changed; the view is kept."""
        return self._with_view(replace(self.wanted, **changes))

    def _with_view(self, wanted: ItemFilter) -> str:
        usual = GRID if self.is_image_project else TABLE
        pairs = wanted.as_pairs() + ([("view", self.view)] if self.view != usual else [])
        return urlencode(pairs)


def listing_of(project: Project, values: Mapping[str, str]) -> Listing:
    """What the address asks for; what of it makes no sense falls away."""
    parsed = parse(project, values)
    chain = chain_of(project, parsed.wanted.round)
    missing = cannot_tell(parsed.wanted, chain)
    defaults = ItemFilter()
    wanted = replace(parsed.wanted, **{name: getattr(defaults, name) for name in missing})
    if {"eps_min", "eps_max"} & set(missing):
        wanted = replace(wanted, eps_min=None, eps_max=None)
    listing = Listing(project, wanted, chain, [*parsed.problems.values(), *missing.values()], "")
    view = values.get("view", "")
    usual = GRID if listing.is_image_project else TABLE
    return replace(listing, view=view if view in (GRID, TABLE) and project.task.needs_image else usual)


@require_GET
def items(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    listing = listing_of(project, request.GET)
    if request.htmx and request.GET.get("part") == "count":
        count = listing.walk.count() if listing.wanted.narrows else item_count(project)
        return render(request, "items/count.html", {"count": count, "listing": listing, "most": MOST_COUNTED})
    page = listing.walk.page(
        after=place_from(request.GET.get("after", "")),
        before=place_from(request.GET.get("before", "")),
        size=TILES_A_PAGE if listing.view == GRID else ROWS_A_PAGE,
    )
    query = listing.query()
    can = permissions(request.user, project)
    views = list(project.saved_views.all())
    context = {
        "project": project,
        "can": can,
        "listing": listing,
        "wanted": listing.wanted,
        "chain": listing.chain,
        "rows": rows_of(project, listing.chain, page.ids),
        "count": page.count,
        "most": MOST_COUNTED,
        "tiles": listing.view == GRID,
        "query": query,
        "first": query,
        "newer": _joined(query, "before", page.before),
        "older": _joined(query, "after", page.after),
        "chips": chips(listing),
        "clear": urlencode([("view", listing.view)]) if "view=" in query else "",
        "views": views,
        "saved": next((view for view in views if view.query == query), None),
        "other_view": listing_with_view(listing, TABLE if listing.view == GRID else GRID),
        "problems": listing.problems,
        **filter_choices(listing),
    }
    if can.manage:
        context |= {"actions": actions_for(project), "undo": undoable(project, request)}
    return render(request, "items/list.html", context)


def undoable(project: Project, request: PageRequest) -> int | None:
    """Id of what the person did to many items a moment ago, while it can be taken back."""
    [change_id] = _ticked([request.GET.get("undo", "")]) or [0]
    return (
        change_id if change_id and can_undo(project=project, user=request.user, change_id=change_id) else None
    )


def listing_with_view(listing: Listing, view: str) -> str:
    return replace(listing, view=view).query()


def _joined(query: str, name: str, place: object) -> str:
    if place is None:
        return ""
    here = urlencode({name: str(place)})
    return f"{query}&{here}" if query else here


def filter_choices(listing: Listing) -> dict[str, Any]:
    """What the filters' fields offer."""
    project = listing.project
    rounds = project.review_rounds.filter(kind=ReviewRound.Kind.REVIEW).order_by("-pk")
    uploads = list(project.uploads.order_by("-pk"))
    columns = dict.fromkeys(name for upload in uploads for name in upload.columns)
    return {
        "labels": list(project.labels.all()),
        "statuses": STATUSES.items(),
        "disagreements": [
            (key, name) for key, name in DISAGREEMENTS.items() if key != "gold" or not project.task.is_written
        ],
        "failures": [failure.value for failure in Failure],
        "sorts": SORTS.items(),
        "rounds": list(rounds[:50]),
        "uploads": uploads if len(uploads) > 1 else [],
        "columns": list(columns),
        "reviewers": list(members_who_may(project, May.REVIEW)),
        "more_open": any(
            getattr(listing.wanted, name) != getattr(ItemFilter(), name)
            for name in (
                *("human", "final", "eps_min", "eps_max", "reviewer", "disagreement", "failure"),
                *("gold", "calibration", "upload", "columns", "round"),
            )
        ),
    }


def chips(listing: Listing) -> list[tuple[str, str]]:
    """(words, address without it) of each filter that is on."""
    wanted, project = listing.wanted, listing.project
    names = dict(project.labels.values_list("pk", "name"))
    found: list[tuple[str, str]] = []

    def chip(words: str, **without: Any) -> None:
        found.append((words, listing.query(**without)))

    if wanted.q:
        chip(f"“{wanted.q}”", q="")
    if wanted.status:
        chip(STATUSES[wanted.status], status="")
    for name, words in (("label", "Machine"), ("human", "Person"), ("final", "Final")):
        if (label := getattr(wanted, name)) is not None:
            chip(f"{words}: {names.get(label, label)}", **{name: None})
    if wanted.eps_min is not None or wanted.eps_max is not None:
        low, high = wanted.eps_min or 0.0, 1.0 if wanted.eps_max is None else wanted.eps_max
        chip(f"ε̂ from {low:g} to {high:g}", eps_min=None, eps_max=None)
    if wanted.reviewer:
        chip(f"Reviewed by {wanted.reviewer}", reviewer="")
    if wanted.disagreement:
        chip(DISAGREEMENTS[wanted.disagreement], disagreement="")
    if wanted.failure:
        chip(f"Failure: {wanted.failure}", failure="")
    if wanted.gold is not None:
        chip("With gold" if wanted.gold else "Without gold", gold=None)
    if wanted.calibration is not None:
        chip("Calibration items" if wanted.calibration else "No calibration items", calibration=None)
    if wanted.upload is not None:
        upload = project.uploads.filter(pk=wanted.upload).first()
        chip(f"From {upload.filename if upload else wanted.upload}", upload=None)
    for pair in wanted.columns:
        chip(f"{pair[0]}: {pair[1]}", columns=tuple(each for each in wanted.columns if each != pair))
    if wanted.round is not None:
        chip(f"Round {wanted.round}", round=None)
    return found


# --- Saved views -----------------------------------------------------------------------------------------------------


@require_POST
def saved_view_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    listing = listing_of(project, QueryDict(request.POST.get("query", "")))
    query = listing.query()
    try:
        view = saved_view_save(
            project=project, user=request.user, name=request.POST.get("name", ""), query=query
        )
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, f"The view “{view.name}” is saved for everybody in this project.")
    return redirect(_list_url(project, query))


@require_POST
def saved_view_remove(request: PageRequest, project_id: int, view_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    view: SavedView = get_object_or_404(project.saved_views.select_related("project"), pk=view_id)
    query = view.query
    saved_view_delete(view=view, user=request.user)
    messages.success(request, f"The view “{view.name}” is deleted. The items are as they were.")
    return redirect(_list_url(project, query))


def _list_url(project: Project, query: str = "") -> str:
    address = reverse("items", args=[project.pk])
    return f"{address}?{query}" if query else address


# --- Many items at once ----------------------------------------------------------------------------------------------


def actions_for(project: Project) -> list[tuple[str, str]]:
    """What can be done to many of the project's items."""
    return [(key, name) for key, name in ACTIONS.items() if key != RELABEL or not project.task.is_written]


@require_POST
def items_action(request: PageRequest, project_id: int) -> HttpResponse:
    """First what would happen, and on the second time, with `confirmed`, doing it."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    listing = listing_of(project, QueryDict(request.POST.get("query", "")))
    query = listing.query()
    try:
        action, chain = _action(request, listing)
        is_all = "all" in request.POST
        ids = chosen_items(
            project=project,
            chain=listing.chain,
            wanted=listing.wanted,
            ids=None if is_all else _ticked(request.POST.getlist("item")),
        )
        act = pick if "confirmed" in request.POST else pick_preview
        outcome = act(project=project, chain=chain, action=action, ids=ids, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
        return redirect(_list_url(project, query))
    if "confirmed" in request.POST:
        (messages.success if outcome.done else messages.warning)(request, outcome.sentence)
        is_undoable = outcome.change is not None and action.name in UNDOABLE
        undo = _joined(query, "undo", outcome.change.pk if is_undoable and outcome.change else None)
        return redirect(_list_url(project, undo or query))
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "outcome": outcome,
        "title": ACTIONS[action.name],
        "sentences": what_happens(outcome, chain),
        "query": query,
        "back": _list_url(project, query),
        "chosen": len(ids),
        "is_all": is_all,
        "ids": [] if is_all else ids,
        "posted": {
            name: request.POST[name]
            for name in ("action", "label", "text", "reviewer", "round")
            if name in request.POST
        },
    }
    return render(request, "items/confirm.html", context)


def _ticked(values: list[str]) -> list[int]:
    return [number for value in values if (number := number_of(value)) is not None]


def _action(request: PageRequest, listing: Listing) -> tuple[Action, Chain]:
    """The action of the form, and the chain whose round it is done in. Raises Refusal."""
    project, sent = listing.project, request.POST
    name = sent.get("action", "")
    if name not in ACTIONS:
        raise Refusal("Choose what to do with the items.", field="action")
    label = reviewer = None
    if name == RELABEL:
        label = project.labels.filter(pk__in=_ticked([sent.get("label", "")])).first()
    if name == ASSIGN:
        reviewer = members_who_may(project, May.REVIEW).filter(username=sent.get("reviewer", "")).first()
    return Action(name, label, sent.get("text", ""), reviewer), listing.chain


def what_happens(outcome: Outcome, chain: Chain) -> list[str]:
    """Exactly what doing it will do, in sentences."""
    action, count = outcome.action, outcome.done
    items = f"{count:,} item" if count == 1 else f"{count:,} items"
    round = str(chain.round).lower() if chain.round else ""
    if not count:
        return ["Nothing would be done."]
    if action.name == REVIEW:
        joins = "joins" if count == 1 else "join"
        return [
            f"{items} {joins} {round}, after all that wait there. They are outside its draw and its budget: "
            "they are reviewed on top of it, and everybody else's weights stay as they are."
        ]
    if action.name in (ACCEPT, RELABEL):
        given = "the machine’s answer" if action.name == ACCEPT else f"the label “{action.label}”"
        gets = "gets" if count == 1 else "get"
        return [
            f"{items} {gets} {given} as your answer in {round}, and count as reviewed by you.",
            "Right after it you can take that back; the history keeps both.",
        ]
    if action.name == RETRY and chain.annotation is not None:
        return [
            f"The run {chain.annotation.who} is asked again about {items} that failed. Each call costs again."
        ]
    if action.name == ASSIGN:
        return [
            f"{items} that wait in {round} are for {action.reviewer} alone, until somebody else is named."
        ]
    return [
        f"{items} get your comment: “{action.text.strip()}”. Comments are never deleted; they can be resolved."
    ]


@require_POST
def items_action_undo(request: PageRequest, project_id: int, change_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    query = listing_of(project, QueryDict(request.POST.get("query", ""))).query()
    try:
        back = pick_undo(project=project, user=request.user, change_id=change_id)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, back.sentence)
    return redirect(_list_url(project, query))
