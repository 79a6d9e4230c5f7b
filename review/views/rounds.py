"""Review rounds: the list with the form for a new one, its preview, a round's page, closing and reopening."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.models import Project, User
from annotate.requests import PageRequest
from review.accuracy import measured_final, measured_machine
from review.adjudicating import conflicts
from review.advice import EARLY, ENOUGH, GO_ON, RAISE
from review.advising import round_advice
from review.assignment_form import assignment_context
from review.display_arms import display_context
from review.forms import RaiseForm, RoundForm, WorkForm
from review.known import known_items, wrong_answers
from review.models import ReviewRound, ReviewTask
from review.previews import RANK
from review.reviewers import reviewers_of
from review.selectors import (
    drawable_runs,
    reviewed_tasks,
    round_progress,
    rounds_of,
)
from review.services.known_items import can_be_shown
from review.services.raising import raise_preview, round_raise
from review.services.rounds import round_close, round_create, round_preview, round_reopen
from review.setup import RoundSetup
from review.standing import counts_of_rounds
from review.workload import SHOWS_BLIND, round_workload

TASKS_A_PAGE = 50
MOST_WRONG = 20  # known items that a page lists
ADVICE_TONES = {EARLY: "quiet", GO_ON: "human", RAISE: "warn", ENOUGH: "ok"}


@require_http_methods(["GET", "POST"])
def review_rounds(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    asked_for = {"criticism_run": request.GET.get("criticism_run")}
    form = RoundForm(request.POST or None, project=project, initial=asked_for)
    if request.method == "POST" and form.is_valid():
        try:
            round = round_create(
                run=form.cleaned_data["criticism_run"],
                user=request.user,
                setup=form.setup(),
                **form.plan(),
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The round is drawn. Its items wait to be reviewed.")
            return redirect("review_round", project.pk, round.pk)
    rounds = list(rounds_of(project))
    counts = counts_of_rounds(rounds)
    context = {
        "project": project,
        "form": form,
        "can": permissions(request.user, project),
        "rounds": [(round, counts[round.pk]) for round in rounds],
        "can_draw": drawable_runs(project).exists(),
    }
    return render(request, "review/rounds.html", context)


@require_GET
def review_round_preview(request: PageRequest, project_id: int) -> HttpResponse:
    """What the budget in the form would select; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = RoundForm(request.GET, project=project)
    context: dict[str, Any] = {"project": project}
    if form.is_valid():
        run = form.cleaned_data["criticism_run"]
        context["earlier_rounds"] = run.review_rounds.count()
        try:
            preview = round_preview(run=run, **form.plan())
            context |= {
                "preview": preview,
                "work": round_workload(run, form.setup(), preview.planned_budget),
                "left": preview.planned_budget - preview.budget,
                "has_chart": any(preview.counts),
                "RANK": RANK,
            }
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "review/round_preview.html", context)


def round_of(project: Project, round_id: int) -> ReviewRound:
    """The project's round. Raises Http404."""
    rounds = project.review_rounds.select_related("criticism_run__annotation_run", "routed_run", "created_by")
    round: ReviewRound = get_object_or_404(rounds, pk=round_id)
    round.project = project
    return round


def progress_context(round: ReviewRound, user: User) -> dict[str, Any]:
    progress = round_progress(round, user)
    # Items on which people differ wait for a manager, and no longer for whoever comes next.
    differing = conflicts(round.project).filter(round=round).select_related(None).order_by().count()
    parts = [
        {"label": "Answered", "value": progress.answered, "tone": "human"},
        {"label": "Skipped", "value": progress.skipped, "tone": "warn"},
        {"label": "Being looked at", "value": progress.leased, "tone": "accent"},
        *([{"label": "In conflict", "value": differing, "tone": "bad"}] if differing else []),
        {"label": "Waiting", "value": max(0, progress.waiting - differing), "tone": "quiet"},
    ]
    counts = (progress.answered, progress.skipped, progress.selected, progress.corrected)
    seen = "-".join(str(number) for number in (round.draw_number, *counts))
    return {"progress": progress, "parts": parts, "differing": differing, "seen": seen}


def advice_context(round: ReviewRound) -> dict[str, Any]:
    advice = round_advice(round)
    return {"advice": advice, "advice_tone": ADVICE_TONES[advice.verdict.advice]}


def raise_context(round: ReviewRound, form: RaiseForm | None = None) -> dict[str, Any]:
    raises = list(round.budget_raises.select_related("created_by"))
    if round.budget >= round.population:
        return {"raises": raises}
    return {"raise_form": form or RaiseForm(round=round), "raises": raises}


