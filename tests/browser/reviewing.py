"""Rounds to review in the browser, and what tests of the review screen ask of its page."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from playwright.sync_api import Page, expect

from annotate.models import Project
from review.models import Correction, ReviewRound
from tests.factories import make_annotation_run, make_criticism_run, make_item, make_project, make_round

Open = Callable[..., Page]


def address_of(round: ReviewRound) -> str:
    return f"/projects/{round.project_id}/review-rounds/{round.pk}/work/"


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(1, count + 1)]


def round_of(
    items: Sequence[str], labels: Sequence[str] = ("negative", "positive"), **fields: Any
) -> ReviewRound:
    """All of the texts to be reviewed in their order; the machine gave each the first label."""
    project = make_project(labels=labels, **fields)
    for text in items:
        make_item(project, text=text)
    return whole_round(project)


def whole_round(project: Project) -> ReviewRound:
    return make_round(make_criticism_run(make_annotation_run(project)), project.items.count())


def shows(page: Page, text: str) -> None:
    """The page shows the item with this text, or comes to show it."""
    expect(page.locator("#text")).to_have_text(text)
    expect(page.locator("#review")).to_have_attribute("data-state", "item")


def saved(page: Page, *, answered: int, skipped: int = 0) -> None:
    """So many answers have reached the server, as the server says."""
    said = f"{answered} answered" + (f", {skipped} skipped" if skipped else "")
    expect(page.locator("#progress-text")).to_have_attribute("title", re.compile(f"^{said}"))
    expect(page.locator("#unsaved")).to_be_hidden()


def answers(round: ReviewRound) -> list[str]:
    """The label that counts for each task in order of rank; "" where there is none."""
    tasks = round.tasks.order_by("rank").select_related("correction__label")
    return [task.correction.label.name if task.correction and task.correction.label else "" for task in tasks]


def done_with(round: ReviewRound, rank: int = 0) -> list[str]:
    """Everything that people did with a task: labels by name, and other actions."""
    rows = Correction.objects.filter(task__round=round, task__rank=rank).order_by("pk")
    return [row.label.name if row.label else row.action for row in rows.select_related("label")]


def lasts(page: Page, milliseconds: int = 250) -> None:
    """Time in which something could happen that must not."""
    page.wait_for_timeout(milliseconds)
