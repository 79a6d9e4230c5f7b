"""What no row can hold, and databases refuse to look for: who asks for it finds nothing, on every database."""

import pytest
from django.test import Client

from tests.api.world import make_world

pytestmark = pytest.mark.django_db


def test_an_address_that_asks_for_nul_finds_nothing() -> None:
    world = make_world()
    client = Client()
    client.force_login(world.owner)
    project = f"/projects/{world.ids['project_id']}/"

    found = {
        path: client.get(project + path).status_code
        for path in (
            "history/?actor=%00",
            f"annotation-runs/{world.ids['annotation_run_id']}/?failure=%00",
            f"criticism-runs/{world.ids['criticism_run_id']}/?failure=%00",
            f"routing/comparisons/{world.ids['judge_run_id']}/?failure=%00",
        )
    }
    gone = {client.get(f"{project}item/{end}").status_code for end in ("a%00", "?external_id=%00")}

    assert set(found.values()) == {200}, found
    assert gone == {404}


def test_a_comment_is_kept_without_nul() -> None:
    world = make_world()
    client = Client()
    client.force_login(world.owner)
    item = f"/projects/{world.ids['project_id']}/items/{world.ids['item_id']}/"

    assert client.post(f"{item}comments/", {"text": "Look\0 here."}).status_code < 400
    assert "Look here." in client.get(item).content.decode()


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000])
def test_a_number_that_no_database_holds_names_nothing(number: str) -> None:
    world = make_world()
    client = Client()
    client.force_login(world.owner)
    project = f"/projects/{world.ids['project_id']}/"

    found = {
        path: client.get(project + path.format(number)).status_code
        for path in (
            "history/?before={}",
            "comments/?before={}",
            f"uploads/{world.ids['upload_id']}/?after={{}}",
            "annotation-runs/models/?connection={}",
            "candidates/models/?connection={}",
            f"items/{world.ids['item_id']}/?round={{}}",
        )
    }

    assert set(found.values()) == {200}, found
    assert client.get(f"{project}dashboard/?round={number}").status_code == 404
    assert client.post(f"{project}examples/", {"label": number}).status_code == 404
