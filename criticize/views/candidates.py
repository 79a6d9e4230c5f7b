"""Candidates: who was tried on the calibration items, the grid of annotators and criticizers, and what to choose."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import trigger_client_event

from annotate.access import May, connection_for, connections_of, permissions, project_for, to_manage
from annotate.connections import list_models
from annotate.errors import Refusal
from annotate.models import AnnotationRun, ModelRun, Project
from annotate.requests import PageRequest, number_of
from criticize.candidate_forms import AnnotatorsForm, CriticizersForm
from criticize.candidate_services import (
    Plan,
    Started,
    candidate_go_on,
    candidates_plan,
    candidates_start,
    grid_plan,
    grid_start,
)
from criticize.candidates import Board, board_of, name_of_run, recommendation_of
from criticize.grid import Grid, grid_of
from criticize.recommendation import Candidate, Recommendation

MOST_CURVES = 6


@require_http_methods(["GET", "POST"])
def candidates(request: PageRequest, project_id: int) -> HttpResponse:
    """The page; for htmx its live part, the curves alone, or the form of the grid."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    sent = request.POST if request.method == "POST" else None
    form = AnnotatorsForm(sent, user=request.user, project=project)
    if request.method == "POST" and form.is_valid():
        try:
            started = candidates_start(
                project=project,
                user=request.user,
                choices=form.choices(),
                spend_limit=form.cleaned_data["spend_limit"],
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return _started(request, project, started)
    return _page(request, project, annotators_form=form)


@require_POST
def candidate_grid(request: PageRequest, project_id: int) -> HttpResponse:
    """Start the criticism of every chosen cell."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = _criticizers_form(request, project, board_of(project))
    if form.is_valid():
        try:
            started = grid_start(
                annotation_runs=form.annotation_runs(),
                user=request.user,
                choices=form.choices(),
                spend_limit=form.cleaned_data["spend_limit"],
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return _started(request, project, started)
    return _page(request, project, criticizers_form=form)


def _started(request: PageRequest, project: Project, started: Started) -> HttpResponse:
    is_partly = bool(started.refused) or not (started.created or started.extended)
    (messages.warning if is_partly else messages.success)(request, started.sentence)
    return redirect("candidates", project.pk)


def _page(
    request: PageRequest,
    project: Project,
    *,
    annotators_form: AnnotatorsForm | None = None,
    criticizers_form: CriticizersForm | None = None,
) -> HttpResponse:
    board = board_of(project)
    part = request.GET.get("part", "") if request.htmx and request.method == "GET" else ""
    if part == "criticizers":
        context = {
            "project": project,
            "can": permissions(request.user, project),
            "criticizers_form": _criticizers_form(request, project, board),
        }
        return render(request, "criticize/candidates_criticizers.html", context)
    grid = grid_of(project)
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "board": board,
        "grid": grid,
        **_curves(request, grid),
    }
    if part == "curves":
        return render(request, "criticize/candidates_curves.html", context)
    recommendation = recommendation_of(board, grid.pairs())
    context |= {
        "recommendation": recommendation,
        "is_running": board.is_running or grid.is_running,
        **_links(request, project, recommendation, board),
    }
    if part == "results":
        response = render(request, "criticize/candidates_results.html", context)
        return response if context["is_running"] else trigger_client_event(response, "candidates-settled")
    context |= {
        "annotators_form": annotators_form or AnnotatorsForm(user=request.user, project=project),
        "criticizers_form": criticizers_form or _criticizers_form(request, project, board, is_bound=False),
    }
    is_wrong = any(form is not None and form.errors for form in (annotators_form, criticizers_form))
    return render(request, "criticize/candidates.html", context, status=422 if is_wrong else 200)


def _criticizers_form(
    request: PageRequest, project: Project, board: Board, *, is_bound: bool = True
) -> CriticizersForm:
    """The form with the finished annotators; bound to what was sent."""
    sent = request.POST if request.method == "POST" else None
    finished = [(row.run, row.name) for row in board.rows if row.run.job.is_finished and row.asked]
    return CriticizersForm(
        sent if is_bound else None, user=request.user, project=project, annotators=finished
    )


def _curves(request: PageRequest, grid: Grid) -> dict[str, Any]:
    """The curves of the cells that are asked for, or where none is, of the best one."""
    asked = request.GET.getlist("cell") or grid.best()
    series = grid.series(asked)
    return {
        "series": series[:MOST_CURVES],
        "chosen": {each.id for each in series[:MOST_CURVES]},
        "left_out": len(series[MOST_CURVES:]),
    }


def _links(
    request: PageRequest, project: Project, recommendation: Recommendation | None, board: Board
) -> dict[str, str]:
    """Where the recommended pair is put to work: the forms of runs, filled in as far as possible."""
    if recommendation is None:
        return {"annotate_url": "", "criticize_url": ""}
    runs = {row.run.pk: row.run for row in board.rows}

    def filled(page: str, candidate: Candidate, strategy: str) -> str:
        run = runs[candidate.score.tally.key]
        values = _as_asked(request, page, run, strategy)
        return reverse(page, args=[project.pk]) + (f"?{urlencode(values)}" if values else "")

    chosen, criticizer = recommendation.annotator, recommendation.criticizer
    return {
        "annotate_url": filled("annotation_runs", chosen, recommendation.annotator_strategy),
        "criticize_url": ""
        if criticizer is None
        else filled("criticism_runs", criticizer, recommendation.criticizer_strategy),
    }


def _as_asked(request: PageRequest, page: str, run: AnnotationRun, strategy: str) -> dict[str, str]:
    """The values of the run form that ask the run's model again; none where the form cannot ask it."""
    if run.kind == ModelRun.Kind.TRAINED:
        return {"kind": run.kind}
    if run.kind != ModelRun.Kind.PROMPTED:
        return {}
    values = {"kind": run.kind, "model": run.model, "strategy": strategy}
    if page == "annotation_runs":
        options = ("confidence", "examples")
        values |= {name: str(int(run.parameters[name])) for name in options if run.parameters.get(name)}
    connection_id = run.connection_id
    if connection_id is None or not connections_of(request.user).filter(pk=connection_id).exists():
        return values
    return values | {"connection": str(connection_id)}


@require_GET
def candidates_estimate(request: PageRequest, project_id: int) -> HttpResponse:
    """What trying the annotators that the form names would take; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = AnnotatorsForm(request.GET, user=request.user, project=project)
    return _estimate(request, form, lambda: candidates_plan(project=project, choices=form.choices()))


@require_GET
def candidate_grid_estimate(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    board = board_of(project)
    finished = [(row.run, row.name) for row in board.rows if row.run.job.is_finished and row.asked]
    form = CriticizersForm(request.GET, user=request.user, project=project, annotators=finished)
    return _estimate(
        request, form, lambda: grid_plan(annotation_runs=form.annotation_runs(), choices=form.choices())
    )


def _estimate(request: PageRequest, form: AnnotatorsForm | CriticizersForm, plan: Any) -> HttpResponse:
    context: dict[str, Any] = {}
    if form.is_valid():
        try:
            made: Plan = plan()
            context["plan"] = made
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "criticize/candidates_estimate.html", context)


@require_GET
def candidate_models(request: PageRequest, project_id: int) -> HttpResponse:
    """The names of the models that the form's connection offers, asked of the provider now."""
    project_for(request.user, project_id, may=May.MANAGE)
    connection_id = number_of(request.GET.get("connection", ""))
    context: dict[str, Any] = {"list_id": _list_id(request)}
    if connection_id is not None:
        connection = connection_for(request.user, connection_id)
        context["connection"] = connection
        try:
            context["models"] = list_models(connection)
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    return render(request, "criticize/candidates_models.html", context)


def _list_id(request: PageRequest) -> str:
    what = CriticizersForm.what if request.GET.get("what") == CriticizersForm.what else AnnotatorsForm.what
    return f"{what}-model-list"


@require_POST
def candidate_go_on_action(request: PageRequest, project_id: int, run_id: int) -> HttpResponse:
    """Ask a candidate about the calibration items that it was not asked about yet."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    runs = project.annotation_runs.filter(scope=AnnotationRun.Scope.CALIBRATION)
    run = get_object_or_404(runs.select_related("job", "project"), pk=run_id)
    try:
        count = candidate_go_on(run=run)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, f"{name_of_run(run)} is asked about {count:,} more items.")
    return redirect("candidates", project.pk)
