"""The pages of criticism runs: what they add to those of annotation runs, and who may see them."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape
from pytest_django import DjangoAssertNumQueries

from annotate.models import AnnotationRun, Project
from criticize.models import Criticism, CriticismRun
from criticize.strategies import STRATEGIES
from jobs.models import Job
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_criticism_run,
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


def test_without_annotations_the_page_says_to_annotate(owner: Client, project: Project) -> None:
    page = text_of(owner, url("criticism_runs", project))

    assert "There are no labels to criticize yet" in page
    assert url("annotation_runs", project) in page


def test_while_the_annotation_goes_on_the_page_says_to_wait(owner: Client, project: Project) -> None:
    make_annotation_run(project, state=Job.State.RUNNING)

    assert "No annotation run is finished yet" in text_of(owner, url("criticism_runs", project))


def test_a_trained_run_starts(owner: Client, project: Project) -> None:
    calibrate(project)
    annotation_run = make_annotation_run(project)

    response = owner.post(
        url("criticism_runs", project), {"kind": "trained", "annotation_run": annotation_run.pk}
    )

    run = CriticismRun.objects.get()
    assert response.headers["Location"] == url("criticism_run", project, run.pk)
    assert (run.annotation_run, run.job.kind, run.job.total) == (annotation_run, "trained_criticism", 3)


def test_a_model_may_criticize_itself_and_is_marked(owner: Client, project: Project) -> None:
    annotation_run = make_annotation_run(project, model="gpt-4o-mini")
    connection = make_connection(project.created_by)
    form = {
        "kind": "prompted",
        "annotation_run": annotation_run.pk,
        "connection": connection.pk,
        "model": "gpt-4o-mini",
        "strategy": "cot",
    }

    estimate = text_of(owner, url("criticism_run_estimate", project), data=form, headers=HTMX)
    assert "The model criticizes its own labels." in estimate
    other = text_of(
        owner, url("criticism_run_estimate", project), data=form | {"model": "gpt-4o"}, headers=HTMX
    )
    assert "criticizes its own" not in other

    response = owner.post(url("criticism_runs", project), form, follow=True)
    assert "self-criticism" in response.content.decode()
    assert "self-criticism" in text_of(owner, url("criticism_runs", project))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"annotation_run": ""}, "Choose the annotation run that is to be criticized."),
        ({"annotation_run": "999"}, "finished annotation runs"),
        ({"kind": ""}, "Choose a model or the trained classifier."),
        ({"kind": "trained"}, "needs some of at least two labels"),
        ({"model": ""}, "Name the model."),
    ],
)
def test_bad_input_is_answered_with_a_sentence(
    owner: Client, project: Project, changes: dict[str, str], sentence: str
) -> None:
    connection = make_connection(project.created_by)
    form = {
        "kind": "prompted",
        "annotation_run": make_annotation_run(project).pk,
        "connection": connection.pk,
        "model": "gpt-4o",
        "strategy": "cot",
    }

    response = owner.post(url("criticism_runs", project), form | changes)

    assert response.status_code == 200
    assert sentence in response.content.decode()
    assert not CriticismRun.objects.exists()


def test_the_labels_of_another_project_or_of_a_run_that_goes_on_cannot_be_chosen(
    owner: Client, project: Project
) -> None:
    calibrate(project)
    make_annotation_run(project)
    unfinished = make_annotation_run(project, state=Job.State.RUNNING)
    other = make_project(owner=project.created_by)
    make_items(other, 1)
    foreign = make_annotation_run(other)

    for run in (unfinished, foreign):
        response = owner.post(url("criticism_runs", project), {"kind": "trained", "annotation_run": run.pk})
        assert "Choose one of this project&#x27;s finished annotation runs." in response.content.decode()


def test_the_link_from_an_annotation_run_chooses_it(owner: Client, project: Project) -> None:
    calibrate(project)
    first = make_annotation_run(project)
    make_annotation_run(project)

    page = text_of(owner, url("criticism_runs", project) + f"?annotation_run={first.pk}")

    assert f'<option value="{first.pk}" selected>' in page


def test_the_list_takes_as_many_queries_for_many_runs(owner: Client, project: Project) -> None:
    annotation_run = make_annotation_run(project)
    make_criticism_run(annotation_run)
    owner.get(url("criticism_runs", project))
    one = queries_of(owner, url("criticism_runs", project))
    for _ in range(4):
        make_criticism_run(annotation_run)
    assert queries_of(owner, url("criticism_runs", project)) == one


# --- One run ---------------------------------------------------------------------------------------------------------


def test_with_gold_a_run_shows_how_well_it_finds_errors(owner: Client, project: Project) -> None:
    wrong = make_item(project, gold="negative")
    right = make_item(project, gold="positive")
    annotation_run = make_annotation_run(project, {wrong: "positive", right: "positive"})
    run = make_criticism_run(annotation_run, [0.25, 0.75])

    page = text_of(owner, url("criticism_run", project, run.pk))

    # The one error is found last: AQG is 0, 0, 1, and ABS half of their sum.
    assert "<dd>0.500<" in page
    assert "among 2 items with a gold label" in page
    assert "0.750" in page
    assert "It could be meant otherwise." in page
    assert url("review_rounds", project) + f"?criticism_run={run.pk}" in page


def test_without_errors_the_page_says_so(owner: Client, project: Project) -> None:
    item = make_item(project, gold="positive")
    run = make_criticism_run(make_annotation_run(project, {item: "positive"}), [0.5])

    assert "No errors to find" in text_of(owner, url("criticism_run", project, run.pk))


def test_without_gold_the_page_says_that_nobody_knows(owner: Client, project: Project) -> None:
    run = make_criticism_run(make_annotation_run(project))

    assert "This shows where the items have gold labels" in text_of(
        owner, url("criticism_run", project, run.pk)
    )


@pytest.mark.parametrize("part", ["progress", "outcome", "results", "failures"])
def test_each_part_is_sent_alone_to_htmx(owner: Client, project: Project, part: str) -> None:
    run = make_criticism_run(make_annotation_run(project))
    address = url("criticism_run", project, run.pk) + f"?part={part}"

    alone = text_of(owner, address, headers=HTMX)

    assert f'id="run-{part}"' in alone
    assert "<html" not in alone
    assert "<html" in text_of(owner, address)


def test_failures_are_listed_and_retried_alone(owner: Client, project: Project) -> None:
    run = make_criticism_run(make_annotation_run(project))
    failed = run.criticisms.order_by("pk")[1]
    Criticism.objects.filter(pk=failed.pk).update(
        failure="unparseable",
        message="The answer holds no probability.",
        error_prob=None,
        priority=None,
        raw_text="<i>hm",
    )
    Job.objects.filter(pk=run.job_id).update(failed=1)

    page = text_of(owner, url("criticism_run", project, run.pk))
    response = owner.post(url("criticism_run_action", project, run.pk, "retry"), headers=HTMX)

    assert "The answer holds no probability." in page
    assert "&lt;i&gt;hm" in page
    assert "every 2s" in response.content.decode()
    assert run.job.chunks.get().subjects == [failed.annotation_id]


def test_buttons_work_without_htmx(owner: Client, project: Project) -> None:
    run = make_criticism_run(make_annotation_run(project), state=Job.State.RUNNING)

    response = owner.post(url("criticism_run_action", project, run.pk, "cancel"))

    assert response.headers["Location"] == url("criticism_run", project, run.pk)
    run.job.refresh_from_db()
    assert run.job.state == Job.State.CANCELLED
    again = owner.post(url("criticism_run_action", project, run.pk, "cancel"), follow=True)
    assert "Only a job that is" in again.content.decode()


def test_a_run_takes_as_many_queries_for_many_results(
    owner: Client, project: Project, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    make_items(project, 30)
    run = make_criticism_run(make_annotation_run(project))

    with django_assert_max_num_queries(25):
        owner.get(url("criticism_run", project, run.pk))


# --- Who and how -----------------------------------------------------------------------------------------------------


def test_for_strangers_there_is_no_such_project_and_for_reviewers_no_right(
    client: Client, project: Project
) -> None:
    run = make_criticism_run(make_annotation_run(project), state=Job.State.RUNNING)
    reviewer, stranger = make_user(), make_user()
    project.memberships.create(user=reviewer, role="reviewer")

    for method, address in [
        ("get", url("criticism_runs", project)),
        ("post", url("criticism_runs", project)),
        ("get", url("criticism_run_estimate", project)),
        ("get", url("criticism_run", project, run.pk)),
        ("post", url("criticism_run_action", project, run.pk, "cancel")),
    ]:
        client.force_login(stranger)
        assert getattr(client, method)(address).status_code == 404, address
        client.force_login(reviewer)
        assert getattr(client, method)(address).status_code == 403, address
    run.job.refresh_from_db()
    assert run.job.state == Job.State.RUNNING


def test_a_run_is_found_in_its_own_project_only(owner: Client, project: Project) -> None:
    run = make_criticism_run(make_annotation_run(project))
    other = make_project(owner=project.created_by)

    assert owner.get(url("criticism_run", other, run.pk)).status_code == 404
    assert owner.post(url("criticism_run_action", other, run.pk, "cancel")).status_code == 404


def test_wrong_verbs_and_unknown_actions_are_refused(owner: Client, project: Project) -> None:
    run = make_criticism_run(make_annotation_run(project))

    assert owner.delete(url("criticism_runs", project)).status_code == 405
    assert owner.post(url("criticism_run", project, run.pk)).status_code == 405
    assert owner.post(url("criticism_run_estimate", project)).status_code == 405
    assert owner.get(url("criticism_run_action", project, run.pk, "pause")).status_code == 405
    assert owner.post(url("criticism_run_action", project, run.pk, "explode")).status_code == 404


def test_while_a_run_goes_on_its_quality_is_not_stated(owner: Client, project: Project) -> None:
    make_item(project, gold="negative")
    run = make_criticism_run(make_annotation_run(project), state=Job.State.RUNNING)

    page = text_of(owner, url("criticism_run", project, run.pk))

    assert "This shows once the run is finished" in page
    assert "ABS" not in page


# --- Strategies ------------------------------------------------------------------------------------------------------


def test_the_form_explains_every_strategy(owner: Client, project: Project) -> None:
    make_connection(project.created_by)
    make_annotation_run(project)

    page = text_of(owner, url("criticism_runs", project))

    for name, strategy in STRATEGIES.items():
        assert f'name="strategy" value="{name}"' in page
        assert escape(strategy.label) in page
        assert escape(strategy.description) in page
    assert page.count("Needs a provider that gives log-probabilities.") == 3
    assert 'value="cot" checked' in page


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        ("cot_ppl", "Anthropic gives no log-probabilities"),
        ("devil", "made without any"),
        ("guess", "Select a valid"),
    ],
)
def test_what_cannot_be_done_is_said_at_the_strategy_and_beside_the_estimate(
    owner: Client, project: Project, strategy: str, sentence: str
) -> None:
    annotation_run = make_annotation_run(project)
    annotation_run.annotations.update(reasoning="")
    form = {
        "kind": "prompted",
        "annotation_run": annotation_run.pk,
        "connection": make_connection(project.created_by, provider="anthropic").pk,
        "model": "claude",
        "strategy": strategy,
    }

    assert sentence in text_of(owner, url("criticism_run_estimate", project), data=form, headers=HTMX)
    response = owner.post(url("criticism_runs", project), form)

    assert sentence in str(response.context["form"].errors["strategy"])
    assert sentence in response.content.decode()
    assert not CriticismRun.objects.exists()


def test_a_run_that_only_ranks_shows_answers_and_no_probabilities(owner: Client, project: Project) -> None:
    annotation_run = make_annotation_run(project)
    levels = make_criticism_run(annotation_run, [None] * 3, strategy="mc")
    levels.criticisms.update(priority=4.0, failure="")
    fluent = make_criticism_run(annotation_run, [None] * 3, strategy="cot_ppl")
    fluent.criticisms.update(priority=0.25, failure="")

    page = text_of(owner, url("criticism_run", project, levels.pk))
    assert "gives no error probabilities" in page
    assert "probably wrong" in page
    assert "Error probabilities" not in page
    assert '<th scope="col" class="num">Error probability</th>' not in page

    page = text_of(owner, url("criticism_run", project, fluent.pk))
    assert "yes, it is wrong" in page
    assert "perplexity 4.00" in page
    assert "Error probabilities" not in page

    item = project.items.order_by("id")[0]
    page = text_of(owner, url("item", project, item.pk))
    assert "priority 4.000" in page
    assert "error probability" not in page


def test_runs_on_calibration_items_are_counted_and_not_listed(owner: Client, project: Project) -> None:
    """Twenty of them would hide the one that rounds are drawn from; as a choice they come last, named so."""
    make_connection(project.created_by)
    candidate = make_annotation_run(project, scope=AnnotationRun.Scope.CALIBRATION, model="tried")
    on_candidate = make_criticism_run(candidate)
    run = make_annotation_run(project)
    listed = make_criticism_run(run)

    page = text_of(owner, url("criticism_runs", project))
    overview = text_of(owner, url("project", project))

    assert f'id="run-{listed.pk}"' in page
    assert f'id="run-{on_candidate.pk}"' not in page
    assert "1 more run judged calibration items alone" in page
    assert page.index(f'<option value="{run.pk}"') < page.index(f'<option value="{candidate.pk}"')
    assert f"Annotation {candidate.pk}: tried · cot, a candidate on the calibration items" in page
    for tried, name in ((candidate, "annotation_run"), (on_candidate, "criticism_run")):
        assert url(name, project, tried.pk) not in overview
    assert url("criticism_run", project, listed.pk) in overview
