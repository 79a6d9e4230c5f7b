"""What a manager ends while somebody else works on it: on PostgreSQL, where both get to write."""

import pytest
from django.db import transaction
from django.db.models import QuerySet

from annotate.errors import Refusal
from annotate.models import User
from jobs.leases import Progress, claim
from jobs.models import Chunk, Job
from review.known import counts_since
from review.models import Correction, Export, ReviewTask
from review.services import known_items, pauses
from review.services.exports import export_cancel
from review.services.pauses import pause, pause_of
from review.services.queue import Answer, task_submit
from review.services.settling import lock_in_order
from tests.factories import label_named, make_export, make_reviewable_round
from tests.review.test_known_items import ann, make_gold_round, take
from tests.waiting import Meanwhile, needs_row_locks

__all__ = ["ann"]  # a fixture

pytestmark = [pytest.mark.django_db(transaction=True), needs_row_locks]


def make_gold_turn(reviewer: User) -> ReviewTask:
    """A known item that whoever answers it wrongly is paused for."""
    round = make_gold_round(gold_threshold=0.9, gold_minimum=1)
    with transaction.atomic():
        take(round, reviewer, 10)
    turn = round.tasks.filter(purpose=ReviewTask.Purpose.GOLD, holder=reviewer)
    found: ReviewTask = turn.select_related("round__project", "item", "annotation", "criticism")[0]
    return found


def wrong(turn: ReviewTask) -> Answer:
    return Answer("label", label_named(turn.round.project, "negative"))


def test_an_answer_that_comes_late_while_its_author_is_paused_is_kept(ann: User):
    turn = make_gold_turn(ann)
    round, manager = turn.round, turn.round.project.created_by
    round.tasks.filter(holder=ann).update(state=ReviewTask.State.WAITING, holder=None, lease_until=None)

    with transaction.atomic():
        paused = pause(round=round, user=ann, by=manager)
        answering = Meanwhile(lambda: task_submit(task=turn, user=ann, answer=wrong(turn)))

    assert answering.end() == Correction.objects.get()
    assert pause_of(round, ann) == paused
    turn.refresh_from_db()
    assert turn.state == ReviewTask.State.WAITING


def test_a_reviewer_paused_by_hand_and_by_an_answer_at_once_is_paused_once(ann: User, monkeypatch):
    turn = make_gold_turn(ann)
    round, manager = turn.round, turn.round.project.created_by
    pausing: list[Meanwhile[object]] = []

    def counts_while_paused(*asked: object) -> tuple[int, int]:
        pausing.append(Meanwhile(lambda: pause(round=round, user=ann, by=manager)))
        return counts_since(*asked)  # type: ignore[arg-type]

    handed_back: list[object] = []

    def hand_back(tasks: QuerySet[ReviewTask]) -> list[int]:
        handed_back.append(tasks)
        return lock_in_order(tasks)

    monkeypatch.setattr(pauses, "lock_in_order", hand_back)
    monkeypatch.setattr(known_items, "counts_since", counts_while_paused)
    task_submit(task=turn, user=ann, answer=wrong(turn))

    with pytest.raises(Refusal, match="is paused in this round already"):
        pausing[0].end()
    assert (
        len(handed_back) == 1
    )  # the one who came second touched nothing: neither can have waited for the other
    turn.refresh_from_db()
    assert turn.state == ReviewTask.State.ANSWERED


def test_an_export_that_is_cancelled_while_a_part_of_it_is_written_ends():
    export = make_export(make_reviewable_round())
    Chunk.objects.create(job=export.job, number=0)
    lease = claim(export.job_id)
    assert lease is not None
    cancelling: list[Meanwhile[None]] = []

    def rows() -> Progress:
        Export.objects.filter(pk=export.pk).update(written={"parts": []})
        user = export.created_by
        cancelling.append(Meanwhile(lambda: export_cancel(export=export, user=user)))
        return Progress()

    lease.write(rows)

    cancelling[0].end()
    export.refresh_from_db()
    export.job.refresh_from_db()
    assert (export.job.state, export.written) == (Job.State.CANCELLED, {})
