"""The queue of a round: claiming the next items, answering, undoing. One person a turn, and nothing is overwritten."""

import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core.cache import cache
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from annotate.access import May, require
from annotate.errors import Refusal
from annotate.locks import lock_person
from annotate.models import Label, User
from annotate.written import clean_answer
from review.models import Correction, ReviewRound, ReviewTask
from review.services import known_items
from review.services.deadlocks import again_after_deadlock
from review.services.pauses import pause_of, require_not_paused
from review.services.settling import DONE, READ_BY, lock_in_order, settle, turns_of

LEASE = timedelta(minutes=10)
_RENEWED_BELOW = LEASE * 2 / 3  # Renewing with every claim would write with every claim.
# What others are just writing is passed over, and looked at again when nothing else is left.
_ATTEMPTS = 5
_PAUSE = 0.01  # seconds
_LONGEST_WAIT = 3  # seconds, for a larger budget to be drawn, which locks all of a round
# Where several people answer each item: passing over more ranks than this is remembered, so many seconds at least, and
# the longer, the further it was.
_FAR = 500
_FRONT_KEPT, _RANKS_A_SECOND = 60.0, 500
_END_KEPT = 10.0
_LOCK_TIMED_OUT = "55P03"  # SQLSTATE
MOST_CLAIMED = 10
MOST_CHARACTERS = 100_000  # of a written answer
_AGREED_AGAIN = "The answers to this item agree again, so there is nothing to adjudicate any more."


class Conflict(Refusal):
    """Somebody, or another tab, was faster."""

    is_conflict = True


class Busy(Refusal):
    """What was asked for is not there at the moment: worth asking for again."""

    is_passing = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says about a task. `key` names the answer, so that sending it twice counts once.

    `text` is the whole answer where the task's answers are words: the machine's again, or another. Where they are
    spans it stands at the characters `start` up to `end` of the item's text; "no answer" is "" from 0 to 0.
    """

    action: str
    label: Label | None = None
    text: str = ""
    start: int | None = None
    end: int | None = None
    reason: str = ""
    seconds: float | None = None
    version: int | None = None
    key: uuid.UUID | None = None


@again_after_deadlock
def tasks_claim(*, round: ReviewRound, user: User, count: int = 1) -> list[ReviewTask]:
    """Up to `count` tasks leased to the user, lowest rank first; those the user already holds come back first.

    Nobody is handed an item that they hold or answered another turn of, an adjudication, or what is assigned to
    somebody else. Raises Refusal for whoever is paused in the round, and Busy where nothing can be had until a larger
    budget is drawn.
    """
    count = max(1, min(count, MOST_CLAIMED))
    if round.state == ReviewRound.State.CLOSED:
        return []
    require_not_paused(round, user)
    held = _held(round, user, count)
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        held += _take(round, user, count - len(held))
        if (
            len(held) >= count
            or not connection.features.has_select_for_update
            or not _is_any_free(round, user)
        ):
            break
    else:
        if not held:
            _wait_for_draw(round)
            held = _take(round, user, count)
    return _shown(round, user, held)


def _wait_for_draw(round: ReviewRound) -> None:
    """Wait until nobody changes the round as a whole. Raises Busy where that takes long."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {int(1000 * _LONGEST_WAIT)}")
            ReviewRound.objects.select_for_update(no_key=True).values_list("pk").get(pk=round.pk)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _LOCK_TIMED_OUT:
            raise
        raise Busy(
            "A larger budget is being drawn for this round. Its items come when that is done."
        ) from error


def _shown(round: ReviewRound, user: User, ids: Sequence[int]) -> list[ReviewTask]:
    """The tasks in this order, with all that a review screen shows of them, without those that the user lost since."""
    parts = ("item__image", "annotation__label", "annotation__run", "criticism__run")
    # By their keys alone: named the round too, SQLite looks through all of its tasks for them.
    rows = ReviewTask.objects.filter(pk__in=ids).select_related(*parts).order_by()
    still = {row.pk: row for row in rows if row.state == ReviewTask.State.LEASED and row.holder_id == user.pk}
    tasks = [still[pk] for pk in ids if pk in still]
    for task in tasks:
        task.round = round
    return tasks


