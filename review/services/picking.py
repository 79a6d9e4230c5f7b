"""What managers do to many items at once, from the list of items. Nothing that a person said is ever overwritten."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet
from django.utils import timezone

from annotate.access import May, members_who_may
from annotate.errors import Refusal
from annotate.history import record
from annotate.label_sets import without_labels
from annotate.locks import lock_person
from annotate.models import Annotation, CalibrationLabel, Change, Item, Label, Project, User
from annotate.services.comments import comment_add
from criticize.models import Criticism
from jobs.services import JobStateError, job_retry
from review.blindness import open_tasks
from review.browsing import Chain, ItemFilter
from review.certification import drawn_items
from review.drawing import arm_of
from review.models import Correction, ReviewRound, ReviewTask
from review.services.deadlocks import again_after_deadlock
from review.services.settling import lock_in_order, settle, turns_of
from review.walking import Walk

MOST = 20_000
BATCH = 500  # items in one transaction: reviewers answer in between
_RUNS_AT_ONCE = 100  # of ids in one query
UNDO_WITHIN = timedelta(hours=1)
BROWSE = "browse"  # the arm of an answer that was given from the list

REVIEW, ACCEPT, RELABEL, RETRY, COMMENT, ASSIGN = "review", "accept", "relabel", "retry", "comment", "assign"
ACTIONS = {
    REVIEW: "Send to review",
    ACCEPT: "Accept the machine's answer",
    RELABEL: "Give a label",
    RETRY: "Ask the model again where it failed",
    COMMENT: "Add a comment",
    ASSIGN: "Assign to a reviewer",
}
_IN_ROUND = (REVIEW, ACCEPT, RELABEL, ASSIGN)
_ANSWERS = (ACCEPT, RELABEL)
UNDOABLE = (REVIEW, ACCEPT, RELABEL)
_HISTORY = {
    REVIEW: "items picked",
    ACCEPT: "items accepted",
    RELABEL: "items relabeled",
    RETRY: "items asked again",
    COMMENT: "items commented",
    ASSIGN: "items assigned",
}
_TAKEN_BACK = "items taken back"

# Why an item is left alone, of one and of several.
REASONS = {
    "answered": ("has a person's answer already", "have a person's answer already"),
    "skipped": ("was skipped by a person", "were skipped by people"),
    "held": ("is in somebody's hands", "are in somebody's hands"),
    "conflict": ("waits for adjudication", "wait for adjudication"),
    "yours": ("is one that the same person had a turn of", "are such that the same person had a turn of"),
    "calibration": ("is a calibration item", "are calibration items"),
    "blind": ("waits to be answered blind", "wait to be answered blind"),
    "outside": ("is none that the round was drawn from", "are none that the round was drawn from"),
    "unanswered": ("has no answer of the machine's", "have no answer of the machine's"),
    "waiting": ("waits in the round already", "wait in the round already"),
    "absent": ("does not wait in the round", "do not wait in the round"),
    "fine": ("has not failed", "have not failed"),
}
_DONE = {
    REVIEW: "sent to review",
    ACCEPT: "accepted",
    RELABEL: "relabeled",
    RETRY: "asked again",
    COMMENT: "commented on",
    ASSIGN: "assigned",
}
_LIVE = (ReviewTask.State.WAITING, ReviewTask.State.LEASED)
_DEALT = (ReviewTask.Purpose.REVIEW, ReviewTask.Purpose.PICKED)


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done; the label, the text or the reviewer where the action takes one."""

    name: str
    label: Label | None = None
    text: str = ""
    reviewer: User | None = None


@dataclass(frozen=True)
class Outcome:
    """How many items something was, or would be, done to, and how many were left alone by the name of the reason."""

    action: Action
    done: int
    left: Counter[str] = field(default_factory=Counter)
    change: Change | None = None

    @property
    def left_alone(self) -> list[str]:
        """As sentences without their full stop: "12 have a person's answer already"."""
        return [f"{count:,} {REASONS[name][count != 1]}" for name, count in self.left.most_common()]

    @property
    def sentence(self) -> str:
        """What happened: "410 relabeled; 12 have a person's answer already and were left alone."."""
        done = f"{self.done:,} {_DONE[self.action.name]}"
        if not self.left:
            return f"{done}."
        were = "was" if self.left.total() == 1 else "were"
        return f"{done}; {', '.join(self.left_alone)} and {were} left alone."


