"""A project's overview: where it stands, what comes next, and what a reviewer sees of it; and the calibration page."""

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from annotate.models import Project, Upload
from jobs.models import Job
from review.models import ReviewRound, ReviewTask
from review.standing import Standing, counts_of_rounds, standing_of
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_connection,
    make_criticism_run,
    make_export,
    make_items,
    make_project,
    make_reviewable_round,
    make_round,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


def states(standing: Standing) -> str:
    return " ".join(step.state for step in standing.steps)


def test_each_step_leads_to_the_next() -> None:
    project = make_project()

    def stands() -> tuple[str, str]:
        standing = standing_of(project)
        return standing.next.title, states(standing)

    assert stands() == ("Upload your data", "now later later later later later")
    items = make_items(project, 6)
    assert stands() == ("Make a calibration set", "done now later later later later")
    make_calibration_label(items[0], "negative")
    assert stands() == ("Annotate the items", "done done now later later later")
    run = make_annotation_run(project)
    assert stands() == ("Let a second reader doubt", "done done done now later later")
    criticism = make_criticism_run(run)
    assert stands() == ("Decide how much to review", "done done done done now later")
    round = make_round(criticism, budget=2)
    assert stands() == ("Review 2 items", "done done done done now later")
    round.tasks.update(state=ReviewTask.State.SKIPPED)
    assert stands() == ("Export the labels", "done done done done done now")
    export = make_export(round, state=Job.State.RUNNING)
    assert stands() == ("Writing the export", "done done done done done busy")
    Job.objects.filter(pk=export.job_id).update(state=Job.State.DONE)
    assert stands() == ("Take the labels with you", "done done done done done done")


def test_too_few_labels_come_before_anything_else() -> None:
    project = make_project(labels=("only",))
    make_items(project, 2)
    assert standing_of(project).next.title == "Name the labels"


def test_a_file_that_waits_for_its_columns_holds_nothing_up_once_there_are_items(client: Client) -> None:
    project = make_project()
    user = project.memberships.get().user
    waiting = Upload.objects.create(project=project, filename="more.csv", size=1, created_by=user)
    assert standing_of(project).next.button == "Match the columns"

    make_items(project, 6)
    standing = standing_of(project)
    assert standing.next.title == "Make a calibration set"
    assert states(standing) == "done now later later later later"
    assert standing.steps[0].lines[-1] == "A file waits for its columns"
    client.force_login(user)
    page = client.get(f"/projects/{project.pk}/").content.decode()
    assert "“more.csv” waits for its columns" in page
    away = f"/projects/{project.pk}/uploads/{waiting.pk}/delete/"
    assert away in page
    assert away in client.get(f"/projects/{project.pk}/uploads/").content.decode()


def test_an_open_blind_round_comes_next() -> None:
    project = make_project()
    make_items(project, 4)
    round = make_calibration_round(project, 3)
    action = standing_of(project).next
    assert action.title == "Label 3 items blind"
    assert action.url == f"/projects/{project.pk}/review-rounds/{round.pk}/work/"


@pytest.mark.parametrize(
    ("state", "title"), [("paused", "Annotating has stopped"), ("running", "Annotating")]
)
def test_a_run_that_goes_on_or_has_stopped_is_what_comes_next(state: str, title: str) -> None:
    project = make_project()
    make_items(project, 2)
    make_annotation_run(project, state=state)
    standing = standing_of(project)
    assert standing.next.title == title
    assert standing.is_live is (state == "running")


def test_a_cancelled_run_does_not_count() -> None:
    project = make_project()
    make_items(project, 2)
    make_annotation_run(project, state=Job.State.CANCELLED)
    assert standing_of(project).annotation is None


def test_a_newer_run_begins_a_chain_of_its_own() -> None:
    round = make_reviewable_round()
    make_annotation_run(round.project)
    standing = standing_of(round.project)
    assert (standing.criticism, standing.round) == (None, None)
    assert standing.next.title == "Let a second reader doubt"


def test_the_page_shows_steps_and_one_next_action(client: Client) -> None:
    round = make_reviewable_round()
    client.force_login(round.created_by)
    page = client.get(f"/projects/{round.project_id}/").content.decode()
    assert page.count('class="step"') == 6
    assert page.count("button-large") == 1
    assert f'href="/projects/{round.project_id}/review-rounds/{round.pk}/work/"' in page
    assert "Machine accuracy" in page
    assert "0.0%" in page


def test_it_refreshes_itself_only_while_something_runs(client: Client) -> None:
    project = make_project()
    make_items(project, 2)
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/"
    assert "hx-trigger" not in client.get(url).content.decode()
    make_annotation_run(project, state=Job.State.RUNNING)
    assert f'hx-get="{url}" hx-trigger="every 2s"' in client.get(url).content.decode()
    part = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div class="stack" id="state"')
    assert "<html" not in part


