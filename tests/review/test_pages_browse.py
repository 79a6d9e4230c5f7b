"""The page of all items: what it shows, its address, saved views, and acting on many at once."""

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotate.models import Change, Membership, SavedView
from review.models import Correction, ReviewRound
from review.views import browse
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_item,
    make_items,
    make_membership,
    make_project,
    make_reviewable_round,
    make_user,
)
from tests.review.browsing_world import BrowsingWorld, make_browsing_world

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(client: Client) -> BrowsingWorld:
    world = make_browsing_world(11)
    client.force_login(world.project.created_by)
    return world


@pytest.fixture
def round(client: Client) -> ReviewRound:
    round = make_reviewable_round(4, 2)
    client.force_login(round.created_by)
    return round


def address(project_id: int, path: str = "") -> str:
    return f"/projects/{project_id}/items/{path}"


def text_of(client: Client, url: str, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def shown(client: Client, url: str) -> list[int]:
    return [row.item.pk for row in client.get(url).context["rows"]]


@pytest.mark.parametrize("sort", ["id", "error_high", "reviewed"])
def test_its_links_turn_every_page_in_both_directions(
    client: Client, world: BrowsingWorld, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(browse, "ROWS_A_PAGE", 13)
    url = address(world.project.pk)
    forward, query = [], f"sort={sort}"
    while query:
        context = client.get(f"{url}?{query}").context
        forward.append([row.item.pk for row in context["rows"]])
        newer, query = context["newer"], context["older"]
    assert sorted(pk for page in forward for pk in page) == [item.pk for item in world.items]
    assert f"sort={sort}" in newer or sort == "id"
    assert shown(client, f"{url}?{newer}") == forward[-2]


def test_filters_in_the_address_narrow_the_list(client: Client, world: BrowsingWorld) -> None:
    label = world.labels[0]
    page = client.get(address(world.project.pk), {"label": str(label.pk), "eps_max": "0.5"})

    rows = page.context["rows"]
    assert rows
    assert all(row.machine_label == label and row.error_prob <= 0.5 for row in rows)
    text = page.content.decode()
    assert "Machine: negative" in text
    assert "ε̂ from 0 to 0.5" in text
    assert f'value="{label.pk}" selected' in text


def test_what_makes_no_sense_is_said_and_shows_everything(client: Client, world: BrowsingWorld) -> None:
    page = client.get(
        address(world.project.pk), {"status": "nice", "eps_min": "x", "after": "y", "round": "0"}
    )

    assert len(page.context["rows"]) == browse.ROWS_A_PAGE
    text = page.content.decode()
    assert "There is no status “nice”" in text
    assert "“x” is none" in text
    assert "The project has no round “0”." in text


def test_counts_come_by_themselves(client: Client, world: BrowsingWorld) -> None:
    url = address(world.project.pk)
    whole = client.get(f"{url}?part=count", headers={"HX-Request": "true"}).content.decode()
    some = client.get(f"{url}?part=count&q=fine", headers={"HX-Request": "true"}).content.decode()

    assert f"{len(world.items)} in this project" in whole
    assert re.search(r"\d+ match\b", some)
    assert "part=count" in text_of(client, url)


def test_nothing_yet_and_nothing_matching_say_what_to_do(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    assert "No items yet" in text_of(client, address(project.pk))
    make_item(project)
    nothing = text_of(client, address(project.pk), q="zebra")
    assert "Nothing matches" in nothing
    assert "Clear filters" in nothing


def test_pictures_are_a_grid_or_a_table_as_the_address_says(client: Client) -> None:
    project = make_project("image_classification")
    make_items(project, 2, gold="positive")
    client.force_login(project.created_by)
    url = address(project.pk)

    assert "browse-tiles" in text_of(client, url)
    table = text_of(client, url, view="table")
    assert "browse-table" in table
    assert "view=table" in client.get(url, {"view": "table", "q": "item"}).context["query"]
    texts = make_project()
    make_item(texts)
    client.force_login(texts.created_by)
    assert "browse-tiles" not in text_of(client, address(texts.pk), view="grid")


def test_an_item_that_waits_to_be_labeled_blind_hides_the_machine(client: Client) -> None:
    project = make_project()
    make_item(project)
    make_criticism_run(make_annotation_run(project))
    make_calibration_round(project, 1)
    client.force_login(project.created_by)

    [row] = client.get(address(project.pk)).context["rows"]

    assert (row.status, row.machine_label, row.error_prob) == ("blind", None, None)


@pytest.mark.parametrize("task_type", ["text_classification", "image_classification", "closed_vqa"])
def test_a_page_takes_as_many_queries_however_many_items_it_shows(client: Client, task_type: str) -> None:
    def queries(count: int) -> int:
        project = make_project(task_type)
        for item in make_items(project, count, gold="positive")[::2]:
            make_calibration_label(item, "positive")
        make_criticism_run(make_annotation_run(project))
        client.force_login(project.created_by)
        client.get(address(project.pk))
        with CaptureQueriesContext(connection) as captured:
            client.get(address(project.pk))
        return len(captured)

    assert queries(4) == queries(20) <= 30


def test_viewers_look_and_change_nothing(client: Client, round: ReviewRound) -> None:
    viewer, reviewer = make_user(), make_user()
    make_membership(round.project, viewer, Membership.Role.VIEWER)
    make_membership(round.project, reviewer)
    url = address(round.project_id)
    client.force_login(viewer)
    page = text_of(client, url, q="fine")
    assert "data-bulk" not in page
    assert "Save view" not in page
    for path in ("actions/", "views/", "actions/1/undo/", "views/1/delete/"):
        assert client.post(url + path).status_code == 403
    client.force_login(reviewer)
    assert client.get(url).status_code == 403


def test_a_view_is_saved_again_by_its_name_and_deleted(client: Client, round: ReviewRound) -> None:
    url = address(round.project_id)

    def save(name: str, query: str) -> str:
        return client.post(f"{url}views/", {"name": name, "query": query}).headers["Location"]

    assert (
        save(" Doubtful  ones ", "eps_min=0.5&junk=1&sort=error_high") == f"{url}?eps_min=0.5&sort=error_high"
    )
    save("Doubtful ones", "eps_min=0.7")
    view = SavedView.objects.get()
    assert (view.name, view.query) == ("Doubtful ones", "eps_min=0.7")
    page = client.get(f"{url}?eps_min=0.7")
    assert page.context["saved"] == view
    assert "Doubtful ones" in page.content.decode()
    for name, query in (("", "q=a"), ("x" * 81, "q=a")):
        save(name, query)
    assert SavedView.objects.count() == 1
    assert client.post(f"{url}views/{view.pk}/delete/").status_code == 302
    assert not SavedView.objects.exists()
    actions = list(Change.objects.order_by("pk").values_list("action", flat=True))
    assert actions[-3:] == ["view saved", "view saved", "view deleted"]


def test_many_items_are_changed_after_a_confirmation_and_taken_back(
    client: Client, round: ReviewRound
) -> None:
    url = address(round.project_id)
    label = round.project.labels.get(name="positive")
    form = {"action": "relabel", "label": str(label.pk), "all": "1", "query": "status=machine"}

    asked = client.post(f"{url}actions/", form)
    assert "4 items get the label “positive” as your answer" in asked.content.decode()
    assert not Correction.objects.exists()
    done = client.post(f"{url}actions/", form | {"confirmed": "1"}, follow=True)
    assert Correction.objects.filter(label=label).count() == 4
    assert "4 relabeled." in done.content.decode()
    change = done.context["undo"]
    assert f"actions/{change}/undo/" in done.content.decode()
    back = client.post(f"{url}actions/{change}/undo/", {"query": "status=machine"}, follow=True)
    assert "4 answers were taken back" in back.content.decode()
    assert Correction.objects.filter(action="undo").count() == 4
    again = client.post(f"{url}actions/{change}/undo/", follow=True)
    assert "taken back already" in again.content.decode()


def test_ticked_items_alone_are_changed(client: Client, round: ReviewRound) -> None:
    url = address(round.project_id)
    items = list(round.project.items.order_by("pk"))
    form = {"action": "accept", "item": [items[1].pk, items[3].pk, "x"], "query": ""}

    client.post(f"{url}actions/", form | {"confirmed": "1"})

    assert set(Correction.objects.values_list("task__item", flat=True)) == {items[1].pk, items[3].pk}


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"action": ""}, "Choose what to do"),
        ({"action": "accept"}, "Choose at least one item"),
        ({"action": "relabel", "all": "1"}, "Choose one of the project"),
        ({"action": "assign", "all": "1", "reviewer": "nobody"}, "Choose a member"),
        ({"action": "comment", "all": "1"}, "Write what you want to say"),
    ],
)
def test_what_is_missing_is_asked_for(
    client: Client, round: ReviewRound, form: dict[str, str], words: str
) -> None:
    page = client.post(f"{address(round.project_id)}actions/", form, follow=True)

    assert words in page.content.decode()


def test_html_in_what_people_typed_is_shown_as_text(client: Client, round: ReviewRound) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    make_item(round.project, text=nasty, external_id="<b>id")
    client.post(f"{address(round.project_id)}views/", {"name": nasty, "query": "q=a"})
    page = text_of(client, address(round.project_id), q="<b>id")

    for raw in (nasty, "<b>id"):
        assert raw not in page
