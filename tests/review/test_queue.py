import threading
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import CalibrationLabel, Label, User
from review import selectors
from review.models import Correction, ReviewPause, ReviewRound, ReviewTask
from review.selectors import RoundProgress, quick_progress, round_progress, task_for_reviewer
from review.services.queue import (
    LEASE,
    MOST_CLAIMED,
    Answer,
    Conflict,
    answer_undo,
    task_submit,
    tasks_claim,
    tasks_release,
)
from review.services.rounds import round_create
from review.setup import RoundSetup
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_items,
    make_project,
    make_reviewable_round,
    make_round,
    make_user,
)
from tests.present import present

pytestmark = pytest.mark.django_db

State = ReviewTask.State


@pytest.fixture
def round() -> ReviewRound:
    """Six items to review."""
    return make_reviewable_round(items=8, budget=6)


@pytest.fixture
def positive(round: ReviewRound) -> Label:
    return label_named(round.project, "positive")


@pytest.fixture
def ann() -> User:
    return make_user("ann")


@pytest.fixture
def bob() -> User:
    return make_user("bob")


def make_overlapping(items: int, overlap: int) -> ReviewRound:
    """A round whose items all have several turns."""
    project = make_project()
    make_items(project, items)
    run = make_criticism_run(make_annotation_run(project))
    setup = RoundSetup(overlap=overlap, overlap_share=1.0)
    return round_create(run=run, user=run.created_by, count=items, setup=setup)


def claim_one(round: ReviewRound, user: User) -> ReviewTask:
    (task,) = tasks_claim(round=round, user=user)
    return task


