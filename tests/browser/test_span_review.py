"""Reviewing answers that are spans of a text in a real browser: accepting, selecting with the mouse and by keyboard,
saying that there is none, taking back, and characters that take two places in a browser's strings."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from annotate.models import Item
from review.models import Correction, ReviewRound, ReviewTask
from tests.browser.conftest import SignedIn, keep_problems
from tests.browser.reviewing import Open, address_of, saved
from tests.factories import make_calibration_round, make_criticism_run, make_round
from tests.span_answers import (
    QUESTION,
    TEXT,
    make_span_item,
    make_span_items,
    make_span_project,
    make_span_round,
    make_span_run,
)

pytestmark = pytest.mark.django_db(transaction=True)

EMOJI = "😀😀 The ferry 🚢 left from Büsum 🇩🇪 at nine. Büsum is small 👩‍👩‍👧."


def round_of(text: str, answers: Sequence[str | None], **fields: str) -> ReviewRound:
    """Items with this text, of which the machine gave these answers; all are to be reviewed, in their order."""
    project = make_span_project()
    items = [make_span_item(project, known=False, text=text, **fields) for _ in answers]
    run = make_span_run(project, dict(zip(items, answers, strict=True)))
    return make_round(make_criticism_run(run), len(items))


def shows(page: Page, answer: str, whose: str = "The machine's answer") -> None:
    """The screen shows this answer as the one that Enter saves; "" for "no answer"."""
    expect(page.locator("#review")).to_have_attribute("data-state", "item")
    expect(page.locator("#span-whose")).to_have_text(whose)
    if answer:
        expect(page.locator("#span-answer")).to_have_text(answer)
    else:
        expect(page.locator("#span-none")).to_be_visible()


def select(page: Page, start: int, end: int) -> None:
    """Drag the mouse from one place of the text to another; places are those of the browser's strings."""
    boxes = page.evaluate(
        """(places) => places.map((place) => {
          const walker = document.createTreeWalker(document.getElementById("text"), NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            if (place <= node.data.length) {
              const range = document.createRange();
              range.setStart(node, place);
              range.setEnd(node, place);
              const box = range.getClientRects()[0];
              return [box.left, (box.top + box.bottom) / 2];
            }
            place -= node.data.length;
          }
        })""",
        [start, end],
    )
    page.mouse.move(boxes[0][0] + 0.5, boxes[0][1])
    page.mouse.down()
    page.mouse.move(boxes[1][0] + 0.5, boxes[1][1], steps=4)
    page.mouse.up()


def given(round: ReviewRound, rank: int = 0) -> list[tuple[str, str, int | None, int | None]]:
    rows = Correction.objects.filter(task__round=round, task__rank=rank).order_by("pk")
    return [(row.action, row.answer, row.start, row.end) for row in rows]


def label(text: str, answer: str, nth: int = 0) -> tuple[str, str, int, int]:
    """An answer as it is kept, at its n-th place in the text."""
    start = -1
    for _ in range(nth + 1):
        start = text.index(answer, start + 1)
    return ("label", answer, start, start + len(answer))


# --- What the machine said -------------------------------------------------------------------------------------------


def test_the_machines_answer_is_marked_in_the_text_and_enter_accepts_it(open_screen: Open) -> None:
    round = make_span_round(("Aller", "Seehausen"))
    page = open_screen(round)
    shows(page, "Aller")

    expect(page.locator("#question")).to_have_text(QUESTION)
    expect(page.locator("#text")).to_have_text(TEXT)
    marks = page.locator("#text mark.span")
    assert marks.all_text_contents() == ["Aller", "Aller"]
    assert [mark.get_attribute("data-tone") for mark in marks.all()] == ["machine", "place"]
    expect(page.locator("#span-places")).to_have_text("place 1 of 2")
    expect(page.locator("#accept-text")).to_have_text("Accept")
    expect(page.locator("#announcer")).to_contain_text("The machine answers: Aller.")

    page.keyboard.press("Enter")
    shows(page, "Seehausen")
    expect(page.locator("#undo-button")).to_have_text("Undo accepted")
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "Aller")]


def test_enter_accepts_that_there_is_no_answer(open_screen: Open) -> None:
    round = make_span_round(("", "Seehausen"))
    page = open_screen(round)
    shows(page, "")
    expect(page.locator("#text mark")).to_have_count(0)

    page.keyboard.press("Enter")
    shows(page, "Seehausen")
    saved(page, answered=1)
    assert given(round) == [("label", "", 0, 0)]


