"""The forms of a new round and of an export."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from annotate.forms import RefusableForm
from annotate.models import Project
from criticize.models import CriticismRun
from review.drawing import BETA
from review.models import Export, ReviewRound
from review.planning import BUFFER
from review.priorities import TRAINING_SHARE
from review.sampling import RULES, SamplingRule
from review.selectors import drawable_runs
from review.setup import MOST_GOLD_MINIMUM, MOST_GOLD_RATE, MOST_OVERLAP, RoundSetup

THRESHOLD = "threshold"
COUNT, SHARE = "count", "share"


class AmountForm(RefusableForm):
    """A budget of reviews, as a share of the items or a number of them."""

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


# What the rules do where answers are rated.
_BY_QUALITY = {
    "threshold": "Reviews the answers of the lowest quality, up to the budget.",
    "normalize": "Draws answers with chances in proportion to 1 − their quality.",
    "exponential": "Draws answers with chances that rise steeply at a cut in 1 − quality.",
}


_DISPLAYS = {
    ReviewRound.Display.CRITICISM: "Fastest, and it shows where to look. It can also talk people into agreeing.",
    ReviewRound.Display.LABEL: "What the criticizer says stays hidden: people look for the mistake themselves.",
    ReviewRound.Display.BLIND: "People answer from nothing. Slowest, and nothing sways them.",
    ReviewRound.Display.RANDOM: "Each item gets one of the three. The report then says how often people accept what "
    "is wrong in each.",
}


@dataclass(frozen=True)
class DisplayChoice:
    name: str
    label: str
    description: str


def _messages(wrong: str) -> dict[str, str]:
    """The same sentence for whatever is wrong with a number. Django puts the limits into the last two."""
    limits = wrong.replace("%", "%%")
    return {"invalid": wrong, "min_value": limits, "max_value": limits}


class _PercentField(forms.DecimalField):
    """A share in percent. What is no number is refused with a sentence that holds the sign itself."""

    def to_python(self, value: Any) -> Any:
        number: Decimal | None = super().to_python(value)
        if number is not None and not number.is_finite():
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return number


def _percent(
    label: str, help_text: str, wrong: str, *, most: float, initial: float | None = 0
) -> forms.DecimalField:
    """A share, given in percent."""
    return _PercentField(
        required=False,
        initial=initial,
        min_value=0,
        max_value=round(100 * most),
        max_digits=7,
        decimal_places=3,
        label=label,
        help_text=help_text,
        error_messages=_messages(wrong),
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal"}),
    )


def _whole(
    label: str, help_text: str, wrong: str, *, least: int, most: int, initial: int
) -> forms.IntegerField:
    return forms.IntegerField(
        required=False,
        initial=initial,
        min_value=least,
        max_value=most,
        label=label,
        help_text=help_text,
        error_messages=_messages(wrong),
        widget=forms.NumberInput(attrs={"step": "1", "inputmode": "numeric"}),
    )


class OverlapForm(RefusableForm):
    """Which share of a round's items several people answer, and how many each."""

    overlap_share = _percent(
        "% that several people answer",
        "They say how far your reviewers agree. Where answers differ, you decide. 0: one person an item.",
        "The share of items that several people answer lies between 0 and 100%.",
        most=1,
    )
    overlap = _whole(
        "People for each of these",
        "Each further person is one more review of the item, on top of the budget.",
        f"2 to {MOST_OVERLAP} people answer such an item.",
        least=2,
        most=MOST_OVERLAP,
        initial=2,
    )

    def setup(self) -> RoundSetup:
        """The valid form's setup."""
        return replace(RoundSetup(), **self._overlap())

    def _overlap(self) -> dict[str, Any]:
        share = float((self.cleaned_data["overlap_share"] or 0) / 100)
        return {"overlap_share": share, "overlap": (self.cleaned_data["overlap"] or 2) if share else 1}


