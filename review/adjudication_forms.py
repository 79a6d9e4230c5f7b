"""The form of a decision between answers that differ."""

from typing import Any

from django import forms

from annotate.extracted import located
from annotate.forms import RefusableForm
from annotate.models import Label, Project
from review.models import Correction

_GONE = "The page is older than the item is now. Load it again and decide then."


class AdjudicationForm(RefusableForm):
    """A label, an answer in words, or a skip, with the version of the task that was looked at.

    Where answers are spans, `span` says which characters of the item's text, such as "12-34", and "0-0" that it holds
    none; words without it are looked for in the text.
    """

    action = forms.ChoiceField(
        choices=[(Correction.Action.LABEL, "Answer"), (Correction.Action.SKIP, "Skip")], required=False
    )
    label = forms.ModelChoiceField(
        Label.objects.none(),
        required=False,
        error_messages={"invalid_choice": "Choose one of the project's labels."},
    )
    answer = forms.CharField(required=False, strip=False)
    span = forms.RegexField(r"^[0-9]{1,9}-[0-9]{1,9}$", required=False, error_messages={"invalid": _GONE})
    reason = forms.CharField(
        required=False, max_length=200, error_messages={"max_length": "A reason has at most 200 characters."}
    )
    version = forms.IntegerField(error_messages={"required": _GONE, "invalid": _GONE})
    seconds = forms.FloatField(required=False)
    key = forms.UUIDField(error_messages={"required": _GONE, "invalid": _GONE})

    def __init__(self, *args: Any, project: Project, text: str = "", **kwargs: Any) -> None:
        """`text` is the item's, where answers are spans of it."""
        super().__init__(*args, **kwargs)
        self._is_span, self._text = project.task.is_span, text
        self.fields["label"].queryset = project.labels.all()  # type: ignore[attr-defined]

    def clean_seconds(self) -> float | None:
        """A clock that did not run, as without JavaScript, says nothing; one out of range neither."""
        seconds: float | None = self.cleaned_data["seconds"]
        return seconds if seconds is not None and 0 <= seconds < 1e6 else None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self._is_span and not self.errors and cleaned["action"] != Correction.Action.SKIP:
            self._locate(cleaned)
        return cleaned

    def _locate(self, cleaned: dict[str, Any]) -> None:
        """Say where the answer stands in the text."""
        if cleaned["span"]:
            start, end = (int(place) for place in cleaned["span"].split("-"))
        else:
            found = located(cleaned["answer"].strip(), self._text) if cleaned["answer"].strip() else None
            if found is None:
                self.add_error("answer", "These words do not stand in the text. Copy them from it.")
                return
            start, end = found.start, found.end
        cleaned |= {"answer": self._text[start:end], "start": start, "end": end}

    def answer_given(self) -> dict[str, Any]:
        """The values of `review.services.queue.Answer`."""
        given = self.cleaned_data
        is_skip = given["action"] == Correction.Action.SKIP
        if self._is_span and not is_skip:
            names = ("start", "end", "seconds", "version", "key")
            return {"action": Correction.Action.LABEL, "text": given["answer"]} | {
                name: given[name] for name in names
            }
        return {
            "action": Correction.Action.SKIP if is_skip else Correction.Action.LABEL,
            "label": None if is_skip else given["label"],
            "text": "" if is_skip else given["answer"].replace("\r\n", "\n"),
            "reason": given["reason"] if is_skip else "",
            "seconds": given["seconds"],
            "version": given["version"],
            "key": given["key"],
        }
