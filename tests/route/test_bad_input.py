"""Agents, costs and traces that nothing can be learned from: a refusal, or a result that says so on page and API."""

from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Annotation, Project
from jobs.models import Job
from route import training
from route.evidence import Evidence, said_of_agents
from route.models import Router
from tests.api.caller import Caller, call, work
from tests.conftest import Provider
from tests.route.traced import answer, make_candidate, make_traced_project
from tests.route.two_annotators import KNOWN, make_judge_run, make_metal_project, make_two

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_metal_project()


@pytest.fixture(autouse=True)
def _quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("route.meta._TREES", 5)
    monkeypatch.setattr("route.deferral_report.PENALTIES", (1.0,))
    monkeypatch.setattr("route.deferral_report.FACTORS", (1.0,))


def evidence(*wrong: list[bool], failed: int = 0) -> Evidence:
    is_wrong = np.array(wrong).T
    answers = np.zeros(is_wrong.shape, dtype=np.int64)
    answers[:failed, 0] = -1
    n = len(is_wrong)
    heads = is_wrong[:, np.newaxis]
    return Evidence(np.arange(n), is_wrong, heads, np.full(is_wrong.shape, np.nan), answers, None, n, 0)


def test_what_is_said_of_agents_that_are_always_wrong_or_right() -> None:
    mixed, never, always = [True, False, False], [False] * 3, [True] * 3

    assert said_of_agents(evidence(mixed, never), "ab") == []
    assert said_of_agents(evidence(never, never), "ab") == [
        "Every annotator is right on all 3 known items: only what their answers cost tells them apart."
    ]
    assert said_of_agents(evidence(always, mixed, failed=2), "ab") == [
        "a is wrong on all 3 known items. It gave no usable answer to 2 of them."
    ]
    assert said_of_agents(evidence(always, always), "ab")[2].startswith("No annotator is ever right")


def test_a_rejector_says_which_agent_is_always_wrong(project: Project, client: Client) -> None:
    cheap, premium = make_two(project)
    Annotation.objects.filter(run__model=premium.model).update(label=project.labels.get(name="negative"))
    body = {"agents": [{"run": cheap.pk}, {"run": premium.pk}], "mistake": "0.4"}
    made = call(project.created_by, "post", f"projects/{project.pk}/routers/deferral/", body, status=202)
    work()

    said = call(project.created_by, "get", f"routers/{made['id']}/")
    client.force_login(project.created_by)
    page = client.get(reverse("router", args=[project.pk, made["id"]])).content.decode()

    note = f"{premium.who} is wrong on all {KNOWN} known items."
    assert (said["progress"]["state"], said["metrics"]["notes"]) == ("done", [note])
    assert note in page
    rejector = next(row for row in said["metrics"]["table"] if row["kind"] == "rejector")
    assert rejector["shares"] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({"agents": [{"alpha": 1e308}, {}]}, "agents", "between 0 and 1,000,000"),
        ({"agents": [{"beta": 1e12}, {}]}, "agents", "between 0 and 1,000,000"),
        ({"agents": [{"beta": "nan"}, {}]}, "agents", "valid number"),
        ({"review_price": 1000, "agents": [{}, None], "mistake": "0.0001"}, "mistake", "An answer of People"),
    ],
)
def test_costs_that_cannot_be_weighed_are_refused(
    project: Project, body: dict[str, Any], field: str, sentence: str
) -> None:
    runs = iter(make_two(project))
    Project.objects.update(review_price=body.pop("review_price", 1))
    body["agents"] = [
        {"run": None} if each is None else each | {"run": next(runs).pk} for each in body["agents"]
    ]

    problem = call(
        project.created_by,
        "post",
        f"projects/{project.pk}/routers/deferral/",
        {"mistake": "0.4"} | body,
        status=400,
    )

    assert sentence in str(problem["errors"][field])
    assert not Router.objects.exists()


def test_an_annotator_without_any_label_has_no_traces_to_read(provider: Provider) -> None:
    provider(answer)
    project = make_traced_project()
    run = make_candidate(project)
    run.annotations.update(label=None, failure="unparseable", message="It gave no label.")
    body = {"run": run.pk, "connection": run.connection_id, "model": "reader"}

    for way in ("", "estimate/"):
        response = Caller(project.created_by).post(f"projects/{project.pk}/routers/trace/{way}", body)
        assert response.status_code == 400
        assert response.json()["detail"].startswith(
            f"{run.who} has labeled 0 items of which it is known what is right; at least 20 are needed. It gave no "
            "label that could be read to 48 others."
        )


def test_the_job_and_its_page_say_how_often_a_router_has_learned(
    project: Project, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("route.meta_report._LOOK_EVERY", 0.01)
    judge_run = make_judge_run(project, *make_two(project))
    client.force_login(project.created_by)
    seen: list[tuple[Job, str]] = []
    scores_of = training.scores_of

    def look(router: Router, *rest: Any) -> bytes:
        address = reverse("router", args=[project.pk, router.pk])
        part = client.get(f"{address}?part=progress", headers={"HX-Request": "true"}).content.decode()
        seen.append((Job.objects.get(pk=router.job_id), part))
        return scores_of(router, *rest)

    monkeypatch.setattr(training, "scores_of", look)
    body = {"judge_run": judge_run.pk}
    made = call(project.created_by, "post", f"projects/{project.pk}/routers/meta/", body, status=202)
    work()

    job, part = seen[0]
    # Two learners and four baselines without each of five parts, once with everything, and that it is kept.
    assert (0 < job.done < job.total, job.total) == (True, 2 * 5 + 4 * 5 + 1 + 1)
    assert f"Learned {job.done} of {job.total - 1} times" in part
    assert f'max="{job.total}" value="{job.done}"' in part
    progress = call(project.created_by, "get", f"routers/{made['id']}/")["progress"]
    assert (progress["state"], progress["done"], progress["total"]) == ("done", job.total, job.total)
