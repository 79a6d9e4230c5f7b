"""The form of a new criticism run: whose labels, and who criticizes them."""

from dataclasses import replace
from typing import Any

from django import forms

from annotate.models import AnnotationRun, ModelRun, Project, User
from annotate.run_forms import RunForm
from criticize.strategies import STRATEGIES, Strategy
from jobs.models import Job


def strategies_of(project: Project) -> list[Strategy]:
    """Those that can criticize the project's answers, as the page explains them."""
    if project.task.is_checkable:
        return list(STRATEGIES.values())
    verb = "checks each fact" if project.task.checks_facts else "rates the answer"
    return [
        replace(STRATEGIES["cot"], label="Think, then judge", description=f"Reasons first, then {verb}."),
        replace(
            STRATEGIES["naive"],
            label="Judge at once",
            description=f"At once {verb}. Cheaper, and less accurate.",
        ),
    ]


class AnnotationRunField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Runs over the project first; those that only tried a model on the calibration items are named so."""

    def label_from_instance(self, run: AnnotationRun) -> str:
        is_candidate = run.scope == AnnotationRun.Scope.CALIBRATION
        return f"{run}{', a candidate on the calibration items' if is_candidate else ''}"


class CriticismRunForm(RunForm):
    annotation_run = AnnotationRunField(
        AnnotationRun.objects.none(),
        empty_label=None,
        label="What is criticized",
        error_messages={
            "required": "Choose the annotation run that is to be criticized.",
            "invalid_choice": "Choose one of this project's finished annotation runs.",
        },
    )

    field_order = ["annotation_run"]

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        runs = project.annotation_runs.select_related("job").exclude(job__state__in=Job.UNFINISHED)
        runs = runs.exclude(scope=AnnotationRun.Scope.PART).order_by("-scope", "-created_at")
        self.fields["annotation_run"].queryset = runs  # type: ignore[attr-defined]
        strategy = self.fields["strategy"] = forms.ChoiceField(
            choices=[(each.name, each.label) for each in strategies_of(project)],
            initial="cot",
            required=self.fields["strategy"].required,
            widget=forms.RadioSelect,
            error_messages={"required": "Choose a strategy."},
        )
        strategy.template_name = "criticize/strategy_field.html"  # type: ignore[attr-defined]
        self.strategies = strategies_of(project)
        if project.task.is_written:
            self.fields["annotation_run"].label = "Answers of"

    @property
    def is_self_criticism(self) -> bool:
        """Whether the valid form lets the annotator's own model criticize it."""
        run, connection = self.cleaned_data["annotation_run"], self.cleaned_data["connection"]
        return (
            self.cleaned_data["kind"] == ModelRun.Kind.PROMPTED
            and connection is not None
            and (run.provider, run.model) == (connection.provider, self.cleaned_data["model"].strip())
        )
