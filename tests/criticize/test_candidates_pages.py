"""The page of candidates: what it shows at each stage, what its forms start, and who may see it."""

import html
import re
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from annotate.models import AnnotationRun, Connection, Project
from criticize.models import CriticismRun
from jobs.models import Job
from tests.conftest import Provider
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_criticism_run,
    make_items,
    make_membership,
    make_project,
    make_user,
)

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
CALIBRATION = AnnotationRun.Scope.CALIBRATION


@pytest.fixture
def project() -> Project:
    """Twenty calibration items of two labels."""
    project = make_project()
    for number, item in enumerate(make_items(project, 20)):
        make_calibration_label(item, "positive" if number % 2 else "negative")
    return project


@pytest.fixture
def owner(client: Client, project: Project) -> Client:
    client.force_login(project.created_by)
    return client


@pytest.fixture
def server(project: Project) -> Connection:
    return make_connection(project.created_by, name="My server", key="k")


def url(name: str, project: Project, *args: object) -> str:
    return reverse(name, args=[project.pk, *args])


def text_of(client: Client, address: str, status: int = 200, **options: Any) -> str:
    response = client.get(address, **options)
    assert response.status_code == status
    return response.content.decode()


def try_out(project: Project, wrong: int, **fields: Any) -> AnnotationRun:
    """A candidate that gets the first `wrong` items wrong."""
    answers = {}
    for number, item in enumerate(project.items.filter(calibration_label__isnull=False).order_by("pk")):
        known = item.calibration_label.label
        truth = known.name if known else ""
        answers[item] = truth if number >= wrong else ("negative" if truth == "positive" else "positive")
    return make_annotation_run(project, answers, scope=CALIBRATION, **fields)


