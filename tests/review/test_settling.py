import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection

from annotate.errors import Refusal
from annotate.models import CalibrationLabel, Membership, User
from review.models import Correction, ReviewRound, ReviewTask
from review.selectors import round_progress, task_for_reviewer
from review.services.queue import (
    Answer,
    Conflict,
    adjudication_undo,
    answer_undo,
    task_submit,
    tasks_claim,
)
from review.services.rounds import calibration_round_create, round_create
from review.setup import RoundSetup
from tests.factories import (
    label_named,
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_membership,
    make_project,
    make_user,
)

pytestmark = pytest.mark.django_db

State, Purpose = ReviewTask.State, ReviewTask.Purpose


def make_overlapping(items: int = 1, overlap: int = 3, kind: str = "review") -> ReviewRound:
    """A round whose items all have `overlap` turns."""
    project = make_project()
    make_items(project, items)
    setup = RoundSetup(overlap=overlap, overlap_share=1.0)
    if kind == "calibration":
        return calibration_round_create(project=project, user=project.created_by, count=items, setup=setup)
    run = make_criticism_run(make_annotation_run(project))
    return round_create(run=run, user=project.created_by, count=items, setup=setup)


def people(round: ReviewRound, count: int) -> list[User]:
    users = [make_user() for _ in range(count)]
    for user in users:
        make_membership(round.project, user, Membership.Role.REVIEWER)
    return users


def say(round: ReviewRound, user: User, label: str | None) -> ReviewTask:
    """What the user says of the next item they are handed; None is a skip."""
    (task,) = tasks_claim(round=round, user=user)
    answer = Answer("skip") if label is None else Answer("label", label_named(round.project, label))
    task_submit(task=task, user=user, answer=answer)
    return ReviewTask.objects.get(pk=task.pk)


def adjudicate(round: ReviewRound, label: str, user: User | None = None) -> Correction:
    task = round.tasks.get(purpose=Purpose.ADJUDICATION)
    answer = Answer("label", label_named(round.project, label))
    return task_submit(task=task, user=user or round.created_by, answer=answer)


def counted(round: ReviewRound) -> ReviewTask:
    return round.counted_tasks.select_related("correction__label").get()


def label_of(task: ReviewTask) -> str | None:
    return task.correction.label.name if task.correction and task.correction.label else None


