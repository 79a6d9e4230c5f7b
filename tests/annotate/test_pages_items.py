"""The list of items, an item's page, and its image."""

import pytest
from django.test import Client

from annotate.models import StoredImage
from review.services.queue import Answer, task_submit, tasks_claim
from tests.factories import (
    make_annotation_run,
    make_calibration_round,
    make_criticism_run,
    make_item,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db


def test_a_reviewer_does_not_look_through_the_items(client: Client) -> None:
    reviewer = make_user()
    project = make_project(reviewers=[reviewer])
    item = make_item(project, gold="positive")
    client.force_login(reviewer)
    for path in ("", f"{item.pk}/"):
        assert client.get(f"/projects/{project.pk}/items/{path}").status_code == 403


def test_an_item_shows_everything_that_is_known(client: Client) -> None:
    round = make_reviewable_round(items=2, budget=2)
    owner = round.created_by
    task = tasks_claim(round=round, user=owner)[0]
    label = round.project.labels.get(name="positive")
    task_submit(task=task, user=owner, answer=Answer(action="label", label=label, seconds=4.2))
    client.force_login(owner)
    page = client.get(f"/projects/{round.project_id}/items/{task.item_id}/").content.decode()
    for part in (
        task.item.text,
        "negative",
        "It reads like one.",
        "error probability 0.900",
        "It could be meant",
    ):
        assert part in page
    assert "What people said" in page
    assert "counts" in page


def test_html_in_an_item_is_shown_as_text(client: Client) -> None:
    project = make_project(labels=("<u>one</u>", "two"))
    nasty = "<img src=x onerror=alert(1)>"
    item = make_item(project, text=nasty, external_id="<b>id", columns={"<i>c": nasty}, gold="<u>one</u>")
    make_criticism_run(make_annotation_run(project, {item: "<u>one</u>"}))
    client.force_login(project.created_by)
    for path in ("", f"{item.pk}/"):
        page = client.get(f"/projects/{project.pk}/items/{path}").content.decode()
        for raw in (nasty, "<b>id", "<i>c", "<u>one"):
            assert raw not in page, (path, raw)
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_an_item_that_waits_to_be_labeled_blind_hides_the_machine(client: Client) -> None:
    project = make_project()
    item = make_item(project)
    make_annotation_run(project)
    make_calibration_round(project, 1)
    client.force_login(project.created_by)
    page = client.get(f"/projects/{project.pk}/items/{item.pk}/").content.decode()
    assert "waits to be labeled blind" in page
    assert "It reads like one." not in page


def test_items_are_for_members(client: Client) -> None:
    project, other = make_project(), make_project(name="Other")
    item = make_item(project)
    client.force_login(make_user())
    assert client.get(f"/projects/{project.pk}/items/").status_code == 404
    assert client.get(f"/projects/{project.pk}/items/{item.pk}/").status_code == 404
    client.force_login(other.created_by)
    assert client.get(f"/projects/{other.pk}/items/{item.pk}/").status_code == 404
    assert client.get(f"/projects/{other.pk}/items/{item.pk}/image/").status_code == 404


@pytest.mark.parametrize("path", ["", "{item}/", "{item}/image/"])
def test_items_are_only_read(client: Client, path: str) -> None:
    project = make_project("image_classification")
    item = make_item(project)
    client.force_login(project.created_by)
    assert client.post(f"/projects/{project.pk}/items/" + path.format(item=item.pk)).status_code == 405


def test_an_image_is_served_so_that_nothing_in_it_can_run(client: Client) -> None:
    project = make_project("image_classification")
    item = make_item(project)
    client.force_login(project.created_by)
    answer = client.get(f"/projects/{project.pk}/items/{item.pk}/image/")
    assert b"".join(answer.streaming_content).startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["Content-Disposition"] == f'inline; filename="item-{item.pk}.png"'
    assert answer.headers["Cache-Control"].startswith("private")
    again = client.get(answer.request["PATH_INFO"], headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_an_image_of_a_type_that_is_not_on_the_list_is_not_served(client: Client) -> None:
    project = make_project("image_classification")
    item = make_item(project)
    StoredImage.objects.update(media_type="image/svg+xml")
    client.force_login(project.created_by)
    assert client.get(f"/projects/{project.pk}/items/{item.pk}/image/").status_code == 404


def test_a_text_has_no_image(client: Client) -> None:
    project = make_project()
    item = make_item(project)
    client.force_login(project.created_by)
    assert client.get(f"/projects/{project.pk}/items/{item.pk}/image/").status_code == 404
