"""A plan's page: how far its agents are, what they cost, and what comes next."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import May, permissions, project_for
from annotate.errors import Refusal
from annotate.models import Project
from annotate.requests import PageRequest
from jobs.services import JobStateError
from review.models import ReviewRound
from review.services.routed import answered_by_people
from route.models import Plan
from route.services.plans import asking_runs, plan_act
from route.trace_pages import unanswered
from route.watch import watch_of


def plan_of(project: Project, plan_id: int) -> Plan:
    """The project's plan. Raises Http404."""
    plans = Plan.objects.filter(router__project=project)
    plan: Plan = get_object_or_404(plans.select_related("router", "run__job", "created_by"), pk=plan_id)
    plan.router.project = project
    return plan


@require_GET
def plan(request: PageRequest, project_id: int, plan_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    found = plan_of(project, plan_id)
    context = plan_context(request, found)
    if request.htmx and request.GET.get("part") == "progress":
        return render(request, "route/plan_progress.html", context)
    return render(request, "route/plan.html", context | {"watch": watch_of(found)})


def plan_context(request: PageRequest, found: Plan) -> dict[str, Any]:
    round = ReviewRound.objects.filter(routed_run=found.run).first()
    runs = asking_runs(found)
    return {
        "project": found.router.project,
        "can": permissions(request.user, found.router.project),
        "plan": found,
        "run": found.run,
        "job": found.run.job,
        "runs": runs,
        "is_paused": any(run.job.state == "paused" for run in [*runs, found.run]),
        "round": round,
        "answered": answered_by_people(found.run) if round else 0,
        "waiting": unanswered(round),
    }


@require_POST
def plan_action(request: PageRequest, project_id: int, plan_id: int, action: str) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    found = plan_of(project, plan_id)
    try:
        plan_act(plan=found, user=request.user, action=action)
    except (JobStateError, Refusal) as problem:
        messages.error(request, str(problem))
    return redirect("plan", project.pk, found.pk)