def chosen_items(
    *, project: Project, chain: Chain, wanted: ItemFilter, ids: Iterable[int] | None
) -> list[int]:
    """Ids of the items that were ticked, or with `ids` None of all that match, in their order. Raises Refusal."""
    found = Walk(project, wanted, chain).ids(MOST + 1) if ids is None else _of_project(project, ids)
    if not found:
        raise Refusal("Choose at least one item.", field="items")
    if len(found) > MOST:
        raise Refusal(
            f"At most {MOST:,} items are changed at a time, and more match. Narrow them down with a filter, and do "
            "the rest afterwards.",
            field="items",
        )
    return found


def _of_project(project: Project, ids: Iterable[int]) -> list[int]:
    wanted = list(dict.fromkeys(ids))[: MOST + 1]
    known: set[int] = set()
    for some in _batches(wanted):
        known.update(project.items.filter(pk__in=some).values_list("pk", flat=True))
    return [pk for pk in wanted if pk in known]


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


# --- What would be done, and doing it --------------------------------------------------------------------------------


def pick_preview(
    *, project: Project, chain: Chain, action: Action, ids: Sequence[int], user: User
) -> Outcome:
    """What `pick` would do now. Raises Refusal as it does."""
    sorter = _Sorter(project, chain, _checked(project, chain, action), user)
    left: Counter[str] = Counter()
    done = 0
    for some in _batches(ids):
        usable, reasons = sorter.sort_out(some, lock=False)
        done += len(usable)
        left += reasons
    return Outcome(action, done, left)


def pick(*, project: Project, chain: Chain, action: Action, ids: Sequence[int], user: User) -> Outcome:
    """Do it to the items, `BATCH` in a transaction; what cannot be done to an item leaves it alone and is counted.

    Sent to review, an item gets a task outside the round's draw and budget, after all others. Accepted or relabeled,
    its task (such a new one, where it had none) is answered by the acting person. Where something fails on the way,
    what was done by then stays, and the history says so. Raises Refusal, before anything is done.
    """
    action = _checked(project, chain, action)
    sorter = _Sorter(project, chain, action, user)
    doer: dict[str, Callable[[_Sorter, list[_Pick]], _Made]] = {
        REVIEW: _enqueue,
        ACCEPT: _answer,
        RELABEL: _answer,
        COMMENT: _comment,
        ASSIGN: _assign,
    }
    if action.name == RETRY:
        return _retry(sorter, ids)
    made, left, done = _Made(), Counter[str](), 0
    change = None
    try:
        for some in _batches(ids):
            usable, reasons, of_batch = _do(sorter, doer[action.name], some)
            made.add(of_batch)
            done += usable
            left += reasons
    finally:
        if done:
            change = _record(sorter, done, made)
    return Outcome(action, done, left, change)


@again_after_deadlock
@transaction.atomic
def _do(
    sorter: "_Sorter", act: Callable[["_Sorter", list["_Pick"]], "_Made"], ids: Sequence[int]
) -> tuple[int, Counter[str], "_Made"]:
    """Act on one batch: how many items it was done to, how many were left alone by reason, and what was made."""
    sorter.lock_round()
    usable, left = sorter.sort_out(ids, lock=True)
    return len(usable), left, act(sorter, usable)


@dataclass(frozen=True, slots=True)
class _Pick:
    """An item to act on: its annotation and criticism, and its task where it has one."""

    item_id: int
    annotation: Annotation | None = None
    criticism_id: int | None = None
    task: ReviewTask | None = None
    turns: int = 0


@dataclass
class _Made:
    """Ids of the tasks and answers that an action made."""

    tasks: list[int] = field(default_factory=list)
    corrections: list[int] = field(default_factory=list)

    def add(self, other: "_Made") -> None:
        self.tasks += other.tasks
        self.corrections += other.corrections


