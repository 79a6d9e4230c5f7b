"""The two levels of a project's pages at the top of each of them."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Membership, Project, User
from tests.factories import make_item, make_membership, make_project, make_user
from tests.written_answers import make_written_project

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project()


def levels(client: Client, project: Project, user: User, name: str, *args: int) -> dict[str, list[str]]:
    """The titles of each level's pages by its name; what is current is in brackets, a group that it is in in braces."""
    client.force_login(user)
    html = client.get(reverse(name, args=[project.pk, *args])).content.decode()
    found = {}
    for title, links in re.findall(r'<nav class="(?:sub)?tabs" aria-label="([^"]+)">(.*?)</nav>', html, re.S):
        pages = re.findall(r'<a href="[^"]+"(?: aria-current="(\w+)")?>([^<]+)', links)
        marks = {"": "{}", "page": "[{}]", "true": "{{{}}}"}
        found[title] = [marks[current].format(words.strip()) for current, words in pages]
    return found


def test_the_second_level_shows_the_pages_of_the_current_group(client: Client, project: Project) -> None:
    found = levels(client, project, project.created_by, "items")

    assert found == {
        "Project": ["Overview", "{Data}", "Models", "Review", "Routing", "Exports", "Team", "Settings"],
        "Data": ["Uploads", "[Items]", "Guidelines", "Comments"],
    }


def test_a_page_within_a_page_belongs_to_it(client: Client, project: Project) -> None:
    item, label = make_item(project), project.labels.earliest("pk")
    of = project.created_by

    assert "[Items]" in levels(client, project, of, "item", item.pk)["Data"]
    assert "[Guidelines]" in levels(client, project, of, "label_guideline", label.pk)["Data"]
    assert levels(client, project, of, "dashboard")["Overview"] == ["Overview", "[Dashboard]"]


def test_a_group_of_one_page_is_that_page(client: Client, project: Project) -> None:
    found = levels(client, project, project.created_by, "exports")

    assert list(found) == ["Project"]
    assert "[Exports]" in found["Project"]


def test_reviewers_have_one_level(client: Client, project: Project) -> None:
    reviewer = make_membership(project, make_user(), Membership.Role.REVIEWER).user

    assert levels(client, project, reviewer, "guidelines") == {"Project": ["Overview", "[Guidelines]"]}


def test_written_answers_have_neither_calibration_nor_candidates(client: Client) -> None:
    project = make_written_project()

    assert levels(client, project, project.created_by, "annotation_runs")["Models"] == [
        "[Annotation]",
        "Criticism",
    ]
