"""Annotation runs: the list with the form for a new one, a run's page with its live parts, and its buttons."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import trigger_client_event

from annotate.access import May, connection_for, permissions, project_for, to_manage
from annotate.connections import list_models, run_price
from annotate.errors import Refusal
from annotate.models import AnnotationRun, ModelRun, Project
from annotate.requests import PageRequest, asked_text, number_of
from annotate.run_forms import DISCUSSION, VOTE, AnnotationRunForm, CombineForm, RunForm, asked_for
from annotate.selectors import (
    discussion_runs,
    failed_annotations,
    label_counts,
    latest_annotations,
    machine_accuracy,
    machine_f1,
    span_counts,
    written_lengths,
)
from annotate.services.combining import (
    agreement_of,
    discussion_create,
    discussion_estimate,
    vote_create,
)
from annotate.services.runs import annotation_estimate, annotation_run_create, annotation_run_retry, run_act
from jobs.selectors import failures_by_name, job_progress
from jobs.services import JobStateError

FAILED_A_PAGE = 50
ACTIONS = ("pause", "resume", "cancel", "retry")


@require_http_methods(["GET", "POST"])
def annotation_runs(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = AnnotationRunForm(
        request.POST or None, user=request.user, project=project, initial=asked_for(request.GET)
    )
    if request.method == "POST" and form.is_valid():
        try:
            run = annotation_run_create(
                project=project,
                user=request.user,
                choice=form.choice(),
                spend_limit=form.cleaned_data["spend_limit"],
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The annotation run has started.")
            return redirect("annotation_run", project.pk, run.pk)
    return _runs_page(request, project, form, CombineForm(project=project))


def _runs_page(
    request: PageRequest, project: Project, form: AnnotationRunForm, combine: CombineForm
) -> HttpResponse:
    """The project's runs, candidates left out, with the forms for a new one and for combining them."""
    runs = project.annotation_runs.filter(scope=AnnotationRun.Scope.PROJECT)
    runs = runs.select_related("job", "created_by")
    number = _numbered(_discussion_of(run) for run in reversed(runs))
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "form_url": reverse("annotation_runs", args=[project.pk]),
        "combine": combine,
        "runs": [(run, number.get(_discussion_of(run))) for run in runs],
        "is_running": any(run.job.is_active for run in runs),
        "needs_labels": not project.task.is_written and project.labels.count() < 2,
        "item_count": project.items.filter(calibration_label=None).count(),
        "estimate_url": reverse("annotation_run_estimate", args=[project.pk]),
    }
    return render(
        request, "annotate/run_list.html" if is_list_alone(request) else "annotate/runs.html", context
    )


def _discussion_of(run: AnnotationRun) -> str:
    return str(run.parameters.get("discussion", ""))


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """A number from 1 for each name, in the order in which they first occur; the empty one is left out."""
    return {name: number for number, name in enumerate(dict.fromkeys(filter(None, names)), start=1)}