def _held(round: ReviewRound, user: User, count: int) -> list[int]:
    """Keys of up to `count` tasks that the user holds, with leases that last, lowest rank first."""
    now = timezone.now()
    mine = ReviewTask.objects.filter(round=round, holder=user, state=ReviewTask.State.LEASED)
    rows = mine.exclude(purpose=ReviewTask.Purpose.ADJUDICATION).order_by("rank", "pk")
    held = list(rows.values_list("pk", "lease_until")[:count])
    if any(until is None or until - now < _RENEWED_BELOW for _, until in held):
        with transaction.atomic():
            mine.filter(pk__in=lock_in_order(mine)).update(lease_until=now + LEASE)
    return [pk for pk, _ in held]


def _take(round: ReviewRound, user: User, missing: int) -> list[int]:
    """Lease up to `missing` free tasks to the user; returns their keys, lowest rank first."""
    if missing <= 0:
        return []
    with transaction.atomic():
        lock_person(user)
        now = timezone.now()
        chosen = _choose(round, user, now, missing)
        # They are locked, or the whole database is: nobody else can have taken them.
        ReviewTask.objects.filter(pk__in=chosen).update(
            state=ReviewTask.State.LEASED, holder=user, lease_until=now + LEASE
        )
        return known_items.mix_in(round, user, chosen)


class _Free(NamedTuple):
    rank: int
    copy: int
    pk: int
    item_id: int


@dataclass(frozen=True, slots=True)
class _Front:
    """Before `rank` nothing waited for a person when it was looked for last; it is looked for again at `until`."""

    rank: int = 0
    until: float = 0.0  # seconds since the epoch
    is_end: bool = False


_START = _Front()


def _choose(round: ReviewRound, user: User, now: datetime, count: int) -> list[int]:
    """Keys of up to `count` free tasks of different items, lowest rank first.

    Where several people answer each item, whoever is ahead of the others would have all that they answered already
    looked through each time. So it is remembered for a while where that ends. What others hand back before it comes to
    them a little later, and nothing is lost: who finds nothing behind it is looked for from the start.
    """
    front = _front(round, user)
    chosen = _first_free(round, user, now, count, front)
    if len(chosen) < count and front.rank and not front.is_end:
        front = _START
        chosen = _first_free(round, user, now, count, front)
    if round.overlap > 1:
        _keep_front(round, user, front, chosen)
    return [each.pk for each in chosen]


def _first_free(round: ReviewRound, user: User, now: datetime, count: int, front: _Front) -> list[_Free]:
    # Of each item all turns of it may come before the next item's.
    most = count * (round.overlap + 1) if round.overlap > 1 else count
    found: list[_Free] = []
    for rows in _free(round, user, now, front):
        locked = rows.select_for_update(of=("self",), skip_locked=True)
        found += (_Free(*row) for row in locked.values_list(*_Free._fields)[:most])
    chosen: dict[int, _Free] = {}
    for each in sorted(found):
        chosen.setdefault(each.item_id, each)
    return list(chosen.values())[:count]


def _front_key(round: ReviewRound, user: User) -> str:
    return f"queue-front-{round.pk}-{round.draw_number}-{user.pk}"


def _front(round: ReviewRound, user: User) -> _Front:
    if round.overlap == 1:
        return _START
    kept: _Front = cache.get(_front_key(round, user), _START)
    return kept if kept.until > time.time() else _START


def _keep_front(round: ReviewRound, user: User, front: _Front, chosen: list[_Free]) -> None:
    waiting = round.tasks.filter(state=ReviewTask.State.WAITING, assigned_to=None)
    ranks = waiting.order_by("assigned_to_id", "rank").values_list("rank", flat=True)
    first = ranks.first()
    if first is None:
        return
    last = waiting.order_by("-assigned_to_id", "-rank").values_list("rank", flat=True).first()
    rank = chosen[0].rank if chosen else (last or first) + 1
    if rank - first <= _FAR:
        return
    kept = max(_FRONT_KEPT, (rank - first) / _RANKS_A_SECOND) if chosen else _END_KEPT
    until = front.until or time.time() + kept
    cache.set(_front_key(round, user), _Front(rank, until, is_end=not chosen), max(1.0, until - time.time()))


def _is_any_free(round: ReviewRound, user: User) -> bool:
    return any(rows.exists() for rows in _free(round, user, timezone.now(), _front(round, user)))