def expire(task: ReviewTask) -> None:
    ReviewTask.objects.filter(pk=task.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def now_of(task: ReviewTask) -> ReviewTask:
    return ReviewTask.objects.get(pk=task.pk)


def corrections() -> list[dict[str, Any]]:
    """Every correction as it is in the database."""
    return [dict(row) for row in Correction.objects.order_by("pk").values()]


class TestClaim:
    def test_the_most_suspicious_come_first_and_to_one_person(self, round, ann, bob):
        first = tasks_claim(round=round, user=ann, count=2)
        second = tasks_claim(round=round, user=bob, count=3)

        assert [task.rank for task in first] == [0, 1]
        assert [task.rank for task in second] == [2, 3, 4]
        assert all(task.state == State.LEASED and task.holder == ann for task in first)

    def test_changing_the_scores_changes_the_order(self, ann):
        project = make_project()
        items = make_items(project, 3)
        run = make_annotation_run(project)
        orders = []
        for error_probs in ([0.9, 0.5, 0.1], [0.1, 0.5, 0.9]):
            round = make_round(make_criticism_run(run, error_probs), 3)
            orders.append([task.item for task in tasks_claim(round=round, user=ann, count=3)])

        assert orders == [items, items[::-1]]

    def test_what_somebody_holds_comes_back_first_for_longer(self, round, ann):
        (task,) = tasks_claim(round=round, user=ann)
        ReviewTask.objects.filter(pk=task.pk).update(lease_until=timezone.now() + timedelta(seconds=5))

        again = tasks_claim(round=round, user=ann, count=2)

        assert [each.rank for each in again] == [0, 1]
        soon = timezone.now() + LEASE - timedelta(seconds=30)
        assert all(each.lease_until is not None and each.lease_until > soon for each in again)

    def test_an_expired_lease_is_given_to_the_next(self, round, ann, bob):
        task = claim_one(round, ann)
        expire(task)

        assert claim_one(round, bob).pk == task.pk
        assert now_of(task).holder == bob

    def test_a_live_lease_is_not(self, round, ann, bob):
        task = claim_one(round, ann)

        assert claim_one(round, bob).pk != task.pk

    @pytest.mark.parametrize(("count", "given"), [(0, 1), (-5, 1), (99, 6)])
    def test_a_claim_is_of_a_few(self, count, given, round, ann):
        assert len(tasks_claim(round=round, user=ann, count=count)) == given <= MOST_CLAIMED

    def test_answered_and_skipped_items_are_not_given_again(self, round, positive, ann, bob):
        task_submit(task=claim_one(round, ann), user=ann, answer=Answer("label", positive))
        task_submit(task=claim_one(round, ann), user=ann, answer=Answer("skip"))

        assert [task.rank for task in tasks_claim(round=round, user=bob, count=10)] == [2, 3, 4, 5]

    def test_at_the_end_there_is_nothing(self, round, ann, bob):
        tasks_claim(round=round, user=ann, count=10)

        assert tasks_claim(round=round, user=bob) == []

    def test_what_is_handed_back_is_given_to_others(self, round, ann, bob):
        tasks_claim(round=round, user=ann, count=3)

        assert tasks_release(round=round, user=ann) == 3
        assert tasks_release(round=round, user=ann) == 0
        assert [task.rank for task in tasks_claim(round=round, user=bob, count=3)] == [0, 1, 2]

    def test_only_what_is_named_is_handed_back(self, round, positive, ann, bob):
        answered, kept, named = tasks_claim(round=round, user=ann, count=3)
        (others,) = tasks_claim(round=round, user=bob)
        task_submit(task=answered, user=ann, answer=Answer("label", positive))

        assert tasks_release(round=round, user=ann, task_ids=[]) == 0
        assert tasks_release(round=round, user=ann, task_ids=[answered.pk, named.pk, others.pk]) == 1
        assert [now_of(task).state for task in (answered, kept, named, others)] == [
            State.ANSWERED,
            State.LEASED,
            State.WAITING,
            State.LEASED,
        ]


class TestTurns:
    @pytest.fixture
    def overlapping(self) -> ReviewRound:
        """Four items with three turns each."""
        return make_overlapping(4, 3)

    def test_nobody_is_handed_an_item_twice(self, overlapping, ann, bob):
        first = tasks_claim(round=overlapping, user=ann, count=10)
        assert [task.rank for task in first] == [0, 1, 2, 3]
        assert {task.copy for task in first} == {0}
        for task in first:
            task_submit(task=task, user=ann, answer=Answer("skip"))

        assert tasks_claim(round=overlapping, user=ann) == []
        second = tasks_claim(round=overlapping, user=bob, count=10)
        assert [(task.rank, task.copy) for task in second] == [(0, 1), (1, 1), (2, 1), (3, 1)]

    def test_not_even_when_their_turn_went_to_somebody_else(self, overlapping, ann, bob):
        task = claim_one(overlapping, ann)
        expire(task)
        assert claim_one(overlapping, bob).pk == task.pk
        # Their answer comes late and does not count; so they may have another turn of the item, once.
        task_submit(task=task, user=ann, answer=Answer("skip"))
        other = claim_one(overlapping, ann)
        assert (other.item_id, other.copy) == (task.item_id, 1)

        tasks_release(round=overlapping, user=bob)
        late = task_submit(task=task, user=ann, answer=Answer("skip"))

        assert late.late
        assert (now_of(task).state, now_of(task).holder) == (State.WAITING, None)

    def test_what_is_assigned_goes_to_that_person_alone_in_the_order_of_the_queue(self, round, ann, bob):
        for rank, user in ((0, bob), (1, ann), (3, ann)):
            ReviewTask.objects.filter(round=round, rank=rank).update(assigned_to=user)

        assert [task.rank for task in tasks_claim(round=round, user=ann, count=3)] == [1, 2, 3]
        assert [task.rank for task in tasks_claim(round=round, user=bob, count=3)] == [0, 4, 5]

    def test_a_lapsed_lease_of_what_is_assigned_stays_that_persons(self, round, ann, bob):
        ReviewTask.objects.filter(round=round, rank=0).update(assigned_to=ann)
        expire(claim_one(round, ann))

        assert claim_one(round, bob).rank == 1

    def test_what_was_assigned_to_another_meanwhile_is_theirs(self, round, ann, bob):
        task = claim_one(round, ann)
        tasks_release(round=round, user=ann)
        ReviewTask.objects.filter(pk=task.pk).update(assigned_to=bob)

        late = task_submit(task=task, user=ann, answer=Answer("skip"))

        assert late.late
        assert now_of(task).state == State.WAITING

    def test_picked_items_are_handed_out_and_adjudications_and_others_known_items_are_not(
        self, round, ann, bob
    ):
        item = round.project.items.exclude(review_tasks__round=round).first()
        for rank, purpose, user in ((90, "picked", None), (91, "adjudication", None), (0, "gold", bob)):
            ReviewTask.objects.create(
                round=round,
                item=item,
                rank=rank,
                purpose=purpose,
                assigned_to=user,
                is_counted=purpose == "picked",
            )

        assert [task.purpose for task in tasks_claim(round=round, user=ann, count=10)][-1] == "picked"
        assert [task.purpose for task in tasks_claim(round=round, user=bob, count=10)] == ["gold"]

    def test_leases_are_renewed_when_a_third_of_their_time_is_gone(self, round, ann):
        task = claim_one(round, ann)
        recent, old = LEASE - timedelta(minutes=2), LEASE - timedelta(minutes=4)
        for left, is_renewed in ((recent, False), (old, True)):
            until = timezone.now() + left
            ReviewTask.objects.filter(pk=task.pk).update(lease_until=until)
            (held,) = tasks_claim(round=round, user=ann)
            assert (present(held.lease_until) > until) is is_renewed

    def test_who_is_paused_is_handed_nothing_and_keeps_their_answers(self, round, ann):
        task = claim_one(round, ann)
        ReviewPause.objects.create(round=round, user=ann, reason="Too many known items were wrong.")

        with pytest.raises(Refusal, match="known items"):
            tasks_claim(round=round, user=ann)
        task_submit(task=task, user=ann, answer=Answer("skip"))
        assert now_of(task).state == State.SKIPPED


class TestArms:
    """What is sent and what is kept, by the arm of a task."""

    @pytest.mark.parametrize(
        ("arm", "machine", "reasoning", "criticism"),
        [("criticism", True, True, True), ("label", True, False, False), ("blind", False, False, False)],
    )
    def test_more_than_the_arm_is_never_shown(self, arm, machine, reasoning, criticism, round, ann):
        round.tasks.update(arm=arm)
        task = claim_one(round, ann)

        sent = task_for_reviewer(task, None)
        correction = task_submit(task=task, user=ann, answer=Answer("skip"))

        assert (sent["arm"], sent["blind"]) == (arm, not machine)
        assert (sent["machine"] is not None) == machine
        assert (sent["criticism"] is not None) == criticism
        if machine:
            assert bool(sent["machine"]["reasoning"]) == reasoning
        assert correction.shown["arm"] == arm
        assert (correction.shown["machine_label"] is not None) == machine
        assert (correction.shown["error_prob"] is not None) == criticism

    def test_a_known_item_looks_like_any_other(self, round, ann):
        task = claim_one(round, ann)
        before = task_for_reviewer(task, None)
        task.purpose = ReviewTask.Purpose.GOLD

        assert task_for_reviewer(task, None) == before
        assert before["purpose"] == "review"


def count_at_once(monkeypatch):
    """Another connection does not see what a test has not committed."""

    def in_foreground(count):
        count()
        return SimpleNamespace(join=lambda patience: None)

    monkeypatch.setattr(selectors, "_in_background", in_foreground)


def progress_now(round: ReviewRound, user: User) -> RoundProgress:
    progress = quick_progress(round, user)
    assert progress is not None
    return progress


class TestProgress:
    def test_large_rounds_are_counted_now_and_then_and_what_is_ones_own_at_once(
        self, round, positive, ann, monkeypatch
    ):
        monkeypatch.setattr(selectors, "_COUNTED_EACH_TIME", 0)
        monkeypatch.setattr(selectors, "_FEW_LEFT", 0)
        monkeypatch.setattr(selectors, "_KEPT_AT_LEAST", 1000.0)
        count_at_once(monkeypatch)
        assert progress_now(round, ann).answered == 0
        task_submit(task=claim_one(round, ann), user=ann, answer=Answer("label", positive))

        progress = progress_now(round, ann)
        assert (progress.answered, progress.mine) == (0, 1)
        monkeypatch.setattr(selectors, "_FEW_LEFT", 100)
        assert progress_now(round, ann).answered == 1
        cache.clear()
        assert progress_now(round, ann) == round_progress(round, ann)

    def test_it_moves_with_every_answer_of_a_reviewer_also_with_those_to_known_items(self, ann, monkeypatch):
        project = make_project()
        make_items(project, 12)
        round = make_calibration_round(project, 12)
        for item in make_items(project, 6):
            make_calibration_label(item, "negative")
        ReviewRound.objects.update(gold_rate=0.5)
        round = ReviewRound.objects.get()
        purposes = set()
        done = 0
        while tasks := tasks_claim(round=round, user=ann):
            purposes.add(tasks[0].purpose)
            task_submit(task=tasks[0], user=ann, answer=Answer("skip"))
            done += 1
            progress = progress_now(round, ann)
            assert (progress.answered, progress.skipped, progress.mine) == (0, done, done)
        assert purposes == {"review", "gold"}

    @pytest.mark.parametrize("limit", [0, 500])
    def test_near_the_end_they_are_exact(self, limit, round, positive, ann, monkeypatch):
        monkeypatch.setattr(selectors, "_COUNTED_EACH_TIME", limit)
        count_at_once(monkeypatch)
        for place in range(6):
            answer = Answer("label", positive) if place % 2 else Answer("skip")
            task_submit(task=claim_one(round, ann), user=ann, answer=answer)
            now, exact = progress_now(round, ann), round_progress(round, ann)
            assert (now.answered, now.skipped, now.waiting, now.mine) == (
                exact.answered,
                exact.skipped,
                exact.waiting,
                place + 1,
            )


class TestSubmit:
    def test_an_answer_is_kept_with_who_when_how_long_and_what_was_seen(self, round, positive, ann):
        task = claim_one(round, ann)

        correction = task_submit(
            task=task, user=ann, answer=Answer("label", positive, seconds=3.5, version=0)
        )

        after = now_of(task)
        assert (after.state, after.correction, after.version, after.lease_until) == (
            State.ANSWERED,
            correction,
            1,
            None,
        )
        assert (correction.author, correction.label, correction.seconds, correction.late) == (
            ann,
            positive,
            3.5,
            False,
        )
        assert task.annotation is not None
        assert task.criticism is not None
        assert correction.shown == {
            "arm": "criticism",
            "machine_label": task.annotation.label_id,
            "error_prob": task.criticism.error_prob,
            "reasoning": True,
            "criticism": True,
        }

    def test_a_skip_is_kept_with_its_reason(self, round, ann):
        task = claim_one(round, ann)

        correction = task_submit(task=task, user=ann, answer=Answer("skip", reason="blurred " * 50))

        assert (now_of(task).state, correction.label) == (State.SKIPPED, None)
        assert correction.reason == ("blurred " * 50)[:200]

    def test_the_same_answer_sent_twice_counts_once(self, round, positive, ann):
        task = claim_one(round, ann)
        answer = Answer("label", positive, version=0, key=uuid.uuid4())

        first, second = (task_submit(task=task, user=ann, answer=answer) for _ in range(2))

        assert first == second
        assert (Correction.objects.count(), now_of(task).version) == (1, 1)

    def test_a_key_of_another_answer_is_refused(self, round, positive, ann, bob):
        key = uuid.uuid4()
        task = claim_one(round, ann)
        task_submit(task=task, user=ann, answer=Answer("label", positive, key=key))

        with pytest.raises(Refusal, match="key is already used"):
            task_submit(task=task, user=bob, answer=Answer("label", positive, key=key))
        with pytest.raises(Refusal, match="key is already used"):
            task_submit(task=claim_one(round, ann), user=ann, answer=Answer("label", positive, key=key))

    def test_another_tab_is_told_that_it_is_too_late(self, round, positive, ann):
        task = claim_one(round, ann)
        task_submit(task=task, user=ann, answer=Answer("label", positive, version=0))
        before = corrections()

        with pytest.raises(Conflict, match="another tab") as conflict:
            task_submit(task=task, user=ann, answer=Answer("skip", version=0))

        assert conflict.value.is_conflict
        assert corrections() == before

    def test_a_changed_mind_is_a_row_of_its_own(self, round, positive, ann):
        task = claim_one(round, ann)
        task_submit(task=task, user=ann, answer=Answer("label", positive, version=0))
        before = corrections()

        second = task_submit(task=task, user=ann, answer=Answer("skip", version=1))

        assert corrections()[:1] == before
        assert (now_of(task).correction, now_of(task).version) == (second, 2)

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"action": "label"}, "label"),
            ({"action": "undo"}, "action"),
            ({"action": "delete"}, "action"),
            ({"action": "skip", "seconds": -1}, "seconds"),
            ({"action": "skip", "seconds": float("nan")}, "seconds"),
            ({"action": "skip", "seconds": 1e9}, "seconds"),
        ],
    )
    def test_what_is_no_answer_is_refused(self, fields, field, round, ann):
        task = claim_one(round, ann)

        with pytest.raises(Refusal) as refusal:
            task_submit(task=task, user=ann, answer=Answer(**fields))

        assert refusal.value.field == field
        assert (corrections(), now_of(task).state) == ([], State.LEASED)

    def test_a_label_of_another_project_or_on_a_skip_is_refused(self, round, positive, ann):
        task = claim_one(round, ann)
        foreign = label_named(make_project(), "positive")

        for answer in (Answer("label", foreign), Answer("skip", positive)):
            with pytest.raises(Refusal):
                task_submit(task=task, user=ann, answer=answer)
        assert corrections() == []


