"""What holds for every page and every form on them. One that is not in the tables of `tests/pages.py` fails here."""

import re

import pytest
from django.test import Client
from django.urls import Resolver404, URLPattern, resolve

from annotate.models import Membership, Upload
from jobs.models import Job
from tests.api.endpoints import ROLES, Expected
from tests.api.test_every_endpoint import rolled_back
from tests.api.world import World, make_world
from tests.factories import make_connection, make_job, make_membership, make_project
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


_OF_PROJECTS = [
    pattern
    for pattern in PATTERNS
    if "project_id" in pattern.pattern.converters
    and pattern.name in GETS
    and GETS[pattern.name].viewer == 200
]


@pytest.mark.parametrize("pattern", _OF_PROJECTS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("state", ["done", "paused", "new"])
def test_a_viewers_pages_offer_nothing_that_they_may_not_do(
    pattern: URLPattern, state: str, world: World
) -> None:
    """No form, and no link to a page that is forbidden them.

    With something of everything, its work done with failures or standing still; and in a project without anything.
    """
    make_connection(world.viewer)
    if state == "done":
        Job.objects.update(state=Job.State.DONE, total=4, done=4, failed=1)
    elif state == "paused":
        Job.objects.update(state=Job.State.PAUSED, failure="spend_limit", reason="The limit is reached.")
        Upload.objects.update(state=Upload.State.IMPORTING, job=make_job(state=Job.State.PAUSED))
    else:
        if set(pattern.pattern.converters) != {"project_id"}:
            pytest.skip("It is about something that a new project does not have.")
        project = make_project(owner=world.owner)
        make_membership(project, world.viewer, Membership.Role.VIEWER)
        world.ids["project_id"] = project.pk
    address = page_address(pattern, world)
    page = browser_of(world, "viewer").get(address)

    assert page.status_code == 200
    if page.headers["Content-Type"].startswith("text/html"):
        html = page.content.decode()
        assert {name for name in sent_by(html, address) if POSTS[name].viewer == 403} == set()
        assert {name for name in led_to_by(html) if name in GETS and GETS[name].viewer == 403} == set()


def sent_by(html: str, address: str) -> set[str]:
    """The names of the addresses that the page's forms and buttons send something to."""
    sent = re.findall(r'(?:hx-(?:post|put|patch|delete)|formaction)="([^"]*)"', html)
    for form in re.findall(r"<form\b[^>]*>", html):
        if re.search(r'method="post"', form, re.IGNORECASE):
            action = re.search(r'\baction="([^"]+)"', form)
            sent.append(action[1] if action else address)
    return names_of(sent)


def led_to_by(html: str) -> set[str]:
    """The names of the addresses that the page links to or asks for."""
    return names_of(re.findall(r'(?:href|hx-get)="([^"]*)"', html))


def names_of(addresses: list[str]) -> set[str]:
    names = set()
    for address in addresses:
        try:
            names.add(resolve(re.split(r"[?#]", address)[0]).url_name or "")
        except Resolver404:
            continue  # of another site, or a file
    return names
