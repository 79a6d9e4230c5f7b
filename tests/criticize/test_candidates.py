"""Candidate annotators: what is counted, who is best, who is asked again, and about what."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, Connection, Item, ModelPrice, Project
from annotate.services.runs import TRAINED, ModelChoice
from criticize.candidate_services import (
    MOST_AT_ONCE,
    candidate_go_on,
    candidates_plan,
    candidates_start,
)
from criticize.candidates import board_of, candidates_of, pair_of_choice, pair_of_run, recommendation_of
from jobs.models import Job
from jobs.running import run_to_end
from tests.conftest import Provider
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_item,
    make_items,
    make_project,
)

pytestmark = pytest.mark.django_db

CALIBRATION = AnnotationRun.Scope.CALIBRATION


@pytest.fixture
def project() -> Project:
    """Ten calibration items, each in truth positive, beside three others."""
    project = make_project()
    calibrate(project, 10)
    make_items(project, 3)
    return project


def calibrate(project: Project, count: int, label: str = "positive") -> list[Item]:
    items = make_items(project, count)
    for item in items:
        make_calibration_label(item, label)
    return items


def calibration_items(project: Project) -> list[Item]:
    return list(project.items.filter(calibration_label__isnull=False).order_by("pk"))


def try_out(project: Project, *answers: str, **fields: Any) -> AnnotationRun:
    """A candidate with these answers about the first calibration items."""
    given = dict(zip(calibration_items(project), answers, strict=False))
    return make_annotation_run(project, given, scope=CALIBRATION, **fields)


def model(project: Project, name: str = "small", **fields: Any) -> ModelChoice:
    """A model behind the owner's one connection, asked for brackets."""
    found = Connection.objects.filter(owner=project.created_by).first() or make_connection(project.created_by)
    options = {"strategy": "naive", "answer_format": "bracket", **fields}
    return ModelChoice(kind="prompted", connection=found, model=name, **options)


def start(project: Project, *choices: ModelChoice, **fields: Any) -> Any:
    return candidates_start(project=project, user=project.created_by, choices=choices, **fields)


# --- The leaderboard -------------------------------------------------------------------------------------------------


def test_without_labels_or_candidates_there_is_nothing_on_the_board() -> None:
    board = board_of(make_project())

    assert (board.items, board.rows, board.words) == (0, [], "")
    assert recommendation_of(board) is None


def test_candidates_are_ranked_against_calibration_labels_and_failures_are_wrong(project: Project) -> None:
    good = try_out(project, *["positive"] * 9, "negative", model="good")
    failing = try_out(project, *["positive"] * 6, "", "", "negative", "negative", model="failing")
    Annotation.objects.filter(run=failing, failure="refused").update(failure="unparseable")

    board = board_of(project)

    assert [row.run for row in board.rows] == [good, failing]
    first, second = (row.score for row in board.rows)
    assert first is not None
    assert second is not None
    assert (first.accuracy, first.place) == (0.9, 1)
    assert (second.accuracy, second.failed_share, second.unparseable_share) == (0.6, 0.2, 0.2)
    assert "the intervals overlap" in board.words


def test_it_is_scored_against_todays_labels_and_items(project: Project) -> None:
    run = try_out(project, *["positive"] * 10)
    first, second, third, *_ = calibration_items(project)
    first.calibration_label.delete()
    second.delete()
    third.calibration_label.label = label_named(project, "negative")
    third.calibration_label.save()

    (row,) = board_of(project).rows

    assert row.score is not None
    assert (row.score.tally.right, row.score.tally.judged) == (7, 8)
    assert (row.run, row.asked, row.items, row.missing) == (run, 8, 8, 0)


def test_cost_time_and_tokens_are_those_of_the_calls(project: Project) -> None:
    run = try_out(project, *["positive"] * 10)
    run.annotations.update(cost=Decimal("0.002"), latency=1.5, input_tokens=100, output_tokens=7)
    unpriced = try_out(project, *["positive"] * 10, model="unpriced")
    trained = try_out(project, *["positive"] * 10, kind="trained", provider="", model="", strategy="")

    scores = {row.run: row.score for row in board_of(project).rows}

    score = scores[run]
    assert score is not None
    assert score.cost_per_thousand == pytest.approx(2.0)
    assert (score.tally.seconds, score.tally.input_tokens, score.tally.output_tokens) == (1.5, 1000, 70)
    assert scores[unpriced].cost_per_thousand is None  # type: ignore[union-attr]
    assert scores[trained].cost_per_thousand == 0  # type: ignore[union-attr]
    assert scores[trained].tally.seconds is None  # type: ignore[union-attr]


