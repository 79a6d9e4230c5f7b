"""The review screen in a real browser: keys, undo, several people and tabs, and a network that fails."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Dialog, Page, Response, Route, expect

from annotate.models import User
from review.models import Correction, ReviewRound, ReviewTask
from review.services.rounds import round_close
from tests.browser.reviewing import (
    Open,
    address_of,
    answers,
    done_with,
    lasts,
    round_of,
    saved,
    shows,
    texts,
    whole_round,
)
from tests.factories import (
    make_annotation_run,
    make_calibration_round,
    make_criticism_run,
    make_image,
    make_item,
    make_project,
    make_round,
    make_user,
    png_bytes,
)

pytestmark = pytest.mark.django_db(transaction=True)

SignedIn = Callable[..., BrowserContext]


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_a_digit_gives_the_label_at_that_place_and_it_is_saved(open_screen: Open) -> None:
    round = round_of(texts(4), ["negative", "neutral", "positive"])
    page = open_screen(round)

    for number, key in enumerate(["3", "1", "2"], start=1):
        shows(page, f"text {number}")
        page.keyboard.press(key)
    shows(page, "text 4")
    page.keyboard.press("4")  # there is no fourth label
    saved(page, answered=3)

    assert answers(round) == ["positive", "negative", "neutral", ""]
    seconds = Correction.objects.values_list("seconds", flat=True)
    assert all(each is not None and 0 <= each < 30 for each in seconds)


def test_what_is_left_counts_the_items_that_came_with_an_answer(open_screen: Open) -> None:
    page = open_screen(round_of(texts(12)))

    for number in range(1, 5):
        shows(page, f"text {number}")
        page.keyboard.press("Enter")
        saved(page, answered=number)
        expect(page.locator("#progress-text")).to_have_text(f"{number} of 12")
        expect(page.locator("#progress-left")).to_have_text(f"{12 - number} left for you")


def test_a_long_word_of_a_label_is_not_broken(open_screen: Open) -> None:
    page = open_screen(round_of(texts(1), ["praise", "complaint", "subscription"]))

    shows(page, "text 1")
    heights = page.locator("#labels button span").evaluate_all("all => all.map((each) => each.offsetHeight)")
    assert len(set(heights)) == 1, "each on one line"


def test_labels_that_are_digits_have_their_own_key(open_screen: Open) -> None:
    round = round_of(texts(4), ["7", "0", "3"])
    page = open_screen(round)

    assert page.locator("#labels kbd").all_inner_texts() == ["7", "0", "3"]
    page.keyboard.press("1")
    lasts(page)
    shows(page, "text 1")
    for number, key in enumerate(["3", "0", "7"], start=1):
        shows(page, f"text {number}")
        page.keyboard.press(key)
    saved(page, answered=3)

    assert answers(round) == ["3", "0", "7", ""]


def test_enter_accepts_what_the_machine_says(open_screen: Open) -> None:
    round = round_of(texts(2))
    page = open_screen(round)

    expect(page.locator("#accept-text")).to_have_text("Accept negative")
    expect(page.locator("#labels button[data-machine]")).to_have_text(re.compile("negative"))
    page.keyboard.press("Enter")
    saved(page, answered=1)
    shows(page, "text 2")

    assert answers(round) == ["negative", ""]
    assert "0 corrected" in (page.locator("#progress-text").get_attribute("title") or "")


def test_a_held_key_answers_one_item(open_screen: Open) -> None:
    round = round_of(texts(4))
    page = open_screen(round)

    page.keyboard.down("Enter")
    for _ in range(5):
        page.keyboard.down("Enter")  # what the keyboard repeats
    page.keyboard.up("Enter")
    lasts(page)
    shows(page, "text 2")
    saved(page, answered=1)

    assert answers(round) == ["negative", "", "", ""]


def test_many_labels_are_found_by_typing(open_screen: Open) -> None:
    names = [f"topic {number:02}" for number in range(1, 29)] + ["Überweisung", "card payment"]
    round = round_of(texts(4), names)
    page = open_screen(round)
    visible = page.locator("#labels button:visible")

    expect(visible).to_have_count(30)
    page.keyboard.type("topic 2")
    expect(visible).to_have_count(9)
    page.keyboard.type("3")
    expect(visible).to_have_count(1)
    page.keyboard.press("Enter")
    shows(page, "text 2")
    expect(visible).to_have_count(30)

    page.keyboard.type("uberw")  # without the dots; where letters search, undo takes Shift
    page.keyboard.press("Enter")
    shows(page, "text 3")

    page.keyboard.type("nothing has this name")
    expect(visible).to_have_count(0)
    page.keyboard.press("Enter")
    lasts(page)
    shows(page, "text 3")
    page.keyboard.press("Escape")
    expect(visible).to_have_count(30)
    page.keyboard.press("9")
    saved(page, answered=3)

    assert answers(round) == ["topic 23", "Überweisung", "topic 09", ""]


# --- Undo and skip ---------------------------------------------------------------------------------------------------


def test_undo_goes_back_over_several_items(open_screen: Open) -> None:
    round = round_of(texts(4))
    page = open_screen(round)
    for number, key in enumerate(["1", "2", "1"], start=1):
        shows(page, f"text {number}")
        page.keyboard.press(key)
    saved(page, answered=3)

    for number in (3, 2, 1):
        page.keyboard.press("u")
        shows(page, f"text {number}")
    expect(page.locator("#undo-button")).to_be_disabled()
    assert answers(round) == ["", "", "", ""]

    for number in (1, 2, 3):
        shows(page, f"text {number}")
        page.keyboard.press("2")
    saved(page, answered=3)
    shows(page, "text 4")
    assert answers(round) == ["positive", "positive", "positive", ""]
    assert done_with(round) == ["negative", "undo", "positive"]


def test_undo_reaches_behind_a_reload(open_screen: Open) -> None:
    round = round_of(texts(3))
    page = open_screen(round)
    page.keyboard.press("2")
    shows(page, "text 2")
    saved(page, answered=1)

    page.reload()
    shows(page, "text 2")
    page.keyboard.press("u")
    shows(page, "text 1")

    assert done_with(round) == ["positive", "undo"]


def test_undo_pressed_at_once_takes_back_an_answer_that_is_still_on_its_way(open_screen: Open) -> None:
    round = round_of(texts(3))
    page = open_screen(round)

    page.keyboard.press("2")
    page.keyboard.press("u")
    shows(page, "text 1")
    expect(page.locator("#undo-button")).to_be_disabled()
    page.keyboard.press("1")
    saved(page, answered=1)
    shows(page, "text 2")

    assert answers(round) == ["negative", "", ""]


def test_an_item_is_skipped_with_a_reason(open_screen: Open) -> None:
    round = round_of(texts(5))
    page = open_screen(round)
    dialog = page.locator("#skip-dialog")

    page.keyboard.press("s")
    expect(dialog).to_be_visible()
    page.keyboard.press("3")
    shows(page, "text 2")
    page.keyboard.press("s")
    page.fill("#skip-reason", "half of it is <b>missing</b>")
    page.keyboard.press("Enter")
    shows(page, "text 3")
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    shows(page, "text 4")
    page.keyboard.press("s")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("Enter")  # the item has the focus again
    shows(page, "text 5")
    saved(page, answered=1, skipped=3)

    rows = Correction.objects.order_by("task__rank").values_list("action", "reason")
    assert list(rows) == [
        ("skip", "Several labels fit"),
        ("skip", "half of it is <b>missing</b>"),
        ("skip", ""),
        ("label", ""),
    ]


# --- What is shown ---------------------------------------------------------------------------------------------------


def test_markup_is_shown_as_text(open_screen: Open) -> None:
    evil = '<img src="x" onerror="window.hit = 1"><script>window.hit = 1</script><b>bold</b>'
    project = make_project(labels=["<i>no</i>", "yes"], name="<u>Remarks</u>", instructions=evil)
    item = make_item(project, text=evil, external_id="<s>1</s>", columns={"<em>source</em>": evil})
    make_item(project)
    run = make_annotation_run(project)
    run.annotations.update(reasoning=evil)
    criticism_run = make_criticism_run(run)
    criticism_run.criticisms.update(reasoning=evil)
    page = open_screen(make_round(criticism_run, 1))

    shows(page, item.text)
    for place in ("#text", "#machine-reasoning", "#criticism-reasoning", "#columns-list dd", ".plain-text"):
        assert page.locator(place).first.text_content() == evil
    assert page.locator("#labels button span").first.inner_text() == "<i>no</i>"
    assert page.locator("#machine-label").inner_text() == "<i>no</i>"
    assert page.locator("main :is(img, script[src], i, u, b, s, em)").count() == 0
    assert page.evaluate("window.hit") is None


def test_a_blind_round_shows_nothing_of_the_machine(open_screen: Open) -> None:
    project = make_project()
    for text in texts(3):
        make_item(project, text=text, gold="positive")
    run = make_annotation_run(project, model="the-annotating-model")
    run.annotations.update(reasoning="the annotator's reasoning", confidence=0.6123)
    criticism_run = make_criticism_run(run, [0.8123] * 3, model="the-criticizing-model")
    criticism_run.criticisms.update(reasoning="the criticizer's reasoning")
    round = make_calibration_round(project, 3)
    told: list[Any] = []

    def listen(response: Response) -> None:
        if "/next/" in response.url or "/undo/" in response.url:
            told.extend(tasks_in(response.json()))

    page = open_screen(round)
    page.on("response", listen)
    page.reload()
    expect(page.locator("#review[data-state=item]")).to_be_visible()
    check_blind(page)
    first = page.locator("#text").inner_text()
    page.keyboard.press("Enter")
    lasts(page)
    shows(page, first)
    page.keyboard.press("2")
    saved(page, answered=1)
    check_blind(page)
    page.keyboard.press("u")
    shows(page, first)
    check_blind(page)

    assert len(told) >= 4
    for task in told:
        assert task["blind"]
        assert (task["machine"], task["criticism"], task["failure"]) == (None, None, None)
        assert not re.search("reasoning|model|gold|positive|negative|0.8123|0.6123", json.dumps(task))
    assert done_with(round, rank=0) == ["positive", "undo"]


def tasks_in(data: Mapping[str, Any]) -> list[Any]:
    return list(data["tasks"]) if "tasks" in data else [data["task"]]


def check_blind(page: Page) -> None:
    for place in ("#machine", "#machine-voice", "#criticism", "#failure", "#accept-button", "[data-machine]"):
        assert page.locator(place).count() == 0, place
    for button in page.locator("#labels button").all():
        assert "machine" not in (button.get_attribute("aria-label") or "")
    said = re.search("the-annotating-model|the-criticizing-model|reasoning|0.8123|0.6123", page.content())
    assert said is None, said
    assert "corrected" not in (page.locator("#progress-text").get_attribute("title") or "")


def test_an_image_is_shown_and_zooms(open_screen: Open) -> None:
    project = make_project("image_classification", ["cat", "dog"])
    for color in ("teal", "orange"):
        make_item(project, image=make_image(project, png_bytes(color, (400, 300))))
    round = whole_round(project)
    page = open_screen(round)
    frame, image = page.locator("#frame"), page.locator("#frame img")

    expect(frame).to_have_attribute("data-state", "there")
    assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [400, 300]
    fitting = image.bounding_box()
    page.keyboard.press("z")
    expect(frame).to_have_attribute("data-zoomed", "")
    zoomed = image.bounding_box()
    assert fitting is not None
    assert zoomed is not None
    assert zoomed["width"] > 1.5 * fitting["width"]
    page.keyboard.press("z")
    assert image.bounding_box() == fitting
    page.keyboard.press("Z")
    page.keyboard.press("2")
    expect(image).to_have_attribute("alt", re.compile(project.items.order_by("pk")[1].external_id))
    assert frame.get_attribute("data-zoomed") is None  # the next item begins whole
    saved(page, answered=1)
    assert answers(round) == ["dog", ""]


def test_the_end_is_said(open_screen: Open) -> None:
    rita = make_user("rita")
    round = round_of(texts(2), reviewers=[rita])
    page = open_screen(round)
    shows(page, "text 1")

    other = open_screen(round, user=rita)  # both items are the owner's
    expect(other.locator("#done-title")).to_have_text("Nothing left for you")
    expect(other.locator("#look-again")).to_be_visible()
    expect(other.get_by_role("link", name="Export")).to_have_count(0)

    page.keyboard.press("1")
    shows(page, "text 2")
    page.keyboard.press("1")
    expect(page.locator("#done-title")).to_have_text("Nothing left to review")
    expect(page.locator("#done-text")).to_have_text("All 2 items of this round are done.")
    expect(page.locator("#done-title")).to_be_focused()
    expect(page.locator("#done").get_by_role("link", name="Export")).to_be_visible()
    other.click("#look-again")
    expect(other.locator("#done-title")).to_have_text("Nothing left to review")

    page.keyboard.press("u")  # the end is no end for undo
    shows(page, "text 2")


def test_a_round_that_is_closed_hands_out_no_more(open_screen: Open) -> None:
    round = round_of(texts(6))
    page = open_screen(round)
    shows(page, "text 1")

    round_close(round=round, user=round.created_by)
    for number in (1, 2):  # they were handed out before
        shows(page, f"text {number}")
        page.keyboard.press("1")
    saved(page, answered=2)
    expect(page.locator("#done-title")).to_have_text("This round is closed")


# --- Several people and several tabs ---------------------------------------------------------------------------------


def test_two_people_never_get_the_same_item(open_screen: Open) -> None:
    rita, bob = make_user("rita"), make_user("bob")
    round = round_of(texts(14), reviewers=[rita, bob])
    people = {rita: open_screen(round, user=rita), bob: open_screen(round, user=bob)}
    seen: dict[User, list[str]] = {rita: [], bob: []}

    while any(is_busy(page) for page in people.values()):
        for person, page in people.items():
            if page.locator("#review").get_attribute("data-state") == "item":
                seen[person].append(page.locator("#text").inner_text())
                page.keyboard.press("Enter")
        lasts(people[rita], 20)

    assert len(seen[rita]) > 3
    assert len(seen[bob]) > 3
    assert sorted(seen[rita] + seen[bob]) == sorted(texts(14))
    for person in people:
        rows = Correction.objects.filter(author=person, late=False).order_by("pk")
        assert list(rows.values_list("task__item__text", flat=True)) == seen[person]
    assert Correction.objects.count() == 14


def is_busy(page: Page) -> bool:
    return page.locator("#review").get_attribute("data-state") != "done"


def test_a_second_tab_does_not_overwrite(open_screen: Open, problems: list[str]) -> None:
    round = round_of(texts(8))
    first = open_screen(round)
    second = open_screen(round, of=first)
    shows(first, "text 1")
    shows(second, "text 1")

    second.keyboard.press("2")
    saved(second, answered=1)
    first.keyboard.press("1")

    expect(first.locator("#notice")).to_contain_text("was not kept")
    expect(first.locator("#notice")).to_contain_text("answered in another tab")
    shows(first, "text 2")
    assert done_with(round) == ["positive"]
    assert [problem for problem in problems if "409" not in problem] == []
    problems.clear()


@pytest.mark.usefixtures("_failing_requests")
def test_a_tab_that_is_closed_hands_back_its_own_items_only(open_screen: Open) -> None:
    rita, bob = make_user("rita"), make_user("bob")
    round = round_of(texts(8), reviewers=[rita, bob])
    first = open_screen(round, user=rita)
    first.route("**/next/", lambda route: route.abort())  # it keeps what it has: the first four
    second = open_screen(round, of=first)
    for number in (1, 2):
        shows(second, f"text {number}")
        second.keyboard.press("2")
    saved(second, answered=2)
    shows(second, "text 3")
    wait_until(second, lambda: "text 5" in held_by(round, rita))
    lasts(second)  # the page itself knows what it was handed a moment later

    leave(second)
    wait_until(first, lambda: held_by(round, rita) == texts(8)[2:4])  # what the first tab has, too
    shows(open_screen(round, user=bob), "text 5")

    leave(first)
    wait_until(first, lambda: held_by(round, rita) == [])


def leave(page: Page) -> None:
    page.goto("about:blank")
    lasts(page)  # what the page sends as it goes is on its way


def held_by(round: ReviewRound, user: User) -> list[str]:
    held = round.tasks.filter(state=ReviewTask.State.LEASED, holder=user)
    return list(held.order_by("rank").values_list("item__text", flat=True))


def wait_until(page: Page, is_so: Callable[[], bool]) -> None:
    for _ in range(100):
        if is_so():
            return
        page.wait_for_timeout(50)
    pytest.fail("It did not come to be so.")


# --- A network that fails --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_failing_requests")
def test_answers_given_without_a_network_are_sent_when_it_is_back(open_screen: Open) -> None:
    round = round_of(texts(6))
    page = open_screen(round)
    shows(page, "text 1")

    page.context.set_offline(True)
    for number, key in enumerate(["2", "1", "2"], start=1):
        shows(page, f"text {number}")
        page.keyboard.press(key)
    expect(page.locator("#unsaved")).to_contain_text("3 answers are not saved yet")
    assert not Correction.objects.exists()

    page.context.set_offline(False)
    saved(page, answered=3)
    shows(page, "text 4")
    assert answers(round) == ["positive", "negative", "positive", "", "", ""]
    assert Correction.objects.count() == 3


@pytest.mark.usefixtures("_failing_requests")
def test_an_answer_whose_reply_is_lost_counts_once(open_screen: Open) -> None:
    round = round_of(texts(6))
    page = open_screen(round)
    cut: list[int] = []

    def lose_the_reply(route: Route) -> None:
        if cut:
            route.continue_()
            return
        cut.append(route.fetch().status)
        route.abort("connectionreset")

    page.route("**/submit/", lose_the_reply)
    page.keyboard.press("2")
    shows(page, "text 2")
    page.keyboard.press("1")
    saved(page, answered=2)

    assert cut == [200]
    expect(page.locator("#notice")).to_be_hidden()
    assert answers(round) == ["positive", "negative", "", "", "", ""]
    assert Correction.objects.count() == 2


@pytest.mark.usefixtures("_failing_requests")
def test_a_page_that_is_left_without_a_network_sends_its_answers_when_it_is_opened_again(
    open_screen: Open,
) -> None:
    round = round_of(texts(6))
    page = open_screen(round)
    shows(page, "text 1")
    asked: list[str] = []

    def leave_anyway(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave_anyway)

    # Being offline, as Chromium plays it, lets through what a page sends as it is left.
    page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('no network')); }")
    page.keyboard.press("2")
    shows(page, "text 2")
    page.keyboard.press("2")
    expect(page.locator("#unsaved")).to_contain_text("2 answers are not saved yet")
    leave(page)
    assert asked == ["beforeunload"]
    assert not Correction.objects.exists()

    page.goto(address_of(round))
    saved(page, answered=2)
    shows(page, "text 3")
    assert answers(round) == ["positive", "positive", "", "", "", ""]
    assert Correction.objects.count() == 2
    assert page.evaluate("Object.keys(localStorage).filter(name => name.startsWith('overread-answer'))") == []


@pytest.mark.usefixtures("_failing_requests")
def test_answers_wait_while_somebody_is_signed_out(open_screen: Open, signed_in: SignedIn) -> None:
    round = round_of(texts(6))
    page = open_screen(round)
    shows(page, "text 1")
    [session] = [cookie for cookie in page.context.cookies() if cookie["name"] == "sessionid"]

    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("2")
    expect(page.locator("#unsaved")).to_contain_text("Sign in again in another tab")
    page.context.add_cookies(
        [{"name": "sessionid", "value": session["value"], "domain": session["domain"], "path": "/"}]
    )
    page.click("#unsaved-button")

    saved(page, answered=1)
    assert answers(round)[0] == "positive"
