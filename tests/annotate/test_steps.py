"""Annotators that reason in numbered steps: what they are asked, how they are read, and where they can be used."""

import hashlib
import json
from typing import Any

import pytest

from annotate.errors import Refusal
from annotate.models import AnnotationRun, ModelRun, User
from annotate.prompts import (
    PROMPT_VERSIONS,
    Example,
    ItemContent,
    LabelSpec,
    Opinion,
    annotation_request,
    read_steps,
)
from annotate.services.runs import ModelChoice, annotation_run_create
from annotate.task_types import LABEL_TASKS
from jobs.running import run_next_chunk
from mllm.messages import Image
from tests.conftest import Provider
from tests.factories import make_connection, make_item, make_project, make_user

LABELS = [LabelSpec("no", "it does not"), LabelSpec("yes")]
ITEM = ItemContent(text="A text.", question="A question?", image=Image(b"pixels", "image/png"))
TRACE = "Step 1: It is sunny.\nStep 2: The writer likes that.\nLabel: [1]"


def ask(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "task_type": "text_classification",
        "strategy": "steps",
        "answer_format": "bracket",
        "model": "any",
        "labels": LABELS,
        "item": ITEM,
    }
    return annotation_request(**arguments | changes)


def test_a_change_of_wording_needs_a_new_version() -> None:
    # When this fails: give the strategy a new number in PROMPT_VERSIONS, and note the new digest here.
    others: dict[str, Any] = {"examples": [Example(ITEM, 0)], "opinions": [Opinion(1, "It shines.")]}
    asked = [
        [request.system, *(part for part in request.parts if isinstance(part, str))]
        for task_type in LABEL_TASKS
        for request in (ask(task_type=task_type, instructions="Guide."), ask(task_type=task_type, **others))
    ]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    assert (PROMPT_VERSIONS["steps"], digest) == ("annotate-steps-1", "fd243710381bdd6d")


@pytest.mark.parametrize("change", [{"answer_format": "structured"}, {"confidence": True}])
def test_steps_end_with_the_label_alone(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="label in brackets"):
        ask(**change)


@pytest.mark.parametrize(
    ("reply", "label", "reasoning"),
    [
        (TRACE, 1, "Step 1: It is sunny.\nStep 2: The writer likes that."),
        ("Step 1: Sunny.\n**Final label:** [0]", 0, "Step 1: Sunny."),
        ("Step 1: The label: it is [0]", 0, "Step 1: The label: it is"),
        ("Step 1: Sunny.\nLabel: [2]", None, "Step 1: Sunny.\nLabel: [2]"),
        ("", None, ""),
    ],
)
def test_the_label_is_taken_off_the_steps(reply: str, label: int | None, reasoning: str) -> None:
    assert read_steps(reply, LABELS) == (label, reasoning)


@pytest.fixture
def user() -> User:
    return make_user("ann")


@pytest.mark.django_db
def test_a_run_in_steps_keeps_the_whole_trace(user: User, provider: Provider) -> None:
    project = make_project(owner=user)
    make_item(project)
    connection = make_connection(user, provider="anthropic", key="secret")
    choice = ModelChoice(
        ModelRun.Kind.PROMPTED, connection, "claude-sonnet-4-5", strategy="steps", max_tokens=700
    )
    provider([TRACE])

    run = annotation_run_create(project=project, user=user, choice=choice)
    run_next_chunk(run.job_id)

    annotation = run.annotations.get()
    assert (run.answer_format, run.prompt_version) == ("bracket", "annotate-steps-1")
    assert annotation.label is not None
    assert annotation.label.name == "positive"
    assert annotation.raw_text == TRACE
    assert annotation.reasoning.endswith("The writer likes that.")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("task_type", "change", "field"),
    [
        ("rated_answer", {}, "strategy"),
        ("extractive_qa", {}, "strategy"),
        ("text_classification", {"confidence": True}, "confidence"),
        ("text_classification", {"answer_format": "structured"}, "answer_format"),
    ],
)
def test_what_has_no_steps_is_refused(task_type: str, change: dict[str, Any], field: str, user: User) -> None:
    project = make_project(task_type, () if task_type != "text_classification" else ("no", "yes"), owner=user)
    make_item(project)
    choice = ModelChoice(
        ModelRun.Kind.PROMPTED, make_connection(user, key="secret"), "any", **{"strategy": "steps", **change}
    )

    with pytest.raises(Refusal) as refused:
        annotation_run_create(project=project, user=user, choice=choice)

    assert refused.value.field == field
    assert not AnnotationRun.objects.exists()