def _checked(project: Project, chain: Chain, action: Action) -> Action:
    """The action, if it can be done to any item at all. Raises Refusal."""
    if action.name not in ACTIONS:
        raise Refusal(f"The action is one of: {', '.join(ACTIONS)}.", field="action")
    if action.name in _IN_ROUND:
        _check_round(chain.round)
    if action.name == RELABEL:
        if project.task.is_written:
            raise Refusal(
                f"{without_labels(project.task)} have no label set: there is no label to give.", field="label"
            )
        if action.label is None or action.label.project_id != project.pk:
            raise Refusal("Choose one of the project's labels.", field="label")
    if action.name == ASSIGN and (
        action.reviewer is None
        or not members_who_may(project, May.REVIEW).filter(pk=action.reviewer.pk).exists()
    ):
        raise Refusal("Choose a member of the project who reviews.", field="reviewer")
    if action.name == COMMENT and not action.text.strip():
        raise Refusal("Write what you want to say.", field="text")
    if action.name == RETRY and chain.annotation is None:
        raise Refusal("Nothing is annotated yet, so there is nothing to ask again.", field="action")
    return action


def _check_round(round: ReviewRound | None) -> None:
    if round is None:
        raise Refusal(
            "People's answers belong to a review round, and none is drawn from this criticism yet. Draw one first.",
            field="round",
        )
    if round.state != ReviewRound.State.OPEN:
        raise Refusal(f"{round} is closed. Reopen it, or choose another round.", field="round")


class _Sorter:
    """Tells the items that an action can be done to from those that it leaves alone."""

    def __init__(self, project: Project, chain: Chain, action: Action, user: User) -> None:
        self.project, self.chain, self.action, self.user = project, chain, action, user
        self.round = chain.round
        self.who = action.reviewer if action.name == ASSIGN and action.reviewer else user
        drawn = action.name in _IN_ROUND and self.round is not None
        self._drawn = drawn_items(self.round) if drawn and self.round else np.array([], dtype=np.int64)

    def lock_round(self) -> None:
        """Keep others from adding tasks meanwhile, as raising the budget does. Raises Refusal."""
        if self.action.name in _IN_ROUND and self.round is not None:
            _check_round(
                ReviewRound.objects.select_for_update(of=("self",), no_key=True).get(pk=self.round.pk)
            )

    def sort_out(self, ids: Sequence[int], *, lock: bool) -> tuple[list[_Pick], Counter[str]]:
        """The items to act on, in their order, and how many are left alone by reason."""
        if self.action.name == COMMENT:
            return [_Pick(pk) for pk in ids], Counter()
        if self.action.name == RETRY:
            failed = Annotation.objects.filter(run=self.chain.annotation, item__in=ids).exclude(failure="")
            again = set(failed.values_list("item_id", flat=True))
            picks = [_Pick(pk) for pk in ids if pk in again]
            return picks, Counter({"fine": len(ids) - len(picks)}) if len(picks) < len(ids) else Counter()
        self._read(ids, lock=lock)
        usable: list[_Pick] = []
        left: Counter[str] = Counter()
        for pk in ids:
            found = self._look_at(pk)
            if isinstance(found, _Pick):
                usable.append(found)
            else:
                left[found] += 1
        return usable, left

    def _read(self, ids: Sequence[int], *, lock: bool) -> None:
        assert self.round is not None  # noqa: S101 (_checked was here)
        tasks = self.round.tasks.filter(item__in=ids).exclude(purpose=ReviewTask.Purpose.GOLD).order_by("pk")
        if lock:
            # Read afterwards: an adjudication that appears while this waits for the locks is not among them.
            lock_in_order(tasks)
        self._tasks: dict[int, list[ReviewTask]] = {}
        for task in tasks:
            self._tasks.setdefault(task.item_id, []).append(task)
        annotations = Annotation.objects.filter(run=self.chain.annotation, item__in=ids)
        self._annotations = {
            each.item_id: each for each in annotations.defer("raw_text", "reasoning", "logprobs")
        }
        criticisms = Criticism.objects.filter(
            run=self.chain.criticism,
            annotation__in=[each.pk for each in self._annotations.values()],
            failure="",
        )
        self._criticisms = dict(criticisms.values_list("annotation_id", "pk"))
        self._calibration = set(
            CalibrationLabel.objects.filter(item__in=ids).values_list("item_id", flat=True)
        )
        blind = Q(round__kind__in=[ReviewRound.Kind.CALIBRATION, ReviewRound.Kind.AUDIT])
        self._blind = set(open_tasks().filter(blind, item__in=ids).values_list("item_id", flat=True))
        audited = ReviewTask.counted.filter(
            round__in=self.chain.audits, item__in=ids, state=ReviewTask.State.ANSWERED
        )
        self._audited = set(audited.values_list("item_id", flat=True))
        self._inside = set(np.array(ids)[np.isin(ids, self._drawn)].tolist())

    def _look_at(self, pk: int) -> "_Pick | str":
        """The item to act on, or the name of the reason to leave it alone."""
        annotation = self._annotations.get(pk)
        if pk in self._calibration:
            return "calibration"
        if pk in self._blind:
            return "blind"
        if pk in self._audited:
            return "answered"
        if annotation is None or pk not in self._inside:
            return "outside"
        tasks = self._tasks.get(pk, [])
        counted = next((task for task in tasks if task.is_counted), None)
        if reason := self._why_not(tasks, counted):
            return reason
        if self.action.name == ACCEPT and annotation.failure:
            return "unanswered"
        return _Pick(pk, annotation, self._criticisms.get(annotation.pk), counted, len(tasks))

    def _why_not(self, tasks: Sequence[ReviewTask], counted: ReviewTask | None) -> str:
        State, now = ReviewTask.State, timezone.now()  # noqa: N806 (it is a class)
        if counted is None:
            return "absent" if self.action.name == ASSIGN else ""
        if counted.state == State.ANSWERED:
            return "answered"
        if counted.purpose == ReviewTask.Purpose.ADJUDICATION:
            return "conflict"
        if counted.state == State.SKIPPED:
            return "skipped"
        if any(
            task.state == State.LEASED and task.lease_until is not None and task.lease_until > now
            for task in tasks
        ):
            return "held"
        if self.action.name == REVIEW:
            return "waiting"
        others = [task for task in tasks if task is not counted]
        had = any(task.holder_id == self.who.pk or task.assigned_to_id == self.who.pk for task in others)
        return "yours" if had else ""


