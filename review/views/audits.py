"""A round's audit: the certificate, the audits so far, and the form that draws one."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.forms import sent
from annotate.models import Project
from annotate.requests import PageRequest
from review.audits import AuditPlan, audit_plan
from review.certification import certification, is_settled
from review.forms import AuditForm
from review.models import ReviewRound
from review.services.audits import audit_round_create
from review.standing import counts_of_rounds
from review.views.rounds import round_of

_USUAL_SIZE = 200


@require_http_methods(["GET", "POST"])
def audits(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    round = _review_round(project, round_id)
    plan = audit_plan(round)
    form = AuditForm(sent(request), initial={"count": min(_USUAL_SIZE, plan.left)})
    if request.method == "POST" and form.is_valid():
        try:
            audit = audit_round_create(
                round=round, user=request.user, count=form.cleaned_data["count"], setup=form.setup()
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The audit is drawn. Its items wait to be answered blind.")
            return redirect("review_round", project.pk, audit.pk)
    made = list(round.audits.select_related("created_by").order_by("-pk"))
    counts = counts_of_rounds(made)
    context: dict[str, Any] = {
        "project": project,
        "round": round,
        "can": permissions(request.user, project),
        "certification": certification(round),
        "audits": [(audit, counts[audit.pk]) for audit in made],
        "form": form,
        "plan": plan,
        "is_settled": is_settled(round),
        "is_under_way": any(counts[audit.pk].left for audit in made),
    }
    return render(request, "review/audits.html", context)


@require_GET
def audit_preview(request: PageRequest, project_id: int, round_id: int) -> HttpResponse:
    """What an audit of the size in the form would say; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    round = _review_round(project, round_id)
    form = AuditForm(request.GET)
    context: dict[str, Any] = {"project": project}
    if form.is_valid():
        plan: AuditPlan = audit_plan(round)
        try:
            context["size"] = plan.size(form.cleaned_data["count"])
        except Refusal as refusal:
            context["problem"] = refusal.sentence
        context["plan"] = plan
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "review/audit_preview.html", context)


def _review_round(project: Project, round_id: int) -> ReviewRound:
    round = round_of(project, round_id)
    if round.kind != ReviewRound.Kind.REVIEW:
        raise Http404("Only a review round can be audited.")
    return round