def test_the_hint_to_connect_a_model_goes_with_the_first_connection(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/"
    assert "Connect a real model" in client.get(url).content.decode()
    make_connection(project.created_by)
    assert "Connect a real model" not in client.get(url).content.decode()


def test_a_reviewer_sees_what_there_is_to_review_and_nothing_that_spends(client: Client) -> None:
    reviewer = make_user()
    round = make_reviewable_round(reviewers=[reviewer])
    Project.objects.update(instructions="Decide kindly.")
    client.force_login(reviewer)
    page = client.get(f"/projects/{round.project_id}/").content.decode()
    assert "2 items wait for you" in page
    assert "Decide kindly." in page
    for owners in (
        "settings/",
        "uploads/",
        "exports/",
        "annotation-runs/",
        "Connect a real model",
        "accuracy",
    ):
        assert owners not in page, owners
    ReviewRound.objects.update(state=ReviewRound.State.CLOSED)
    assert "Nothing to review yet" in client.get(f"/projects/{round.project_id}/").content.decode()


def test_the_overview_is_for_members_and_only_read(client: Client) -> None:
    project = make_project()
    client.force_login(make_user())
    assert client.get(f"/projects/{project.pk}/").status_code == 404
    client.force_login(project.created_by)
    assert client.post(f"/projects/{project.pk}/").status_code == 405


def test_a_refresh_takes_few_queries(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    round = make_reviewable_round(items=10, budget=5)
    client.force_login(round.created_by)
    with django_assert_max_num_queries(20):
        client.get(f"/projects/{round.project_id}/", headers={"HX-Request": "true"})


# --- Calibration -----------------------------------------------------------------------------------------------------


def test_gold_labels_become_calibration_labels(client: Client) -> None:
    project = make_project()
    make_items(project, 5, gold="positive")
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/calibration/"
    assert client.post(url, {"from": "gold", "count": "3"}).headers["Location"] == url
    assert project.calibration_labels.count() == 3
    page = client.get(url).content.decode()
    assert "2 items have a gold label" in page


def test_labeling_blind_makes_a_round_and_opens_it(client: Client) -> None:
    project = make_project()
    make_items(project, 5)
    client.force_login(project.created_by)
    sent = client.post(f"/projects/{project.pk}/calibration/", {"from": "person", "count": "4"})
    round = project.review_rounds.get()
    assert (round.kind, round.tasks.count()) == ("calibration", 4)
    assert sent.headers["Location"] == f"/projects/{project.pk}/review-rounds/{round.pk}/work/"


@pytest.mark.parametrize("source", ["gold", "person"])
@pytest.mark.parametrize("count", ["6", "0", "many", ""])
def test_an_impossible_number_is_refused_and_kept(client: Client, source: str, count: str) -> None:
    project = make_project()
    make_items(project, 5, gold="positive")
    client.force_login(project.created_by)
    sent = client.post(f"/projects/{project.pk}/calibration/", {"from": source, "count": count})
    form = sent.context["gold_form" if source == "gold" else "person_form"]
    assert sent.status_code == 422
    assert form.errors["count"]
    assert form["count"].value() == count
    assert not project.calibration_labels.exists()
    assert not project.review_rounds.exists()


def test_without_two_labels_nobody_is_asked_to_label(client: Client) -> None:
    project = make_project(labels=("only",))
    make_items(project, 3)
    client.force_login(project.created_by)
    page = client.get(f"/projects/{project.pk}/calibration/").content.decode()
    assert "Label them blind" not in page
    sent = client.post(f"/projects/{project.pk}/calibration/", {"from": "person", "count": "2"})
    assert "at least two labels" in sent.content.decode()


def test_calibration_is_for_owners(client: Client) -> None:
    reviewer = make_user()
    project = make_project(reviewers=[reviewer])
    url = f"/projects/{project.pk}/calibration/"
    client.force_login(make_user())
    assert client.get(url).status_code == 404
    client.force_login(reviewer)
    assert client.post(url, {"from": "gold", "count": "1"}).status_code == 403
    client.force_login(project.created_by)
    assert client.delete(url).status_code == 405


def test_a_large_projects_page_comes_before_what_takes_long_to_count(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    round = make_reviewable_round()
    owner, url = round.project.created_by, f"/projects/{round.project.pk}/"
    client.force_login(owner)
    whole = client.get(url).content.decode()
    assert 'id="guidelines"' in whole
    monkeypatch.setattr("review.keeping.LARGE", 1)

    page = client.get(url).content.decode()
    assert 'id="state"' in page
    assert f'hx-get="{url}?part=rest"' in page
    assert 'id="guidelines"' not in page

    rest = client.get(url, {"part": "rest"}, headers={"HX-Request": "true"}).content.decode()
    assert 'id="guidelines"' in rest
    assert 'id="state"' not in rest
    assert 'id="guidelines"' in client.get(url, {"wait": "yes"}).content.decode()


def test_the_items_of_a_large_round_are_counted_exactly_once_few_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("review.keeping.LARGE", 1)
    monkeypatch.setattr("review.standing._FEW_LEFT", 1)
    round = make_reviewable_round()
    waiting = round.counted_tasks.filter(state=ReviewTask.State.WAITING)
    total = waiting.count()
    before = counts_of_rounds([round])[round.pk]
    assert (before.selected, before.reviewed) == (total, 0)

    monkeypatch.setattr("review.standing._FEW_LEFT", total)
    first = waiting.first()
    assert first is not None
    ReviewTask.objects.filter(pk=first.pk).update(state=ReviewTask.State.SKIPPED)

    after = counts_of_rounds([round])[round.pk]
    assert (after.selected, after.skipped, after.left) == (total, 1, total - 1)
