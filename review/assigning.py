"""What an assignment can be made by: the labels and slices among a round's waiting items."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from django.db.models import QuerySet

from review.models import ReviewRound, ReviewTask
from review.services.assignment import slice_value

MOST_GROUPS = 30  # a page lists; more are for the API
# Enough to see which columns have few values; of all items only the chosen column is counted.
_LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class Group:
    """Waiting items with the same label or value; `key` is the label's id or the value."""

    key: str
    name: str
    items: int


def label_groups(round: ReviewRound) -> list[Group]:
    """The machine's labels of the items that wait, most frequent first."""
    waiting = _waiting(round).filter(annotation__label__isnull=False)
    counts = Counter(waiting.values_list("annotation__label", "annotation__label__name"))
    return [Group(str(pk), name, items) for (pk, name), items in counts.most_common(MOST_GROUPS)]


def slice_columns(round: ReviewRound) -> list[str]:
    """Columns of the upload that cut what waits into a handful of slices."""
    values: dict[str, set[str]] = defaultdict(set)
    for columns in _waiting(round).values_list("item__columns", flat=True)[:_LOOKED_AT]:
        for column in columns:
            values[column].add(slice_value(columns, column))
    return sorted(column for column, found in values.items() if 1 < len(found) <= MOST_GROUPS)


def slice_groups(round: ReviewRound, column: str) -> list[Group]:
    """The values of a column among the items that wait, most frequent first."""
    rows = _waiting(round).values_list("item__columns", flat=True)
    counts = Counter(slice_value(columns, column) for columns in rows.iterator())
    return [Group(value, value or "(empty)", items) for value, items in counts.most_common(MOST_GROUPS)]


def _waiting(round: ReviewRound) -> QuerySet[ReviewTask]:
    return round.tasks.filter(
        state=ReviewTask.State.WAITING, purpose__in=(ReviewTask.Purpose.REVIEW, ReviewTask.Purpose.PICKED)
    ).order_by()
