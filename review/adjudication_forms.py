"""The form of a decision between answers that differ."""

from typing import Any

from django import forms

from annotate.forms import RefusableForm
from annotate.models import Label, Project
from review.models import Correction

_GONE = "The page is older than the item is now. Load it again and decide then."


class AdjudicationForm(RefusableForm):
    """A label, a written answer, or a skip, with the version of the task that was looked at."""

    action = forms.ChoiceField(
        choices=[(Correction.Action.LABEL, "Answer"), (Correction.Action.SKIP, "Skip")], required=False
    )
    label = forms.ModelChoiceField(
        Label.objects.none(),
        required=False,
        error_messages={"invalid_choice": "Choose one of the project's labels."},
    )
    answer = forms.CharField(required=False, strip=False)
    reason = forms.CharField(
        required=False, max_length=200, error_messages={"max_length": "A reason has at most 200 characters."}
    )
    version = forms.IntegerField(error_messages={"required": _GONE, "invalid": _GONE})
    seconds = forms.FloatField(required=False)
    key = forms.UUIDField(error_messages={"required": _GONE, "invalid": _GONE})

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["label"].queryset = project.labels.all()  # type: ignore[attr-defined]

    def clean_seconds(self) -> float | None:
        """A clock that did not run, as without JavaScript, says nothing; one out of range neither."""
        seconds: float | None = self.cleaned_data["seconds"]
        return seconds if seconds is not None and 0 <= seconds < 1e6 else None

    def answer_given(self) -> dict[str, Any]:
        """The values of `review.services.queue.Answer`."""
        given = self.cleaned_data
        is_skip = given["action"] == Correction.Action.SKIP
        return {
            "action": Correction.Action.SKIP if is_skip else Correction.Action.LABEL,
            "label": None if is_skip else given["label"],
            "text": "" if is_skip else given["answer"].replace("\r\n", "\n"),
            "reason": given["reason"] if is_skip else "",
            "seconds": given["seconds"],
            "version": given["version"],
            "key": given["key"],
        }
