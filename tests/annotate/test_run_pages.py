"""The pages of annotation runs: who may see them, what the form refuses, what the live parts say, what buttons do."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotate.models import Annotation, AnnotationRun, ModelPrice, Project
from jobs.models import Job
from jobs.running import run_to_end
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
        ("get", url("annotation_run_combine_estimate", project)),
        ("post", url("annotation_run_combine", project)),
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


# --- Options ---------------------------------------------------------------------------------------------------------


def test_confidence_and_examples_are_chosen_under_advanced_and_shown_on_the_run(
    owner: Client, project: Project
) -> None:
    calibrate(project)
    connection = make_connection(project.created_by)
    form = {"kind": "prompted", "connection": connection.pk, "model": "gpt-4o-mini", "strategy": "cot"}

    page = text_of(owner, url("annotation_runs", project))
    owner.post(url("annotation_runs", project), form | {"confidence": "on", "examples": "2"})

    assert "Advanced" in page
    assert "those of your 2 labeled items that are most like it" in page
    run = project.annotation_runs.get()
    assert (run.parameters["confidence"], run.parameters["examples"]) == (True, 2)
    page = text_of(owner, url("annotation_run", project, run.pk))
    assert "2 with each item, of 2 labeled items" in page
    assert "stated by the model with each label" in page
    assert "JSON by a schema, labels by name" in page
    assert "annotate-cot-1+conf-1+ex-1" in page


@pytest.mark.parametrize(
    ("examples", "sentence"),
    [
        ("many", "Enter a number of examples"),
        ("-1", "greater than or equal to 0"),
        ("17", "between 0 and 16"),
    ],
)
def test_a_bad_number_of_examples_is_answered_at_its_field(
    owner: Client, project: Project, examples: str, sentence: str
) -> None:
    calibrate(project)
    connection = make_connection(project.created_by)
    form = {"kind": "prompted", "connection": connection.pk, "model": "m", "strategy": "cot"}

    response = owner.post(url("annotation_runs", project), form | {"examples": examples})

    page = response.content.decode()
    assert sentence in page
    assert '<details class="disclosure" open>' in page
    assert not project.annotation_runs.exists()


def test_without_labeled_items_there_is_nothing_to_show_as_an_example(
    owner: Client, project: Project
) -> None:
    connection = make_connection(project.created_by)
    form = {"kind": "prompted", "connection": connection.pk, "model": "m", "strategy": "cot"}

    assert "They are drawn from labeled items, and there are none." in text_of(
        owner, url("annotation_runs", project)
    )
    owner.post(url("annotation_runs", project), form | {"examples": "3"})

    assert "examples" not in project.annotation_runs.get().parameters


def test_fields_that_a_model_needs_are_never_called_optional(owner: Client, project: Project) -> None:
    make_connection(project.created_by)
    calibrate(project)

    # The limit is wrong, so that the form comes back; the trained classifier needs no model.
    response = owner.post(url("annotation_runs", project), {"kind": "trained", "spend_limit": "much"})

    page = response.content.decode()
    for field in ("connection", "model", "strategy"):
        label = page.split(f'<label for="id_{field}">')[1].split("</label>")[0]
        assert "optional" not in label


def test_candidates_are_not_among_the_projects_runs(owner: Client, project: Project) -> None:
    item = make_item(project)
    make_calibration_label(item, "positive")
    candidate = make_annotation_run(project, {item: "positive"}, scope="calibration", model="tried")

    assert "tried" not in text_of(owner, url("annotation_runs", project))
    page = text_of(owner, url("annotation_run", project, candidate.pk))
    assert "candidate" in page


# --- Combining runs --------------------------------------------------------------------------------------------------


def two_runs(project: Project) -> list[AnnotationRun]:
    """Two finished runs that agree on one of three items."""
    one, two, three = project.items.order_by("pk")
    connection = make_connection(project.created_by)
    answers = (
        {one: "positive", two: "positive", three: ""},
        {one: "positive", two: "negative", three: "negative"},
    )
    return [
        make_annotation_run(
            project, given, model=f"m{n}", connection=connection, answer_format="bracket", strategy="naive"
        )
        for n, given in enumerate(answers, start=1)
    ]


def combine(client: Client, project: Project, runs: list[AnnotationRun], how: str, **form: Any) -> Any:
    return client.post(
        url("annotation_run_combine", project),
        {"sources": [run.pk for run in runs], "how": how, **form},
        follow=True,
    )


def test_combining_is_offered_once_two_runs_are_finished(owner: Client, project: Project) -> None:
    make_connection(project.created_by)
    make_annotation_run(project)
    make_annotation_run(project, state=Job.State.RUNNING)
    assert "Combine runs" not in text_of(owner, url("annotation_runs", project))

    make_annotation_run(project)

    assert "Combine runs" in text_of(owner, url("annotation_runs", project))


def test_a_vote_starts_and_its_page_says_who_voted(owner: Client, project: Project) -> None:
    runs = two_runs(project)

    response = combine(owner, project, runs, "vote")

    vote = project.annotation_runs.get(kind="voted")
    assert response.redirect_chain[-1][0] == url("annotation_run", project, vote.pk)
    run_to_end(vote.job_id)
    page = text_of(owner, url("annotation_run", project, vote.pk))
    assert "Vote of 2 annotators" in page
    for run in runs:
        assert url("annotation_run", project, run.pk) in page
    assert "not tried" in page
    assert "go to the annotator that was chosen first" in page
    assert "How they voted" in page
    assert "confidence 0.50" in page


def test_a_vote_by_accuracy_says_so(owner: Client, project: Project) -> None:
    runs = two_runs(project)
    item = make_item(project)
    make_calibration_label(item, "positive")
    for run, label in zip(runs, ("negative", "positive"), strict=True):
        make_annotation_run(project, {item: label}, scope="calibration", model=run.model, strategy="naive")

    combine(owner, project, runs, "vote")

    vote = project.annotation_runs.get(kind="voted")
    page = text_of(owner, url("annotation_run", project, vote.pk))
    assert "go to the annotator that was most accurate on the calibration items" in page
    assert page.index("100.0%") < page.index("0.0%</td>")


def test_a_discussion_starts_is_listed_as_one_and_votes_by_itself(
    owner: Client, project: Project, provider: Provider
) -> None:
    runs = two_runs(project)
    provider(lambda request: "[1]")

    page = combine(owner, project, runs, "discussion").content.decode()

    discussing = list(project.annotation_runs.filter(job__kind="discussion").order_by("pk"))
    assert "The discussion has started." in page
    assert "Who is shown to whom" in page
    assert "The whole discussion" in page
    assert text_of(owner, url("annotation_runs", project)).count("discussion 1</span>") == 2
    for run in discussing:
        run_to_end(run.job_id)
    listed = text_of(owner, url("annotation_runs", project))
    assert listed.count("discussion 1</span>") == 3
    assert "Vote of 2 annotators" in listed


def test_a_discussion_that_was_cancelled_offers_its_vote(
    owner: Client, project: Project, provider: Provider
) -> None:
    runs = two_runs(project)
    provider(lambda request: "[1]")
    combine(owner, project, runs, "discussion")
    first, second = project.annotation_runs.filter(job__kind="discussion").order_by("pk")
    assert "their vote did not start" not in text_of(owner, url("annotation_run", project, first.pk))
    run_to_end(first.job_id)
    owner.post(url("annotation_run_action", project, second.pk, "cancel"))

    page = text_of(owner, url("annotation_run", project, first.pk))
    assert "their vote did not start by itself" in page
    combine(owner, project, [first, second], "vote")

    vote = project.annotation_runs.get(kind="voted")
    assert vote.parameters["discussion"] == first.parameters["discussion"]
    assert "their vote did not start" not in text_of(owner, url("annotation_run", project, first.pk))


@pytest.mark.parametrize(
    ("chosen", "how", "sentence"),
    [
        ([], "vote", "Choose two or more different runs."),
        ([0], "vote", "Choose two or more different runs."),
        ([0, 1], "", "Choose a vote or a discussion."),
        ([0, 1], "duel", "duel"),
    ],
)
def test_what_cannot_be_combined_is_answered_with_a_sentence(
    owner: Client, project: Project, chosen: list[int], how: str, sentence: str
) -> None:
    runs = two_runs(project)

    page = combine(owner, project, [runs[i] for i in chosen], how).content.decode()

    assert sentence in page
    assert f'action="{url("annotation_runs", project)}"' in page
    assert project.annotation_runs.count() == 2
    assert owner.get(url("annotation_run_combine", project)).headers["Location"] == url(
        "annotation_runs", project
    )


def test_runs_of_other_projects_cannot_be_combined(owner: Client, project: Project) -> None:
    (mine, _), other = two_runs(project), make_project(owner=project.created_by)
    make_item(other)

    page = combine(owner, project, [mine, make_annotation_run(other)], "vote").content.decode()

    assert "Choose finished runs of this project." in page


def combine_estimate(client: Client, project: Project, runs: list[AnnotationRun], how: str) -> str:
    data = {"sources": [run.pk for run in runs], "how": how}
    return text_of(client, url("annotation_run_combine_estimate", project), data=data, headers=HTMX)


def test_before_money_is_spent_the_page_says_how_much(owner: Client, project: Project) -> None:
    runs = two_runs(project)
    for model in ("m1", "m2"):
        ModelPrice.objects.create(provider="openai", model=model, input=1, output=2)

    vote = combine_estimate(owner, project, runs, "vote")
    discussion = combine_estimate(owner, project, runs, "discussion")
    nothing = combine_estimate(owner, project, runs[:1], "vote")

    assert "33.3%" in vote
    assert "<dd>0</dd>" in vote
    assert "the one listed first decides" in vote
    assert "<dd>4</dd>" in discussion
    assert "$0.00" in discussion
    assert "Choose two or more different runs. Then you see here" in nothing
    assert project.annotation_runs.count() == 2


def test_where_all_agree_there_is_nothing_to_discuss(owner: Client, project: Project) -> None:
    connection = make_connection(project.created_by)
    runs = [make_annotation_run(project, connection=connection) for _ in range(2)]

    part = combine_estimate(owner, project, runs, "discussion")

    assert "100.0%" in part
    assert "nothing to discuss" in part
