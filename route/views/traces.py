"""Routers that read along: training them, and the runs in which they do."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.models import Project
from annotate.requests import PageRequest
from annotate.services.runs import annotation_run_retry
from annotate.views.runs import act_on_run
from jobs.services import JobStateError
from route.models import TracedRun
from route.services.trace_routers import (
    trace_create,
    trace_estimate,
    trace_router_act,
    traced_under_way,
)
from route.services.traced_runs import traced_run_create, traced_run_preview
from route.trace_forms import TracedRunForm, TraceForm
from route.trace_pages import traced_context
from route.views.routers import router_of


@require_http_methods(["GET", "POST"])
def trace_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = TraceForm(request.POST or None, user=request.user, project=project)
    if request.method == "POST" and form.is_valid():
        try:
            router = trace_create(
                project=project,
                user=request.user,
                choice=form.choice(),
                spend_limit=form.cleaned_data["spend_limit"],
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("router", project.pk, router.pk)
    context: dict[str, Any] = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "under_way": None if form.offered else traced_under_way(project),
    }
    return render(request, "route/trace_new.html", context)


@require_GET
def trace_cost(request: PageRequest, project_id: int) -> HttpResponse:
    """What training would take; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = TraceForm(request.GET, user=request.user, project=project)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        try:
            context["no_trace"] = form.cleaned_data["no_trace"]
            context["estimate"] = trace_estimate(project=project, user=request.user, choice=form.choice())
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/trace_cost.html", context)


@require_POST
def trace_training(request: PageRequest, project_id: int, router_id: int, action: str) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = router_of(project, router_id)
    form = TracedRunForm(request.POST)
    form.fields["limit"].required = False
    if not form.is_valid():
        messages.error(request, "Enter the limit as a number, such as 5 or 0.50.")
        return redirect("router", project.pk, found.pk)
    try:
        trace_router_act(
            router=found, user=request.user, action=action, spend_limit=form.cleaned_data["spend_limit"]
        )
    except JobStateError as error:
        messages.error(request, str(error))
    return redirect("router", project.pk, found.pk)


@require_GET
def traced_preview(request: PageRequest, project_id: int, router_id: int) -> HttpResponse:
    """What the run that the form describes would do; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = router_of(project, router_id)
    form = TracedRunForm(request.GET)
    context: dict[str, Any] = {"project": project, "router": found}
    if form.is_valid():
        try:
            context["preview"] = traced_run_preview(router=found, limit=form.share)
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/traced_preview.html", context)


@require_POST
def traced_new(request: PageRequest, project_id: int, router_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = router_of(project, router_id)
    form = TracedRunForm(request.POST)
    if not form.is_valid():
        messages.error(request, str(next(iter(form.errors.values()))[0]))
        return redirect("router", project.pk, found.pk)
    try:
        traced = traced_run_create(
            router=found, user=request.user, limit=form.share, spend_limit=form.cleaned_data["spend_limit"]
        )
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
        return redirect("router", project.pk, found.pk)
    return redirect("traced_run", project.pk, traced.pk)


def traced_of(project: Project, traced_id: int) -> TracedRun:
    """The project's traced run. Raises Http404."""
    runs = TracedRun.objects.filter(run__project=project).select_related("run__job", "router")
    traced: TracedRun = get_object_or_404(runs, pk=traced_id)
    traced.router.project = project
    return traced


@require_GET
def traced_run(request: PageRequest, project_id: int, traced_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    traced = traced_of(project, traced_id)
    context = traced_context(request, traced)
    is_progress = request.htmx and request.GET.get("part") == "progress"
    return render(request, "route/traced_progress.html" if is_progress else "route/traced_run.html", context)


@require_POST
def traced_run_action(request: PageRequest, project_id: int, traced_id: int, action: str) -> HttpResponse:
    """Pause, resume, cancel, or ask again about what failed."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    traced = traced_of(project, traced_id)
    run = traced.run
    problem = act_on_run(request, project, run, action, retry=lambda: annotation_run_retry(run=run))
    if problem:
        messages.error(request, problem)
    return redirect("traced_run", project.pk, traced.pk)
