"""Forms of routers that read along, and of their runs."""

from typing import Any

from django import forms

from annotate.access import connections_of
from annotate.models import Connection, Project, User
from route.forms import RefusableForm, VectorForm, _number
from route.router_prompts import STRICTNESS
from route.services.trace_routers import MOST_DEMONSTRATIONS, TraceChoice, offered_traced


class TraceForm(VectorForm):
    """Whose traces a router reads, which model reads them, and what is tried."""

    run = forms.ChoiceField(
        label="Annotator",
        help_text="One that reasons in numbered steps and was tried on the calibration items.",
        error_messages={
            "required": "Choose an annotator.",
            "invalid_choice": "Choose one of the annotators.",
        },
    )
    connection = forms.ModelChoiceField(
        Connection.objects.none(),
        label="Connection of the router's model",
        empty_label="Choose a connection",
        error_messages={
            "required": "Choose a connection.",
            "invalid_choice": "Choose one of your connections.",
        },
    )
    model = forms.CharField(
        max_length=200,
        label="The router's model",
        error_messages={"required": "Name the model."},
        help_text="It is asked after steps of every item, so that a small and quick one suits best.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    limit = _number("Items for people, at most (%)", initial=30, min_value=0, max_value=100)
    strictness = forms.MultipleChoiceField(
        label="Wordings that are tried",
        choices=[(name, name.capitalize()) for name in STRICTNESS],
        initial=list(STRICTNESS),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one wording."},
    )
    demonstrations = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_DEMONSTRATIONS,
        initial=4,
        label="Demonstrations",
        help_text="Tried without any, and with so many known items that are like the one at hand.",
    )
    split = forms.ChoiceField(
        label="The setting is chosen on",
        choices=[("random", "Known items at random"), ("topics", "Whole topics that are held out")],
        initial="random",
        widget=forms.RadioSelect,
        error_messages={"required": "Choose how the known items are split.", "invalid_choice": "Choose one."},
        help_text="Held out are the topics that are least like the others. What is good there is good "
        "on items unlike those that the router has learned from.",
    )
    no_trace = forms.BooleanField(
        required=False,
        initial=True,
        label="Ask once more without any step",
        help_text="To see in the table what reading the steps is worth.",
    )
    spend_limit = _number(
        "Spend limit in US$",
        required=False,
        help_text="The training pauses before it would cost more. Empty: no limit.",
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        self.offered = {str(run.pk): run for run in offered_traced(project)}
        self.fields["run"].choices = [  # type: ignore[attr-defined]
            (key, f"{run.who}, annotation {key}") for key, run in self.offered.items()
        ]
        self.fields["connection"].queryset = connections_of(user)  # type: ignore[attr-defined]

    def choice(self) -> TraceChoice:
        """What the valid form says."""
        cleaned = self.cleaned_data
        return TraceChoice(
            run=self.offered[cleaned["run"]],
            connection=cleaned["connection"],
            model=cleaned["model"],
            limit=float(cleaned["limit"]) / 100,
            strictness=tuple(cleaned["strictness"]),
            demonstrations=tuple({0, cleaned["demonstrations"] or 0}),
            split=cleaned["split"],
            no_trace=cleaned["no_trace"],
            vectors=self.vector_choice(),
            name=cleaned["name"],
            seed=cleaned["seed"],
        )


class TracedRunForm(RefusableForm):
    """How many items may go to people, and what the run may cost."""

    limit = _number("Items for people, at most (%)", min_value=0, max_value=100)
    spend_limit = _number(
        "Spend limit in US$",
        required=False,
        help_text="Of annotator and router together. The run pauses before it would cost more.",
    )

    @property
    def share(self) -> float:
        """ρ of the valid form."""
        return float(self.cleaned_data["limit"]) / 100
