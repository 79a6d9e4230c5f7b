from typing import Any

import pytest

from annotate.errors import Refusal
from criticize.models import Criticism
from jobs.models import Job
from review.models import ReviewRound
from review.selectors import final_accuracy, history, round_progress, task_for_reviewer
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import (
    budget_of,
    calibration_round_create,
    round_close,
    round_create,
    round_preview,
    round_reopen,
)
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db


def make_run(items: int = 10, **options: Any):
    project = make_project()
    make_items(project, items, gold="positive")
    return make_criticism_run(make_annotation_run(project), **options)


class TestBudget:
    @pytest.mark.parametrize(
        ("budget", "sentence"),
        [
            ({"count": 0}, "at least one review"),
            ({"count": -1}, "at least one review"),
            ({"count": 11}, "more than the 10 items"),
            ({"count": 2.5}, "whole number"),
            ({"share": 0.0}, "above 0 and at most 1"),
            ({"share": -0.1}, "above 0 and at most 1"),
            ({"share": 1.01}, "above 0 and at most 1"),
            ({"share": float("nan")}, "above 0 and at most 1"),
            ({"share": float("inf")}, "above 0 and at most 1"),
            ({"share": 0.05}, "less than one review"),
            ({}, "either as a number of reviews or as a share"),
            ({"count": 1, "share": 0.1}, "either as a number of reviews or as a share"),
        ],
    )
    def test_what_cannot_be_a_budget_is_refused_with_a_sentence(self, budget, sentence):
        run = make_run()

        for act in (round_preview, round_create):
            with pytest.raises(Refusal, match=sentence) as refusal:
                act(run=run, **budget, **({"user": run.created_by} if act is round_create else {}))
            assert refusal.value.field == "budget"
        assert not ReviewRound.objects.exists()

    @pytest.mark.parametrize(
        ("budget", "reviews"),
        [({"count": 10}, 10), ({"share": 1.0}, 10), ({"share": 0.29}, 2), ({"count": 1}, 1)],
    )
    def test_what_can_is_kept(self, budget, reviews):
        run = make_run()

        round = round_create(run=run, user=run.created_by, **budget)

        assert (round.budget, round.tasks.count(), round.population) == (reviews, reviews, 10)

    def test_a_share_is_taken_in_decimal(self):
        assert budget_of(100, share=0.29) == 29


class TestCreating:
    @pytest.mark.parametrize("state", [Job.State.QUEUED, Job.State.RUNNING, Job.State.PAUSED])
    def test_not_from_a_run_that_is_not_finished(self, state):
        run = make_run(state=state)

        with pytest.raises(Refusal, match="not finished yet"):
            round_create(run=run, user=run.created_by, count=2)
        with pytest.raises(Refusal, match="not finished yet"):
            round_preview(run=run, count=2)

    def test_a_cancelled_run_can_be_drawn_from(self):
        run = make_run(state=Job.State.CANCELLED)
        Criticism.objects.filter(error_prob__lt=0.5).delete()

        round = round_create(run=run, user=run.created_by, count=5)

        # Those that nobody criticized come first.
        assert {task.criticism_id for task in round.tasks.all()} == {None}

    def test_a_run_without_items_is_refused(self):
        run = make_run(items=0, error_probs=[])

        with pytest.raises(Refusal, match="no items to review"):
            round_create(run=run, user=run.created_by, count=1)

    @pytest.mark.parametrize("rule", ["threshold", "normalize", "exponential"])
    def test_the_seed_is_the_projects_and_repeats_the_choice(self, rule):
        run = make_run(30, error_probs=[0.5] * 30)

        rounds = [round_create(run=run, user=run.created_by, count=7, rule=rule) for _ in range(2)]
        other = round_create(run=run, user=run.created_by, count=7, rule=rule, seed=1)

        chosen = [
            list(round.tasks.order_by("rank").values_list("item_id", flat=True)) for round in [*rounds, other]
        ]
        assert rounds[0].seed == run.annotation_run.project.seed
        assert chosen[0] == chosen[1] != chosen[2]
        assert all(len(each) == 7 for each in chosen)

    def test_the_rules_parameters_are_stored(self):
        run = make_run(4, error_probs=[0.9, 0.5, 0.5, 0.1])

        round = round_create(run=run, user=run.created_by, count=2)

        assert round.parameters == {"tau": 0.5, "tied": 2, "tied_slots": 1, "tied_prob": 0.5}

    def test_an_unknown_rule_is_refused(self):
        run = make_run()

        with pytest.raises(Refusal, match="one of: threshold, normalize"):
            round_create(run=run, user=run.created_by, count=2, rule="best")

    def test_the_preview_is_what_will_be_drawn(self):
        run = make_run(10)
        Criticism.objects.filter(error_prob__gt=0.85).update(
            error_prob=None, priority=None, failure="refused"
        )

        preview = round_preview(run=run, count=4)
        round = round_create(run=run, user=run.created_by, count=4)

        assert (preview.items, preview.budget, preview.selected, preview.unanswered) == (10, 4, 4, 1)
        assert sum(preview.counts) == 9
        assert sum(preview.selected_counts) == 3
        assert preview.parameters == round.parameters
        assert preview.expected_found is not None
        assert preview.expected_errors is not None
        assert preview.expected_found <= preview.expected_errors


