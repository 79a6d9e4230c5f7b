"""Criticism runs: the list with the form for a new one, a run's page with its live parts, and its buttons."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import trigger_client_event

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project
from annotate.requests import PageRequest, asked_text
from annotate.run_forms import asked_for
from annotate.views.runs import (
    act_on_run,
    failures_context,
    is_list_alone,
    progress_context,
    render_estimate,
    render_run,
)
from criticize.forms import CriticismRunForm
from criticize.methods import Rank, rank_of
from criticize.models import Criticism, CriticismRun
from criticize.selectors import (
    criticism_quality,
    criticism_runs_of,
    error_prob_histogram,
    failed_criticisms,
    latest_criticisms,
    rank_counts,
)
from criticize.services import criticism_estimate, criticism_run_create, criticism_run_retry


@require_http_methods(["GET", "POST"])
def criticism_runs(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    initial = {"annotation_run": request.GET.get("annotation_run"), **asked_for(request.GET)}
    form = CriticismRunForm(request.POST or None, user=request.user, project=project, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            run = criticism_run_create(
                annotation_run=form.cleaned_data["annotation_run"],
                user=request.user,
                choice=form.choice(),
                spend_limit=form.cleaned_data["spend_limit"],
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The criticism run has started.")
            return redirect("criticism_run", project.pk, run.pk)
    runs = criticism_runs_of(project).filter(annotation_run__scope=AnnotationRun.Scope.PROJECT)
    on_candidates = CriticismRun.objects.filter(
        annotation_run__project=project, annotation_run__scope=AnnotationRun.Scope.CALIBRATION
    )
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "runs": runs,
        "is_running": any(run.job.is_active for run in runs),
        "on_candidates": on_candidates.count(),
        "annotation_runs": project.annotation_runs.exists(),
        "estimate_url": reverse("criticism_run_estimate", args=[project.pk]),
    }
    template = "criticize/run_list.html" if is_list_alone(request) else "criticize/runs.html"
    return render(request, template, context)


@require_GET
def criticism_run_estimate(request: PageRequest, project_id: int) -> HttpResponse:
    """What the run that the form describes would take; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = CriticismRunForm(request.GET, user=request.user, project=project)
    return render_estimate(
        request,
        form,
        lambda: criticism_estimate(annotation_run=form.cleaned_data["annotation_run"], choice=form.choice()),
        project,
    )


@require_GET
def criticism_run(request: PageRequest, project_id: int, run_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    run = _run(project, run_id)
    failed = failed_criticisms(run, asked_text(request, "failure"))
    return render_run(
        request,
        run,
        page="criticism_run",
        template="criticize/run.html",
        parts={
            "progress": lambda: progress_context(
                request, run, project, "criticism_run", run.criticisms.all()
            ),
            "outcome": lambda: _outcome(run),
            "results": lambda: {"criticisms": _with_ranks(run)},
            "failures": lambda: failures_context(request, failed),
        },
        context={"project": project, "run": run, "job": run.job},
    )


def _run(project: Project, run_id: int) -> CriticismRun:
    return get_object_or_404(criticism_runs_of(project), pk=run_id)


def _outcome(run: CriticismRun) -> dict[str, Any]:
    task = run.annotation_run.project.task
    quality = criticism_quality(run) if run.job.is_finished and task.answers != "text" else None
    histogram = error_prob_histogram(run)
    if task.is_rated and histogram is not None:
        histogram = histogram[::-1]  # of the quality, where the selector counts 1 − quality
    return {"histogram": histogram, "ranks": rank_counts(run), "quality": quality}


def _with_ranks(run: CriticismRun) -> list[tuple[Criticism, Rank | None]]:
    return [(criticism, rank_of(run.strategy, criticism.priority)) for criticism in latest_criticisms(run)]


@require_POST
def criticism_run_action(request: PageRequest, project_id: int, run_id: int, action: str) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    run = _run(project, run_id)
    problem = act_on_run(request, project, run, action, retry=lambda: criticism_run_retry(run=run))
    if not request.htmx:
        if problem:
            messages.error(request, problem)
        return redirect("criticism_run", project.pk, run.pk)
    context = progress_context(request, run, project, "criticism_run", run.criticisms.all())
    context |= {"project": project, "run": run, "job": run.job, "problem": problem}
    response = render(request, "criticize/run_progress.html", context)
    return trigger_client_event(response, "run-changed")
