"""Routers that see a provider's embeddings: bought first, paused and gone on with, cancelled, and priced beforehand."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import ItemVector, Project, User
from annotate.services.projects import project_delete
from annotate.vectors import VectorChoice
from jobs.leases import lease_length
from jobs.models import Chunk, Job
from jobs.running import run_next_chunk, run_to_end
from jobs.services import job_pause
from mllm.errors import CallError, Failure
from mllm.messages import Embeddings
from route.models import Router
from route.router_vectors import VECTORS_PAUSED, vectors_job
from route.services.routers import AgentChoice, DeferralChoice, deferral_create, router_cancel
from route.services.trace_routers import trace_create, trace_router_act
from tests.annotate.test_vectors import embedding_choice, embeddings
from tests.api.caller import Caller
from tests.conftest import Provider
from tests.route.test_deferral_plans import FRUIT, KNOWN, LEFT, METAL, make_annotator, project, user
from tests.route.traced import make_candidate, make_traced_project, trace_choice

__all__ = ["project", "user"]  # fixtures

pytestmark = pytest.mark.django_db

ITEMS = KNOWN + LEFT


def by_subject(request: Any) -> Embeddings:
    """Vectors that tell fruit from metal; 5,000 tokens a call, which are US$ 0.0001."""
    return embeddings([[float(FRUIT in text), 1.0, len(text) / 100] for text in request.texts], tokens=5_000)


def wrong_key(request: Any) -> CallError:
    return CallError(Failure.AUTHENTICATION, "The provider does not accept the key.")


def start(project: Project, choice: VectorChoice, name: str = "") -> Router:
    runs = list(project.annotation_runs.order_by("pk")) or [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]
    agents = [AgentChoice(run) for run in runs]
    return deferral_create(
        project=project,
        user=project.created_by,
        choice=DeferralChoice(agents, mistake=Decimal("0.5"), vectors=choice, name=name),
    )


def look(router: Router) -> Router:
    """Let a worker look once at whether the router can be trained."""
    Chunk.objects.filter(job=router.job_id).update(not_before=None)
    run_next_chunk(router.job_id)
    return Router.objects.select_related("job").get(pk=router.pk)


def job_of(router: Router) -> Job:
    job = vectors_job(Router.objects.get(pk=router.pk))
    assert job is not None
    return job


def buy(router: Router) -> Job:
    run_to_end(job_of(router).pk)
    return job_of(router)


def one_at_a_time(choice: VectorChoice) -> VectorChoice:
    """Its calls one after the other, so that each is made knowing what those before it cost."""
    assert choice.connection is not None
    choice.connection.in_flight = 1
    choice.connection.save()
    return choice


@pytest.fixture
def visitor(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def paused(project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Router:
    """A router whose embeddings paused after the first call: the key was taken back."""
    monkeypatch.setattr("annotate.vectors_work.TEXTS_A_CALL", 10)
    choice = one_at_a_time(embedding_choice(project))
    answers = iter([by_subject])
    provider(lambda request: next(answers, wrong_key)(request))
    router = look(start(project, choice))
    assert buy(router).state == Job.State.PAUSED
    return look(router)


def test_a_router_waits_for_its_embeddings_and_is_trained(project: Project, provider: Provider) -> None:
    provider(by_subject)
    router = look(start(project, embedding_choice(project)))
    assert (router.job.state, router.is_trained) == (Job.State.RUNNING, False)

    assert buy(router).state == Job.State.DONE

    assert look(router).is_trained


def test_an_item_that_the_provider_refuses_looks_like_one_without_words(
    project: Project, provider: Provider, visitor: Client, user: User
) -> None:
    refused = project.items.earliest("pk").text

    def refuse_one(request: Any) -> Embeddings | CallError:
        if refused in request.texts:
            return CallError(Failure.CONTENT_FILTERED, "The provider does not answer about this text.")
        return by_subject(request)

    provider(refuse_one)
    router = look(start(project, embedding_choice(project)))
    buy(router)
    router = look(router)

    assert router.is_trained
    page = visitor.get(reverse("router", args=[project.pk, router.pk])).content.decode()
    assert "1 item has none and looks to it like a text without words: The provider does not answer" in page
    assert Caller(user).get(f"routers/{router.pk}/").json()["vectors"]["zeros"] == 1


def test_without_a_single_vector_nothing_is_trained_and_the_reason_is_said(
    project: Project, provider: Provider
) -> None:
    provider(
        lambda request: CallError(Failure.CONTENT_FILTERED, "The provider does not answer about this text.")
    )
    router = look(start(project, embedding_choice(project)))
    buy(router)
    router = look(router)

    assert router.job.state == Job.State.FAILED
    assert "have no vector yet. The first of them failed: The provider does not answer" in router.job.reason


def test_where_buying_pauses_the_router_pauses_and_its_page_says_why(paused: Router, visitor: Client) -> None:
    assert (paused.job.state, paused.job.failure) == (Job.State.PAUSED, VECTORS_PAUSED)

    page = visitor.get(reverse("router", args=[paused.project_id, paused.pk])).content.decode()

    assert "does not accept the key" in page
    assert "Paused at 10 of 60 embeddings" in page
    assert 'name="spend_limit"' not in page


@pytest.mark.parametrize("way", ["page", "api"])
def test_resumed_it_buys_the_rest_and_is_trained(
    paused: Router, way: str, visitor: Client, user: User, provider: Provider
) -> None:
    adapter = provider(by_subject)

    if way == "page":
        visitor.post(reverse("trace_training", args=[paused.project_id, paused.pk, "resume"]))
    else:
        answer = Caller(user).post(f"routers/{paused.pk}/resume/", {})
        assert answer.json()["embeddings"]["state"] == "queued"
    assert job_of(paused).state == Job.State.QUEUED
    assert not look(paused).is_trained
    assert buy(paused).state == Job.State.DONE

    assert look(paused).is_trained
    assert sum(len(request.parts) for request in adapter.requests) == ITEMS - 10


def test_a_new_router_lets_paused_embeddings_go_on(paused: Router, provider: Provider) -> None:
    provider(by_subject)
    choice = embedding_choice(paused.project)

    router = look(start(paused.project, choice, "another"))

    assert router.job.state == Job.State.RUNNING
    assert buy(router).done == ITEMS
    assert look(router).is_trained


def test_a_pause_that_is_not_mended_pauses_the_new_router_too_and_is_asked_about_once(
    paused: Router, provider: Provider
) -> None:
    adapter = provider(wrong_key)
    router = look(start(paused.project, embedding_choice(paused.project), "another"))
    buy(router)
    asked = len(adapter.requests)

    router = look(router)

    assert (router.job.state, router.job.failure) == (Job.State.PAUSED, VECTORS_PAUSED)
    assert len(adapter.requests) == asked
    assert ItemVector.objects.filter(failure="").count() == 10


def test_a_router_that_came_while_they_were_bought_does_not_resume_them_by_itself(
    project: Project, provider: Provider
) -> None:
    choice = embedding_choice(project)
    provider(by_subject)
    first = look(start(project, choice))
    second = look(start(project, choice, "another"))
    job_pause(job_of(first), reason="The provider cannot be reached.")

    assert look(second).job.state == Job.State.PAUSED
    assert job_of(first).state == Job.State.PAUSED


def test_a_spend_limit_pauses_and_a_higher_one_goes_on(
    project: Project, provider: Provider, visitor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.vectors_work.TEXTS_A_CALL", 10)
    provider(by_subject)
    choice = one_at_a_time(embedding_choice(project, spend_limit=Decimal("0.0003")))
    router = look(start(project, choice))
    job = buy(router)
    assert (job.state, job.failure) == (Job.State.PAUSED, "spend_limit")
    assert 0 < job.done < ITEMS
    assert look(router).job.state == Job.State.PAUSED
    address = reverse("router", args=[project.pk, router.pk])
    assert 'name="spend_limit"' in visitor.get(address).content.decode()
    resume = reverse("trace_training", args=[project.pk, router.pk, "resume"])

    refused = visitor.post(resume, follow=True).content.decode()
    assert "higher one" in refused
    assert look(router).job.state == Job.State.PAUSED
    new = look(start(project, embedding_choice(project), "another"))
    assert (new.job.state, new.job.failure) == (Job.State.PAUSED, VECTORS_PAUSED)

    visitor.post(resume, {"spend_limit": "1"})
    assert buy(router).state == Job.State.DONE
    assert look(router).is_trained


def test_a_limit_holds_for_what_a_paused_job_still_buys(paused: Router, provider: Provider) -> None:
    provider(by_subject)
    choice = one_at_a_time(embedding_choice(paused.project, spend_limit=Decimal("0.0002")))

    router = look(start(paused.project, choice, "another"))

    job = buy(router)
    assert (job.state, job.failure) == (Job.State.PAUSED, "spend_limit")
    assert job.spend_limit == Decimal("0.0003")  # a call was paid before
    assert 10 < job.done < ITEMS


def test_cancelled_alone_it_buys_nothing_more_and_what_is_bought_stays(
    paused: Router, provider: Provider, user: User
) -> None:
    router_cancel(router=paused, user=user)

    assert job_of(paused).state == Job.State.CANCELLED
    assert ItemVector.objects.filter(failure="").count() == 10
    adapter = provider(by_subject)
    router = look(start(paused.project, embedding_choice(paused.project), "another"))
    buy(router)
    assert look(router).is_trained
    assert sum(len(request.parts) for request in adapter.requests) == ITEMS - 10


def start_reading(choice: VectorChoice, project: Project) -> Router:
    """A trace router that sees embeddings, and a worker's first look at it."""
    reading = trace_choice(make_candidate(project), vectors=choice)
    return look(trace_create(project=project, user=project.created_by, choice=reading))