def test_another_place_of_the_answer_is_taken_by_a_key_or_a_click(open_screen: Open) -> None:
    round = make_span_round(("260 km", "260 km"))
    page = open_screen(round)
    shows(page, "260 km")
    page.keyboard.press("o")
    shows(page, "260 km", "Your answer")
    expect(page.locator("#span-places")).to_have_text("place 2 of 2")
    expect(page.locator("#announcer")).to_contain_text("Place 2 of 2. 260 km")
    page.keyboard.press("o")
    shows(page, "260 km")
    page.keyboard.press("o")
    page.keyboard.press("Enter")
    shows(page, "260 km")
    page.locator("mark[data-place='1']").click()
    page.locator("#accept-button").click()
    saved(page, answered=2)

    assert given(round) == given(round, 1) == [label(TEXT, "260 km", 1)]


def test_where_the_machine_failed_enter_says_what_to_do(open_screen: Open) -> None:
    round = make_span_round((None,), 1)
    page = open_screen(round)
    expect(page.locator("#span-missing")).to_be_visible()
    expect(page.locator("#accept-button")).to_be_disabled()
    expect(page.locator("#failure-text")).to_contain_text("The machine gave no answer.")
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_contain_text("Choose the words in the text")
    page.keyboard.press("m")
    shows(page, "The", "Your answer")
    page.keyboard.press("Enter")
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "The")]


def test_a_blind_round_shows_nothing_of_the_machine(open_screen: Open) -> None:
    project = make_span_project()
    make_span_items(project, 2)
    round = make_calibration_round(project, 2)
    page = open_screen(round)
    expect(page.locator("#span-missing")).to_be_visible()
    expect(page.locator("#text mark")).to_have_count(0)
    expect(page.locator("#said")).to_contain_text("without seeing a machine's")
    select(page, TEXT.index("Seehausen"), TEXT.index("Seehausen") + 9)
    shows(page, "Seehausen", "Your answer")
    page.keyboard.press("Enter")
    expect(page.locator("#span-missing")).to_be_visible()
    page.keyboard.press("x")
    saved(page, answered=2)

    answers = [label.answers or [] for label in project.calibration_labels.all()]
    assert sorted(len(each) for each in answers) == [0, 1]


def test_a_blind_arm_says_so(open_screen: Open) -> None:
    round = make_span_round(("Seehausen",), 1)
    ReviewTask.objects.update(arm=ReviewTask.Arm.BLIND)
    page = open_screen(round)

    expect(page.locator("#arm")).to_have_text("You see this item without the machine's answer.")
    expect(page.locator("#accept-button")).to_be_disabled()


# --- Choosing --------------------------------------------------------------------------------------------------------


def test_what_is_selected_with_the_mouse_is_the_answer_without_white_space_around_it(
    open_screen: Open,
) -> None:
    round = make_span_round(("Seehausen", "the Weser"))
    page = open_screen(round)
    shows(page, "Seehausen")
    select(page, TEXT.index(" near"), TEXT.index(" and"))
    shows(page, "near Seehausen", "Your answer")
    expect(page.locator("#accept-text")).to_have_text("Save")
    expect(page.locator("#announcer")).to_contain_text("Chosen: near Seehausen.")

    page.keyboard.press("Escape")
    shows(page, "Seehausen")
    select(page, TEXT.index(" and"), TEXT.index(" near"))  # backwards
    page.locator("#question").click()  # the browser forgets what was selected; the screen does not
    shows(page, "near Seehausen", "Your answer")
    expect(page.locator("#text mark[data-tone~=human]")).to_have_text(["near ", "Seehausen"])
    page.locator("#accept-button").click()
    shows(page, "the Weser")
    expect(page.locator("#undo-button")).to_have_text("Undo chosen")
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "near Seehausen")]


