"""The page on which a manager decides between answers, on a phone: it leaves room for the item and the answers."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from annotate.models import Project
from review.models import Correction, ReviewTask
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_create
from review.setup import RoundSetup
from tests.browser.conftest import SignedIn, keep_problems
from tests.factories import (
    label_named,
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_project,
    make_user,
)

LABELS = [f"label {number}" for number in range(1, 13)]
THIRD = 740 / 3  # pixels


def conflict(project: Project, *reviewers: str) -> ReviewTask:
    """An item of which each reviewer said another label, by name."""
    make_items(project, 1)
    setup = RoundSetup(overlap=len(reviewers), overlap_share=1)
    criticisms = make_criticism_run(make_annotation_run(project))
    round = round_create(run=criticisms, user=project.created_by, count=1, setup=setup)
    for label, name in zip(LABELS, reviewers, strict=False):
        reviewer = project.members.get(username=name)
        (task,) = tasks_claim(round=round, user=reviewer)
        task_submit(task=task, user=reviewer, answer=Answer("label", label_named(project, label)))
    return round.tasks.get(purpose=ReviewTask.Purpose.ADJUDICATION)


@pytest.mark.django_db(transaction=True)
def test_on_a_phone_the_item_and_the_answers_keep_two_thirds_of_the_height(
    signed_in: SignedIn, problems: list[str]
) -> None:
    project = make_project(labels=LABELS, reviewers=[make_user("rita"), make_user("rob")])
    task = conflict(project, "rita", "rob")
    page = signed_in(project.created_by).new_page()
    keep_problems(page, problems)
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(reverse("adjudicate", args=[project.pk, task.pk]))

    panel, skip = page.locator(".decide-answer"), page.locator("#skip > summary")
    last = page.locator("#labels button").last
    for part in (page.locator("#suggested"), page.locator("#filter"), skip):
        expect(part).to_be_in_viewport(ratio=1)
    expect(last).not_to_be_in_viewport()
    last.focus()
    expect(last).to_be_in_viewport(ratio=1)
    assert panel.evaluate("(part) => part.offsetHeight") <= THIRD

    skip.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Skip the item")).to_be_in_viewport(ratio=1)
    expect(last).to_be_hidden()
    assert panel.evaluate("(part) => part.offsetHeight") <= THIRD
    skip.click()
    page.locator("#filter").fill("12")
    last.click()
    expect(page.get_by_role("heading", name="Everything is decided")).to_be_visible()
    assert Correction.objects.latest("pk").label == label_named(project, "label 12")
