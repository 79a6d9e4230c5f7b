"""Which items somebody is still to answer without knowing more than they should."""

from django.db.models import Q, QuerySet

from annotate.models import Item, LabelExample, Project
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