class TestLate:
    def test_an_answer_after_its_lease_counts_and_is_marked(self, round, positive, ann):
        task = claim_one(round, ann)
        expire(task)

        correction = task_submit(task=task, user=ann, answer=Answer("label", positive, version=0))

        assert correction.late
        assert (now_of(task).state, now_of(task).correction) == (State.ANSWERED, correction)

    def test_an_item_that_is_somebody_elses_by_then_stays_theirs_and_the_answer_is_kept(
        self, round, positive, ann, bob
    ):
        task = claim_one(round, ann)
        expire(task)
        assert claim_one(round, bob).pk == task.pk

        late = task_submit(task=task, user=ann, answer=Answer("label", positive, version=0))

        assert late.late
        assert (now_of(task).state, now_of(task).holder, now_of(task).correction) == (State.LEASED, bob, None)
        theirs = task_submit(task=task, user=bob, answer=Answer("skip", version=0))
        assert (now_of(task).correction, theirs.late) == (theirs, False)
        assert Correction.objects.count() == 2

    def test_an_item_that_somebody_else_answered_keeps_their_answer(self, round, positive, ann, bob):
        task = claim_one(round, ann)
        expire(task)
        theirs = task_submit(task=claim_one(round, bob), user=bob, answer=Answer("skip"))

        late = task_submit(task=task, user=ann, answer=Answer("label", positive, version=0))

        assert late.late
        assert (now_of(task).correction, now_of(task).holder) == (theirs, bob)

    def test_an_item_that_was_handed_back_meanwhile_is_answered_late(self, round, positive, ann):
        task = claim_one(round, ann)
        tasks_release(round=round, user=ann)

        correction = task_submit(task=task, user=ann, answer=Answer("label", positive, version=0))

        assert (correction.late, now_of(task).state) == (True, State.ANSWERED)


