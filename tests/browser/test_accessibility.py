"""Every main page for everybody: no serious barrier by axe-core in either theme, wide or narrow; the keyboard's way."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.urls import reverse
from playwright.sync_api import BrowserContext, expect
from playwright.sync_api import Page as BrowserPage
from pytest_django.live_server_helper import LiveServer

from annotate.models import User
from tests.browser.conftest import SignedIn, keep_problems
from tests.browser.routed_project import (
    models_say,
    pages_of_routers_in_the_making,
    pages_of_routing,
    pages_of_uploaded_comparisons,
)
from tests.browser.whole_project import (
    Page,
    People,
    make_people,
    make_texts,
    pages_of_an_empty_project,
    pages_of_data,
    pages_of_images,
    pages_of_work,
    pages_of_written_answers,
    pages_without_a_project,
)
from tests.conftest import Provider

pytestmark = pytest.mark.django_db(transaction=True)

OpenFor = Callable[[User | None], BrowserPage]
PARTS = [
    pages_without_a_project,
    pages_of_data,
    pages_of_work,
    pages_of_images,
    pages_of_written_answers,
    pages_of_routing,
    pages_of_routers_in_the_making,
    pages_of_uploaded_comparisons,
    pages_of_an_empty_project,
]
AXE = Axe()
# What differs in the dark theme, and what in a narrow window.
COLORS = ("color-contrast", "link-in-text-block")
LAYOUT = ("scrollable-region-focusable", "target-size", "nested-interactive", "aria-hidden-focus")

UNFOLD = "document.querySelectorAll('details:not(.menu)').forEach((each) => { each.open = true; })"
# Levels of the headings that are shown, or read aloud.
HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
  .filter((each) => each.checkVisibility()).map((each) => Number(each.tagName[1]))"""
# The document does not scroll sideways; if it does, what reaches beyond the window.
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return "";
  const isBeyond = (each) => each.getBoundingClientRect().right > width + 1;
  const beyond = [...document.body.querySelectorAll("*")].filter(isBeyond);
  return beyond.slice(-3).map((each) => each.outerHTML.slice(0, 120)).join(" ... ") || "the document";
}"""
OUT_OF_ORDER = """() => [...document.querySelectorAll("[tabindex]")]
  .filter((each) => each.tabIndex > 0).map((each) => each.outerHTML.slice(0, 120))"""
# Where the focus is, whether it can be seen there, and whether the element is in the window.
FOCUS = """() => {
  const each = document.activeElement;
  const box = each.getBoundingClientRect();
  const isMarked = (part) => {
    const { outlineStyle, outlineWidth, stroke } = getComputedStyle(part);
    return part.matches("rect") ? stroke !== "none" : outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  };
  return {
    at: each === document.body ? "" : each.outerHTML.slice(0, 100),
    isMarked: [each, each.closest(".choice-card") ?? each, ...each.querySelectorAll("rect")].some(isMarked),
    isSeen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
  };
}"""
# What has the focus outside the dialog. After its last element the browser itself has it: the body stands for that.
OUTSIDE = """(name) => {
  const each = document.activeElement;
  return each === document.body || each.closest(`#${name}`) ? "" : each.outerHTML.slice(0, 100);
}"""


@pytest.fixture
def people() -> People:
    return make_people()


@pytest.fixture
def open_for(
    signed_in: SignedIn, new_context: Callable[..., BrowserContext], live_server: LiveServer
) -> OpenFor:
    """Call it with a person: a page of the one browser in which that person is signed in."""
    browsers: dict[User | None, BrowserContext] = {}

    def open_for(person: User | None) -> BrowserPage:
        if person not in browsers:
            browsers[person] = signed_in(person) if person else new_context(base_url=live_server.url)
        return browsers[person].new_page()

    return open_for


def barriers(page: BrowserPage, *rules: str) -> list[str]:
    """What axe-core calls serious or critical, with where it is; by the rules named, else by all."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    found = AXE.run(page, options=options).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def wrong_with(page: BrowserPage, each: Page) -> list[str]:
    """By all rules in the light theme of a wide window; then by what differs in the dark theme of a narrow one."""
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
    response = page.goto(each.address)
    assert response is not None
    expect(page.locator(".htmx-request, #review[data-state=loading]")).to_have_count(0)
    page.evaluate(UNFOLD)
    found = [] if response.status == each.status else [f"has status {response.status}"]
    found += [f"light: {barrier}" for barrier in barriers(page)]
    found += [f"out of order: {element}" for element in page.evaluate(OUT_OF_ORDER)]
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 360, "height": 740})
    found += [f"dark and narrow: {barrier}" for barrier in barriers(page, *COLORS, *LAYOUT)]
    if too_wide := page.evaluate(TOO_WIDE):
        found.append(f"is too wide: {too_wide}")
    levels = page.evaluate(HEADINGS)
    if levels[:1] != [1] or levels.count(1) > 1 or any(b > a + 1 for a, b in pairwise(levels)):
        found.append(f"has headings of the levels {levels}")
    return found