def _free(round: ReviewRound, user: User, now: datetime, front: _Front) -> Iterator[QuerySet[ReviewTask]]:
    """What the user may be handed, as queries that an index answers in the order of the queue."""
    tasks = round.tasks.filter(Q(purpose__in=READ_BY) | Q(purpose=ReviewTask.Purpose.GOLD, assigned_to=user))
    # Also where each item is answered once: it may have been theirs as a known item before it was drawn or picked.
    own = ReviewTask.objects.filter(item=OuterRef("item"), round=round, holder=user)
    tasks = tasks.filter(~Exists(own))
    waiting = tasks.filter(state=ReviewTask.State.WAITING).order_by("assigned_to_id", "rank", "copy")
    for_anybody = waiting.filter(assigned_to=None)
    yield for_anybody.filter(rank__gte=front.rank) if front.rank else for_anybody
    yield waiting.filter(assigned_to=user)
    lapsed = tasks.filter(state=ReviewTask.State.LEASED, lease_until__lte=now)
    yield lapsed.filter(Q(assigned_to=None) | Q(assigned_to=user)).order_by("rank", "copy")


@again_after_deadlock
@transaction.atomic
def tasks_release(*, round: ReviewRound, user: User, task_ids: Collection[int] | None = None) -> int:
    """Hand back what the user holds and has not answered, or those of it with the ids; returns how many."""
    held = ReviewTask.objects.filter(round=round, holder=user, state=ReviewTask.State.LEASED)
    if task_ids is not None:
        held = held.filter(pk__in=task_ids)
    cache.delete(_front_key(round, user))
    return held.filter(pk__in=lock_in_order(held)).update(
        state=ReviewTask.State.WAITING, holder=None, lease_until=None
    )


def arm_shown(task: ReviewTask) -> str:
    """What whoever answers the task sees."""
    return ReviewTask.Arm.BLIND.value if task.round.is_blind else task.arm


def what_is_shown(task: ReviewTask) -> dict[str, object]:
    """What the reviewer sees beside the item, by the task's arm; blind, nothing.

    Nobody writes every answer anew, so that blind to the machine's answer a written one could not be judged: there
    also who is blind sees the answer, and nothing of what a criticizer made of it.
    """
    kind = task.round.project.task
    if not kind.is_checkable:
        return _what_is_shown_of_answer(task)
    arm = arm_shown(task)
    if arm == ReviewTask.Arm.BLIND or task.annotation is None:
        return {"arm": arm, "machine_label": None, "error_prob": None}
    everything = arm == ReviewTask.Arm.CRITICISM
    criticism = task.criticism if everything else None
    return {
        "arm": arm,
        "machine_label": task.annotation.label_id,
        "error_prob": criticism.error_prob if criticism else None,
        "reasoning": everything and bool(task.annotation.reasoning),
        "criticism": bool(criticism and criticism.reasoning),
        **({"machine_answer": task.annotation.start is not None} if kind.is_span else {}),
    }


def _what_is_shown_of_answer(task: ReviewTask) -> dict[str, object]:
    arm = arm_shown(task)
    shown: dict[str, object] = {
        "arm": arm,
        "machine_label": None,
        "machine_answer": bool(task.annotation and task.annotation.answer),
        "error_prob": None,
    }
    if arm != ReviewTask.Arm.CRITICISM or task.annotation is None:
        return shown
    criticism = task.criticism
    return shown | {
        "error_prob": criticism.error_prob if criticism else None,
        "priority": criticism.priority if criticism else None,
        "facts": len(criticism.facts or ()) if criticism else 0,
        "reasoning": bool(task.annotation.reasoning),
        "criticism": bool(criticism and criticism.reasoning),
    }


