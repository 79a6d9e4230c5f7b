"""Uploads: sending a file, saying what its columns are, watching its import, and what was rejected."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import permissions, project_for, to_manage
from annotate.csv_response import csv_response
from annotate.errors import Refusal
from annotate.forms import MappingForm, UploadForm, sent
from annotate.full_disk import FullDisk, is_full_disk
from annotate.models import Project, Upload
from annotate.rejections import rejection_table
from annotate.requests import PageRequest, number_of
from annotate.services.uploads import (
    FULL_DISK,
    Preview,
    upload_cancel,
    upload_discard,
    upload_import,
    upload_like,
    upload_preview,
    upload_receive,
    upload_resume,
)
from annotate.uploads.limits import format_bytes
from annotate.uploads.reading import ACCEPTED
from annotate.uploads.rows import ImageCell
from jobs.selectors import job_progress

# What a form adds around its file.
_FORM_OVERHEAD = 64 * 1024
REJECTED_A_PAGE = 100
_SHOWN_COLUMNS = 30
_SHOWN_CHARS = 240


@csrf_exempt  # the token is in the body, which is read only once its size is known: the inner view checks it
@require_http_methods(["GET", "POST"])
def uploads(request: HttpRequest, project_id: int) -> HttpResponse:
    page_request = cast(PageRequest, request)
    project = project_for(page_request.user, project_id, may=to_manage(page_request.method))
    if _content_length(request) > settings.MAX_UPLOAD_BYTES + _FORM_OVERHEAD:
        form = UploadForm()
        problem = (
            f"The file is larger than {format_bytes(settings.MAX_UPLOAD_BYTES)}, which is the limit. "
            "Split it into several uploads."
        )
        response = _uploads_page(page_request, project, form, problem=problem, status=413)
        response.headers["Connection"] = "close"
        return response
    try:
        return _uploads(page_request, project)
    except (OSError, DatabaseError, FullDisk) as error:
        if not is_full_disk(error):
            raise
        # There was no room for it while it came in, or where it is kept.
        response = _uploads_page(page_request, project, UploadForm(), problem=FULL_DISK, status=507)
        response.headers["Connection"] = "close"
        return response


@csrf_protect
def _uploads(request: Any, project: Project) -> HttpResponse:
    form = UploadForm(sent(request), request.FILES if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            upload = upload_receive(
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
            return redirect("upload", project.pk, upload.pk)
    refused = request.method == "POST"
    return _uploads_page(request, project, form, status=422 if refused else 200)


def _content_length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _uploads_page(
    request: PageRequest, project: Project, form: UploadForm, *, problem: str = "", status: int = 200
) -> HttpResponse:
    return render(
        request,
        "uploads/list.html",
        {
            "project": project,
            "can": permissions(request.user, project),
            "form": form,
            "problem": problem,
            "uploads": project.uploads.select_related("created_by", "job"),
            "accepted": ACCEPTED,
            "max_bytes": settings.MAX_UPLOAD_BYTES,
            "max_size": format_bytes(settings.MAX_UPLOAD_BYTES),
        },
        status=status,
    )


def _upload_of(request: PageRequest, project_id: int, upload_id: int) -> Upload:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    return get_object_or_404(project.uploads.select_related("project", "job"), pk=upload_id)


@require_http_methods(["GET", "POST"])
def upload(request: PageRequest, project_id: int, upload_id: int) -> HttpResponse:
    row = _upload_of(request, project_id, upload_id)
    if row.state == Upload.State.RECEIVED:
        return _mapping_page(request, row)
    if request.method == "POST":
        messages.error(request, "This upload is already imported or being imported.")
        return redirect("upload", project_id, row.pk)
    return _import_page(request, row)


def _mapping_page(request: PageRequest, row: Upload) -> HttpResponse:
    context: dict[str, Any] = {
        "project": row.project,
        "can": permissions(request.user, row.project),
        "upload": row,
        "size": format_bytes(row.size),
    }
    try:
        preview = upload_preview(row, no_header=_no_header(request))
    except Refusal as refusal:
        return render(request, "uploads/unreadable.html", context | {"problem": refusal.sentence})
    form = MappingForm(sent(request), upload=row, columns=preview.columns, suggested=preview.mapping)
    if request.method == "POST" and form.is_valid():
        try:
            upload_import(
                upload=row,
                user=request.user,
                mapping=form.mapping(),
                add_labels=form.cleaned_data.get("add_labels", False),
                all_or_nothing=form.cleaned_data["all_or_nothing"],
                if_different=form.cleaned_data["if_different"] or Upload.IfDifferent.KEEP,
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("upload", row.project_id, row.pk)
    context |= {"form": form, "preview": preview, "same": upload_like(row), **preview_table(preview)}
    return render(request, "uploads/mapping.html", context, status=422 if form.errors else 200)


def _no_header(request: PageRequest) -> bool | None:
    """What the page was asked for, or the sent form says, of the file's first line; None where nothing does."""
    if request.method == "POST":
        return request.POST.get("no_header") == "True"
    return {"no": True, "yes": False}.get(request.GET.get("header", ""))


def preview_table(preview: Preview) -> dict[str, Any]:
    """The first rows as text, long ones cut."""
    columns = preview.columns[:_SHOWN_COLUMNS]
    return {
        "columns": columns,
        "hidden_columns": len(preview.columns) - len(columns),
        "rows": [
            (row.number, [(column, _cell(row.values.get(column))) for column in columns])
            for row in preview.rows
        ],
    }


def _cell(value: Any) -> str:
    if isinstance(value, ImageCell):
        return f"image, {format_bytes(len(value.data))}"
    text = "" if value is None else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def _import_page(request: PageRequest, row: Upload) -> HttpResponse:
    after = number_of(request.GET.get("after", ""))
    rejected = row.rejected_rows.filter(row__gt=after or 0)
    page = list(rejected[: REJECTED_A_PAGE + 1])
    context = {
        "project": row.project,
        "can": permissions(request.user, row.project),
        "upload": row,
        "size": format_bytes(row.size),
        "job": row.job,
        "progress": job_progress(row.job) if row.job else None,
        "rejected_rows": page[:REJECTED_A_PAGE],
        "next_after": page[REJECTED_A_PAGE - 1].row if len(page) > REJECTED_A_PAGE else None,
        "is_first": not after,
        "is_live": row.state == Upload.State.IMPORTING and (row.job is None or row.job.is_active),
    }
    template = "uploads/import_state.html" if request.htmx else "uploads/import.html"
    return render(request, template, context)


@require_GET
def upload_rejected(request: PageRequest, project_id: int, upload_id: int) -> StreamingHttpResponse:
    """The rejected rows with their reasons and their own columns as CSV, streamed."""
    row = _upload_of(request, project_id, upload_id)
    columns, rows = rejection_table(row)
    return csv_response(f"rejected-rows-{row.pk}.csv", columns, rows)


@require_POST
def upload_action(request: PageRequest, project_id: int, upload_id: int, action: str) -> HttpResponse:
    """Resume a paused import, or cancel one."""
    row = _upload_of(request, project_id, upload_id)
    try:
        act = upload_resume if action == "resume" else upload_cancel
        act(upload=row, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    return redirect("upload", project_id, row.pk)


@require_POST
def upload_delete(request: PageRequest, project_id: int, upload_id: int) -> HttpResponse:
    """Throw away an upload from which no item came."""
    row = _upload_of(request, project_id, upload_id)
    try:
        upload_discard(upload=row, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
        return redirect("upload", project_id, row.pk)
    messages.success(request, f"“{row.filename}” is thrown away.")
    return redirect("uploads", project_id)
