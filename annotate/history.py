"""Who changed what in a project: a row for every change of state that is not an answer. Answers are corrections."""

from typing import Any

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
    done to; `old` and `new` are what JSON can hold. Changes are never edited or deleted.
    """
    return Change.objects.create(
        project=project,
        actor=actor,
        action=action,
        subject=subject[:200],
        subject_id=subject_id,
        old=old,
        new=new,
    )