class WorkForm(RefusableForm):
    """What reviewers see, and the known items among what they are handed. It can change while a round is open."""

    display = forms.ChoiceField(
        required=False,
        choices=ReviewRound.Display.choices,
        initial=ReviewRound.Display.CRITICISM,
        label="What reviewers see",
        widget=forms.RadioSelect,
        error_messages={
            "invalid_choice": f"What reviewers see is one of: {', '.join(ReviewRound.Display.values)}."
        },
    )
    gold_rate = _percent(
        "% of known items",
        "Of what each reviewer is handed, this share are items of which the right answer is known already. They look "
        "like the others, and their answers count for nothing but the reviewer's accuracy. 0: none.",
        f"The share of known items lies between 0 and {MOST_GOLD_RATE:.0%}.",
        most=MOST_GOLD_RATE,
    )
    gold_threshold = _percent(
        "Pause below %",
        "A reviewer with a lower accuracy on known items is handed nothing more until you lift the pause. "
        "Empty: nobody is paused.",
        "The accuracy below which reviewers are paused lies above 0 and is at most 100%.",
        most=1,
        initial=None,
    )
    gold_minimum = _whole(
        "After known items",
        "Nobody is paused before so many answers: a few mistakes are chance.",
        f"A reviewer answers from 1 to {MOST_GOLD_MINIMUM:,} known items before being paused.",
        least=1,
        most=MOST_GOLD_MINIMUM,
        initial=10,
    )

    def __init__(self, *args: Any, project: Project, blind: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        if blind:
            del self.fields["display"]
        if not project.task.is_checkable:
            for name in ("gold_rate", "gold_threshold", "gold_minimum"):
                del self.fields[name]

    @property
    def displays(self) -> list[DisplayChoice]:
        noun = self.project.task.answer_noun
        return [
            DisplayChoice(each, each.label.replace("label", noun), _DISPLAYS[each])
            for each in ReviewRound.Display
        ]

    @property
    def chosen_display(self) -> str:
        return str(self["display"].value() or ReviewRound.Display.CRITICISM)

    def changed(self, setup: RoundSetup) -> RoundSetup:
        """The setup with what the valid form says."""
        given = self.cleaned_data
        rate, threshold = given.get("gold_rate") or 0, given.get("gold_threshold")
        return replace(
            setup,
            display=given.get("display") or ReviewRound.Display.CRITICISM,
            gold_rate=float(rate / 100),
            gold_threshold=None if threshold is None or not rate else float(threshold / 100),
            gold_minimum=given.get("gold_minimum") or RoundSetup().gold_minimum,
        )

    @staticmethod
    def initial_of(setup: RoundSetup) -> dict[str, Any]:
        """What the form shows of a setup."""
        threshold = setup.gold_threshold
        return {
            "display": setup.display,
            "gold_rate": _in_percent(setup.gold_rate),
            "gold_threshold": None if threshold is None else _in_percent(threshold),
            "gold_minimum": setup.gold_minimum,
        }


def _in_percent(share: float) -> Decimal:
    """As people write it: 0.07 is 7, and no 7.000000000000001."""
    percent = (100 * Decimal(repr(share))).normalize()
    return percent.quantize(Decimal(1)) if percent == percent.to_integral_value() else percent


class RoundForm(AmountForm, OverlapForm, WorkForm):
    """Which criticisms to draw from, how many items people are to review, and by which rule they are drawn."""

    criticism_run = forms.ModelChoiceField(
        CriticismRun.objects.none(),
        empty_label=None,
        label="Draw from",
        error_messages={
            "required": "Choose the criticism run to draw from.",
            "invalid_choice": "Choose one of this project's finished criticism runs.",
        },
    )
    rule = forms.ChoiceField(
        required=False,
        choices=[(rule.name, rule.label) for rule in RULES.values()],
        initial=THRESHOLD,
        label="Sampling rule",
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": f"The sampling rule is one of: {', '.join(RULES)}."},
    )
    beta = forms.FloatField(
        required=False,
        initial=BETA,
        label="β, how steeply chances rise at the cut",
        error_messages={"invalid": "Enter β as a number above 0."},
        widget=forms.NumberInput(attrs={"min": "0", "step": "any", "inputmode": "decimal"}),
    )
    priority = forms.ChoiceField(
        required=False,
        choices=ReviewRound.Priority.choices,
        initial=ReviewRound.Priority.CRITICISM,
        label="What orders the items",
        error_messages={
            "invalid_choice": f"The priority is one of: {', '.join(ReviewRound.Priority.values)}."
        },
        help_text="The last two learn from reviewed and calibration items, and need the annotator's confidence.",
    )
    training_share = forms.DecimalField(
        required=False,
        initial=round(100 * TRAINING_SHARE),
        label="% of the budget to train on",
        error_messages={"invalid": "Enter the part of the budget to train on as a number."},
        help_text="Where too little is known yet, this part is drawn at random first. Once it is reviewed, the rest "
        "is drawn by what was learned.",
        widget=forms.NumberInput(attrs={"min": "1", "max": "99", "step": "any", "inputmode": "decimal"}),
    )
    seed = forms.IntegerField(
        required=False,
        label="Seed",
        error_messages={"invalid": "Enter the seed as a whole number."},
        help_text="The same data, budget, rule and seed draw the same items. It is kept with the round.",
        widget=forms.NumberInput(attrs={"min": "0", "step": "1", "inputmode": "numeric"}),
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, project=project, **kwargs)
        self.fields["criticism_run"].queryset = drawable_runs(project)  # type: ignore[attr-defined]
        self.fields["seed"].initial = project.seed

    def setup(self) -> RoundSetup:
        return self.changed(super().setup())

    @property
    def sets_reviewers(self) -> bool:
        """Whether something about reviewers is wrong or not as usual, so that it must not be folded away."""
        names = [*OverlapForm.base_fields, *WorkForm.base_fields]
        shown = [name for name in names if name in self.fields]
        return any(self[name].errors or (self.is_bound and name in self.changed_data) for name in shown)

    @property
    def rules(self) -> list[SamplingRule]:
        if not self.project.task.is_rated:
            return list(RULES.values())
        return [replace(rule, description=_BY_QUALITY[name]) for name, rule in RULES.items()]

    @property
    def chosen_rule(self) -> str:
        return str(self["rule"].value() or THRESHOLD)

    def plan(self) -> dict[str, Any]:
        """What the valid form says of the draw, as `round_preview` and `round_create` take it."""
        given = self.cleaned_data
        priority = given["priority"] or ReviewRound.Priority.CRITICISM
        share = given["training_share"]
        by_detector = priority == ReviewRound.Priority.CDI
        return {
            **self.amount(),
            "rule": given["rule"] or THRESHOLD,
            "beta": BETA if given["beta"] is None else given["beta"],
            "seed": given["seed"],
            "priority": priority,
            "training_share": None if share is None or not by_detector else float(share / 100),
        }


class RaiseForm(AmountForm):
    """A larger budget for a round: in items at first, a tenth more than now."""

    def __init__(self, *args: Any, round: ReviewRound, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        planned = round.parameters.get("planned_budget", 0)
        larger = max(planned, round.budget + max(1, round.budget // 10))
        self.fields["budget"].initial = min(larger, round.population)
        self.fields["budget"].label = "Raise the budget to"
        self.fields["budget"].help_text = f"It is {round.budget:,} of {round.population:,} items now."
        self.fields["unit"].initial = COUNT


class AuditForm(OverlapForm):
    count = forms.IntegerField(
        initial=200,
        min_value=1,
        label="Items to audit",
        error_messages={
            "required": "Enter how many items to audit.",
            "invalid": "Enter a whole number of items.",
            "min_value": "An audit needs at least one item.",
        },
        widget=forms.NumberInput(attrs={"min": "1", "inputmode": "numeric"}),
    )


class BudgetForm(RefusableForm):
    """What a budget plan is for. Nothing is required: an empty budget is the recommended one."""

    criticism_run = forms.ModelChoiceField(
        CriticismRun.objects.none(),
        required=False,
        empty_label=None,
        label="Criticism run",
        error_messages={"invalid_choice": "Choose one of this project's finished criticism runs."},
    )
    budget = forms.IntegerField(
        required=False,
        label="Budget, in reviews",
        error_messages={"invalid": "Enter the budget as a whole number of reviews."},
        widget=forms.NumberInput(attrs={"min": "1", "step": "1", "inputmode": "numeric"}),
    )
    buffer = forms.DecimalField(
        required=False,
        initial=round(100 * BUFFER),
        label="Buffer, in points",
        error_messages={"invalid": "Enter the buffer as a number of percentage points."},
        help_text="Added to the ideal budget: no criticizer puts every error first.",
        widget=forms.NumberInput(attrs={"min": "0", "max": "100", "step": "any", "inputmode": "decimal"}),
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["criticism_run"].queryset = drawable_runs(project).order_by("-created_at")  # type: ignore[attr-defined]

    def plan(self) -> dict[str, Any]:
        """The valid form, as `budget_plan` takes it."""
        given = self.cleaned_data
        return {
            "criticism_run": given["criticism_run"],
            "count": given["budget"],
            "buffer": BUFFER if given["buffer"] is None else float(given["buffer"] / 100),
        }


class ReviewPriceForm(RefusableForm):
    review_price = forms.DecimalField(
        min_value=0,
        max_digits=8,
        decimal_places=4,
        label="US$ a review",
        error_messages={
            "required": "Enter what one review costs.",
            "invalid": "Enter the price as a number, such as 0.08.",
            "min_value": "The price must be 0 or more.",
        },
        widget=forms.NumberInput(attrs={"min": "0", "step": "any", "inputmode": "decimal"}),
    )


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
        label="λ, the weight of what the machine said",
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
    with_card = forms.BooleanField(
        required=False,
        initial=True,
        label="With its data card",
        help_text="A zip archive of the file with README.md and data_card.json: what ran, what it cost, how accurate "
        "it is. An image folder always has them.",
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        formats = {str(format) for format in Export.TABLES}
        if project.task.needs_image:
            formats.add(Export.Format.IMAGE_FOLDER)
        if project.task.is_span:
            formats.add(Export.Format.SQUAD)
        self.fields["format"].choices = [  # type: ignore[attr-defined]
            choice for choice in Export.Format.choices if choice[0] in formats
        ]
        self.fields["round"].queryset = project.review_rounds.filter(  # type: ignore[attr-defined]
            kind__in=ReviewRound.EXPORTED
        ).select_related("criticism_run__annotation_run", "routed_run")
