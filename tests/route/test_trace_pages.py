"""The pages of routers that read along, from choosing the models to the run's figures."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Project
from jobs.models import Job
from mllm.messages import Request
from route.models import Router, TracedRun
from tests.conftest import Provider
from tests.route.traced import (
    METAL,
    READER,
    answer,
    item_text,
    make_candidate,
    make_traced_project,
    run_out,
    train_traced,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_traced_project()


@pytest.fixture
def page(project: Project) -> Client:
    client = Client()
    client.force_login(project.created_by)
    return client


def test_a_router_is_trained_and_set_to_work_from_the_pages(
    project: Project, page: Client, provider: Provider
) -> None:
    provider(answer)
    run = make_candidate(project)
    assert run.connection is not None
    said: dict[str, Any] = {
        "run": run.pk,
        "connection": run.connection.pk,
        "model": READER,
        "limit": "30",
        "strictness": ["balanced"],
        "demonstrations": "2",
        "vectors": "plain",
        "split": "random",
        "no_trace": "on",
    }
    cost = page.get(reverse("trace_cost", args=[project.pk]), said)
    assert "every step of the development items" in cost.content.decode()
    assert "Asking once more without any step is" in cost.content.decode()

    page.post(reverse("trace_new", args=[project.pk]), said)
    router = Router.objects.get()
    address = reverse("router", args=[project.pk, router.pk])
    assert "questions to reader" in page.get(address).content.decode()
    page.post(reverse("trace_training", args=[project.pk, router.pk, "pause"]))
    assert "Resume" in page.get(address).content.decode()
    page.post(reverse("trace_training", args=[project.pk, router.pk, "resume"]))
    Job.objects.filter(pk=router.job_id).update(state=Job.State.RUNNING)
    assert "Time left not known yet." in page.get(address).content.decode()
    Job.objects.filter(pk=router.job_id).update(state=Job.State.QUEUED)
    run_out(router.job_id)

    shown = page.get(address).content.decode()
    assert "Against simpler ways" in shown
    assert "One-shot on the full trace" in shown
    assert "chosen" in shown
    preview = page.get(reverse("traced_preview", args=[project.pk, router.pk]), {"limit": "30"})
    assert "To people, at most" in preview.content.decode()
    response = page.post(reverse("traced_new", args=[project.pk, router.pk]), {"limit": "30"})
    traced = TracedRun.objects.get()
    assert response["Location"] == reverse("traced_run", args=[project.pk, traced.pk])
    run_out(traced.run.job_id)

    shown = page.get(response["Location"]).content.decode()
    assert "Annotator tokens saved" in shown
    assert f"of at most {traced.budget}" in shown
    assert "The tokens of 6 items are an estimate" in shown
    facts = page.get(reverse("annotation_run", args=[project.pk, traced.run_id])).content.decode()
    assert response["Location"] in facts


def test_a_limit_that_cannot_be_kept_is_said(project: Project, page: Client, provider: Provider) -> None:
    provider(answer)
    router = train_traced(project)

    preview = page.get(reverse("traced_preview", args=[project.pk, router.pk]), {"limit": "0"})
    page.post(reverse("traced_new", args=[project.pk, router.pk]), {"limit": "0"})

    assert "No setting of this router" in preview.content.decode()
    assert not TracedRun.objects.exists()


def test_without_an_annotator_in_steps_the_page_says_what_to_do(project: Project, page: Client) -> None:
    shown = page.get(reverse("trace_new", args=[project.pk])).content.decode()

    assert "No annotator reasons in numbered steps yet" in shown


def test_where_the_annotator_is_under_way_the_page_says_to_wait(project: Project, page: Client) -> None:
    run = make_candidate(project)
    Job.objects.filter(pk=run.job_id).update(state=Job.State.RUNNING)

    shown = page.get(reverse("trace_new", args=[project.pk])).content.decode()

    assert f"{run.who} is not finished yet" in shown
    assert reverse("annotation_run", args=[project.pk, run.pk]) in shown


def test_a_model_that_never_stops_anybody_is_said_before_and_after(
    project: Project, page: Client, provider: Provider
) -> None:
    provider(lambda request: "[CONTINUE][low]" if request.model == READER else answer(request))
    router = train_traced(project, demonstrations=(0,))

    shown = page.get(reverse("router", args=[project.pk, router.pk])).content.decode()
    preview = page.get(reverse("traced_preview", args=[project.pk, router.pk]), {"limit": "30"})

    assert (
        "The router stops nobody: with the chosen setting reader lets the annotator go on with all 12"
        in shown
    )
    assert "3 of which it gets wrong, in none of the settings" in shown
    assert "the router stopped nobody when it was trained" in preview.content.decode()


def test_a_model_that_can_seldom_be_read_or_stops_the_wrong_ones_is_said(
    project: Project, page: Client, provider: Provider
) -> None:
    """It reads fruit only, and stops a part of it."""

    def reads_fruit(request: Request) -> str:
        if request.model != READER:
            return answer(request)
        if METAL in item_text(request):
            return "I would rather not say."
        return "[ESCALATE][high]" if item_text(request).count("1") else "[CONTINUE][low]"

    provider(reads_fruit)
    router = train_traced(project, demonstrations=(0,), limit=1.0)

    shown = page.get(reverse("router", args=[project.pk, router.pk])).content.decode()

    asked, unread = router.metrics["queries"], router.metrics["failed_queries"]
    assert f"{unread} of {asked} questions to reader have no answer that can be read" in shown
    assert len(router.metrics["notes"]) == 2
    assert "The router finds no error" in shown


def test_a_split_by_topics_is_said_with_its_measures(
    project: Project, page: Client, provider: Provider
) -> None:
    provider(answer)
    run = make_candidate(project)
    assert run.connection is not None
    said: dict[str, Any] = {"run": run.pk, "connection": run.connection.pk, "model": READER, "limit": "100"}
    said |= {"strictness": ["balanced"], "demonstrations": "2", "vectors": "plain", "split": "topics"}
    cost = page.get(reverse("trace_cost", args=[project.pk]), said).content.decode()
    assert "as topics differ in size" in cost
    assert "call" in cost[cost.index("would be") :]

    page.post(reverse("trace_new", args=[project.pk]), said)
    router = Router.objects.get()
    run_out(router.job_id)

    shown = page.get(reverse("router", args=[project.pk, router.pk])).content.decode()
    assert "Whole topics were held out" in shown
    assert "Divergence of their words" in shown
    assert "Not asked" in shown
    project.calibration_labels.filter(
        pk__in=list(project.calibration_labels.values_list("pk", flat=True)[:20])
    ).delete()
    refused = page.post(reverse("trace_new", args=[project.pk]), said).content.decode()
    assert "28 known items are too few to hold topics out; at least 40 are needed." in refused
