"""Forms of the project, upload and connection pages: they parse what was typed, services decide."""

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import UserCreationForm
from django.http import HttpRequest, QueryDict

from annotate.connections import PROVIDER_CHOICES
from annotate.errors import Refusal
from annotate.models import Connection, Membership, ModelPrice, Project, Upload, User
from annotate.services.connections import MOST_A_MINUTE, MOST_IN_FLIGHT, SAVED_FIELDS
from annotate.services.invitations import MOST_DAYS, MOST_USES
from annotate.task_types import LABEL_TASKS, TASK_TYPES, TaskType
from annotate.uploads.decoding import ENCODINGS
from annotate.uploads.mapping import ColumnMapping

_ENCODING_NAMES = {
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "cp1252": "Windows-1252 (Western European, Excel)",
    "latin-1": "ISO 8859-1 (Latin-1)",
    "shift_jis": "Shift JIS (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
}


_ANSWERS_HELP = (
    "Answers that are known to be right: the words as they stand in the text, or a list of them, with their places or "
    "without. An empty cell or list says that the text holds no answer. Models and reviewers never see them."
)


class RefusableForm(forms.Form):
    """A form that shows why a service refused, at the field that the refusal names."""

    def refuse(self, refusal: Refusal) -> None:
        self.add_error(refusal.field if refusal.field in self.fields else None, refusal.sentence)


def sent(request: HttpRequest) -> QueryDict | None:
    """What a form was sent with, an empty one too; None where the page is only asked for."""
    return request.POST if request.method == "POST" else None


# --- Accounts --------------------------------------------------------------------------------------------------------


class TokenForm(RefusableForm):
    days = forms.TypedChoiceField(
        label="Valid for",
        coerce=int,
        choices=[(30, "30 days"), (90, "90 days"), (365, "1 year"), (0, "Until it is revoked")],
        initial=90,
    )


# --- Projects --------------------------------------------------------------------------------------------------------


class ProjectForm(RefusableForm):
    """A new project."""

    name = forms.CharField(
        max_length=120, widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"})
    )
    task_type = forms.ChoiceField(
        label="Task",
        choices=[(key, task.label) for key, task in TASK_TYPES.items()],
        widget=forms.RadioSelect,
        error_messages={"required": "Choose what an item of this project is."},
    )
    labels = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
        help_text="One a line. Leave it empty to take them from your upload's gold column. Questions and captions then "
        "begin with “no” and “yes”.",
    )
    instructions = forms.CharField(
        label="Guidelines",
        required=False,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text="What the labels mean and how to decide, or what is to be written. Models and reviewers both "
        "read this.",
    )

    def label_names(self) -> list[str]:
        """What was typed; nothing where the task has no labels, since the page then hides the field."""
        names: str = self.cleaned_data["labels"]
        return names.splitlines() if self.cleaned_data["task_type"] in LABEL_TASKS else []

    @property
    def label_tasks(self) -> str:
        """The tasks with a label set, for the page to show what belongs to them; empty stands for none chosen yet."""
        return " ".join(["", *LABEL_TASKS])

    @property
    def tasks(self) -> list[TaskType]:
        return list(TASK_TYPES.values())


class ProjectSettingsForm(RefusableForm):
    name = forms.CharField(max_length=120)
    instructions = forms.CharField(
        label="Guidelines",
        required=False,
        widget=forms.Textarea(attrs={"rows": 8, "dir": "auto"}),
        help_text="Models and reviewers both read this; people see Markdown as it is meant, models read it as it is "
        "written.",
    )


class LabelForm(RefusableForm):
    name = forms.CharField(max_length=200)
    description = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 2}), help_text="Models are told this."
    )


class RoleForm(RefusableForm):
    """A role among those that the signed-in person may give."""

    role = forms.ChoiceField(initial=Membership.Role.REVIEWER)

    def __init__(self, *args: Any, roles: Collection[str], **options: Any) -> None:
        super().__init__(*args, **options)
        given = [choice for choice in Membership.Role.choices if choice[0] in roles]
        self.fields["role"] = forms.ChoiceField(choices=given, initial=Membership.Role.REVIEWER)


class MemberForm(RoleForm):
    username = forms.CharField(label="Account", max_length=150)
    field_order = ["username", "role"]


class InvitationForm(RoleForm):
    most_uses = forms.IntegerField(label="For how many people", min_value=1, max_value=MOST_USES, initial=1)
    days = forms.IntegerField(label="Valid for days", min_value=1, max_value=MOST_DAYS, initial=14)
    note = forms.CharField(
        max_length=120,
        required=False,
        help_text="Whom it is for. Only those who manage the project see it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class AccountForm(UserCreationForm):  # type: ignore[type-arg]
    """A new account, made by whoever was invited."""

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)


class ProjectDeleteForm(RefusableForm):
    confirm_name = forms.CharField(
        label="Type the project's name", widget=forms.TextInput(attrs={"autocomplete": "off"})
    )


# --- Uploads ---------------------------------------------------------------------------------------------------------


