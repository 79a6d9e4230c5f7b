import pytest

from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun
from annotate.rightness import Truth, gold_scores, judgments, scores_against
from annotate.selectors import calibration_accuracy, machine_accuracy, machine_f1, span_counts
from annotate.services.calibration import calibration_from_gold
from annotate.services.runs import (
    TRAINED,
    ModelChoice,
    annotation_estimate,
    annotation_run_create,
    annotation_run_retry,
)
from jobs.models import Job
from jobs.running import run_to_end
from mllm.messages import Reply
from tests.conftest import Provider
from tests.factories import make_connection
from tests.span_answers import (
    TEXT,
    gold,
    make_calibration_answer,
    make_span_item,
    make_span_items,
    make_span_project,
    make_span_run,
)

pytestmark = pytest.mark.django_db


def choose(project, **choice):
    options = {"model": "small", "strategy": "naive", "answer_format": "bracket", **choice}
    connection = options.pop("connection", None) or make_connection(project.created_by, in_flight=4)
    return ModelChoice(kind="prompted", connection=connection, **options)


def start(project, scope=AnnotationRun.Scope.PROJECT, **choice):
    return annotation_run_create(
        project=project, user=project.created_by, choice=choose(project, **choice), scope=scope
    )


def work_on(run):
    run_to_end(run.job_id)
    run.job.refresh_from_db()
    return run.job


def test_a_run_finds_each_answer_in_its_text(provider: Provider):
    project = make_span_project()
    found, nothing = make_span_item(project), make_span_item(project)
    replies = {found.pk: "<answer>260 km</answer>", nothing.pk: "<no_answer/>"}
    replies_in_order = iter(replies.values())
    adapter = provider(lambda request: next(replies_in_order))
    run = start(project)

    assert work_on(run).state == Job.State.DONE
    answers = run.annotations.order_by("item_id").values_list("answer", "start", "end", "failure")
    place = TEXT.index("260 km")
    assert set(answers) == {("260 km", place, place + 6, ""), ("", 0, 0, "")}
    assert run.prompt_version == "extract-naive-1"
    assert "quoting" in adapter.requests[0].system
    assert span_counts(run).quoted == span_counts(run).without == 1


@pytest.mark.parametrize(
    ("answer_format", "text", "finish_reason", "message"),
    [
        ("bracket", "<answer>Hamburg</answer>", "stop", "“Hamburg” does not stand in the text"),
        ("bracket", "Seehausen", "stop", "neither an answer nor"),
        ("bracket", "<answer>Seeh", "length", "cut off"),
        ("structured", '{"has_answer": true, "answer": "Bremen"}', "stop", "“Bremen” does not stand"),
        ("structured", '{"has_answer": false, "answer": "Weser"}', "stop", "neither an answer nor"),
    ],
)
def test_what_does_not_stand_in_the_text_is_a_failure_that_can_be_asked_again(
    answer_format, text, finish_reason, message, provider: Provider
):
    project = make_span_project()
    make_span_items(project, 1)
    said = Reply(
        text=text,
        reasoning="",
        model="small",
        finish_reason=finish_reason,
        input_tokens=10,
        output_tokens=5,
        cached_tokens=0,
        logprobs=(),
        latency=0.0,
    )
    provider([said])
    run = start(project, answer_format=answer_format)
    job = work_on(run)
    annotation = run.annotations.get()

    assert (job.failed, annotation.failure, annotation.answer, annotation.start) == (
        1,
        "unparseable",
        "",
        None,
    )
    assert message in annotation.message
    assert annotation.raw_text == text

    right = {
        "bracket": "<answer>Seehausen</answer>",
        "structured": '{"has_answer": true, "answer": "Seehausen"}',
    }
    provider(lambda request: right[answer_format])
    annotation_run_retry(run=run)
    work_on(run)
    assert run.annotations.get().answer == "Seehausen"


