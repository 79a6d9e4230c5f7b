"""The queue of a round: claiming the next item, answering, undoing. One person an item, and nothing is overwritten."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import Label, User
from annotate.services.calibration import calibration_label_remove, calibration_label_set
from annotate.written import clean_answer
from review.models import Correction, ReviewRound, ReviewTask

LEASE = timedelta(minutes=10)
# Candidates looked at when several people claim at the same moment.
_CANDIDATES = 16
MOST_CLAIMED = 10
MOST_CHARACTERS = 100_000  # of a written answer


class Conflict(Refusal):
    """Somebody, or another tab, was faster."""

    is_conflict = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says about a task. `key` names the answer, so that sending it twice counts once.

    `text` is the whole answer where the task's answers are written: the machine's again, or another.
    """

    action: str
    label: Label | None = None
    text: str = ""
    reason: str = ""
    seconds: float | None = None
    version: int | None = None
    key: uuid.UUID | None = None


def tasks_claim(*, round: ReviewRound, user: User, count: int = 1) -> list[ReviewTask]:
    """Up to `count` tasks leased to the user, lowest rank first; those the user already holds come back first."""
    count = max(1, min(count, MOST_CLAIMED))
    if round.state == ReviewRound.State.CLOSED:
        return []
    now = timezone.now()
    until = now + LEASE
    tasks = round.tasks.select_related(
        "item__image", "annotation__label", "annotation__run", "criticism__run"
    )
    ReviewTask.objects.filter(round=round, state=ReviewTask.State.LEASED, holder=user).update(
        lease_until=until
    )
    held = list(tasks.filter(state=ReviewTask.State.LEASED, holder=user).order_by("rank")[:count])
    missing = count - len(held)
    free = Q(state=ReviewTask.State.WAITING) | Q(state=ReviewTask.State.LEASED, lease_until__lte=now)
    while missing > 0:
        candidates = list(
            round.tasks.filter(free).order_by("rank").values_list("pk", flat=True)[:_CANDIDATES]
        )
        if not candidates:
            break
        taken = []
        for pk in candidates:
            claimed = ReviewTask.objects.filter(free, pk=pk).update(
                state=ReviewTask.State.LEASED, holder=user, lease_until=until
            )
            if claimed:
                taken.append(pk)
            if len(taken) == missing:
                break
        held += sorted(tasks.filter(pk__in=taken), key=lambda task: task.rank)
        missing -= len(taken)
    return held


def tasks_release(*, round: ReviewRound, user: User, task_ids: Collection[int] | None = None) -> int:
    """Hand back what the user holds and has not answered, or those of it with the ids; returns how many."""
    held = ReviewTask.objects.filter(round=round, holder=user, state=ReviewTask.State.LEASED)
    if task_ids is not None:
        held = held.filter(pk__in=task_ids)
    return held.update(state=ReviewTask.State.WAITING, holder=None, lease_until=None)


def what_is_shown(task: ReviewTask) -> dict[str, object]:
    """What the reviewer sees beside the item; nothing in a blind round.

    Nobody writes every answer anew, so that blind to the machine's answer a written one could not be judged: there an
    audit shows the answer, and nothing of what a criticizer made of it.
    """
    if task.round.project.task.is_written:
        return _what_is_shown_of_answer(task)
    if task.round.is_blind or task.annotation is None:
        return {"machine_label": None, "error_prob": None}
    return {
        "machine_label": task.annotation.label_id,
        "error_prob": task.criticism.error_prob if task.criticism else None,
        "reasoning": bool(task.annotation.reasoning),
        "criticism": bool(task.criticism and task.criticism.reasoning),
    }


def _what_is_shown_of_answer(task: ReviewTask) -> dict[str, object]:
    shown: dict[str, object] = {
        "machine_label": None,
        "machine_answer": bool(task.annotation and task.annotation.answer),
        "error_prob": None,
    }
    if task.round.is_blind or task.annotation is None:
        return shown
    criticism = task.criticism
    return shown | {
        "error_prob": criticism.error_prob if criticism else None,
        "priority": criticism.priority if criticism else None,
        "facts": len(criticism.facts or ()) if criticism else 0,
        "reasoning": bool(task.annotation.reasoning),
        "criticism": bool(criticism and criticism.reasoning),
    }


