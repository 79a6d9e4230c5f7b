"""The parts of pages that htmx asks for, and the browser's cache."""

import pytest
from django.test import Client

from tests.factories import make_project

pytestmark = pytest.mark.django_db


def test_the_back_button_finds_no_part_of_a_page_in_the_cache(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    address = f"/projects/{project.pk}/"
    part = client.get(address, headers={"HX-Request": "true"})
    assert "<html" not in part.content.decode()
    assert part.headers["Cache-Control"] == "no-store"


def test_a_whole_page_may_be_kept_for_the_back_button(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    page = client.get(f"/projects/{project.pk}/")
    assert "<html" in page.content.decode()
    assert "Cache-Control" not in page.headers
