"""Guidelines: what they say of the project and of each label, and the items that show what a label means."""

from django.db import transaction

from annotate.errors import Refusal
from annotate.history import record
from annotate.models import Item, Label, LabelExample, Project, User

MOST_CHARACTERS = 20_000
MOST_EXAMPLES = 12
MOST_NOTE = 500


@transaction.atomic
def instructions_set(*, project: Project, user: User | None, text: str) -> None:
    """Change what the project's guidelines say of all labels. Models read this too, to the letter."""
    old = Project.objects.select_for_update(no_key=True).get(pk=project.pk).instructions
    if text == old:
        return
    _check_length(text, field="instructions")
    project.instructions = text
    project.save(update_fields=["instructions"])
    record(
        project, user, "guidelines changed", subject=project.name, subject_id=project.pk, old=old, new=text
    )


@transaction.atomic
def guideline_set(*, label: Label, user: User | None, text: str) -> None:
    """Change what the guidelines say of one label, as Markdown; models do not read this."""
    text = text.replace("\r\n", "\n").strip()
    _check_length(text, field="guideline")
    old = Label.objects.select_for_update(no_key=True).get(pk=label.pk).guideline
    if text == old:
        return
    label.guideline = text
    label.save(update_fields=["guideline"])
    record(
        label.project, user, "guideline changed", subject=label.name, subject_id=label.pk, old=old, new=text
    )


def _check_length(text: str, *, field: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise Refusal(
            f"Guidelines have at most {MOST_CHARACTERS:,} characters; these have {len(text):,}.", field=field
        )


@transaction.atomic
def example_add(*, label: Label, item: Item, user: User, note: str = "") -> LabelExample:
    """Make an item of the project an example of the label. Whether it may be shown, `review` asks first."""
    if item.project_id != label.project_id:
        raise Refusal(f"There is no item “{item.external_id}” in this project.", field="item")
    note = clean_note(note)
    Label.objects.select_for_update(no_key=True).get(pk=label.pk)  # two at once must not make a thirteenth
    if label.examples.filter(item=item).exists():
        raise Refusal(f"“{item.external_id}” is an example of “{label.name}” already.", field="item")
    if label.examples.count() >= MOST_EXAMPLES:
        raise Refusal(
            f"“{label.name}” has {MOST_EXAMPLES} examples, and no more are shown well. Remove one first.",
            field="item",
        )
    example = LabelExample.objects.create(label=label, item=item, note=note, created_by=user)
    record(label.project, user, "example added", subject=label.name, subject_id=label.pk, new=_told(example))
    return example


@transaction.atomic
def example_note(*, example: LabelExample, user: User, note: str) -> None:
    """Change why the item is an example."""
    old = _told(example)
    note = clean_note(note)
    if note == example.note:
        return
    example.note = note
    example.save(update_fields=["note"])
    label = example.label
    record(
        label.project,
        user,
        "example changed",
        subject=label.name,
        subject_id=label.pk,
        old=old,
        new=_told(example),
    )


@transaction.atomic
def example_remove(*, example: LabelExample, user: User) -> None:
    label = example.label
    old = _told(example)
    example.delete()
    record(label.project, user, "example removed", subject=label.name, subject_id=label.pk, old=old)


def clean_note(note: str) -> str:
    note = " ".join(note.split())
    if len(note) > MOST_NOTE:
        raise Refusal(f"A note has at most {MOST_NOTE} characters; this one has {len(note):,}.", field="note")
    return note


def _told(example: LabelExample) -> dict[str, str]:
    return {"item": example.item.external_id, "note": example.note}
