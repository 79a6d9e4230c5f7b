"""Majority, ties, abstentions; and the votes of whole runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Item, Project
from annotate.services.combining import vote_create
from annotate.services.runs import TRAINED, annotation_run_retry
from annotate.voting import majority
from criticize.services import criticism_run_create
from jobs.models import Job
from jobs.running import run_to_end
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_item,
    make_items,
    make_project,
)


@pytest.mark.parametrize(
    ("votes", "winner", "share"),
    [
        ([1, 1, 0], 1, 2 / 3),
        ([0, 1, 1], 1, 2 / 3),
        ([1, 0], 1, 1 / 2),
        ([0, 1], 0, 1 / 2),
        ([2, 0, 1], 2, 1 / 3),
        ([None, 1, 0, 0, 1], 1, 1 / 2),
        ([None, 1, None], 1, 1.0),
        ([None, None], None, 0.0),
        ([], None, 0.0),
    ],
)
def test_most_votes_win_and_of_equals_the_first_voter(votes, winner, share):
    found, found_share = majority(votes)

    assert found == winner
    assert found_share == pytest.approx(share)


@given(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=9))
def test_nobody_has_more_votes_than_the_winner(votes):
    winner, share = majority(votes)
    cast = [vote for vote in votes if vote is not None]

    if winner is None:
        assert not cast
        return
    assert share == cast.count(winner) / len(cast)
    assert all(cast.count(other) <= cast.count(winner) for other in cast)
    assert all(
        cast.index(winner) <= cast.index(other) for other in cast if cast.count(other) == cast.count(winner)
    )


def vote(project: Project, *sources: AnnotationRun) -> AnnotationRun:
    run = vote_create(project=project, user=project.created_by, sources=sources)
    run_to_end(run.job_id)
    run.job.refresh_from_db()
    return run


def labels_of(run: AnnotationRun) -> dict[Item, str]:
    rows = run.annotations.select_related("item", "label")
    return {row.item: row.label.name if row.label else row.failure for row in rows}


@pytest.mark.django_db
class TestRuns:
    def test_the_majority_of_three_is_a_run_like_any_other(self):
        project = make_project(labels=["a [1]", "２", "否 定"])
        one, two, three = make_items(project, 3)
        runs = [
            make_annotation_run(project, {one: "a [1]", two: "２", three: "否 定"}, model="m1"),
            make_annotation_run(project, {one: "a [1]", two: "否 定", three: "否 定"}, model="m2"),
            make_annotation_run(project, {one: "２", two: "２", three: "否 定"}, model="m3"),
        ]

        run = vote(project, *runs)

        assert labels_of(run) == {one: "a [1]", two: "２", three: "否 定"}
        confidence = dict(run.annotations.values_list("item", "confidence"))
        assert [confidence[item.pk] for item in (one, two, three)] == [
            pytest.approx(2 / 3),
            pytest.approx(2 / 3),
            1.0,
        ]
        assert (run.job.state, run.job.done, run.job.failed) == ("done", 3, 0)
        assert run.job.cost == 0
        assert run.who == "vote of 3 annotators"
        assert set(run.sources.all()) == set(runs)
        reasoning = run.annotations.get(item=one).reasoning
        assert reasoning.startswith("m1 · cot: a [1]\nm2 · cot: a [1]\nm3 · cot: ２")
        assert reasoning.endswith("It reads like one.")

    def test_a_failed_annotation_abstains_and_without_any_vote_there_is_no_label(self):
        project = make_project()
        one, two = make_items(project, 2)
        first = make_annotation_run(project, {one: "", two: ""}, model="m1")
        second = make_annotation_run(project, {one: "positive", two: ""}, model="m2")

        run = vote(project, first, second)

        assert labels_of(run) == {one: "positive", two: "no_votes"}
        assert run.annotations.get(item=one).confidence == 1.0
        assert "m1 · cot: no answer" in run.annotations.get(item=one).reasoning
        assert "None of the annotators gave this item a label" in run.annotations.get(item=two).message
        assert (run.job.done, run.job.failed) == (2, 1)

    def test_a_retry_counts_again_where_nobody_had_voted(self):
        project = make_project()
        item = make_item(project)
        first = make_annotation_run(project, {item: ""})
        second = make_annotation_run(project, {item: ""})
        run = vote(project, first, second)
        assert labels_of(run) == {item: "no_votes"}
        second.annotations.update(failure="", label=label_named(project, "positive"), message="")

        annotation_run_retry(run=run)
        run_to_end(run.job_id)

        assert labels_of(run) == {item: "positive"}
        assert (Job.objects.get(pk=run.job_id).done, Job.objects.get(pk=run.job_id).failed) == (1, 0)

    def test_runs_that_cover_different_items_vote_over_all_of_them(self):
        project = make_project()
        one, two, three = make_items(project, 3)
        first = make_annotation_run(project, {one: "positive", two: "positive"}, state=Job.State.CANCELLED)
        second = make_annotation_run(project, {two: "positive", three: "negative"}, state=Job.State.CANCELLED)

        run = vote(project, first, second)

        assert labels_of(run) == {one: "positive", two: "positive", three: "negative"}

    def tied(self, project: Project) -> tuple[Item, list[AnnotationRun]]:
        item = make_item(project)
        weak = make_annotation_run(project, {item: "negative"}, model="weak")
        strong = make_annotation_run(project, {item: "positive"}, model="strong")
        return item, [weak, strong]

    def candidates(self, project: Project, **labels: list[str]) -> None:
        items = make_items(project, 2)
        for item in items:
            make_calibration_label(item, "positive")
        for model, said in labels.items():
            make_annotation_run(
                project, dict(zip(items, said, strict=True)), model=model, scope="calibration"
            )

    def test_a_tie_goes_to_the_most_accurate_on_the_calibration_items(self):
        project = make_project()
        self.candidates(project, weak=["positive", ""], strong=["positive", "positive"])
        item, runs = self.tied(project)

        run = vote(project, *runs)

        assert labels_of(run) == {item: "positive"}
        assert run.parameters["precedence"] == [runs[1].pk, runs[0].pk]
        assert run.parameters["accuracies"] == [1.0, 0.5]
        assert run.parameters["ties_by_accuracy"] is True

    @pytest.mark.parametrize("tried", [{}, {"strong": ["positive", "positive"]}])
    def test_unless_all_were_tried_a_tie_goes_to_the_first_chosen(self, tried):
        project = make_project()
        self.candidates(project, **tried)
        item, (weak, strong) = self.tied(project)

        assert labels_of(vote(project, weak, strong)) == {item: "negative"}
        run = vote(project, strong, weak)
        assert labels_of(run) == {item: "positive"}
        assert run.parameters["ties_by_accuracy"] is False

    def test_a_candidate_of_another_strategy_or_unfinished_says_nothing(self):
        project = make_project()
        self.candidates(project, weak=["negative", "negative"], strong=["positive", "positive"])
        project.annotation_runs.filter(model="strong").update(strategy="naive")
        _, (weak, strong) = self.tied(project)

        assert vote(project, weak, strong).parameters["ties_by_accuracy"] is False

    def test_candidates_vote_as_a_candidate(self):
        project = make_project()
        items = make_items(project, 2)
        for each in items:
            make_calibration_label(each, "positive")
        runs = [
            make_annotation_run(project, dict.fromkeys(items, label), scope="calibration", model=label)
            for label in ("negative", "positive")
        ]

        run = vote(project, *runs)

        assert run.scope == "calibration"
        assert set(labels_of(run).values()) == {"positive"}  # the more accurate of the two decides

    def test_the_trained_criticizer_judges_a_vote(self):
        project = make_project()
        for number in range(40):
            label = "positive" if number % 2 else "negative"
            item = make_item(project, text=f"{'lovely' if number % 2 else 'awful'} day {number}")
            if number < 20:
                make_calibration_label(item, label)
        run = vote(project, make_annotation_run(project), make_annotation_run(project))

        criticism = criticism_run_create(annotation_run=run, user=project.created_by, choice=TRAINED)
        run_to_end(criticism.job_id)

        assert criticism.criticisms.filter(failure="", error_prob__isnull=False).count() == 20

    def test_what_cannot_vote_is_refused(self):
        project = make_project()
        _, calibrated = make_items(project, 2)
        make_calibration_label(calibrated, "positive")
        run = make_annotation_run(project)
        other = make_project()
        make_item(other)
        running = make_annotation_run(project, state=Job.State.RUNNING)
        candidate = make_annotation_run(project, {calibrated: "positive"}, scope="calibration")
        empty = [make_annotation_run(project, {}) for _ in range(2)]
        for sources, sentence in [
            ([run], "two or more"),
            ([run, run], "two or more"),
            ([run, make_annotation_run(other)], "of this project"),
            ([run, running], "not finished"),
            ([run, candidate], "no items in common"),
            (empty, "no results"),
        ]:
            with pytest.raises(Refusal, match=sentence):
                vote_create(project=project, user=project.created_by, sources=sources)
        assert not project.annotation_runs.filter(kind="voted").exists()

    def test_written_answers_do_not_vote(self):
        project = make_project("rated_answer", labels=())
        runs = [AnnotationRun(project=project), AnnotationRun(project=project)]

        with pytest.raises(Refusal, match="Written answers have no label set"):
            vote_create(project=project, user=project.created_by, sources=runs)