class TestUndo:
    def test_it_goes_back_answer_by_answer_and_adds_rows_only(self, round, positive, ann):
        tasks = []
        for _ in range(3):
            tasks.append(claim_one(round, ann))
            task_submit(task=tasks[-1], user=ann, answer=Answer("label", positive))
        history = corrections()

        undone = []
        for _ in range(3):
            undone.append(answer_undo(round=round, user=ann))
            assert corrections()[: len(history)] == history
            history = corrections()

        assert [task.pk for task in undone] == [task.pk for task in tasks[::-1]]
        assert [row["action"] for row in history] == ["label"] * 3 + ["undo"] * 3
        for task in undone:
            assert (task.state, task.holder, task.correction, task.version) == (State.LEASED, ann, None, 2)
        with pytest.raises(Refusal, match="nothing of yours to undo"):
            answer_undo(round=round, user=ann)

    def test_an_undone_item_is_answered_again_at_its_new_version(self, round, positive, ann):
        task = claim_one(round, ann)
        task_submit(task=task, user=ann, answer=Answer("label", positive, version=0))
        task = answer_undo(round=round, user=ann)

        with pytest.raises(Conflict):
            task_submit(task=task, user=ann, answer=Answer("skip", version=1))
        again = task_submit(task=task, user=ann, answer=Answer("skip", version=2))

        assert now_of(task).correction == again

    def test_nobody_undoes_another_persons_answer(self, round, positive, ann, bob):
        task = claim_one(round, ann)
        task_submit(task=task, user=ann, answer=Answer("label", positive))

        with pytest.raises(Refusal, match="nothing of yours"):
            answer_undo(round=round, user=bob)

        assert now_of(task).state == State.ANSWERED

    def test_an_answer_that_did_not_count_is_not_undone(self, round, positive, ann, bob):
        task = claim_one(round, ann)
        expire(task)
        task_submit(task=claim_one(round, bob), user=bob, answer=Answer("skip"))
        task_submit(task=task, user=ann, answer=Answer("label", positive))

        with pytest.raises(Refusal, match="nothing of yours"):
            answer_undo(round=round, user=ann)

    def test_answers_of_another_round_stay(self, round, positive, ann):
        task_submit(task=claim_one(round, ann), user=ann, answer=Answer("label", positive))
        other = make_round(round.criticism_run, 2)

        with pytest.raises(Refusal, match="nothing of yours"):
            answer_undo(round=other, user=ann)

    def test_a_skip_can_be_undone(self, round, ann):
        task = claim_one(round, ann)
        task_submit(task=task, user=ann, answer=Answer("skip"))

        assert answer_undo(round=round, user=ann).pk == task.pk