class TestAgreement:
    def test_the_first_answer_counts_while_all_agree(self):
        round = make_overlapping()
        ann, bob, cid = people(round, 3)

        turns = [say(round, user, "positive") for user in (ann, bob, cid)]

        assert counted(round).pk == turns[0].pk
        assert not round.tasks.filter(purpose=Purpose.ADJUDICATION).exists()
        assert round_progress(round).answered == round_progress(round).selected == 1

    def test_whoever_answers_first_counts_whatever_their_copy(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        (first,) = tasks_claim(round=round, user=ann)
        second = say(round, bob, "positive")

        assert (first.copy, second.copy, counted(round).pk) == (0, 1, second.pk)

    def test_a_skip_beside_an_answer_is_no_conflict(self):
        round = make_overlapping()
        ann, bob, cid = people(round, 3)

        say(round, ann, None)
        assert counted(round).state == State.WAITING  # others may know
        turn = say(round, bob, "positive")
        say(round, cid, None)

        assert counted(round).pk == turn.pk
        assert round.tasks.count() == 3

    def test_an_item_that_all_skip_is_skipped(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        first = say(round, ann, None)
        say(round, bob, None)

        assert (counted(round).pk, counted(round).state) == (first.pk, State.SKIPPED)

    def test_an_undo_hands_the_count_to_the_next_answer(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        say(round, ann, "positive")
        second = say(round, bob, "positive")

        answer_undo(round=round, user=ann)

        assert counted(round).pk == second.pk


class TestConflict:
    def test_answers_that_differ_make_one_adjudication_that_counts(self):
        round = make_overlapping()
        turns = [
            say(round, user, label)
            for user, label in zip(people(round, 3), ("positive", "negative", "positive"), strict=True)
        ]

        task = counted(round)
        assert (task.purpose, task.state, task.arm) == (Purpose.ADJUDICATION, State.WAITING, "criticism")
        assert (task.annotation_id, task.criticism_id, task.rank) == (
            turns[0].annotation_id,
            turns[0].criticism_id,
            turns[0].rank,
        )
        assert round.tasks.count() == 4
        progress = round_progress(round)
        assert (progress.selected, progress.answered, progress.waiting) == (1, 0, 1)

    def test_it_goes_when_readers_agree_again(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        first = say(round, ann, "positive")
        say(round, bob, "negative")
        assert counted(round).purpose == Purpose.ADJUDICATION

        answer_undo(round=round, user=bob)

        assert counted(round).pk == first.pk
        assert not round.tasks.filter(purpose=Purpose.ADJUDICATION).exists()
        assert Correction.objects.count() == 3

    def test_the_adjudication_is_the_items_answer_and_keeps_what_was_on_the_screen(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        said = [say(round, ann, "positive").correction_id, say(round, bob, "negative").correction_id]

        correction = adjudicate(round, "negative")

        assert label_of(counted(round)) == "negative"
        assert correction.shown["answers"] == said
        assert correction.shown["arm"] == "criticism"
        assert not correction.late
        assert Correction.objects.count() == 3  # nobody's label was overwritten

    def test_readers_who_change_later_do_not_change_an_adjudication(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        say(round, ann, "positive")
        say(round, bob, "negative")
        adjudicate(round, "negative")

        task = answer_undo(round=round, user=bob)
        task_submit(task=task, user=bob, answer=Answer("label", label_named(round.project, "positive")))

        assert (counted(round).purpose, label_of(counted(round))) == (Purpose.ADJUDICATION, "negative")

    def test_one_with_history_stays_and_counts_only_while_answers_differ(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        first = say(round, ann, "positive")
        say(round, bob, "negative")
        adjudicate(round, "negative")

        undone = adjudication_undo(round=round, user=round.created_by)
        assert (undone.state, undone.holder, undone.is_counted) == (State.WAITING, None, True)
        answer_undo(round=round, user=bob)
        assert counted(round).pk == first.pk
        assert round.tasks.filter(purpose=Purpose.ADJUDICATION, is_counted=False).count() == 1
        say(round, bob, "negative")
        assert counted(round).pk == undone.pk

    def test_managers_alone_adjudicate_once(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        manager = make_user()
        make_membership(round.project, manager, Membership.Role.MANAGER)
        say(round, ann, "positive")
        say(round, bob, "negative")

        with pytest.raises(PermissionDenied):
            adjudicate(round, "positive", user=ann)
        adjudicate(round, "positive", user=manager)
        with pytest.raises(Conflict, match="already"):
            adjudicate(round, "negative")

        assert label_of(counted(round)) == "positive"
        assert Correction.objects.count() == 3

    def test_an_adjudication_that_is_gone_says_so(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        say(round, ann, "positive")
        say(round, bob, "negative")
        task = round.tasks.get(purpose=Purpose.ADJUDICATION)
        answer_undo(round=round, user=bob)

        with pytest.raises(Conflict, match="agree again"):
            task_submit(task=task, user=round.created_by, answer=Answer("skip"))

    def test_one_that_was_undone_is_not_answered_while_answers_agree(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        first = say(round, ann, "positive")
        say(round, bob, "negative")
        adjudicate(round, "negative")
        adjudication_undo(round=round, user=round.created_by)
        answer_undo(round=round, user=bob)

        with pytest.raises(Conflict, match="agree again"):
            adjudicate(round, "negative")
        assert (counted(round).pk, label_of(counted(round))) == (first.pk, "positive")

        say(round, bob, "negative")
        adjudicate(round, "negative")
        assert label_of(counted(round)) == "negative"

    def test_each_undo_keeps_to_its_own(self):
        round = make_overlapping(items=2, overlap=2)
        owner = round.created_by
        (other,) = people(round, 1)
        say(round, owner, "positive")
        say(round, other, "negative")
        adjudicate(round, "positive")

        assert answer_undo(round=round, user=owner).purpose == Purpose.REVIEW
        with pytest.raises(Refusal, match="nothing of yours"):
            answer_undo(round=round, user=owner)
        assert adjudication_undo(round=round, user=owner).purpose == Purpose.ADJUDICATION
        with pytest.raises(Refusal, match="no adjudication of yours"):
            adjudication_undo(round=round, user=owner)
        with pytest.raises(PermissionDenied):
            adjudication_undo(round=round, user=other)

    def test_only_an_adjudication_says_what_it_is(self):
        round = make_overlapping(overlap=2)
        ann, bob = people(round, 2)
        turns = [say(round, ann, "positive"), say(round, bob, "negative")]

        assert {task_for_reviewer(turn, None)["purpose"] for turn in turns} == {"review"}
        assert task_for_reviewer(counted(round), None)["purpose"] == "adjudication"


class TestCalibration:
    def test_labels_follow_the_answer_that_counts(self):
        round = make_overlapping(overlap=2, kind="calibration")
        ann, bob = people(round, 2)

        say(round, ann, "positive")
        assert CalibrationLabel.objects.get().author == ann
        say(round, bob, "negative")
        assert not CalibrationLabel.objects.exists()
        assert counted(round).arm == "blind"
        adjudicate(round, "negative")
        label = CalibrationLabel.objects.get()
        assert (label.label and label.label.name, label.author) == ("negative", round.created_by)
        adjudication_undo(round=round, user=round.created_by)
        assert not CalibrationLabel.objects.exists()
        answer_undo(round=round, user=ann)
        label = CalibrationLabel.objects.get()
        assert (label.label and label.label.name, label.author) == ("negative", bob)


def at_once(*work: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(len(work))
    results: list[Any] = [None] * len(work)

    def run(place: int) -> None:
        try:
            barrier.wait(10)
            results[place] = work[place]()
        except Exception as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.django_db(transaction=True)
class TestAtTheSameMoment:
    def test_readers_who_differ_make_one_adjudication(self):
        round = make_overlapping(items=6, overlap=4)
        users = people(round, 4)
        labels = ["positive", "negative", "positive", "negative"]
        held = [tasks_claim(round=round, user=user, count=6) for user in users]
        given = {label: Answer("label", label_named(round.project, label)) for label in labels}

        def answer_all(place: int) -> None:
            # Half of them from the end, so that they meet in both orders.
            for task in held[place] if place % 2 else held[place][::-1]:
                task_submit(task=task, user=users[place], answer=given[labels[place]])

        results = at_once(*(lambda place=place: answer_all(place) for place in range(4)))

        assert results == [None] * 4
        tasks = Counter(round.tasks.values_list("purpose", flat=True))
        assert tasks == {"review": 24, "adjudication": 6}
        assert set(round.counted_tasks.values_list("purpose", flat=True)) == {"adjudication"}
        assert round.counted_tasks.count() == 6
