"""The forms that choose candidates: any number of models of a connection × prompt strategies, in one go."""

import re
from typing import Any

from django import forms

from annotate.access import connections_of
from annotate.errors import Refusal
from annotate.models import AnnotationRun, Connection, ModelRun, Project, User
from annotate.prompts import LABEL_STRATEGIES, STEPS
from annotate.prompts import STRATEGIES as ANNOTATOR_STRATEGIES
from annotate.services.runs import TRAINED, ModelChoice, candidate_parameters, training_parameters
from criticize.strategies import STRATEGIES as CRITICIZER_STRATEGIES

_ANNOTATOR_LABELS = {
    "cot": "Think first, then answer (cot)",
    "naive": "Answer only (naive)",
    STEPS: "Numbered steps, which a router can learn to read (steps)",
}
_OF_MODELS = ("connection", "models", "strategies")


class PairsForm(forms.Form):
    """A connection, its models and the strategies: every pair of them is a candidate. And the trained classifier."""

    connection = forms.ModelChoiceField(
        Connection.objects.none(),
        empty_label="Choose a connection",
        error_messages={"invalid_choice": "Choose one of your connections."},
    )
    models = forms.CharField(
        max_length=4000,
        help_text="One or several, with commas between them. The list shows what the connection offers.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    strategies = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"invalid_choice": "Choose among the strategies listed."},
    )
    trained = forms.BooleanField(required=False)
    spend_limit = forms.DecimalField(
        required=False,
        max_digits=12,
        decimal_places=4,
        label="Spend limit for each, in US$",
        help_text="A run pauses before it would cost more. Empty: no limit.",
        error_messages={"invalid": "Enter the limit as a number, such as 5 or 0.50."},
        widget=forms.NumberInput(attrs={"min": "0", "step": "any", "inputmode": "decimal"}),
    )
    use_required_attribute = False
    what = "annotator"

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = f"{self.what}-%s"
        connections = connections_of(user)
        self.fields["connection"].queryset = connections  # type: ignore[attr-defined]
        self.fields["models"].widget.attrs["list"] = f"{self.what}-model-list"
        self.fields["strategies"].choices = self.strategy_choices()  # type: ignore[attr-defined]
        self.fields["strategies"].initial = ["cot"]
        self.has_connections = connections.exists()
        self.training_problem = ""
        try:
            self.check_training(project)
        except Refusal as refusal:
            self.training_problem = refusal.sentence
        # Without a connection it is the only choice there is.
        self.fields["trained"].initial = not self.has_connections and not self.training_problem

    def full_clean(self) -> None:
        """Check the form. Without a model its fields are not missing, and yet the page shows them as required."""
        for name in _OF_MODELS:
            self.fields[name].required = False
        super().full_clean()
        for name in _OF_MODELS:
            self.fields[name].required = True

    def strategy_choices(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def check_training(self, project: Project) -> None:
        """Raise Refusal where the trained classifier cannot be tried."""
        training_parameters(project)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        names = re.split(r"[,\n]+", cleaned.get("models") or "")
        cleaned["models"] = list(dict.fromkeys(name.strip() for name in names if name.strip()))
        if self.errors:
            return cleaned
        if cleaned["models"] or cleaned["connection"]:
            if cleaned["connection"] is None:
                self.add_error("connection", "Choose the connection of these models.")
            if not cleaned["models"]:
                self.add_error("models", "Name at least one model.")
            elif any(len(name) > 200 for name in cleaned["models"]):
                self.add_error("models", "The name of a model has at most 200 characters.")
            if not cleaned["strategies"]:
                self.add_error("strategies", "Choose at least one strategy.")
        elif not cleaned["trained"]:
            self.add_error(None, "Choose a connection and a model, or the trained classifier.")
        return cleaned

    def choices(self) -> list[ModelChoice]:
        """Every pair that the valid form names, the trained classifier last."""
        cleaned = self.cleaned_data
        pairs = [
            ModelChoice(
                kind=ModelRun.Kind.PROMPTED,
                connection=cleaned["connection"],
                model=model,
                strategy=strategy,
                confidence=bool(cleaned.get("confidence")),
                examples=cleaned.get("examples") or 0,
            )
            for model in cleaned["models"]
            for strategy in cleaned["strategies"]
        ]
        return [*pairs, TRAINED] if cleaned["trained"] else pairs

    def refuse(self, refusal: Refusal) -> None:
        """Show why a service refused, at the field it names."""
        self.add_error(refusal.field if refusal.field in self.fields else None, refusal.sentence)


class AnnotatorsForm(PairsForm):
    confidence = forms.BooleanField(
        required=False,
        label="Ask how sure it is, too",
        help_text="Then its confidence can take part in choosing what is reviewed.",
    )
    examples = forms.IntegerField(
        required=False,
        min_value=0,
        label="Labeled examples shown with each item",
        help_text="The most similar calibration items, never the item itself. Empty: none.",
        error_messages={"invalid": "Enter a whole number.", "min_value": "Enter 0 or more examples."},
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        self.offered = ANNOTATOR_STRATEGIES if project.task.is_written else LABEL_STRATEGIES
        super().__init__(*args, project=project, **kwargs)
        if project.task.is_written:
            del self.fields["confidence"], self.fields["examples"]

    def strategy_choices(self) -> list[tuple[str, str]]:
        return [(name, _ANNOTATOR_LABELS.get(name, name)) for name in sorted(self.offered)]

    def check_training(self, project: Project) -> None:
        candidate_parameters(project)


class CriticizersForm(PairsForm):
    annotators = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "required": "Choose at least one finished annotator to criticize.",
            "invalid_choice": "Choose among the finished annotators listed.",
        },
    )
    what = "criticizer"

    def __init__(self, *args: Any, annotators: list[tuple[AnnotationRun, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.runs = {str(run.pk): run for run, _ in annotators}
        self.fields["annotators"].choices = [  # type: ignore[attr-defined]
            (str(run.pk), name) for run, name in annotators
        ]
        self.fields["annotators"].initial = list(self.runs)

    def strategy_choices(self) -> list[tuple[str, str]]:
        return [(name, _criticizer_label(name)) for name in CRITICIZER_STRATEGIES]

    def annotation_runs(self) -> list[AnnotationRun]:
        return [self.runs[pk] for pk in self.cleaned_data["annotators"]]


def _criticizer_label(name: str) -> str:
    strategy = CRITICIZER_STRATEGIES[name]
    needs = [
        need
        for need, is_needed in (
            ("a provider that gives log-probabilities", strategy.needs_logprobs),
            ("annotators that give their reasoning", strategy.needs_reasoning),
        )
        if is_needed
    ]
    return f"{strategy.label} ({name})" + (f", needs {' and '.join(needs)}" if needs else "")
