"""The forms of a new round and of an export."""

from typing import Any

from django import forms

from annotate.forms import RefusableForm
from annotate.models import Project
from criticize.models import CriticismRun
from review.models import Export, ReviewRound
from review.selectors import drawable_runs

COUNT, SHARE = "count", "share"


class RoundForm(RefusableForm):
    """Which criticisms to draw from, and how many items people are to review."""

    criticism_run = forms.ModelChoiceField(
        CriticismRun.objects.none(),
        empty_label=None,
        label="Draw from",
        error_messages={
            "required": "Choose the criticism run to draw from.",
            "invalid_choice": "Choose one of this project's finished criticism runs.",
        },
    )
    unit = forms.ChoiceField(
        choices=[(SHARE, "% of the items"), (COUNT, "items")], initial=SHARE, label="Counted in"
    )
    budget = forms.DecimalField(
        initial=10,
        min_value=0,
        max_digits=12,
        decimal_places=3,
        help_text="How many items people will review. The round never holds more.",
        error_messages={
            "required": "Enter the budget: how many items people will review.",
            "invalid": "Enter the budget as a number.",
            "min_value": "The budget must be more than 0.",
        },
        widget=forms.NumberInput(attrs={"min": "0", "step": "any", "inputmode": "decimal"}),
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["criticism_run"].queryset = drawable_runs(project)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        budget, unit = cleaned.get("budget"), cleaned.get("unit")
        if budget is None or unit is None:
            return cleaned
        if unit == COUNT and budget != budget.to_integral_value():
            self.add_error("budget", "A number of items is a whole number.")
        elif unit == SHARE and budget > 100:
            self.add_error("budget", "A share is at most 100%.")
        return cleaned

    def amount(self) -> dict[str, Any]:
        """The valid form's budget as `review.services.rounds` takes it: as a count or as a share."""
        budget = self.cleaned_data["budget"]
        if self.cleaned_data["unit"] == COUNT:
            return {"count": int(budget)}
        return {"share": float(budget / 100)}


class ExportForm(RefusableForm):
    round = forms.ModelChoiceField(
        ReviewRound.objects.none(),
        empty_label=None,
        error_messages={
            "required": "Choose the review round to export.",
            "invalid_choice": "Choose one of this project's review rounds.",
        },
    )
    layout = forms.ChoiceField(
        choices=Export.Layout.choices, initial=Export.Layout.WIDE, widget=forms.RadioSelect
    )
    format = forms.ChoiceField(
        choices=Export.Format.choices, initial=Export.Format.CSV, widget=forms.RadioSelect
    )
    lam = forms.FloatField(
        initial=1.0,
        min_value=0,
        max_value=1,
        label="λ, the weight of machine labels",
        error_messages={
            "required": "Enter λ, between 0 and 1.",
            "invalid": "Enter λ as a number between 0 and 1.",
            "min_value": "λ must be between 0 and 1.",
            "max_value": "λ must be between 0 and 1.",
        },
        widget=forms.NumberInput(attrs={"min": "0", "max": "1", "step": "0.05", "inputmode": "decimal"}),
    )
    escape_formulas = forms.BooleanField(
        required=False,
        initial=True,
        label="Keep spreadsheets from running texts as formulas",
        help_text="In CSV, puts an apostrophe before texts that begin with =, +, - or @. "
        "Turn it off when only programs read the file.",
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["round"].queryset = project.review_rounds.filter(  # type: ignore[attr-defined]
            kind=ReviewRound.Kind.REVIEW
        ).select_related("criticism_run__annotation_run")