class TestCalibrationRound:
    def test_it_holds_random_items_without_a_label_and_shows_nothing(self):
        project = make_project()
        known, *rest = make_items(project, 10)
        make_calibration_label(known, "positive")
        make_annotation_run(project)

        round = calibration_round_create(project=project, user=project.created_by, count=9)

        tasks = list(round.tasks.select_related("item", "round"))
        assert sorted(task.item_id for task in tasks) == [item.pk for item in rest]
        shown = task_for_reviewer(tasks[0], None)
        assert shown["blind"] is True
        assert (shown["machine"], shown["criticism"], shown["failure"]) == (None, None, None)

    @pytest.mark.parametrize("count", [0, 11])
    def test_a_count_that_there_is_not_is_refused(self, count):
        project = make_project()
        make_items(project, 10)

        with pytest.raises(Refusal, match="between 1 and 10"):
            calibration_round_create(project=project, user=project.created_by, count=count)

    def test_labels_must_be_there_first(self):
        project = make_project(labels=["only"])
        make_items(project, 3)

        with pytest.raises(Refusal, match="two labels"):
            calibration_round_create(project=project, user=project.created_by, count=1)


class TestClosing:
    def test_a_closed_round_hands_nothing_out_until_it_is_opened_again(self):
        round = make_reviewable_round()
        user = make_user()

        round_close(round=round, user=round.created_by)
        round.refresh_from_db()
        assert tasks_claim(round=round, user=user) == []
        round_reopen(round=round, user=round.created_by)
        round.refresh_from_db()

        assert len(tasks_claim(round=round, user=user)) == 1


class TestSelectors:
    def test_progress_counts_each_task_once(self):
        round = make_reviewable_round(items=6, budget=5)
        project, ann, bob = round.project, make_user(), make_user()
        first, second, third = tasks_claim(round=round, user=ann, count=3)
        tasks_claim(round=round, user=bob)
        task_submit(task=first, user=ann, answer=Answer("label", label_named(project, "negative")))
        task_submit(task=second, user=ann, answer=Answer("label", label_named(project, "positive")))
        task_submit(task=third, user=ann, answer=Answer("skip"))

        progress = round_progress(round, ann)

        assert (
            progress.selected,
            progress.answered,
            progress.skipped,
            progress.leased,
            progress.waiting,
        ) == (
            5,
            2,
            1,
            1,
            1,
        )
        assert (progress.corrected, progress.mine) == (1, 3)
        assert round_progress(round, bob).mine == 0
        assert round_progress(round).mine == 0

    def test_final_labels_are_judged_against_gold(self):
        round = make_reviewable_round(items=4, budget=2)  # gold is positive, the machine said negative
        user = round.created_by
        assert final_accuracy(round) == (0, 4)

        for task in tasks_claim(round=round, user=user, count=2):
            task_submit(task=task, user=user, answer=Answer("label", label_named(round.project, "positive")))

        assert final_accuracy(round) == (2, 4)

    def test_a_reviewer_sees_why_an_item_has_no_label(self):
        project = make_project()
        (item,) = make_items(project, 1)
        run = make_criticism_run(make_annotation_run(project, {item: ""}), [])
        round = round_create(run=run, user=run.created_by, count=1)

        shown = task_for_reviewer(round.tasks.get(), None)

        assert shown["machine"] is None
        assert shown["failure"] == {"name": "refused", "message": "The model declined to answer."}

    def test_history_is_everything_in_order(self):
        round = make_reviewable_round()
        (task,) = tasks_claim(round=round, user=round.created_by)
        task_submit(task=task, user=round.created_by, answer=Answer("skip"))
        task_submit(
            task=task, user=round.created_by, answer=Answer("label", label_named(round.project, "positive"))
        )

        assert [each.action for each in history(task)] == ["skip", "label"]
