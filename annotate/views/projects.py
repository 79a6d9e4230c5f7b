"""A new project, and a project's settings: name, guidelines, labels, the end."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.forms import (
    LabelForm,
    ProjectDeleteForm,
    ProjectForm,
    RefusableForm,
    project_settings_form,
    sent,
)
from annotate.models import Label, Project
from annotate.requests import PageRequest
from annotate.services.projects import (
    label_add,
    label_delete,
    label_update,
    project_create,
    project_delete,
    project_update,
)

LABELS_A_PAGE = 100


@require_http_methods(["GET", "POST"])
def project_new(request: PageRequest) -> HttpResponse:
    form = ProjectForm(sent(request))
    if request.method == "POST" and form.is_valid():
        try:
            project = project_create(
                user=request.user,
                name=form.cleaned_data["name"],
                task_type=form.cleaned_data["task_type"],
                instructions=form.cleaned_data["instructions"],
                labels=form.label_names(),
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("uploads", project.pk)
    return render(request, "projects/new.html", {"form": form}, status=_status(form))


@require_http_methods(["GET", "POST"])
def project_settings(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = project_settings_form(project, sent(request))
    if request.method == "POST" and form.is_valid():
        try:
            project_update(project=project, user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "Saved.")
            return redirect("project_settings", project.pk)
    return _settings_page(request, project, form=form)


@require_POST
def label_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    form = LabelForm(request.POST, auto_id="new-label-%s")
    if form.is_valid():
        try:
            label_add(project=project, user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return redirect("project_settings", project.pk)
    return _settings_page(request, project, new_label_form=form)


@require_POST
def label_edit(request: PageRequest, project_id: int, label_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    label = get_object_or_404(project.labels, pk=label_id)
    form = LabelForm(request.POST, auto_id=f"label-{label.pk}-%s")
    if form.is_valid():
        try:
            label_update(label=label, user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The label is saved.")
            return redirect("project_settings", project.pk)
    return _settings_page(request, project, edited_label=(label.pk, form))


@require_POST
def label_remove(request: PageRequest, project_id: int, label_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    label = get_object_or_404(project.labels, pk=label_id)
    try:
        label_delete(label=label, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    return redirect("project_settings", project.pk)


@require_POST
def project_remove(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.OWN)
    form = ProjectDeleteForm(request.POST)
    if form.is_valid():
        try:
            project_delete(project=project, confirm_name=form.cleaned_data["confirm_name"])
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"The project “{project.name}” is deleted.")
            return redirect("projects")
    return _settings_page(request, project, delete_form=form)


def _settings_page(
    request: PageRequest,
    project: Project,
    *,
    edited_label: tuple[int, LabelForm] | None = None,
    **bound: RefusableForm,
) -> HttpResponse:
    """The settings with every form on them; `bound` and `edited_label` hold those that were sent and refused."""
    page = Paginator(project.labels.order_by("position"), LABELS_A_PAGE).get_page(request.GET.get("labels"))
    edited_id, edited_form = edited_label or (None, None)
    context: dict[str, Any] = {
        "project": project,
        "can": permissions(request.user, project),
        "form": project_settings_form(project),
        "new_label_form": LabelForm(auto_id="new-label-%s"),
        "delete_form": ProjectDeleteForm(),
        "labels": page,
        "label_rows": [
            (label, edited_form if label.pk == edited_id else _label_form(label), label.pk == edited_id)
            for label in page
        ],
        **bound,
    }
    refused = edited_label is not None or any(form.errors for form in bound.values())
    return render(request, "projects/settings.html", context, status=422 if refused else 200)


def _label_form(label: Label) -> LabelForm:
    return LabelForm(
        initial={"name": label.name, "description": label.description}, auto_id=f"label-{label.pk}-%s"
    )


def _status(form: RefusableForm) -> int:
    return 422 if form.is_bound and form.errors else 200
