"""A team's whole week in real browsers: a manager, two reviewers, an item on which they differ, and the export."""

import csv
import json
import random
import re
import zipfile
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotate.models import Project, User
from review.models import ReviewRound, ReviewTask
from tests.browser.conftest import SignedIn, keep_problems
from tests.factories import make_membership, make_user

WORDS = {
    "good": ("lovely", "bright", "kind", "warm", "wonderful"),
    "bad": ("awful", "dull", "rude", "cold", "broken"),
}
SIGNS = {"good": "Plus", "bad": "Minus"}
OTHER = {"good": "bad", "bad": "good"}
KEYS = {"bad": "1", "good": "2"}
ITEMS, CALIBRATION, BUDGET, READ_TWICE = 100, 20, 20, 10


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """100 short texts without labels. What each is shows in its first word; every sixth goes on like the other kind."""
    rng = random.Random(11)
    path = tmp_path / "remarks.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for number in range(ITEMS):
            kind = "good" if number % 2 else "bad"
            first, second = rng.sample(WORDS[OTHER[kind] if number % 6 == 0 else kind], 2)
            writer.writerow([f"r{number}", f"{SIGNS[kind]}, {first} {second} on day {number}"])
    return path


def truth(text: str) -> str:
    return "good" if text.startswith(SIGNS["good"]) else "bad"


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(240)
def test_a_team_reviews_differs_decides_and_exports(
    signed_in: SignedIn, worker: None, problems: list[str], table: Path, tmp_path: Path
) -> None:
    """Upload, blind calibration, plan, both machines, 20 items by keyboard, one adjudicated, the export."""
    manager, reviewers = make_user("mona"), [make_user("rita"), make_user("rob")]
    page = page_of(signed_in, manager, problems)
    project = make_project_of(page, table)
    for reviewer in reviewers:
        make_membership(project, reviewer)

    label_blind(page, project)
    plan(page, project)
    run_both_machines(page)
    draw(page)
    round = ReviewRound.objects.get(kind="review")
    assert round.tasks.count() == BUDGET + READ_TWICE

    screens = [page_of(signed_in, reviewer, problems) for reviewer in reviewers]
    disputed = review_by_keyboard(screens, project, round)
    adjudicate_by_keyboard(page, project, disputed)
    check_export(export(page, project, tmp_path), disputed)


def page_of(signed_in: SignedIn, user: User, problems: list[str]) -> Page:
    page = signed_in(user).new_page()
    keep_problems(page, problems)
    return page


def make_project_of(page: Page, table: Path) -> Project:
    page.goto(reverse("project_new"))
    page.fill("[name=name]", "Remarks")
    page.check("[name=task_type][value=text_classification]")
    page.fill("[name=labels]", "bad\ngood")
    page.get_by_role("button", name="Create the project").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Uploads")
    project = Project.objects.get()
    page.set_input_files("#id_file", table)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("heading", name="Match the columns")).to_be_visible()
    page.get_by_role("button", name="Import").click()
    expect(page.locator(".figure").first).to_have_text(f"Items imported{ITEMS}", timeout=20_000)
    return project


def label_blind(page: Page, project: Project) -> None:
    """A calibration set of 20, by keyboard, without anything that a machine said."""
    page.goto(reverse("calibration", args=[project.pk]))
    form = page.locator("form", has=page.get_by_role("button", name="Label them blind"))
    form.locator("[name=count]").fill(str(CALIBRATION))
    form.get_by_role("button", name="Label them blind").click()
    for _ in range(CALIBRATION):
        text = shown(page)
        expect(page.locator("#machine-label")).to_be_hidden()
        press(page, truth(text))
    expect(page.locator("#done-title")).to_be_visible()
    expect(page.locator("#unsaved")).to_be_hidden()
    labels = project.calibration_labels.select_related("item", "label")
    assert [each.label and each.label.name for each in labels] == [truth(each.item.text) for each in labels]
    assert len(labels) == CALIBRATION


def plan(page: Page, project: Project) -> None:
    """The trained annotator is tried on the calibration items; its errors are the budget that is recommended."""
    page.goto(reverse("candidates", args=[project.pk]))
    page.get_by_label("The trained classifier").check()
    page.get_by_role("button", name="Try them").click()
    expect(page.locator(".leaderboard tbody tr")).to_contain_text(f"of {CALIBRATION}", timeout=30_000)
    page.goto(reverse("budget_planner", args=[project.pk]))
    expect(page.get_by_text("Recommended")).to_be_visible()
    page.get_by_label("Budget, in reviews").first.fill(str(BUDGET))
    expect(page.get_by_role("heading", level=2, name=f"{BUDGET} reviews, 25.0% of 80 items")).to_be_visible()
    page.get_by_role("link", name="Annotate the items").click()


def run_both_machines(page: Page) -> None:
    """The trained pair: it needs no key."""
    page.check("[name=kind][value=trained]")
    page.get_by_role("button", name="Start annotating").click()
    page.get_by_role("link", name="Criticize these labels").click(timeout=30_000)
    page.check("[name=kind][value=trained]")
    page.get_by_role("button", name="Start criticizing").click()
    page.get_by_role("link", name="Draw a review round").click(timeout=30_000)