@pytest.mark.parametrize("way", ["page", "api"])
def test_pause_resume_and_cancel_of_a_trace_router_act_on_its_embeddings_too(
    provider: Provider, client: Client, way: str
) -> None:
    provider(by_subject)
    project = make_traced_project()
    client.force_login(project.created_by)
    router = start_reading(embedding_choice(project), project)

    def act(action: str) -> None:
        if way == "page":
            client.post(reverse("trace_training", args=[project.pk, router.pk, action]))
        else:
            answer = Caller(project.created_by).post(f"routers/{router.pk}/{action}/", {})
            assert answer.status_code == 200, answer.content

    act("pause")
    assert (look(router).job.state, buy(router).state) == (Job.State.PAUSED, Job.State.PAUSED)
    assert not ItemVector.objects.exists()
    page = client.get(reverse("router", args=[project.pk, router.pk])).content.decode()
    assert "Paused at 0 of" in page
    act("resume")
    assert (look(router).job.state, job_of(router).state) == (Job.State.RUNNING, Job.State.QUEUED)
    assert buy(router).state == Job.State.DONE
    act("pause")  # what is bought is bought
    assert job_of(router).state == Job.State.DONE
    act("resume")
    act("cancel")
    assert look(router).job.state == Job.State.CANCELLED