def test_by_keyboard_alone(open_screen: Open) -> None:
    round = make_span_round(("Seehausen", "the Weser"))
    page = open_screen(round)
    shows(page, "Seehausen")
    page.keyboard.press("m")
    shows(page, "Seehausen", "Your answer")
    for keys, words in (
        ("ArrowLeft", "near Seehausen"),
        ("ArrowLeft", "rises near Seehausen"),
        ("ArrowRight", "near Seehausen"),
        ("Shift+ArrowRight", "near Seehausen and"),
        ("Shift+ArrowLeft", "near Seehausen"),
        ("Shift+ArrowLeft", "near"),
        ("Shift+ArrowLeft", "rises"),  # the beginning comes along
        ("ArrowRight", "near"),
        ("Alt+ArrowRight", "ear"),
        ("Shift+Alt+ArrowLeft", "ea"),
        ("Home", "The river Aller rises nea"),
        ("Shift+End", TEXT),
        ("End", "."),
        ("ArrowLeft", "long."),
        ("ArrowLeft", "km long."),
        ("Shift+ArrowLeft", "km long"),
        ("Shift+ArrowLeft", "km"),
        ("ArrowLeft", "260 km"),
    ):
        page.keyboard.press(keys)
        shows(page, words, "Your answer")
    expect(page.locator("#announcer")).to_contain_text("260 km")
    expect(page.locator("#span-answer")).to_have_text("260 km")
    page.keyboard.press("Enter")
    shows(page, "the Weser")
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "260 km", 1)]


def test_arrows_up_and_down_go_by_lines(open_screen: Open) -> None:
    lines = "one two three\nfour five six\nseven eight nine"
    page = open_screen(round_of(lines, ["five"]))
    shows(page, "five")
    page.keyboard.press("m")
    page.keyboard.press("ArrowUp")
    shows(page, "two three\nfour five", "Your answer")
    page.keyboard.press("Shift+ArrowDown")
    shows(page, "two three\nfour five six\nseven eight", "Your answer")


def test_escape_gives_back_what_was_there(open_screen: Open) -> None:
    round = make_span_round(("Seehausen",), 1)
    page = open_screen(round)
    shows(page, "Seehausen")
    page.locator("#span-button").click()
    page.keyboard.press("ArrowLeft")
    shows(page, "near Seehausen", "Your answer")
    page.keyboard.press("Escape")
    shows(page, "Seehausen")
    expect(page.locator("#announcer")).to_contain_text("Nothing is chosen.")
    page.keyboard.press("Enter")
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "Seehausen")]


def test_x_says_that_there_is_no_answer_and_undo_takes_it_back(open_screen: Open) -> None:
    round = make_span_round(("Seehausen", "the Weser"))
    page = open_screen(round)
    shows(page, "Seehausen")
    page.keyboard.press("x")
    shows(page, "the Weser")
    expect(page.locator("#undo-button")).to_have_text("Undo no answer")
    saved(page, answered=1)
    page.keyboard.press("u")
    shows(page, "Seehausen")
    page.keyboard.press("Enter")
    shows(page, "the Weser")
    saved(page, answered=1)

    assert given(round) == [("label", "", 0, 0), ("undo", "", None, None), label(TEXT, "Seehausen")]


def test_undo_brings_back_what_was_chosen_from_the_server_too(open_screen: Open) -> None:
    round = round_of(EMOJI, ["nine", "nine"])
    page = open_screen(round)
    shows(page, "nine")
    page.keyboard.press("m")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    saved(page, answered=1)
    page.reload()  # the page knows of nothing: the server says what was taken back
    shows(page, "nine")
    page.keyboard.press("u")
    shows(page, "at nine", "Your answer")
    page.keyboard.press("Enter")
    saved(page, answered=1)
    assert given(round) == [label(EMOJI, "at nine"), ("undo", "", None, None), label(EMOJI, "at nine")]


def test_a_choice_that_the_server_refuses_comes_back(open_screen: Open, problems: list[str]) -> None:
    page = open_screen(make_span_round(("Seehausen", "the Weser")))
    shows(page, "Seehausen")
    page.route("**/submit/", lambda route: _refuse(route), times=1)
    page.keyboard.press("m")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator("#notice-text")).to_contain_text("was not kept. It was answered in another tab.")
    shows(page, "the Weser")
    page.keyboard.press("Enter")
    shows(page, "near Seehausen", "Your answer")
    problems[:] = [each for each in problems if "Failed to load resource" not in each]


def _refuse(route: Route) -> None:
    route.fulfill(status=409, json={"detail": "It was answered in another tab."})


def test_skipping_and_notes_work_as_elsewhere(open_screen: Open) -> None:
    round = make_span_round(("Seehausen",), 1)
    page = open_screen(round)
    shows(page, "Seehausen")
    page.keyboard.press("m")
    page.keyboard.press("n")
    expect(page.locator("#note-text")).to_have_value("> Seehausen\n\n")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.keyboard.press("2")
    expect(page.locator("#done-title")).to_have_text("Nothing left to review")
    assert Correction.objects.get().reason == "Several answers fit"


