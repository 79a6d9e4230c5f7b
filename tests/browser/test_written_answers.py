"""Reviewing written answers in a real browser: facts in doubt, accepting, editing, taking back, and audits."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Dialog, Page, Route, expect

from annotate.models import Project
from review.models import Correction, ReviewRound
from review.selectors import round_progress
from review.services.audits import audit_round_create
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_close
from tests.browser.conftest import keep_problems
from tests.factories import make_item, make_round
from tests.written_answers import make_checks, make_ratings, make_written_project, make_written_run

pytestmark = pytest.mark.django_db(transaction=True)

Open = Callable[..., Page]

SOURCE = (
    "The harbour bridge in Esbjerg was closed on Tuesday after an inspection found cracks in two of its eleven "
    "steel joints. The municipality expects repairs to take six weeks and to cost 1.4 million kroner.\n\n"
    "Traffic is led over the northern road. Buses 5 and 7 stop at the station until the bridge is open again. "
    "“We would rather close it a week too early than a day too late,” said the chief engineer, Dr. Maja Holm."
)
FACTS = [
    ("😀 The harbour bridge was closed on Tuesday.", 0.031),
    ("Cracks were found in all eleven joints.", 0.912),
    ("Repairs take six weeks and cost 1.4 million kroner.", 0.064),
    ("Buses 5 and 7 were cancelled.", 0.374),
    ("Dr. Maja Holm ordered a new bridge.", 0.871),
]
ANSWER = " ".join(statement for statement, _ in FACTS)


@pytest.fixture
def problems() -> Iterator[list[str]]:
    """What went wrong in any page of the test; a test that expects something takes it out."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def open_screen(signed_in: Callable[..., BrowserContext], problems: list[str]) -> Open:
    """Call it with a round: the review screen of its owner."""

    def open_screen(round: ReviewRound) -> Page:
        page = signed_in(round.created_by).new_page()
        keep_problems(page, problems)
        page.goto(f"/projects/{round.project_id}/review-rounds/{round.pk}/work/")
        expect(page.locator("#review")).to_have_attribute("data-state", re.compile("item|done"))
        return page

    return open_screen


def checked_round(
    answers: Sequence[Sequence[tuple[str, float]]] = (FACTS,), source: str = SOURCE
) -> ReviewRound:
    """All of the answers, checked fact by fact, in their order."""
    project = make_written_project("written_facts")
    items = [make_item(project, text=source) for _ in answers]
    texts = [" ".join(statement for statement, _ in facts) for facts in answers]
    run = make_written_run(project, dict(zip(items, texts, strict=True)))
    return make_round(make_checks(run, answers), len(items))


def rated_round(texts: Sequence[str], project: Project | None = None) -> ReviewRound:
    """All of the texts, rated, the worst first; "" is an answer that failed, which comes before them."""
    project = project or make_written_project()
    run = make_written_run(project, {make_item(project, text=f"source {text}"): text for text in texts})
    rated = sum(bool(text) for text in texts)
    return make_round(make_ratings(run, [0.1 * (place + 1) for place in range(rated)]), len(texts))


def corrections(round: ReviewRound) -> list[str]:
    """What people did with the first task: texts, and other actions."""
    rows = Correction.objects.filter(task__round=round, task__rank=0).order_by("pk")
    return [row.answer or row.action for row in rows]


def shows(page: Page, text: str) -> None:
    expect(page.locator("#written-text")).to_have_text(text)
    expect(page.locator("#review")).to_have_attribute("data-state", "item")


def saved(page: Page, *, answered: int) -> None:
    expect(page.locator("#progress-text")).to_have_attribute("title", re.compile(f"^{answered} answered"))
    expect(page.locator("#unsaved")).to_be_hidden()


# --- Facts -----------------------------------------------------------------------------------------------------------