def _enqueue(sorter: _Sorter, picks: Sequence[_Pick]) -> _Made:
    return _Made(tasks=[task.pk for task in _new_tasks(sorter, picks)])


def _new_tasks(sorter: _Sorter, picks: Sequence[_Pick]) -> list[ReviewTask]:
    """A task of each item, ranked after the last."""
    assert sorter.round is not None  # noqa: S101 (_checked was here)
    last = sorter.round.tasks.aggregate(last=Max("rank"))["last"]
    first = 0 if last is None else last + 1
    return ReviewTask.objects.bulk_create(
        ReviewTask(
            round=sorter.round,
            item_id=pick.item_id,
            annotation=pick.annotation,
            criticism_id=pick.criticism_id,
            rank=rank,
            purpose=ReviewTask.Purpose.PICKED,
            arm=arm_of(sorter.round, pick.item_id),
        )
        for rank, pick in enumerate(picks, start=first)
    )


def _answer(sorter: _Sorter, picks: Sequence[_Pick]) -> _Made:
    """Answer the items' tasks for the acting person, with new ones where they have none."""
    created = iter(_new_tasks(sorter, [pick for pick in picks if pick.task is None]))
    new = []
    tasks = []
    for pick in picks:
        task = pick.task
        if task is None:
            task = next(created)
            new.append(task.pk)
        tasks.append(task)
    corrections = Correction.objects.bulk_create(
        Correction(
            task=task,
            action=Correction.Action.LABEL,
            author=sorter.user,
            shown={"arm": BROWSE},
            **_said(sorter.action, pick),
        )
        for task, pick in zip(tasks, picks, strict=True)
    )
    for task, correction in zip(tasks, corrections, strict=True):
        task.state, task.holder, task.lease_until = ReviewTask.State.ANSWERED, sorter.user, None
        task.correction, task.version = correction, task.version + 1
    ReviewTask.objects.bulk_update(
        tasks, ["state", "holder", "lease_until", "correction", "version"], batch_size=100
    )
    _settle(task for task, pick in zip(tasks, picks, strict=True) if pick.turns > 1)
    return _Made(new, [correction.pk for correction in corrections])


