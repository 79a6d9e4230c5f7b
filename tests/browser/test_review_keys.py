"""The review screen by keyboard: keys of one's own, long sets of labels, and twenty items without a mouse."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.reviewing import Open, answers, lasts, round_of, saved, shows, texts
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)

LONG = [f"{of} {what}" for of in ("card", "cash", "transfer") for what in ("arrival", "fee", "limit", "lost")]


def change_key(page: Page, command: str, key: str) -> None:
    page.locator(f"[data-keys-of={command}] button").click()
    page.keyboard.press(key)


def test_twenty_items_are_reviewed_by_keyboard_alone(open_screen: Open) -> None:
    round = round_of(texts(20))
    page = open_screen(round)

    for number in range(1, 21):
        shows(page, f"text {number}")
        page.keyboard.press("2" if number % 4 == 0 else "Enter")  # one key an item, a correction too
    expect(page.locator("#done-title")).to_have_text("Nothing left to review")
    saved(page, answered=20)

    assert answers(round) == ["negative", "negative", "negative", "positive"] * 5


def test_a_key_that_was_changed_is_remembered_for_the_person(open_screen: Open) -> None:
    rita = make_user("rita")
    round = round_of(texts(6), reviewers=[rita])
    page = open_screen(round)
    said = page.locator("#keys-said")

    page.keyboard.press("?")
    change_key(page, "skip", "u")
    expect(said).to_contain_text("This is the key of “Undo your last answer")
    page.keyboard.press("3")
    expect(said).to_contain_text("Digits are the labels' keys")
    with page.expect_response("**/account/review-keys/"):
        page.keyboard.press("k")
    expect(page.locator("[data-keys-of=skip] kbd")).to_have_text("K")
    page.keyboard.press("Escape")
    expect(page.locator("#help-dialog")).to_be_hidden()
    expect(page.locator("#skip-button kbd")).to_have_text("K")
    page.keyboard.press("s")
    lasts(page)
    expect(page.locator("#skip-dialog")).to_be_hidden()
    page.keyboard.press("k")
    expect(page.locator("#skip-dialog")).to_be_visible()
    page.keyboard.press("Enter")
    shows(page, "text 2")

    round.created_by.refresh_from_db()
    assert round.created_by.review_keys == {"skip": ["k"]}
    elsewhere = open_screen(round)  # another browser of the same person
    expect(elsewhere.locator("#skip-button kbd")).to_have_text("K")
    expect(open_screen(round, user=rita).locator("#skip-button kbd")).to_have_text("S")

    elsewhere.keyboard.press("?")
    with elsewhere.expect_response("**/account/review-keys/"):
        elsewhere.click("#keys-reset")
    expect(elsewhere.locator("#skip-button kbd")).to_have_text("S")
    round.created_by.refresh_from_db()
    assert round.created_by.review_keys == {}


def test_waiting_for_a_key_is_left_with_escape(open_screen: Open) -> None:
    page = open_screen(round_of(texts(2)))

    page.keyboard.press("?")
    page.locator("[data-keys-of=note] button").click()
    expect(page.locator("[data-keys-of=note]")).to_contain_text("Press a key")
    page.keyboard.press("Escape")
    expect(page.locator("[data-keys-of=note] kbd")).to_have_text("N")
    expect(page.locator("#help-dialog")).to_be_visible()


@pytest.mark.usefixtures("_failing_requests")
def test_a_key_changed_without_a_network_is_kept_with_the_account_later(open_screen: Open) -> None:
    round = round_of(texts(2))
    page = open_screen(round)

    page.keyboard.press("?")
    page.context.set_offline(True)
    change_key(page, "note", "j")
    expect(page.locator("#note-button kbd")).to_have_text("J")
    lasts(page)
    with page.expect_response("**/account/review-keys/"):
        page.context.set_offline(False)

    round.created_by.refresh_from_db()
    assert round.created_by.review_keys == {"note": ["j"]}


def test_where_letters_search_commands_take_shift(open_screen: Open) -> None:
    round = round_of(texts(4), LONG)
    page = open_screen(round)
    expect(page.locator("#skip-button kbd")).to_have_text("Shift S")

    page.keyboard.type("tr lo")  # words begin with it
    expect(page.locator("#labels button:visible")).to_have_text([re.compile("transfer lost")])
    page.keyboard.press("Enter")
    shows(page, "text 2")
    page.keyboard.press("Shift+U")
    shows(page, "text 1")
    page.keyboard.press("Shift+S")
    expect(page.locator("#skip-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#filter-input")).to_have_value("u")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_contain_text("Commands that have a letter take Shift")


def test_the_best_match_comes_first_and_arrows_choose_another(open_screen: Open) -> None:
    names = [*LONG[:8], "lost account", "reflost", "my lost card", "other"]
    round = round_of(texts(3), names)
    page = open_screen(round)
    found = page.locator("#labels button:visible span")

    page.keyboard.type("lost")
    # It begins with it; a word does, the earlier first; within a word.
    assert found.all_inner_texts() == ["lost account", "card lost", "cash lost", "my lost card", "reflost"]
    expect(page.locator("#labels button[data-picked] span")).to_have_text("lost account")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#labels button[data-picked] span")).to_have_text("card lost")
    page.keyboard.press("Enter")
    shows(page, "text 2")

    page.keyboard.type("lost")
    page.keyboard.press("Escape")
    # In front of all: the machine's label, then what was given lately.
    assert page.locator("#likely button span").all_inner_texts() == ["card arrival", "card lost"]
    page.keyboard.type("my")
    page.keyboard.press("Enter")
    shows(page, "text 3")
    page.keyboard.type("lost")
    # Of equals, what was given lately comes first.
    assert found.all_inner_texts() == ["lost account", "my lost card", "card lost", "cash lost", "reflost"]
    saved(page, answered=2)
    assert answers(round)[:2] == ["card lost", "my lost card"]


def test_196_labels_are_comfortable(open_screen: Open) -> None:
    makes = (
        "Acura",
        "Audi",
        "BMW",
        "Bentley",
        "Bugatti",
        "Buick",
        "Cadillac",
        "Chevrolet",
        "Dodge",
        "Ferrari",
        "Fiat",
        "Ford",
        "Honda",
        "Hyundai",
    )
    names = [f"{make} Model {number} {2000 + number}" for make in makes for number in range(1, 15)]
    assert len(names) == 196
    round = round_of(texts(3), names)
    page = open_screen(round)

    page.keyboard.type("fe 12")
    page.keyboard.press("Enter")
    shows(page, "text 2")
    page.keyboard.press("Enter")  # accepts the machine's, however many there are
    shows(page, "text 3")
    saved(page, answered=2)
    assert answers(round)[:2] == ["Ferrari Model 12 2012", "Acura Model 1 2001"]


def test_the_search_field_stays_in_its_place_and_enter_is_at_the_label_that_it_gives(
    open_screen: Open,
) -> None:
    page = open_screen(round_of(texts(2), [f"{name} {number}" for name in LONG for number in range(3)]))
    field, sign = page.locator("#filter-input"), page.locator("#accept-button kbd")
    before = field.bounding_box()
    expect(sign).to_be_visible()

    page.keyboard.type("cash limit 2")
    expect(page.locator("#labels button:visible")).to_have_count(1)
    assert field.bounding_box() == before
    expect(sign).to_be_hidden()
    beside = "getComputedStyle(document.querySelector('#labels [data-picked]'), '::after').content"
    assert page.evaluate(beside) == '"Enter"'

    page.keyboard.press("Escape")
    expect(sign).to_be_visible()
    assert field.bounding_box() == before


@pytest.mark.parametrize("height", [600, 800])
def test_a_note_is_whole_beside_a_long_set_of_labels(open_screen: Open, height: int) -> None:
    page = open_screen(round_of(texts(2), [f"{name} {number}" for name in LONG for number in range(3)]))
    page.set_viewport_size({"width": 1280, "height": height})

    page.keyboard.press("Shift+N")

    for name in ("#note-title", "#note-item", "#note-text", "#note-form [type=submit]"):
        box = page.locator(name).bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height
    page.keyboard.type("Which is it?")
    page.locator("#note-form [type=submit]").click()
    expect(page.locator("#note-panel")).to_be_hidden()


def test_a_label_key_sets_and_never_takes_away(open_screen: Open) -> None:
    round = round_of(texts(2))
    page = open_screen(round)

    page.keyboard.press("1")  # the machine's label already
    shows(page, "text 2")
    saved(page, answered=1)
    assert answers(round) == ["negative", ""]
