"""Exports: the list with the form for a new one, and the files themselves."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from annotate.access import permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.requests import PageRequest
from review.data_card import card_json, cell_text, readme, sections
from review.export_download import download_response
from review.forms import ExportForm
from review.models import Export, ReviewRound
from review.services.exports import export_cancel, export_create, export_resume

CONTENT_TYPES = {
    Export.Format.CSV: "text/csv; charset=utf-8",
    Export.Format.JSONL: "application/x-ndjson; charset=utf-8",
    Export.Format.PARQUET: "application/vnd.apache.parquet",
    Export.Format.SQUAD: "application/json",
}
ARCHIVE_TYPE = "application/zip"


@require_http_methods(["GET", "POST"])
def exports(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = ExportForm(request.POST or None, project=project, initial={"round": request.GET.get("round")})
    if request.method == "POST" and form.is_valid():
        try:
            export_create(user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("exports", project.pk)
    made = project.exports.select_related("job", "round", "created_by")
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "form": form,
        "exports": made,
        "is_writing": any(export.job.is_active for export in made),
        "has_rounds": project.review_rounds.filter(kind__in=ReviewRound.EXPORTED).exists(),
    }
    is_list_alone = request.htmx and request.GET.get("part") == "list"
    return render(request, "review/export_list.html" if is_list_alone else "review/exports.html", context)


@require_safe
def export_download(request: PageRequest, project_id: int, export_id: int) -> HttpResponseBase:
    """The file, or the part of it that a download which broke off still lacks."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    export = get_object_or_404(project.exports.all(), pk=export_id)
    if not export.file:
        raise Http404("This export is not written yet.")
    content_type = ARCHIVE_TYPE if export.is_archive else CONTENT_TYPES[Export.Format(export.format)]
    return download_response(request, export, content_type)


@require_POST
def export_action(request: PageRequest, project_id: int, export_id: int, action: str) -> HttpResponse:
    """Go on with a paused export, or cancel one."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    export = get_object_or_404(project.exports.select_related("job", "project"), pk=export_id)
    act = export_resume if action == "resume" else export_cancel
    try:
        act(export=export, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    return redirect("exports", project.pk)


@require_GET
def export_card(request: PageRequest, project_id: int, export_id: int) -> HttpResponse:
    """The data card as it was when the file was written; with `as` one of its two files."""
    project = project_for(request.user, project_id, may=to_manage(request.method))
    export = get_object_or_404(project.exports.all(), pk=export_id)
    if not export.card:
        raise Http404("This export has no data card: it is not written yet.")
    match request.GET.get("as"):
        case "json":
            return HttpResponse(card_json(export.card), content_type="application/json")
        case "readme":
            return HttpResponse(readme(export.card), content_type="text/markdown; charset=utf-8")
    tables = [
        (section, [[cell_text(cell) for cell in row] for row in section.rows])
        for section in sections(export.card)
    ]
    context = {"project": project, "export": export, "card": export.card, "tables": tables}
    return render(request, "review/export_card.html", context)
