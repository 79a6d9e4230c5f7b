"""Spans where people disagree, are measured by known items, or agree in other words."""

import pytest

from annotate.models import Item
from review.adjudicating import choices, conflicts, given_answers
from review.adjudication_forms import AdjudicationForm
from review.agreeing import shared_answers
from review.answers import answer_key
from review.known import counts_since, figures_by_reviewer, known_count, wrong_answers
from review.models import Correction, ReviewRound, ReviewTask
from review.services.queue import task_submit, tasks_claim
from tests.factories import make_user
from tests.span_answers import TEXT, make_span_round, span_answer

pytestmark = pytest.mark.django_db


def make_doubled_round(reviewers):
    round = make_span_round(("Seehausen", "Seehausen"), 2, reviewers=reviewers)
    for task in list(round.tasks.all()):
        ReviewTask.objects.create(
            round=round,
            item=task.item,
            annotation=task.annotation,
            criticism=task.criticism,
            rank=task.rank,
            copy=1,
            is_counted=False,
        )
    return round


def say(round: ReviewRound, user, answers):
    for answer in answers:
        task = tasks_claim(round=round, user=user)[0]
        task_submit(task=task, user=user, answer=span_answer(task, answer))


def test_equal_words_agree_and_others_are_adjudicated():
    anna, ben = make_user("anna"), make_user("ben")
    round = make_doubled_round([anna, ben])
    say(round, anna, ["The Aller", "Seehausen"])
    say(round, ben, ["Aller", ""])

    (conflict,) = conflicts(round.project)
    given = choices(given_answers([conflict])[conflict.pk])
    start = TEXT.index("Seehausen")
    assert [(each.text, each.span, each.reviewers) for each in given] == [
        ("Seehausen", f"{start}-{start + 9}", ["anna"]),
        ("", "0-0", ["ben"]),
    ]
    shared = shared_answers(round.project)
    assert shared.overall.percent.value == 0.5


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ({"span": "0-0"}, ("", 0, 0)),
        ({"span": "4-9"}, (TEXT[4:9], 4, 9)),
        ({"answer": "“Seehausen”"}, ("Seehausen", TEXT.index("Seehausen"), TEXT.index("Seehausen") + 9)),
        ({"answer": "Hamburg"}, None),
        ({"answer": " "}, None),
        ({"span": "4-x"}, None),
    ],
)
def test_a_decision_names_a_span_or_words_of_the_text(sent, answer):
    round = make_span_round()
    values = {"version": "0", "key": "6f0c9c0e-8a7e-4c5e-9d3a-0b8f4f0f9b1e", **sent}
    form = AdjudicationForm(values, project=round.project, text=TEXT)

    assert form.is_valid() is (answer is not None)
    if answer is not None:
        given = form.answer_given()
        assert (given["text"], given["start"], given["end"]) == answer


def test_known_items_count_exact_matches():
    anna = make_user("anna")
    round = make_span_round(reviewers=[anna])
    assert known_count(round.project) == 3
    for item, said in zip(Item.objects.order_by("pk"), ("Seehausen", "the Weser", ""), strict=True):
        task = ReviewTask.objects.create(
            round=round,
            item=item,
            rank=0,
            purpose=ReviewTask.Purpose.GOLD,
            is_counted=False,
            assigned_to=anna,
            holder=anna,
            state=ReviewTask.State.ANSWERED,
        )
        place = TEXT.index(said) if said else 0
        task.correction = Correction.objects.create(
            task=task, action="label", answer=said, start=place, end=place + len(said), author=anna
        )
        task.save()

    assert counts_since(round, anna) == (3, 1)
    figures = figures_by_reviewer(round)[anna.pk]
    assert (figures.answered, figures.right, figures.reviewer) == (3, 1, "anna")
    wrong = wrong_answers(round)
    assert [each.task.correction and each.task.correction.answer for each in wrong] == ["", "the Weser"]
    assert wrong[0].answers == [{"text": "Seehausen", "start": TEXT.index("Seehausen")}]


def test_answers_are_the_same_by_label_text_or_matching_words():
    assert answer_key(None, "The Aller.", 3) == answer_key(None, "aller", 40)
    assert answer_key(None, "The", 3) != answer_key(None, "", 0)
    assert answer_key(None, "The Aller", None) != answer_key(None, "Aller", None)
    assert answer_key(4, "", None) != answer_key(5, "", None)