def test_facts_in_doubt_are_marked_in_place_by_more_than_color(open_screen: Open) -> None:
    page = open_screen(checked_round())
    shows(page, ANSWER)
    marks = page.locator("mark.fact")

    assert marks.all_text_contents() == [FACTS[1][0], FACTS[3][0], FACTS[4][0]]
    assert [mark.get_attribute("data-doubt") for mark in marks.all()] == ["strong", "light", "strong"]
    assert [mark.get_attribute("data-badge") for mark in marks.all()] == ["2: 0.91", "4: 0.37", "5: 0.87"]
    expect(marks.first).to_have_attribute("title", "Fact 2: error probability 0.912")
    looks = [
        mark.evaluate(
            "m => [getComputedStyle(m).textDecorationStyle, getComputedStyle(m, '::after').content]"
        )
        for mark in marks.all()
    ]
    assert looks == [["solid", '"2: 0.91"'], ["dotted", '"4: 0.37"'], ["solid", '"5: 0.87"']]
    expect(page.locator("#fact-count")).to_have_text("3 of 5 facts in doubt")
    expect(page.locator("#text")).to_have_text(SOURCE)


def test_f_goes_to_the_next_fact_in_doubt_and_shift_f_back(open_screen: Open) -> None:
    page = open_screen(checked_round())
    shows(page, ANSWER)
    current = page.locator("mark[data-current]")

    for key, place in (("f", 1), ("f", 3), ("F", 1), ("F", 4), ("f", 1)):
        page.keyboard.press("Shift+F" if key == "F" else "f")
        expect(current).to_have_text(FACTS[place][0])
        expect(current).to_be_focused()
    expect(page.locator("#announcer")).to_contain_text("Fact 2: error probability 0.912. Cracks were found")
    page.locator("#fact-next").click()
    expect(current).to_have_text(FACTS[3][0])
    page.keyboard.press("Enter")  # the button keeps its meaning
    expect(current).to_have_text(FACTS[4][0])
    page.keyboard.press("f")
    expect(current).to_have_text(FACTS[1][0])
    page.keyboard.press("Enter")  # on the item it accepts
    saved(page, answered=1)


def test_shift_f_begins_with_the_last_fact(open_screen: Open) -> None:
    page = open_screen(checked_round())
    shows(page, ANSWER)
    page.keyboard.press("Shift+F")

    expect(page.locator("mark[data-current]")).to_have_text(FACTS[4][0])


def test_an_answer_without_doubtful_facts_says_so(open_screen: Open) -> None:
    page = open_screen(checked_round([[("It is so.", 0.1), ("And so.", 0.2)]]))

    expect(page.locator("#fact-count")).to_have_text("None of 2 facts is in doubt")
    expect(page.locator("#fact-next")).to_be_hidden()
    page.keyboard.press("f")
    expect(page.locator("#announcer")).to_contain_text("No fact is in doubt.")


def test_words_of_the_answer_are_never_markup(open_screen: Open) -> None:
    hostile = "<img src=x onerror=alert(1)> & <b>bold</b>."
    page = open_screen(checked_round([[(hostile, 0.9)]], source="<script>alert(1)</script>"))

    shows(page, hostile)
    expect(page.locator("#written-text img, #written-text b, #text script")).to_have_count(0)


def test_texts_that_run_from_right_to_left_do(open_screen: Open) -> None:
    page = open_screen(checked_round([[("هطل المطر طوال اليوم.", 0.9)]], source="هطل المطر."))

    for place in ("#text", "#written-text"):
        assert page.locator(place).evaluate("e => getComputedStyle(e).direction") == "rtl"
    page.keyboard.press("e")
    assert page.locator("#written-editor").evaluate("e => getComputedStyle(e).direction") == "rtl"


# --- Accepting and editing -------------------------------------------------------------------------------------------


def test_enter_accepts_the_answer_as_it_is(open_screen: Open) -> None:
    round = rated_round(["one\n\ntwo 😀", "three"])
    page = open_screen(round)
    shows(page, "one\n\ntwo 😀")
    expect(page.locator("#doubt-number")).to_have_text("0.100")
    expect(page.locator("#doubt-line")).to_contain_text("quality")
    expect(page.locator(".review")).not_to_contain_text("error probability")

    page.keyboard.press("Enter")
    shows(page, "three")
    page.locator("#accept-button").click()
    saved(page, answered=2)

    assert corrections(round) == ["one\n\ntwo 😀"]
    assert round_progress(round).corrected == 0


