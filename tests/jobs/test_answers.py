from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Annotation, AnnotationRun, Connection, Project
from annotate.services.runs import ModelChoice, annotation_run_create
from jobs import answers
from jobs.models import KeptAnswer
from jobs.running import run_to_end
from jobs.services import job_retry
from mllm.messages import Image, Reply, Request, TokenLogprob
from mllm.registry import ConnectionSettings
from tests.conftest import Provider
from tests.factories import make_connection, make_items, make_project

pytestmark = pytest.mark.django_db

CONNECTION = ConnectionSettings(provider="openai", api_key="sk-one")
REQUEST = Request(model="m", system="Choose.", parts=("<item>\nfine\n</item>", Image(b"png", "image/png")))
REPLY = Reply(
    text="[1]",
    reasoning="because",
    model="m-2026",
    finish_reason="stop",
    input_tokens=20,
    output_tokens=3,
    cached_tokens=5,
    logprobs=(TokenLogprob("[", -0.1, (("[", -0.1), ("1", -2.5))),),
    latency=0.4,
)


@pytest.fixture
def project() -> Project:
    project = make_project()
    make_items(project, 4)
    return project


@pytest.fixture
def connection(project: Project) -> Connection:
    return make_connection(project.created_by, provider="scripted")


def annotate(project: Project, connection: Connection, max_tokens: int | None = None) -> AnnotationRun:
    choice = ModelChoice("prompted", connection, "m", "naive", "bracket", max_tokens=max_tokens)
    run = annotation_run_create(project=project, user=project.created_by, choice=choice)
    run_to_end(run.job_id)
    run.job.refresh_from_db()
    return run


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, model="m2"),
        replace(REQUEST, system="Choose!"),
        replace(REQUEST, parts=("<item>\nfine\n</item>", Image(b"other", "image/png"))),
        replace(REQUEST, parts=(REQUEST.parts[1], REQUEST.parts[0])),
        replace(REQUEST, max_tokens=7),
        replace(REQUEST, temperature=0.7),
        replace(REQUEST, temperature=None),
        replace(REQUEST, schema={"type": "object"}),
        replace(REQUEST, top_logprobs=5),
        replace(REQUEST, seed=1),
        replace(REQUEST, stop=("]",)),
    ],
)
def test_whatever_changes_the_answer_changes_the_key(other: Request):
    assert answers.request_key(CONNECTION, other) != answers.request_key(CONNECTION, REQUEST)


def test_the_key_is_that_of_the_place_asked_and_not_of_who_asks():
    key = answers.request_key(CONNECTION, REQUEST)

    assert key == answers.request_key(replace(CONNECTION, api_key="sk-two", timeout=5.0), REQUEST)
    assert key == answers.request_key(replace(CONNECTION, base_url="https://api.openai.com/v1"), REQUEST)
    assert key != answers.request_key(replace(CONNECTION, base_url="https://models.invalid/v1"), REQUEST)
    assert key != answers.request_key(replace(CONNECTION, provider="anthropic"), REQUEST)


def test_an_answer_comes_back_whole():
    answers.keep({"a" * 64: REPLY})

    assert answers.find(["a" * 64, "b" * 64]) == {"a" * 64: REPLY}


def test_what_no_database_can_hold_is_left_out_of_a_kept_answer():
    answers.keep({"a" * 64: replace(REPLY, text="[1]\x00\ud800")})

    assert answers.find(["a" * 64])["a" * 64].text == "[1]?"


def test_the_answer_that_came_first_stays():
    answers.keep({"a" * 64: REPLY})
    answers.keep({"a" * 64: replace(REPLY, text="[0]")})

    assert answers.find(["a" * 64])["a" * 64].text == "[1]"


def test_old_answers_are_forgotten():
    answers.keep({"a" * 64: REPLY, "b" * 64: REPLY})
    KeptAnswer.objects.filter(key="a" * 64).update(created_at=timezone.now() - timedelta(days=31))

    answers.forget_old()

    assert list(KeptAnswer.objects.values_list("key", flat=True)) == ["b" * 64]


def test_an_identical_run_makes_no_call_and_costs_nothing(
    project: Project, connection: Connection, provider: Provider
):
    adapter = provider(lambda request: "[1]")
    first = annotate(project, connection)

    second = annotate(project, connection)

    assert len(adapter.requests) == 4
    assert (second.job.done, second.job.input_tokens) == (4, 0)
    assert first.job.input_tokens > 0
    paid, reused = (list(run.annotations.order_by("item_id")) for run in (first, second))
    assert [row.reused for row in paid + reused] == [False] * 4 + [True] * 4
    for before, after in zip(paid, reused, strict=True):
        assert (after.label, after.raw_text, after.input_tokens, after.latency) == (
            before.label,
            before.raw_text,
            before.input_tokens,
            before.latency,
        )


def test_another_project_with_the_same_items_reuses_them(
    project: Project, connection: Connection, provider: Provider
):
    adapter = provider(lambda request: "[1]")
    annotate(project, connection)
    twin = make_project(owner=project.created_by)
    for item in project.items.all():
        make_items(twin, 1, text=item.text)

    run = annotate(twin, connection)

    assert len(adapter.requests) == 4
    assert set(run.annotations.values_list("label__project", flat=True)) == {twin.pk}


def test_items_with_the_same_content_in_later_blocks_are_asked_once(
    project: Project, connection: Connection, provider: Provider
):
    adapter = provider(lambda request: "[1]")
    annotate(project, connection)
    make_items(project, 3, text=project.items.earliest("pk").text)

    run = annotate(project, connection)

    assert len(adapter.requests) == 4
    assert run.annotations.filter(reused=True).count() == 7


def test_another_parameter_is_another_question(project: Project, connection: Connection, provider: Provider):
    adapter = provider(lambda request: "[1]")
    annotate(project, connection)

    annotate(project, connection, max_tokens=9)

    assert len(adapter.requests) == 8


def test_an_answer_that_could_not_be_used_is_asked_again(
    project: Project, connection: Connection, provider: Provider
):
    replies = iter(["no idea"] * 4 + ["[0]"] * 4)
    adapter = provider(lambda request: next(replies))
    run = annotate(project, connection)
    assert run.job.failed == 4
    assert not KeptAnswer.objects.exists()

    job_retry(run.job, list(project.items.values_list("pk", flat=True)))
    run_to_end(run.job_id)

    assert len(adapter.requests) == 8
    assert not Annotation.objects.exclude(failure="").exists()
    assert KeptAnswer.objects.count() == 4


def test_nothing_is_kept_where_that_is_switched_off(
    project: Project, connection: Connection, provider: Provider, settings
):
    settings.KEEP_ANSWERS_DAYS = 0
    adapter = provider(lambda request: "[1]")

    annotate(project, connection)
    annotate(project, connection)

    assert len(adapter.requests) == 8
    assert not KeptAnswer.objects.exists()