def said(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


# --- The page --------------------------------------------------------------------------------------------------------


def test_without_calibration_items_it_says_to_make_them(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)

    page = text_of(client, url("candidates", project))

    assert "There are no calibration items yet" in page
    assert url("calibration", project) in page


def test_without_candidates_it_offers_to_try_some(
    owner: Client, project: Project, server: Connection
) -> None:
    page = text_of(owner, url("candidates", project))

    assert "20 calibration items" in page
    assert "Try annotators" in page
    assert 'id="annotator-trained">' in page  # to be chosen beside a model
    assert "Leaderboard" not in page
    assert "Measure criticizers" not in page


def test_without_connections_the_trained_classifier_can_be_tried(owner: Client, project: Project) -> None:
    page = text_of(owner, url("candidates", project))

    assert "You have no connection yet" in page
    assert 'name="trained" id="annotator-trained" checked>' in page


def test_the_leaderboard_the_recommendation_and_the_grid_are_shown(owner: Client, project: Project) -> None:
    best, other = try_out(project, 2, model="best"), try_out(project, 8, model="other")
    other.annotations.filter(item=project.items.earliest("pk")).update(label=None, failure="unparseable")
    criticism = make_criticism_run(best, model="other")
    make_criticism_run(best, model="best")

    page = text_of(owner, url("candidates", project))

    assert page.index("best · cot") < page.index("other · cot")
    assert "90.0%" in page
    assert "69.9% to 97.2%" in page  # Wilson's interval of 18 of 20
    assert "5.0% unparseable" in page
    assert "best · cot is ahead of other · cot, but the intervals overlap" in page
    assert "Recommendation" in page
    assert "self-criticism" in page
    assert f'value="criticism-{criticism.pk}" checked' in page
    assert "Random order" in page
    assert "Ideal order" in page
    assert "fewer than ten errors" in page
    assert f"{url('annotation_runs', project)}?kind=prompted&amp;model=best&amp;strategy=cot" in page
    assert f"{url('criticism_runs', project)}?kind=prompted&amp;model=other&amp;strategy=cot" in page
    assert 'hx-trigger="every 3s"' not in page


def test_an_annotator_without_errors_is_said_to_have_none(owner: Client, project: Project) -> None:
    make_criticism_run(try_out(project, 0))

    page = text_of(owner, url("candidates", project))

    assert page.count("no errors to find") == 2  # in its column's head and in the cell
    assert "Random order" not in page


def test_while_candidates_run_the_results_load_themselves(owner: Client, project: Project) -> None:
    run = try_out(project, 2, state=Job.State.RUNNING)
    address = url("candidates", project) + "?part=results"

    page = text_of(owner, url("candidates", project))
    assert 'hx-trigger="every 3s"' in page
    assert "Its accuracy shows when it is finished." in page
    part = owner.get(address, headers=HTMX)
    assert "HX-Trigger" not in part.headers
    Job.objects.filter(pk=run.job_id).update(state=Job.State.DONE)
    part = owner.get(address, headers=HTMX)

    assert "every 3s" not in part.content.decode()
    assert "candidates-settled" in part.headers["HX-Trigger"]
    assert "<html" not in part.content.decode()


def test_chosen_cells_are_drawn_together(owner: Client, project: Project) -> None:
    run = try_out(project, 4)
    runs = [make_criticism_run(run, model=f"model-{number}") for number in range(8)]
    cells = "".join(f"&cell=criticism-{each.pk}" for each in runs)

    part = text_of(owner, f"{url('candidates', project)}?part=curves{cells}", headers=HTMX)

    assert part.count('class="chart-line curve-') == 12  # six lines, each with its key
    assert "Six are drawn at once; 2 more are left out." in part
    assert "Recommendation" not in part


def test_the_grids_form_comes_when_a_candidate_is_finished(
    owner: Client, project: Project, server: Connection
) -> None:
    address = url("candidates", project) + "?part=criticizers"
    assert "Measure criticizers" not in text_of(owner, address, headers=HTMX)
    run = try_out(project, 2)

    form = text_of(owner, address, headers=HTMX)

    assert f'name="annotators" value="{run.pk}"' in form
    assert "needs a provider that gives log-probabilities" in form
    assert "needs annotators that give their reasoning" in form


def test_a_run_with_an_unanswered_item_of_a_grown_set_offers_to_ask(owner: Client, project: Project) -> None:
    run = try_out(project, 2)
    for item in make_items(project, 3):
        make_calibration_label(item, "positive")

    page = text_of(owner, url("candidates", project))
    assert "20 of 23 calibration items" in page
    response = owner.post(url("candidate_go_on", project, run.pk))

    assert "3 more items" in said(response)
    run.job.refresh_from_db()
    assert (run.job.state, run.job.total) == (Job.State.QUEUED, 23)
    assert "queued" in said(owner.post(url("candidate_go_on", project, run.pk)))


# --- Trying ----------------------------------------------------------------------------------------------------------


def test_models_times_strategies_start_with_one_submit(
    owner: Client, project: Project, server: Connection
) -> None:
    response = owner.post(
        url("candidates", project),
        {
            "connection": server.pk,
            "models": "gpt-a, gpt-b,gpt-a\n",
            "strategies": ["cot", "naive"],
            "trained": "on",
        },
    )

    assert response.status_code == 302
    assert said(response) == "5 runs started."
    runs = AnnotationRun.objects.filter(project=project, scope=CALIBRATION)
    assert sorted((run.model, run.strategy) for run in runs) == [
        ("", ""),
        ("gpt-a", "cot"),
        ("gpt-a", "naive"),
        ("gpt-b", "cot"),
        ("gpt-b", "naive"),
    ]
    assert all(run.job.total == 20 for run in runs)
    again = owner.post(url("candidates", project), {"trained": "on"})
    assert said(again).endswith("Not asked again, since nothing is new: Trained classifier.")


def test_the_options_belong_to_the_candidate(owner: Client, project: Project, server: Connection) -> None:
    sent = {"connection": server.pk, "models": "gpt-a", "strategies": ["cot"]}
    owner.post(url("candidates", project), sent)

    owner.post(url("candidates", project), {**sent, "confidence": "on", "examples": "2"})

    page = text_of(owner, url("candidates", project))
    assert "gpt-a · cot · confidence · 2 examples" in page
    assert AnnotationRun.objects.count() == 2


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({}, "Choose a connection and a model, or the trained classifier."),
        ({"models": "gpt-a", "strategies": ["cot"]}, "Choose the connection of these models."),
        ({"connection": "server", "strategies": ["cot"]}, "Name at least one model."),
        ({"connection": "server", "models": "gpt-a"}, "Choose at least one strategy."),
        ({"connection": "server", "models": "a" * 201, "strategies": ["cot"]}, "at most 200 characters"),
        (
            {"connection": "999999", "models": "gpt-a", "strategies": ["cot"]},
            "Choose one of your connections.",
        ),
        (
            {"connection": "server", "models": "gpt-a", "strategies": ["magic"]},
            "Choose among the strategies listed.",
        ),
        (
            {"connection": "server", "models": "gpt-a", "strategies": ["cot"], "spend_limit": "much"},
            "Enter the limit as a number",
        ),
        (
            {"connection": "server", "models": "unheard-of", "strategies": ["cot"], "spend_limit": "1"},
            "There is no price for unheard-of",
        ),
        (
            {"connection": "server", "models": ", ".join(f"m{n}" for n in range(61)), "strategies": ["cot"]},
            "start at most 60 at once",
        ),
    ],
)
def test_bad_input_is_answered_with_a_sentence_and_loses_nothing(
    owner: Client, project: Project, server: Connection, sent: dict[str, Any], sentence: str
) -> None:
    sent = {name: server.pk if value == "server" else value for name, value in sent.items()}

    response = owner.post(url("candidates", project), sent)

    page = response.content.decode()
    assert response.status_code == 422
    assert sentence in page
    assert sent.get("models", "")[:100] in page
    assert not AnnotationRun.objects.exists()