@require_http_methods(["GET", "POST"])
def annotation_run_combine(request: PageRequest, project_id: int) -> HttpResponse:
    """Start the vote or the discussion that the form describes. Who comes back to this address gets the form."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    if request.method == "GET":
        return redirect("annotation_runs", project.pk)
    combine = CombineForm(request.POST, project=project)
    if combine.is_valid():
        try:
            run = _combined(request, project, combine)
        except Refusal as refusal:
            combine.refuse(refusal)
        else:
            return redirect("annotation_run", project.pk, run.pk)
    return _runs_page(request, project, AnnotationRunForm(user=request.user, project=project), combine)


def _combined(request: PageRequest, project: Project, combine: CombineForm) -> AnnotationRun:
    """The vote, or the first run of the discussion. Raises Refusal."""
    if combine.cleaned_data["how"] == VOTE:
        vote = vote_create(project=project, user=request.user, sources=combine.chosen())
        messages.success(request, "The vote has started.")
        return vote
    runs = discussion_create(
        project=project,
        user=request.user,
        sources=combine.chosen(),
        spend_limit=combine.cleaned_data["spend_limit"],
    )
    messages.success(request, "The discussion has started. The vote follows when all its runs are done.")
    return runs[0]


@require_GET
def annotation_run_combine_estimate(request: PageRequest, project_id: int) -> HttpResponse:
    """What the vote or the discussion would take; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    combine = CombineForm(request.GET, project=project)
    context: dict[str, Any] = {"project": project, "combine": combine}
    if not combine.is_valid():
        context["problem"] = next(iter(combine.errors.values()))[0]
        return render(request, "annotate/combine_estimate.html", context)
    sources = combine.chosen()
    try:
        context["agreement"] = agreement_of(project, sources)
        if combine.cleaned_data["how"] == DISCUSSION:
            context["estimate"] = discussion_estimate(project=project, user=request.user, sources=sources)
    except Refusal as refusal:
        context["problem"] = refusal.sentence
    return render(request, "annotate/combine_estimate.html", context)


def is_list_alone(request: PageRequest) -> bool:
    """Whether htmx asks for the page's list again, which changes while runs go on."""
    return bool(request.htmx) and request.GET.get("part") == "list"


@require_GET
def annotation_run_estimate(request: PageRequest, project_id: int) -> HttpResponse:
    """What the run that the form describes would take; part of the form, asked for as it changes."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = AnnotationRunForm(request.GET, user=request.user, project=project)
    return render_estimate(
        request, form, lambda: annotation_estimate(project=project, choice=form.choice()), project
    )


def render_estimate(
    request: PageRequest, form: RunForm, estimate: Callable[[], object], project: Project
) -> HttpResponse:
    """The estimate, or the sentence that says what is still missing for one."""
    context: dict[str, Any] = {"project": project, "form": form}
    if form.is_valid():
        try:
            context["estimate"] = estimate()
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "annotate/run_estimate.html", context)


@require_GET
def connection_models(request: PageRequest, project_id: int) -> HttpResponse:
    """The names of the models that the form's connection offers, asked of the provider now."""
    project_for(request.user, project_id, may=May.MANAGE)
    connection_id = number_of(request.GET.get("connection", ""))
    context: dict[str, Any] = {}
    if connection_id is not None:
        connection = connection_for(request.user, connection_id)
        context["connection"] = connection
        try:
            context["models"] = list_models(connection)
        except Refusal as refusal:
            context["problem"] = refusal.sentence
    return render(request, "annotate/run_models.html", context)