# --- Characters ------------------------------------------------------------------------------------------------------


def test_emoji_before_and_in_the_answer(open_screen: Open) -> None:
    round = round_of(EMOJI, ["Büsum", "Büsum", "🚢", "👩‍👩‍👧"])
    page = open_screen(round)
    shows(page, "Büsum")
    assert page.locator("#text mark").all_text_contents() == ["Büsum", "Büsum"]
    page.keyboard.press("m")
    page.keyboard.press("Shift+ArrowRight")
    shows(page, "Büsum 🇩🇪", "Your answer")
    page.keyboard.press("Enter")
    shows(page, "Büsum")
    start = EMOJI.encode("utf-16-le").index("ferry".encode("utf-16-le")) // 2
    select(page, start, start + len("ferry 🚢") + 1)
    shows(page, "ferry 🚢", "Your answer")
    page.keyboard.press("Enter")
    shows(page, "🚢")
    page.keyboard.press("Enter")
    shows(page, "👩‍👩‍👧")
    page.keyboard.press("m")
    page.keyboard.press("Alt+ArrowLeft")
    shows(page, "l 👩‍👩‍👧", "Your answer")
    page.keyboard.press("Enter")
    saved(page, answered=4)

    assert [given(round, rank)[0] for rank in range(4)] == [
        label(EMOJI, "Büsum 🇩🇪"),
        label(EMOJI, "ferry 🚢"),
        label(EMOJI, "🚢"),
        label(EMOJI, "l 👩‍👩‍👧"),
    ]


def test_half_an_emoji_is_never_selected(open_screen: Open) -> None:
    page = open_screen(round_of("x😀y", [""]))
    shows(page, "")
    page.evaluate(
        """() => { const node = document.getElementById("text").firstChild;
        getSelection().setBaseAndExtent(node, 2, node, 4); }"""
    )
    shows(page, "😀y", "Your answer")


def test_texts_that_run_from_right_to_left(open_screen: Open) -> None:
    text = "ينبع النهر قرب المدينة القديمة."
    round = round_of(text, ["قرب المدينة"], question="أين ينبع النهر؟")
    page = open_screen(round)
    shows(page, "قرب المدينة")
    assert page.locator("#text").evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert page.locator("#span-answer").evaluate("e => getComputedStyle(e).direction") == "rtl"
    page.keyboard.press("m")
    page.keyboard.press("ArrowLeft")  # on
    shows(page, "المدينة", "Your answer")
    page.keyboard.press("Shift+ArrowLeft")
    shows(page, "المدينة القديمة", "Your answer")
    page.keyboard.press("Enter")
    saved(page, answered=1)
    assert given(round) == [label(text, "المدينة القديمة")]


def test_words_of_the_text_are_never_markup(open_screen: Open) -> None:
    hostile = "<img src=x onerror=alert(1)> and <b>bold</b> & so on"
    page = open_screen(round_of(hostile, ["<b>bold</b>"]))
    shows(page, "<b>bold</b>")
    expect(page.locator("#text")).to_have_text(hostile)
    expect(page.locator("#text img, #text b, #span-answer b")).to_have_count(0)


