"""Pages of comparisons, of the router between two annotators, and of its plan."""

from typing import Any

import pytest
from django.test import Client

from annotate.models import ModelPrice
from jobs.running import run_next_chunk
from route.models import JudgeRun, Plan, Router
from tests.factories import make_membership, make_user
from tests.route.two_annotators import (
    LEFT,
    make_judge_run,
    make_metal_project,
    make_two,
    prefers_positive,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("route.meta._TREES", 8)


def test_from_two_annotators_to_a_plan_by_the_pages(client: Client, provider) -> None:
    provider(prefers_positive)
    project = make_metal_project()
    client.force_login(project.created_by)
    routing = f"/projects/{project.pk}/routing/"
    assert "no two annotators yet" in client.get(f"{routing}comparisons/new/").content.decode()
    cheap, premium = make_two(project)
    ModelPrice.objects.create(
        provider="openai", model="judge", input=1, output=1, updated_by=project.created_by
    )
    assert f"{routing}meta/" in client.get(routing).content.decode()
    assert "let a model compare" in client.get(f"{routing}meta/").content.decode()
    runs = {run.model: run.pk for run in (cheap, premium)}
    form: dict[str, Any] = {
        "kind": "prompted",
        "cheap": runs["cheap-model"],
        "premium": runs["premium-model"],
        "connection": project.created_by.connections.get().pk,
        "model": "judge",
        "strategy": "naive",
        "answer_format": "bracket",
        "spend_limit": "3",
    }
    page = client.get(f"{routing}comparisons/new/").content.decode()
    assert "cheap-model" in page
    estimate = client.get(f"{routing}comparisons/estimate/", form).content.decode()
    assert f"<dd>{LEFT // 2}</dd>" in estimate
    assert "a router needs" not in estimate
    same = client.get(f"{routing}comparisons/estimate/", form | {"premium": form["cheap"]})
    assert "same annotator" in same.content.decode()
    refused = client.post(f"{routing}comparisons/new/", form | {"premium": form["cheap"]})
    assert "same annotator" in refused.content.decode()

    started = client.post(f"{routing}comparisons/new/", form)
    run = JudgeRun.objects.get()
    assert started["Location"] == f"{routing}comparisons/{run.pk}/"
    while run_next_chunk(run.job_id):
        pass
    page = client.get(started["Location"]).content.decode()
    assert "15 of them equal" in page
    listed = client.get(f"{started['Location']}preferences/").content.decode()
    assert (listed.count(">premium</span>"), listed.count(">equal</span>")) == (LEFT // 2, LEFT // 2)
    equal = client.get(f"{started['Location']}preferences/?said=equal").content.decode()
    assert (equal.count(">premium</span>"), equal.count(">equal</span>")) == (0, LEFT // 2)
    assert (
        "There is no such item"
        in client.get(f"{started['Location']}preferences/?said=failed").content.decode()
    )
    assert f"{routing}meta/?judge_run={run.pk}" in page
    for part in ("progress", "outcome", "failures"):
        assert (
            client.get(f"{started['Location']}?part={part}", headers={"HX-Request": "true"}).status_code
            == 200
        )

    form = {
        "agents": [cheap.pk, premium.pk],
        "default": cheap.pk,
        "learner": "dr",
        "regressor": "forest",
        "scaling": "variance",
        "vectors": "plain",
    }
    assert "premium; 50.0% cheap" in client.get(f"{routing}meta/check/", form).content.decode()
    trained = client.post(f"{routing}meta/", form)
    router = Router.objects.get()
    assert trained["Location"] == f"{routing}routers/{router.pk}/"
    assert "It waits for a worker" in client.get(trained["Location"]).content.decode()
    while run_next_chunk(router.job_id):
        pass
    page = client.get(trained["Location"]).content.decode()
    assert "Meta-router, DR-learner" in page
    assert "chart-line curve-0" in page

    limit = {"limit": "premium_share", "amount": "0.5"}
    preview = client.get(f"{trained['Location']}plan/preview/", limit).content.decode()
    assert "50.0%<small>of 30 items" in preview
    wrong = client.get(f"{trained['Location']}plan/preview/", limit | {"amount": "2"}).content.decode()
    assert "between 0 and 1" in wrong
    assert (
        "between 0 and 1"
        in client.post(f"{trained['Location']}plan/", limit | {"amount": "2"}).content.decode()
    )
    answer = client.post(f"{trained['Location']}plan/", limit)
    plan = Plan.objects.get()
    assert answer["Location"] == f"{routing}plans/{plan.pk}/"
    assert "As soon as people answer items of the plan" in client.get(answer["Location"]).content.decode()


def test_viewers_see_and_start_nothing(client: Client) -> None:
    project = make_metal_project()
    run = make_judge_run(project, *make_two(project))
    viewer = make_user("vera")
    make_membership(project, viewer, "viewer")
    client.force_login(viewer)
    routing = f"/projects/{project.pk}/routing/"

    for address in ("meta/", "comparisons/new/"):
        assert "Only those who run the project" in client.get(f"{routing}{address}").content.decode()
    assert client.get(f"{routing}comparisons/{run.pk}/").status_code == 200
    assert client.post(f"{routing}comparisons/{run.pk}/cancel/").status_code == 403


def test_what_cannot_be_learned_is_said_before_it_is_tried(client: Client) -> None:
    project = make_metal_project()
    run = make_judge_run(project, *make_two(project))
    run.preferences.update(value=1)
    client.force_login(project.created_by)
    form: dict[str, Any] = {
        "agents": [run.cheap_id, run.premium_id],
        "default": run.cheap_id,
        "learner": "dr",
        "regressor": "forest",
        "vectors": "plain",
    }
    address = f"/projects/{project.pk}/routing/meta/"

    assert "everywhere" in client.get(f"{address}check/", form).content.decode()
    assert "everywhere" in client.post(address, form).content.decode()
    assert not Router.objects.exists()


def test_the_estimate_warns_where_a_router_could_not_learn(client: Client) -> None:
    project = make_metal_project()
    cheap, premium = make_two(project)
    labels = project.calibration_labels.order_by("pk")
    labels.filter(pk__gt=labels[4].pk).delete()
    client.force_login(project.created_by)
    form: dict[str, Any] = {
        "kind": "prompted",
        "cheap": cheap.pk,
        "premium": premium.pk,
        "connection": project.created_by.connections.get().pk,
        "model": "judge",
        "strategy": "naive",
        "answer_format": "bracket",
    }

    page = client.get(f"/projects/{project.pk}/routing/comparisons/estimate/", form).content.decode()

    assert "5 items have a person" in page
    assert "Label 15 more calibration items" in page
