"""Forms of the router between a cheap and a premium annotator: the comparison, the training, and the plan."""

from typing import Any

from django import forms

from annotate.models import AnnotationRun, ModelRun, Project, User
from annotate.run_forms import RunForm
from jobs.models import Job
from route.forms import RefusableForm, VectorForm
from route.models import JudgeRun
from route.services.meta_plans import MetaLimit
from route.services.meta_routers import MetaChoice
from route.services.routers import offered_runs

LEARNERS = [
    ("dr", "DR-learner: corrects the judge twice over, the usual choice"),
    ("r", "R-learner: steadier with very little gold"),
]
REGRESSORS = [("forest", "Random forest"), ("boosting", "Gradient boosting")]
SCALINGS = [
    ("variance", "By variance"),
    ("maximum", "By the largest value"),
    ("wasserstein", "By Wasserstein distance"),
    ("", "Not at all"),
]
LIMITS = [
    ("premium_share", "At most this share of items, from 0 to 1"),
    ("extra_cost", "At most these US$ an item on average, above the cheap annotator's"),
    ("w", "w: the gain in right answers that each extra US$ must bring"),
]


class _RunField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, run: AnnotationRun) -> str:
        is_candidate = run.scope == AnnotationRun.Scope.CALIBRATION
        return f"{run}{', a candidate on the calibration items' if is_candidate else ''}"


class JudgeRunForm(RunForm):
    """Whose answers are compared, and by which model."""

    cheap = _RunField(
        AnnotationRun.objects.none(),
        label="Cheap annotator",
        empty_label=None,
        error_messages={
            "required": "Choose the cheap annotator.",
            "invalid_choice": "Choose one of the list.",
        },
    )
    premium = _RunField(
        AnnotationRun.objects.none(),
        label="Premium annotator",
        empty_label=None,
        error_messages={
            "required": "Choose the premium annotator.",
            "invalid_choice": "Choose one of the list.",
        },
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        self.fields["kind"] = forms.ChoiceField(
            choices=[(ModelRun.Kind.PROMPTED, "A model")],
            initial=ModelRun.Kind.PROMPTED,
            widget=forms.HiddenInput,
            error_messages={"required": "Choose a model."},
        )
        offered = sorted(offered_runs(project), key=lambda run: run.pk)
        self.offered = len(offered)
        runs = AnnotationRun.objects.filter(pk__in=[run.pk for run in offered]).order_by("pk")
        for name in ("cheap", "premium"):
            self.fields[name].queryset = runs.select_related("project", "job")  # type: ignore[attr-defined]
        if len(offered) > 1:
            self.fields["premium"].initial = offered[-1].pk

    def pair(self) -> dict[str, AnnotationRun]:
        """The two annotators of the valid form."""
        return {"cheap": self.cleaned_data["cheap"], "premium": self.cleaned_data["premium"]}


class _JudgeRunField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, run: JudgeRun) -> str:
        return (
            f"{run.cheap.who} against {run.premium.who}, compared by {run.who} ({run.job.succeeded:,} items)"
        )


class MetaForm(VectorForm):
    """What a router between two annotators learns from, and how."""

    judge_run = _JudgeRunField(
        JudgeRun.objects.none(),
        label="Comparison",
        empty_label=None,
        error_messages={"required": "Choose a comparison.", "invalid_choice": "Choose one of the list."},
    )
    learner = forms.ChoiceField(choices=LEARNERS, initial="dr")
    regressor = forms.ChoiceField(choices=REGRESSORS, initial="forest", label="Regression")
    scaling = forms.ChoiceField(
        choices=SCALINGS, initial="variance", required=False, label="Gold and preferences on one scale"
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        runs = project.judge_runs.exclude(job__state__in=Job.UNFINISHED)
        self.runs = runs.select_related(
            "job", "cheap__job", "cheap__project", "premium__job", "premium__project"
        )
        self.fields["judge_run"].queryset = self.runs  # type: ignore[attr-defined]

    def choice(self) -> MetaChoice:
        """What the valid form says."""
        cleaned = self.cleaned_data
        return MetaChoice(
            judge_run=cleaned["judge_run"],
            learner=cleaned["learner"],
            regressor=cleaned["regressor"],
            scaling=cleaned["scaling"] or None,
            vectors=self.vector_choice(),
            name=cleaned["name"],
            seed=cleaned["seed"],
        )


class MetaPlanForm(RefusableForm):
    """How much the premium annotator may be used."""

    limit = forms.ChoiceField(choices=LIMITS, initial="premium_share", label="Limit")
    amount = forms.FloatField(
        initial=0.3,
        min_value=0,
        label="Amount",
        error_messages={
            "required": "Enter the limit as a number.",
            "invalid": "Enter a number, such as 0.3.",
        },
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal", "min": "0"}),
    )
    spend_limit = forms.DecimalField(
        required=False,
        label="Spend limit of each model in US$",
        help_text="A run pauses before it would cost more.",
        error_messages={"invalid": "Enter a number, such as 0.5."},
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal", "min": "0"}),
    )

    def chosen(self) -> MetaLimit:
        """The limit of the valid form."""
        return MetaLimit(**{self.cleaned_data["limit"]: self.cleaned_data["amount"]})
