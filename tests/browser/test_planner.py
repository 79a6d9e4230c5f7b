"""The budget planner and the form of a round in a real browser: live, and on a phone too."""

import re
from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import BrowserContext, Page, expect

from criticize.models import CriticismRun
from review.models import ReviewRound
from tests.browser.conftest import keep_problems
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_project,
)

pytestmark = pytest.mark.django_db(transaction=True)

SignedIn = Callable[..., BrowserContext]


@pytest.fixture
def run() -> CriticismRun:
    """Forty criticized items, and a candidate that is right on 15 of 20."""
    project = make_project()
    make_items(project, 40)
    annotations = make_annotation_run(project)
    calibration = make_items(project, 20)
    for item in calibration:
        make_calibration_label(item, "negative")
    answers = {item: "negative" if n < 15 else "positive" for n, item in enumerate(calibration)}
    make_annotation_run(project, answers, scope="calibration")
    return make_criticism_run(annotations)


def open_page(context: BrowserContext, address: str, width: int = 1280) -> tuple[Page, list[str]]:
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    problems: list[str] = []
    keep_problems(page, problems)
    page.goto(address)
    return page, problems


def expect_no_sideways_scrolling(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_plan_follows_the_slider_and_starts_a_round(
    signed_in: SignedIn, run: CriticismRun, width: int
) -> None:
    project = run.annotation_run.project
    context = signed_in(project.created_by)
    page, problems = open_page(context, reverse("budget_planner", args=[project.pk]), width)
    expect(page.get_by_role("heading", level=2, name="14 reviews")).to_be_visible()
    expect_no_sideways_scrolling(page)

    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")

    expect(page.get_by_role("heading", level=2, name="15 reviews")).to_be_visible()
    expect(page.get_by_label("Budget, in reviews").first).to_have_value("15")
    page.get_by_label("Buffer, in points").fill("50")
    expect(page.get_by_role("link", name="use it")).to_be_visible()
    page.get_by_role("button", name="Start the review round").click()
    expect(page).to_have_url(re.compile(r"/review-rounds/\d+/$"))
    assert ReviewRound.objects.get().budget == 15
    assert problems == []


def test_without_scripts_the_number_plans(signed_in: SignedIn, run: CriticismRun) -> None:
    project = run.annotation_run.project
    context = signed_in(project.created_by, java_script_enabled=False)
    page, _ = open_page(context, reverse("budget_planner", args=[project.pk]))

    page.get_by_label("Budget, in reviews").first.fill("4")
    page.get_by_role("button", name="Plan with this").click()

    expect(page.get_by_role("heading", level=2, name="4 reviews")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_preview_of_a_round_follows_its_form(signed_in: SignedIn, run: CriticismRun, width: int) -> None:
    project = run.annotation_run.project
    context = signed_in(project.created_by)
    page, problems = open_page(context, reverse("review_rounds", args=[project.pk]), width)
    preview = page.locator("#round-preview")
    expect(preview).to_contain_text("Cut τ")
    expect(page.get_by_label("β, how steeply")).to_be_hidden()

    page.get_by_text("Suspicious items nearly always").click()
    page.get_by_label("β, how steeply").fill("3")

    expect(preview).to_contain_text("β = 3")
    expect(preview.locator("polyline.chart-line")).to_have_count(1)
    expect_no_sideways_scrolling(page)
    page.get_by_text("More options").click()
    page.get_by_label("What orders the items").select_option("cdi")
    expect(page.get_by_label("% of the budget to train on")).to_be_visible()
    expect(preview).to_contain_text("how sure it is")
    assert problems == []
    assert not ReviewRound.objects.exists()