@again_after_deadlock
@transaction.atomic
def task_submit(*, task: ReviewTask, user: User, answer: Answer) -> Correction:
    """Keep a person's answer. Sent again with the same key, it changes nothing.

    An answer that comes after its lease ran out is kept and marked late; it counts unless the item is somebody else's
    by then, or who sent it was paused. Raises Conflict where the task changed under the sender (another tab, an undo).
    An adjudication is for managers, who need not hold it: raises PermissionDenied for others.
    """
    is_adjudication = task.purpose == ReviewTask.Purpose.ADJUDICATION
    if is_adjudication:
        require(user, task.round.project, May.MANAGE)
    key = answer.key or uuid.uuid4()
    lock_person(user)
    # The same answer sent twice at once waits here for the first.
    task, turns = _locked(task)
    known = Correction.objects.filter(key=key).first()
    if known is not None:
        if known.author_id != user.pk or known.task_id != task.pk:
            raise Refusal("This answer's key is already used.", field="key")
        return known
    if is_adjudication and not task.is_counted:  # One that was undone stays, for its history.
        raise Conflict(_AGREED_AGAIN)
    _check_answer(task, answer)
    now = timezone.now()
    is_holder = task.holder_id == user.pk
    leased = task.state == ReviewTask.State.LEASED and task.lease_until is not None and task.lease_until > now
    belongs_to_other = not is_holder and (leased or task.state in DONE or _is_kept_from(task, turns, user))
    holds = is_holder and task.state == ReviewTask.State.LEASED
    # A pause takes back what its reviewer holds. What they send after it is kept, and counts for nothing.
    is_paused = not holds and not is_adjudication and pause_of(task.round, user) is not None
    belongs_to_other = belongs_to_other or is_paused
    if is_adjudication and belongs_to_other:
        raise Conflict("Somebody else adjudicated this item already. Load it again to see what they said.")
    if answer.version is not None and answer.version != task.version and not belongs_to_other:
        raise Conflict(
            "This item was answered in another tab or undone. Load it again to see it as it is now."
        )
    shown = what_is_shown(task)
    if is_adjudication:
        shown["answers"] = [turn.correction_id for turn in turns if turn.pk != task.pk and turn.state in DONE]
    correction = Correction.objects.create(
        task=task,
        action=answer.action,
        label=answer.label,
        answer=answer.text if task.round.project.task.is_span else clean_answer(answer.text),
        start=answer.start,
        end=answer.end,
        reason=answer.reason[:200],
        author=user,
        seconds=answer.seconds,
        shown=shown,
        late=not is_adjudication
        and (not is_holder or (task.state == ReviewTask.State.LEASED and not leased)),
        key=key,
    )
    if not belongs_to_other:
        task.state = (
            ReviewTask.State.ANSWERED
            if answer.action == Correction.Action.LABEL
            else ReviewTask.State.SKIPPED
        )
        task.holder = user
        task.correction = correction
        _keep(task)
        settle(task, turns)
        if task.purpose == ReviewTask.Purpose.GOLD:
            known_items.answered(task, correction)
    return correction


def _locked(task: ReviewTask) -> tuple[ReviewTask, list[ReviewTask]]:
    """The task as it is now, and all turns of its item, locked. Raises Conflict where it is gone."""
    turns = turns_of(task)
    found = next((turn for turn in turns if turn.pk == task.pk), None)
    if found is None and task.purpose == ReviewTask.Purpose.ADJUDICATION:
        raise Conflict(_AGREED_AGAIN)
    if found is None:
        raise Conflict(
            "This item left the queue when the round's budget was raised a moment ago. Take the next one."
        )
    # These never change, and whoever asks has read them.
    found.round, found.item = task.round, task.item
    found.annotation, found.criticism = task.annotation, task.criticism
    return found, turns


def _is_kept_from(task: ReviewTask, turns: list[ReviewTask], user: User) -> bool:
    """Whether a task that nobody holds is not for this person: it is assigned to another, or they have another turn."""
    if task.purpose == ReviewTask.Purpose.ADJUDICATION:
        return False
    if task.assigned_to_id not in (None, user.pk):
        return True
    readers = (turn for turn in turns if turn.purpose in READ_BY and turn.pk != task.pk)
    return any(turn.holder_id == user.pk for turn in readers)


def _keep(task: ReviewTask) -> None:
    """Write a task's new state, holder and answer."""
    if task.state != ReviewTask.State.LEASED:
        task.lease_until = None
    task.version += 1
    task.save(update_fields=["state", "holder", "lease_until", "correction", "version"])


def _check_answer(task: ReviewTask, answer: Answer) -> None:
    kind = task.round.project.task
    if not kind.is_span and (answer.start is not None or answer.end is not None):
        raise Refusal("The answers of this project are no parts of a text.", field="start")
    if kind.is_span:
        _check_span(task.item.text, answer)
    elif kind.is_written:
        _check_written(answer)
    elif answer.text:
        raise Refusal("The answers of this project are labels.", field="answer")
    elif answer.action == Correction.Action.LABEL:
        if answer.label is None or answer.label.project_id != task.round.project_id:
            raise Refusal("Choose one of the project's labels.", field="label")
    elif answer.action != Correction.Action.SKIP or answer.label is not None:
        raise Refusal("An answer is a label or a skip.", field="action")
    if answer.seconds is not None and not 0 <= answer.seconds < 1e6:
        raise Refusal("The seconds must lie between 0 and a million.", field="seconds")


