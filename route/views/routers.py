"""Training routers, and a router's page: how its training goes, what it was found to do, and the plan it makes."""

from typing import Any

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.models import Project, VectorVersion
from annotate.requests import PageRequest
from jobs.selectors import job_progress
from jobs.services import JobStateError
from route.comparison_forms import TextForm
from route.forms import DeferralForm, DeferralPlanForm, VectorForm
from route.models import Router
from route.router_vectors import vectors_job
from route.services.deferral_plans import deferral_plan_start, deferral_preview
from route.services.routers import deferral_create, router_cancel, router_vectors_estimate
from route.serving import why_not_served
from route.trace_pages import trace_context
from route.views.meta import meta_context, meta_plan_new, meta_plan_preview


@require_http_methods(["GET", "POST"])
def deferral_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = DeferralForm(request.POST or None, user=request.user, project=project)
    if request.method == "POST" and form.is_valid():
        try:
            router = deferral_create(project=project, user=request.user, choice=form.choice())
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("router", project.pk, router.pk)
    context = {"project": project, "can": permissions(request.user, project), "form": form}
    return render(request, "route/deferral_new.html", context)


@require_GET
def embeddings_cost(request: PageRequest, project_id: int) -> HttpResponse:
    """What the embeddings that the form describes will cost; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = VectorForm(request.GET, user=request.user, project=project)
    context: dict[str, Any] = {"form": form}
    if form.is_valid() and form.cleaned_data["vectors"] == VectorVersion.Kind.EMBEDDINGS:
        try:
            context["estimate"] = router_vectors_estimate(
                project=project, user=request.user, choice=form.vector_choice()
            )
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    return render(request, "route/embeddings_cost.html", context)


def router_of(project: Project, router_id: int) -> Router:
    """The project's router. Raises Http404."""
    router: Router = get_object_or_404(project.routers.select_related("job", "created_by"), pk=router_id)
    router.project = project
    return router


@require_GET
def router(request: PageRequest, project_id: int, router_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    found = router_of(project, router_id)
    context = router_context(request, found)
    if request.htmx and request.GET.get("part") == "progress":
        return render(request, "route/router_progress.html", context)
    if found.kind == Router.Kind.DEFERRAL and found.is_trained:
        context |= {"plan_form": DeferralPlanForm(), "points": _points(found)}
    if found.kind == Router.Kind.META:
        context |= meta_context(found)
        if not why_not_served(found):
            address = reverse("api:router_texts", args=[found.pk])
            context |= {"text_form": TextForm(), "route_address": request.build_absolute_uri(address)}
    if found.comparison_set is not None:
        return render(request, "route/router_uploaded.html", context)
    if found.kind == Router.Kind.TRACE and found.is_trained:
        context |= trace_context(found)
    return render(request, f"route/router_{found.kind}.html", context)


def router_context(request: PageRequest, found: Router) -> dict[str, Any]:
    """What the page of every kind of router shows."""
    return {
        "project": found.project,
        "can": permissions(request.user, found.project),
        "router": found,
        "job": found.job,
        "progress": job_progress(found.job),
        "agents": found.agents.select_related("run"),
        "vectors_job": None if found.is_trained else vectors_job(found),
        "plans": found.plans.select_related("run__job", "created_by"),
    }


_TONES = ("machine", "accent", "warn", "ok", "bad", "quiet")


def _points(found: Router) -> list[dict[str, Any]]:
    """The curve's points, each with its shares as a stacked bar takes them."""
    people = {agent.name for agent in found.agents.all() if agent.is_people}
    points = []
    for point in found.metrics["sweep"]:
        parts = [
            {
                "label": name,
                "value": round(100 * share),
                "tone": "human" if name in people else _TONES[number % len(_TONES)],
            }
            for number, (name, share) in enumerate(point["shares"].items())
        ]
        points.append(point | {"parts": parts})
    return points


@require_POST
def router_action(request: PageRequest, project_id: int, router_id: int, action: str) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = router_of(project, router_id)
    if action != "cancel":
        raise Http404("There is no such action.")
    try:
        router_cancel(router=found, user=request.user)
    except JobStateError as error:
        messages.error(request, str(error))
    return redirect("router", project.pk, found.pk)


@require_GET
def router_download(request: PageRequest, project_id: int, router_id: int) -> FileResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = router_of(project, router_id)
    if not found.is_trained:
        raise Http404("This router is not trained yet.")
    response = FileResponse(
        found.file.open("rb"),
        as_attachment=True,
        filename=f"overread-router-{found.pk}.zip",
        content_type="application/zip",
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@require_GET
def plan_preview(request: PageRequest, project_id: int, router_id: int) -> HttpResponse:
    """What the plan that the form describes would do; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = router_of(project, router_id)
    if found.kind == Router.Kind.META:
        return meta_plan_preview(request, found)
    form = DeferralPlanForm(request.GET)
    context: dict[str, Any] = {"project": project, "router": found}
    if form.is_valid():
        try:
            context["preview"] = deferral_preview(
                router=found, user=request.user, people=form.cleaned_data["people"]
            )
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/plan_preview.html", context)


@require_POST
def plan_new(request: PageRequest, project_id: int, router_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = router_of(project, router_id)
    if found.comparison_set_id is not None:
        raise Http404("A router of uploaded comparisons hands out no items.")
    if found.kind == Router.Kind.META:
        return meta_plan_new(request, found, router_context(request, found))
    form = DeferralPlanForm(request.POST)
    if form.is_valid():
        try:
            plan = deferral_plan_start(router=found, user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The plan is at work.")
            return redirect("plan", project.pk, plan.pk)
    context = router_context(request, found) | {"plan_form": form}
    if found.is_trained:
        context["points"] = _points(found)
    return render(request, "route/router_deferral.html", context)