def test_a_vote_and_a_discussion_cost_what_all_that_they_are_made_of_cost(project: Project) -> None:
    single = [try_out(project, *["positive"] * 10, model=name) for name in ("one", "two")]
    ids = [run.pk for run in single]
    asked_again = [
        try_out(project, *["positive"] * 10, parameters={"sources": ids, "source": pk, "discussion": "d"})
        for pk in ids
    ]
    vote = try_out(
        project,
        *["positive"] * 10,
        kind="voted",
        parameters={"sources": [run.pk for run in asked_again]},
    )
    Annotation.objects.filter(run__in=single).update(cost=Decimal("0.002"))
    Annotation.objects.filter(run__in=asked_again).update(cost=Decimal("0.001"))

    costs = {row.run: row.score.cost_per_thousand for row in board_of(project).rows if row.score is not None}

    assert [costs[run] for run in single] == pytest.approx([2.0, 2.0])
    assert [costs[run] for run in asked_again] == pytest.approx([5.0, 5.0])
    assert costs[vote] == pytest.approx(6.0)
    single[0].annotations.update(cost=None)
    assert {row.run: row.score for row in board_of(project).rows}[vote].cost_per_thousand is None  # type: ignore[union-attr]


def test_accuracy_waits_for_the_end_and_only_the_newest_run_of_a_pair_counts(project: Project) -> None:
    try_out(project, *["negative"] * 10, model="again")
    newer = try_out(project, *["positive"] * 10, model="again")
    running = try_out(project, "positive", model="running", state=Job.State.RUNNING)
    make_annotation_run(project, model="no candidate")

    board = board_of(project)

    assert [row.run for row in board.rows] == [newer, running]
    assert board.rows[1].score is None
    assert board.is_running


def test_a_leaderboard_of_many_takes_as_many_queries_as_one_of_few(project: Project) -> None:
    try_out(project, *["positive"] * 10, model="a")
    with CaptureQueriesContext(connection) as few:
        board_of(project)
    for name in "bcdef":
        try_out(project, *["positive"] * 10, model=name)

    with CaptureQueriesContext(connection) as many:
        board_of(project)

    assert len(many) == len(few)


def test_the_recommendation_rests_on_who_was_asked_about_at_least_half(project: Project) -> None:
    try_out(project, *["positive"] * 8, *["negative"] * 2, model="steady")
    try_out(project, "positive", model="lucky", state=Job.State.CANCELLED)

    board = board_of(project)
    advice = recommendation_of(board)

    assert board.rows[0].name == "lucky · cot"
    assert advice is not None
    assert advice.annotator.model_name == "steady"


# --- Trying ----------------------------------------------------------------------------------------------------------


def test_a_run_is_the_pair_that_its_choice_was(project: Project) -> None:
    for choice in (
        model(project),
        model(project, answer_format="structured"),
        model(project, confidence=True),
        model(project, examples=2),
        model(project, top_logprobs=5),
    ):
        (run,) = start(project, choice).created or [None]
        if choice.top_logprobs:
            assert run is None  # asking for log-probabilities changes no answer
        else:
            assert pair_of_run(run) == pair_of_choice(choice)
    assert len(candidates_of(project)) == 4


def test_each_pair_becomes_a_candidate_over_the_calibration_items(
    project: Project, provider: Provider
) -> None:
    provider(lambda request: "[1]" if request.model == "good" else "no idea")

    started = start(project, model(project, "good"), model(project, "bad"))
    for run in started.created:
        run_to_end(run.job_id)

    good, bad = board_of(project).rows
    assert (good.name, good.score.accuracy) == ("good · naive", 1.0)  # type: ignore[union-attr]
    assert (bad.name, bad.score.unparseable_share) == ("bad · naive", 1.0)  # type: ignore[union-attr]
    assert started.sentence == "2 runs started."


def test_what_was_tried_is_not_asked_again_until_the_set_has_grown(
    project: Project, provider: Provider
) -> None:
    asked = provider(lambda request: "[1]").requests
    (run,) = start(project, model(project)).created
    assert start(project, model(project)).sentence == "Not asked again, since nothing is new: small · naive."
    run_to_end(run.job_id)

    again = start(project, model(project))
    assert (again.created, again.extended, len(again.tried)) == ([], [], 1)
    calibrate(project, 4)
    plan = candidates_plan(project=project, choices=[model(project)])
    grown = start(project, model(project))
    run_to_end(run.job_id)

    assert plan.calls == 4
    assert (grown.created, grown.extended) == ([], [run])
    assert len(asked) == 14
    (row,) = board_of(project).rows
    assert (row.asked, row.items, row.run.job.total, row.run.job.done) == (14, 14, 14, 14)


def test_a_candidate_goes_on_with_the_new_items_alone(project: Project, provider: Provider) -> None:
    asked = provider(lambda request: "[1]").requests
    (run,) = start(project, model(project)).created
    run_to_end(run.job_id)
    run = AnnotationRun.objects.get(pk=run.pk)
    with pytest.raises(Refusal, match="nothing new"):
        candidate_go_on(run=run)
    calibrate(project, 2)

    assert candidate_go_on(run=run) == 2
    run_to_end(run.job_id)

    assert len(asked) == 12