def test_an_edit_is_saved_with_control_and_enter(open_screen: Open) -> None:
    round = rated_round(["one", "two"])
    page = open_screen(round)
    shows(page, "one")
    page.keyboard.press("e")
    editor = page.locator("#written-editor")
    expect(editor).to_be_focused()
    expect(editor).to_have_value("one")
    expect(page.locator("#accept-button")).to_be_hidden()

    page.keyboard.press("End")
    page.keyboard.type(" sets use F, 1, s?\n")
    page.keyboard.type("and lines ")
    page.keyboard.press("Control+Enter")
    shows(page, "two")
    expect(page.locator("#undo-button")).to_have_text("Undo edited")
    saved(page, answered=1)

    assert corrections(round) == ["one sets use F, 1, s?\nand lines"]
    assert round_progress(round).corrected == 1


def test_escape_leaves_without_loss_and_e_goes_on(open_screen: Open) -> None:
    round = rated_round(["one", "two"])
    page = open_screen(round)
    shows(page, "one")
    page.keyboard.press("e")
    page.locator("#written-editor").fill("one and more")
    page.keyboard.press("Escape")

    shows(page, "one")
    expect(page.locator("#written-draft")).to_be_visible()
    expect(page.locator("#edit-text")).to_have_text("Go on")
    page.keyboard.press("e")
    expect(page.locator("#written-editor")).to_have_value("one and more")
    page.locator("#save-button").click()
    saved(page, answered=1)
    assert corrections(round) == ["one and more"]


def test_an_edit_is_taken_back_with_its_words_from_the_server_too(open_screen: Open) -> None:
    round = rated_round(["one", "two"])
    page = open_screen(round)
    shows(page, "one")
    page.keyboard.press("e")
    page.locator("#written-editor").fill("mine")
    page.keyboard.press("Control+Enter")
    saved(page, answered=1)
    page.reload()  # the page knows of nothing: the server says what was taken back
    shows(page, "two")

    page.keyboard.press("u")
    shows(page, "one")
    page.keyboard.press("e")
    expect(page.locator("#written-editor")).to_have_value("mine")
    page.locator("#written-editor").fill("mine, again")
    page.keyboard.press("Control+Enter")
    shows(page, "two")
    saved(page, answered=1)
    assert corrections(round) == ["mine", "undo", "mine, again"]


def test_nothing_is_saved_from_an_empty_field(open_screen: Open) -> None:
    round = rated_round(["one"])
    page = open_screen(round)
    shows(page, "one")
    page.keyboard.press("e")
    page.locator("#written-editor").fill(" \n ")
    page.keyboard.press("Control+Enter")

    expect(page.locator("#notice-text")).to_have_text(
        "Write an answer, or leave the field and skip the item."
    )
    expect(page.locator("#written-editor")).to_be_focused()
    assert corrections(round) == []


def test_where_the_machine_failed_a_person_writes(open_screen: Open) -> None:
    round = rated_round([""])
    page = open_screen(round)
    expect(page.locator("#written-missing")).to_be_visible()
    expect(page.locator("#failure-text")).to_have_text(
        "The machine gave no answer. The model declined to answer."
    )
    expect(page.locator("#accept-button")).to_be_disabled()
    page.keyboard.press("Enter")
    expect(page.locator("#edit-text")).to_have_text("Write")
    page.keyboard.press("e")
    page.keyboard.type("mine")
    page.keyboard.press("Control+Enter")
    saved(page, answered=1)
    assert corrections(round) == ["mine"]


def test_an_item_can_be_skipped_with_a_reason_of_its_kind(open_screen: Open) -> None:
    round = rated_round(["one"])
    page = open_screen(round)
    shows(page, "one")
    page.keyboard.press("s")
    page.keyboard.press("3")

    expect(page.locator("#done-title")).to_have_text("Nothing left to review")
    assert Correction.objects.get().reason == "Too much is wrong to mend"


