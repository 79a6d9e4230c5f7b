"""From a round's rows to its advice."""

import numpy as np
import pytest

from annotate.models import AnnotationRun
from criticize.models import Criticism
from review.advice import EARLY, ENOUGH, GO_ON, RAISE
from review.advising import round_advice
from review.models import ReviewRound, ReviewTask
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.services.raising import round_raise
from review.services.rounds import round_create
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_items,
    make_project,
)

pytestmark = pytest.mark.django_db


def make(
    items: int = 100,
    budget: int = 40,
    rule: str = "threshold",
    error_probs: list[float | None] | None = None,
    **fields: str,
) -> ReviewRound:
    """The machine said negative of all; ε̂ falls from 0.9 to 0.1."""
    project = make_project()
    make_items(project, items)
    run = make_criticism_run(make_annotation_run(project), error_probs, **fields)
    return round_create(run=run, user=run.created_by, count=budget, rule=rule)


def answer(round: ReviewRound, wrong: list[bool]) -> None:
    """Answer the next items, those that are `wrong` with another label than the machine's."""
    for is_wrong in wrong:
        (task,) = tasks_claim(round=round, user=round.created_by)
        label = label_named(round.project, "positive" if is_wrong else "negative")
        task_submit(task=task, user=round.created_by, answer=Answer("label", label))


class TestStages:
    def test_nothing_reviewed_is_too_early(self):
        advice = round_advice(make())

        assert (advice.answered, advice.left, advice.groups, advice.bins) == (0, 40, [], [])
        assert (advice.calibration, advice.ahead, advice.sentences) == (None, None, [])
        assert advice.verdict.advice == EARLY
        assert "0 answers so far" in advice.verdict.reason

    def test_enough_answers_say_what_to_expect(self):
        round = make()
        answer(round, [True, True, False] * 7)

        advice = round_advice(round)

        assert (advice.answered, advice.errors, advice.left) == (21, 14, 19)
        assert advice.ahead == advice.rest
        assert advice.ahead is not None
        assert advice.beyond is not None
        assert (advice.ahead.reviews, advice.ahead.is_bound) == (19, True)
        assert advice.beyond.reviews == 60
        assert advice.beyond.errors == pytest.approx(40)
        assert advice.sentences == [
            "The next 19 reviews should find at most about 13 errors (between 0 and 17).",
            "The next 60 reviews beyond the budget should find at most about 40 errors (between 0 and 52).",
        ]
        assert advice.verdict.advice == RAISE

    def test_an_undone_answer_and_a_skip_do_not_count(self):
        round = make()
        answer(round, [True] * 21)
        answer_undo(round=round, user=round.created_by)
        (task,) = tasks_claim(round=round, user=round.created_by)
        task_submit(task=task, user=round.created_by, answer=Answer("skip"))

        advice = round_advice(round)

        assert (advice.answered, advice.left) == (20, 19)

    def test_a_long_budget_is_gone_on_with_and_no_errors_are_enough(self):
        for wrong, expected in ((True, GO_ON), (False, ENOUGH)):
            round = make(200, 150)
            answer(round, [wrong] * 25)
            assert round_advice(round).verdict.advice == expected

    def test_all_items_reviewed_are_enough(self):
        round = make(25, 25)
        answer(round, [True] * 25)

        advice = round_advice(round)

        assert (advice.verdict.advice, advice.sentences) == (ENOUGH, [])
        assert advice.groups[0].reviewed == 25

    def test_it_goes_on_after_a_raise(self):
        round = make(100, 30, "exponential")
        answer(round, [True, False] * 11)
        round = round_raise(round=round, user=round.created_by, count=60)

        advice = round_advice(round)

        assert (advice.answered, advice.left) == (22, 38)
        assert advice.beyond is not None
        assert advice.beyond.reviews == 40

    def test_errors_are_grouped_in_the_order_of_review(self):
        round = make(120, 110)
        answer(round, [True] * 60 + [False] * 45)

        advice = round_advice(round)

        assert [group.errors for group in advice.groups] == [50, 10, 0]
        assert [group.is_whole for group in advice.groups] == [True, True, False]

    def test_an_audits_answers_say_something_about_what_nobody_suspects(self):
        round = make(100, 20)
        answer(round, [True] * 20)
        alone = round_advice(round)
        audit = ReviewRound.objects.create(
            project=round.project,
            kind="audit",
            audited=round,
            criticism_run=round.criticism_run,
            budget=40,
            created_by=round.created_by,
        )
        annotations = round.project.annotation_runs.get().annotations.order_by("-item_id")[:40]
        for rank, annotation in enumerate(annotations):
            ReviewTask.objects.create(
                round=audit, item_id=annotation.item_id, annotation=annotation, rank=rank
            )
        answer(audit, [False] * 40)

        advice = round_advice(round)

        assert (alone.evidence, advice.evidence, advice.answered) == (0, 40, 20)
        assert advice.calibration is not None
        assert advice.calibration.steps[0].error_prob == 0
        assert advice.beyond is not None
        assert (advice.beyond.reviews, advice.beyond.is_bound) == (40, False)  # the audit's items are its own

    def test_calibration_items_of_the_same_pair_say_something_too(self):
        round = make(60, 20)
        project = round.project
        for item in make_items(project, 30):
            make_calibration_label(item, "negative")
        calibration = {label.item: "negative" for label in project.calibration_labels.select_related("item")}
        candidate = make_annotation_run(project, calibration, scope=AnnotationRun.Scope.CALIBRATION)
        make_criticism_run(candidate, [0.05] * 30)

        advice = round_advice(round)

        assert (advice.evidence, advice.answered) == (30, 0)
        assert advice.ahead is not None
        assert not advice.ahead.is_bound

    def test_answers_that_the_priorities_were_learned_from_say_nothing_of_them(self):
        project = make_project()
        make_items(project, 120)
        run = make_criticism_run(make_annotation_run(project))
        for place, annotation in enumerate(run.annotation_run.annotations.order_by("item_id")):
            annotation.confidence = place % 10 / 10
            annotation.save()
        round = round_create(
            run=run, user=run.created_by, count=100, priority="cdi", training_share=0.3, rule="normalize"
        )
        answer(round, [True, False] * 15)
        round = round_raise(round=round, user=run.created_by, count=100)

        at_first = round_advice(round)
        answer(round, [True, False] * 10)
        later = round_advice(round)

        assert (at_first.answered, at_first.calibration, at_first.bins) == (30, None, [])
        assert at_first.verdict.advice == EARLY
        assert "learned from do not count" in at_first.verdict.reason
        assert later.answered == 50
        assert later.calibration is not None
        assert (later.calibration.reviewed, sum(each.reviewed for each in later.bins)) == (20, 20)

    def test_blind_rounds_have_none(self):
        project = make_project()
        make_items(project, 4)

        with pytest.raises(ValueError, match="review rounds alone"):
            round_advice(make_calibration_round(project, 2))


