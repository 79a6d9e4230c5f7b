"""A traced run's page in every state: how far it is, where the annotator was stopped, and what comes next."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Annotation, Membership, Project
from jobs.models import Job
from review.services.routed import give_to_people, routed_round_create, settle_routed_round
from route.models import Router, RouterQuery, TracedRun
from route.services.traced_runs import TracedFigures, traced_figures
from route.templatetags.traces import escalation_plot
from route.trace_pages import stop_bars
from tests.factories import (
    make_annotation_run,
    make_items,
    make_job,
    make_membership,
    make_project,
    make_user,
)
from tests.review.judging import answer_task

pytestmark = pytest.mark.django_db

ITEMS, BUDGET = 6, 4


def make_traced(
    project: Project, stops: Sequence[int], *, state: str = Job.State.DONE, **job: Any
) -> TracedRun:
    """A run over six items; of the first, the annotator was stopped after these steps."""
    make_items(project, ITEMS)
    run = make_annotation_run(project, strategy="steps")
    rows = list(run.annotations.order_by("item_id"))
    for row, step in zip(rows, stops, strict=False):
        row.label, row.failure, row.stopped_at = None, Annotation.TO_PERSON, step
        row.message, row.output_tokens = Annotation.ESTIMATED, 10
        row.save()
    run.annotations.filter(failure="").update(output_tokens=30, latency=2.0)
    router = Router.objects.create(
        project=project,
        kind=Router.Kind.TRACE,
        name="Reads along",
        parameters={"model": "reader", "limit": 0.7},
        job=make_job("trace_replay"),
        created_by=project.created_by,
    )
    traced = TracedRun.objects.create(run=run, router=router, limit=0.7, budget=BUDGET, taken=len(stops))
    round = routed_round_create(run=run, user=project.created_by, budget=BUDGET, population=ITEMS)
    give_to_people(round, rows[: len(stops)])
    settle_routed_round(round)
    Job.objects.filter(pk=run.job_id).update(state=state, **job)
    run.job.refresh_from_db()
    return traced


@pytest.fixture
def project() -> Project:
    return make_project()


@pytest.fixture
def page(client: Client, project: Project) -> Client:
    client.force_login(project.created_by)
    return client


def shown(page: Client, traced: TracedRun) -> str:
    return page.get(reverse("traced_run", args=[traced.run.project_id, traced.pk])).content.decode()


def links(text: str) -> dict[str, str]:
    """Addresses of the next steps, by their ids."""
    found = re.findall(r'<a class="([^"]*)" id="(\w+)-\w+" href="([^"]*)"', text)
    return {name: address for _, name, address in found}


def test_a_finished_run_says_what_comes_next(page: Client, project: Project) -> None:
    traced = make_traced(project, [1, 2, 2])
    round = traced.run.routed_round

    text = shown(page, traced)

    assert "3 items that were stopped wait for a person." in text
    assert links(text) == {
        "review": reverse("review", args=[project.pk, round.pk]),
        "criticize": f"{reverse('criticism_runs', args=[project.pk])}?annotation_run={traced.run_id}",
        "export": f"{reverse('exports', args=[project.pk])}?round={round.pk}",
    }
    assert "The tokens of 3 items are an estimate" in text
    for address in links(text).values():
        assert page.get(address).status_code == 200


def test_once_people_have_answered_the_others_come_next(page: Client, project: Project) -> None:
    traced = make_traced(project, [1])
    for task in traced.run.routed_round.counted_tasks:
        answer_task(task, project.labels.get(position=0))

    text = shown(page, traced)

    assert "let a criticizer say how likely each label is to be wrong, or export" in text
    assert set(links(text)) == {"criticize", "export"}


def test_a_run_that_stopped_nowhere_says_so_and_goes_on(page: Client, project: Project) -> None:
    text = shown(page, make_traced(project, []))

    assert "The router stopped the annotator nowhere" in text
    assert set(links(text)) == {"criticize", "export"}
    assert "People's round" not in text


def test_a_router_that_could_seldom_be_read_is_said_first_of_all(page: Client, project: Project) -> None:
    traced = make_traced(project, [1])
    item = traced.run.annotations.first().item  # type: ignore[union-attr]
    asked = [
        RouterQuery(router=traced.router, traced_run=traced, item=item, step=step, failure=failure)
        for step, failure in enumerate(["unparseable", "", ""], start=1)
    ]
    RouterQuery.objects.bulk_create(asked)

    assert "1 of 3 answers of the router could not be read" in shown(page, traced)
    figures = traced_figures(traced)
    assert (figures.asked, figures.unreadable) == (3, 1)


def test_where_people_get_everything_there_is_no_label_to_criticize(page: Client, project: Project) -> None:
    traced = make_traced(project, [1] * BUDGET)
    traced.run.annotations.filter(failure="").delete()

    text = shown(page, traced)

    assert set(links(text)) == {"review", "export"}
    assert "criticizer" not in text


def test_a_viewer_sees_the_figures_and_no_step(client: Client, project: Project) -> None:
    viewer = make_user("vera")
    make_membership(project, viewer, Membership.Role.VIEWER)
    client.force_login(viewer)
    traced = make_traced(project, [1, 2])

    text = shown(client, traced)

    assert "Where the annotator was stopped" in text
    assert not links(text)
    assert "<form" not in text[text.index('id="traced-progress"') :]
    address = reverse("traced_run_action", args=[project.pk, traced.pk, "pause"])
    assert client.post(address).status_code == 403


@pytest.mark.parametrize(
    ("state", "job", "sentence", "button"),
    [
        ("queued", {}, "It waits for a worker to begin.", "pause-traced"),
        ("running", {}, "Time left not known yet.", "pause-traced"),
        ("paused", {}, "Paused: no new item is begun.", "resume-traced"),
        (
            "paused",
            {"failure": "spend_limit", "reason": "The limit is reached."},
            "</strong> The limit is reached.",
            'name="spend_limit"',
        ),
        (
            "failed",
            {"reason": "It broke.", "failed": 2},
            "<strong>It failed.</strong> It broke.",
            "retry-traced",
        ),
        ("cancelled", {}, "the items that were stopped still wait for people", "review-stopped"),
    ],
)
def test_every_state_says_what_it_is_and_what_can_be_done(
    page: Client, project: Project, state: str, job: dict[str, Any], sentence: str, button: str
) -> None:
    text = shown(page, make_traced(project, [1], state=state, **job))

    assert sentence in text
    assert button in text
    assert ("cancel-traced" in text) is (state in ("queued", "running", "paused"))
    assert ("every 2s" in text) is (state in ("queued", "running"))


def test_a_run_is_paused_and_gone_on_with_from_its_page(page: Client, project: Project) -> None:
    traced = make_traced(project, [1], state=Job.State.RUNNING)

    def act(action: str, **said: str) -> str:
        address = reverse("traced_run_action", args=[project.pk, traced.pk, action])
        response = page.post(address, said, follow=True)
        assert response.redirect_chain[-1][0] == reverse("traced_run", args=[project.pk, traced.pk])
        traced.run.job.refresh_from_db()
        return str(response.content.decode())

    act("pause")
    assert traced.run.job.state == Job.State.PAUSED
    assert "Enter the new spend limit as a number" in act("resume", spend_limit="much")
    act("resume")
    assert traced.run.job.is_active
    act("cancel")
    assert traced.run.job.state == Job.State.CANCELLED
    address = reverse("traced_run_action", args=[project.pk, traced.pk, "dance"])
    assert page.post(address).status_code == 404


def test_the_figures_are_told_over_the_api_too(page: Client, project: Project) -> None:
    traced = make_traced(project, [3, 1, 3])

    figures = page.get(reverse("api:traced_run", args=[traced.pk])).json()["figures"]

    assert figures["stops"] == [{"step": 1, "items": 1}, {"step": 3, "items": 2}]
    assert (figures["finished"], figures["escalated"], figures["n_estimated"]) == (3, 3, 3)
    assert (figures["tokens"], figures["full_tokens"]) == (120, 180)
    assert figures["tokens_saved"] == pytest.approx(1 / 3)
    assert figures["seconds_saved"] == pytest.approx(0.5)


def test_steps_far_behind_share_a_bar(project: Project) -> None:
    figures: TracedFigures = traced_figures(make_traced(project, [2, 2, 12, 40]))

    bars = [(bar["name"], bar["items"], bar["width"]) for bar in stop_bars(figures)]

    assert bars == [
        ("After step 1", 0, "0.0"),
        ("After step 2", 2, "1000.0"),
        ("After step 12 or later", 2, "1000.0"),
        ("Written to its end", 2, "1000.0"),
    ]


def metrics(**changes: Any) -> dict[str, Any]:
    router = {"name": "Trace-aware router", "is_router": True, "escalation_rate": 0.25, "recall": 0.8}
    return {
        "dev_error_share": 0.5,
        "limit": 0.3,
        "chosen": 1,
        "settings": [
            {"escalation_rate": 0.5, "missed_errors": 0.0},
            {"escalation_rate": 0.25, "missed_errors": 0.1},
        ],
        "table": [
            router,
            {"name": "AI only", "escalation_rate": 0.0, "recall": 0.0},
            {"name": "MLP", "why": "None."},
        ],
    } | changes


def test_the_picture_has_errors_found_over_items_for_people() -> None:
    drawn = escalation_plot(metrics())

    assert [(each["x"], each["y"]) for each in drawn["settings"]] == [("500.00", "0.00"), ("250.00", "20.00")]
    assert [(each["name"], each["x"], each["y"]) for each in drawn["simpler"]] == [
        ("AI only", "0.00", "100.00")
    ]
    assert (drawn["router"]["x"], drawn["router"]["y"], drawn["limit_x"]) == ("250.00", "20.00", "300.00")


def test_the_picture_does_without_a_router_and_without_errors() -> None:
    assert escalation_plot(metrics(chosen=None, table=[]))["router"] is None
    assert escalation_plot(metrics(dev_error_share=0.0)) == {}
    blank = {"name": "Trace-aware router", "is_router": True, "escalation_rate": 0.0, "recall": None}
    assert escalation_plot(metrics(table=[blank]))["router"] is None
