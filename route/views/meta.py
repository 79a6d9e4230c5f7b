"""Training routers between a cheap and a premium annotator, and the plan of one."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.requests import PageRequest
from route.meta_forms import MetaForm, MetaPlanForm
from route.models import Router
from route.services.meta_plans import meta_plan_start, meta_preview
from route.services.meta_routers import check_meta, meta_create


@require_http_methods(["GET", "POST"])
def meta_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = MetaForm(
        request.POST or None,
        user=request.user,
        project=project,
        initial={"judge_run": request.GET.get("judge_run")},
    )
    if request.method == "POST" and form.is_valid():
        try:
            router = meta_create(project=project, user=request.user, choice=form.choice())
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("router", project.pk, router.pk)
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "judge_runs": project.judge_runs.select_related("job", "cheap", "premium", "created_by"),
    }
    return render(request, "route/meta_new.html", context)


@require_GET
def meta_check(request: PageRequest, project_id: int) -> HttpResponse:
    """What the router that the form describes would learn from; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = MetaForm(request.GET, user=request.user, project=project)
    context: dict[str, Any] = {"project": project}
    if form.is_valid():
        try:
            context["found"] = check_meta(project, request.user, form.choice())
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/meta_check.html", context)


def meta_context(found: Router, form: MetaPlanForm | None = None) -> dict[str, Any]:
    """What a trained router's page shows beside what all routers' pages do."""
    lines = [
        line | {"points": list(zip(line["share"], line["gain"], strict=True))}
        for line in found.metrics.get("table", [])
    ]
    return {
        "plan_form": form or MetaPlanForm(),
        "lines": lines,
        "judge_runs": found.judge_runs.order_by("pk"),
    }


def meta_plan_preview(request: PageRequest, found: Router) -> HttpResponse:
    """The router's part of the page of any router's plan preview."""
    form = MetaPlanForm(request.GET)
    context: dict[str, Any] = {"project": found.project, "router": found}
    if form.is_valid():
        try:
            context["preview"] = meta_preview(router=found, user=request.user, limit=form.chosen())
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/meta_plan_preview.html", context)


def meta_plan_new(request: PageRequest, found: Router, context: dict[str, Any]) -> HttpResponse:
    """Start the plan, or show the router's page, whose common part is `context`, with what is wrong."""
    form = MetaPlanForm(request.POST)
    if form.is_valid():
        try:
            plan = meta_plan_start(
                router=found,
                user=request.user,
                limit=form.chosen(),
                spend_limit=form.cleaned_data["spend_limit"],
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The plan is at work.")
            return redirect("plan", found.project.pk, plan.pk)
    return render(request, "route/router_meta.html", context | meta_context(found, form))