def test_the_estimate_says_what_is_new_what_was_tried_and_what_has_no_price(
    owner: Client, project: Project, server: Connection
) -> None:
    sent = {"connection": server.pk, "models": "gpt-a", "strategies": ["cot"]}
    owner.post(url("candidates", project), sent)

    part = text_of(owner, url("candidates_estimate", project), data={**sent, "models": "gpt-a, gpt-b"})
    assert "Not asked again, since nothing is new: gpt-a · cot." in part
    assert "No price is known for gpt-b." in part
    Job.objects.update(state=Job.State.CANCELLED)
    nothing = text_of(owner, url("candidates_estimate", project), data={})

    assert "Choose a connection and a model" in nothing
    assert AnnotationRun.objects.count() == 1


def test_the_grid_starts_a_criticism_of_each_chosen_annotator(
    owner: Client, project: Project, server: Connection
) -> None:
    runs = [try_out(project, 2, model="a"), try_out(project, 3, model="b")]
    sent = {
        "annotators": [run.pk for run in runs],
        "connection": server.pk,
        "models": "judge",
        "strategies": ["cot", "naive"],
    }

    estimate = text_of(owner, url("candidate_grid_estimate", project), data=sent)
    response = owner.post(url("candidate_grid", project), sent)

    assert "<dd>80</dd>" in estimate
    assert said(response) == "4 runs started."
    assert CriticismRun.objects.filter(annotation_run__in=runs).count() == 4
    nobody = owner.post(url("candidate_grid", project), {**sent, "annotators": []})
    assert nobody.status_code == 422
    assert "Choose at least one finished annotator" in nobody.content.decode()


