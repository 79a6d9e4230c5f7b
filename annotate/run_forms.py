"""The form that says who answers: a model behind a connection, or the trained classifier. Criticism runs share it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django import forms

from annotate.access import connections_of
from annotate.errors import Refusal
from annotate.examples import labelled_items, most_examples
from annotate.models import AnnotationRun, Connection, ModelRun, Project, User
from annotate.prompts import STEPS
from annotate.services.runs import TRAINED, ModelChoice, training_parameters
from jobs.models import Job
from mllm.adapters.batches import LONGEST_WAIT_HOURS
from mllm.registry import PROVIDERS

# Alternatives asked for at each token: the most that OpenAI-compatible servers commonly allow is 20, few are enough.
TOP_LOGPROBS = 5

STRATEGIES = [
    ("cot", "Think first, then answer: more accurate, and its reasoning helps reviewers"),
    ("naive", "Answer only: cheaper and faster"),
]
STEPS_CHOICE = (STEPS, "Numbered steps, then the label: a router can learn to read along")
ANSWER_FORMATS = [
    ("", "Automatic: what suits the connection"),
    ("bracket", "In brackets: works with any model"),
    ("structured", "Structured: a JSON schema that the provider enforces"),
]


_ASKED_FOR = ("kind", "connection", "model", "strategy", "confidence", "examples")


def asked_for(values: Mapping[str, str]) -> dict[str, str]:
    """What an address says about the run that somebody wants, as the form's initial values."""
    return {name: values[name] for name in _ASKED_FOR if name in values}


class RunForm(forms.Form):
    """Who answers, how, and what it may cost at most. `training_items` is 0 where nothing can be trained yet."""

    kind = forms.ChoiceField(
        choices=[(ModelRun.Kind.TRAINED, "Trained"), (ModelRun.Kind.PROMPTED, "A model")],
        widget=forms.RadioSelect,
        error_messages={"required": "Choose a model or the trained classifier."},
    )
    connection = forms.ModelChoiceField(
        Connection.objects.none(),
        empty_label="Choose a connection",
        error_messages={
            "required": "Choose a connection.",
            "invalid_choice": "Choose one of your connections.",
        },
    )
    model = forms.CharField(
        max_length=200,
        error_messages={"required": "Name the model."},
        help_text="As the provider names it. The list shows what the connection offers.",
        widget=forms.TextInput(attrs={"list": "models", "autocomplete": "off", "spellcheck": "false"}),
    )
    strategy = forms.ChoiceField(choices=STRATEGIES, initial="cot")
    answer_format = forms.ChoiceField(choices=ANSWER_FORMATS, required=False)
    log_probabilities = forms.BooleanField(
        required=False,
        label="Keep log-probabilities",
        help_text="How sure the model was of each token of its answer. Not every provider gives them.",
    )
    by_batch = forms.BooleanField(
        required=False,
        label="Hand the calls in as batches",
        help_text=f"For half the price, and answered within {LONGEST_WAIT_HOURS} hours instead of at once. OpenAI and "
        "Anthropic take batches; most other servers do not.",
    )
    spend_limit = forms.DecimalField(
        required=False,
        max_digits=12,
        decimal_places=4,
        label="Spend limit in US$",
        help_text="The run pauses before it would cost more. Empty: no limit.",
        error_messages={"invalid": "Enter the limit as a number, such as 5 or 0.50."},
        widget=forms.NumberInput(attrs={"min": "0", "step": "any", "inputmode": "decimal"}),
    )

    # The browser would refuse to send a field that is required and hidden.
    use_required_attribute = False

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        connections = connections_of(user)
        self.fields["connection"].queryset = connections  # type: ignore[attr-defined]
        self.has_connections = connections.exists()
        self.training_items = 0
        self.training_problem = ""
        try:
            self.training_items = training_parameters(project)["training_items"]
        except Refusal as refusal:
            self.training_problem = refusal.sentence
        self.fields["kind"].initial = self._likely_kind()

    def full_clean(self) -> None:
        """Check the form. What only a model needs is not missing without one, and yet the page shows it as required."""
        spared = () if self.chosen_kind == ModelRun.Kind.PROMPTED else ("connection", "model", "strategy")
        for name in spared:
            self.fields[name].required = False
        super().full_clean()
        for name in spared:
            self.fields[name].required = True

    def _likely_kind(self) -> str:
        """A model where one is connected; else what can be run without one."""
        is_prompted = self.has_connections or not self.training_items
        return ModelRun.Kind.PROMPTED if is_prompted else ModelRun.Kind.TRAINED

    @property
    def chosen_kind(self) -> str:
        return str(self["kind"].value())

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        connection = cleaned.get("connection")
        if cleaned.get("kind") == ModelRun.Kind.PROMPTED and cleaned.get("log_probabilities") and connection:
            provider = PROVIDERS[connection.provider]
            if not provider.capabilities.logprobs:
                self.add_error("log_probabilities", f"{provider.label} gives no log-probabilities.")
        return cleaned

    def choice(self) -> ModelChoice:
        """What the valid form says. Whether it can be run, `annotate.services.runs.check_choice` says."""
        cleaned = self.cleaned_data
        if cleaned["kind"] == ModelRun.Kind.TRAINED:
            return TRAINED
        return ModelChoice(
            kind=cleaned["kind"],
            connection=cleaned["connection"],
            model=cleaned["model"],
            strategy=cleaned["strategy"],
            answer_format=cleaned["answer_format"],
            top_logprobs=TOP_LOGPROBS if cleaned["log_probabilities"] else 0,
            by_batch=cleaned["by_batch"],
        )

    def refuse(self, refusal: Refusal) -> None:
        """Show why a service refused, at the field it names."""
        field = "log_probabilities" if refusal.field == "top_logprobs" else refusal.field
        self.add_error(field if field in self.fields else None, refusal.sentence)


