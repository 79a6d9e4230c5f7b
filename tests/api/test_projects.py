from typing import Any

import pytest

from annotate.models import Label, Project
from tests.api.caller import call
from tests.factories import make_annotation_run, make_item, make_items, make_job, make_project, make_user

pytestmark = pytest.mark.django_db

NEW = {"name": "Tweets", "task_type": "text_classification", "labels": ["bad", "good"]}


def test_a_project_is_created_with_its_labels_in_order() -> None:
    owner = make_user()

    made = call(owner, "post", "projects/", NEW | {"instructions": "Feel.", "seed": 7}, status=201)

    assert [label["name"] for label in made["labels"]] == ["bad", "good"]
    assert (made["role"], made["seed"], made["items"]) == ("owner", 7, 0)
    assert call(owner, "get", f"projects/{made['id']}/") == made


def test_a_task_type_brings_its_own_labels() -> None:
    made = call(make_user(), "post", "projects/", {"name": "Q", "task_type": "closed_vqa"}, status=201)

    assert [label["name"] for label in made["labels"]] == ["no", "yes"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "n" * 121}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"task_type": "poetry"}, "task_type"),
        ({"labels": ["same", " same "]}, "labels"),
        ({"labels": "bad,good"}, "labels"),
        ({"seed": -1}, "seed"),
        ({"owner": 3}, "owner"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict[str, Any], field: str) -> None:
    problem = call(make_user(), "post", "projects/", NEW | change, status=400)

    assert list(problem["errors"]) == [field]
    assert not Project.objects.exists()


def test_the_list_holds_the_projects_of_the_person_with_their_role() -> None:
    owner, reviewer = make_user(), make_user()
    own = make_project(owner=reviewer)
    shared = make_project(owner=owner, reviewers=[reviewer])
    make_project(owner=owner)

    results = call(reviewer, "get", "projects/")["results"]

    assert [(row["id"], row["role"]) for row in results] == [(shared.pk, "reviewer"), (own.pk, "owner")]


def test_a_project_counts_its_items() -> None:
    project = make_project()
    make_items(project, 2)
    make_item(project, gold="positive")

    shown = call(project.created_by, "get", f"projects/{project.pk}/")

    assert (shown["items"], shown["gold_items"], shown["calibration_items"]) == (3, 1, 0)


def test_what_a_change_does_not_name_stays() -> None:
    project = make_project(name="Tweets")

    changed = call(project.created_by, "patch", f"projects/{project.pk}/", {"instructions": "Look twice."})

    assert (changed["name"], changed["instructions"]) == ("Tweets", "Look twice.")


@pytest.mark.parametrize("query", ["", "?confirm_name=Other"])
def test_a_project_is_not_deleted_without_its_name(query: str) -> None:
    project = make_project(name="Tweets")

    problem = call(project.created_by, "delete", f"projects/{project.pk}/{query}", status=400)

    assert "confirm_name" in problem["errors"]
    assert Project.objects.filter(pk=project.pk).exists()


def test_a_project_with_a_running_job_is_not_deleted() -> None:
    project = make_project(name="Tweets")
    make_item(project)
    run = make_annotation_run(project)
    run.job = make_job(state="running")
    run.save()

    problem = call(project.created_by, "delete", f"projects/{project.pk}/?confirm_name=Tweets", status=400)

    assert problem["detail"] == "A job of this project is still running. Cancel it first."


def test_labels_are_added_renamed_and_deleted() -> None:
    project = make_project()
    owner = project.created_by

    added = call(owner, "post", f"projects/{project.pk}/labels/", {"name": "mixed"}, status=201)
    renamed = call(owner, "patch", f"labels/{added['id']}/", {"description": "Both at once."})
    first = project.labels.get(position=0)
    call(owner, "delete", f"labels/{first.pk}/", status=204)

    assert (renamed["name"], renamed["description"]) == ("mixed", "Both at once.")
    assert [
        (label["position"], label["name"])
        for label in call(owner, "get", f"projects/{project.pk}/labels/")["results"]
    ] == [(0, "positive"), (1, "mixed")]


@pytest.mark.parametrize("name", ["positive", "", "x" * 201])
def test_a_label_needs_a_name_of_its_own(name: str) -> None:
    project = make_project()

    problem = call(project.created_by, "post", f"projects/{project.pk}/labels/", {"name": name}, status=400)

    assert "name" in problem["errors"]
    assert Label.objects.count() == 2


def test_a_member_joins_changes_role_and_leaves() -> None:
    project, guest = make_project(), make_user("guest")
    owner = project.created_by

    body = {"username": "guest", "role": "reviewer"}
    member = call(owner, "post", f"projects/{project.pk}/members/", body, status=201)
    call(guest, "get", f"projects/{project.pk}/")
    changed = call(owner, "patch", f"members/{member['id']}/", {"role": "owner"})
    call(owner, "delete", f"members/{member['id']}/", status=204)

    assert (member["username"], member["role"], changed["role"]) == ("guest", "reviewer", "owner")
    call(guest, "get", f"projects/{project.pk}/", status=404)


@pytest.mark.parametrize(("username", "role"), [("nobody", "reviewer"), ("guest", "king")])
def test_a_member_needs_an_account_and_a_role(username: str, role: str) -> None:
    project = make_project()
    make_user("guest")

    body = {"username": username, "role": role}
    call(project.created_by, "post", f"projects/{project.pk}/members/", body, status=400)

    assert project.memberships.count() == 1


def test_the_last_owner_stays() -> None:
    project = make_project()
    member = project.memberships.get()

    call(project.created_by, "delete", f"members/{member.pk}/", status=400)
    call(project.created_by, "patch", f"members/{member.pk}/", {"role": "reviewer"}, status=400)

    assert project.memberships.get().role == "owner"