def draw(page: Page) -> None:
    """Two people for half of the items."""
    page.fill("[name=budget]", str(BUDGET))
    page.select_option("[name=unit]", "count")
    page.get_by_text("Reviewers: what they see").click()
    page.fill("[name=overlap_share]", str(100 * READ_TWICE // BUDGET))
    page.fill("[name=overlap]", "2")
    page.get_by_role("button", name="Draw the round").click()
    expect(page).to_have_url(re.compile(r"/review-rounds/\d+/$"))


def review_by_keyboard(screens: list[Page], project: Project, round: ReviewRound) -> str:
    """Both answer in turn until nothing is left, the second one wrongly for one item that the first answers rightly.

    Returns that item's text. Nobody reads an item twice, and together they read what overlap asks for.
    """
    for screen in screens:
        screen.goto(reverse("project", args=[project.pk]))
        screen.get_by_role("link", name="Start reviewing").focus()
        screen.keyboard.press("Enter")
    disputed = round.tasks.filter(copy=1).select_related("item").earliest("rank").item.text
    read: list[list[str]] = [[], []]
    while True:
        at_work = [number for number, screen in enumerate(screens) if has_item(screen)]
        if not at_work:
            break
        for number in at_work:
            text = shown(screens[number])
            read[number].append(text)
            wrong = number == 1 and text == disputed
            press(
                screens[number], truth("Minus" if truth(text) == "good" else "Plus") if wrong else truth(text)
            )
    for screen in screens:
        expect(screen.locator("#unsaved")).to_be_hidden()
    assert [len(texts) for texts in read] == [len(set(texts)) for texts in read]
    assert len(read[0]) + len(read[1]) == BUDGET + READ_TWICE
    assert len({*read[0], *read[1]}) == BUDGET
    return disputed


def has_item(screen: Page) -> bool:
    """Whether there is something to answer; the screen may still be asking for it."""
    expect(screen.locator("#review")).to_have_attribute("data-state", re.compile("^(item|done)$"))
    return screen.locator("#review").get_attribute("data-state") == "item"


def shown(screen: Page) -> str:
    expect(screen.locator("#review")).to_have_attribute("data-state", "item")
    return screen.locator("#text").inner_text()


def press(screen: Page, label: str) -> None:
    """The key of the label; the next item, or the end, shows after it."""
    task = screen.locator("#review").get_attribute("data-task") or ""
    screen.keyboard.press(KEYS[label])
    expect(screen.locator(f'#review[data-state=item][data-task="{task}"]')).to_have_count(0)


def adjudicate_by_keyboard(page: Page, project: Project, disputed: str) -> None:
    page.goto(reverse("adjudication", args=[project.pk]))
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text(disputed)
    page.get_by_role("link", name="Decide 1 item").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".decide-words")).to_contain_text(disputed)
    said = page.locator(".decide-answers")
    for words in ("rita", "rob", "good", "bad"):
        expect(said).to_contain_text(words)
    page.wait_for_load_state()  # the words are there before the keys are
    page.keyboard.press(KEYS[truth(disputed)])
    expect(page.get_by_role("heading", name="Everything is decided")).to_be_visible()
    assert ReviewTask.objects.filter(purpose="adjudication", state="answered").count() == 1


def export(page: Page, project: Project, tmp_path: Path) -> list[dict[str, object]]:
    page.goto(reverse("exports", args=[project.pk]))
    page.check("[name=layout][value=wide]")
    page.check("[name=format][value=jsonl]")
    page.get_by_role("button", name="Write the export").click()
    with page.expect_download(timeout=30_000) as download:
        page.get_by_role("link", name="Download").first.click(timeout=30_000)
    target = tmp_path / "export.zip"
    download.value.save_as(target)
    with zipfile.ZipFile(target) as archive:
        card = json.loads(archive.read("data_card.json"))
        assert card["reviews"]["answered"] == BUDGET
        (name,) = set(archive.namelist()) - {"README.md", "data_card.json"}
        return [json.loads(line) for line in archive.read(name).decode().splitlines()]


def check_export(rows: list[dict[str, object]], disputed: str) -> None:
    """Every item once, with the truth wherever people were, and one label that a manager decided."""
    assert len(rows) == ITEMS
    by_status: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        by_status.setdefault(str(row["status"]), []).append(row)
    assert {status: len(of) for status, of in by_status.items()} == {
        "calibration": CALIBRATION,
        "reviewed": BUDGET,
        "machine": ITEMS - CALIBRATION - BUDGET,
    }
    (adjudicated,) = [row for row in rows if row["label_source"] == "adjudicated"]
    assert (adjudicated["text"], adjudicated["reviewer"]) == (disputed, "mona")
    assert {row["reviewer"] for row in by_status["reviewed"]} == {"mona", "rita", "rob"}
    for row in by_status["reviewed"]:
        assert row["final_label"] == row["human_label"] == truth(str(row["text"]))
        assert (row["machine_weight"], row["human_weight"]) == (0.0, 1.0)
    for row in by_status["machine"]:
        assert row["final_label"] == row["machine_label"]
        assert (row["machine_weight"], row["human_weight"]) == (1.0, 0.0)