def test_an_estimate_and_what_spans_cannot_do():
    project = make_span_project()
    items = make_span_items(project, 3)

    assert annotation_estimate(project=project, choice=choose(project)).calls == 3
    with pytest.raises(Refusal, match="Answers that are spans of a text have no label set"):
        annotation_run_create(project=project, user=project.created_by, choice=TRAINED)
    for refused in ({"confidence": True}, {"examples": 2}):
        with pytest.raises(Refusal, match="spans of a text"):
            start(project, **refused)
    make_calibration_answer(items[0], "Seehausen")
    with pytest.raises(Refusal, match="no classifier can be trained"):
        annotation_run_create(
            project=project,
            user=project.created_by,
            choice=TRAINED,
            scope=AnnotationRun.Scope.CALIBRATION,
        )


def test_an_item_without_a_question_fails_alone(provider: Provider):
    project = make_span_project()
    make_span_item(project, question="")
    make_span_item(project)
    provider(lambda request: "<answer>Seehausen</answer>")
    run = start(project)
    work_on(run)

    assert sorted(run.annotations.values_list("failure", flat=True)) == ["", "bad_request"]


class TestRightness:
    def test_gold_counts_exact_matches_and_words(self):
        project = make_span_project()
        answers = {
            make_span_item(project, "near Seehausen", "Seehausen"): "Seehausen",
            make_span_item(project, "The river Aller"): "river Aller",
            make_span_item(project, "near Seehausen"): "Seehausen",
            make_span_item(project): "",
            make_span_item(project, "Seehausen"): "",
            make_span_item(project): "Seehausen",
            make_span_item(project, "Seehausen"): None,
            make_span_item(project, known=False): "Seehausen",
        }
        run = make_span_run(project, answers)
        found = list(judgments(run.annotations.order_by("item_id"), project.task, Truth.GOLD))

        assert [each.is_right for each in found] == [True, True, False, True, False, False, False]
        assert [each.f1 for each in found] == [1, 1, pytest.approx(2 / 3), 1, 0, 0, 0]
        assert machine_accuracy(run) == (3, 7)
        assert machine_f1(run) == pytest.approx((3 + 2 / 3) / 7)
        assert gold_scores(run).judged == 7

    def test_words_that_the_metric_ignores_are_no_missing_answer(self):
        project = make_span_project()
        run = make_span_run(project, {make_span_item(project): "The", make_span_item(project, "The"): ""})

        assert machine_accuracy(run) == (0, 2)
        assert machine_f1(run) == 0

    def test_calibration_answers_judge_candidates(self, provider: Provider):
        project = make_span_project()
        right, wrong = make_span_items(project, 2)
        make_calibration_answer(right, "near Seehausen", "Seehausen")
        make_calibration_answer(wrong)
        provider(lambda request: "<answer>Seehausen</answer>")
        run = start(project, AnnotationRun.Scope.CALIBRATION)
        work_on(run)

        assert calibration_accuracy(run) == 0.5
        found = scores_against(Annotation.objects.all(), project.task, Truth.CALIBRATION)
        assert (found.right, found.judged, found.f1) == (1, 2, 0.5)


class TestCalibrationFromGold:
    def test_gold_answers_become_calibration_answers(self):
        project = make_span_project()
        make_span_items(project, 2)
        make_span_item(project)
        make_span_item(project, known=False)

        assert calibration_from_gold(project=project, count=3) == 3
        answers = [label.answers for label in project.calibration_labels.order_by("item_id")]
        assert answers == [gold("Seehausen"), gold("Seehausen"), []]
        with pytest.raises(Refusal, match="No item has gold answers"):
            calibration_from_gold(project=project, count=1)

    def test_more_than_there_are_is_refused(self):
        project = make_span_project()
        make_span_items(project, 2)

        with pytest.raises(Refusal, match="Only 2 items have gold answers"):
            calibration_from_gold(project=project, count=3)
