"""Uploaded comparisons: sending a file, saying what its columns are, its import, and training; and asking a router."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import May, permissions, project_for, to_manage
from annotate.csv_response import csv_response
from annotate.errors import Refusal
from annotate.forms import UploadForm, sent
from annotate.full_disk import FullDisk, is_full_disk
from annotate.models import Project
from annotate.requests import PageRequest
from annotate.services.uploads import FULL_DISK
from annotate.uploads.limits import format_bytes
from jobs.selectors import job_progress
from jobs.services import JobStateError
from route.comparison_forms import ComparisonMappingForm, TextForm, UploadedRouterForm
from route.comparison_import import SHOWN_PROBLEMS
from route.models import ComparisonSet
from route.services.comparison_sets import (
    ComparisonPreview,
    comparison_set_cancel,
    comparison_set_discard,
    comparison_set_import,
    comparison_set_preview,
    comparison_set_receive,
    comparison_set_resume,
    first_read,
    rejected_table,
    uploaded_router_create,
)
from route.serving import expected_gains, route_texts
from route.uploaded_comparisons import comparison_counts
from route.views.routers import router_of

ACCEPTED = "CSV, TSV, JSON Lines, JSON or Parquet"
# What a form adds around its file.
_FORM_OVERHEAD = 64 * 1024
_SHOWN_COLUMNS = 30
_SHOWN_CHARS = 240


@csrf_exempt  # the token is in the body, which is read only once its size is known: the inner view checks it
@require_http_methods(["GET", "POST"])
def comparison_sets(request: HttpRequest, project_id: int) -> HttpResponse:
    page_request = cast(PageRequest, request)
    project = project_for(page_request.user, project_id, may=to_manage(page_request.method))
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdecimal() and int(announced) > settings.MAX_UPLOAD_BYTES + _FORM_OVERHEAD:
        most = format_bytes(settings.MAX_UPLOAD_BYTES)
        problem = f"The file is larger than {most}, which is the limit. Split it, and train on a part of it."
        return _closing(_list_page(page_request, project, UploadForm(), problem=problem, status=413))
    try:
        return _receive(page_request, project)
    except (OSError, DatabaseError, FullDisk) as error:
        if not is_full_disk(error):
            raise
        return _closing(_list_page(page_request, project, UploadForm(), problem=FULL_DISK, status=507))


def _closing(response: HttpResponse) -> HttpResponse:
    """For an answer that is given before the whole body is read."""
    response.headers["Connection"] = "close"
    return response


@csrf_protect
def _receive(request: Any, project: Project) -> HttpResponse:
    form = UploadForm(sent(request), request.FILES if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            received = comparison_set_receive(
                project=project,
                user=request.user,
                file=form.cleaned_data["file"],
                encoding=form.cleaned_data["encoding"],
            )
        except FullDisk:
            raise
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("comparison_set", project.pk, received.pk)
    return _list_page(request, project, form, status=422 if request.method == "POST" else 200)


def _list_page(
    request: PageRequest, project: Project, form: UploadForm, *, problem: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "problem": problem,
        "comparison_sets": project.comparison_sets.select_related("created_by", "job"),
        "accepted": ACCEPTED,
        "max_bytes": settings.MAX_UPLOAD_BYTES,
        "max_size": format_bytes(settings.MAX_UPLOAD_BYTES),
    }
    return render(request, "route/comparison_sets.html", context, status=status)


def _found(request: PageRequest, project_id: int, comparison_set_id: int, may: May) -> ComparisonSet:
    project = project_for(request.user, project_id, may=may)
    rows = project.comparison_sets.select_related("project", "job", "created_by")
    return get_object_or_404(rows, pk=comparison_set_id)


@require_http_methods(["GET", "POST"])
def comparison_set(request: PageRequest, project_id: int, comparison_set_id: int) -> HttpResponse:
    """What the columns are, before the import; then how it goes, and the training of a router."""
    found = _found(request, project_id, comparison_set_id, to_manage(request.method))
    context: dict[str, Any] = {
        "project": found.project,
        "can": permissions(request.user, found.project),
        "comparisons": found,
        "size": format_bytes(found.size),
    }
    return _mapping_page(request, found, context) if found.job is None else _set_page(request, found, context)


def _mapping_page(request: PageRequest, found: ComparisonSet, context: dict[str, Any]) -> HttpResponse:
    try:
        preview = comparison_set_preview(found)
    except Refusal as refusal:
        return render(
            request, "route/comparison_set_unreadable.html", context | {"problem": refusal.sentence}
        )
    form = ComparisonMappingForm(sent(request), columns=preview.columns, suggested=preview.mapping)
    if request.method == "POST" and form.is_valid():
        try:
            comparison_set_import(comparisons=found, mapping=form.mapping(), user=request.user)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("comparison_set", found.project_id, found.pk)
    context |= {"form": form, "preview": preview, **_table(preview)}
    return render(request, "route/comparison_set_mapping.html", context, status=422 if form.errors else 200)


def _table(preview: ComparisonPreview) -> dict[str, Any]:
    """The first rows as text, long ones cut."""
    columns = preview.columns[:_SHOWN_COLUMNS]
    rows = [
        (row.number, [(column, _cut(row.values.get(column))) for column in columns]) for row in preview.rows
    ]
    return {"columns": columns, "hidden_columns": len(preview.columns) - len(columns), "rows": rows}


def _cut(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def _set_page(request: PageRequest, found: ComparisonSet, context: dict[str, Any]) -> HttpResponse:
    assert found.job is not None  # noqa: S101 (the caller looked)
    context |= {
        "job": found.job,
        "progress": job_progress(found.job),
        "is_live": found.job.is_active,
        "shown_problems": SHOWN_PROBLEMS,
    }
    if request.htmx and request.GET.get("part") == "progress":
        return render(request, "route/comparison_set_progress.html", context)
    form = UploadedRouterForm(sent(request), user=request.user, project=found.project)
    if request.method == "POST" and form.is_valid():
        try:
            router = uploaded_router_create(comparisons=found, user=request.user, choice=form.choice())
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("router", found.project_id, router.pk)
    if found.is_ready:
        context["counts"] = comparison_counts(found)
    context |= {"form": form, "routers": found.routers.select_related("job", "created_by")}
    return render(request, "route/comparison_set.html", context, status=422 if form.errors else 200)


@require_GET
def comparison_read(request: PageRequest, project_id: int, comparison_set_id: int) -> HttpResponse:
    """How the first rows would be read as the form says; part of the form, asked for as it changes."""
    found = _found(request, project_id, comparison_set_id, May.MANAGE)
    context: dict[str, Any] = {"project": found.project, "comparisons": found}
    try:
        preview = comparison_set_preview(found)
        form = ComparisonMappingForm(request.GET, columns=preview.columns, suggested=preview.mapping)
        if form.is_valid():
            context["read"] = first_read(found, form.mapping())
        else:
            context["problem"] = next(iter(form.errors.values()))[0]
    except Refusal as refusal:
        context["problem"] = refusal.sentence
    return render(request, "route/comparison_read.html", context)


@require_GET
def rejected_comparisons(
    request: PageRequest, project_id: int, comparison_set_id: int
) -> HttpResponse | StreamingHttpResponse:
    """The rejected rows with their reasons and their own columns as CSV, streamed."""
    found = _found(request, project_id, comparison_set_id, May.SEE)
    try:
        columns, rows = rejected_table(found)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
        return redirect("comparison_set", project_id, found.pk)
    return csv_response(f"rejected-comparisons-{found.pk}.csv", columns, rows)


_ACTIONS = {
    "resume": comparison_set_resume,
    "cancel": comparison_set_cancel,
    "discard": comparison_set_discard,
}


@require_POST
def comparison_set_action(
    request: PageRequest, project_id: int, comparison_set_id: int, action: str
) -> HttpResponse:
    """Resume or cancel an import, or throw the file away."""
    found = _found(request, project_id, comparison_set_id, May.MANAGE)
    if action not in _ACTIONS:
        raise Http404("There is no such action.")
    try:
        _ACTIONS[action](comparisons=found, user=request.user)
    except (Refusal, JobStateError) as error:
        messages.error(request, str(error))
    else:
        if action == "discard":
            messages.success(request, f"“{found.filename}” is thrown away.")
            return redirect("comparison_sets", project_id)
    return redirect("comparison_set", project_id, found.pk)


@require_GET
def router_texts(request: PageRequest, project_id: int, router_id: int) -> HttpResponse:
    """What a router says of one text; part of its page."""
    found = router_of(project_for(request.user, project_id, may=May.SEE), router_id)
    form = TextForm(request.GET)
    context: dict[str, Any] = {"router": found}
    if form.is_valid():
        try:
            context["routed"] = route_texts(found, [form.cleaned_data["query"]], form.chosen())
        except (Refusal, JobStateError) as error:
            context["problem"] = str(error)
    else:
        context["problem"] = next(iter(form.errors.values()))[0]
    return render(request, "route/text_decision.html", context)


@require_GET
def router_gains(
    request: PageRequest, project_id: int, router_id: int
) -> HttpResponse | StreamingHttpResponse:
    """What a router expects of each row of its comparisons as CSV, streamed."""
    found = router_of(project_for(request.user, project_id, may=May.SEE), router_id)
    try:
        columns, rows = expected_gains(found)
    except (Refusal, JobStateError) as error:
        messages.error(request, str(error))
        return redirect("router", project_id, found.pk)
    return csv_response(f"expected-gains-{found.pk}.csv", columns, rows)
