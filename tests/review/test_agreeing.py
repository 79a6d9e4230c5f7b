"""Which answers are compared: whose, of which rounds, and what they saw."""

import pytest

from annotate.models import User
from review.agreeing import Seen, machine_agreements, shared_answers
from review.agreement import Figure
from review.models import ReviewRound, ReviewTask
from tests.factories import make_calibration_label, make_calibration_round, make_item, make_items, make_round
from tests.present import present
from tests.review.turns import items_of, make_adjudication, make_labeled_round, make_people, make_turn
from tests.written_answers import make_ratings, make_written_project, make_written_run

pytestmark = pytest.mark.django_db

Arm = ReviewTask.Arm
Purpose = ReviewTask.Purpose


@pytest.fixture
def round() -> ReviewRound:
    return make_labeled_round(items=4)


@pytest.fixture
def people(round: ReviewRound) -> list[User]:
    return make_people(round.project, "ann", "bob", "cy")


def test_without_answers_there_is_nothing_to_compare(round):
    shared = shared_answers(round.project)

    assert shared.answers.shape == (0, 0)
    assert shared.reviewers == []
    assert shared.overall.items == 0
    assert shared.overall.alpha == Figure(None)
    assert (shared.pairs, shared.by_label) == ([], [])
    assert machine_agreements(round.project) == []


def test_items_that_two_people_answered_are_compared(round, people):
    ann, bob, cy = people
    first, second, third, _ = items_of(round)
    for person, said in ((ann, "positive"), (bob, "negative"), (cy, "positive")):
        make_turn(round, first, person, said)
    make_turn(round, second, bob, "negative")
    make_turn(round, second, ann, "negative")
    make_turn(round, third, cy, "positive")

    shared = shared_answers(round.project)

    assert shared.item_ids.tolist() == [first.pk, second.pk]
    assert [reviewer.name for reviewer in shared.reviewers] == ["ann", "bob", "cy"]
    assert shared.answers.tolist() == [[1, 0, 1], [0, 0, -1]]
    assert shared.labels == ["negative", "positive"]
    assert (shared.shown, shared.blind, shared.is_mixed) == (5, 0, False)
    assert shared.overall.items == 2
    assert [(pair.first, pair.second, pair.items) for pair in shared.pairs] == [
        (0, 1, 2),
        (0, 2, 1),
        (1, 2, 1),
    ]
    assert shared.confused.tolist() == [[1, 2], [2, 1]]


def test_skips_known_items_and_adjudications_are_no_answers_of_reviewers(round, people):
    ann, bob, cy = people
    first, second, third, _ = items_of(round)
    make_turn(round, first, ann, "positive")
    make_turn(round, first, bob, "")
    for person in (ann, bob):
        make_turn(round, second, person, "positive", purpose=Purpose.GOLD)
    make_turn(round, third, ann, "positive")
    make_turn(round, third, bob, "negative")
    decision = make_adjudication(round, third)
    make_turn(round, third, cy, "negative", purpose=Purpose.PICKED)
    decision.refresh_from_db()

    shared = shared_answers(round.project)

    assert shared.item_ids.tolist() == [third.pk]
    assert shared.answers.tolist() == [[1, 0, 0]]  # who was picked to answer counts, the decision does not


def test_an_undone_answer_is_none(round, people):
    ann, bob, _ = people
    first, *_ = items_of(round)
    make_turn(round, first, ann, "positive")
    task = make_turn(round, first, bob, "negative")
    ReviewTask.objects.filter(pk=task.pk).update(state=ReviewTask.State.LEASED, correction=None)

    assert shared_answers(round.project).overall.items == 0


def test_a_round_is_compared_alone_or_with_the_others(round, people):
    ann, bob, _ = people
    first, second, *_ = items_of(round)
    later = make_round(round.criticism_run, 4)
    make_turn(round, first, ann, "positive")
    make_turn(later, first, bob, "negative")
    make_turn(round, second, ann, "positive")
    make_turn(round, second, bob, "positive")

    assert shared_answers(round.project).item_ids.tolist() == [first.pk, second.pk]
    assert shared_answers(round.project, round).item_ids.tolist() == [second.pk]
    assert shared_answers(round.project, later).item_ids.tolist() == []


def test_the_later_answer_of_somebody_who_answered_twice_counts(round, people):
    ann, bob, _ = people
    first, *_ = items_of(round)
    later = make_round(round.criticism_run, 4)
    make_turn(later, first, ann, "negative")
    make_turn(round, first, bob, "positive")
    make_turn(round, first, ann, "positive")

    shared = shared_answers(round.project)

    assert shared.answers.tolist() == [[1, 1]]
    assert shared.shown == 2


