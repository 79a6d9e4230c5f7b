"""Browser tests drive Debian's Chromium (or any other one that is found). Every test in this folder is marked
`browser`.

Without a browser they are skipped, and the test run's summary says how many; with REQUIRE_BROWSER=1 they fail
instead.
"""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer

from annotate.models import User
from jobs.running import run_to_end
from jobs.tasks import run_chunk
from review.models import ReviewRound
from tests.browser.reviewing import Open, address_of

SignedIn = Callable[..., BrowserContext]
FAILED_REQUEST = "Failed to load resource"  # what the console says of a 409 and of a network that fails
# What htmx says where a newer request of a live part replaces one under way.
REPLACED = ("htmx:afterRequest", "htmx:sendAbort")
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",  # Chromium's own sandbox does not work for root, which containers and CI often are
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEWPORTS = {"phone": (390, 844), "tablet": (820, 1180), "laptop": (1366, 768), "desktop": (1920, 1080)}


def find_chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("browser")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the browser tests to the end.

    Playwright's event loop stays the current one of its thread until the session ends: a test that starts a
    loop of its own, or relies on Django's guard against database work inside one, must not run after it.
    """
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session", autouse=True)
def chromium() -> str:
    """The path of the browser."""
    path = find_chromium()
    if path is not None:
        return path
    sentence = f"No browser found: install one of {', '.join(NAMES)}, or set CHROMIUM to its path."
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(f"BROWSER TESTS DID NOT RUN. {sentence}")


@pytest.fixture(scope="session", autouse=True)
def _database_work_beside_the_browsers_loop() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any], chromium: str) -> dict[str, Any]:
    return {**browser_type_launch_args, "executable_path": chromium, "args": FLAGS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    width, height = VIEWPORTS["laptop"]
    return {
        **browser_context_args,
        "viewport": {"width": width, "height": height},
        "reduced_motion": "reduce",
    }


@pytest.fixture(params=list(VIEWPORTS))
def viewport(request: pytest.FixtureRequest, page: Page) -> tuple[int, int]:
    """Runs the test once in each of VIEWPORTS: `page` has that size, (width, height) in CSS pixels."""
    width, height = VIEWPORTS[request.param]
    page.set_viewport_size({"width": width, "height": height})
    return width, height


@pytest.fixture
def signed_in(
    new_context: Callable[..., BrowserContext], live_server: LiveServer
) -> Callable[..., BrowserContext]:
    """Call it with a user: a browser of its own in which that person is signed in. It takes options of contexts."""

    def sign_in(user: User, **options: Any) -> BrowserContext:
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        context = new_context(base_url=live_server.url, **options)
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
        )
        return context

    return sign_in


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thread that does what a worker does: runs the jobs that it is told of."""
    threads: list[threading.Thread] = []

    def work(job_id: int) -> None:
        try:
            run_to_end(job_id)
        finally:
            connection.close()

    def wake(job_id: int) -> None:
        thread = threading.Thread(target=work, args=[job_id])
        threads.append(thread)
        thread.start()

    monkeypatch.setattr(run_chunk, "delay", wake)
    yield
    for thread in threads:
        thread.join(timeout=30)


def keep_problems(page: Page, problems: list[str]) -> None:
    """Add what goes wrong in the page to the list: errors in scripts, and what the console calls an error.

    A violation of the content security policy is one; so is an answer of the server with a status of 400 or more.
    """

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(REPLACED):
            problems.append(message.text)

    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", hear)


@pytest.fixture
def problems() -> Iterator[list[str]]:
    """What went wrong in any page of the test; a test that expects something takes it out."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def _failing_requests(problems: list[str]) -> Iterator[None]:
    """The console may say that requests failed."""
    yield
    problems[:] = [problem for problem in problems if not problem.startswith(FAILED_REQUEST)]


@pytest.fixture
def open_screen(signed_in: SignedIn, problems: list[str]) -> Open:
    """Call it with a round: the review screen of its owner, of another `user`, or in the browser `of` another page."""

    def open_screen(round: ReviewRound, *, user: User | None = None, of: Page | None = None) -> Page:
        context = of.context if of else signed_in(user or round.created_by)
        page = context.new_page()
        keep_problems(page, problems)
        page.goto(address_of(round))
        expect(page.locator("#review")).to_have_attribute("data-state", re.compile("item|done"))
        return page

    return open_screen
