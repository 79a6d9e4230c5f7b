"""What others commit while a change waits for locks is seen by it, though not by the statement that waited."""

import pytest
from django.db import transaction

from annotate.models import User
from review.browsing import chain_of
from review.models import ReviewRound, ReviewTask
from review.services.picking import RELABEL, Action, pick
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim, tasks_release
from review.services.raising import round_raise
from review.services.rounds import round_create
from review.services.settling import lock_in_order
from review.setup import RoundSetup
from tests.factories import label_named, make_annotation_run, make_criticism_run, make_items, make_project
from tests.review.turns import make_people
from tests.waiting import Meanwhile, needs_row_locks

pytestmark = [pytest.mark.django_db(transaction=True), needs_row_locks]


def answer(round: ReviewRound, person: User, label: str) -> ReviewTask:
    (task,) = tasks_claim(round=round, user=person)
    said = Answer("label", label_named(round.project, label), version=task.version)
    return task_submit(task=task, user=person, answer=said).task


def make_drawn_round(setup: RoundSetup, count: int) -> tuple[ReviewRound, list[User]]:
    """A round of so many of forty items, drawn by chance, and two reviewers."""
    project = make_project(labels=("negative", "positive"))
    make_items(project, 40)
    run = make_criticism_run(make_annotation_run(project))
    round = round_create(run=run, user=project.created_by, count=count, rule="normalize", setup=setup)
    return round, make_people(project, "ada", "ben")


def test_an_adjudication_that_appears_meanwhile_is_no_item_without_a_task():
    round, (ada, ben) = make_drawn_round(RoundSetup(overlap=2, overlap_share=1.0), 1)
    item_id = answer(round, ada, "negative").item_id
    project, manager = round.project, round.project.created_by
    action = Action(RELABEL, label_named(project, "negative"))

    with transaction.atomic():
        answer(round, ben, "positive")
        relabeling = Meanwhile(
            lambda: pick(
                project=project, chain=chain_of(project, round.pk), action=action, ids=[item_id], user=manager
            )
        )

    assert dict(relabeling.end().left) == {"conflict": 1}
    assert round.counted_tasks.get().purpose == ReviewTask.Purpose.ADJUDICATION


def test_an_item_that_was_answered_and_undone_meanwhile_stays_in_a_larger_draw():
    round, (ada, _) = make_drawn_round(RoundSetup(), 6)
    first, *others = round.tasks.order_by("pk")
    (task,) = tasks_claim(round=round, user=ada)
    if task.pk == first.pk:  # what is locked below must come before what she answers
        round.tasks.filter(pk=first.pk).update(rank=100)
        tasks_release(round=round, user=ada)
        (task,) = tasks_claim(round=round, user=ada)
    assert task in others

    def answer_and_leave() -> None:
        answer(round, ada, "positive")
        answer_undo(round=round, user=ada)
        tasks_release(round=round, user=ada)

    with transaction.atomic():
        lock_in_order(ReviewTask.objects.filter(pk=first.pk))
        raising = Meanwhile(lambda: round_raise(round=round, user=round.project.created_by, count=7))
        Meanwhile(answer_and_leave).end()

    assert raising.end().budget == 7
    assert ReviewTask.objects.get(pk=task.pk).corrections.count() == 2
