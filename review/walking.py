"""Finding the items of a filter in its order, a page at a time, among a million.

An order is a few segments, each walked along an index: the items that have the value it sorts by, then those without.
A place in it is named by the values there, so that the ten-thousandth page costs as much as the first. Where a filter
leaves few items, they are found by the filter's own index and sorted here instead.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

from django.db.models import Count, Exists, F, Func, OuterRef, Q, QuerySet, TextField
from django.db.models.expressions import BaseExpression, Combinable
from django.db.models.functions import Cast

from annotate.models import Annotation, CalibrationLabel, Comment, Item, Project
from criticize.models import Criticism
from review.answers import AGREED
from review.browsing import (
    CONFIDENCE_HIGH,
    CONFIDENCE_LOW,
    ERROR_HIGH,
    ERROR_LOW,
    REVIEWED,
    Chain,
    ItemFilter,
)
from review.models import ReviewRound, ReviewTask

# Up to so many items are sorted in memory; more are walked in the database.
FEW = 2_000
# So far ahead items are looked at before all that are left are sorted.
_AHEAD = 4_000
# Counting stops here: pages then say "1,000+".
MOST_COUNTED = 1_000

State, Purpose = ReviewTask.State, ReviewTask.Purpose
DONE = (State.ANSWERED, State.SKIPPED)
OPEN = (State.WAITING, State.LEASED)
Keys = tuple[float | int, ...]
Condition = Q | BaseExpression | Combinable

# By status: what it asks of an item's counted task in the round.
TASK_STATUSES: dict[str, Q] = {
    "waiting": Q(state__in=OPEN) & ~Q(purpose=Purpose.ADJUDICATION),
    "reviewed": Q(state=State.ANSWERED),
    "accepted": Q(state=State.ANSWERED) & AGREED,
    "corrected": Q(state=State.ANSWERED) & ~AGREED,
    "skipped": Q(state=State.SKIPPED),
    "conflict": Q(state__in=OPEN, purpose=Purpose.ADJUDICATION),
    "adjudicated": Q(state=State.ANSWERED, purpose=Purpose.ADJUDICATION),
}
# Of an answered task: the answer differs from a usable one of the machine's.
_DIFFERS = Q(state=State.ANSWERED, annotation__failure="") & ~AGREED


class ColumnText(Func):
    """The text in a column of an item's upload; `name` is the column's, as it is."""

    def __init__(self, columns: F, name: str) -> None:
        super().__init__(columns)
        self.name = name

    def as_sql(
        self, compiler: Any, connection: Any, *args: Any, **context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        columns, params = compiler.compile(self.source_expressions[0])
        if connection.vendor == "postgresql":
            return f"({columns} ->> %s)", (*params, self.name)
        return f"JSON_EXTRACT({columns}, %s)", (*params, f'$."{self.name}"')


def _items_of(rows: QuerySet[Any]) -> QuerySet[Any, int]:
    return rows.values_list("item_id", flat=True)


@dataclass(frozen=True)
class Segment:
    """A part of an order: rows along an index, by `keys` up or down, each row one item. No key is ever null."""

    rows: QuerySet[Any]
    keys: tuple[str, ...]
    item: str
    is_falling: bool = False

    def read(self, after: Keys | None, *, backward: bool, limit: int) -> list[tuple[Keys, int]]:
        """Up to `limit` of (keys, item id) beyond `after`, in the direction of reading."""
        falling = self.is_falling != backward
        rows = self.rows.order_by(*(f"-{key}" if falling else key for key in self.keys))
        beyond = "lt" if falling else "gt"
        parts = [rows]
        if after is not None:
            # Ties of the place itself first, then what lies beyond: each a plain range of the index.
            parts = [
                rows.filter(
                    **dict(zip(self.keys[:same], after[:same], strict=True)),
                    **{f"{self.keys[same]}__{beyond}": after[same]},
                )
                for same in reversed(range(len(self.keys)))
            ]
        found: list[tuple[Keys, int]] = []
        for part in parts:
            if len(found) < limit:
                values = part.values_list(*self.keys, self.item)[: limit - len(found)]
                found += [(tuple(row[:-1]), row[-1]) for row in values]
        return found


@dataclass(frozen=True)
class SortedTasks(Segment):
    """Tasks that no index has in order. The database sorts them all, unless enough are among the next of `along`.

    `along` is a segment of the same keys that an index has in order and that has every item of these tasks.
    """

    along: Segment = field(kw_only=True)

    def read(self, after: Keys | None, *, backward: bool, limit: int) -> list[tuple[Keys, int]]:
        ahead = [item for _, item in self.along.read(after, backward=backward, limit=_AHEAD)]
        near = Segment(self.rows.filter(**{f"{self.item}__in": ahead}), self.keys, self.item, self.is_falling)
        found = near.read(after, backward=backward, limit=limit)
        return found if len(found) == limit else super().read(after, backward=backward, limit=limit)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: a segment and the keys there. As text, `str(place)`, it stands in addresses."""

    segment: int
    keys: Keys

    def __str__(self) -> str:
        return "~".join(str(part) for part in (self.segment, *self.keys))


