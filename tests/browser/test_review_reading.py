"""Reading on the review screen: images looked at closely, long texts, scripts from right to left, notes, guidelines."""

import re

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Comment, Project
from annotate.services.comments import comment_add
from review.models import ReviewTask
from review.services.pauses import pause
from tests.browser.reviewing import Open, answers, lasts, round_of, saved, shows, texts, whole_round
from tests.factories import make_image, make_item, make_project, make_user, png_bytes

pytestmark = pytest.mark.django_db(transaction=True)

ARABIC = "كانت الغرفة جميلة ودافئة، لكن الإفطار تأخر عشرين دقيقة."


def images(count: int = 3) -> Project:
    project = make_project("image_classification", ["cat", "dog"])
    for number in range(count):
        make_item(project, image=make_image(project, png_bytes(f"#3344{number:02}", (800, 600))))
    return project


def box(page: Page) -> dict[str, float]:
    found = page.locator("#frame img").bounding_box()
    assert found is not None
    return {"x": found["x"], "y": found["y"], "width": found["width"], "height": found["height"]}


# --- Images ----------------------------------------------------------------------------------------------------------


def test_an_image_is_zoomed_around_the_pointer_and_moved(open_screen: Open) -> None:
    page = open_screen(whole_round(images()))
    expect(page.locator("#frame")).to_have_attribute("data-state", "there")
    before = box(page)
    at = (before["x"] + before["width"] / 4, before["y"] + before["height"] / 4)

    page.mouse.move(*at)
    page.mouse.wheel(0, -400)
    after = box(page)
    assert after["width"] > 2 * before["width"]
    # The quarter of the image that was under the pointer is still there.
    assert after["x"] + after["width"] / 4 == pytest.approx(at[0], abs=2)
    assert after["y"] + after["height"] / 4 == pytest.approx(at[1], abs=2)

    page.mouse.down()
    page.mouse.move(at[0] - 60, at[1] - 40, steps=4)
    page.mouse.up()
    assert box(page)["x"] == pytest.approx(after["x"] - 60, abs=2)
    assert box(page)["y"] == pytest.approx(after["y"] - 40, abs=2)
    page.keyboard.press("ArrowRight")
    assert box(page)["x"] == pytest.approx(after["x"] - 140, abs=2)
    page.keyboard.press("0")
    assert box(page) == pytest.approx(before, abs=1)


def test_an_image_is_turned_and_shown_dot_by_dot_by_keyboard(open_screen: Open) -> None:
    page = open_screen(whole_round(images()))
    expect(page.locator("#frame")).to_have_attribute("data-state", "there")

    page.keyboard.press("a")
    assert box(page)["width"] == pytest.approx(800, abs=1)
    expect(page.locator("#zoom-level")).to_have_text("100%")
    page.keyboard.press("r")
    assert box(page)["width"] == pytest.approx(600, abs=1)
    page.keyboard.press("Shift+R")
    page.keyboard.press("+")
    assert box(page)["width"] == pytest.approx(1000, abs=2)
    page.keyboard.press("-")
    page.keyboard.press("w")
    expect(page.locator("#frame")).not_to_have_attribute("data-zoomed", "")


def test_what_was_done_to_an_image_is_there_again_and_contrast_can_stay(open_screen: Open) -> None:
    page = open_screen(whole_round(images()))
    image = page.locator("#frame img")
    expect(page.locator("#frame")).to_have_attribute("data-state", "there")

    page.keyboard.press("r")
    page.keyboard.press("c")
    page.locator("#light-contrast").fill("200")
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    assert image.evaluate("image => image.style.filter") == "brightness(100%) contrast(200%) invert(1)"
    page.keyboard.press("1")
    saved(page, answered=1)
    assert image.evaluate("image => [image.style.filter, /rotate.0deg/.test(image.style.transform)]") == [
        "",
        True,
    ]

    page.keyboard.press("u")
    expect(page.locator("#undo-button")).to_be_disabled()
    assert image.evaluate("image => /rotate.90deg/.test(image.style.transform)")
    assert "contrast(200%)" in image.evaluate("image => image.style.filter")
    page.keyboard.press("c")
    page.check("#light-keep")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    saved(page, answered=1)
    assert "contrast(200%)" in image.evaluate("image => image.style.filter")


def test_two_fingers_zoom(open_screen: Open) -> None:
    page = open_screen(whole_round(images()))
    expect(page.locator("#frame")).to_have_attribute("data-state", "there")
    before = box(page)
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    touch = page.context.new_cdp_session(page)

    def send(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        touch.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else points}
        )

    send("touchStart", 40)
    for apart in (50, 60, 70, 80):
        send("touchMove", apart)
    send("touchEnd", 80)
    assert box(page)["width"] == pytest.approx(2 * before["width"], rel=0.05)


# --- Texts -----------------------------------------------------------------------------------------------------------


