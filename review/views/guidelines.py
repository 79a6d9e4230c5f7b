"""A project's guidelines, for everybody who works on it; and where those of a label are written."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import May, permissions, project_for, to_manage
from annotate.errors import Refusal
from annotate.forms import RefusableForm, sent
from annotate.guidelines import labels_with_examples
from annotate.models import Label, LabelExample, Project
from annotate.requests import PageRequest, number_of
from annotate.services.guidelines import (
    MOST_CHARACTERS,
    MOST_EXAMPLES,
    MOST_NOTE,
    example_note,
    example_remove,
    guideline_set,
)
from review.blindness import examples_to_hide
from review.keys import label_keys
from review.services.examples import example_add, item_named


class GuidelineForm(RefusableForm):
    guideline = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 14, "dir": "auto"}),
        help_text=f"Markdown, up to {MOST_CHARACTERS:,} characters. Reviewers read this; models read the description.",
    )


class ExampleForm(RefusableForm):
    item = forms.CharField(
        max_length=255,
        strip=False,
        help_text="Its id, as the list of items shows it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    note = forms.CharField(
        required=False,
        max_length=MOST_NOTE,
        label="Why it is one",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


@require_GET
def guidelines(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.ENTER)
    hidden = examples_to_hide(project)
    labels = list(labels_with_examples(project, without=hidden))
    context = {
        "project": project,
        "can": permissions(request.user, project),
        "labels": list(zip(labels, label_keys([label.name for label in labels]), strict=True)),
        "hidden": len(hidden),
    }
    return render(request, "projects/guidelines.html", context)


@require_http_methods(["GET", "POST"])
def label_guideline(request: PageRequest, project_id: int, label_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=to_manage(request.method))
    label = get_object_or_404(project.labels, pk=label_id)
    form = GuidelineForm(sent(request), initial={"guideline": label.guideline})
    if request.method == "POST" and form.is_valid():
        try:
            guideline_set(label=label, user=request.user, text=form.cleaned_data["guideline"])
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"The guideline of “{label.name}” is saved.")
            return redirect("label_guideline", project.pk, label.pk)
    return _label_page(request, project, label, form=form)


@require_POST
def guideline_preview(request: PageRequest, project_id: int) -> HttpResponse:
    """What has been typed so far, as it will be shown. Nothing is saved."""
    project_for(request.user, project_id, may=May.MANAGE)
    text = request.POST.get("guideline", request.POST.get("instructions", ""))
    context = {"text": text[:MOST_CHARACTERS], "excess": max(0, len(text) - MOST_CHARACTERS)}
    return render(request, "projects/guideline_preview.html", context)


@require_POST
def example_new(request: PageRequest, project_id: int) -> HttpResponse:
    """Make an item an example, from the label's page or, with `back=item`, from the item's."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    label = get_object_or_404(project.labels, pk=number_of(request.POST.get("label", "")) or 0)
    form = ExampleForm(request.POST, auto_id="example-%s")
    if form.is_valid():
        try:
            item = item_named(project, form.cleaned_data["item"])
            example_add(label=label, item=item, user=request.user, note=form.cleaned_data["note"])
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"“{item.external_id}” is an example of “{label.name}”.")
            if request.POST.get("back") == "item":
                return redirect(reverse("item", args=[project.pk, item.pk]) + "#examples")
            return redirect(reverse("label_guideline", args=[project.pk, label.pk]) + "#examples")
    return _label_page(request, project, label, example_form=form)


@require_POST
def example_change(request: PageRequest, project_id: int, example_id: int) -> HttpResponse:
    """Save an example's note; or, with `remove`, remove it."""
    project = project_for(request.user, project_id, may=May.MANAGE)
    rows = LabelExample.objects.select_related("label__project", "item").filter(label__project=project)
    example = get_object_or_404(rows, pk=example_id)
    label = example.label
    if "remove" in request.POST:
        example_remove(example=example, user=request.user)
    else:
        try:
            example_note(example=example, user=request.user, note=request.POST.get("note", ""))
        except Refusal as refusal:
            messages.error(request, refusal.sentence)
    if request.POST.get("back") == "item":
        return redirect(reverse("item", args=[project.pk, example.item_id]) + "#examples")
    return redirect(reverse("label_guideline", args=[project.pk, label.pk]) + "#examples")


def _label_page(request: PageRequest, project: Project, label: Label, **bound: RefusableForm) -> HttpResponse:
    examples = label.examples.select_related("item__image", "created_by").order_by("pk")
    context: dict[str, Any] = {
        "project": project,
        "label": label,
        "can": permissions(request.user, project),
        "form": GuidelineForm(initial={"guideline": label.guideline}),
        "example_form": ExampleForm(auto_id="example-%s"),
        "examples": examples,
        "hidden": examples_to_hide(project),
        "is_full": len(examples) >= MOST_EXAMPLES,
        "most_examples": MOST_EXAMPLES,
        **bound,
    }
    refused = any(form.is_bound and form.errors for form in bound.values())
    return render(request, "projects/guideline.html", context, status=422 if refused else 200)