class TestScales:
    def test_a_probability_can_be_compared_with_the_share_wrong(self):
        advice = round_advice(make())

        assert (advice.is_probability, advice.axis) == (True, "Error probability ε̂")

    def test_ranks_are_places_in_the_order(self):
        round = make(strategy="mc")
        Criticism.objects.update(error_prob=None)
        for place, criticism in enumerate(Criticism.objects.order_by("-pk")):
            Criticism.objects.filter(pk=criticism.pk).update(priority=1000 * place)
        assert round.criticism_run is not None
        round = round_create(run=round.criticism_run, user=round.created_by, count=50)
        answer(round, [True] * 20 + [False] * 20)

        advice = round_advice(round)

        assert not advice.is_probability
        assert "Place in the order" in advice.axis
        assert advice.bins[-1].high == pytest.approx(0.995)
        assert advice.calibration is not None
        assert advice.calibration.steps[-1].error_prob == 1

    def test_items_without_a_usable_answer_are_reviewed_and_fitted_to_nothing(self):
        round = make(60, 30, error_probs=[None] * 5 + list(np.linspace(0.9, 0.1, 55)))
        answer(round, [True] * 26)

        advice = round_advice(round)

        assert advice.answered == 26
        assert sum(each.reviewed for each in advice.bins) == 21
        assert advice.calibration is not None
        assert advice.calibration.reviewed == 21

    def test_equal_probabilities_are_one_step(self):
        round = make(60, 30, error_probs=[0.5] * 60)
        answer(round, [True, False] * 12)

        advice = round_advice(round)

        assert [step.error_prob for step in advice.steps] == [0.5]
        assert advice.beyond is not None
        assert (advice.beyond.errors, advice.beyond.is_bound) == (15, False)
        assert "hardly helps" in advice.verdict.reason
