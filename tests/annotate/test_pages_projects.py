"""The project list, a new project, and a project's settings."""

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from annotate.models import Label, Membership, Project
from tests.factories import make_items, make_project, make_reviewable_round, make_user

pytestmark = pytest.mark.django_db

NASTY = "<script>alert(1)</script>"


def test_nobody_sees_the_projects_of_others(client: Client) -> None:
    make_project(name="Secret")
    mine = make_project(name="Mine")
    client.force_login(mine.created_by)
    page = client.get("/").content.decode()
    assert "Mine" in page
    assert "Secret" not in page


def test_without_projects_the_list_says_how_to_begin(client: Client) -> None:
    client.force_login(make_user())
    page = client.get("/").content.decode()
    assert "No projects yet" in page
    assert "/projects/new/" in page


def test_the_list_asks_as_often_for_five_projects_as_for_one(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    user = make_user()
    for _ in range(5):
        make_reviewable_round(owner=user)
    client.force_login(user)
    with django_assert_max_num_queries(19):
        page = client.get("/").content.decode()
    assert page.count("Review 2 items") == 5


def test_a_name_with_html_is_shown_as_text(client: Client) -> None:
    project = make_project(name=NASTY, labels=("<b>bold</b>", "plain"), instructions=f"{NASTY} & more")
    client.force_login(project.created_by)
    for path in ("/", f"/projects/{project.pk}/", f"/projects/{project.pk}/settings/"):
        page = client.get(path).content.decode()
        assert NASTY not in page, path
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page, path
        assert "<b>bold</b>" not in page, path


def test_a_new_project_leads_to_its_uploads(client: Client) -> None:
    user = make_user()
    client.force_login(user)
    sent = client.post(
        "/projects/new/",
        {
            "name": "Mail",
            "task_type": "text_classification",
            "labels": "spam\n\n ham \n",
            "instructions": "Decide.",
        },
    )
    project = Project.objects.get()
    assert sent.headers["Location"] == f"/projects/{project.pk}/uploads/"
    assert [label.name for label in project.labels.all()] == ["spam", "ham"]
    assert project.memberships.get().role == Membership.Role.OWNER


def test_a_label_listed_twice_is_refused_at_its_field_and_nothing_typed_is_lost(client: Client) -> None:
    client.force_login(make_user())
    sent = client.post(
        "/projects/new/",
        {
            "name": "Mail",
            "task_type": "text_classification",
            "labels": "spam\nspam",
            "instructions": "Decide well.",
        },
    )
    page = sent.content.decode()
    assert sent.status_code == 422
    assert "The label “spam” is listed twice" in page
    assert "spam\nspam" in page
    assert "Decide well." in page
    assert 'value="text_classification" required checked' in page
    assert not Project.objects.exists()


def test_a_project_needs_a_name_and_a_task(client: Client) -> None:
    client.force_login(make_user())
    page = client.post("/projects/new/", {"name": " ", "task_type": "guessing"}).content.decode()
    assert "This field is required" in page
    assert not Project.objects.exists()


SETTINGS_PATHS = (
    "",
    "labels/",
    "labels/{label}/",
    "labels/{label}/delete/",
    "delete/",
)


@pytest.mark.parametrize("path", SETTINGS_PATHS)
def test_only_owners_reach_the_settings(client: Client, path: str) -> None:
    reviewer = make_user()
    project = make_project(reviewers=[reviewer])
    label, member = project.labels.all()[0], project.memberships.all()[0]
    url = f"/projects/{project.pk}/settings/" + path.format(label=label.pk, member=member.pk)
    client.force_login(make_user())
    assert client.post(url).status_code == 404
    client.force_login(reviewer)
    assert client.post(url).status_code == 403
    assert Label.objects.filter(pk=label.pk).exists()
    assert Membership.objects.filter(pk=member.pk).exists()


@pytest.mark.parametrize("path", [path for path in SETTINGS_PATHS if path])
def test_changes_need_post(client: Client, path: str) -> None:
    project = make_project()
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/settings/" + path.format(label=1, member=1)
    assert client.get(url).status_code == 405


def test_name_and_guidelines_are_saved(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    client.post(f"/projects/{project.pk}/settings/", {"name": "New name", "instructions": "Be fair."})
    project.refresh_from_db()
    assert (project.name, project.instructions) == ("New name", "Be fair.")


def test_labels_are_added_renamed_described_and_deleted(client: Client) -> None:
    project = make_project(labels=("one", "two"))
    client.force_login(project.created_by)
    base = f"/projects/{project.pk}/settings/labels/"
    client.post(base, {"name": "three", "description": "The third."})
    first = project.labels.get(name="one")
    client.post(f"{base}{first.pk}/", {"name": "uno", "description": "The first."})
    client.post(f"{base}{project.labels.get(name='two').pk}/delete/")
    assert list(project.labels.values_list("position", "name", "description")) == [
        (0, "uno", "The first."),
        (1, "three", "The third."),
    ]


def test_a_refused_label_is_shown_open_with_what_was_typed(client: Client) -> None:
    project = make_project(labels=("one", "two"))
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/settings/labels/{project.labels.get(name='two').pk}/"
    sent = client.post(url, {"name": "one", "description": "typed just now"})
    page = sent.content.decode()
    assert sent.status_code == 422
    assert "There is a label “one” already." in page
    assert "typed just now" in page
    assert page.count('<details class="label-row" open>') == 1


def test_a_label_in_use_is_not_deleted(client: Client) -> None:
    project = make_project()
    make_items(project, 1, gold="positive")
    client.force_login(project.created_by)
    label = project.labels.get(name="positive")
    answer = client.post(f"/projects/{project.pk}/settings/labels/{label.pk}/delete/", follow=True)
    assert "is in use and cannot be deleted" in answer.content.decode()
    assert Label.objects.filter(pk=label.pk).exists()


def test_a_label_of_another_project_is_out_of_reach(client: Client) -> None:
    mine, other = make_project(), make_project(name="Other")
    client.force_login(mine.created_by)
    label = other.labels.all()[0]
    for action in ("", "delete/"):
        url = f"/projects/{mine.pk}/settings/labels/{label.pk}/{action}"
        assert client.post(url, {"name": "taken"}).status_code == 404


def test_a_project_is_deleted_by_typing_its_name(client: Client) -> None:
    project = make_project(name="Tweets")
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/settings/delete/"
    refused = client.post(url, {"confirm_name": "tweet"})
    assert refused.status_code == 422
    assert Project.objects.filter(pk=project.pk).exists()
    assert client.post(url, {"confirm_name": "Tweets"}).headers["Location"] == "/"
    assert not Project.objects.filter(pk=project.pk).exists()
