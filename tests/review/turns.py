"""People's turns at items as they are once they are answered, each made with one call."""

from typing import Any

from annotate.models import Annotation, Item, Label, Membership, Project, User
from review.models import Correction, ReviewRound, ReviewTask
from tests.factories import (
    label_named,
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_membership,
    make_project,
    make_round,
    make_user,
)

Purpose = ReviewTask.Purpose


def make_people(project: Project, *names: str, role: str = Membership.Role.REVIEWER) -> list[User]:
    people = [make_user(name) for name in names]
    for person in people:
        make_membership(project, person, role)
    return people


def make_labeled_round(
    items: int = 4, labels: tuple[str, ...] = ("negative", "positive"), **fields: Any
) -> ReviewRound:
    """A round of all items, whose machine's label is the first; its tasks wait."""
    project = make_project(labels=labels)
    make_items(project, items)
    round = make_round(make_criticism_run(make_annotation_run(project)), items)
    if fields:
        ReviewRound.objects.filter(pk=round.pk).update(**fields)
        round.refresh_from_db()
    return round


def items_of(round: ReviewRound) -> list[Item]:
    """The round's items, the most suspicious first."""
    return [task.item for task in round.counted_tasks.select_related("item").order_by("rank")]


def make_turn(
    round: ReviewRound,
    item: Item,
    person: User,
    said: str,
    *,
    purpose: str = Purpose.REVIEW,
    arm: str = ReviewTask.Arm.CRITICISM,
    seconds: float | None = 3.0,
    reason: str = "",
) -> ReviewTask:
    """The person's answer to the item: a label's name, a text where answers are written, or "" for a skip.

    The first answer takes the item's own task; each further one a copy.
    """
    counted = round.counted_tasks.filter(item=item).first()
    is_first = (
        purpose in (Purpose.REVIEW, Purpose.PICKED) and counted is not None and counted.correction is None
    )
    if is_first and counted is not None and counted.purpose == Purpose.REVIEW:
        task = counted
        task.arm, task.purpose = arm, purpose
    else:
        copies = round.tasks.filter(item=item, purpose__in=[Purpose.REVIEW, Purpose.PICKED]).count()
        task = ReviewTask(
            round=round,
            item=item,
            annotation=_annotation(round, item),
            criticism=counted.criticism if counted else None,
            rank=counted.rank if counted else 1000,
            purpose=purpose,
            copy=copies,
            arm=arm,
            is_counted=purpose != Purpose.GOLD and counted is None,
            assigned_to=person if purpose == Purpose.GOLD else None,
        )
    is_written = round.project.task.is_written
    task.state = ReviewTask.State.ANSWERED if said else ReviewTask.State.SKIPPED
    task.holder = person
    task.version += 1
    task.save()
    task.correction = Correction.objects.create(
        task=task,
        action=Correction.Action.LABEL if said else Correction.Action.SKIP,
        label=label_named(round.project, said) if said and not is_written else None,
        answer=said if is_written else "",
        author=person,
        seconds=seconds,
        reason=reason,
    )
    task.save(update_fields=["correction"])
    return task


def make_adjudication(round: ReviewRound, item: Item) -> ReviewTask:
    """The task that settles the item's answers; it is the counted one from now on."""
    round.tasks.filter(item=item).update(is_counted=False)
    first = round.tasks.filter(item=item).order_by("copy").first()
    assert first is not None
    return ReviewTask.objects.create(
        round=round,
        item=item,
        annotation=first.annotation,
        criticism=first.criticism,
        rank=first.rank,
        purpose=Purpose.ADJUDICATION,
        arm=ReviewTask.Arm.CRITICISM,
    )


def _annotation(round: ReviewRound, item: Item) -> Annotation | None:
    run = round.criticism_run
    return item.annotations.filter(run=run.annotation_run_id).first() if run else None


def label_of(round: ReviewRound, name: str) -> Label:
    return label_named(round.project, name)
