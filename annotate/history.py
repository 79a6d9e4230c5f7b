"""Who changed what in a project: a row for every change of state that is not an answer. Answers are corrections."""

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from annotate.locks import keep_project
from annotate.models import Change, Project, User


def record(
    project: Project,
    actor: User | None,
    action: str,
    *,
    subject: str = "",
    subject_id: int | None = None,
    old: Any = None,
    new: Any = None,
) -> Change:
    """Keep that `actor` (None: the product itself) did this, in the transaction that it was done in.

    `action` is two or three words in the past, such as "round closed"; `subject` is what people call the thing it was
    done to; `old` and `new` are what JSON can hold. Changes are never edited or deleted. Raises Http404 where the
    project has been deleted.
    """
    keep_project(project.pk)
    return Change.objects.create(
        project=project,
        actor=actor,
        action=action,
        subject=subject[:200],
        subject_id=subject_id,
        old=old,
        new=new,
    )


def changes_of(project: Project, *, actor: str = "", action: str = "") -> QuerySet[Change]:
    """The project's changes, newest first; of one person and of one kind, where they are named."""
    changes = project.changes.select_related("actor").order_by("-pk")
    if actor:
        changes = changes.filter(actor__username=actor)
    return changes.filter(action=action) if action else changes


@dataclass(frozen=True, slots=True)
class ChangedValue:
    """A part of a change, in words. `old` or `new` is None where there was or is none."""

    name: str
    old: str | None
    new: str | None


def in_words(change: Change) -> list[ChangedValue]:
    """What the change did to each value, old and new, without those that stayed as they were."""
    old, new = _parts(change.old), _parts(change.new)
    return [
        ChangedValue(name.replace("_", " "), old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _parts(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return {str(name): _word(part) for name, part in value.items() if part is not None}
    return {"": _word(value)}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')}: {_word(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    return str(value)
