"""Forms of routers and their plans."""

from decimal import Decimal
from typing import Any

from django import forms

from annotate.access import connections_of
from annotate.errors import Refusal
from annotate.models import Connection, Project, User, VectorVersion
from annotate.vectors import VectorChoice
from route.services.routers import MOST_HIDDEN, AgentChoice, DeferralChoice, offered_runs, price_of_agent

PEOPLE = "people"
_NOT_A_NUMBER = {"invalid": "Enter a number, such as 0.5."}


def _number(label: str, **fields: Any) -> forms.DecimalField:
    return forms.DecimalField(
        label=label,
        error_messages=_NOT_A_NUMBER,
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal", "min": "0"}),
        **fields,
    )


class RefusableForm(forms.Form):
    """A form whose services may still refuse what it says."""

    use_required_attribute = False

    def refuse(self, refusal: Refusal) -> None:
        self.add_error(refusal.field if refusal.field in self.fields else None, refusal.sentence)


# What the services and the API call them.
_VECTOR_FIELDS = {
    "vectors.kind": "vectors",
    "vectors.connection": "embeddings_connection",
    "vectors.model": "embeddings_model",
    "vectors.spend_limit": "embeddings_limit",
}


class VectorForm(RefusableForm):
    """What a router sees of the items; part of the forms of every kind of router."""

    vectors = forms.ChoiceField(
        label="What it sees of an item",
        choices=[
            (VectorVersion.Kind.PLAIN, "Its words, colors and gradients: free, and made here"),
            (VectorVersion.Kind.EMBEDDINGS, "Embeddings of a model behind a connection"),
            (VectorVersion.Kind.LOCAL, "A text encoder on this machine"),
        ],
        initial=VectorVersion.Kind.PLAIN,
    )
    embeddings_connection = forms.ModelChoiceField(
        Connection.objects.none(), required=False, label="Connection", empty_label="Choose a connection"
    )
    embeddings_model = forms.CharField(required=False, max_length=200, label="Embeddings model")
    embeddings_limit = _number(
        "Spend limit of the embeddings in US$",
        required=False,
        help_text="Buying them pauses before it would cost more. Empty: no limit.",
    )
    name = forms.CharField(required=False, max_length=120, help_text="To tell routers apart.")
    seed = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=2**31 - 1,
        help_text="The same data and seed give the same router. Empty: the project's.",
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        self.fields["embeddings_connection"].queryset = connections_of(user)  # type: ignore[attr-defined]

    def vector_choice(self) -> VectorChoice:
        kind = self.cleaned_data["vectors"]
        if kind != VectorVersion.Kind.EMBEDDINGS:
            return VectorChoice(kind=kind)
        return VectorChoice(
            kind=kind,
            connection=self.cleaned_data["embeddings_connection"],
            model=self.cleaned_data["embeddings_model"],
            spend_limit=self.cleaned_data["embeddings_limit"],
        )

    def refuse(self, refusal: Refusal) -> None:
        super().refuse(Refusal(refusal.sentence, field=_VECTOR_FIELDS.get(refusal.field, refusal.field)))


class DeferralForm(VectorForm):
    """Who the agents are and what their mistakes and answers cost."""

    agents = forms.MultipleChoiceField(
        error_messages={
            "required": "Choose two or more agents.",
            "invalid_choice": "Choose agents of this project.",
        }
    )
    default = forms.ChoiceField(
        error_messages={
            "required": "Choose the default agent.",
            "invalid_choice": "Choose one of the agents.",
        }
    )
    mistake = _number(
        "What a wrong answer costs, in US$",
        help_text="It is what an agent's price is weighed against: β is the price of an answer in units of it.",
    )
    nu = _number(
        "ν of the loss",
        required=False,
        initial=1,
        help_text="1: the logistic loss. 2: bounded, and less troubled by what is known wrongly.",
    )
    hidden = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_HIDDEN,
        label="Hidden units",
        help_text="Empty or 0: linear, which suits a few hundred known items.",
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        self.offered = {str(run.pk): run for run in offered_runs(project)}
        keys = [*self.offered, PEOPLE]
        self.fields["agents"].choices = [(key, key) for key in keys]  # type: ignore[attr-defined]
        self.fields["default"].choices = [(key, key) for key in self.offered]  # type: ignore[attr-defined]
        self.fields["mistake"].initial = max(Decimal("0.05"), project.review_price * 5).normalize()
        for key in keys:
            self.fields[f"alpha_{key}"] = _number("α", required=False, initial=1)
            self.fields[f"beta_{key}"] = _number("β", required=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The agents offered, as the page lists them."""
        chosen = set(self["agents"].value() or self.offered)
        default = self["default"].value() or next(iter(self.offered), "")
        return [
            {
                "key": key,
                "name": run.who if run is not None else "People",
                "run": run,
                "price": price_of_agent(self.project, run),
                "is_chosen": key in chosen,
                "is_default": key == default,
                "alpha": self[f"alpha_{key}"],
                "beta": self[f"beta_{key}"],
            }
            for key, run in [*self.offered.items(), (PEOPLE, None)]
        ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "agents" in cleaned and "default" in cleaned and cleaned["default"] not in cleaned["agents"]:
            self.add_error("default", "The default agent must be one of those that are chosen.")
        return cleaned

    def choice(self) -> DeferralChoice:
        """What the valid form says."""
        cleaned = self.cleaned_data
        keys = sorted(cleaned["agents"], key=lambda key: (key != cleaned["default"], key == PEOPLE))
        return DeferralChoice(
            agents=[self._agent(key) for key in keys],
            mistake=cleaned["mistake"],
            nu=1.0 if cleaned["nu"] is None else float(cleaned["nu"]),
            hidden=(cleaned["hidden"],) if cleaned["hidden"] else (),
            vectors=self.vector_choice(),
            name=cleaned["name"],
            seed=cleaned["seed"],
        )

    def _agent(self, key: str) -> AgentChoice:
        alpha, beta = self.cleaned_data[f"alpha_{key}"], self.cleaned_data[f"beta_{key}"]
        return AgentChoice(
            self.offered.get(key),
            alpha=1.0 if alpha is None else float(alpha),
            beta=None if beta is None else float(beta),
        )


class DeferralPlanForm(RefusableForm):
    """Within which limits a rejector's plan is to be set to work."""

    people = forms.IntegerField(
        required=False,
        min_value=0,
        label="Items for people, at most",
        help_text="Empty: as many as the router gives them.",
    )
    spend_limit = _number(
        "Spend limit of each model in US$",
        required=False,
        help_text="A run pauses before it would cost more.",
    )