def test_a_long_text_scrolls_by_itself_and_undo_finds_the_place_again(open_screen: Open) -> None:
    long = "\n\n".join(f"Paragraph {number}. " + "Words that go on and on. " * 40 for number in range(100))
    page = open_screen(round_of([long, "short", "last"]))
    stage = page.locator("#stage")
    assert stage.evaluate("stage => stage.scrollHeight > 5 * stage.clientHeight")
    labels = page.locator("#labels").bounding_box()

    stage.evaluate("stage => { stage.scrollTop = 3000; }")
    assert (
        page.locator("#labels").bounding_box() == labels
    )  # what is known and the labels stay where they are
    page.keyboard.press("1")
    shows(page, "short")
    assert stage.evaluate("stage => stage.scrollTop") == 0
    saved(page, answered=1)
    page.keyboard.press("u")
    expect(page.locator("#text")).to_contain_text("Paragraph 99")
    assert stage.evaluate("stage => stage.scrollTop") == 3000
    measure = page.locator("#text").evaluate(
        "text => { const probe = document.createElement('span'); probe.textContent = '0'.repeat(10);"
        " text.append(probe); const width = probe.getBoundingClientRect().width / 10; probe.remove();"
        " return text.clientWidth / width; }"
    )
    assert 45 <= measure <= 75


@pytest.mark.parametrize(
    ("text", "direction"), [(ARABIC, "rtl"), ("החדר היה נעים וחם.", "rtl"), ("A room.", "ltr")]
)
def test_a_text_has_the_direction_of_its_script(open_screen: Open, text: str, direction: str) -> None:
    page = open_screen(round_of([text]))
    shows(page, text)
    style = page.locator("#text").evaluate("text => getComputedStyle(text).direction")
    assert style == direction


def test_the_size_of_texts_is_remembered(open_screen: Open) -> None:
    page = open_screen(round_of(texts(2)))
    size = "text => parseFloat(getComputedStyle(text).fontSize)"
    before = page.locator("#text").evaluate(size)

    page.keyboard.press(".")
    page.keyboard.press(".")
    larger = page.locator("#text").evaluate(size)
    assert larger > 1.2 * before
    page.reload()
    shows(page, "text 1")
    assert page.locator("#text").evaluate(size) == larger
    page.keyboard.press(",")
    assert page.locator("#text").evaluate(size) < larger


@pytest.mark.parametrize(("text", "forward", "words"), [
    ("One two three four.", "ArrowRight", "two three"),
    ("كانت الغرفة جميلة جدا", "ArrowLeft", "الغرفة جميلة"),
])  # fmt: skip
def test_words_are_marked_by_keyboard_and_quoted(
    open_screen: Open, text: str, forward: str, words: str
) -> None:
    page = open_screen(round_of([text, "text 2"]))
    shows(page, text)

    page.keyboard.press("v")
    page.keyboard.press(forward)
    page.keyboard.press(f"Shift+{forward}")
    page.keyboard.press("n")
    expect(page.locator("#note-text")).to_have_value(f"> {words}\n\n")
    page.keyboard.type("Why?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#note-panel")).to_be_hidden()
    page.keyboard.press("1")  # the item has the focus again
    saved(page, answered=1)

    assert Comment.objects.get().text == f"> {words}\n\nWhy?"


def test_words_marked_by_mouse_are_quoted(open_screen: Open) -> None:
    page = open_screen(round_of(["Marvellous"]))
    page.locator("#text").dblclick(position={"x": 20, "y": 12})
    page.keyboard.press("n")
    expect(page.locator("#note-text")).to_have_value("> Marvellous\n\n")


# --- Notes -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_failing_requests")
def test_a_note_written_without_a_network_is_sent_once_when_it_is_back(open_screen: Open) -> None:
    page = open_screen(round_of(texts(4)))
    shows(page, "text 1")

    page.context.set_offline(True)
    page.keyboard.press("n")
    page.fill("#note-text", "This one is <b>odd</b>.")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("2")
    expect(page.locator("#unsaved")).to_contain_text("1 answer and 1 note are not saved yet")
    shows(page, "text 2")
    page.context.set_offline(False)
    saved(page, answered=1)

    [comment] = Comment.objects.all()
    assert (comment.text, comment.item.text) == ("This one is <b>odd</b>.", "text 1")


def test_a_draft_is_kept_and_can_be_sent_after_the_answer(open_screen: Open) -> None:
    page = open_screen(round_of(texts(3)))
    shows(page, "text 1")
    page.keyboard.press("n")
    page.fill("#note-text", "Not finished")
    page.keyboard.press("Escape")
    expect(page.locator("#note-panel")).to_be_hidden()
    expect(page.locator("#note-count")).to_have_text("1 not sent")
    page.keyboard.press("1")
    shows(page, "text 2")
    saved(page, answered=1)
    page.reload()
    shows(page, "text 2")
    expect(page.locator("#note-count")).to_have_text("1 not sent")

    page.keyboard.press("n")
    expect(page.locator("#note-text")).to_have_value("")  # that is the item on the page
    page.locator("#note-item").select_option(index=1)
    expect(page.locator("#note-text")).to_have_value("Not finished")
    with page.expect_response("**/comments/"):
        page.click("#note-form button[type=submit]")
    expect(page.locator("#note-count")).to_be_hidden()
    assert Comment.objects.get().item.text == "text 1"


