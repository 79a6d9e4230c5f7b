import pytest

from annotate.models import Project
from tests.api.caller import Caller, call, content_of
from tests.factories import (
    make_calibration_label,
    make_image,
    make_item,
    make_items,
    make_project,
    make_user,
    png_bytes,
)

pytestmark = pytest.mark.django_db


def ids(project: Project, query: str) -> list[str]:
    rows = call(project.created_by, "get", f"projects/{project.pk}/items/{query}")["results"]
    return [row["external_id"] for row in rows]


def test_items_are_filtered() -> None:
    project = make_project()
    make_item(project, external_id="a", text="Where is THE cat?")
    make_item(project, external_id="b", text="dog", gold="positive")
    make_calibration_label(make_item(project, external_id="c", text="cow"), "negative")

    assert ids(project, "") == ["a", "b", "c"]
    assert ids(project, "?gold=true") == ["b"]
    assert ids(project, "?gold=false") == ["a", "c"]
    assert ids(project, "?calibration=true") == ["c"]
    assert ids(project, "?search=the cat") == ["a"]
    assert ids(project, "?search=b&gold=true") == ["b"]
    assert ids(project, "?search=%25") == []


@pytest.mark.parametrize("query", ["?gold=perhaps", "?search=%00", "?label=positive"])
def test_a_filter_that_cannot_be_used_is_named(query: str) -> None:
    project = make_project()

    problem = call(project.created_by, "get", f"projects/{project.pk}/items/{query}", status=400)

    assert problem["errors"]


def test_reviewers_do_not_see_which_label_people_gave() -> None:
    reviewer = make_user()
    project = make_project(reviewers=[reviewer])
    item = make_item(project, gold="positive", columns={"source": "a survey"})
    make_calibration_label(item, "negative")

    owners = call(project.created_by, "get", f"items/{item.pk}/")
    problems = [
        call(reviewer, "get", address, status=403)
        for address in (f"items/{item.pk}/", f"projects/{project.pk}/items/?gold=true")
    ]

    assert (owners["gold"]["name"], owners["calibration"]["name"]) == ("positive", "negative")
    assert {problem["detail"] for problem in problems} == {
        "Reviewers see their queue and their own figures. Ask a manager of the project for the rest."
    }


def test_an_image_is_served_so_that_nothing_in_it_can_run() -> None:
    project = make_project("image_classification")
    item = make_item(project, image=make_image(project))
    client = Caller(project.created_by)

    address = call(project.created_by, "get", f"items/{item.pk}/")["image_url"]
    response = client.get(address)

    assert content_of(response) == png_bytes()
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response.headers["Cache-Control"].startswith("private")


def test_an_item_without_an_image_has_none_to_serve() -> None:
    item = make_item(make_project())

    call(item.project.created_by, "get", f"items/{item.pk}/image/", status=404)


def test_an_image_whose_file_is_gone_is_not_found() -> None:
    project = make_project("image_classification")
    item = make_item(project, image=make_image(project, png_bytes("red")))
    assert item.image is not None
    item.image.file.delete(save=False)
    item.image.file = "images/gone.png"
    item.image.save()

    call(project.created_by, "get", f"items/{item.pk}/image/", status=404)


def test_calibration_items_are_drawn_from_gold() -> None:
    project = make_project()
    make_items(project, 4, gold="positive")
    make_item(project)

    state = call(
        project.created_by, "post", f"projects/{project.pk}/calibration/from-gold/", {"count": 3}, status=201
    )

    assert state == {
        "items": 3,
        "from_gold": 3,
        "by_people": 0,
        "gold_left": 1,
        "labels": [{"label": "negative", "count": 0}, {"label": "positive", "count": 3}],
    }
    assert call(project.created_by, "get", f"projects/{project.pk}/calibration/") == state


@pytest.mark.parametrize("count", [0, 5, "many", None])
def test_no_more_calibration_items_than_there_is_gold(count: object) -> None:
    project = make_project()
    make_items(project, 4, gold="positive")

    problem = call(
        project.created_by,
        "post",
        f"projects/{project.pk}/calibration/from-gold/",
        {"count": count},
        status=400,
    )

    assert "count" in problem["errors"]
    assert not project.calibration_labels.exists()
