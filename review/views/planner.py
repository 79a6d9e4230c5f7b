"""The budget planner: how many reviews to buy, at what price, and what they should find."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from annotate.access import permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.forms import sent
from annotate.models import Project, User
from annotate.requests import PageRequest
from annotate.services.projects import project_update
from review.forms import BudgetForm, ReviewPriceForm
from review.planning import BudgetPlan, budget_plan


@require_http_methods(["GET", "POST"])
def budget_planner(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    price_form = ReviewPriceForm(
        sent(request), initial={"review_price": f"{project.review_price.normalize():f}"}
    )
    if request.method == "POST" and _save_price(project, request.user, price_form):
        messages.success(request, "The price of a review is saved.")
        return redirect(request.get_full_path())
    form = BudgetForm(request.GET or None, project=project)
    context: dict[str, Any] = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "price_form": price_form,
    }
    context |= _planned(project, form)
    if request.htmx:
        return render(request, "review/planner_plan.html", context)
    return render(request, "review/planner.html", context)


def _save_price(project: Project, user: User, form: ReviewPriceForm) -> bool:
    if not form.is_valid():
        return False
    try:
        project_update(
            project=project,
            user=user,
            name=project.name,
            review_price=form.cleaned_data["review_price"],
        )
    except Refusal as refusal:
        form.refuse(refusal)
        return False
    return True


def _planned(project: Project, form: BudgetForm) -> dict[str, Any]:
    """The plan that the form asks for, by default of everything; or the sentence why there is none."""
    asked = {}
    if form.is_bound:
        if not form.is_valid():
            return {"problem": next(iter(form.errors.values()))[0]}
        asked = form.plan()
    try:
        plan = budget_plan(project, **asked)
    except Refusal as refusal:
        if form.is_bound:
            form.refuse(refusal)
        return {"problem": refusal.sentence}
    return {
        "plan": plan,
        "bars": _bars(plan),
        "gaps": _gaps(project, plan),
        "buffer_points": f"{100 * plan.buffer:g}",
        "saved_share": None if plan.saved is None else abs(plan.saved),
        "recommended_url": _recommended_url(project, plan),
    }


def _recommended_url(project: Project, plan: BudgetPlan) -> str:
    """This plan without a budget of its own."""
    query = {"buffer": f"{100 * plan.buffer:g}"}
    if plan.criticism_run is not None:
        query["criticism_run"] = str(plan.criticism_run.pk)
    return f"{reverse('budget_planner', args=[project.pk])}?{urlencode(query)}"


def _bars(plan: BudgetPlan) -> list[dict[str, Any]]:
    """The two prices side by side, in US$."""
    machine = {"label": "Models", "value": float(plan.models), "tone": "machine"}
    people = {"label": "Reviews", "value": float(plan.reviews), "tone": "human"}
    everyone = {"label": "Reviews", "value": float(plan.all_human), "tone": "human"}
    return [
        {"name": "With this budget", "parts": [machine, people], "total": plan.total},
        {"name": "All human", "parts": [everyone], "total": plan.all_human},
    ]


def _gaps(project: Project, plan: BudgetPlan) -> list[dict[str, str]]:
    """What is missing to a whole plan, and where to get it."""
    gaps = []
    if plan.measured is None and not project.task.is_checkable:
        gaps.append(
            {
                "sentence": "How often written answers are wrong is not known before people read some: begin with a "
                "small round, and raise it while its advice says so.",
                "action": "Draw a round",
                "url": reverse("review_rounds", args=[project.pk]),
            }
        )
    elif plan.measured is None and not project.calibration_labels.exists():
        gaps.append(
            {
                "sentence": "Without calibration labels nobody knows how often the annotator is right, so no budget "
                "can be recommended.",
                "action": "Label a calibration set",
                "url": reverse("calibration", args=[project.pk]),
            }
        )
    elif plan.measured is None:
        gaps.append(
            {
                "sentence": "There are calibration labels, but this annotator has not been tried on them, so no "
                "budget can be recommended.",
                "action": "Try annotators on the calibration items",
                "url": reverse("candidates", args=[project.pk]),
            }
        )
    if plan.criticism_run is None:
        page = "criticism_runs" if plan.annotation_run is not None else "annotation_runs"
        gaps.append(
            {
                "sentence": "A round is drawn from criticisms, and there are none yet."
                if plan.annotation_run is not None
                else "The items are not annotated yet. Prices of models are those of the candidates, for all items.",
                "action": "Criticize the labels" if plan.annotation_run is not None else "Annotate the items",
                "url": reverse(page, args=[project.pk]),
            }
        )
    return gaps
