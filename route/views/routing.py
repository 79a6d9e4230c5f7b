"""The page from which routers are trained and plans are started, with those that there are."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import May, permissions, project_for
from annotate.requests import PageRequest
from route.models import Plan, TracedRun
from route.services.routers import offered_runs


@require_GET
def routing(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    routers = project.routers.select_related("job", "created_by")
    plans = Plan.objects.filter(router__project=project).select_related("router", "run__job", "created_by")
    traced = TracedRun.objects.filter(router__project=project).select_related(
        "router", "run__job", "run__created_by"
    )
    traced = traced.order_by("-pk")
    jobs = [
        *(router.job for router in routers),
        *(plan.run.job for plan in plans),
        *(each.run.job for each in traced),
    ]
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "routers": routers,
        "plans": plans,
        "traced_runs": traced,
        "is_at_work": any(job.is_active for job in jobs),
        "annotators": len(offered_runs(project)),
    }
    is_list_alone = request.htmx and request.GET.get("part") == "list"
    return render(request, "route/router_list.html" if is_list_alone else "route/routing.html", context)
