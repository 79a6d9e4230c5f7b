"""The form of a new criticism run: whose labels, and who criticizes them."""

from typing import Any

from django import forms

from annotate.models import AnnotationRun, ModelRun, Project, User
from annotate.run_forms import RunForm
from criticize.strategies import STRATEGIES, Strategy
from jobs.models import Job


class CriticismRunForm(RunForm):
    annotation_run = forms.ModelChoiceField(
        AnnotationRun.objects.none(),
        empty_label=None,
        label="Labels of",
        error_messages={
            "required": "Choose the annotation run whose labels are to be criticized.",
            "invalid_choice": "Choose one of this project's finished annotation runs.",
        },
    )

    field_order = ["annotation_run"]

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        runs = project.annotation_runs.select_related("job").exclude(job__state__in=Job.UNFINISHED)
        self.fields["annotation_run"].queryset = runs  # type: ignore[attr-defined]
        strategy = self.fields["strategy"] = forms.ChoiceField(
            choices=[(name, each.label) for name, each in STRATEGIES.items()],
            initial="cot",
            required=self.fields["strategy"].required,
            widget=forms.RadioSelect,
            error_messages={"required": "Choose a strategy."},
        )
        strategy.template_name = "criticize/strategy_field.html"

    @property
    def strategies(self) -> list[Strategy]:
        """As the page explains them."""
        return list(STRATEGIES.values())

    @property
    def is_self_criticism(self) -> bool:
        """Whether the valid form lets the annotator's own model criticize it."""
        run, connection = self.cleaned_data["annotation_run"], self.cleaned_data["connection"]
        return (
            self.cleaned_data["kind"] == ModelRun.Kind.PROMPTED
            and connection is not None
            and (run.provider, run.model) == (connection.provider, self.cleaned_data["model"].strip())
        )