def raise_preview_part(request: PageRequest, round: ReviewRound) -> HttpResponse:
    """What the larger budget in the form would add; part of the form, asked for as it changes."""
    form = RaiseForm(request.GET, round=round)
    context: dict[str, Any] = {"round": round}
    if form.is_valid():
        try:
            context["preview"] = raise_preview(round=round, **form.amount())
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "review/round_raise_preview.html", context)


@require_GET
def review_round(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    round = round_of(project, round_id)
    part = request.GET.get("part") if request.htmx else None
    if part not in ("advice", "raise"):
        return round_page(request, round, part)
    project_for(request.user, project_id, may=May.MANAGE)
    if round.kind != ReviewRound.Kind.REVIEW:
        raise Http404("There is no advice on blind rounds.")
    if part == "raise":
        return raise_preview_part(request, round)
    context = {"project": project, "round": round, **progress_context(round, request.user)}
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)  # nothing changed: what is open on the page stays open
    return render(request, "review/round_advice.html", context | advice_context(round))


def round_page(
    request: PageRequest,
    round: ReviewRound,
    part: str | None = None,
    form: RaiseForm | None = None,
    more: dict[str, Any] | None = None,
) -> HttpResponse:
    """The round's page, or its progress alone; with `form`, a raise that was refused, with `more` another form."""
    project = round.project
    context: dict[str, Any] = {
        "project": project,
        "round": round,
        "can": permissions(request.user, project),
        "is_rank": round.priority == ReviewRound.Priority.CRITICISM
        and round.criticism_run is not None
        and round.criticism_run.ranks_only,
        **progress_context(round, request.user),
    }
    if part == "progress":
        return render(request, "review/round_progress.html", context)
    if context["can"].manage and round.kind == ReviewRound.Kind.REVIEW:
        context |= advice_context(round) | raise_context(round, form)
    context |= work_context(round, may_manage=context["can"].manage)
    tasks = reviewed_tasks(round).exclude(purpose=ReviewTask.Purpose.GOLD)
    context["tasks"] = Paginator(tasks, TASKS_A_PAGE).get_page(request.GET.get("page"))
    if round.criticism_run is not None:
        context["accuracy"] = measured_final(round)
        context["machine_accuracy"] = measured_machine(round.criticism_run.annotation_run)
    return render(request, "review/round.html", context | (more or {}))


def work_context(round: ReviewRound, *, may_manage: bool) -> dict[str, Any]:
    """How the round is worked on, by whom, and who answers what."""
    setup = RoundSetup.of(round)
    context: dict[str, Any] = {"setup": setup, "reviewers": reviewers_of(round)}
    if setup.gold_rate:
        context["can_mix"] = round.is_blind or setup.display in SHOWS_BLIND or has_known_to_show(round)
        context["known_items"] = known_items(round).count()
    if round.kind == ReviewRound.Kind.REVIEW and setup.display == ReviewRound.Display.RANDOM:
        context |= display_context(round.project, round)
    if may_manage:
        context["wrong_known"] = wrong_answers(round, MOST_WRONG)
        if round.state == ReviewRound.State.OPEN:
            initial = WorkForm.initial_of(setup)
            context["work_form"] = WorkForm(project=round.project, blind=round.is_blind, initial=initial)
            context |= assignment_context(round)
    return context


def has_known_to_show(round: ReviewRound) -> bool:
    return round.criticism_run is not None and can_be_shown(round.criticism_run)


@require_POST
def review_round_action(request: PageRequest, project_id: int, round_id: int, action: str) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    round = round_of(project, round_id)
    if action == "close":
        round_close(round=round, user=request.user)
        messages.success(request, "The round is closed: no more items are handed out.")
    elif action == "reopen":
        round_reopen(round=round, user=request.user)
        messages.success(request, "The round is open again.")
    elif action == "raise":
        form = RaiseForm(request.POST, round=round)
        if not form.is_valid() or not _raise(request, round, form):
            return round_page(request, round, form=form)
    else:
        raise Http404("There is no such action.")
    return redirect("review_round", project.pk, round.pk)


def _raise(request: PageRequest, round: ReviewRound, form: RaiseForm) -> bool:
    try:
        raised = round_raise(round=round, user=request.user, **form.amount())
    except Refusal as refusal:
        form.refuse(refusal)
        return False
    messages.success(request, f"The budget is {raised.budget:,} now, and the round is drawn on.")
    return True
