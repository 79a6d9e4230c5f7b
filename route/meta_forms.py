"""Forms of the router between a cheap and a premium annotator: the comparison, the training, and the plan."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms

from annotate.models import AnnotationRun, ModelRun, Project, User
from annotate.run_forms import RunForm
from route.comparisons import positions_of
from route.forms import RefusableForm, VectorForm
from route.models import JudgeRun
from route.services.meta_plans import MetaLimit
from route.services.meta_routers import MOST_AGENTS, MetaChoice, annotators_of, finished_judge_runs
from route.services.routers import offered_runs, price_of_agent

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
    ("premium_share", "At most this share of items for others than the cheap annotator, from 0 to 1"),
    ("extra_cost", "At most these US$ an item on average, above the cheap annotator's"),
    ("w", "w: the gain in right answers that each extra US$ must bring"),
]


class _RunField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, run: AnnotationRun) -> str:
        is_candidate = run.scope == AnnotationRun.Scope.CALIBRATION
        return f"{run}{', a candidate on the calibration items' if is_candidate else ''}"


@dataclass(frozen=True, slots=True)
class AnnotatorRow:
    """An annotator to tick, and whether it is the default, as the form shows them."""

    run: AnnotationRun
    price: Decimal | None
    is_chosen: bool
    is_default: bool


class JudgeForm(RunForm):
    """Which model compares answers. `runs` are those whose answers can be compared, in order."""

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        self.fields["kind"] = forms.ChoiceField(
            choices=[(ModelRun.Kind.PROMPTED, "A model")],
            initial=ModelRun.Kind.PROMPTED,
            widget=forms.HiddenInput,
            error_messages={"required": "Choose a model."},
        )
        self.runs = sorted(offered_runs(project), key=lambda run: run.pk)
        self.offered = len(self.runs)


class JudgeRunForm(JudgeForm):
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
        runs = AnnotationRun.objects.filter(pk__in=[run.pk for run in self.runs]).order_by("pk")
        for name in ("cheap", "premium"):
            self.fields[name].queryset = runs.select_related("project", "job")  # type: ignore[attr-defined]
        if self.offered > 1:
            self.fields["premium"].initial = self.runs[-1].pk

    def pair(self) -> dict[str, AnnotationRun]:
        """The two annotators of the valid form."""
        return {"cheap": self.cleaned_data["cheap"], "premium": self.cleaned_data["premium"]}


class MissingComparisonsForm(JudgeForm):
    """Among whom every two are to be compared, and by which model."""

    agents = forms.MultipleChoiceField(
        error_messages={
            "required": "Choose two or more annotators.",
            "invalid_choice": "Choose annotators of the list.",
        }
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        self.project = project
        # Who answered calibration items alone has said nothing that a model could compare.
        at_work = [run for run in self.runs if run.scope != AnnotationRun.Scope.CALIBRATION]
        field = self.fields["agents"]
        field.choices = [(str(run.pk), run.who) for run in self.runs]  # type: ignore[attr-defined]
        field.initial = [str(run.pk) for run in at_work[-MOST_AGENTS:]]
        self.fields["spend_limit"].label = "Spend limit of each comparison in US$"

    @property
    def rows(self) -> list[AnnotatorRow]:
        """The annotators to tick, as they are ticked."""
        ticked = {str(each) for each in self["agents"].value() or []}
        return [
            AnnotatorRow(run, price_of_agent(self.project, run), str(run.pk) in ticked, False)
            for run in self.runs
        ]

    def agents_chosen(self) -> list[AnnotationRun]:
        """The annotators of the valid form."""
        return [run for run in self.runs if str(run.pk) in self.cleaned_data["agents"]]


class _JudgeRunsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, run: JudgeRun) -> str:
        return (
            f"{run.cheap.who} against {run.premium.who}, compared by {run.who} ({run.job.succeeded:,} items)"
        )


class MetaForm(VectorForm):
    """Among whom a router chooses, what it learns from, and how."""

    agents = forms.MultipleChoiceField(
        error_messages={
            "required": "Choose two or more annotators.",
            "invalid_choice": "Choose annotators whose answers were compared.",
        }
    )
    default = forms.ChoiceField(
        error_messages={
            "required": "Choose the default annotator.",
            "invalid_choice": "Choose one of the annotators.",
        }
    )
    judge_runs = _JudgeRunsField(
        JudgeRun.objects.none(),
        required=False,
        label="Comparisons",
        help_text="None: the newest of each two annotators.",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"invalid_choice": "Choose comparisons of the list."},
    )
    learner = forms.ChoiceField(choices=LEARNERS, initial="dr")
    regressor = forms.ChoiceField(choices=REGRESSORS, initial="forest", label="Regression")
    scaling = forms.ChoiceField(
        choices=SCALINGS, initial="variance", required=False, label="Gold and preferences on one scale"
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        self.project = project
        self.runs = finished_judge_runs(project)
        self.annotators = annotators_of(self.runs)
        choices = [(str(run.pk), run.who) for run in self.annotators]
        self.fields["agents"].choices = choices  # type: ignore[attr-defined]
        self.fields["default"].choices = choices  # type: ignore[attr-defined]
        queryset = JudgeRun.objects.filter(pk__in=[run.pk for run in self.runs]).order_by("-pk")
        self.fields["judge_runs"].queryset = queryset.select_related(  # type: ignore[attr-defined]
            "job", "cheap", "premium"
        )
        if self.runs:
            self._start_from(self.initial.get("judge_run"))

    def _start_from(self, judge_run_id: Any) -> None:
        """Tick the two annotators of this comparison, or of the newest."""
        asked = [run for run in self.runs if str(run.pk) == str(judge_run_id)]
        first = asked[0] if asked else self.runs[0]
        positions = positions_of(self.annotators)
        default, other = (str(self.annotators[positions[pk]].pk) for pk in (first.cheap_id, first.premium_id))
        self.initial["agents"], self.initial["default"] = [default, other], default
        self.initial["judge_runs"] = [run.pk for run in asked]

    @property
    def rows(self) -> list[AnnotatorRow]:
        """The annotators to tick, as they are ticked."""
        ticked = {str(each) for each in self["agents"].value() or []}
        default = str(self["default"].value())
        return [
            AnnotatorRow(
                run, price_of_agent(self.project, run), str(run.pk) in ticked, str(run.pk) == default
            )
            for run in self.annotators
        ]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "default" in cleaned and "agents" in cleaned and cleaned["default"] not in cleaned["agents"]:
            self.add_error("default", "The default is one of the annotators that you tick.")
        return cleaned

    def choice(self) -> MetaChoice:
        """What the valid form says."""
        cleaned = self.cleaned_data
        chosen = [run for run in self.annotators if str(run.pk) in cleaned["agents"]]
        return MetaChoice(
            agents=sorted(chosen, key=lambda run: (str(run.pk) != cleaned["default"], self._price(run))),
            judge_runs=list(cleaned["judge_runs"]),
            learner=cleaned["learner"],
            regressor=cleaned["regressor"],
            scaling=cleaned["scaling"] or None,
            vectors=self.vector_choice(),
            name=cleaned["name"],
            seed=cleaned["seed"],
        )

    def _price(self, run: AnnotationRun) -> Decimal:
        """By which annotators are ordered: those without a price last."""
        price = price_of_agent(self.project, run)
        return Decimal("Infinity") if price is None else price


class MetaPlanForm(RefusableForm):
    """How much annotators other than the cheap one may be used."""

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
