"""Which items somebody is still to answer without knowing more than they should."""

from collections.abc import Iterable

from django.db.models import Q, QuerySet

from annotate.models import Item, Label, LabelExample, Project
from review.models import ReviewRound, ReviewTask

BLIND_KINDS = [ReviewRound.Kind.CALIBRATION, ReviewRound.Kind.AUDIT]
_OPEN = [ReviewTask.State.WAITING, ReviewTask.State.LEASED]


def open_tasks() -> QuerySet[ReviewTask]:
    """Turns that somebody may still take: those of open rounds that nobody answered or skipped."""
    return ReviewTask.objects.filter(round__state=ReviewRound.State.OPEN, state__in=_OPEN)


def waits_blind(item: Item) -> bool:
    """Whether somebody is still to label the item without seeing a machine's label."""
    return open_tasks().filter(item=item, round__kind__in=BLIND_KINDS).exists()


def tasks_that_a_label_would_sway(project: Project) -> QuerySet[ReviewTask]:
    """Open turns whose reviewers must not be told the item's label: blind ones, and known items."""
    return open_tasks().filter(
        Q(round__kind__in=BLIND_KINDS) | Q(arm=ReviewTask.Arm.BLIND) | Q(purpose=ReviewTask.Purpose.GOLD),
        round__project=project,
    )


def examples_to_hide(project: Project) -> set[int]:
    """Ids of the items that are examples of a label while a turn waits that knowing it would sway."""
    examples = LabelExample.objects.filter(label__project=project)
    tasks = tasks_that_a_label_would_sway(project).filter(item__in=examples.values("item"))
    return set(tasks.values_list("item_id", flat=True).order_by())


def names_for_reviewers(project: Project, items: Iterable[Item]) -> dict[int, str]:
    """What whoever answers is told that items are called, by the items' ids: their own ids, without telling the label.

    In a zip whose folders are the gold labels, an image's path would say the answer: a folder that is named like a
    label is left out.
    """
    names = {item.pk: item.external_id for item in items}
    if not any("/" in name for name in names.values()):
        return names
    labels = {
        name.casefold() for name in Label.objects.filter(project=project).values_list("name", flat=True)
    }
    return {item_id: _without_labels(name, labels) for item_id, name in names.items()}


def _without_labels(path: str, labels: set[str]) -> str:
    *folders, name = path.split("/")
    return "/".join([*("…" if folder.casefold() in labels else folder for folder in folders), name])