class TestBlindRounds:
    @pytest.fixture
    def blind(self) -> ReviewRound:
        project = make_project()
        make_items(project, 4)
        return make_calibration_round(project, 4)

    def test_answers_are_calibration_labels_and_undo_takes_them_back(self, blind, ann):
        positive = label_named(blind.project, "positive")
        task = claim_one(blind, ann)

        correction = task_submit(task=task, user=ann, answer=Answer("label", positive))

        label = CalibrationLabel.objects.get()
        assert (label.item, label.label, label.author) == (task.item, positive, ann)
        assert correction.shown == {"arm": "blind", "machine_label": None, "error_prob": None}
        answer_undo(round=blind, user=ann)
        assert not CalibrationLabel.objects.exists()
        assert Correction.objects.count() == 2

    def test_a_changed_mind_changes_the_label(self, blind, ann):
        task = claim_one(blind, ann)
        for name in ("positive", "negative"):
            task_submit(task=task, user=ann, answer=Answer("label", label_named(blind.project, name)))

        assert present(CalibrationLabel.objects.get().label).name == "negative"
        assert Correction.objects.count() == 2

    def test_a_skipped_item_gets_no_label(self, blind, ann):
        task_submit(task=claim_one(blind, ann), user=ann, answer=Answer("skip"))

        assert not CalibrationLabel.objects.exists()

    def test_a_late_answer_that_does_not_count_makes_no_label(self, blind, ann, bob):
        task = claim_one(blind, ann)
        expire(task)
        task_submit(task=claim_one(blind, bob), user=bob, answer=Answer("skip"))

        task_submit(task=task, user=ann, answer=Answer("label", label_named(blind.project, "positive")))

        assert not CalibrationLabel.objects.exists()