class UploadForm(RefusableForm):
    file = forms.FileField(
        allow_empty_file=True,  # the service says so in the user's words
        error_messages={"required": "Choose a file to upload."},
    )
    encoding = forms.ChoiceField(
        required=False,
        label="Encoding of texts",
        choices=[("", "Automatic")] + [(name, _ENCODING_NAMES[name]) for name in ENCODINGS],
        help_text="Choose one when the file was not made as UTF-8 and cannot be read, or reads wrong.",
    )


class MappingForm(RefusableForm):
    """Which column is what."""

    id = forms.ChoiceField(required=False, label="Id", help_text="Must be different in every row.")
    text = forms.ChoiceField(required=False, label="Text")
    image = forms.ChoiceField(required=False, label="Image")
    question = forms.ChoiceField(required=False, label="Question")
    gold = forms.ChoiceField(
        required=False,
        label="Gold label",
        help_text="A label that is known to be right. Models and reviewers never see it.",
    )
    no_answer = forms.ChoiceField(
        required=False,
        label="Text holds no answer",
        help_text="True where it holds none. With such a column a blank answer of other rows is one that nobody knows.",
    )
    start = forms.ChoiceField(
        required=False,
        label="Where the answer begins",
        help_text="Its first character in the text, counted from 0, as exports have it. Without one an answer that has "
        "no place of its own is taken to stand where its words stand first.",
    )
    add_labels = forms.BooleanField(
        required=False,
        label="Make labels of new gold values",
        help_text="Otherwise a row whose gold value is not one of the project's labels is rejected.",
    )
    if_different = forms.ChoiceField(
        required=False,
        label="Rows whose id is there with other content",
        choices=Upload.IfDifferent.choices,
        initial=Upload.IfDifferent.KEEP,
        help_text="Rows that are there with the same content are only counted, so the same file twice makes no item "
        "twice. An item that is annotated, answered or commented on is never replaced.",
    )
    no_header = forms.BooleanField(required=False, widget=forms.HiddenInput)
    all_or_nothing = forms.BooleanField(
        required=False,
        label="All or nothing",
        help_text="Check all rows first, and import none where one would be rejected.",
    )

    def __init__(
        self, *args: Any, upload: Upload, columns: Sequence[str], suggested: ColumnMapping, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        task = upload.project.task
        self._gold_from_folder = upload.kind == "images" and "folder" in columns
        self._offer("id", columns, "No column: number the rows")
        self._offer("gold", columns, "None")
        for role, is_needed in (
            ("text", task.needs_text),
            ("image", task.needs_image),
            ("question", task.needs_question),
        ):
            if is_needed:
                self._offer(role, columns, "Choose a column")
                self.fields[role].required = True
                self.fields[role].error_messages["required"] = f"{task.label} needs a column for the {role}."
            else:
                del self.fields[role]
        if not task.is_checkable:
            del self.fields["gold"]
        if not task.is_span:
            del self.fields["no_answer"], self.fields["start"]
        if task.is_written:
            del self.fields["add_labels"]
        if task.is_span:
            self._offer("no_answer", columns, "None: blank answers say so")
            self.fields["no_answer"].initial = suggested.no_answer or ""
            self._offer("start", columns, "None: the first place of its words")
            self.fields["start"].initial = suggested.start or ""
            self.fields["gold"].label = "Answers"
            self.fields["gold"].help_text = _ANSWERS_HELP
        if task.key == "image_text_agreement":
            self.fields["text"].label = "Caption"
        for role in ("id", "text", "image", "question"):
            if role in self.fields:
                self.fields[role].initial = getattr(suggested, role) or ""
        if task.is_checkable:
            self.fields["gold"].initial = "folder" if suggested.folder_as_gold else suggested.gold or ""
        self.fields["no_header"].initial = suggested.no_header
        if not task.is_written:
            self.fields["add_labels"].initial = not upload.project.labels.exists()

    def _offer(self, role: str, columns: Sequence[str], none: str) -> None:
        choices = [("", none), *((column, column) for column in columns)]
        if role == "gold" and self._gold_from_folder:
            choices = [
                (key, "folder (the image's folder)" if key == "folder" else name) for key, name in choices
            ]
        self.fields[role].choices = choices  # type: ignore[attr-defined]
        self.fields[role].widget.attrs["data-role"] = role

    def mapping(self) -> ColumnMapping:
        """What the valid form says."""
        chosen = self.cleaned_data
        gold = chosen.get("gold") or None
        from_folder = gold == "folder" and self._gold_from_folder
        return ColumnMapping(
            id=chosen["id"] or None,
            text=chosen.get("text") or None,
            image=chosen.get("image") or None,
            question=chosen.get("question") or None,
            gold=None if from_folder else gold,
            folder_as_gold=from_folder,
            no_answer=chosen.get("no_answer") or None,
            start=chosen.get("start") or None,
            no_header=chosen["no_header"],
        )


# --- Connections and prices ------------------------------------------------------------------------------------------


class ConnectionForm(RefusableForm):
    """A new or changed connection. The key is written, never read: an empty key field keeps the stored one."""

    KEEP, STORE, VARIABLE, NONE = "keep", "store", "variable", "none"

    provider = forms.ChoiceField(
        choices=PROVIDER_CHOICES,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose a provider."},
    )
    name = forms.CharField(
        max_length=80, help_text="What you call it, such as “OpenAI” or “vLLM in the lab”."
    )
    base_url = forms.CharField(
        required=False,
        max_length=500,
        label="Base URL",
        help_text="Only for a compatible server of another kind (vLLM, llama.cpp, Ollama, Gemini): usually ends "
        "with /v1. Empty: the provider's own.",
        widget=forms.TextInput(attrs={"inputmode": "url", "spellcheck": "false", "autocomplete": "off"}),
    )
    key_source = forms.ChoiceField(label="Key", widget=forms.RadioSelect, required=False)
    key = forms.CharField(
        required=False,
        max_length=1000,
        label="New key",
        help_text="Stored encrypted and never shown again.",
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    key_variable = forms.ChoiceField(required=False, label="Environment variable of the server")
    in_flight = forms.IntegerField(
        min_value=1,
        max_value=MOST_IN_FLIGHT,
        initial=8,
        label="Calls at once",
        help_text="Over all runs and workers that use this connection.",
    )
    timeout = forms.IntegerField(
        min_value=1, max_value=3600, initial=60, label="Time limit of a call", help_text="In seconds."
    )
    requests_per_minute = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_A_MINUTE,
        label="Calls a minute",
        help_text="Your account's limit at the provider. Empty or 0: none.",
    )
    tokens_per_minute = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_A_MINUTE,
        label="Tokens a minute",
        help_text="Input and output together. Empty or 0: no limit.",
    )

    def __init__(
        self, data: Any = None, *, connection: Connection, initial: dict[str, Any] | None = None
    ) -> None:
        stored = {}
        if connection.pk:
            stored = {name: getattr(connection, name) for name in SAVED_FIELDS}
        super().__init__(data, initial=stored | (initial or {}))
        sources = [
            (self.STORE, "Store a key"),
            (self.VARIABLE, "From the server's environment"),
            (self.NONE, "No key"),
        ]
        if connection.encrypted_key:
            sources.insert(0, (self.KEEP, "Keep the stored key"))
        self.fields["key_source"].choices = sources  # type: ignore[attr-defined]
        self.fields["key_source"].initial = self._source_of(connection)
        self.fields["key_variable"].choices = [(name, name) for name in settings.KEY_VARIABLES]  # type: ignore[attr-defined]

    def _source_of(self, connection: Connection) -> str:
        if connection.key_variable:
            return self.VARIABLE
        if connection.encrypted_key:
            return self.KEEP
        return self.NONE if connection.pk else self.STORE

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        stores = cleaned.get("key_source") == self.STORE and cleaned.get("provider") != "gguf"
        if stores and not cleaned.get("key", "").strip():
            self.add_error("key", "Enter the key, or choose another way to get one.")
        return cleaned

    def values(self) -> dict[str, Any]:
        """What `connection_save` takes. A model file on this machine has neither address nor key."""
        cleaned = self.cleaned_data
        local = cleaned["provider"] == "gguf"
        source = self.NONE if local else cleaned["key_source"]
        return {
            "name": cleaned["name"],
            "provider": cleaned["provider"],
            "base_url": "" if local else cleaned["base_url"],
            "key": {self.KEEP: cleaned["key"] or None, self.STORE: cleaned["key"]}.get(source, ""),
            "key_variable": cleaned["key_variable"] if source == self.VARIABLE else "",
            "in_flight": cleaned["in_flight"],
            "timeout": cleaned["timeout"],
            "requests_per_minute": cleaned["requests_per_minute"] or 0,
            "tokens_per_minute": cleaned["tokens_per_minute"] or 0,
        }


class PriceForm(RefusableForm):
    """The price of models whose name begins like this."""

    provider = forms.ChoiceField(choices=PROVIDER_CHOICES)
    model = forms.CharField(max_length=200, label="Model, or the beginning of its name")
    input = forms.DecimalField(min_value=Decimal(0), max_digits=10, decimal_places=4, label="Input")
    output = forms.DecimalField(min_value=Decimal(0), max_digits=10, decimal_places=4, label="Output")
    cached_input = forms.DecimalField(
        min_value=Decimal(0), max_digits=10, decimal_places=4, required=False, label="Cached input"
    )

    @classmethod
    def of(cls, price: ModelPrice) -> "PriceForm":
        names = ("provider", "model", "input", "output", "cached_input")
        return cls(initial={name: getattr(price, name) for name in names})


def project_settings_form(project: Project, data: Any = None) -> ProjectSettingsForm:
    form = ProjectSettingsForm(data, initial={"name": project.name, "instructions": project.instructions})
    what = (
        "Which words belong to an answer"
        if project.task.is_span
        else "What the labels mean and how to decide"
    )
    what = what if project.task.is_checkable else "What is to be written"
    field = form.fields["instructions"]
    field.help_text = f"{what}. {field.help_text}"
    return form
