"""Runs whose calls are handed in as a provider's batches, from the form to the annotations."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, Connection, Project
from annotate.services.runs import ModelChoice, annotation_estimate, annotation_run_create
from jobs.models import Job
from jobs.running import run_next_chunk
from tests.api.caller import Caller
from tests.factories import make_connection, make_items, make_project
from tests.mllm.batch_provider import BatchProvider
from tests.present import present

pytestmark = pytest.mark.django_db(transaction=True)

MODEL = "gpt-5-mini"


@pytest.fixture
def batches(settings) -> Iterator[BatchProvider]:
    settings.LOCAL = True
    with BatchProvider() as running:
        running.text = "[1]"
        yield running


@pytest.fixture
def project() -> Project:
    project = make_project()
    make_items(project, 6)
    return project


@pytest.fixture
def connection(project: Project, batches: BatchProvider) -> Connection:
    return make_connection(project.created_by, base_url=f"{batches.url}/v1")


def choice(connection: Connection, **options: object) -> ModelChoice:
    return ModelChoice(
        kind="prompted",
        connection=connection,
        model=MODEL,
        strategy="naive",
        answer_format="bracket",
        by_batch=True,
        **options,  # type: ignore[arg-type]
    )


def look_again(job: Job) -> None:
    job.chunks.update(not_before=None)
    run_next_chunk(job.pk)


def test_the_form_hands_a_run_in_and_its_page_says_where_it_is(
    client: Client, project: Project, connection: Connection, batches: BatchProvider
):
    client.force_login(project.created_by)
    fields: dict[str, str | int] = {
        "kind": "prompted",
        "connection": connection.pk,
        "model": MODEL,
        "strategy": "naive",
        "answer_format": "bracket",
        "by_batch": "on",
    }
    estimate = client.get(reverse("annotation_run_estimate", args=[project.pk]), fields).content.decode()
    assert "within 24 h" in estimate
    client.post(reverse("annotation_runs", args=[project.pk]), fields)
    run = AnnotationRun.objects.get()
    run_next_chunk(run.job.pk)

    page = client.get(reverse("annotation_run", args=[project.pk, run.pk])).content.decode()
    assert "Handed in" in page
    assert "answered within a day" in page
    batches.end(batches.batches[0])
    look_again(run.job)

    run.job.refresh_from_db()
    assert (run.job.state, run.annotations.filter(failure="").count()) == (Job.State.DONE, 6)
    costs = sorted(present(each) for each in Annotation.objects.values_list("cost", flat=True))
    assert costs[0] * 2 == costs[-1], "the call made at once costs twice as much as one of the batch"
    assert run.job.cost == sum(costs)


def test_the_api_takes_it_and_says_how_far_it_is(
    project: Project, connection: Connection, batches: BatchProvider
):
    caller = Caller(project.created_by)
    body = {
        "kind": "prompted",
        "connection": connection.pk,
        "model": MODEL,
        "strategy": "naive",
        "by_batch": True,
    }
    made = caller.post(f"/api/v1/projects/{project.pk}/annotation-runs/", body)
    assert made.status_code == 201, made.content
    run = AnnotationRun.objects.get()
    run_next_chunk(run.job.pk)

    progress = caller.get(f"/api/v1/annotation-runs/{run.pk}/").json()["progress"]
    assert (progress["by_batch"], progress["handed_in"], progress["answered"]) == (True, 5, 0)


def test_a_batch_is_estimated_at_half_the_price(project: Project, connection: Connection):
    at_once = ModelChoice(
        kind="prompted", connection=connection, model=MODEL, strategy="naive", answer_format="bracket"
    )
    dear = annotation_estimate(project=project, choice=at_once)
    cheap = annotation_estimate(project=project, choice=choice(connection))
    assert dear.cost is not None
    assert cheap.cost == dear.cost * Decimal("0.5")
    assert cheap.by_batch
    assert cheap.seconds == 24 * 3600


def test_who_takes_no_batches_is_told_at_the_form(project: Project):
    connection = make_connection(project.created_by, provider="gguf")
    with pytest.raises(Refusal, match="takes no batches") as refused:
        annotation_run_create(project=project, user=project.created_by, choice=choice(connection))
    assert refused.value.field == "by_batch"
