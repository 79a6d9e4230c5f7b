"""The pages of annotation runs: who may see them, what the form refuses, what the live parts say, what buttons do."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotate.models import Annotation, AnnotationRun, Project
from jobs.models import Job
from tests.conftest import Provider
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_item,
    make_items,
    make_project,
    make_user,
)

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


@pytest.fixture
def project() -> Project:
    project = make_project()
    make_items(project, 3)
    return project


@pytest.fixture
def owner(client: Client, project: Project) -> Client:
    client.force_login(project.created_by)
    return client


def url(name: str, project: Project, *args: object) -> str:
    return reverse(name, args=[project.pk, *args])


def calibrate(project: Project) -> None:
    for label in ("negative", "positive"):
        make_calibration_label(make_item(project), label)


def queries_of(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        client.get(address)
    return len(captured)


def text_of(client: Client, address: str, **options: Any) -> str:
    response = client.get(address, **options)
    assert response.status_code == 200
    return response.content.decode()


# --- The list and the form -------------------------------------------------------------------------------------------


def test_without_items_the_page_says_to_upload_some(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)

    page = text_of(client, url("annotation_runs", project))

    assert "There are no items to annotate yet" in page
    assert url("uploads", project) in page


def test_without_labels_the_page_says_to_make_some(client: Client) -> None:
    project = make_project("image_classification", labels=())
    make_item(project)
    client.force_login(project.created_by)

    page = text_of(client, url("annotation_runs", project))

    assert "at least two labels" in page
    assert url("project_settings", project) in page


def test_without_connection_and_calibration_the_page_offers_both(owner: Client, project: Project) -> None:
    page = text_of(owner, url("annotation_runs", project))

    assert reverse("connection_new") in page
    assert url("calibration", project) in page
    assert "run-form" not in page


def test_the_trained_annotator_names_its_labels(owner: Client, project: Project) -> None:
    calibrate(project)

    page = text_of(owner, url("annotation_runs", project))

    assert "Trained on your 2 labels, no language model" in page


def test_the_trained_annotator_is_refused_without_calibration(owner: Client, project: Project) -> None:
    make_connection(project.created_by)

    page = text_of(owner, url("annotation_runs", project))
    assert "Make a calibration set first." in page

    response = owner.post(url("annotation_runs", project), {"kind": "trained"})
    assert response.status_code == 200
    assert "needs some of at least two labels" in response.content.decode()
    assert not project.annotation_runs.exists()


def test_a_trained_run_starts(owner: Client, project: Project) -> None:
    calibrate(project)

    response = owner.post(url("annotation_runs", project), {"kind": "trained"})

    run = project.annotation_runs.get()
    assert response.headers["Location"] == url("annotation_run", project, run.pk)
    assert (run.kind, run.job.kind, run.job.total) == ("trained", "trained_annotation", 3)


def test_a_prompted_run_starts_as_the_form_says(owner: Client, project: Project) -> None:
    connection = make_connection(project.created_by, in_flight=4)

    owner.post(
        url("annotation_runs", project),
        {
            "kind": "prompted",
            "connection": connection.pk,
            "model": " gpt-4o-mini ",
            "strategy": "naive",
            "answer_format": "structured",
            "log_probabilities": "on",
            "spend_limit": "2.5",
        },
    )

    run = project.annotation_runs.get()
    assert (run.model, run.strategy, run.answer_format) == ("gpt-4o-mini", "naive", "structured")
    assert run.parameters["top_logprobs"] > 0
    assert (run.job.spend_limit, run.job.in_flight) == (Decimal("2.5"), 4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "oracle"}, "oracle"),
        ({"kind": ""}, "Choose a model or the trained classifier."),
        ({"connection": ""}, "Choose a connection."),
        ({"connection": "999"}, "Choose one of your connections."),
        ({"model": ""}, "Name the model."),
        ({"strategy": "guess"}, "guess"),
        ({"spend_limit": "much"}, "Enter the limit as a number"),
        ({"spend_limit": "0"}, "must be more than 0"),
        ({"model": "unheard-of", "spend_limit": "1"}, "There is no price for unheard-of"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(
    owner: Client, project: Project, changes: dict[str, str], sentence: str
) -> None:
    connection = make_connection(project.created_by)
    form = {"kind": "prompted", "connection": connection.pk, "model": "gpt-4o-mini", "strategy": "cot"}

    response = owner.post(url("annotation_runs", project), form | changes)

    assert response.status_code == 200
    assert sentence in response.content.decode()
    assert not project.annotation_runs.exists()


def test_log_probabilities_are_refused_where_the_provider_has_none(owner: Client, project: Project) -> None:
    connection = make_connection(project.created_by, provider="anthropic", key="key")

    response = owner.post(
        url("annotation_runs", project),
        {
            "kind": "prompted",
            "connection": connection.pk,
            "model": "m",
            "strategy": "cot",
            "log_probabilities": "on",
        },
    )

    assert "Anthropic gives no log-probabilities." in response.content.decode()


def test_somebody_elses_connection_cannot_be_chosen(owner: Client, project: Project) -> None:
    make_connection(project.created_by)
    foreign = make_connection(make_user())

    response = owner.post(
        url("annotation_runs", project), {"kind": "prompted", "connection": foreign.pk, "model": "m"}
    )

    assert "Choose one of your connections." in response.content.decode()


def test_the_list_shows_runs_with_their_state_and_is_sent_alone_to_htmx(
    owner: Client, project: Project
) -> None:
    make_annotation_run(project, state=Job.State.RUNNING)

    page = text_of(owner, url("annotation_runs", project))
    part = text_of(owner, url("annotation_runs", project) + "?part=list", headers=HTMX)

    assert "Running" in page
    assert "every 5s" in part
    assert "<html" in page
    assert "<html" not in part


def test_the_list_takes_as_many_queries_for_many_runs(owner: Client, project: Project) -> None:
    make_annotation_run(project)
    owner.get(url("annotation_runs", project))
    one = queries_of(owner, url("annotation_runs", project))
    for _ in range(4):
        make_annotation_run(project)
    assert queries_of(owner, url("annotation_runs", project)) == one


# --- Estimate and models ---------------------------------------------------------------------------------------------


def estimate(client: Client, project: Project, **form: Any) -> str:
    address = url("annotation_run_estimate", project)
    response = client.get(address, form, headers=HTMX)
    assert response.status_code == 200
    return response.content.decode()


def test_the_estimate_of_a_model_has_tokens_and_a_price(owner: Client, project: Project) -> None:
    connection = make_connection(project.created_by)

    part = estimate(
        owner, project, kind="prompted", connection=connection.pk, model="gpt-4o-mini", strategy="cot"
    )

    assert "Tokens" in part
    assert "$0." in part
    assert "An estimate" in part
    assert "<html" not in part


def test_the_estimate_says_when_it_is_measured(owner: Client, project: Project) -> None:
    connection = make_connection(project.created_by)
    make_annotation_run(project, model="gpt-4o-mini")

    part = estimate(
        owner, project, kind="prompted", connection=connection.pk, model="gpt-4o-mini", strategy="cot"
    )

    assert "From what earlier calls" in part


def test_the_estimate_links_to_prices_where_none_is_known(owner: Client, project: Project) -> None:
    connection = make_connection(project.created_by)

    part = estimate(owner, project, kind="prompted", connection=connection.pk, model="mine", strategy="cot")

    assert "No price is known for mine" in part
    assert reverse("prices") in part


def test_the_estimate_says_what_is_missing(owner: Client, project: Project) -> None:
    make_connection(project.created_by)

    assert "Choose a connection." in estimate(owner, project, kind="prompted", strategy="cot")


def test_the_estimate_of_the_trained_annotator_is_free(owner: Client, project: Project) -> None:
    calibrate(project)

    assert "costs nothing" in estimate(owner, project, kind="trained")


def test_the_models_of_a_connection_fill_the_list(
    owner: Client, project: Project, provider: Provider
) -> None:
    provider(["unused"])
    connection = make_connection(project.created_by, name="Mine")

    part = text_of(owner, url("connection_models", project), data={"connection": connection.pk})

    assert '<option value="scripted">' in part
    assert "Mine offers 1 model" in part


def test_the_models_of_an_unreachable_connection_are_a_sentence(owner: Client, project: Project) -> None:
    connection = make_connection(project.created_by, provider="anthropic")

    part = text_of(owner, url("connection_models", project), data={"connection": connection.pk})

    assert "has no key" in part


def test_the_models_of_somebody_elses_connection_do_not_exist(owner: Client, project: Project) -> None:
    foreign = make_connection(make_user())

    response = owner.get(url("connection_models", project), {"connection": foreign.pk})

    assert response.status_code == 404


# --- One run ---------------------------------------------------------------------------------------------------------


def test_a_run_shows_progress_labels_results_and_accuracy(owner: Client, project: Project) -> None:
    good = make_item(project, gold="positive")
    bad = make_item(project, gold="negative")
    run = make_annotation_run(project, {good: "positive", bad: "positive"})
    Annotation.objects.filter(item=good).update(raw_text="<b>[1]</b>")

    page = text_of(owner, url("annotation_run", project, run.pk))

    assert "2 of 2 items, 100%" in page
    assert "50.0%" in page
    assert "1 of 2 items with a gold label" in page
    assert "&lt;b&gt;[1]&lt;/b&gt;" in page
    assert "It reads like one." in page
    assert url("criticism_runs", project) + f"?annotation_run={run.pk}" in page


@pytest.mark.parametrize(
    ("state", "polls"), [("queued", True), ("running", True), ("paused", False), ("done", False)]
)
def test_progress_is_asked_for_again_only_while_something_happens(
    owner: Client, project: Project, state: str, polls: bool
) -> None:
    run = make_annotation_run(project, state=state)

    response = owner.get(url("annotation_run", project, run.pk) + "?part=progress", headers=HTMX)

    part = response.content.decode()
    assert ("every 2s" in part) is polls
    assert ("HX-Trigger" in response.headers) is not polls
    assert "<html" not in part


def test_a_part_without_htmx_is_the_whole_page(owner: Client, project: Project) -> None:
    run = make_annotation_run(project)

    assert "<html" in text_of(owner, url("annotation_run", project, run.pk) + "?part=progress")


def test_failures_are_named_with_advice_and_listed_by_page(owner: Client, project: Project) -> None:
    items = make_items(project, 52)
    run = make_annotation_run(project, dict.fromkeys(items, ""))
    Annotation.objects.filter(item=items[0]).update(failure="timed_out", message="No answer in time.")
    address = url("annotation_run", project, run.pk)

    first = text_of(owner, address)
    listed = text_of(owner, f"{address}?part=failures", headers=HTMX)
    second = text_of(owner, f"{address}?part=failures&failed_page=2", headers=HTMX)
    timed_out = text_of(owner, f"{address}?part=failures&failure=timed_out", headers=HTMX)

    assert "The model declined to answer. Send these items to people" in first
    assert "Retry the 52 failed" in first
    assert "1–50 of 52" in first
    assert "51–52 of 52" in second
    assert items[51].external_id in second
    assert items[51].external_id not in listed
    assert "No answer in time." in timed_out
    assert "The model declined to answer." not in timed_out


@pytest.mark.parametrize("page", ["x", "0", "99"])
def test_a_page_of_failures_that_is_none_shows_one_that_is(
    owner: Client, project: Project, page: str
) -> None:
    run = make_annotation_run(project, dict.fromkeys(project.items.all(), ""))

    assert "declined" in text_of(owner, url("annotation_run", project, run.pk) + f"?failed_page={page}")


def test_a_run_takes_as_many_queries_for_many_results(
    owner: Client, project: Project, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    items = make_items(project, 30)
    answers = {item: "" if position % 2 else "positive" for position, item in enumerate(items)}
    run = make_annotation_run(project, answers)

    with django_assert_max_num_queries(25):
        owner.get(url("annotation_run", project, run.pk))


# --- Buttons ---------------------------------------------------------------------------------------------------------


def act(client: Client, run: AnnotationRun, action: str, **form: Any) -> str:
    address = url("annotation_run_action", run.project, run.pk, action)
    response = client.post(address, form, headers=HTMX)
    assert response.status_code == 200
    run.job.refresh_from_db()
    return response.content.decode()


def test_pause_resume_and_cancel(owner: Client, project: Project) -> None:
    run = make_annotation_run(project, state=Job.State.RUNNING)

    assert "Resume" in act(owner, run, "pause")
    assert run.job.state == Job.State.PAUSED
    assert "every 2s" in act(owner, run, "resume")
    assert run.job.state == Job.State.QUEUED
    act(owner, run, "cancel")
    assert run.job.state == Job.State.CANCELLED


def test_a_run_that_spent_its_limit_goes_on_with_a_higher_one(owner: Client, project: Project) -> None:
    run = make_annotation_run(project, state=Job.State.PAUSED)
    Job.objects.filter(pk=run.job_id).update(
        failure="spend_limit", reason="The spend limit of US$ 1.00 is reached.", spend_limit=1, cost="0.99"
    )

    assert "The spend limit of US$ 1.00 is reached." in text_of(owner, url("annotation_run", project, run.pk))
    assert "Give it a higher one" in act(owner, run, "resume")
    assert "Enter the new spend limit as a number" in act(owner, run, "resume", spend_limit="lots")
    assert run.job.state == Job.State.PAUSED
    act(owner, run, "resume", spend_limit="2.50")
    assert (run.job.state, run.job.spend_limit) == (Job.State.QUEUED, Decimal("2.5"))


def test_retry_asks_for_the_failed_alone(owner: Client, project: Project) -> None:
    good, bad = make_items(project, 2)
    run = make_annotation_run(project, {good: "positive", bad: ""})

    act(owner, run, "retry")

    assert run.job.state == Job.State.QUEUED
    assert run.job.chunks.get().subjects == [bad.pk]


def test_what_cannot_be_done_is_said(owner: Client, project: Project) -> None:
    run = make_annotation_run(project)

    assert "Only a job that is queued or running can become paused" in act(owner, run, "pause")
    assert "Nothing failed" in act(owner, run, "retry")


def test_buttons_work_without_htmx(owner: Client, project: Project) -> None:
    run = make_annotation_run(project)

    response = owner.post(url("annotation_run_action", project, run.pk, "pause"), follow=True)

    assert response.redirect_chain[-1][0] == url("annotation_run", project, run.pk)
    assert "Only a job that is queued or running" in response.content.decode()


def test_an_unknown_action_does_not_exist(owner: Client, project: Project) -> None:
    run = make_annotation_run(project)

    assert owner.post(url("annotation_run_action", project, run.pk, "explode")).status_code == 404


# --- Who and how -----------------------------------------------------------------------------------------------------


def addresses(run: AnnotationRun) -> list[tuple[str, str]]:
    project = run.project
    return [
        ("get", url("annotation_runs", project)),
        ("post", url("annotation_runs", project)),
        ("get", url("annotation_run_estimate", project)),
        ("get", url("connection_models", project)),
        ("get", url("annotation_run", project, run.pk)),
        ("post", url("annotation_run_action", project, run.pk, "cancel")),
    ]


def test_for_strangers_there_is_no_such_project_and_for_reviewers_no_right(
    client: Client, project: Project
) -> None:
    run = make_annotation_run(project, state=Job.State.RUNNING)
    reviewer, stranger = make_user(), make_user()
    project.memberships.create(user=reviewer, role="reviewer")

    for method, address in addresses(run):
        client.force_login(stranger)
        assert getattr(client, method)(address).status_code == 404, address
        client.force_login(reviewer)
        assert getattr(client, method)(address).status_code == 403, address
    run.job.refresh_from_db()
    assert run.job.state == Job.State.RUNNING


def test_a_run_is_found_in_its_own_project_only(owner: Client, project: Project) -> None:
    run = make_annotation_run(project)
    other = make_project(owner=project.created_by)

    assert owner.get(url("annotation_run", other, run.pk)).status_code == 404
    assert owner.post(url("annotation_run_action", other, run.pk, "cancel")).status_code == 404


def test_wrong_verbs_are_refused(owner: Client, project: Project) -> None:
    run = make_annotation_run(project)

    assert owner.delete(url("annotation_runs", project)).status_code == 405
    assert owner.post(url("annotation_run", project, run.pk)).status_code == 405
    assert owner.post(url("annotation_run_estimate", project)).status_code == 405
    assert owner.post(url("connection_models", project)).status_code == 405
    assert owner.get(url("annotation_run_action", project, run.pk, "pause")).status_code == 405


def test_signed_out_people_are_sent_to_sign_in(client: Client, project: Project) -> None:
    response = client.get(url("annotation_runs", project))

    assert response.status_code == 302
    assert reverse("sign_in") in response.headers["Location"]
