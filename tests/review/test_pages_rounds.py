"""The pages of review rounds and the review screen's page: drawing, progress, closing, and who may do what."""

import json
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotate.models import Change, Project, User
from jobs.models import Job
from review.models import ReviewRound
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.services.rounds import round_close, round_create
from review.setup import RoundSetup
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_items,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def url(name: str, project: Project, *args: object) -> str:
    return reverse(name, args=[project.pk, *args])


def queries_of(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        client.get(address)
    return len(captured)


def text_of(client: Client, address: str, **options: Any) -> str:
    response = client.get(address, **options)
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def round(client: Client) -> ReviewRound:
    """A round of 2 of 4 items; its owner is signed in."""
    round = make_reviewable_round(4, 2)
    client.force_login(round.created_by)
    return round


def review_next(round: ReviewRound, label: str = "", reason: str = "", user: User | None = None) -> None:
    person = user or round.created_by
    [task] = tasks_claim(round=round, user=person)
    answer = (
        Answer(action="label", label=label_named(round.project, label), seconds=4.0)
        if label
        else Answer(action="skip", reason=reason)
    )
    task_submit(task=task, user=person, answer=answer)


# --- The list and the form -------------------------------------------------------------------------------------------


def test_without_criticism_the_page_says_to_criticize(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)

    page = text_of(client, url("review_rounds", project))

    assert "There is nothing to draw from yet" in page
    assert url("criticism_runs", project) in page


def test_a_round_is_drawn_from_a_count(client: Client, round: ReviewRound) -> None:
    project, run = round.project, round.criticism_run
    assert run is not None

    response = client.post(
        url("review_rounds", project), {"criticism_run": run.pk, "budget": "3", "unit": "count"}
    )

    drawn = project.review_rounds.exclude(pk=round.pk).get()
    assert response.headers["Location"] == url("review_round", project, drawn.pk)
    assert (drawn.budget, drawn.tasks.count()) == (3, 3)


def test_a_round_is_drawn_from_a_share(client: Client, round: ReviewRound) -> None:
    client.post(
        url("review_rounds", round.project),
        {"criticism_run": round.criticism_run_id, "budget": "25", "unit": "share"},
    )

    assert round.project.review_rounds.exclude(pk=round.pk).get().budget == 1


@pytest.mark.parametrize(
    ("budget", "unit", "sentence"),
    [
        ("", "count", "Enter the budget"),
        ("many", "count", "Enter the budget as a number."),
        ("-1", "count", "must be more than 0"),
        ("0", "count", "budget"),
        ("2.5", "count", "A number of items is a whole number."),
        ("5", "count", "budget"),
        ("101", "share", "A share is at most 100%."),
        ("0.1", "share", "less than one review"),
        ("5", "dozens", "dozens"),
    ],
)
def test_a_bad_budget_is_answered_with_a_sentence(
    client: Client, round: ReviewRound, budget: str, unit: str, sentence: str
) -> None:
    form = {"criticism_run": round.criticism_run_id, "budget": budget, "unit": unit}

    response = client.post(url("review_rounds", round.project), form)
    preview = text_of(client, url("review_round_preview", round.project), data=form, headers=HTMX)

    errors = re.findall(r'class="errorlist"[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)
    assert response.status_code == 200
    assert sentence in "".join(errors)
    assert sentence in preview
    assert round.project.review_rounds.count() == 1


def test_runs_of_other_projects_and_unfinished_ones_cannot_be_chosen(
    client: Client, round: ReviewRound
) -> None:
    other = make_project(owner=round.created_by)
    make_items(other, 1)
    foreign = make_criticism_run(make_annotation_run(other))
    unfinished = make_criticism_run(make_annotation_run(round.project), state=Job.State.RUNNING)

    for run in (foreign, unfinished):
        response = client.post(
            url("review_rounds", round.project), {"criticism_run": run.pk, "budget": 1, "unit": "count"}
        )
        assert "Choose one of this project&#x27;s finished criticism runs." in response.content.decode()


def test_the_preview_says_what_would_be_selected(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    make_items(project, 4)
    run = make_criticism_run(make_annotation_run(project), [0.1, 0.9, 0.5, 0.5])

    part = text_of(
        client,
        url("review_round_preview", project),
        data={"criticism_run": run.pk, "budget": 2, "unit": "count"},
        headers=HTMX,
    )

    assert "<html" not in part
    assert "of 4 items" in part
    assert "<dd>0.500<" in part  # τ
    assert "<dd>1<small>of 2," in part  # 0.9 + 0.5 of 2.0 expected errors
    assert "2 items lie exactly at the cut; 1 of them" in part
    assert "drawn from this criticism already" not in part
    assert not project.review_rounds.exists()


def test_the_preview_warns_of_a_second_round(client: Client, round: ReviewRound) -> None:
    form = {"criticism_run": round.criticism_run_id, "budget": 2, "unit": "count"}

    part = text_of(client, url("review_round_preview", round.project), data=form)

    assert "A round was drawn from this criticism already" in part


def test_the_list_shows_progress_in_as_many_queries_for_many_rounds(
    client: Client, round: ReviewRound
) -> None:
    review_next(round, "negative")
    assert "1 of 2" in text_of(client, url("review_rounds", round.project))
    one = queries_of(client, url("review_rounds", round.project))
    run = round.criticism_run
    for _ in range(3):
        client.post(
            url("review_rounds", round.project),
            {"criticism_run": run.pk if run else 0, "budget": 1, "unit": "count"},
        )
    client.get(url("review_rounds", round.project))
    assert queries_of(client, url("review_rounds", round.project)) == one


# --- One round -------------------------------------------------------------------------------------------------------


def test_a_round_shows_progress_reviewers_accuracy_and_history(client: Client, round: ReviewRound) -> None:
    reviewer = make_user("rosa")
    round.project.memberships.create(user=reviewer, role="reviewer")
    review_next(round, "negative", user=reviewer)
    answer_undo(round=round, user=reviewer)
    review_next(round, "positive", user=reviewer)
    review_next(round, reason="No label fits")

    page = text_of(client, url("review_round", round.project, round.pk))

    assert "rosa" in page
    assert "History (3)" in page
    assert "took it back" in page
    assert "skipped: No label fits" in page
    assert "corrected</span>" in page
    assert re.search(r"Machine alone</dt><dd>0\.0%", page)
    assert re.search(r"Final labels</dt><dd>25\.0%", page)


def test_progress_is_sent_alone_and_asked_for_until_all_is_reviewed(
    client: Client, round: ReviewRound
) -> None:
    address = url("review_round", round.project, round.pk) + "?part=progress"

    before = text_of(client, address, headers=HTMX)
    review_next(round, "negative")
    review_next(round, "negative")
    after = text_of(client, address, headers=HTMX)

    assert "<html" not in before
    assert "every 5s" in before
    assert "every 5s" not in after
    assert "<html" in text_of(client, address)


def test_a_round_takes_as_many_queries_for_many_answers(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    round = make_reviewable_round(30, 30)
    client.force_login(round.created_by)
    for _ in range(30):
        review_next(round, "negative")

    with django_assert_max_num_queries(50):
        client.get(url("review_round", round.project, round.pk))


def test_answers_are_listed_by_page(client: Client) -> None:
    round = make_reviewable_round(51, 51)
    client.force_login(round.created_by)
    for _ in range(51):
        review_next(round, "negative")
    last = round.tasks.get(rank=50).item.external_id

    assert last not in text_of(client, url("review_round", round.project, round.pk))
    assert last in text_of(client, url("review_round", round.project, round.pk) + "?page=2")


def test_a_round_is_closed_and_reopened(client: Client, round: ReviewRound) -> None:
    for action, state in (("close", "closed"), ("reopen", "open")):
        response = client.post(url("review_round_action", round.project, round.pk, action))
        assert response.headers["Location"] == url("review_round", round.project, round.pk)
        round.refresh_from_db()
        assert round.state == state
    assert client.post(url("review_round_action", round.project, round.pk, "burn")).status_code == 404


def test_a_blind_round_shows_nothing_of_the_machine(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    make_items(project, 3)
    make_annotation_run(project)
    round = make_calibration_round(project, 2)
    review_next(round, "negative")

    page = text_of(client, url("review_round", project, round.pk))

    assert "Calibration round" in page
    assert "labeled blind" in page
    assert "Machine" not in page
    assert "Corrected" not in page
    assert url("exports", project) + "?round" not in page


# --- The review screen -----------------------------------------------------------------------------------------------


def data_of(page: str, name: str) -> Any:
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_review_screen_brings_labels_and_progress(client: Client, round: ReviewRound) -> None:
    hostile = "</script><script>alert(1)</script>"
    round.project.labels.create(name=hostile, position=2, description="<b>bold</b>")

    page = text_of(client, url("review", round.project, round.pk))

    assert [label["name"] for label in data_of(page, "labels-data")] == ["negative", "positive", hostile]
    assert data_of(page, "progress-data")["selected"] == 2
    assert "<script>alert" not in page
    assert "<b>bold" not in page
    assert 'id="accept-button"' in page
    assert 'id="machine"' in page


def test_the_screen_of_a_blind_round_has_no_place_for_the_machine(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    make_items(project, 3)
    round = make_calibration_round(project, 2)

    page = text_of(client, url("review", project, round.pk))

    assert 'id="accept-button"' not in page
    assert 'id="machine"' not in page
    assert 'id="criticism"' not in page


# --- Who and how -----------------------------------------------------------------------------------------------------


def test_viewers_see_rounds_but_do_not_draw_review_or_close(client: Client, round: ReviewRound) -> None:
    project = round.project
    viewer = make_user()
    project.memberships.create(user=viewer, role="viewer")
    client.force_login(viewer)

    rounds = text_of(client, url("review_rounds", project))
    page = text_of(client, url("review_round", project, round.pk))

    assert "round-form" not in rounds
    assert "Close the round" not in page
    assert client.get(url("review", project, round.pk)).status_code == 403
    assert client.post(url("review_rounds", project), {}).status_code == 403
    assert client.get(url("review_round_preview", project)).status_code == 403
    assert client.post(url("review_round_action", project, round.pk, "close")).status_code == 403


def test_for_strangers_there_is_no_such_project(client: Client, round: ReviewRound) -> None:
    client.force_login(make_user())

    for method, address in [
        ("get", url("review_rounds", round.project)),
        ("post", url("review_rounds", round.project)),
        ("get", url("review_round_preview", round.project)),
        ("get", url("review_round", round.project, round.pk)),
        ("get", url("review", round.project, round.pk)),
        ("post", url("review_round_action", round.project, round.pk, "close")),
    ]:
        assert getattr(client, method)(address).status_code == 404, address


def test_a_round_is_found_in_its_own_project_only(client: Client, round: ReviewRound) -> None:
    other = make_project(owner=round.created_by)

    assert client.get(url("review_round", other, round.pk)).status_code == 404
    assert client.get(url("review", other, round.pk)).status_code == 404
    assert client.post(url("review_round_action", other, round.pk, "close")).status_code == 404


def test_wrong_verbs_are_refused(client: Client, round: ReviewRound) -> None:
    assert client.delete(url("review_rounds", round.project)).status_code == 405
    assert client.post(url("review_round_preview", round.project)).status_code == 405
    assert client.post(url("review_round", round.project, round.pk)).status_code == 405
    assert client.post(url("review", round.project, round.pk)).status_code == 405
    assert client.get(url("review_round_action", round.project, round.pk, "close")).status_code == 405


# --- Reviewers: settings, known items, assignment --------------------------------------------------------------------


@pytest.fixture
def ann(round: ReviewRound) -> User:
    """A reviewer of the round's project."""
    reviewer = make_user("ann")
    round.project.memberships.create(user=reviewer, role="reviewer")
    return reviewer


def draw(client: Client, round: ReviewRound, **fields: object) -> Any:
    form = {"criticism_run": round.criticism_run_id, "budget": "2", "unit": "count", **fields}
    return client.post(url("review_rounds", round.project), form)


def test_a_round_is_drawn_with_what_the_form_says_of_reviewers(client: Client, round: ReviewRound) -> None:
    draw(
        client,
        round,
        display="random",
        overlap_share="50",
        overlap="3",
        gold_rate="12.5",
        gold_threshold="70",
        gold_minimum="8",
    )

    drawn = round.project.review_rounds.exclude(pk=round.pk).get()
    assert RoundSetup.of(drawn) == RoundSetup(
        display="random", overlap=3, overlap_share=0.5, gold_rate=0.125, gold_threshold=0.7, gold_minimum=8
    )
    assert drawn.tasks.count() == 4  # of two items one is answered by three people


def test_what_is_said_of_people_and_thresholds_counts_only_with_a_share(
    client: Client, round: ReviewRound
) -> None:
    draw(client, round, overlap_share="0", overlap="3", gold_rate="0", gold_threshold="70", gold_minimum="8")

    drawn = round.project.review_rounds.exclude(pk=round.pk).get()
    assert (drawn.overlap, drawn.gold_threshold) == (1, None)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"display": "half"}, "What reviewers see is one of"),
        ({"overlap_share": "101"}, "lies between 0 and 100%"),
        ({"overlap_share": "nan"}, "lies between 0 and 100%"),
        ({"overlap_share": "10", "overlap": "10"}, "2 to 9 people"),
        ({"gold_rate": "51"}, "between 0 and 50%"),
        ({"gold_rate": "10", "gold_threshold": "0"}, "lies above 0 and is at most 1"),
        ({"gold_rate": "10", "gold_minimum": "0"}, "from 1 to 1,000 known items"),
    ],
)
def test_a_bad_setting_is_answered_with_a_sentence_and_unfolded(
    client: Client, round: ReviewRound, fields: dict[str, str], sentence: str
) -> None:
    page = draw(client, round, **fields).content.decode()

    assert sentence in page
    assert re.search(r'<details class="disclosure" open>\s*<summary>Reviewers', page)
    assert round.project.review_rounds.count() == 1


def test_the_preview_counts_further_readings_and_known_items(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    make_items(project, 10)
    make_items(project, 10, gold="positive")
    run = make_criticism_run(make_annotation_run(project))

    part = text_of(
        client,
        url("review_round_preview", project),
        data={
            "criticism_run": run.pk,
            "budget": 10,
            "unit": "count",
            "overlap_share": 40,
            "overlap": 2,
            "gold_rate": 30,
        },
    )

    assert "10 items, 4 further readings, about 6 known" in part  # 14 · 0.3 / 0.7
    assert "<dd>20<small>" in part
    assert "10 items have a known label" in part


def test_the_preview_says_that_there_is_no_known_item(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    make_items(project, 2)
    run = make_criticism_run(make_annotation_run(project))
    form = {"criticism_run": run.pk, "budget": 1, "unit": "count", "gold_rate": 10}

    assert "No item has a known label" in text_of(client, url("review_round_preview", project), data=form)
    make_calibration_label(make_items(project, 1)[0], "positive")
    assert "No known item can be shown like the others" in text_of(
        client, url("review_round_preview", project), data=form
    )


def test_settings_of_an_open_round_change_what_waits(client: Client, round: ReviewRound) -> None:
    review_next(round, "negative")

    client.post(
        url("round_setup", round.project, round.pk),
        {"display": "label", "gold_rate": "10", "gold_minimum": "5"},
    )

    round.refresh_from_db()
    assert (round.display, round.gold_rate, round.gold_minimum) == ("label", 0.1, 5)
    assert dict(round.tasks.values_list("state", "arm")) == {"answered": "criticism", "waiting": "label"}
    assert Change.objects.filter(action="round settings changed").count() == 1


def test_a_bad_setting_of_an_open_round_changes_nothing(client: Client, round: ReviewRound) -> None:
    response = client.post(
        url("round_setup", round.project, round.pk), {"display": "label", "gold_rate": "90"}
    )

    assert "between 0 and 50%" in response.content.decode()
    round.refresh_from_db()
    assert round.display == "criticism"


def test_settings_of_a_closed_round_stay(client: Client, round: ReviewRound) -> None:
    round_close(round=round, user=round.created_by)

    response = client.post(url("round_setup", round.project, round.pk), {"display": "label"})

    assert "The round is closed" in response.content.decode()
    assert "work-form" not in text_of(client, url("review_round", round.project, round.pk))


def test_reviewers_are_paused_and_let_on(client: Client, round: ReviewRound, ann: User) -> None:
    def act(action: str) -> str:
        address = url("round_reviewer", round.project, round.pk, ann.pk, action)
        return client.post(address, follow=True).content.decode()

    assert "ann is handed nothing more" in act("pause")
    page = text_of(client, url("review_round", round.project, round.pk))
    assert ">Paused</span>" in page
    assert "Lift the pause" in page
    assert "paused in this round already" in act("pause")
    assert "ann can go on" in act("lift")
    assert "ann is not paused" in act("lift")
    address = url("round_reviewer", round.project, round.pk, ann.pk, "praise")
    assert client.post(address).status_code == 404


def test_items_are_assigned_by_shares_and_handed_back(client: Client, round: ReviewRound, ann: User) -> None:
    fields = text_of(client, url("assignment_fields", round.project, round.pk), data={"by": "shares"})
    sent = {"by": "shares", f"share-{ann.pk}": "50"}
    counts = text_of(client, url("assignment_counts", round.project, round.pk), data=sent)

    assert f'name="share-{ann.pk}"' in fields
    assert re.search(r"ann</td><td[^>]*>1</td>", counts)
    assert not round.tasks.filter(assigned_to=ann).exists()

    response = client.post(url("round_assign", round.project, round.pk), sent, follow=True)

    assert "1 of 2 waiting items are assigned" in response.content.decode()
    assert round.tasks.filter(assigned_to=ann).count() == 1
    address = url("round_reviewer", round.project, round.pk, ann.pk, "hand-back")
    assert "1 items of ann are open to all again" in client.post(address, follow=True).content.decode()


@pytest.mark.parametrize(
    ("share", "sentence"), [("many", "Enter the share of ann as a number."), ("120", "between 0 and 100%")]
)
def test_a_bad_share_is_answered_with_a_sentence_and_kept(
    client: Client, round: ReviewRound, ann: User, share: str, sentence: str
) -> None:
    sent = {"by": "shares", f"share-{ann.pk}": share}

    page = client.post(url("round_assign", round.project, round.pk), sent).content.decode()

    assert sentence in page
    assert f'value="{share}"' in page
    assert sentence in text_of(client, url("assignment_counts", round.project, round.pk), data=sent)


def test_items_are_assigned_by_label_and_column(client: Client, round: ReviewRound, ann: User) -> None:
    first, second = (task.item for task in round.tasks.select_related("item"))
    for item, language in ((first, "nl"), (second, "da")):
        item.columns = {"language": language}
        item.save()
    negative = label_named(round.project, "negative")
    address = url("assignment_fields", round.project, round.pk)

    by_label = text_of(client, address, data={"by": "label"})
    by_column = text_of(client, address, data={"by": "slice:language"})
    client.post(
        url("round_assign", round.project, round.pk),
        {"by": "slice:language", "group-0": "da", "people-0": [str(ann.pk)]},
    )

    assert re.search(rf'name="group-0" value="{negative.pk}"', by_label)
    assert 'value="nl"' in by_column
    assert list(round.tasks.filter(assigned_to=ann).values_list("item", flat=True)) == [second.pk]


def test_viewers_see_a_round_without_forms_and_reviewers_do_not_see_it(
    client: Client, round: ReviewRound, ann: User
) -> None:
    viewer = make_user("vera")
    round.project.memberships.create(user=viewer, role="viewer")
    address = url("review_round", round.project, round.pk)

    client.force_login(viewer)
    page = text_of(client, address)
    client.force_login(ann)

    main = page[page.index("<main") :]
    assert "ann" in main
    assert "<form" not in main
    assert url("review", round.project, round.pk) not in main
    assert client.get(address).status_code == 403


def test_known_items_answered_otherwise_are_shown_to_managers_alone(client: Client) -> None:
    project = make_project()
    make_items(project, 8)
    make_items(project, 8, gold="positive")
    run = make_criticism_run(make_annotation_run(project))
    owner = project.created_by
    round = round_create(run=run, user=owner, count=8, setup=RoundSetup(gold_rate=0.5))
    while tasks := tasks_claim(round=round, user=owner):
        for task in tasks:
            answer = Answer(action="label", label=label_named(project, "negative"), seconds=4.0)
            task_submit(task=task, user=owner, answer=answer)
    known = round.tasks.filter(purpose="gold").count()
    viewer = make_user("vera")
    project.memberships.create(user=viewer, role="viewer")

    client.force_login(owner)
    page = text_of(client, url("review_round", project, round.pk))
    client.force_login(viewer)
    for_viewer = text_of(client, url("review_round", project, round.pk))

    assert known
    assert f"0 of {known}, 0%" in page
    assert "Known items that were answered otherwise" in page
    assert "Known items that were answered otherwise" not in for_viewer
    assert page.count("4 s</span></td>") == 8  # known items are no answers of the round


def test_several_people_label_for_calibration(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    make_items(project, 4)

    client.post(
        url("calibration", project), {"from": "person", "count": "4", "overlap_share": "50", "overlap": "2"}
    )

    round = project.review_rounds.get()
    assert (round.overlap, round.overlap_share, round.display) == (2, 0.5, "blind")
    assert round.tasks.count() == 6
