"""Forms of uploaded comparisons: which column is what, the training of a router, and a text to ask it about."""

from collections.abc import Sequence
from typing import Any

from django import forms

from annotate.models import Project, User, VectorVersion
from route.comparison_rows import CHEAP, COLUMNS, PREMIUM, A, B, ComparisonMapping
from route.forms import RefusableForm, VectorForm
from route.meta_forms import LEARNERS, REGRESSORS, SCALINGS
from route.services.comparison_sets import UploadedChoice
from route.services.meta_plans import MetaLimit

_LABELS = {
    "query": "Query",
    "response_a": "Response A",
    "response_b": "Response B",
    "gold_a": "Gold score of A",
    "gold_b": "Gold score of B",
    "gold": "Gold gain or winner",
    "preference": "Preference of a judge",
    "cost_a": "Cost of A",
    "cost_b": "Cost of B",
}
TEXT_LIMITS = [
    ("premium_share", "At most this share of queries, from 0 to 1"),
    ("extra_cost", "At most these US$ a query on average, above all cheap"),
    ("w", "w: the gain that each extra US$ must bring"),
]


def _number(label: str, **fields: Any) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        min_value=0,
        error_messages={
            "invalid": "Enter a number, such as 0.01.",
            "required": "Enter a number, such as 0.3.",
        },
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal", "min": "0"}),
        **fields,
    )


class ComparisonMappingForm(RefusableForm):
    """Which column of a file is what."""

    premium = forms.ChoiceField(
        choices=[(B, "Response B"), (A, "Response A")], label="The premium response is"
    )
    positive = forms.ChoiceField(
        choices=[(PREMIUM, "the premium response"), (CHEAP, "the cheap response"), (A, "A"), (B, "B")],
        label="A number above 0 speaks for",
        help_text="In the columns of the gain and of the preference.",
    )
    price_a = _number("A costs, in US$", required=False, help_text="A response, if no column says it.")
    price_b = _number("B costs, in US$", required=False)

    def __init__(
        self, *args: Any, columns: Sequence[str], suggested: ComparisonMapping, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        for name in COLUMNS:
            is_needed = name in ("query", "preference")
            none = "Choose a column" if is_needed else "None"
            field = forms.ChoiceField(
                required=is_needed,
                label=_LABELS[name],
                choices=[("", none), *((column, column) for column in columns)],
                initial=getattr(suggested, name) or "",
                error_messages={
                    "required": f"Choose the column that holds the {name}.",
                    "invalid_choice": "Choose a column of the file.",
                },
            )
            field.widget.attrs |= {"data-role": name, "data-role-name": _LABELS[name]}
            self.fields[name] = field
        self.fields["premium"].initial = suggested.premium

    def mapping(self) -> ComparisonMapping:
        """What the valid form says."""
        chosen = self.cleaned_data
        columns: dict[str, Any] = {name: chosen[name] or None for name in COLUMNS}
        others: dict[str, Any] = {
            name: chosen[name] for name in ("premium", "positive", "price_a", "price_b")
        }
        return ComparisonMapping(**columns, **others)


class UploadedRouterForm(VectorForm):
    """How a router is trained from uploaded comparisons."""

    learner = forms.ChoiceField(choices=LEARNERS, initial="dr")
    regressor = forms.ChoiceField(choices=REGRESSORS, initial="forest", label="Regression")
    scaling = forms.ChoiceField(
        choices=SCALINGS, initial="variance", required=False, label="Gold and preferences on one scale"
    )

    def __init__(self, *args: Any, user: User, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, user=user, project=project, **kwargs)
        self.fields["vectors"] = forms.ChoiceField(
            label="What it sees of a query",
            choices=[
                (VectorVersion.Kind.PLAIN, "Its words: free, and made here"),
                (VectorVersion.Kind.LOCAL, "A text encoder on this machine"),
            ],
            initial=VectorVersion.Kind.PLAIN,
        )

    def choice(self) -> UploadedChoice:
        """What the valid form says."""
        cleaned = self.cleaned_data
        return UploadedChoice(
            learner=cleaned["learner"],
            regressor=cleaned["regressor"],
            scaling=cleaned["scaling"] or None,
            vectors=self.vector_choice(),
            name=cleaned["name"],
            seed=cleaned["seed"],
        )


class TextForm(forms.Form):
    """A text that a router is asked about."""

    use_required_attribute = False

    query = forms.CharField(
        label="Query",
        error_messages={"required": "Write a query to ask about."},
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
    )
    limit = forms.ChoiceField(choices=TEXT_LIMITS, initial="premium_share", label="Limit")
    amount = _number("Amount", initial=0.3)

    def chosen(self) -> MetaLimit:
        """The limit of the valid form."""
        return MetaLimit(**{self.cleaned_data["limit"]: self.cleaned_data["amount"]})