@transaction.atomic
def task_submit(*, task: ReviewTask, user: User, answer: Answer) -> Correction:
    """Keep a person's answer. Sent again with the same key, it changes nothing.

    An answer that comes after its lease ran out is kept and marked late; it counts unless the item is somebody else's
    by then. Raises Conflict where the task changed under the sender (another tab, an undo).
    """
    key = answer.key or uuid.uuid4()
    # The same answer sent twice at once waits here for the first.
    found = (
        ReviewTask.objects.select_for_update(of=("self",))
        .select_related("round__project", "annotation", "criticism")
        .filter(pk=task.pk)
        .first()
    )
    if found is None:
        raise Conflict(
            "This item left the queue when the round's budget was raised a moment ago. Take the next one."
        )
    task = found
    known = Correction.objects.filter(key=key).first()
    if known is not None:
        if known.author_id != user.pk or known.task_id != task.pk:
            raise Refusal("This answer's key is already used.", field="key")
        return known
    _check_answer(task, answer)
    now = timezone.now()
    is_holder = task.holder_id == user.pk
    leased = task.state == ReviewTask.State.LEASED and task.lease_until is not None and task.lease_until > now
    answered = task.state in (ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)
    belongs_to_other = not is_holder and (leased or answered)
    if answer.version is not None and answer.version != task.version and not belongs_to_other:
        raise Conflict(
            "This item was answered in another tab or undone. Load it again to see it as it is now."
        )
    correction = Correction.objects.create(
        task=task,
        action=answer.action,
        label=answer.label,
        answer=clean_answer(answer.text),
        reason=answer.reason[:200],
        author=user,
        seconds=answer.seconds,
        shown=what_is_shown(task),
        late=not is_holder or (task.state == ReviewTask.State.LEASED and not leased),
        key=key,
    )
    if not belongs_to_other:
        task.state = (
            ReviewTask.State.ANSWERED
            if answer.action == Correction.Action.LABEL
            else ReviewTask.State.SKIPPED
        )
        task.holder = user
        task.lease_until = None
        task.correction = correction
        task.version = F("version") + 1
        task.save(update_fields=["state", "holder", "lease_until", "correction", "version"])
        _keep_calibration(task, correction)
    return correction


def _check_answer(task: ReviewTask, answer: Answer) -> None:
    if task.round.project.task.is_written:
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


def _keep_calibration(task: ReviewTask, correction: Correction) -> None:
    if task.round.kind != ReviewRound.Kind.CALIBRATION:
        return
    if correction.label is not None:
        calibration_label_set(item=task.item, label=correction.label, author=correction.author)
    else:
        calibration_label_remove(item=task.item)


@transaction.atomic
def answer_undo(*, round: ReviewRound, user: User) -> ReviewTask:
    """Take back the user's last answer in the round and hand its task to the user again. Raises Refusal."""
    last = (
        Correction.objects.filter(author=user, task__round=round, task__correction_id=F("pk"))
        .order_by("-id")
        .select_related("task")
        .first()
    )
    if last is None:
        raise Refusal("There is nothing of yours to undo in this round.")
    task = (
        ReviewTask.objects.select_for_update(of=("self",))
        .select_related("round", "item")
        .get(pk=last.task_id)
    )
    if task.correction_id != last.pk:
        raise Conflict("This answer was changed or undone in another tab just now.")
    undo = Correction.objects.create(task=task, action=Correction.Action.UNDO, author=user)
    task.state = ReviewTask.State.LEASED
    task.holder = user
    task.lease_until = timezone.now() + LEASE
    task.correction = None
    task.version = F("version") + 1
    task.save(update_fields=["state", "holder", "lease_until", "correction", "version"])
    _keep_calibration(task, undo)
    task.refresh_from_db()
    return task