def test_a_trace_router_that_is_cancelled_while_paused_buys_nothing_more(provider: Provider) -> None:
    provider(by_subject)
    project = make_traced_project()
    router = start_reading(embedding_choice(project), project)
    for action in ("pause", "cancel"):
        trace_router_act(router=router, user=project.created_by, action=action)

    assert buy(router).state == Job.State.CANCELLED
    assert not ItemVector.objects.exists()


def test_embeddings_that_another_router_waits_for_do_not_pause(project: Project, provider: Provider) -> None:
    provider(by_subject)
    choice = embedding_choice(project)
    first, second = look(start(project, choice)), look(start(project, choice, "another"))

    trace_router_act(router=first, user=project.created_by, action="pause")
    assert job_of(first).state == Job.State.QUEUED
    trace_router_act(router=second, user=project.created_by, action="pause")
    assert job_of(first).state == Job.State.PAUSED
    trace_router_act(router=first, user=project.created_by, action="resume")

    assert buy(first).state == Job.State.DONE
    assert look(first).is_trained
    assert look(second).job.state == Job.State.PAUSED


@pytest.mark.parametrize("way", ["page", "api"])
def test_another_router_that_waits_keeps_them_going(
    project: Project, provider: Provider, user: User, visitor: Client, way: str
) -> None:
    provider(by_subject)
    choice = embedding_choice(project)
    first, second = look(start(project, choice)), look(start(project, choice, "another"))

    def cancel(router: Router) -> None:
        if way == "page":
            visitor.post(reverse("router_action", args=[project.pk, router.pk, "cancel"]))
        else:
            Caller(user).post(f"routers/{router.pk}/cancel/", {})

    cancel(first)
    assert job_of(second).state == Job.State.QUEUED
    cancel(second)
    assert job_of(second).state == Job.State.CANCELLED