def test_one_person_who_answered_an_item_twice_is_no_overlap(round, people):
    ann, *_ = people
    first, *_ = items_of(round)
    make_turn(round, first, ann, "positive")
    make_turn(make_round(round.criticism_run, 4), first, ann, "negative")

    assert shared_answers(round.project).overall.items == 0


def test_blind_and_other_answers_are_told_apart(round, people):
    ann, bob, cy = people
    first, second, *_ = items_of(round)
    make_turn(round, first, ann, "positive", arm=Arm.BLIND)
    make_turn(round, first, bob, "positive", arm=Arm.BLIND)
    make_turn(round, second, ann, "positive", arm=Arm.LABEL)
    make_turn(round, second, bob, "negative", arm=Arm.CRITICISM)
    make_turn(round, second, cy, "negative", arm=Arm.BLIND)

    shared = shared_answers(round.project)

    assert (shared.blind, shared.shown, shared.is_mixed) == (3, 2, True)
    assert shared_answers(round.project, seen=Seen.BLIND).item_ids.tolist() == [first.pk]
    assert shared_answers(round.project, seen=Seen.SHOWN).answers.tolist() == [[1, 0]]


def test_calibration_rounds_are_blind_whatever_their_tasks_say(round, people):
    ann, bob, _ = people
    fresh = make_items(round.project, 2)
    calibration = make_calibration_round(round.project, 6)
    make_turn(calibration, fresh[0], ann, "positive")
    make_turn(calibration, fresh[0], bob, "positive")

    assert shared_answers(round.project, seen=Seen.BLIND).item_ids.tolist() == [fresh[0].pk]
    assert shared_answers(round.project, seen=Seen.SHOWN).overall.items == 0


def test_other_projects_stay_out(round, people):
    ann, bob, _ = people
    elsewhere = make_labeled_round(items=2)
    for person in (ann, bob):
        make_turn(elsewhere, items_of(elsewhere)[0], person, "positive")

    assert shared_answers(round.project).overall.items == 0


def test_reviewers_are_compared_with_the_machine(round, people):
    ann, bob, _ = people
    first, second, third, _ = items_of(round)
    make_turn(round, first, bob, "negative")
    make_turn(round, second, bob, "positive")
    make_turn(round, first, ann, "negative")
    make_turn(round, third, ann, "")

    together, of_ann, of_bob = machine_agreements(round.project)

    assert (together.reviewer, together.answers) == (None, 3)
    assert together.agreement.confusion.tolist() == [[2, 0], [1, 0]]  # rows are people's labels
    assert together.agreement.percent.value == pytest.approx(2 / 3)
    assert (present(of_ann.reviewer).name, of_ann.answers) == ("ann", 1)
    assert (present(of_bob.reviewer).name, of_bob.agreement.percent.value) == ("bob", 0.5)


def test_items_without_a_machines_label_are_not_compared_with_it(round, people):
    ann, *_ = people
    item = make_item(round.project)
    make_calibration_label(item, "positive")
    make_turn(round, item, ann, "positive", purpose=Purpose.PICKED)

    assert machine_agreements(round.project) == []


def test_of_written_answers_only_equal_texts_are_counted():
    project = make_written_project()
    items = make_items(project, 3)
    run = make_written_run(project)
    round = make_round(make_ratings(run, [0.2, 0.4, 0.6]), 3)
    ann, bob, cy = make_people(project, "ann", "bob", "cy")
    for item, (one, other, third) in zip(
        items, [("same", " same\n", "other"), ("a", "b", "c"), ("same", "same", "same")], strict=True
    ):
        for person, text in ((ann, one), (bob, other), (cy, third)):
            make_turn(round, item, person, text)

    shared = shared_answers(project)

    assert shared.is_written
    assert shared.overall.percent.value == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert (shared.overall.kappa, shared.overall.alpha, shared.by_label) == (Figure(None), Figure(None), [])
    [pair, *_] = shared.pairs
    assert (pair.first, pair.second, pair.items) == (0, 1, 3)
    assert pair.percent.value == pytest.approx(2 / 3)
    assert pair.kappa == Figure(None)
    assert machine_agreements(project) == []


def test_few_queries_however_many_answer(round, people, django_assert_num_queries):
    for item in items_of(round):
        for person in people:
            make_turn(round, item, person, "positive")

    with django_assert_num_queries(3):
        shared_answers(round.project)
    with django_assert_num_queries(2):
        machine_agreements(round.project)