def test_the_connections_models_are_listed_for_the_form_that_asks(
    owner: Client, project: Project, server: Connection, provider: Provider
) -> None:
    provider([])
    address = url("candidate_models", project)

    part = text_of(owner, f"{address}?what=criticizer&connection={server.pk}")
    assert '<datalist id="criticizer-model-list"><option value="scripted">' in part
    assert "Choose a connection" in text_of(owner, address)
    strange = make_connection(make_user())
    assert text_of(owner, f"{address}?connection={strange.pk}", status=404)


# --- Who may ---------------------------------------------------------------------------------------------------------


def test_only_owners_see_and_start_candidates(client: Client, project: Project) -> None:
    run = try_out(project, 2)
    reviewer = make_user()
    make_membership(project, reviewer)
    addresses = [
        ("get", url("candidates", project)),
        ("post", url("candidates", project)),
        ("get", url("candidates_estimate", project)),
        ("get", url("candidate_models", project)),
        ("post", url("candidate_grid", project)),
        ("get", url("candidate_grid_estimate", project)),
        ("post", url("candidate_go_on", project, run.pk)),
    ]
    for person, status in ((reviewer, 403), (make_user(), 404)):
        client.force_login(person)
        for verb, address in addresses:
            assert getattr(client, verb)(address).status_code == status


def test_only_candidates_of_this_project_go_on(owner: Client, project: Project) -> None:
    no_candidate = make_annotation_run(project, {})
    elsewhere = make_annotation_run(make_project(), {}, scope=CALIBRATION)

    for run in (no_candidate, elsewhere):
        assert owner.post(url("candidate_go_on", project, run.pk)).status_code == 404


# --- What leads here and on ------------------------------------------------------------------------------------------


def test_the_recommended_pair_fills_in_the_forms_of_runs(
    owner: Client, project: Project, server: Connection
) -> None:
    try_out(project, 1, model="best", connection=server, parameters={"confidence": True, "examples": 2})
    page = text_of(owner, url("candidates", project))
    address = re.search(r'class="button button-primary" href="([^"]*)"', page)
    assert address is not None
    make_items(project, 2)

    form = text_of(owner, html.unescape(address.group(1)))

    assert 'value="prompted" checked' in form
    assert f'<option value="{server.pk}" selected>' in form
    assert re.search(
        r'<input[^>]*name="model"[^>]*value="best"|<input[^>]*value="best"[^>]*name="model"', form
    )
    assert re.search(r'<input[^>]*name="confidence"[^>]*checked', form)
    assert re.search(
        r'<input[^>]*name="examples"[^>]*value="2"|<input[^>]*value="2"[^>]*name="examples"', form
    )


def test_an_address_fills_in_the_form_of_a_criticism_run(
    owner: Client, project: Project, server: Connection
) -> None:
    make_items(project, 2)
    run = make_annotation_run(project)
    asked = f"?annotation_run={run.pk}&kind=prompted&connection={server.pk}&model=judge&strategy=naive"

    form = text_of(owner, url("criticism_runs", project) + asked)
    nonsense = text_of(owner, url("criticism_runs", project) + "?kind=x&connection=y&strategy=z")

    assert f'<option value="{server.pk}" selected>' in form
    assert 'value="judge"' in form
    assert re.search(r'value="naive"[^>]*checked', form)
    assert "New criticism run" in nonsense


def test_calibration_and_overview_lead_to_candidates(owner: Client, project: Project) -> None:
    """A tab leads there from everywhere; these are the places where it is the next step."""
    tab = f'<a href="{url("candidates", project)}">Candidates</a>'
    link = f'href="{url("candidates", project)}">Try annotators'
    make_items(project, 2)
    assert tab in text_of(owner, url("calibration", project))
    assert link in text_of(owner, url("calibration", project))
    assert link not in text_of(owner, url("project", project))  # nothing is connected

    make_connection(project.created_by)
    assert link in text_of(owner, url("project", project))
    assert link in text_of(owner, url("project", project), headers=HTMX)
    make_annotation_run(project)

    assert link not in text_of(owner, url("project", project))