def test_a_router_waits_while_a_cancelled_purchase_is_still_stopping(
    project: Project, provider: Provider, user: User
) -> None:
    provider(by_subject)
    choice = embedding_choice(project)
    first = look(start(project, choice))
    job = job_of(first)
    router_cancel(router=first, user=user)
    chunk = job.chunks.first()
    assert chunk is not None
    Chunk.objects.filter(pk=chunk.pk).update(
        state=Chunk.State.RUNNING, lease_token=uuid4(), lease_until=timezone.now() + lease_length()
    )

    second = look(start(project, choice, "another"))
    assert second.job.state == Job.State.RUNNING
    assert job_of(second).state == Job.State.CANCELLED
    Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.WAITING, lease_token=None, lease_until=None)
    look(second)
    buy(second)
    assert look(second).is_trained


def test_a_project_whose_embeddings_paused_or_wait_for_nobody_can_be_deleted(paused: Router) -> None:
    project, job = paused.project, job_of(paused)
    Job.objects.filter(pk=paused.job_id).update(state=Job.State.FAILED)
    Job.objects.filter(pk=job.pk).update(state=Job.State.QUEUED)

    project_delete(project=project, confirm_name=project.name)

    assert not Project.objects.exists()
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED


def test_the_price_is_shown_before_they_are_bought(project: Project, visitor: Client, user: User) -> None:
    choice = embedding_choice(project)
    assert choice.connection is not None
    asked: dict[str, str | int] = {"vectors": "embeddings", "embeddings_connection": choice.connection.pk}
    address = reverse("embeddings_cost", args=[project.pk])

    priced = visitor.get(address, asked | {"embeddings_model": choice.model}).content.decode()
    unpriced = visitor.get(address, asked | {"embeddings_model": "embed-house-7"}).content.decode()
    assert "Items to buy for</dt><dd>60" in priced
    assert "Price</dt><dd>under $" in priced
    assert "No price is known" in unpriced
    assert "Name the embeddings model" in visitor.get(address, asked).content.decode()
    assert not visitor.get(address, {"vectors": "plain"}).content.decode().strip()

    body = {"kind": "embeddings", "connection": choice.connection.pk, "model": choice.model}
    told = Caller(user).post(f"projects/{project.pk}/routers/vectors-estimate/", body).json()
    assert (told["items"], told["bought"], told["calls"]) == (60, 0, 2)
    assert 0 < told["cost"] < 0.001


def test_a_limit_that_cannot_be_kept_is_said_beside_its_field(project: Project, visitor: Client) -> None:
    runs = [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]
    choice = embedding_choice(project)
    assert choice.connection is not None
    page = visitor.post(
        reverse("deferral_new", args=[project.pk]),
        {
            "agents": [str(run.pk) for run in runs],
            "default": str(runs[0].pk),
            "mistake": "0.4",
            "vectors": "embeddings",
            "embeddings_connection": choice.connection.pk,
            "embeddings_model": "embed-house-7",
            "embeddings_limit": "1",
        },
    )

    assert "no price" in page.context["form"].errors["embeddings_limit"][0]
    assert not Router.objects.exists()
