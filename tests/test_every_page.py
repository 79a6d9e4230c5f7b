"""What holds for every page and every form on them. One that is not in the tables of `tests/pages.py` fails here."""

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern

from tests.api.endpoints import ROLES, Expected
from tests.api.test_every_endpoint import rolled_back
from tests.api.world import World, make_world
from tests.pages import GETS, POSTS, page_address, page_patterns

pytestmark = pytest.mark.django_db

# The style guide is there in development alone.
PATTERNS = [pattern for pattern in page_patterns() if pattern.name != "styleguide"]


@pytest.fixture
def world() -> World:
    return make_world()


def browser_of(world: World, role: str) -> Client:
    client = Client()
    person = world.person(role)
    if person is not None:
        client.force_login(person)
    return client


def status_of(world: World, role: str, verb: str, pattern: URLPattern) -> int:
    """The status; 401 for whoever is sent to the page to sign in."""
    address = page_address(pattern, world)
    response = getattr(browser_of(world, role), verb)(address)
    if response.status_code == 302 and response.headers["Location"].startswith(
        f"/accounts/sign-in/?next={address}"
    ):
        return 401
    return int(response.status_code)


def test_every_page_and_form_has_its_row() -> None:
    names = [pattern.name or "" for pattern in PATTERNS]

    assert len(names) == len(set(names))
    assert set(names) == set(GETS) | set(POSTS)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_each_person_may_open_the_pages_that_the_table_says(pattern: URLPattern, world: World) -> None:
    assert pattern.name is not None
    expected = GETS.get(pattern.name)

    statuses = Expected(*(status_of(world, role, "get", pattern) for role in ROLES))

    if expected is None:
        assert statuses.owner == 405, "This address answers GET: it needs a row in GETS."
    else:
        assert statuses == expected


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_each_person_may_send_the_forms_that_the_table_says(pattern: URLPattern, world: World) -> None:
    assert pattern.name is not None
    expected = POSTS.get(pattern.name)
    statuses = []
    for role in ROLES:
        with rolled_back():  # the next person finds everything as it was
            statuses.append(status_of(world, role, "post", pattern))

    if expected is None:
        assert statuses[-1] == 405, "This address answers POST: it needs a row in POSTS."
        return
    for role, status, wanted in zip(ROLES, statuses, expected, strict=True):
        if wanted == 200:
            assert status < 500, role
            assert status not in (401, 403, 404, 405), role
        else:
            assert status == wanted, role