def _check_span(text: str, answer: Answer) -> None:
    """Raise Refusal unless the answer is exactly what stands at its characters of the text, "no answer", or a skip."""
    if answer.label is not None:
        raise Refusal("The answers of this project are parts of the text: it has no labels.", field="label")
    if answer.action != Correction.Action.LABEL:
        if answer.action != Correction.Action.SKIP or answer.text or answer.start is not None:
            raise Refusal("An answer is a part of the text, “no answer”, or a skip.", field="action")
        return
    start, end = answer.start, answer.end
    if start is None or end is None:
        raise Refusal(
            "Say at which characters of the text the answer begins and ends, or that there is no answer.",
            field="start",
        )
    if (start, end) == (0, 0):
        if answer.text:
            raise Refusal("An answer from 0 to 0 is “no answer”, and has no words.", field="answer")
    elif not 0 <= start < end <= len(text):
        raise Refusal(
            f"The answer must lie within the text, which has {len(text):,} characters.", field="start"
        )
    elif text[start:end] != answer.text:
        raise Refusal("The answer is not what stands at these characters of the text.", field="answer")
    elif not answer.text.strip():
        raise Refusal("Choose words of the text, or say that it holds no answer.", field="answer")


def _check_written(answer: Answer) -> None:
    if answer.label is not None:
        raise Refusal("The answers of this project are written: it has no labels.", field="label")
    if answer.action == Correction.Action.LABEL:
        if not clean_answer(answer.text):
            raise Refusal("Write an answer, or skip the item.", field="answer")
        if len(answer.text) > MOST_CHARACTERS:
            raise Refusal(f"An answer has at most {MOST_CHARACTERS:,} characters.", field="answer")
    elif answer.action != Correction.Action.SKIP or answer.text:
        raise Refusal("An answer is a text or a skip.", field="action")


@again_after_deadlock
@transaction.atomic
def answer_undo(*, round: ReviewRound, user: User) -> ReviewTask:
    """Take back the user's last answer in the round's queue and hand its task to the user again. Raises Refusal, for
    whoever is paused too: an answer that led to the pause stays.
    """
    require_not_paused(round, user)
    last = _last_answer(round, user).exclude(task__purpose=ReviewTask.Purpose.ADJUDICATION).first()
    if last is None:
        raise Refusal("There is nothing of yours to undo in this round.")
    return _undo(last, user)


@again_after_deadlock
@transaction.atomic
def adjudication_undo(*, round: ReviewRound, user: User) -> ReviewTask:
    """Take back the user's last adjudication in the round, which waits for a manager then. Raises Refusal.

    Where its readers agree by now, what they say counts again.
    """
    require(user, round.project, May.MANAGE)
    last = _last_answer(round, user).filter(task__purpose=ReviewTask.Purpose.ADJUDICATION).first()
    if last is None:
        raise Refusal("There is no adjudication of yours to undo in this round.")
    return _undo(last, user)


def _last_answer(round: ReviewRound, user: User) -> QuerySet[Correction]:
    """The user's answers in the round that stand, last one first."""
    answers = Correction.objects.filter(author=user, task__round=round, task__correction_id=F("pk"))
    return answers.order_by("-id").select_related(
        "task__round__project", "task__item", "task__annotation", "task__criticism"
    )


def _undo(last: Correction, user: User) -> ReviewTask:
    lock_person(user)
    task, turns = _locked(last.task)
    if task.correction_id != last.pk:
        raise Conflict("This answer was changed or undone in another tab just now.")
    Correction.objects.create(task=task, action=Correction.Action.UNDO, author=user)
    task.correction = None
    if task.purpose == ReviewTask.Purpose.ADJUDICATION:
        task.state, task.holder = ReviewTask.State.WAITING, None
    else:
        task.state, task.holder = ReviewTask.State.LEASED, user
        task.lease_until = timezone.now() + LEASE
    _keep(task)
    settle(task, turns)
    return task
