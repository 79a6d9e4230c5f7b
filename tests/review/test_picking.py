"""What managers do to many items at once: what is done, what is left alone, and taking it back."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import QuerySet
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import Change, Comment, Item, User
from review.browsing import Chain, ItemFilter, chain_of
from review.dashboard_scope import scope_of
from review.dashboard_work import cost, pace
from review.models import Correction, ReviewRound, ReviewTask
from review.services import picking, settling
from review.services.picking import (
    ACCEPT,
    ASSIGN,
    COMMENT,
    RELABEL,
    RETRY,
    REVIEW,
    Action,
    Outcome,
    can_undo,
    chosen_items,
    pick,
    pick_preview,
    pick_undo,
)
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.services.rounds import round_close
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_item,
    make_items,
    make_project,
    make_round,
    make_user,
)
from tests.present import present

pytestmark = pytest.mark.django_db

State, Purpose = ReviewTask.State, ReviewTask.Purpose


@pytest.fixture
def reviewer() -> User:
    return make_user()


@pytest.fixture
def round(reviewer: User) -> ReviewRound:
    """Two of eight items, the first of which failed; the last two are not among what was annotated."""
    project = make_project(reviewers=[reviewer])
    items = make_items(project, 8)
    calibrated = make_item(project)
    make_calibration_label(calibrated, "positive")
    answers = dict.fromkeys(items, "negative") | {items[0]: ""}
    round = make_round(make_criticism_run(make_annotation_run(project, answers)), budget=3)
    make_item(project)
    return round


def items_of(round: ReviewRound) -> list[Item]:
    return list(round.project.items.order_by("pk"))


def do(round: ReviewRound, name: str, items: list[Item] | None = None, **parts: object) -> Outcome:
    user = round.created_by
    ids = [item.pk for item in (items_of(round) if items is None else items)]
    chain = chain_of(round.project, round.pk)
    action = Action(name, **parts)  # type: ignore[arg-type]
    expected = pick_preview(project=round.project, chain=chain, action=action, ids=ids, user=user)
    outcome = pick(project=round.project, chain=chain, action=action, ids=ids, user=user)
    assert (outcome.done, outcome.left) == (expected.done, expected.left)
    return outcome


def undo(round: ReviewRound, outcome: Outcome) -> picking.TakenBack:
    assert outcome.change is not None
    return pick_undo(project=round.project, user=round.created_by, change_id=outcome.change.pk)


def answer_next(round: ReviewRound, user: User, action: str = "label") -> ReviewTask:
    [task] = tasks_claim(round=round, user=user)
    label = label_named(round.project, "positive") if action == "label" else None
    task_submit(task=task, user=user, answer=Answer(action=action, label=label))
    return task


def test_items_are_sent_to_review_after_all_others(round: ReviewRound) -> None:
    drawn = set(round.tasks.values_list("item_id", flat=True))
    last = max(round.tasks.values_list("rank", flat=True))

    outcome = do(round, REVIEW)

    picked = list(round.tasks.filter(purpose=Purpose.PICKED).order_by("rank"))
    assert outcome.done == len(picked) == 5
    assert outcome.left == Counter({"waiting": 3, "calibration": 1, "outside": 1})
    assert [task.rank for task in picked] == list(range(last + 1, last + 6))
    assert not drawn & {task.item_id for task in picked}
    assert all(task.is_counted and task.state == State.WAITING and task.annotation_id for task in picked)
    assert all(task.criticism_id for task in picked)
    assert outcome.sentence.startswith("5 sent to review; 3 wait in the round already, ")
    change = Change.objects.latest("pk")
    assert (change.action, change.subject, present(change.new)["items"]) == ("items picked", str(round), 5)


@pytest.mark.parametrize("display", ["label", "blind"])
def test_who_answers_a_picked_item_sees_what_the_round_shows(round: ReviewRound, display: str) -> None:
    ReviewRound.objects.filter(pk=round.pk).update(display=display)

    do(round, REVIEW)

    assert set(round.tasks.filter(purpose=Purpose.PICKED).values_list("arm", flat=True)) == {display}


def test_accepting_is_an_answer_of_who_accepts(round: ReviewRound) -> None:
    outcome = do(round, ACCEPT)

    assert outcome.done == 7
    assert outcome.left == Counter({"unanswered": 1, "calibration": 1, "outside": 1})
    corrections = Correction.objects.filter(task__round=round)
    assert corrections.count() == 7
    for correction in corrections.select_related("task__annotation", "author"):
        assert correction.author == round.created_by
        assert correction.shown == {"arm": "browse"}
        assert correction.label_id == correction.task.annotation.label_id  # type: ignore[union-attr]
        task = correction.task
        assert (task.state, task.correction_id, task.holder_id) == (
            State.ANSWERED,
            correction.pk,
            round.created_by_id,
        )
        assert task.version == 1
    assert round.tasks.filter(purpose=Purpose.PICKED).count() == 5
    assert round.counted_tasks.count() == 8


def test_answers_given_at_once_are_no_paid_reviews_and_set_no_pace(
    round: ReviewRound, reviewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "_RUNS_AT_ONCE", 1)
    answer_next(round, reviewer)
    do(round, RELABEL, items_of(round)[:3], label=label_named(round.project, "positive"))
    accepted = do(round, ACCEPT)
    scope = scope_of(round.project)
    paid = [("Review", 1, round.project.review_price)]

    assert [(part.name, part.reviews, part.cost) for part in cost(scope).reviews] == [
        *paid,
        ("Many at once", 7, 0),
    ]
    assert (cost(scope).reviewed, cost(scope).at_once) == (1, 7)
    assert [(person.reviewer, person.reviews) for person in pace(scope).reviewers] == [(reviewer.username, 1)]

    undo(round, accepted)

    assert cost(scope).at_once == 7 - accepted.done


def test_what_people_said_is_never_overwritten(round: ReviewRound, reviewer: User) -> None:
    answered = answer_next(round, reviewer)
    skipped = answer_next(round, reviewer, "skip")
    [held] = tasks_claim(round=round, user=reviewer)
    before = list(ReviewTask.objects.order_by("pk").values())

    outcome = do(round, RELABEL, label=label_named(round.project, "negative"))

    assert outcome.left == Counter({"answered": 1, "skipped": 1, "held": 1, "calibration": 1, "outside": 1})
    assert outcome.done == 5
    kept = {answered.pk, skipped.pk, held.pk}
    assert [row for row in ReviewTask.objects.order_by("pk").values() if row["id"] in kept] == before
    assert "1 has a person's answer already" in outcome.sentence
    assert outcome.sentence.endswith("were left alone.")


def test_a_lease_that_ran_out_holds_nothing(round: ReviewRound, reviewer: User) -> None:
    tasks_claim(round=round, user=reviewer)
    round.tasks.update(lease_until=timezone.now() - timedelta(minutes=1))

    assert do(round, RELABEL, label=label_named(round.project, "positive")).done == 8


def test_items_in_conflict_or_waiting_blind_are_left_alone(round: ReviewRound) -> None:
    first, second, *_ = round.tasks.order_by("rank")
    ReviewTask.objects.filter(pk=first.pk).update(is_counted=False, state=State.ANSWERED)
    ReviewTask.objects.create(
        round=round,
        item_id=first.item_id,
        annotation_id=first.annotation_id,
        rank=0,
        purpose=Purpose.ADJUDICATION,
    )
    calibration = ReviewRound.objects.create(
        project=round.project, kind="calibration", budget=1, created_by=round.created_by
    )
    ReviewTask.objects.create(round=calibration, item_id=second.item_id, rank=0)

    outcome = do(round, ACCEPT)

    assert (outcome.left["conflict"], outcome.left["blind"]) == (1, 1)


def test_an_answer_is_one_of_several_where_several_people_answer(round: ReviewRound, reviewer: User) -> None:
    task = round.tasks.filter(annotation__failure="").earliest("rank")
    again = ReviewTask.objects.create(
        round=round,
        item_id=task.item_id,
        annotation_id=task.annotation_id,
        rank=task.rank,
        copy=1,
        is_counted=False,
    )

    outcome = do(round, RELABEL, [task.item], label=label_named(round.project, "negative"))

    task.refresh_from_db()
    again.refresh_from_db()
    assert outcome.done == 1
    assert (task.state, task.is_counted, again.state) == (State.ANSWERED, True, State.WAITING)
    round.tasks.filter(pk=again.pk).update(rank=0)
    turns = tasks_claim(round=round, user=reviewer, count=10)
    turn = next(each for each in turns if each.pk == again.pk)
    task_submit(
        task=turn, user=reviewer, answer=Answer(action="label", label=label_named(round.project, "positive"))
    )
    assert round.tasks.filter(item=task.item, purpose=Purpose.ADJUDICATION, is_counted=True).exists()
    assert undo(round, outcome).answers == 1
    assert not round.tasks.filter(item=task.item, purpose=Purpose.ADJUDICATION).exists()
    assert round.counted_tasks.get(item=task.item).pk == again.pk


def test_what_was_sent_to_review_can_leave_again(round: ReviewRound, reviewer: User) -> None:
    before = round.tasks.count()
    outcome = do(round, REVIEW)
    assert outcome.change is not None
    assert can_undo(project=round.project, user=round.created_by, change_id=outcome.change.pk)
    picked = round.tasks.filter(purpose=Purpose.PICKED).earliest("rank")
    for _ in range(before):
        answer_next(round, reviewer)
    answered = answer_next(round, reviewer)
    assert answered.pk == picked.pk
    answer_undo(round=round, user=reviewer)

    back = undo(round, outcome)

    assert (back.answers, back.tasks, back.left) == (0, 4, 1)
    assert round.tasks.count() == before + 1
    assert not can_undo(project=round.project, user=round.created_by, change_id=outcome.change.pk)
    with pytest.raises(Refusal, match="already"):
        undo(round, outcome)


def test_answers_are_taken_back_by_rows_of_their_own(round: ReviewRound) -> None:
    outcome = do(round, ACCEPT)
    given = list(Correction.objects.order_by("pk").values())

    back = undo(round, outcome)

    assert (back.answers, back.tasks, back.left) == (7, 0, 0)
    assert "7 answers were taken back" in back.sentence
    assert list(Correction.objects.filter(action="label").order_by("pk").values()) == given
    assert Correction.objects.filter(action="undo").count() == 7
    for task in round.tasks.filter(annotation__failure=""):
        assert (task.state, task.holder, task.correction, task.version) == (State.WAITING, None, None, 2)
    assert do(round, ACCEPT).done == 7


def test_taking_answers_back_locks_the_person_and_then_the_turns_in_order(
    round: ReviewRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list(round.tasks.order_by("pk"))
    copies = [
        ReviewTask.objects.create(round=round, item=task.item, rank=task.rank, copy=1, is_counted=False)
        for task in reversed(drawn)
    ]
    label = label_named(round.project, "positive")
    outcome = do(round, RELABEL, [task.item for task in drawn], label=label)
    locked: list[object] = []

    def lock_in_order(tasks: QuerySet[ReviewTask]) -> list[int]:
        locked.extend(settling.lock_in_order(tasks))
        return []

    monkeypatch.setattr(picking, "lock_person", locked.append)
    monkeypatch.setattr(picking, "lock_in_order", lock_in_order)

    assert undo(round, outcome).answers == 3
    pks = sorted(task.pk for task in [*drawn, *copies])
    assert locked == [round.created_by, *pks]


def test_answers_that_changed_since_stay(round: ReviewRound) -> None:
    outcome = do(round, ACCEPT)
    answer_undo(round=round, user=round.created_by)

    back = undo(round, outcome)

    assert (back.answers, back.left) == (6, 1)


def test_only_who_did_it_takes_it_back_and_soon(round: ReviewRound) -> None:
    outcome = do(round, ACCEPT)
    assert outcome.change is not None
    with pytest.raises(Refusal, match="no longer"):
        pick_undo(project=round.project, user=make_user(), change_id=outcome.change.pk)
    Change.objects.filter(pk=outcome.change.pk).update(created_at=timezone.now() - timedelta(hours=2))
    with pytest.raises(Refusal, match="no longer"):
        undo(round, outcome)


def test_many_items_are_done_in_small_transactions(
    round: ReviewRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "BATCH", 2)

    outcome = do(round, ACCEPT)

    assert outcome.done == 7
    assert undo(round, outcome).answers == 7


def test_what_was_done_before_something_failed_is_in_the_history(
    round: ReviewRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "BATCH", 4)
    calls = []

    def fail_later(task_ids: object) -> None:
        calls.append(task_ids)
        if len(calls) > 1:
            raise RuntimeError

    monkeypatch.setattr(picking, "_settle", fail_later)
    chain = chain_of(round.project, round.pk)
    ids = [item.pk for item in items_of(round)]
    with pytest.raises(RuntimeError):
        pick(project=round.project, chain=chain, action=Action(ACCEPT), ids=ids, user=round.created_by)

    kept = Correction.objects.count()
    assert 0 < kept < 7
    assert present(Change.objects.latest("pk").new)["items"] == kept


def test_failed_items_alone_are_asked_again(round: ReviewRound, wake_ups: list[int]) -> None:
    outcome = do(round, RETRY)

    run = chain_of(round.project).annotation
    assert run is not None
    run.job.refresh_from_db()
    assert (outcome.done, outcome.left) == (1, Counter({"fine": 9}))
    assert run.job.state == "queued"
    assert run.job.chunks.latest("number").subjects == [items_of(round)[0].pk]
    with pytest.raises(Refusal, match="queued"):
        do(round, RETRY)


def test_items_are_commented_on_and_assigned(round: ReviewRound, reviewer: User) -> None:
    assert do(round, COMMENT, text=" Look again. ").done == 10
    assert set(Comment.objects.values_list("text", flat=True)) == {"Look again."}

    outcome = do(round, ASSIGN, reviewer=reviewer)

    assert (outcome.done, outcome.left) == (3, Counter({"absent": 5, "calibration": 1, "outside": 1}))
    assert set(round.tasks.values_list("assigned_to", flat=True)) == {reviewer.pk}


def test_what_cannot_be_done_to_any_item_is_refused(round: ReviewRound) -> None:
    for action, field in (
        (Action("burn"), "action"),
        (Action(RELABEL), "label"),
        (Action(RELABEL, label=make_project().labels.earliest("pk")), "label"),
        (Action(ASSIGN, reviewer=make_user()), "reviewer"),
        (Action(ASSIGN), "reviewer"),
        (Action(COMMENT, text="  "), "text"),
    ):
        with pytest.raises(Refusal) as refused:
            do(round, action.name, label=action.label, text=action.text, reviewer=action.reviewer)
        assert refused.value.field == field
    round_close(round=round, user=round.created_by)
    with pytest.raises(Refusal, match="closed"):
        do(round, REVIEW)
    project = make_project()
    item = make_item(project)
    for name, words in ((ACCEPT, "Draw one first"), (RETRY, "Nothing is annotated")):
        with pytest.raises(Refusal, match=words):
            pick(project=project, chain=Chain(), action=Action(name), ids=[item.pk], user=project.created_by)


def test_items_are_chosen_one_by_one_or_by_the_filter(
    round: ReviewRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, chain = round.project, chain_of(round.project)
    items = items_of(round)
    elsewhere = make_item(make_project())

    def chosen(ids: list[int] | None, wanted: ItemFilter | None = None) -> list[int]:
        return chosen_items(project=project, chain=chain, wanted=wanted or ItemFilter(), ids=ids)

    assert chosen([items[2].pk, items[1].pk, items[2].pk, elsewhere.pk]) == [items[2].pk, items[1].pk]
    assert chosen(None) == [item.pk for item in items]
    assert chosen(None, ItemFilter(status="failed")) == [items[0].pk]
    with pytest.raises(Refusal, match="at least one"):
        chosen([elsewhere.pk])
    monkeypatch.setattr(picking, "MOST", 9)
    with pytest.raises(Refusal, match="At most 9 items"):
        chosen(None)


def test_an_item_that_is_labeled_blind_elsewhere_is_not_swayed() -> None:
    project = make_project()
    make_items(project, 3)
    round = make_round(make_criticism_run(make_annotation_run(project)), budget=1)
    make_calibration_round(project, 3)

    outcome = do(round, ACCEPT)

    assert (outcome.done, outcome.left) == (0, Counter({"blind": 3}))
    assert outcome.change is None