class AnnotationRunForm(RunForm):
    """The same with what only annotators can be asked for."""

    confidence = forms.BooleanField(
        required=False,
        label="Ask how sure the model is",
        help_text="It states a confidence with each label, which can be combined with what a criticizer says.",
    )
    examples = forms.IntegerField(
        required=False,
        min_value=0,
        label="Examples",
        error_messages={"invalid": "Enter a number of examples, such as 4."},
        widget=forms.NumberInput(attrs={"inputmode": "numeric"}),
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        if project.task.is_written:
            del self.fields["confidence"], self.fields["examples"]
            return
        self.fields["strategy"].choices = [*STRATEGIES, STEPS_CHOICE]  # type: ignore[attr-defined]
        labelled, most = len(labelled_items(project)), most_examples(project)
        examples = self.fields["examples"]
        examples.initial = 0
        examples.widget.attrs |= {"min": "0", "max": str(most)}
        if labelled:
            examples.help_text = (
                f"Shown with each item: those of your {labelled:,} labeled items that are most like it, at most "
                f"{most}, and never the item itself. Prompts grow longer, and cost more."
            )
        else:
            examples.disabled = True
            examples.help_text = (
                "They are drawn from labeled items, and there are none. Label a calibration set first."
            )

    def choice(self) -> ModelChoice:
        choice = super().choice()
        if choice.is_trained:
            return choice
        cleaned = self.cleaned_data
        return replace(
            choice, confidence=cleaned.get("confidence", False), examples=cleaned.get("examples") or 0
        )


VOTE, DISCUSSION = "vote", "discussion"


class CombineForm(forms.Form):
    """Which finished runs are to vote or to discuss. `offered` are those on the page, without candidates."""

    sources = forms.ModelMultipleChoiceField(
        AnnotationRun.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        label="Annotators",
        error_messages={
            "required": "Choose two or more different runs.",
            "invalid_choice": "Choose finished runs of this project.",
        },
    )
    how = forms.ChoiceField(
        choices=[(VOTE, "Vote"), (DISCUSSION, "Discuss, then vote")],
        initial=VOTE,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose a vote or a discussion."},
    )
    spend_limit = forms.DecimalField(
        required=False,
        max_digits=12,
        decimal_places=4,
        label="Spend limit for each annotator, in US$",
        help_text="Its run pauses before it would cost more. Empty: no limit.",
        error_messages={"invalid": "Enter the limit as a number, such as 5 or 0.50."},
        widget=forms.NumberInput(attrs={"min": "0", "step": "any", "inputmode": "decimal"}),
    )
    use_required_attribute = False

    def __init__(self, data: Mapping[str, Any] | None = None, *, project: Project) -> None:
        super().__init__(data, auto_id="combine-%s")
        finished = project.annotation_runs.exclude(job__state__in=Job.UNFINISHED)
        finished = finished.select_related("job", "connection").order_by("pk")
        self.fields["sources"].queryset = finished  # type: ignore[attr-defined]
        self.offered = [run for run in finished if run.scope == AnnotationRun.Scope.PROJECT]
        self.can_combine = len(self.offered) > 1 and not project.task.is_written

    @property
    def chosen_how(self) -> str:
        return str(self["how"].value())

    @property
    def chosen_ids(self) -> set[str]:
        return {str(pk) for pk in self["sources"].value() or ()}

    def chosen(self) -> list[AnnotationRun]:
        """The runs that the valid form names, in order of their start."""
        return list(self.cleaned_data["sources"])

    def refuse(self, refusal: Refusal) -> None:
        """Show why a service refused, at the field it names."""
        self.add_error(refusal.field if refusal.field in self.fields else None, refusal.sentence)
