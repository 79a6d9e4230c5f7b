"""The review screen. Its items come from the API; the page brings what stays the same."""

from dataclasses import asdict

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import May, permissions, project_for
from annotate.requests import PageRequest
from review.selectors import round_progress
from review.views.rounds import round_of


@require_GET
def review(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.REVIEW)
    round = round_of(project, round_id)
    labels = [
        {"id": label.pk, "name": label.name, "description": label.description}
        for label in project.labels.order_by("position")
    ]
    progress = round_progress(round, request.user)
    context = {
        "project": project,
        "round": round,
        "can": permissions(request.user, project),
        "is_blind": round.is_blind,
        "labels": labels,
        "has_descriptions": any(label["description"] for label in labels),
        "progress": progress,
        "progress_data": asdict(progress),
        "worker_missing": False,  # people review without one, and the screen has no room to say so
    }
    return render(request, "review/review.html", context)