def _said(action: Action, pick: _Pick) -> dict[str, Any]:
    if action.name == RELABEL:
        return {"label": action.label}
    assert pick.annotation is not None  # noqa: S101 (without one it is left alone)
    machine = pick.annotation
    return {
        "label_id": machine.label_id,
        "answer": machine.answer,
        "start": machine.start,
        "end": machine.end,
    }


def _settle(tasks: Iterable[ReviewTask]) -> None:
    """Make the right turn count of items that have several."""
    for task in tasks:
        turns = turns_of(task)
        settle(next(turn for turn in turns if turn.pk == task.pk), turns)


def _comment(sorter: _Sorter, picks: Sequence[_Pick]) -> _Made:
    items = Item.objects.in_bulk([pick.item_id for pick in picks])
    for item in items.values():
        comment_add(item=item, user=sorter.user, text=sorter.action.text)
    return _Made()


def _assign(sorter: _Sorter, picks: Sequence[_Pick]) -> _Made:
    waiting = ReviewTask.objects.filter(pk__in=[pick.task.pk for pick in picks if pick.task is not None])
    waiting.filter(state__in=_LIVE, purpose__in=_DEALT).update(
        state=ReviewTask.State.WAITING, holder=None, lease_until=None, assigned_to=sorter.action.reviewer
    )
    return _Made()


def _retry(sorter: _Sorter, ids: Sequence[int]) -> Outcome:
    run = sorter.chain.annotation
    assert run is not None  # noqa: S101 (_checked was here)
    again: list[int] = []
    left: Counter[str] = Counter()
    for some in _batches(ids):
        usable, reasons = sorter.sort_out(some, lock=False)
        again += [pick.item_id for pick in usable]
        left += reasons
    if not again:
        return Outcome(sorter.action, 0, left)
    try:
        with transaction.atomic():
            job_retry(run.job, sorted(again))
            change = _record(sorter, len(again), _Made())
    except JobStateError as error:
        raise Refusal(str(error), field="action") from error
    return Outcome(sorter.action, len(again), left, change)


# --- History, and taking it back -------------------------------------------------------------------------------------


def _record(sorter: _Sorter, count: int, made: _Made) -> Change:
    action = sorter.action
    new: dict[str, Any] = {"items": count}
    if action.label is not None:
        new["label"] = action.label.name
    if action.reviewer is not None:
        new["reviewer"] = action.reviewer.username
    for name, pks in (("tasks", made.tasks), ("corrections", made.corrections)):
        if pks:
            new[name] = _runs(pks)
    in_round = action.name in _IN_ROUND and sorter.round is not None
    return record(
        sorter.project,
        sorter.user,
        _HISTORY[action.name],
        subject=str(sorter.round) if in_round else str(sorter.chain.annotation or ""),
        subject_id=sorter.round.pk if in_round and sorter.round else None,
        new=new,
    )


def _runs(pks: Iterable[int]) -> list[list[int]]:
    """Ids as [first, last] of those that follow each other: few, since they were made together."""
    runs: list[list[int]] = []
    for pk in sorted(pks):
        if runs and runs[-1][1] == pk - 1:
            runs[-1][1] = pk
        else:
            runs.append([pk, pk])
    return runs


def _ids_of(runs: Iterable[Sequence[int]]) -> list[int]:
    return [pk for first, last in runs for pk in range(first, last + 1)]


def answered_at_once(project: Project, tasks: QuerySet[ReviewTask]) -> Iterator[QuerySet[ReviewTask]]:
    """Of these tasks of the project, a part each, those whose answer was given to many items at once: nobody spent a
    review's time on them. They are found by the history, whose ids of answers an index answers."""
    given = Change.objects.filter(project=project, action__in=[_HISTORY[name] for name in _ANSWERS])
    changes = given.order_by("pk").values_list("new", flat=True)
    runs = [run for new in changes for run in (new or {}).get("corrections", [])]
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        wanted = Q()
        for first, last in runs[start : start + _RUNS_AT_ONCE]:
            wanted |= Q(correction__gte=first, correction__lte=last)
        yield tasks.filter(wanted)


