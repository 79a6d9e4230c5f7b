"""The adjudication queue: items whose reviewers differ, and the page on which a manager decides one after the other."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.models import Label, Project, User
from annotate.requests import PageRequest
from review.adjudicating import (
    Choice,
    adjudications,
    choices,
    conflicts,
    given_answers,
    last_decision,
    next_conflict,
    waiting_count,
)
from review.adjudication_forms import AdjudicationForm
from review.commenting import comments_shown
from review.models import Correction, ReviewTask
from review.selectors import task_for_reviewer
from review.services.queue import Answer, Conflict, adjudication_undo, task_submit
from review.span_marks import SpanMark, marked

CONFLICTS_A_PAGE = 50
_DIGITS = tuple("0123456789")


@require_GET
def adjudication(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    page = Paginator(conflicts(project), CONFLICTS_A_PAGE).get_page(request.GET.get("page"))
    answers = given_answers(list(page))
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "page": page,
        "rows": [(task, choices(answers[task.pk])) for task in page],
        "first": next_conflict(project),
        "decision": last_decision(project, request.user),
        "has_overlap": project.review_rounds.filter(overlap__gt=1).exists(),
        "decided": adjudications(project).filter(state=ReviewTask.State.ANSWERED).count(),
    }
    return render(request, "review/adjudication.html", context)


@require_http_methods(["GET", "POST"])
def adjudicate(request: PageRequest, project_id: int, task_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    task = adjudications(project).filter(pk=task_id).first()
    if task is None:
        messages.info(
            request, "The answers to that item agree again, so there is nothing to decide any more."
        )
        return redirect("adjudication", project.pk)
    if request.method == "POST":
        return _decide(request, project, task)
    return _decide_page(request, project, task)


@require_POST
def adjudication_take_back(request: PageRequest, project_id: int) -> HttpResponse:
    """Undo the signed-in person's last decision and show its item again."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    last = last_decision(project, request.user)
    if last is None:
        messages.info(request, "There is no decision of yours to undo.")
        return redirect("adjudication", project.pk)
    try:
        task = adjudication_undo(round=last.round, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
        return redirect("adjudication", project.pk)
    return redirect("adjudicate", project.pk, task.pk)


def _decide(request: PageRequest, project: Project, task: ReviewTask) -> HttpResponse:
    form = AdjudicationForm(request.POST, project=project, text=task.item.text)
    if not form.is_valid():
        return _decide_page(
            request, project, task, problem=str(next(iter(form.errors.values()))[0]), form=form
        )
    try:
        task_submit(task=task, user=request.user, answer=Answer(**form.answer_given()))
    except Conflict as conflict:
        messages.warning(request, _sentence(conflict, task, request.user))
    except Refusal as refusal:
        return _decide_page(request, project, task, problem=refusal.sentence, form=form)
    following = next_conflict(project, after=task)
    if following is None:
        return redirect("adjudication", project.pk)
    return redirect("adjudicate", project.pk, following.pk)


def _sentence(conflict: Conflict, task: ReviewTask, user: User) -> str:
    """What happened instead of the decision: who was faster, and what they said."""
    now = (
        ReviewTask.objects.filter(pk=task.pk)
        .select_related("correction__label", "correction__author")
        .first()
    )
    if now is None or now.correction is None or now.correction.author_id == user.pk:
        return f"Item {task.item.external_id}: {conflict.sentence} Your decision was not kept."
    who = now.correction.author.username
    said = _said(now.correction)
    return f"{who} decided item {task.item.external_id} a moment ago: {said}. Your decision was not kept."


def _said(correction: Correction) -> str:
    if correction.action == Correction.Action.SKIP:
        return "nobody can tell"
    if correction.start is not None:
        return f"“{correction.answer}”" if correction.answer else "that there is no answer"
    return f"“{correction.label.name}”" if correction.label else "an answer of their own choice"


def _marks(given: Sequence[Choice], shown: Mapping[str, Any]) -> list[SpanMark]:
    """What people and the machine, as far as it is shown, said of the item."""
    marks = [
        SpanMark(choice.start, choice.end, "human", ", ".join(choice.reviewers))
        for choice in given
        if choice.start is not None and choice.end is not None
    ]
    if machine := shown["machine"]:
        marks.append(SpanMark(machine["start"], machine["end"], "machine", machine["who"]))
    return marks


def _decide_page(
    request: PageRequest,
    project: Project,
    task: ReviewTask,
    problem: str = "",
    form: AdjudicationForm | None = None,
) -> HttpResponse:
    item = task.item
    image_url = reverse("item_image", args=[project.pk, item.pk]) if item.image_id else None
    shown = task_for_reviewer(task, image_url)
    answers = given_answers([task])[task.pk]
    given = choices(answers)
    is_open = task.is_counted and task.state in (ReviewTask.State.WAITING, ReviewTask.State.LEASED)
    labels = list(project.labels.order_by("position"))
    waiting = waiting_count(project)
    context: dict[str, Any] = {
        "project": project,
        "can": permissions(request.user, project),
        "task": task,
        "item": item,
        "columns": {name: value for name, value in item.columns.items() if value not in (None, "")},
        "shown": shown,
        "is_small": item.image is not None and max(item.image.width, item.image.height) <= 160,
        "answers": answers,
        "choices": given,
        "suggested": given[0] if given else None,
        "is_majority": len(given) > 1 and len(given[0].reviewers) > len(given[1].reviewers),
        "is_open": is_open,
        "is_own": any(answer.correction.author_id == request.user.pk for answer in answers),
        "buttons": _buttons(labels, given, shown),
        "has_filter": len(labels) > len(_DIGITS) - 1,
        "guided": [label for label in labels if label.description or label.guideline],
        "comments": comments_shown(request.user, item),
        "waiting": waiting,
        "following": next_conflict(project, after=task) if waiting else None,
        "decision": last_decision(project, request.user),
        "key": (form.data.get("key") if form is not None else None) or uuid.uuid4(),
        "text": form.data.get("answer", "") if form is not None else "",
        "problem": problem,
        "worker_missing": False,  # people decide without one
    }
    if project.task.is_span:
        marks = _marks(given, shown)
        context["pieces"] = marked(item.text, marks)
        if is_open and context["can"].manage:
            # The page's own text has lost line ends of two characters, which count in places.
            context["span_data"] = {
                "module": static("js/review_span.js"),
                "item": {"external_id": item.external_id, "question": item.question, "text": item.text},
                "marks": [asdict(mark) for mark in marks],
            }
    return render(request, "review/adjudicate.html", context, status=422 if problem else 200)


def _buttons(labels: list[Label], given: list[Choice], shown: dict[str, Any]) -> list[dict[str, Any]]:
    """The labels in their order, each with its key, who gave it, and whether it is the machine's.

    Labels that are digits themselves have their own digit as on the review screen.
    """
    are_digits = all(label.name in _DIGITS for label in labels)
    said_by = {choice.label.pk: choice.reviewers for choice in given if choice.label is not None}
    machine = shown["machine"]["label_id"] if shown["machine"] else None
    return [
        {
            "label": label,
            "key": label.name if are_digits else str(place) if place <= 9 else "",
            "said_by": said_by.get(label.pk, []),
            "is_machine": label.pk == machine,
        }
        for place, label in enumerate(labels, start=1)
    ]
