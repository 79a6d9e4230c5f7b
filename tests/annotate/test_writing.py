import json
from decimal import Decimal

import pytest

from annotate.errors import Refusal
from annotate.models import AnnotationRun
from annotate.services.runs import (
    TRAINED,
    ModelChoice,
    annotation_estimate,
    annotation_run_create,
    annotation_run_retry,
    training_parameters,
)
from annotate.task_types import WRITTEN_TASKS
from jobs.models import Job
from jobs.running import run_to_end
from mllm.errors import CallError, Failure
from mllm.messages import Reply
from tests.conftest import Provider
from tests.factories import make_connection, make_items
from tests.written_answers import GUIDELINES, make_written_project

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


@pytest.mark.parametrize("task_type", WRITTEN_TASKS)
def test_a_run_writes_an_answer_to_each_item_without_any_label(task_type, provider: Provider):
    project = make_written_project(task_type)
    items = make_items(project, 3)
    adapter = provider(lambda request: f"[0] about {request.parts[0][7:20]}\r\n")
    run = start(project)

    assert work_on(run).state == Job.State.DONE
    answers = dict(run.annotations.values_list("item_id", "answer"))
    assert answers == {item.pk: f"[0] about {item.text[:13]}" for item in items}
    assert not run.annotations.exclude(label=None).exists()
    assert GUIDELINES in adapter.requests[0].system
    assert run.prompt_version == "write-naive-1"


def test_reasoning_is_kept_apart_from_the_answer(provider: Provider):
    project = make_written_project()
    make_items(project, 1)
    provider(["<reasoning>\nIt is [1] short.\n</reasoning>\n<answer>\n[2]\n\n{}\n</answer>"])
    run = start(project, strategy="cot")
    work_on(run)
    annotation = run.annotations.get()

    assert (annotation.answer, annotation.reasoning) == ("[2]\n\n{}", "It is [1] short.")


def test_a_structured_answer_is_read_from_its_key_and_made_fit_to_store(provider: Provider):
    project = make_written_project()
    make_items(project, 1)
    adapter = provider([json.dumps({"reasoning": "So.", "answer": "A\x00B \ud800\r\nC "})])
    run = start(project, strategy="cot", answer_format="structured")
    work_on(run)

    assert run.annotations.get().answer == "AB ?\nC"
    schema = adapter.requests[0].schema
    assert schema is not None
    assert schema["required"] == ["reasoning", "answer"]


def reply(text, finish_reason):
    return Reply(
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


@pytest.mark.parametrize(
    ("strategy", "answer_format", "text", "finish_reason", "message"),
    [
        ("naive", "bracket", "It rained and", "length", "cut off at its token limit"),
        ("cot", "bracket", "<answer>\nIt rained and", "length", "cut off at its token limit"),
        ("naive", "structured", '{"answer": "It rained', "length", "cut off at its token limit"),
        ("naive", "bracket", " \n", "stop", "holds no answer"),
        ("cot", "bracket", "It rained.", "stop", "holds no answer"),
        ("cot", "structured", '{"reasoning": "x", "answer": 3}', "stop", "holds no answer"),
        ("naive", "structured", '{"answer": "\\u0000 "}', "stop", "holds no answer"),
    ],
)
def test_what_is_no_whole_answer_is_a_failure_that_can_be_asked_again(
    strategy, answer_format, text, finish_reason, message, provider: Provider
):
    project = make_written_project()
    make_items(project, 1)
    provider([reply(text, finish_reason)])
    run = start(project, strategy=strategy, answer_format=answer_format)
    job = work_on(run)
    annotation = run.annotations.get()

    assert (job.failed, annotation.failure, annotation.answer) == (1, "unparseable", "")
    assert message in annotation.message
    assert annotation.raw_text.strip("\x00") == text

    good = {"bracket": "<answer>\nIt rained.\n</answer>", "structured": '{"answer": "It rained."}'}
    provider(lambda request: good[answer_format])
    annotation_run_retry(run=run)
    work_on(run)

    annotation = run.annotations.get()
    assert annotation.failure == ""
    assert "It rained." in annotation.answer


def test_whole_json_at_the_token_limit_is_whole(provider: Provider):
    project = make_written_project()
    make_items(project, 1)
    provider([reply('{"answer": "It rained."}', "length")])
    run = start(project, answer_format="structured")
    work_on(run)

    assert run.annotations.get().answer == "It rained."


def test_an_item_without_text_and_a_failed_call_are_failures_of_their_own(provider: Provider):
    project = make_written_project()
    make_items(project, 1)
    make_items(project, 1, text="  ")
    provider([CallError(Failure.REFUSED, "The model declined.")])
    run = start(project)
    work_on(run)

    assert [row.failure for row in run.annotations.order_by("item_id")] == ["refused", "bad_request"]


def test_an_estimate_expects_more_output_than_for_a_label():
    project = make_written_project()
    make_items(project, 10)
    estimate = annotation_estimate(project=project, choice=choose(project))

    assert estimate.calls == 10
    assert estimate.output_tokens >= 1000
    assert estimate.cost is None or estimate.cost > Decimal(0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"confidence": True}, "no label to state its confidence"),
        ({"examples": 4}, "no labelled items"),
        ({"scope": AnnotationRun.Scope.CALIBRATION}, "calibration labels"),
    ],
)
def test_what_needs_a_label_set_is_refused_with_a_sentence(options, sentence):
    project = make_written_project()
    make_items(project, 2)

    with pytest.raises(Refusal, match="Written answers have no label set, so") as refusal:
        start(project, **options)
    assert sentence in refusal.value.sentence
    assert not project.annotation_runs.exists()


def test_the_trained_annotator_is_refused_with_a_sentence():
    project = make_written_project()
    make_items(project, 2)

    for refused in (
        lambda: annotation_run_create(project=project, user=project.created_by, choice=TRAINED),
        lambda: annotation_estimate(project=project, choice=TRAINED),
        lambda: training_parameters(project),
    ):
        with pytest.raises(Refusal, match="no classifier can be trained on them: choose a model"):
            refused()