@dataclass(frozen=True, slots=True)
class TakenBack:
    """`answers` that count no longer, `tasks` that left the queue; `left` were changed by somebody since."""

    answers: int
    tasks: int
    left: int

    @property
    def sentence(self) -> str:
        parts = []
        if self.answers:
            what = "answer was" if self.answers == 1 else "answers were"
            parts.append(f"{self.answers:,} {what} taken back, and the items wait in the round")
        if self.tasks:
            parts.append(f"{self.tasks:,} {'item' if self.tasks == 1 else 'items'} left the round")
        if self.left:
            what = "was changed since and was" if self.left == 1 else "were changed since and were"
            parts.append(f"{self.left:,} {what} left alone")
        return f"{'; '.join(parts)}." if parts else "There was nothing left to take back."


def can_undo(*, project: Project, user: User, change_id: int) -> bool:
    """Whether `pick_undo` would still take this back."""
    return _to_undo(project, user, change_id) is not None and not _is_taken_back(project, change_id)


def _to_undo(project: Project, user: User, change_id: int) -> Change | None:
    return Change.objects.filter(
        project=project,
        actor=user,
        pk=change_id,
        action__in=[_HISTORY[name] for name in UNDOABLE],
        created_at__gte=timezone.now() - UNDO_WITHIN,
    ).first()


def _is_taken_back(project: Project, change_id: int) -> bool:
    return Change.objects.filter(project=project, action=_TAKEN_BACK, subject_id=change_id).exists()


def pick_undo(*, project: Project, user: User, change_id: int) -> TakenBack:
    """Take back what the user did to many items within the last hour. Raises Refusal.

    Answers are taken back by rows of their own, and their items wait again. Tasks that nobody has touched leave the
    round; what was answered once is history, and its task stays.
    """
    change = _to_undo(project, user, change_id)
    if change is None:
        raise Refusal("This can no longer be taken back at once; each item's own page shows what was done.")
    made = change.new or {}
    answers, tasks = _ids_of(made.get("corrections", [])), _ids_of(made.get("tasks", []))
    with transaction.atomic():
        # Of two who send this at once the second waits here.
        Change.objects.select_for_update().get(pk=change.pk)
        if _is_taken_back(project, change.pk):
            raise Refusal("This was taken back already.")
        record(project, user, _TAKEN_BACK, subject=change.action, subject_id=change.pk, new=made)
    given = sum(_answers_take_back(some, user) for some in _batches(answers))
    # A task that was answered has history, and stays.
    removed = 0 if answers else sum(_tasks_remove(some) for some in _batches(tasks))
    return TakenBack(given, removed, (len(answers) or len(tasks)) - given - removed)


@again_after_deadlock
@transaction.atomic
def _answers_take_back(correction_ids: Sequence[int], user: User) -> int:
    # The person, then all turns of the items in order, as whoever answers one of them locks them.
    lock_person(user)
    given = Correction.objects.filter(pk__in=correction_ids, author=user)
    items = set(given.values_list("task__round", "task__item"))
    turns = ReviewTask.objects.filter(
        round__in={round_id for round_id, _ in items}, item__in={item_id for _, item_id in items}
    ).exclude(purpose=ReviewTask.Purpose.GOLD)
    lock_in_order(turns)
    tasks = list(turns.filter(correction__in=given).order_by("pk"))
    Correction.objects.bulk_create(
        Correction(task=task, action=Correction.Action.UNDO, author=user, shown={"arm": BROWSE})
        for task in tasks
    )
    ReviewTask.objects.filter(pk__in=[task.pk for task in tasks]).update(
        state=ReviewTask.State.WAITING,
        holder=None,
        lease_until=None,
        correction=None,
        version=F("version") + 1,
    )
    several = ReviewTask.objects.filter(round=OuterRef("round"), item=OuterRef("item")).exclude(
        Q(pk=OuterRef("pk")) | Q(purpose=ReviewTask.Purpose.GOLD)
    )
    _settle(ReviewTask.objects.filter(Exists(several), pk__in=[task.pk for task in tasks]))
    return len(tasks)


@again_after_deadlock
@transaction.atomic
def _tasks_remove(task_ids: Sequence[int]) -> int:
    untouched = ReviewTask.objects.filter(
        ~Exists(Correction.objects.filter(task=OuterRef("pk"))),
        pk__in=task_ids,
        purpose=ReviewTask.Purpose.PICKED,
        state=ReviewTask.State.WAITING,
    )
    locked = lock_in_order(untouched)
    ReviewTask.objects.filter(pk__in=locked).delete()
    return len(locked)
