"""Who answers what: a round's waiting items named for people, and handed back by those who stop."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from annotate.access import May, members_who_may
from annotate.errors import Refusal
from annotate.history import record
from annotate.models import Project, User
from review.models import ReviewRound, ReviewTask
from review.services.deadlocks import again_after_deadlock
from review.services.settling import lock_in_order

# What is dealt out: an adjudication is for managers, and a known item is for one reviewer from the start.
_DEALT = (ReviewTask.Purpose.REVIEW, ReviewTask.Purpose.PICKED)
_AT_ONCE = 5000  # ids in one statement
# Rounding: three shares of a third are no more than the whole.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Anybody:
    """Whoever comes first takes the most suspicious item that waits."""


@dataclass(frozen=True)
class ByShares:
    """By user id: the share of the items, above 0 and at most 1 in all. What is left over is for anybody."""

    shares: Mapping[int, float]


@dataclass(frozen=True)
class ByLabel:
    """By id of the machine's label: the users who answer such items, in equal parts."""

    people: Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class BySlice:
    """By the value of a column of the upload: the users who answer such items, in equal parts."""

    column: str
    people: Mapping[str, Sequence[int]]


Assignment = Anybody | ByShares | ByLabel | BySlice


@dataclass(frozen=True)
class Dealt:
    """What an assignment does: `tasks` by user id, None for anybody, and how many that is of `waiting`."""

    waiting: int
    tasks: Mapping[int | None, Sequence[int]]
    names: Mapping[int, str]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """(username, items) of everybody who is named, most first."""
        named = [(self.names[pk], len(tasks)) for pk, tasks in self.tasks.items() if pk is not None]
        return sorted(named, key=lambda each: (-each[1], each[0]))

    @property
    def open(self) -> int:
        """Items that anybody may take."""
        return len(self.tasks.get(None, ()))


def assignment_preview(*, round: ReviewRound, assignment: Assignment) -> Dealt:
    """What `assign` would do now. Raises Refusal."""
    return _deal(round, assignment)


@again_after_deadlock
@transaction.atomic
def assign(*, round: ReviewRound, user: User, assignment: Assignment) -> Dealt:
    """Name people for the round's waiting items, and for them alone: what somebody looks at or answered stays.

    Items are dealt in order of suspicion, so that everybody's share has the same mix; the copies of an item go to
    different people, and nobody gets an item that they had another turn of. What nobody is named for is for anybody.
    Items that join the round later are for anybody too, until they are assigned. Raises Refusal.
    """
    # Not the key: who makes a task of the round meanwhile must not wait for this while holding others.
    rounds = ReviewRound.objects.select_for_update(of=("self",), no_key=True)
    round = rounds.select_related("project").get(pk=round.pk)
    if round.state == ReviewRound.State.CLOSED:
        raise Refusal("The round is closed: nothing of it is handed out. Reopen it first.")
    lock_in_order(_waiting(round))
    before = _counts(round)
    dealt = _deal(round, assignment)
    for pk, task_ids in dealt.tasks.items():
        for start in range(0, len(task_ids), _AT_ONCE):
            some = ReviewTask.objects.filter(pk__in=task_ids[start : start + _AT_ONCE])
            some.filter(state=ReviewTask.State.WAITING, purpose__in=_DEALT).update(assigned_to=pk)
    record(
        round.project,
        user,
        "round assigned",
        subject=str(round),
        subject_id=round.pk,
        old=before,
        new={"how": _NAMES[type(assignment)]} | dict(dealt.counts) | {"anybody": dealt.open},
    )
    return dealt


_NAMES = {Anybody: "anybody", ByShares: "shares", ByLabel: "label", BySlice: "slice"}


def _waiting(round: ReviewRound) -> QuerySet[ReviewTask]:
    return round.tasks.filter(state=ReviewTask.State.WAITING, purpose__in=_DEALT)


def _counts(round: ReviewRound) -> dict[str, int]:
    names = _waiting(round).order_by().values_list("assigned_to__username", flat=True)
    return dict(Counter(name or "anybody" for name in names))


@dataclass
class _Shares:
    """Deals turns of one kind to people in proportion to their weights; None stands for anybody."""

    weights: Mapping[int | None, float]
    turns: int = 0
    given: Counter[int | None] = field(default_factory=Counter)

    def next(self, barred: set[int | None]) -> int | None:
        """Who is furthest behind their share and not barred."""
        self.turns += 1
        open_to = [pk for pk in self.weights if pk not in barred and self.weights[pk] > 0]
        chosen = max(open_to, key=lambda pk: self.weights[pk] * self.turns - self.given[pk], default=None)
        self.given[chosen] += 1
        return chosen


def _deal(round: ReviewRound, assignment: Assignment) -> Dealt:
    names = _names_of(round.project, assignment)
    key, weights = _keys(round, assignment)
    had = _had(round)
    shares: dict[Hashable, _Shares] = {}
    tasks: dict[int | None, list[int]] = defaultdict(list)
    waiting = 0
    for task_id, item_id, of in _rows(round, assignment):
        waiting += 1
        group = key(of)
        if group not in shares:
            shares[group] = _Shares(weights(group))
        barred = had[item_id]
        person = shares[group].next(barred)
        if person is not None:
            barred.add(person)
        tasks[person].append(task_id)
    return Dealt(waiting, dict(tasks), names)