@pytest.mark.parametrize("pages_of", PARTS, ids=lambda pages_of: pages_of.__name__)
@pytest.mark.timeout(400)
def test_no_page_has_a_barrier(
    people: People,
    open_for: OpenFor,
    pages_of: Callable[[People], list[Page]],
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider(models_say)
    monkeypatch.setattr("route.meta._TREES", 8)  # forests are most of the time that a router's training takes
    wrong: list[str] = []
    for each in pages_of(people):
        page = open_for(each.person)
        problems: list[str] = []
        keep_problems(page, problems)
        wrong += [f"{each.name}: {what}" for what in wrong_with(page, each)]
        if each.status == 200:
            wrong += [f"{each.name}: {what}" for what in problems]
        page.close()
    assert not wrong, "\n".join(wrong)


def stops(page: BrowserPage) -> list[str]:
    """What Tab comes to, from the page's beginning until it leaves the page. Each must be seen, and marked."""
    found: list[str] = []
    while True:
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if not focus["at"] or focus["at"] in found[:1]:
            return found
        assert focus["isSeen"], focus
        assert focus["isMarked"], focus
        found.append(focus["at"])
        assert len(found) < 200, "Tab does not leave the page."


@pytest.mark.parametrize("width", [1280, 360])
def test_tab_goes_through_the_layout_in_order_and_is_always_seen(
    people: People, open_for: OpenFor, width: int
) -> None:
    """First the way past the navigation; then the top bar, the project's pages, and the content."""
    project = make_texts(people).project
    page = open_for(people.owner)
    page.set_viewport_size({"width": width, "height": 800})
    for name in ("dashboard", "review_rounds", "items"):
        page.goto(reverse(name, args=[project.pk]))
        expect(page.locator(".htmx-request")).to_have_count(0)

        found = stops(page)

        assert 'class="skip"' in found[0], name
        assert 'class="brand"' in found[1], name
        tabs = page.locator(".tabs a").evaluate_all("all => all.map((each) => each.outerHTML.slice(0, 100))")
        start = found.index(tabs[0])
        assert found[start : start + len(tabs)] == tabs, name
        assert len(found) > start + len(tabs), name


def test_the_focus_goes_to_what_is_to_be_mended(people: People, open_for: OpenFor) -> None:
    page = open_for(None)
    page.goto(reverse("sign_in"))
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill("not hers")
    page.keyboard.press("Enter")
    wrong = page.get_by_role("alert")
    expect(wrong).to_contain_text("correct username and password")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_label("Password")).to_have_accessible_description(wrong.inner_text())

    page = open_for(people.owner)
    page.goto(reverse("password_change"))
    page.get_by_label("Old password").fill("not hers")
    page.get_by_label("New password", exact=True).fill("fresh-and-long-1")
    page.get_by_label("New password confirmation").fill("fresh-and-long-1")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Old password")).to_be_focused()
    expect(page.get_by_label("Old password")).to_have_accessible_description(re.compile("incorrectly"))


def test_the_skip_link_leads_to_the_content_and_a_menu_gives_the_focus_back(
    people: People, open_for: OpenFor
) -> None:
    page = open_for(people.owner)
    page.goto(reverse("projects"))

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()

    page.locator(".menu summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Dark")).to_be_visible()
    assert barriers(page) == []
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Account and API tokens")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Dark")).to_be_hidden()
    expect(page.locator(".menu summary")).to_be_focused()


def test_dialogs_keep_the_focus_and_give_it_back(people: People, open_for: OpenFor) -> None:
    texts = make_texts(people)
    decide = open_for(people.owner)
    decide.goto(reverse("adjudicate", args=[texts.project.pk, texts.decide.pk]))
    decide.locator("#help-button").focus()
    dialog_keeps_the_focus(decide, "Enter", "help-dialog")
    expect(decide.locator("#help-button")).to_be_focused()

    review = open_for(people.reviewers[0])
    review.goto(reverse("review", args=[texts.project.pk, texts.round.pk]))
    expect(review.locator("#review")).to_have_attribute("data-state", "item")
    for key, name in (("?", "help-dialog"), ("s", "skip-dialog")):
        dialog_keeps_the_focus(review, key, name)
        expect(review.locator("#stage")).to_be_focused()  # where all keys of the screen work


def dialog_keeps_the_focus(page: BrowserPage, key: str, name: str) -> None:
    """The key opens the dialog; Tab stays in it both ways; Escape closes it."""
    page.keyboard.press(key)
    dialog = page.locator(f"#{name}")
    expect(dialog).to_be_visible()
    assert barriers(page) == []
    for tab in ["Tab"] * 30 + ["Shift+Tab"] * 30:
        page.keyboard.press(tab)
        assert page.evaluate(OUTSIDE, name) == ""
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
