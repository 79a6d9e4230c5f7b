"""Judge runs: the form for a new one, a run's page with its live parts, and its buttons."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import trigger_client_event

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.models import Project
from annotate.requests import PageRequest, asked_text
from annotate.views.runs import act_on_run, failures_context, progress_context, render_run
from route.meta_forms import JudgeRunForm, MissingComparisonsForm
from route.models import JudgeRun
from route.services.judge_runs import (
    gold_count,
    judge_run_create,
    judge_run_estimate,
    judge_run_retry,
    preferences_with_answers,
)
from route.services.missing_comparisons import missing_comparisons, missing_comparisons_start

PREFERENCES_A_PAGE = 50
# What the judge said, by the word in the address: how it is called, and the rows.
_SAID: dict[str, tuple[str, dict[str, Any]]] = {
    "premium": ("Premium better", {"value": 1}),
    "cheap": ("Cheap better", {"value": -1}),
    "neither": ("Neither", {"value": 0, "attempts__gt": 0}),
    "equal": ("Equal, not asked", {"failure": "", "attempts": 0}),
    "failed": ("Failed", {"value": None}),
}


@require_http_methods(["GET", "POST"])
def judge_run_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = JudgeRunForm(request.POST or None, user=request.user, project=project)
    if request.method == "POST" and form.is_valid():
        try:
            run = judge_run_create(
                project=project,
                user=request.user,
                choice=form.choice(),
                spend_limit=form.cleaned_data["spend_limit"],
                **form.pair(),
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The answers are being compared.")
            return redirect("judge_run", project.pk, run.pk)
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "estimate_url": reverse("judge_run_estimate", args=[project.pk]),
    }
    return render(request, "route/judge_new.html", context)


@require_GET
def judge_estimate(request: PageRequest, project_id: int) -> HttpResponse:
    """What the comparison that the form describes would take; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = JudgeRunForm(request.GET, user=request.user, project=project)
    context: dict[str, Any] = {"project": project, "form": form}
    if form.is_valid():
        try:
            context["estimate"] = judge_run_estimate(project=project, choice=form.choice(), **form.pair())
            context["gold"] = gold_count(project=project, agents=list(form.pair().values()))
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/judge_estimate.html", context)


@require_http_methods(["GET", "POST"])
def judge_runs_missing(request: PageRequest, project_id: int) -> HttpResponse:
    """Compare every two of several annotators that have not been compared yet."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = MissingComparisonsForm(request.POST or None, user=request.user, project=project)
    if request.method == "POST" and form.is_valid():
        try:
            started = missing_comparisons_start(
                project=project,
                user=request.user,
                agents=form.agents_chosen(),
                choice=form.choice(),
                spend_limit=form.cleaned_data["spend_limit"],
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            count = len(started.created)
            messages.success(request, f"{count} comparison{'s are' if count > 1 else ' is'} under way.")
            for pair in started.left_out:
                messages.warning(request, f"{pair.cheap.who} against {pair.premium.who}: {pair.problem}")
            return redirect("meta_new", project.pk)
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "estimate_url": reverse("judge_runs_missing_estimate", args=[project.pk]),
    }
    return render(request, "route/judge_missing.html", context)


@require_GET
def judge_runs_missing_estimate(request: PageRequest, project_id: int) -> HttpResponse:
    """What the comparisons that the form describes would take; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = MissingComparisonsForm(request.GET, user=request.user, project=project)
    context: dict[str, Any] = {"project": project, "form": form}
    if form.is_valid():
        try:
            found = missing_comparisons(project=project, agents=form.agents_chosen(), choice=form.choice())
        except Refusal as refusal:
            context["problem"] = refusal.sentence
        else:
            context |= {"found": found, "estimate": found.estimate, "gold": found.gold}
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/judge_missing_estimate.html", context)


def judge_run_of(project: Project, run_id: int) -> JudgeRun:
    """The project's judge run. Raises Http404."""
    runs = project.judge_runs.select_related("job", "created_by", "cheap", "premium", "connection")
    run: JudgeRun = get_object_or_404(runs, pk=run_id)
    run.project = project
    return run


@require_GET
def judge_run(request: PageRequest, project_id: int, run_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    run = judge_run_of(project, run_id)
    failed = run.preferences.exclude(failure="").select_related("item").order_by("pk")
    if name := asked_text(request, "failure"):
        failed = failed.filter(failure=name)
    return render_run(
        request,
        run,
        page="judge_run",
        template="route/judge_run.html",
        parts={
            "progress": lambda: progress_context(request, run, project, "judge_run", run.preferences.all()),
            "outcome": lambda: {"preferred": preferred(run)},
            "failures": lambda: failures_context(request, failed),
        },
        context={"project": project, "run": run, "job": run.job},
    )


@require_GET
def preferences(request: PageRequest, project_id: int, run_id: int) -> HttpResponse:
    """What the judge said of every item, with both answers; `said` leaves those that it said one thing of."""
    project = project_for(request.user, project_id, may=May.SEE)
    run = judge_run_of(project, run_id)
    rows = preferences_with_answers(run).order_by("item_id")
    said = request.GET.get("said", "")
    if said in _SAID:
        rows = rows.filter(**_SAID[said][1])
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "run": run,
        "page": Paginator(rows, PREFERENCES_A_PAGE).get_page(request.GET.get("page")),
        "said": said if said in _SAID else "",
        "choices": [(name, label) for name, (label, _) in _SAID.items()],
    }
    return render(request, "route/judge_preferences.html", context)


def preferred(run: JudgeRun) -> dict[str, int]:
    """How many answers were preferred: the premium, the cheap one's, neither; of the latter, those that are equal.

    `first`: of the first two, how many were the answer that was shown first. `one_sided` is 1 where a judge looks at
    nothing but that: one in ten or fewer are otherwise, of ten or more.
    """
    counts = dict(
        run.preferences.filter(failure="")
        .values_list("value")
        .annotate(Count("pk"))
        .values_list("value", "pk__count")
    )
    first = run.preferences.filter(failure="").filter(
        Q(value=1, premium_first=True) | Q(value=-1, premium_first=False)
    )
    premium, cheap, n_first = counts.get(1, 0), counts.get(-1, 0), first.count()
    sided = premium + cheap
    return {
        "premium": premium,
        "cheap": cheap,
        "sided": sided,
        "first": n_first,
        "one_sided": int(sided >= 10 and 10 * min(n_first, sided - n_first) <= sided),
        "neither": counts.get(0, 0),
        "equal": run.preferences.filter(attempts=0).count(),
    }


@require_POST
def judge_run_action(request: PageRequest, project_id: int, run_id: int, action: str) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    run = judge_run_of(project, run_id)
    problem = act_on_run(request, project, run, action, retry=lambda: judge_run_retry(run=run))
    if not request.htmx:
        if problem:
            messages.error(request, problem)
        return redirect("judge_run", project.pk, run.pk)
    context: dict[str, Any] = progress_context(request, run, project, "judge_run", run.preferences.all())
    context |= {"project": project, "run": run, "job": run.job, "problem": problem}
    return trigger_client_event(render(request, "route/judge_run_progress.html", context), "run-changed")
