"""The review screen. Its items come from the API; the page brings what stays the same."""

from dataclasses import asdict

from django.http import HttpResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.views.decorators.http import require_GET

from annotate.access import May, permissions, project_for
from annotate.requests import PageRequest
from review.keys import commands_of, label_keys
from review.models import ReviewRound
from review.own_work import left_for
from review.selectors import progress_on_entry
from review.views.rounds import round_of

# The screen's parts: modules in static/js. The page says their addresses, since static names change with the content.
MODULES = (
    "server",
    "outbox",
    "voice",
    "queue",
    "item",
    "image",
    "text",
    "labels",
    "keys",
    "notes",
    "guidelines",
)


@require_GET
def review(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.REVIEW)
    round = round_of(project, round_id)
    labels = [
        {"id": label.pk, "name": label.name, "description": label.description}
        for label in project.labels.order_by("position")
    ]
    progress = progress_on_entry(round, request.user)
    commands = commands_of(project.task)
    context = {
        "project": project,
        "round": round,
        "can": permissions(request.user, project),
        "is_blind": round.is_blind,
        "labels": labels,
        "letters_search": "" in label_keys([str(label["name"]) for label in labels]),
        "commands": commands,
        "commands_data": [asdict(command) for command in commands],
        "keys_data": request.user.review_keys,
        "modules": module_addresses(round),
        "progress": progress,
        "progress_data": asdict(progress) | {"left": left_for(round, request.user)},
        "worker_missing": False,  # people review without one, and the screen has no room to say so
    }
    return render(request, "review/review.html", context)


def module_addresses(round: ReviewRound) -> dict[str, str]:
    """The addresses of the modules that a round's screen needs, by name."""
    task = round.project.task
    answering = ("span",) if task.is_span else ("written",) if task.is_written else ()
    names = (*MODULES, *answering)
    return {name: static(f"js/review_{name}.js") for name in names}