def test_a_limit_that_cannot_be_kept_is_refused_when_a_candidate_goes_on(project: Project) -> None:
    run = try_out(project, *["positive"] * 4, connection=make_connection(project.created_by))

    with pytest.raises(Refusal, match="no price for small"):
        candidate_go_on(run=run, spend_limit=Decimal(1))

    assert AnnotationRun.objects.get(pk=run.pk).job.state == Job.State.DONE


def test_a_discussion_goes_on_with_what_its_annotators_saw_alone(project: Project) -> None:
    link = make_connection(project.created_by)
    sources = [try_out(project, *["positive"] * 6, model=name, connection=link) for name in ("one", "two")]
    discussing = try_out(
        project,
        *["positive"] * 4,
        connection=link,
        parameters={"sources": [run.pk for run in sources], "source": sources[0].pk, "discussion": "d"},
    )

    assert candidate_go_on(run=discussing) == 2


@pytest.mark.django_db(transaction=True)
def test_a_form_that_is_sent_twice_at_the_same_moment_starts_its_candidates_once(project: Project) -> None:
    choice = model(project)
    barrier = threading.Barrier(2)

    def send(_: int) -> int:
        try:
            barrier.wait(30)
            return len(start(project, choice).created)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        created = list(threads.map(send, range(2)))

    assert sorted(created) == [0, 1]
    assert candidates_of(project) == list(project.annotation_runs.all())


def test_a_grown_set_trains_another_classifier(project: Project) -> None:
    calibrate(project, 10, "negative")
    (first,) = start(project, TRAINED).created
    run_to_end(first.job_id)
    calibrate(project, 2, "negative")

    (second,) = start(project, TRAINED).created
    run_to_end(second.job_id)

    (row,) = board_of(project).rows
    assert (row.run, row.asked) == (second, 22)
    with pytest.raises(Refusal, match="learns anew"):
        candidate_go_on(run=AnnotationRun.objects.get(pk=first.pk))


def test_a_run_that_ended_without_an_answer_is_no_try(project: Project) -> None:
    (run,) = start(project, model(project)).created
    Job.objects.filter(pk=run.job_id).update(state=Job.State.CANCELLED)

    (again,) = start(project, model(project)).created

    assert again != run


def test_the_estimate_sums_what_is_to_be_asked(project: Project) -> None:
    ModelPrice.objects.create(provider="openai", model="priced", input=1, output=2)
    choices = [model(project, "priced"), model(project, "priced-too")]

    plan = candidates_plan(project=project, choices=choices)

    assert (len(plan.to_ask), plan.calls) == (2, 20)
    assert plan.cost is not None
    assert plan.cost == sum(each.cost or 0 for each in plan.planned)
    assert plan.cost > 0
    unknown = candidates_plan(project=project, choices=[*choices, model(project, "unheard-of")])
    assert unknown.cost is None
    assert unknown.unpriced == ["unheard-of"]


def test_a_limit_holds_for_each_and_one_that_cannot_be_kept_leaves_its_model_out(project: Project) -> None:
    ModelPrice.objects.create(provider="openai", model="priced", input=1, output=2)

    started = start(
        project, model(project, "priced"), model(project, "unheard-of"), spend_limit=Decimal("0.5")
    )

    (run,) = started.created
    assert (run.model, run.job.spend_limit) == ("priced", Decimal("0.5"))
    assert "unheard-of · naive was left out: There is no price for unheard-of" in started.sentence


def test_where_everything_is_refused_nothing_starts(project: Project) -> None:
    with pytest.raises(Refusal, match="There is no price for unheard-of"):
        start(project, model(project, "unheard-of"), spend_limit=Decimal(1))

    assert not AnnotationRun.objects.exists()


@pytest.mark.parametrize(
    ("count", "sentence"), [(0, "Choose at least one model"), (MOST_AT_ONCE + 1, "start at most 60 at once")]
)
def test_none_and_too_many_are_refused(project: Project, count: int, sentence: str) -> None:
    choices = [model(project, f"model-{number}") for number in range(count)]

    with pytest.raises(Refusal, match=sentence):
        start(project, *choices)


def test_without_calibration_items_nobody_can_be_tried() -> None:
    project = make_project()
    make_item(project)

    with pytest.raises(Refusal, match="no calibration items"):
        start(project, model(project))


def test_too_few_labels_to_train_on_are_said_in_the_plan(project: Project) -> None:
    (planned,) = candidates_plan(project=project, choices=[TRAINED]).planned

    assert "at least two labels" in planned.problem
    assert planned.subjects == ()