# --- Windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_everything_fits_and_the_answer_is_in_view(open_screen: Open, width: int, scheme: str) -> None:
    long = (
        "The harbour was quiet, and nobody knew why. " * 60 + "At last the pilot Ida Berg came. " + TEXT * 9
    )
    round = round_of(long, ["Ida Berg", "Ida Berg"], question="Who came at last, after everybody had waited?")
    assert Item.objects.filter(text=long).count() == 2
    page = open_screen(round)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 780})
    page.reload()
    shows(page, "Ida Berg")
    expect(page.locator("#text mark[data-tone=machine]")).to_be_in_viewport(ratio=1)
    for button in ("#accept-button", "#span-button", "#none-button", "#skip-button"):
        expect(page.locator(button)).to_be_in_viewport(ratio=1)
    expect(page.locator("#question")).to_be_in_viewport(ratio=1)
    expect(page.locator("#labels-none")).to_be_hidden()
    sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(sideways)
    keep(page, f"span-{width}-{scheme}")
    before = page.locator("#accept-button").bounding_box()
    page.keyboard.press("m")
    page.keyboard.press("ArrowLeft")
    shows(page, "pilot Ida Berg", "Your answer")
    assert page.locator("#accept-button").bounding_box() == before
    assert not page.evaluate(sideways)
    keep(page, f"span-chosen-{width}-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_finger_takes_words(signed_in: SignedIn, problems: list[str], scheme: str) -> None:
    """On a phone a tap takes a word, the next one all up to another, and one inside begins anew."""
    round = make_span_round(("Seehausen",), 1)
    page = open_on_phone(signed_in, round, problems)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    shows(page, "Seehausen")
    expect(page.locator("#span-button")).to_be_hidden()  # there are no keys
    tap(page, "260 km to")
    shows(page, "260", "Your answer")
    tap(page, "Weser")
    shows(page, "260 km to the Weser", "Your answer")
    tap(page, "km to")
    shows(page, "km", "Your answer")
    tap(page, "flows")  # to the left, too
    shows(page, "flows 260 km", "Your answer")
    keep(page, f"touch-{scheme}")
    for button in ("#accept-button", "#none-button", "#skip-button", "#span-cancel"):
        expect(page.locator(button)).to_be_in_viewport(ratio=1)
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    page.locator("#accept-button").tap()
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "flows 260 km")]


def test_a_finger_goes_on_from_the_machines_words(signed_in: SignedIn, problems: list[str]) -> None:
    round = make_span_round(("Seehausen",), 1)
    page = open_on_phone(signed_in, round, problems)
    shows(page, "Seehausen")
    tap(page, "Seehausen")
    shows(page, "Seehausen")
    tap(page, "near")
    shows(page, "near Seehausen", "Your answer")
    page.locator("#accept-button").tap()
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "near Seehausen")]


def test_a_finger_cancels_and_says_that_there_is_no_answer(signed_in: SignedIn, problems: list[str]) -> None:
    round = make_span_round(("Seehausen",), 1)
    page = open_on_phone(signed_in, round, problems)
    shows(page, "Seehausen")
    tap(page, "Weser")
    shows(page, "Weser", "Your answer")
    page.locator("#span-cancel").tap()
    shows(page, "Seehausen")
    page.locator("#none-button").tap()
    saved(page, answered=1)
    assert given(round) == [("label", "", 0, 0)]


def test_what_the_browser_selects_by_a_long_press_is_the_answer_and_a_tap_beside_it_keeps_it(
    signed_in: SignedIn, problems: list[str]
) -> None:
    """A long press and its handles come as a changed selection, without any event of a mouse or a finger."""
    round = make_span_round(("Seehausen",), 1)
    page = open_on_phone(signed_in, round, problems)
    shows(page, "Seehausen")
    at = TEXT.index("Weser")
    page.evaluate(
        """([start, end]) => {
          const walker = document.createTreeWalker(document.getElementById("text"), NodeFilter.SHOW_TEXT);
          let node;
          while (walker.nextNode()) node = walker.currentNode;
          const before = document.getElementById("text").textContent.length - node.data.length;
          getSelection().setBaseAndExtent(node, start - before, node, end - before);
        }""",
        [at, at + 5],
    )
    shows(page, "Weser", "Your answer")
    tap(page, "river")
    expect(page.locator("#text mark[data-tone=human]")).to_have_text("Weser")  # the page marks it from now on
    shows(page, "Weser", "Your answer")
    page.locator("#accept-button").tap()
    saved(page, answered=1)
    assert given(round) == [label(TEXT, "Weser")]


def open_on_phone(signed_in: SignedIn, round: ReviewRound, problems: list[str]) -> Page:
    page = signed_in(round.created_by, has_touch=True, is_mobile=True).new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    keep_problems(page, problems)
    page.goto(address_of(round))
    return page


def tap(page: Page, words: str) -> None:
    """Tap the first letter of these words of the text."""
    x, y = page.evaluate(
        """(place) => {
          const walker = document.createTreeWalker(document.getElementById("text"), NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            if (place < node.data.length) {
              const range = document.createRange();
              range.setStart(node, place);
              range.setEnd(node, place + 1);
              const { left, right, top, bottom } = range.getBoundingClientRect();
              return [(left + right) / 2, (top + bottom) / 2];
            }
            place -= node.data.length;
          }
        }""",
        TEXT.index(words),
    )
    page.touchscreen.tap(x, y)


def keep(page: Page, name: str) -> None:
    """For people to look at, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