def _rows(round: ReviewRound, assignment: Assignment) -> Iterator[tuple[int, int, Any]]:
    """(task, item, what its group is of) of the waiting tasks, most suspicious first."""
    of = {ByLabel: "annotation__label", BySlice: "item__columns"}.get(type(assignment), "pk")
    rows = _waiting(round).order_by("rank", "copy", "pk").values_list("pk", "item", of)
    return rows.iterator(chunk_size=_AT_ONCE)


def _had(round: ReviewRound) -> dict[int, set[int | None]]:
    """By item: the users who hold or answered a turn of it, or are the only ones who may."""
    had: dict[int, set[int | None]] = defaultdict(set)
    turns = round.tasks.exclude(state=ReviewTask.State.WAITING, purpose__in=_DEALT)
    for item_id, *people in turns.values_list("item", "holder", "assigned_to"):
        had[item_id].update(person for person in people if person is not None)
    return had


def _keys(
    round: ReviewRound, assignment: Assignment
) -> tuple[Callable[[Any], Hashable], Callable[[Any], Mapping[int | None, float]]]:
    """How a task's group is found, and the weight of each person in a group."""
    if isinstance(assignment, ByShares):
        left = max(0.0, 1.0 - sum(assignment.shares.values()))
        weights: dict[int | None, float] = {None: left if left > _TOLERANCE else 0.0}
        for person, share in assignment.shares.items():
            weights[person] = share
        return lambda of: None, lambda group: weights
    if isinstance(assignment, ByLabel):
        by_label = assignment.people
        return lambda of: of, lambda group: _equal(by_label.get(group, ()))
    if isinstance(assignment, BySlice):
        column, by_value = assignment.column, assignment.people
        return lambda of: slice_value(of, column), lambda group: _equal(by_value.get(group, ()))
    return lambda of: None, lambda group: {}


def slice_value(columns: Mapping[str, Any], column: str) -> str:
    """An item's value in a column, as pages write it; "" where it has none."""
    value = columns.get(column)
    return "" if value is None else str(value)


def _equal(people: Sequence[int]) -> dict[int | None, float]:
    return {person: 1 / len(people) for person in people}


def _names_of(project: Project, assignment: Assignment) -> dict[int, str]:
    """The usernames of those who are named. Raises Refusal for an assignment that cannot be dealt."""
    if isinstance(assignment, Anybody):
        return {}
    if isinstance(assignment, ByShares):
        _check_shares(assignment.shares)
        named = set(assignment.shares)
    else:
        named = {person for people in assignment.people.values() for person in people}
        if isinstance(assignment, ByLabel):
            _check_labels(project, assignment)
    if not named:
        raise Refusal("Name at least one person, or leave the items to anybody.", field="people")
    names = dict(members_who_may(project, May.REVIEW).values_list("pk", "username"))
    strangers = named - set(names)
    if strangers:
        raise Refusal(
            "Items can only be assigned to members of the project who review: owners, managers and reviewers.",
            field="people",
        )
    return {person: names[person] for person in named}


def _check_shares(shares: Mapping[int, float]) -> None:
    if any(not 0 < share <= 1 for share in shares.values()):
        raise Refusal("A person's share is above 0% and at most 100%.", field="shares")
    if sum(shares.values()) > 1 + _TOLERANCE:
        raise Refusal(
            f"The shares add up to {sum(shares.values()):.0%}; they can be 100% at most.", field="shares"
        )


def _check_labels(project: Project, assignment: ByLabel) -> None:
    unknown = set(assignment.people) - set(project.labels.values_list("pk", flat=True))
    if unknown:
        raise Refusal(f"The project has no label {min(unknown)}.", field="people")


def _held_by(user: User) -> Q:
    return Q(state=ReviewTask.State.LEASED, holder=user)


def _named_for(user: User) -> Q:
    named = Q(state__in=(ReviewTask.State.WAITING, ReviewTask.State.LEASED), assigned_to=user)
    return named & ~Q(purpose=ReviewTask.Purpose.GOLD)


def to_hand_back(user: User) -> Q:
    """Of turns: what the user looks at or was named for. Known items that wait for them are not told from the rest."""
    return _held_by(user) | _named_for(user)


@again_after_deadlock
@transaction.atomic
def tasks_hand_back(
    *, project: Project, user: User, by: User | None = None, round: ReviewRound | None = None
) -> int:
    """Open to all again what the user looks at or was named for, in the round or all of the project's; how many.

    Known items stay theirs: nobody else is measured by them.
    """
    theirs = ReviewTask.objects.filter(round__project=project)
    if round is not None:
        theirs = theirs.filter(round=round)
    task_ids = lock_in_order(theirs.filter(to_hand_back(user)))
    for start in range(0, len(task_ids), _AT_ONCE):
        some = ReviewTask.objects.filter(pk__in=task_ids[start : start + _AT_ONCE])
        some.filter(_named_for(user)).update(assigned_to=None)
        some.filter(_held_by(user)).update(state=ReviewTask.State.WAITING, holder=None, lease_until=None)
    if task_ids:
        record(
            project,
            by,
            "items handed back",
            subject=str(user) if round is None else f"{user} in {round}",
            subject_id=None if round is None else round.pk,
            new={"items": len(task_ids)},
        )
    return len(task_ids)
