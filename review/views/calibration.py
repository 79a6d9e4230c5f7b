"""The calibration set: how large it is, taking gold labels into it, and labeling items for it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.forms import RefusableForm
from annotate.models import CalibrationLabel, Project
from annotate.requests import PageRequest
from annotate.rightness import Truth, is_known
from annotate.services.calibration import calibration_from_gold
from review.forms import OverlapForm
from review.models import ReviewRound
from review.services.rounds import calibration_round_create
from review.standing import counts_of_rounds

_USUAL = 100


class CountForm(RefusableForm):
    count = forms.IntegerField(
        min_value=1,
        label="Number of items",
        error_messages={"min_value": "Choose at least one item.", "invalid": "Enter a whole number."},
    )


class PersonForm(CountForm, OverlapForm):
    """How many items people label, and how many of them several people."""


@require_http_methods(["GET", "POST"])
def calibration(request: PageRequest, project_id: int) -> HttpResponse:
    """`from` in a sent form says where the labels come from: the gold column, or a person."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    if not project.task.is_checkable:
        status = 422 if request.method == "POST" else 200
        return render(request, "review/no_calibration.html", {"project": project}, status=status)
    has_gold = is_known(project.task, Truth.GOLD, prefix="")
    gold_left = project.items.filter(has_gold, calibration_label=None).count()
    gold_form = CountForm(initial={"count": min(_USUAL, gold_left)}, auto_id="gold-%s")
    person_form = PersonForm(initial={"count": _USUAL}, auto_id="person-%s")
    status = 200
    if request.method == "POST":
        from_gold = request.POST.get("from") == "gold"
        form: CountForm
        if from_gold:
            form = gold_form = CountForm(request.POST, auto_id="gold-%s")
        else:
            form = person_form = PersonForm(request.POST, auto_id="person-%s")
        if form.is_valid():
            try:
                return _calibrate(request, project, form)
            except Refusal as refusal:
                form.refuse(refusal)
        status = 422
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "gold_form": gold_form,
        "person_form": person_form,
        "gold_left": gold_left,
        **calibration_context(project),
    }
    return render(request, "review/calibration.html", context, status=status)


def _calibrate(request: PageRequest, project: Project, form: CountForm) -> HttpResponse:
    count = form.cleaned_data["count"]
    if not isinstance(form, PersonForm):
        taken = calibration_from_gold(project=project, user=request.user, count=count)
        things = (
            "items are calibration items" if project.task.is_span else "gold labels are calibration labels"
        )
        messages.success(request, f"{taken:,} {things} now.")
        return redirect("calibration", project.pk)
    round = calibration_round_create(project=project, user=request.user, count=count, setup=form.setup())
    return redirect("review", project.pk, round.pk)


def calibration_context(project: Project) -> dict[str, Any]:
    """How large the set is, by label and by where its labels come from, and the open rounds."""
    labels = CalibrationLabel.objects.filter(project=project)
    sizes = labels.aggregate(total=Count("pk"), by_people=Count("pk", filter=Q(author__isnull=False)))
    given = dict(labels.order_by().values_list("label").annotate(Count("pk")))
    names = project.labels.order_by("position").values_list("pk", "name")
    rounds = list(
        project.review_rounds.filter(kind=ReviewRound.Kind.CALIBRATION).select_related("created_by")
    )
    counts = counts_of_rounds(rounds)
    return {
        "total": sizes["total"],
        "by_people": sizes["by_people"],
        "from_gold": sizes["total"] - sizes["by_people"],
        "label_counts": [(name, given.get(pk, 0)) for pk, name in names],
        "without_answer": labels.filter(answers=[]).count() if project.task.is_span else 0,
        "most": max(given.values(), default=1),
        "rounds": [(round, counts[round.pk]) for round in rounds],
        "can_label": len(names) >= 2 or project.task.is_span,
    }
