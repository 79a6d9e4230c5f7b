"""Routing as people walk through it: from training to a plan at work, and to the items that a router stopped."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Locator, expect

from annotate.models import Project
from jobs.services import sweep
from review.models import ReviewRound
from route.models import Plan
from route.services.traced_runs import traced_run_create
from tests.browser.conftest import SignedIn, keep_problems
from tests.browser.reviewing import Open, answers, saved, shows
from tests.browser.routed_project import LEFT, make_subjects, make_trace, models_say
from tests.browser.test_planner import expect_no_sideways_scrolling
from tests.browser.whole_project import People, make_people
from tests.conftest import Provider
from tests.route.traced import METAL, run_out
from tests.route.two_annotators import make_two

pytestmark = pytest.mark.django_db(transaction=True)

# What takes taps and is lower than a fingertip: buttons, fields, and boxes with their labels.
TOO_LOW = """() => [...document.querySelectorAll("main :is(.button, input:not([type=hidden]), select, summary)")]
  .map((each) => each.closest("label") ?? each)
  .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44)
  .map((each) => each.outerHTML.slice(0, 120))"""


@pytest.fixture(autouse=True)
def _models_answer(provider: Provider) -> None:
    provider(models_say)


@pytest.fixture
def people() -> People:
    return make_people()


@pytest.fixture
def project(people: People) -> Project:
    """A cheap annotator that errs about metal and a premium one; eight items wait for an answer of theirs."""
    project = make_subjects(people)
    make_two(project, answered=LEFT - 8)
    return project


@pytest.mark.usefixtures("worker")
@pytest.mark.timeout(120)
def test_from_choosing_the_agents_to_a_plan_at_work(
    signed_in: SignedIn, people: People, project: Project
) -> None:
    page = signed_in(people.owner).new_page()
    problems: list[str] = []
    keep_problems(page, problems)
    page.goto(reverse("routing", args=[project.pk]))

    page.get_by_role("link", name="Choose the agents").click()
    page.get_by_role("checkbox", name="People").check()
    page.get_by_role("radio", name="cheap-model · naive is the default").check()
    page.get_by_label("β of People").fill("0")
    # Well apart from the cheap one's, about fruit too.
    page.get_by_label("β of premium-model · naive").fill("0.3")
    page.get_by_role("button", name="Train the router").click()
    page.get_by_role("link", name="See what it does").click(timeout=30_000)

    expect(page.get_by_role("heading", level=2, name="The plan")).to_be_visible()
    preview = page.locator("#plan-preview")
    for most in ("3", "1"):
        page.get_by_label("Items for people, at most").fill(most)
        expect(row_of(preview.get_by_role("table"), "People").get_by_role("cell").nth(1)).to_have_text(most)
    expect(preview).to_contain_text("75.0% by the default alone")
    page.get_by_role("button", name="Start the plan").click()

    expect(page).to_have_url(re.compile(r"/routing/plans/\d+/$"))
    progress = page.locator("#plan-progress")
    criticize = progress.get_by_role("link", name="Criticize")
    while not criticize.is_visible():  # the plan looks again and again whether its agents have answered
        sweep()
        page.wait_for_timeout(500)
    expect(progress).to_contain_text(f"{LEFT - 1} of {LEFT - 1} items that models answer")
    whole = re.compile(r"Done ([1-9]) of \1,")
    expect(progress.get_by_role("listitem")).to_contain_text([whole, whole, "0 of 1 answered"])
    expect(progress).to_contain_text("1 item waits for people.")
    assert problems == []
    (share,) = [share for share in Plan.objects.get().expected["shares"] if share["agent"] == "People"]
    assert share["items"] == 1

    progress.get_by_role("link", name="Review", exact=True).click()
    expect(page.locator("#review")).to_have_attribute("data-state", "item")


def row_of(table: Locator, agent: str) -> Locator:
    return table.get_by_role("row").filter(has=table.page.get_by_role("cell", name=agent, exact=True))


def test_a_limit_that_is_none_is_said_in_the_preview_and_nothing_starts(
    signed_in: SignedIn, people: People, project: Project
) -> None:
    router = make_trace(project)
    page = signed_in(people.owner).new_page()
    page.goto(reverse("router", args=[project.pk, router.pk]))
    preview = page.locator("#traced-preview")
    expect(preview).to_contain_text("To people, at most12")

    page.get_by_label("Items for people, at most (%)").fill("0")
    expect(preview).to_contain_text("No setting of this router kept to 0%")
    page.get_by_label("Items for people, at most (%)").fill("50")
    expect(preview).to_contain_text("To people, at most20")


@pytest.fixture
def stopped(project: Project) -> ReviewRound:
    """What a router that reads along gave to people: the items about metal, each stopped in its second step."""
    traced = traced_run_create(router=make_trace(project), user=project.created_by, limit=0.3)
    run_out(traced.run.job_id)
    return ReviewRound.objects.get(routed_run=traced.run)


def test_a_reviewer_sees_where_the_annotator_was_stopped_and_answers(
    open_screen: Open, people: People, stopped: ReviewRound
) -> None:
    page = open_screen(stopped, user=people.reviewers[0])
    tasks = stopped.counted_tasks.select_related("item").order_by("rank")
    assert METAL in tasks[0].item.text
    shows(page, tasks[0].item.text)

    steps = page.get_by_role("region", name="What is known").get_by_role("listitem")
    expect(steps).to_have_text(["I read it.", "I doubt what it says. stopped here"])
    expect(page.get_by_role("heading", name="Its steps")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="What is known")).to_be_focused()
    page.keyboard.press("2")
    shows(page, tasks[1].item.text)
    expect(steps).to_have_count(2)
    saved(page, answered=1)

    assert answers(stopped)[:2] == ["positive", ""]


def test_a_phone_shows_the_steps_above_the_answers(
    open_screen: Open, people: People, stopped: ReviewRound
) -> None:
    page = open_screen(stopped, user=people.reviewers[0])
    page.set_viewport_size({"width": 360, "height": 740})

    mark = page.get_by_text("stopped here")
    mark.scroll_into_view_if_needed()
    expect(mark).to_be_in_viewport()
    expect_no_sideways_scrolling(page)
    page.get_by_role("button", name="positive").click()
    saved(page, answered=1)


def test_fingers_find_what_a_plan_asks_for(signed_in: SignedIn, people: People, project: Project) -> None:
    page = signed_in(people.owner, has_touch=True, is_mobile=True).new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(reverse("deferral_new", args=[project.pk]))

    assert page.evaluate(TOO_LOW) == []
    expect_no_sideways_scrolling(page)
