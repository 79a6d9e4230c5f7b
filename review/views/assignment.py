"""Who answers what in a round: the fields of the form, what it would do, and doing it."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import May, members_who_may, project_for
from annotate.errors import Refusal
from annotate.requests import PageRequest
from review.assignment_form import assignment_context, assignment_of
from review.services.assignment import assign, assignment_preview
from review.views.rounds import round_of, round_page


@require_GET
def assignment_fields(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    """The fields of the chosen way; part of the form."""
    round = round_of(project_for(request.user, project_id, may=May.MANAGE), round_id)
    context = {"project": round.project, "round": round, **assignment_context(round, request.GET)}
    return render(request, "review/round_assignment_fields.html", context)


@require_GET
def assignment_counts(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    """How many items each person would get; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    round = round_of(project, round_id)
    context: dict[str, Any] = {"project": project, "round": round}
    try:
        assignment = assignment_of(request.GET, list(members_who_may(project, May.REVIEW)))
        context["dealt"] = assignment_preview(round=round, assignment=assignment)
    except Refusal as refusal:
        context["problem"] = refusal.sentence
    return render(request, "review/round_assignment_counts.html", context)


@require_POST
def round_assign(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    round = round_of(project, round_id)
    try:
        assignment = assignment_of(request.POST, list(members_who_may(project, May.REVIEW)))
        dealt = assign(round=round, user=request.user, assignment=assignment)
    except Refusal as refusal:
        context = assignment_context(round, request.POST) | {"assignment_problem": refusal.sentence}
        return round_page(request, round, more=context)
    named = sum(count for _, count in dealt.counts)
    messages.success(
        request,
        f"{named:,} of {dealt.waiting:,} waiting items are assigned."
        if named
        else "Whoever comes first takes the waiting items.",
    )
    return redirect("review_round", project.pk, round.pk)
