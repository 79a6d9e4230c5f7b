"""Which of an item's turns counts: its readers' first answer while they agree, the adjudication where they differ."""

from collections.abc import Iterable, Sequence

from django.db.models import QuerySet

from annotate.services.calibration import (
    calibration_answer_set,
    calibration_label_remove,
    calibration_label_set,
)
from review.answers import answer_key
from review.models import ReviewRound, ReviewTask

Purpose = ReviewTask.Purpose
State = ReviewTask.State

OPEN = (State.WAITING, State.LEASED)
DONE = (State.ANSWERED, State.SKIPPED)
READ_BY = (Purpose.REVIEW, Purpose.PICKED)


def lock_in_order(tasks: QuerySet[ReviewTask]) -> list[int]:
    """Ids of the tasks, which are locked until the transaction ends.

    Whoever changes several tasks locks them in this order first: two who do then wait for one another, and never both.
    """
    return list(tasks.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))


def turns_of(task: ReviewTask) -> list[ReviewTask]:
    """All turns of the task's item in its round, locked until the transaction ends; without other known-item turns.

    Turns are always locked in the same order, so that two answers to one item wait for one another and no more.
    """
    others = ReviewTask.objects.filter(round=task.round_id, item=task.item_id)
    others = (
        others.exclude(purpose=Purpose.GOLD) if task.purpose != Purpose.GOLD else others.filter(pk=task.pk)
    )
    rows = others.select_related("correction").order_by("pk")
    locked = list(rows.select_for_update(of=("self",)))
    # An adjudication that appeared while this waited for the locks is not among what it waited for.
    return list(rows) if len(locked) > 1 else locked


def settle(task: ReviewTask, turns: Sequence[ReviewTask]) -> ReviewTask:
    """Make the right one of an item's turns count, and return it.

    `turns` are all of the item, locked, and as they are after the change of `task`. Readers who differ make an
    adjudication, which counts from then on; one that nobody has answered goes when they agree again, and one with
    history stays. An answered adjudication counts whatever readers say later. A skip beside an answer is no conflict;
    where all skip, the item is skipped, and until then it waits for the next reader.
    """
    if task.purpose == Purpose.GOLD:
        return task
    readers = [turn for turn in turns if turn.purpose in READ_BY]
    adjudication = next((turn for turn in turns if turn.purpose == Purpose.ADJUDICATION), None)
    if adjudication is None and len(readers) == 1:
        counted = readers[0]
    elif adjudication is not None and adjudication.state in DONE:
        counted = adjudication
    elif differ(readers):
        counted = adjudication if adjudication is not None else _adjudication_of(task.round, readers)
    else:
        counted = _first(readers)
        if adjudication is not None and not adjudication.corrections.exists():
            adjudication.delete()
            turns = [turn for turn in turns if turn is not adjudication]
    _count(counted, turns)
    _keep_calibration(task.round, counted)
    return counted


def differ(readers: Iterable[ReviewTask]) -> bool:
    """Whether those who answered gave different answers: other labels, other texts, or spans that do not match."""
    answers = {
        answer_key(turn.correction.label_id, turn.correction.answer, turn.correction.start)
        for turn in readers
        if turn.state == State.ANSWERED and turn.correction is not None
    }
    return len(answers) > 1


def _first(readers: Sequence[ReviewTask]) -> ReviewTask:
    """Of readers who agree: who answered first; else who is still to answer; else who skipped first."""

    def place(turn: ReviewTask) -> tuple[int, int]:
        if turn.state == State.ANSWERED:
            return 0, turn.correction_id or 0
        if turn.state in OPEN:
            return 1, turn.copy
        return 2, turn.correction_id or 0

    return min(readers, key=place)


def _adjudication_of(round: ReviewRound, readers: Sequence[ReviewTask]) -> ReviewTask:
    """A new task for a manager, who sees all that there is; in blind rounds all that people said, and no more."""
    reader = readers[0]
    return ReviewTask(
        round_id=reader.round_id,
        item_id=reader.item_id,
        annotation_id=reader.annotation_id,
        criticism_id=reader.criticism_id,
        rank=reader.rank,
        purpose=Purpose.ADJUDICATION,
        arm=ReviewTask.Arm.BLIND if round.is_blind else ReviewTask.Arm.CRITICISM,
    )


def _count(counted: ReviewTask, turns: Iterable[ReviewTask]) -> None:
    # One of them at a time: the database keeps two from counting.
    for turn in turns:
        if turn.is_counted and turn is not counted:
            turn.is_counted = False
            turn.save(update_fields=["is_counted"])
    if counted._state.adding:
        counted.save()
    elif not counted.is_counted:
        counted.is_counted = True
        counted.save(update_fields=["is_counted"])


def _keep_calibration(round: ReviewRound, counted: ReviewTask) -> None:
    """In a calibration round the answer that counts is the item's calibration label."""
    if round.kind != ReviewRound.Kind.CALIBRATION:
        return
    correction = counted.correction if counted.state == State.ANSWERED else None
    if correction is not None and correction.label is not None:
        calibration_label_set(item=counted.item, label=correction.label, author=correction.author)
    elif correction is not None and correction.start is not None:
        calibration_answer_set(
            item=counted.item, answer=correction.answer, start=correction.start, author=correction.author
        )
    else:
        calibration_label_remove(item=counted.item)