def place_from(text: str) -> Place | None:
    """The place that the text names; None for anything else."""
    parts = text.split("~")
    if not 2 <= len(parts) <= 3 or len(text) > 60:
        return None
    try:
        segment, keys = int(parts[0]), [float(part) for part in parts[1:-1]]
        tie = int(parts[-1])
    except ValueError:
        return None
    if not (0 <= segment <= 1 and abs(tie) < 2**62 and all(abs(key) < 1e300 for key in keys)):
        return None
    return Place(segment, (*keys, tie))


@dataclass(frozen=True, slots=True)
class Page:
    """Item ids in their order; the places of the pages before and after it, where there are any."""

    ids: list[int]
    before: Place | None = None
    after: Place | None = None
    count: int | None = None
    """How many items match in all, where that is known without counting."""


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Ids of the items before and after one in an order; None at its ends."""

    before: int | None
    after: int | None


@dataclass(frozen=True)
class Walk:
    """The items of a project that a filter leaves, in its order."""

    project: Project
    wanted: ItemFilter
    chain: Chain

    def page(self, *, after: Place | None = None, before: Place | None = None, size: int) -> Page:
        """Up to `size` items beyond a place. What is before the first page is the first page."""
        few = self._few
        place, backward = (before, True) if before is not None else (after, False)
        found = self._read(place, backward=backward, limit=size + 1)
        if backward:
            if len(found) <= size:
                return self.page(size=size)
            found = found[size - 1 :: -1]
            first, last = found[0][0], found[-1][0]
            return Page(
                [item for _, item in found], before=first, after=last, count=None if few is None else len(few)
            )
        has_more = len(found) > size
        found = found[:size]
        if not found:
            if place is not None:
                return self.page(size=size)
            return Page([], count=0)
        count = None if few is None else len(few)
        if count is None and place is None and not has_more:
            count = len(found)
        return Page(
            [item for _, item in found],
            before=found[0][0] if place is not None else None,
            after=found[-1][0] if has_more else None,
            count=count,
        )

    def ids(self, limit: int) -> list[int]:
        """The first `limit` items."""
        return [item for _, item in self._read(None, backward=False, limit=limit)]

    def neighbors(self, item_id: int) -> Neighbors | None:
        """Of an item in this order; None where the filter leaves it out."""
        place = self._place_of(item_id)
        if place is None:
            return None
        before = self._read(place, backward=True, limit=1)
        after = self._read(place, backward=False, limit=1)
        return Neighbors(before[0][1] if before else None, after[0][1] if after else None)

    def number(self, item_id: int, most: int = MOST_COUNTED) -> int | None:
        """Which one the item is, from 1; `most` + 1 for all behind that. None where the filter leaves it out."""
        place = self._place_of(item_id)
        return None if place is None else 1 + len(self._read(place, backward=True, limit=most))

    @property
    def is_counted(self) -> bool:
        """Whether counting takes no time, since the items were few enough to be sorted."""
        return self._few is not None

    def _place_of(self, item_id: int) -> Place | None:
        if self._few is not None:
            return next((place for place, pk in self._few if pk == item_id), None)
        if not self.project.items.filter(*self._conditions(""), pk=item_id).exists():
            return None
        return self._places([item_id]).get(item_id, self._last(item_id))

    def count(self, most: int = MOST_COUNTED) -> int:
        """How many items match; `most` + 1 for more."""
        if self._few is not None:
            return len(self._few)
        return len(replace(self, wanted=replace(self.wanted, sort="id")).ids(most + 1))

    def _read(self, place: Place | None, *, backward: bool, limit: int) -> list[tuple[Place, int]]:
        if self._few is not None:
            return self._read_few(place, backward=backward, limit=limit)
        segments = self._segments
        if place is not None and (
            place.segment >= len(segments) or len(place.keys) != len(segments[place.segment].keys)
        ):
            place = None
        order = range(len(segments))
        found: list[tuple[Place, int]] = []
        for number in reversed(order) if backward else order:
            if place is not None and (number > place.segment if backward else number < place.segment):
                continue
            after = place.keys if place is not None and place.segment == number else None
            read = segments[number].read(after, backward=backward, limit=limit - len(found))
            found += [(Place(number, keys), item) for keys, item in read]
            if len(found) >= limit:
                break
        return found

    # --- Few items: found by the filter's own index, and sorted here ---

    def _read_few(self, place: Place | None, *, backward: bool, limit: int) -> list[tuple[Place, int]]:
        rows: Iterator[tuple[Place, int]] = reversed(self._few or []) if backward else iter(self._few or [])
        if place is not None:
            at = self._sort_key(place)
            rows = (
                row
                for row in rows
                if (self._sort_key(row[0]) < at if backward else self._sort_key(row[0]) > at)
            )
        return list(islice(rows, limit))

    def _sort_key(self, place: Place) -> Keys:
        falls = place.segment == 0 and self._falls
        return (place.segment, *(-key for key in place.keys)) if falls else (place.segment, *place.keys)

    @property
    def _falls(self) -> bool:
        return self.wanted.sort in (ERROR_HIGH, REVIEWED, CONFIDENCE_HIGH)

    @cached_property
    def _few(self) -> list[tuple[Place, int]] | None:
        """Every matching item with its place, in order; None where they are many, or no index finds them."""
        for seed in self._seeds():
            among: set[int] = set()
            for part in seed:
                among.update(part.order_by()[: FEW + 1])
            if len(among) > FEW:
                continue
            rows = Item.objects.filter(project=self.project, pk__in=among)
            ids = list(rows.filter(*self._conditions("")).values_list("pk", flat=True).order_by())
            places = self._places(ids)
            return sorted(
                ((places.get(pk, self._last(pk)), pk) for pk in ids),
                key=lambda row: self._sort_key(row[0]),
            )
        return None

    def _last(self, item_id: int) -> Place:
        return Place(0 if self._by is None else 1, (item_id,))

    def _places(self, ids: Sequence[int]) -> dict[int, Place]:
        """By item: its place among those that have the value to sort by."""
        if self._by is None:
            return {}
        rows, keys, item = self._by
        if rows.model is Criticism:
            # By annotation rather than through it: a database may else read the criticisms of all items.
            said = Annotation.objects.filter(run=self.chain.annotation, item__in=ids)
            item_of = dict(said.values_list("pk", "item_id"))
            rated = Criticism.objects.filter(run=self.chain.criticism, annotation__in=list(item_of))
            keyed = rated.values_list(*keys).order_by()
            return {item_of[row[-1]]: Place(0, tuple(row)) for row in keyed if row[0] is not None}
        found = rows.filter(**{f"{item}__in": ids}).values_list(*keys, item).order_by()
        return {row[-1]: Place(0, tuple(row[:-1])) for row in found}

    def _seeds(self) -> Iterator[list[QuerySet[Any, int]]]:
        """For each filter that has an index of its own: ids of items, in parts, among them all that it leaves."""
        wanted, chain = self.wanted, self.chain
        if chain.round is not None:
            yield from self._seeds_of_tasks(chain.round)
        if wanted.status == "audited":
            yield [_items_of(self._answers.filter(round__in=chain.audits))]
        if wanted.status == "calibration" or wanted.calibration:
            yield [_items_of(self._calibrated)]
        if wanted.status == "commented":
            of_project = Item.objects.filter(pk=OuterRef("item"), project=self.project)
            # A join SQLite begins with all items of the project, of which hardly any has a comment.
            yield [_items_of(Comment.objects.filter(Exists(of_project))).distinct()]
        if wanted.reviewer:
            yield [_items_of(self._turns_of_reviewer())]
        if chain.annotation is not None and (wanted.failure or wanted.status == "failed"):
            yield [_items_of(self._failed())]
        if wanted.human is not None:
            yield self._given_by_people(wanted.human)
        if wanted.label is not None:
            yield [_items_of(self._labelled(wanted.label))]
        if wanted.final is not None:
            yield [*self._given_by_people(wanted.final), _items_of(self._labelled(wanted.final))]
        if self._bounds:
            criticized = Criticism.objects.filter(**self._bounds, run=chain.criticism)
            yield [criticized.values_list("annotation__item_id", flat=True)]
        if wanted.gold:
            labels = list(self.project.labels.values_list("pk", flat=True))
            yield [Item.objects.filter(gold__in=labels).values_list("pk", flat=True)]
        if wanted.gold is False:
            yield [Item.objects.filter(gold=None).values_list("pk", flat=True)]
        if wanted.upload is not None:
            yield [Item.objects.filter(upload=wanted.upload).values_list("pk", flat=True)]
        if wanted.status == "unlabeled" and self._is_all_labelled():
            yield []

    def _is_all_labelled(self) -> bool:
        """Whether every item was annotated or is a calibration item. By numbers: looking for one takes longer."""
        run = self.chain.annotation
        if run is None or run.job.is_active:
            return False
        said = Annotation.objects.filter(run=run)
        others = self._calibrated.exclude(Exists(said.filter(item=OuterRef("item"))))
        return said.count() + others.count() >= self.project.items.count()

    def _seeds_of_tasks(self, round: ReviewRound) -> Iterator[list[QuerySet[Any, int]]]:
        wanted = self.wanted
        tasks = ReviewTask.objects.filter(round=round)
        if wanted.status == "picked":
            yield [_items_of(tasks.filter(purpose=Purpose.PICKED))]
        elif wanted.status in TASK_STATUSES:
            yield [_items_of(tasks.filter(TASK_STATUSES[wanted.status], is_counted=True))]
        if wanted.disagreement == "people":
            yield [_items_of(self._later_copies())]
        elif wanted.disagreement == "machine":
            yield [_items_of(tasks.filter(_DIFFERS, is_counted=True))]

    def _given_by_people(self, label: int) -> list[QuerySet[Any, int]]:
        return [
            _items_of(self._answers.filter(correction__label=label)),
            _items_of(self._calibrated.filter(label=label)),
        ]

    @property
    def _calibrated(self) -> QuerySet[CalibrationLabel]:
        return CalibrationLabel.objects.filter(project=self.project)

    def _labelled(self, label: int) -> QuerySet[Annotation]:
        return Annotation.objects.filter(run=self.chain.annotation, label=label)

    # --- Many items: walked along an index ---

    @cached_property
    def _by(self) -> tuple[QuerySet[Any], tuple[str, ...], str] | None:
        """Rows that have the value to sort by, their keys, and the field that leads to the item; None: by id."""
        sort, chain = self.wanted.sort, self.chain
        if sort in (ERROR_HIGH, ERROR_LOW) and chain.criticism is not None:
            rows = Criticism.objects.filter(run=chain.criticism, priority__isnull=False)
            return rows, ("priority", "annotation_id"), "annotation__item_id"
        if sort in (CONFIDENCE_LOW, CONFIDENCE_HIGH) and chain.annotation is not None:
            confident = Annotation.objects.filter(run=chain.annotation, confidence__isnull=False)
            return confident, ("confidence", "item_id"), "item_id"
        if sort == REVIEWED and chain.round is not None:
            reviewed = ReviewTask.counted.filter(round=chain.round, correction__isnull=False)
            return reviewed, ("correction_id",), "item_id"
        return None

    @cached_property
    def _segments(self) -> list[Segment]:
        if self._by is None:
            return [self._in_order_of_id()]
        rows, keys, item = self._by
        if self._walks_tasks and self.wanted.sort != REVIEWED:
            return self._tasks_by_value(Segment(rows, keys, item, is_falling=self._falls))
        to_item = item.removesuffix("_id")
        having = Segment(rows.filter(*self._conditions(to_item)), keys, item, is_falling=self._falls)
        if self.wanted.sort in (ERROR_HIGH, ERROR_LOW) and self._bounds:
            return [having]
        has_value = Exists(rows.filter(**{item: OuterRef("pk")}))
        lacking = self.project.items.filter(~has_value, *self._conditions(""))
        return [having, Segment(lacking, ("pk",), "pk")]

    @property
    def _walks_tasks(self) -> bool:
        """Whether every item that is left has a counted task in the round: far fewer than there are items."""
        wanted = self.wanted
        return self.chain.round is not None and (
            wanted.status in TASK_STATUSES
            or wanted.disagreement == "machine"
            or (bool(wanted.reviewer) and not self.chain.audits)
        )

    @property
    def _tasks(self) -> QuerySet[ReviewTask]:
        tasks = ReviewTask.counted.filter(round=self.chain.round)
        if self.wanted.status in TASK_STATUSES:
            tasks = tasks.filter(TASK_STATUSES[self.wanted.status])
        return tasks

    def _tasks_by_value(self, along: Segment) -> list[Segment]:
        """The tasks that are left, sorted by what the machine said of their items, as `along` has those of all."""
        tasks = self._tasks.filter(*self._conditions("item", of_tasks=True))
        if self.wanted.sort in (ERROR_HIGH, ERROR_LOW):
            value, keys = "criticism__priority", ("criticism__priority", "annotation_id")
        else:
            value, keys = "annotation__confidence", ("annotation__confidence", "item_id")
        having = tasks.filter(**{f"{value}__isnull": False})
        lacking = tasks.filter(**{f"{value}__isnull": True})
        return [
            SortedTasks(having, keys, "item_id", is_falling=self._falls, along=along),
            Segment(lacking, ("item_id",), "item_id"),
        ]

    def _in_order_of_id(self) -> Segment:
        wanted, run = self.wanted, self.chain.annotation
        if self._walks_tasks:
            return Segment(
                self._tasks.filter(*self._conditions("item", of_tasks=True)), ("item_id",), "item_id"
            )
        if run is not None and wanted.label is not None:
            labelled = self._labelled(wanted.label).filter(*self._conditions("item"))
            return Segment(labelled, ("item_id",), "item_id")
        if run is not None and (wanted.failure or wanted.status == "failed"):
            return Segment(self._failed().filter(*self._conditions("item")), ("item_id",), "item_id")
        return Segment(self.project.items.filter(*self._conditions("")), ("pk",), "pk")

    # --- What the filters mean ---

    @property
    def _answers(self) -> QuerySet[ReviewTask]:
        """People's answers that are the items', in the round and its audits."""
        return ReviewTask.counted.filter(round__in=self.chain.rounds, state=State.ANSWERED)

    def _turns_of_reviewer(self) -> QuerySet[ReviewTask]:
        turns = ReviewTask.objects.filter(
            round__in=self.chain.rounds, holder__username=self.wanted.reviewer, state__in=DONE
        )
        return turns.exclude(purpose=Purpose.GOLD)

    def _later_copies(self) -> QuerySet[ReviewTask]:
        """Turns by which the items that several people answered are found."""
        return ReviewTask.objects.filter(
            Q(copy__gt=0) | Q(purpose=Purpose.ADJUDICATION), round=self.chain.round
        ).exclude(purpose=Purpose.GOLD)

    def _failed(self) -> QuerySet[Annotation]:
        failed = Annotation.objects.filter(run=self.chain.annotation).exclude(failure="")
        if not self.project.task.is_written:
            failed = failed.filter(label=None)  # There is an index of labels; all that have none failed.
        return failed.filter(failure=self.wanted.failure) if self.wanted.failure else failed

    @property
    def _bounds(self) -> dict[str, float]:
        """Of a criticism's priority, which is the error probability where there is one."""
        low, high = self.wanted.eps_min, self.wanted.eps_max
        bounds = {"priority__gte": low, "priority__lte": high}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def _conditions(self, to_item: str, *, of_tasks: bool = False) -> list[Condition]:
        """What every filter asks, of rows that lead to their item by `to_item` ("" for items themselves).

        `of_tasks`: the rows are `self._tasks`, of which the status of a task is asked already.
        """
        pk = OuterRef(f"{to_item}_id" if to_item else "pk")
        prefix = f"{to_item}__" if to_item else ""
        return [
            *self._machine_conditions(pk),
            *self._people_conditions(pk, of_tasks=of_tasks),
            *self._item_conditions(prefix, pk),
        ]

    def _machine_conditions(self, pk: OuterRef) -> Iterator[Condition]:
        wanted = self.wanted
        said = Annotation.objects.filter(run=self.chain.annotation, item=pk)
        if wanted.label is not None:
            yield Exists(said.filter(label=wanted.label))
        if wanted.failure:
            yield Exists(said.filter(failure=wanted.failure))
        if wanted.disagreement == "gold":
            gold = Q(label__isnull=False, item__gold__isnull=False)
            yield Exists(said.filter(gold, ~Q(label=F("item__gold"))))
        if self._bounds:
            criticized = Criticism.objects.filter(**self._bounds, run=self.chain.criticism)
            yield Exists(criticized.filter(annotation__run=self.chain.annotation, annotation__item=pk))

    def _people_conditions(self, pk: OuterRef, *, of_tasks: bool) -> Iterator[Condition]:
        wanted = self.wanted
        if wanted.status and not (of_tasks and wanted.status in TASK_STATUSES):
            yield self._status_condition(wanted.status, pk)
        answered = self._answers.filter(item=pk)
        calibrated = CalibrationLabel.objects.filter(item=pk)
        if wanted.human is not None:
            yield Exists(answered.filter(correction__label=wanted.human)) | Exists(
                calibrated.filter(label=wanted.human)
            )
        if wanted.final is not None:
            machine = Annotation.objects.filter(run=self.chain.annotation, item=pk, label=wanted.final)
            yield (
                Exists(answered.filter(correction__label=wanted.final))
                | Exists(calibrated.filter(label=wanted.final))
                | (Exists(machine) & ~Exists(answered) & ~Exists(calibrated))
            )
        if wanted.reviewer:
            yield Exists(self._turns_of_reviewer().filter(item=pk))
        if wanted.disagreement == "machine":
            yield Exists(ReviewTask.counted.filter(_DIFFERS, round=self.chain.round, item=pk))
        if wanted.disagreement == "people":
            turns = ReviewTask.objects.filter(round=self.chain.round, item=pk, state=State.ANSWERED)
            by_item = turns.exclude(purpose=Purpose.GOLD).order_by().values("item")
            labels = Count("correction__label", distinct=True)
            answers = Count("correction__answer", distinct=True)
            yield Exists(
                by_item.annotate(labels=labels, answers=answers).filter(Q(labels__gt=1) | Q(answers__gt=1))
            )

    def _status_condition(self, status: str, pk: OuterRef) -> Condition:
        in_round = ReviewTask.objects.filter(round=self.chain.round, item=pk)
        said = Annotation.objects.filter(run=self.chain.annotation, item=pk)
        is_calibration = Exists(CalibrationLabel.objects.filter(item=pk))
        match status:
            case "unlabeled":
                return ~Exists(said) & ~is_calibration
            case "machine":
                return (
                    Exists(said.filter(failure="")) & ~Exists(self._answers.filter(item=pk)) & ~is_calibration
                )
            case "failed":
                return Exists(said.exclude(failure=""))
            case "picked":
                return Exists(in_round.filter(purpose=Purpose.PICKED))
            case "calibration":
                return is_calibration
            case "audited":
                return Exists(self._answers.filter(item=pk, round__in=self.chain.audits))
            case "commented":
                return Exists(Comment.objects.filter(item=pk))
        return Exists(in_round.filter(TASK_STATUSES[status], is_counted=True))

    def _item_conditions(self, prefix: str, pk: OuterRef) -> Iterator[Condition]:
        wanted, task = self.wanted, self.project.task
        if wanted.gold is not None:
            yield Q(**{f"{prefix}gold__isnull": not wanted.gold})
        if wanted.calibration is not None:
            is_calibration = Exists(CalibrationLabel.objects.filter(item=pk))
            yield is_calibration if wanted.calibration else ~is_calibration
        if wanted.upload is not None:
            yield Q(**{f"{prefix}upload": wanted.upload})
        if wanted.q:
            parts = ["external_id", "text"]
            parts += ["question"] * task.needs_question + ["file_name"] * task.needs_image
            words = Q()
            for part in parts:
                words |= Q(**{f"{prefix}{part}__icontains": wanted.q})
            yield words
        for name, value in wanted.columns:
            of_item = Item.objects.filter(pk=pk).alias(
                of_column=Cast(ColumnText(F("columns"), name), TextField())
            )
            yield Exists(of_item.filter(of_column=value))