def test_words_survive_a_network_that_fails(open_screen: Open, problems: list[str]) -> None:
    round = rated_round(["one", "two"])
    page = open_screen(round)
    shows(page, "one")
    submits = re.compile(r"/submit/$")
    page.route(submits, lambda route: route.abort())
    page.keyboard.press("e")
    page.locator("#written-editor").fill("mine")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#unsaved-text")).to_contain_text("1 answer is not saved yet")
    page.unroute(submits)
    page.locator("#unsaved-button").click()
    saved(page, answered=1)

    assert corrections(round) == ["mine"]
    problems[:] = [each for each in problems if "Failed to load resource" not in each]


def test_words_that_the_server_refuses_are_kept_for_the_item(open_screen: Open, problems: list[str]) -> None:
    round = rated_round(["one", "two"])
    page = open_screen(round)
    shows(page, "one")

    def refuse(route: Route) -> None:
        route.fulfill(status=409, json={"detail": "It was answered in another tab."})

    page.route(re.compile(r"/submit/$"), refuse, times=1)
    page.keyboard.press("e")
    page.locator("#written-editor").fill("mine")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#notice-text")).to_contain_text("was not kept. It was answered in another tab.")
    shows(page, "two")
    page.keyboard.press("Enter")
    shows(page, "one")
    page.keyboard.press("e")
    expect(page.locator("#written-editor")).to_have_value("mine")
    problems[:] = [each for each in problems if "Failed to load resource" not in each]


def test_what_is_being_written_is_not_taken_away_when_the_lease_is_lost(open_screen: Open) -> None:
    round = rated_round(["one", "two"])
    page = open_screen(round)
    shows(page, "one")
    page.keyboard.press("e")
    page.locator("#written-editor").fill("mine")
    round_close(round=round, user=round.created_by)
    page.evaluate("dispatchEvent(new Event('online'))")

    expect(page.locator("#notice-text")).to_contain_text("You can still save your text")
    expect(page.locator("#written-editor")).to_have_value("mine")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#review")).to_have_attribute("data-state", "done")
    assert corrections(round) == ["mine"]


def test_the_page_asks_before_words_are_lost(open_screen: Open) -> None:
    page = open_screen(rated_round(["one"]))
    shows(page, "one")
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    page.keyboard.press("e")
    page.keyboard.type("more ")
    page.reload()

    assert asked == ["beforeunload"]


# --- Audits ----------------------------------------------------------------------------------------------------------


def test_an_audit_shows_the_answer_and_nothing_of_its_criticism(open_screen: Open) -> None:
    project = make_written_project("written_facts")
    items = [make_item(project, text=SOURCE) for _ in range(2)]
    run = make_written_run(project, dict.fromkeys(items, ANSWER))
    round = make_round(make_checks(run, [FACTS, FACTS]), 1)
    task = tasks_claim(round=round, user=round.created_by)[0]
    task_submit(task=task, user=round.created_by, answer=Answer(action="label", text=ANSWER))
    audit = audit_round_create(round=round, user=round.created_by, count=1)
    page = open_screen(audit)
    shows(page, ANSWER)

    expect(page.locator("mark.fact")).to_have_count(0)
    expect(page.locator("#fact-bar")).to_be_hidden()
    expect(page.locator(".review-said")).not_to_contain_text("One of them is not in the source")
    expect(page.locator(".review-said")).to_contain_text("nothing of what a criticizer made of it")
    page.keyboard.press("Enter")
    saved(page, answered=1)
    assert corrections(audit) == [ANSWER]


# --- Looks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1280, 1920])
def test_nothing_scrolls_sideways_and_all_is_within_reach(open_screen: Open, width: int, scheme: str) -> None:
    page = open_screen(checked_round())
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    shows(page, ANSWER)
    sideways = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"

    assert not page.evaluate(sideways)
    for button in ("#accept-button", "#edit-button", "#skip-button"):
        expect(page.locator(button)).to_be_in_viewport(ratio=1)
    keep(page, f"facts-{width}-{scheme}")
    page.keyboard.press("Shift+F")
    expect(page.locator("mark[data-current]")).to_be_in_viewport()
    page.keyboard.press("e")
    expect(page.locator("#save-button")).to_be_in_viewport(ratio=1)
    assert not page.evaluate(sideways)
    keep(page, f"edit-{width}-{scheme}")


def keep(page: Page, name: str) -> None:
    """For people to look at, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