@require_GET
def annotation_run(request: PageRequest, project_id: int, run_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    run = get_object_or_404(project.annotation_runs.select_related("job", "created_by"), pk=run_id)
    run.project = project
    return render_run(
        request,
        run,
        page="annotation_run",
        template="annotate/run.html",
        parts={
            "progress": lambda: progress_context(
                request, run, project, "annotation_run", run.annotations.all()
            ),
            "outcome": lambda: _outcome(run),
            "results": lambda: {"annotations": latest_annotations(run)},
            "failures": lambda: failures_context(request, failed_annotations(run, _failure_name(request))),
        },
        context={"project": project, "run": run, "job": run.job} | combination_of(run),
    )


def combination_of(run: AnnotationRun) -> dict[str, Any]:
    """What a vote or a discussing run was made from, and the other runs of its discussion; empty for other runs."""
    context: dict[str, Any] = {}
    if source_ids := run.parameters.get("sources"):
        found = {source.pk: source for source in run.sources.select_related("job")}
        ids = run.parameters.get("precedence", source_ids)
        accuracies = run.parameters.get("accuracies") or [None] * len(ids)
        context["sources"] = [
            (found[pk], accuracy) for pk, accuracy in zip(ids, accuracies, strict=True) if pk in found
        ]
    if discussion := run.parameters.get("discussion"):
        runs = discussion_runs(run.project, discussion)
        context["discussion"] = runs
        is_voted = any(each.kind == ModelRun.Kind.VOTED for each in runs)
        context["can_vote"] = not is_voted and all(each.job.is_finished for each in runs)
    return context


def render_run(
    request: PageRequest,
    run: ModelRun,
    *,
    page: str,
    template: str,
    parts: Mapping[str, Callable[[], dict[str, Any]]],
    context: dict[str, Any],
) -> HttpResponse:
    """The run's page, or for htmx one part of it: `template` says where the parts' own templates are.

    The progress part of a job that stopped tells the page's other parts to load themselves once more.
    """
    part = request.GET.get("part", "")
    if request.htmx and part in parts:
        response = render(request, template.replace(".html", f"_{part}.html"), context | parts[part]())
        if part == "progress" and not run.job.is_active:
            trigger_client_event(response, "run-changed")
        return response
    for each in parts.values():
        context |= each()
    return render(request, template, context)


def progress_context(
    request: PageRequest, run: ModelRun, project: Project, page: str, results: QuerySet[Any]
) -> dict[str, Any]:
    """What the progress part shows of a run of either kind. `page` is the name of the run's page."""
    return {
        "can": permissions(request.user, project),
        "progress": job_progress(run.job),
        "failed_by_name": failures_by_name(results) if run.job.failed else [],
        "has_price": run.kind == ModelRun.Kind.PROMPTED and run_price(run) is not None,
        "run_url": reverse(page, args=[project.pk, run.pk]),
        "action_urls": {
            action: reverse(f"{page}_action", args=[project.pk, run.pk, action]) for action in ACTIONS
        },
    }


def failures_context(request: PageRequest, failed: QuerySet[Any]) -> dict[str, Any]:
    return {
        "failed_page": Paginator(failed, FAILED_A_PAGE).get_page(request.GET.get("failed_page")),
        "failure_name": _failure_name(request),
    }


def _failure_name(request: PageRequest) -> str:
    return asked_text(request, "failure")


def _outcome(run: AnnotationRun) -> dict[str, Any]:
    if run.project.task.is_span:
        return {"spans": span_counts(run), "accuracy": machine_accuracy(run), "f1": machine_f1(run)}
    if run.project.task.is_written:
        return {"written": written_lengths(run)}
    return {"label_counts": label_counts(run), "accuracy": machine_accuracy(run)}


@require_POST
def annotation_run_action(request: PageRequest, project_id: int, run_id: int, action: str) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    run = get_object_or_404(project.annotation_runs.select_related("job"), pk=run_id)
    problem = act_on_run(request, project, run, action, retry=lambda: annotation_run_retry(run=run))
    if not request.htmx:
        if problem:
            messages.error(request, problem)
        return redirect("annotation_run", project.pk, run.pk)
    context = progress_context(request, run, project, "annotation_run", run.annotations.all())
    context |= {"project": project, "run": run, "job": run.job, "problem": problem}
    response = render(request, "annotate/run_progress.html", context)
    return trigger_client_event(response, "run-changed")


class ResumeForm(forms.Form):
    """A higher limit for a run that its spend limit paused."""

    spend_limit = forms.DecimalField(required=False, max_digits=12, decimal_places=4, min_value=Decimal(0))


def act_on_run(
    request: PageRequest, project: Project, run: ModelRun, action: str, *, retry: Callable[[], None]
) -> str:
    """Do what the button says; returns the sentence why it could not be done, or "". Raises Http404 for no button."""
    if action not in ACTIONS:
        raise Http404("There is no such action.")
    form = ResumeForm(request.POST)
    if action == "resume" and not form.is_valid():
        return "Enter the new spend limit as a number, such as 5 or 0.50."
    limit = form.cleaned_data["spend_limit"] if action == "resume" else None
    try:
        run_act(project=project, run=run, user=request.user, action=action, retry=retry, spend_limit=limit)
    except JobStateError as error:
        return str(error)
    finally:
        run.job.refresh_from_db()
    return ""
