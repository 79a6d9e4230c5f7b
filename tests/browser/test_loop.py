"""The whole loop in a real browser, from signing in to the downloaded export."""

import csv
import json
import random
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from tests.browser.conftest import keep_problems
from tests.factories import make_user

PASSWORD = "a-long-enough-one"
WORDS = {
    "good": ["lovely", "bright", "kind", "warm", "wonderful"],
    "bad": ["awful", "dull", "rude", "cold", "broken"],
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """120 short texts with a gold column; every tenth has the words of the other label, so that there are errors."""
    rng = random.Random(7)
    path = tmp_path / "remarks.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number in range(120):
            gold = "good" if number % 2 else "bad"
            other = "bad" if gold == "good" else "good"
            words = rng.sample(WORDS[other if number % 10 == 0 else gold], 3)
            writer.writerow(
                [f"r{number}", f"The {words[0]} room was {words[1]} and {words[2]} <b>{number}</b>", gold]
            )
        writer.writerow(["r1", "an id that is there already", "good"])
    return path


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(180)
def test_from_upload_to_export(
    live_server: LiveServer, page: Page, worker: None, table: Path, tmp_path: Path
) -> None:
    """A person makes a project, uploads, calibrates, annotates, criticizes, reviews by keyboard and exports."""
    make_user("alice", password=PASSWORD)
    problems: list[str] = []
    keep_problems(page, problems)

    page.goto(live_server.url)
    page.fill("[name=username]", "alice")
    page.fill("[name=password]", PASSWORD)
    page.click("button[type=submit]")

    page.get_by_role("link", name="New project").first.click()
    page.fill("[name=name]", "Remarks <script>alert(1)</script>")
    page.check("[name=task_type][value=text_classification]")
    page.click("text=Create the project")

    page.get_by_role("link", name="Uploads").first.click()
    page.set_input_files("#id_file", table)
    if page.locator("form[data-upload] button[type=submit]").is_visible():
        page.locator("form[data-upload] button[type=submit]").click()
    expect(page.get_by_role("heading", name="Match the columns")).to_be_visible()
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("is in this file twice")).to_be_visible()  # the row with a doubled id, by name

    page.get_by_role("navigation", name="Project").get_by_role("link", name="Models").click()
    take = page.locator("form", has=page.get_by_role("button", name="Take random ones"))
    take.locator("input[type=number]").fill("40")
    take.get_by_role("button").click()

    page.get_by_role("link", name="Annotation").first.click()
    page.check("[name=kind][value=trained]")
    page.get_by_role("button", name="Start annotating").click()
    page.get_by_role("link", name="Criticize these labels").click(timeout=30_000)
    page.check("[name=kind][value=trained]")
    page.get_by_role("button", name="Start criticizing").click()
    page.get_by_role("link", name="Draw a review round").click(timeout=30_000)
    page.fill("[name=budget]", "10")
    page.get_by_role("button", name="Draw the round").click()
    page.get_by_role("link", name="Review", exact=True).last.click()

    review_by_keyboard(page, tasks=8)
    expect(page.locator("#done-title")).to_be_visible()
    page.locator("#done").get_by_role("link", name="Export").click()
    page.check("[name=layout][value=wide]")
    page.check("[name=format][value=jsonl]")
    page.get_by_role("button", name="Write the export").click()
    with page.expect_download(timeout=30_000) as download:
        page.get_by_role("link", name="Download").first.click(timeout=30_000)
    target = tmp_path / "export.zip"
    download.value.save_as(target)
    with zipfile.ZipFile(target) as archive:
        (table_name,) = set(archive.namelist()) - {"README.md", "data_card.json"}
        lines = archive.read(table_name).decode().splitlines()
        assert json.loads(archive.read("data_card.json"))["reviews"]["answered"] == 7
    check_export([json.loads(line) for line in lines])
    assert problems == []


def review_by_keyboard(page: Page, *, tasks: int) -> None:
    """Accept the first item, take that back, correct it, skip the second, and accept the others."""
    progress = page.locator("#progress-text")
    labels = page.locator("#labels button")
    expect(labels).to_have_count(2)
    machine = page.locator("#machine-label")
    expect(machine).to_be_visible()
    first = page.locator("#text").inner_text()
    assert "<b>" in first  # markup in a text is shown as text
    said = machine.inner_text()
    page.keyboard.press("Enter")
    expect(progress).to_contain_text("1 of")
    page.keyboard.press("u")
    expect(page.locator("#text")).to_have_text(first)
    names = [name.split("\n")[-1] for name in labels.all_inner_texts()]
    page.keyboard.press(str(names.index(next(name for name in names if name != said)) + 1))
    expect(progress).to_contain_text("1 of")
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(progress).to_contain_text("2 of")
    for number in range(3, tasks + 1):
        # The next one may still be on its way.
        expect(page.locator("#review[data-state=item]")).to_be_visible()
        page.keyboard.press("Enter")
        expect(progress).to_contain_text(f"{number} of")


def check_export(rows: list[dict[str, object]]) -> None:
    """What the person did is in the file, with the weights of the threshold rule."""
    by_status: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        by_status.setdefault(str(row["status"]), []).append(row)
    assert {status: len(of) for status, of in by_status.items()} == {
        "calibration": 40,
        "machine": 72,
        "reviewed": 7,
        "unanswered": 1,
    }
    corrected = [row for row in by_status["reviewed"] if row["human_label"] != row["machine_label"]]
    assert len(corrected) == 1
    for row in by_status["reviewed"]:
        assert (row["machine_weight"], row["human_weight"], row["reviewer"]) == (0.0, 1.0, "alice")
    for row in by_status["machine"] + by_status["unanswered"]:
        assert (row["machine_weight"], row["human_weight"], row["final_label"]) == (
            1.0,
            0.0,
            row["machine_label"],
        )