def test_the_note_button_shows_how_many_comments_the_item_has(open_screen: Open) -> None:
    round = round_of(texts(2))
    item = round.tasks.get(rank=0).item
    for words in ("Irony?", "No."):
        comment_add(item=item, user=round.created_by, text=words)

    page = open_screen(round)
    shows(page, "text 1")
    expect(page.locator("#note-count")).to_have_text("2")
    page.keyboard.press("n")
    expect(page.locator("#note-others")).to_contain_text("Irony?")
    page.keyboard.press("Escape")
    page.keyboard.press("1")

    shows(page, "text 2")
    expect(page.locator("#note-count")).to_be_hidden()


# --- What reviewers see ----------------------------------------------------------------------------------------------


def test_each_item_shows_what_its_arm_says_and_nothing_moves(open_screen: Open) -> None:
    round = round_of(texts(3))
    for task, arm in zip(round.tasks.order_by("rank"), ("criticism", "label", "blind"), strict=True):
        ReviewTask.objects.filter(pk=task.pk).update(arm=arm)
    page = open_screen(round)
    places = []

    shows(page, "text 1")
    expect(page.locator("#criticism")).to_be_visible()
    places.append(page.locator("#labels button").first.bounding_box())
    page.keyboard.press("Enter")
    shows(page, "text 2")
    expect(page.locator("#machine-label")).to_have_text("negative")
    expect(page.locator("#criticism")).to_be_hidden()
    expect(page.locator("#doubt-line")).to_be_hidden()
    places.append(page.locator("#labels button").first.bounding_box())
    page.keyboard.press("Enter")
    shows(page, "text 3")
    expect(page.locator("#machine")).to_be_hidden()
    expect(page.locator("#arm")).to_contain_text("without the machine's label")
    expect(page.locator("[data-machine]")).to_have_count(0)
    places.append(page.locator("#labels button").first.bounding_box())
    page.keyboard.press("Enter")  # there is nothing to accept
    expect(page.locator("#hint")).to_contain_text("Nothing is accepted")
    shows(page, "text 3")
    page.keyboard.press("2")
    saved(page, answered=3)

    assert places[0] == places[1] == places[2]
    assert answers(round) == ["negative", "negative", "positive"]


def test_guidelines_open_beside_the_item(open_screen: Open) -> None:
    round = round_of(texts(3), instructions="# Look twice\n\nIrony **counts**. <img src=x onerror=alert(1)>")
    positive = round.project.labels.get(name="positive")
    positive.guideline = "Only *praise*."
    positive.save()
    positive.examples.create(item=make_item(round.project, text="So good!"), created_by=round.created_by)
    page = open_screen(round)

    page.keyboard.press("g")
    guide = page.locator("#guide")
    expect(guide.locator("strong")).to_have_text("counts")
    expect(guide.locator("#guide-labels h3")).to_have_text(["negative"])  # the label in question
    page.locator("#labels button").nth(1).hover()
    expect(guide.locator("#guide-labels h3")).to_have_text(["positive", "negative"])
    expect(guide.locator("#guide-labels")).to_contain_text("Only praise.")
    expect(guide.locator("#guide-labels")).to_contain_text("So good!")
    assert page.locator("main img").count() == 0
    page.keyboard.press("2")  # keys go on
    shows(page, "text 2")
    expect(guide).to_be_visible()
    page.keyboard.press("Escape")
    expect(guide).to_be_hidden()


# --- People who stop -------------------------------------------------------------------------------------------------


def test_items_are_handed_back_and_taken_again(open_screen: Open) -> None:
    rita = make_user("rita")
    round = round_of(texts(6), reviewers=[rita])
    page = open_screen(round, user=rita)
    shows(page, "text 1")
    expect(page.locator("#progress-left")).to_have_text("6 left for you")
    expect(page.locator(".review-back")).to_have_attribute("href", f"/projects/{round.project_id}/")

    page.click("#menu summary")
    page.click("#hand-back")
    expect(page.locator("#done-title")).to_have_text("Your items are handed back")
    lasts(page)
    assert not round.tasks.filter(state=ReviewTask.State.LEASED).exists()
    page.click("#look-again")
    shows(page, "text 1")


@pytest.mark.usefixtures("_failing_requests")
def test_somebody_who_is_paused_reads_why(open_screen: Open) -> None:
    rita = make_user("rita")
    round = round_of(texts(6), reviewers=[rita])
    pause(round=round, user=rita, by=round.created_by, reason="Please read the guidelines again.")
    page = open_screen(round, user=rita)
    expect(page.locator("#done-title")).to_have_text("You cannot go on for now")
    expect(page.locator("#done-text")).to_have_text(re.compile("Please read the guidelines again"))