def run_at_once(*work: Callable[[], Any]) -> list[Any]:
    """What each gave, or raised, all started at the same moment in a thread of its own."""
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
    def test_no_item_goes_to_two_people(self):
        round = make_reviewable_round(items=40, budget=40)
        people = [make_user() for _ in range(8)]

        def work_through(user: User) -> list[int]:
            done = []
            while tasks := tasks_claim(round=round, user=user, count=2):
                for task in tasks:
                    task_submit(task=task, user=user, answer=Answer("skip", version=0))
                    done.append(task.pk)
            return done

        results = run_at_once(*(lambda user=user: work_through(user) for user in people))

        answered = Counter(pk for done in results for pk in done)
        assert len(answered) == 40
        assert set(answered.values()) == {1}
        assert Correction.objects.filter(late=False).count() == Correction.objects.count() == 40

    def test_every_turn_goes_to_one_person_and_nobody_has_two_of_an_item(self):
        round = make_overlapping(20, 3)
        people = [make_user() for _ in range(4)]

        def work_through(user: User) -> list[tuple[int, int]]:
            done = []
            while tasks := tasks_claim(round=round, user=user, count=3):
                for task in tasks:
                    try:
                        task_submit(task=task, user=user, answer=Answer("skip", version=0))
                    except Conflict:
                        continue  # the other tab of this person was faster
                    done.append((task.pk, task.item_id))
            return done

        # Each of four people in two tabs.
        results = run_at_once(*(lambda user=user: work_through(user) for user in people * 2))

        assert all(isinstance(done, list) for done in results), results
        answered = [pair for done in results for pair in done]
        assert len({pk for pk, _ in answered}) == len(answered) == 60
        for place, _ in enumerate(people):
            items = [item_id for done in (results[place], results[place + 4]) for _, item_id in done]
            assert len(items) == len(set(items))
        assert Correction.objects.count() == 60
        assert not round.counted_tasks.exclude(state=State.SKIPPED).exists()

    def test_two_tabs_are_never_handed_two_turns_of_an_item(self):
        round = make_overlapping(12, 4)
        user = make_user()

        run_at_once(*(lambda: tasks_claim(round=round, user=user, count=2) for _ in range(8)))

        held = round.tasks.filter(holder=user)
        assert held.values("item_id").distinct().count() == held.count() > 0

    def test_one_person_in_two_tabs_answers_once(self):
        round = make_reviewable_round()
        user, label = round.created_by, label_named(round.project, "positive")
        task = claim_one(round, user)

        results = run_at_once(
            *(
                lambda: task_submit(task=task, user=user, answer=Answer("label", label, version=0))
                for _ in range(6)
            )
        )

        assert Counter(type(result).__name__ for result in results) == {"Correction": 1, "Conflict": 5}
        assert (Correction.objects.count(), now_of(task).version) == (1, 1)

    @pytest.mark.parametrize("version", [0, None])
    def test_the_same_answer_sent_by_an_impatient_browser_counts_once(self, version):
        round = make_reviewable_round()
        user, label = round.created_by, label_named(round.project, "positive")
        task = claim_one(round, user)
        answer = Answer("label", label, version=version, key=uuid.uuid4())

        results = run_at_once(*(lambda: task_submit(task=task, user=user, answer=answer) for _ in range(6)))

        assert {getattr(result, "pk", result) for result in results} == {Correction.objects.get().pk}
        assert now_of(task).version == 1

    def test_an_undo_sent_twice_undoes_no_more_than_was_answered(self):
        round = make_reviewable_round()
        user, label = round.created_by, label_named(round.project, "positive")
        task_submit(task=claim_one(round, user), user=user, answer=Answer("label", label))

        results = run_at_once(*(lambda: answer_undo(round=round, user=user) for _ in range(4)))

        assert sum(isinstance(result, ReviewTask) for result in results) == 1
        assert all(isinstance(result, ReviewTask | Refusal) for result in results)
        assert Correction.objects.filter(action="undo").count() == 1
