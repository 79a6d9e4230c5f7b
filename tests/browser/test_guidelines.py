"""Guidelines while they are written, and pages of items and comments, in a real browser."""

from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import BrowserContext, expect

from annotate.models import Project
from annotate.services.comments import comment_add
from annotate.services.guidelines import example_add, guideline_set
from review.services.queue import Answer, task_submit, tasks_claim
from tests.browser.conftest import keep_problems
from tests.factories import (
    label_named,
    make_annotation_run,
    make_criticism_run,
    make_image,
    make_item,
    make_items,
    make_project,
    make_round,
    png_bytes,
)

pytestmark = pytest.mark.django_db(transaction=True)

SignedIn = Callable[..., BrowserContext]
WIDTHS = (360, 1280, 1920)
GUIDELINE = """The writer is **not** pleased.

## When it is close

| it says | label |
| --- | --- |
| “could be worse” | negative |

1. Look at the *feeling*, not at the event.
2. [Read more](https://example.org/a-very-long-address/that-does-not-end/for-a-long-while/index.html)

> Irony counts as what it means.
"""


@pytest.fixture
def project() -> Project:
    """Something of everything: a guideline, examples with images, an answered item, comments."""
    project = make_project("image_classification", instructions="# First\n\nLook twice.\n\n- one\n- two")
    owner = project.created_by
    label = label_named(project, "negative")
    label.description = "Anybody would turn away."
    label.save()
    guideline_set(label=label, user=owner, text=GUIDELINE)
    for color in ("teal", "olive", "navy"):
        image = make_image(project, png_bytes(color, (300, 200)))
        example = make_item(project, image=image)
        example_add(label=label, item=example, user=owner, note=f"It is all {color}.")
    make_items(project, 3, image=make_image(project, png_bytes("maroon", (900, 600))))
    round = make_round(make_criticism_run(make_annotation_run(project)), 6)
    task = tasks_claim(round=round, user=owner)[0]
    answer = Answer(action="label", label=label_named(project, "positive"), seconds=4)
    task_submit(task=task, user=owner, answer=answer)
    comment_add(item=task.item, user=owner, text="Compare /projects/1/items/2/.\nIs it maroon?")
    comment_add(item=task.item, user=owner, text="x" * 300)
    return project


def pages_of(project: Project) -> dict[str, str]:
    item = project.items.get(review_tasks__state="answered")
    label = label_named(project, "negative")
    return {
        "guidelines": reverse("guidelines", args=[project.pk]),
        "guideline": reverse("label_guideline", args=[project.pk, label.pk]),
        "item": reverse("item", args=[project.pk, item.pk]),
        "comments": reverse("comments", args=[project.pk]),
        "settings": reverse("project_settings", args=[project.pk]),
        "gone": reverse("item_permalink", args=[project.pk, "no such"]),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_every_width(
    signed_in: SignedIn, problems: list[str], project: Project, scheme: str
) -> None:
    page = signed_in(project.created_by, color_scheme=scheme).new_page()
    keep_problems(page, problems)
    for name, address in pages_of(project).items():
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
    problems[:] = [each for each in problems if "404" not in each]


def test_a_guideline_shows_while_it_is_written(
    signed_in: SignedIn, problems: list[str], project: Project
) -> None:
    page = signed_in(project.created_by).new_page()
    keep_problems(page, problems)
    page.goto(pages_of(project)["guideline"])
    page.get_by_label("Guideline", exact=False).first.fill("All **bold** now")
    expect(page.locator("#preview strong")).to_have_text("bold")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messages")).to_contain_text("is saved")


def test_an_image_grows_and_fits_again(signed_in: SignedIn, problems: list[str], project: Project) -> None:
    page = signed_in(project.created_by).new_page()
    keep_problems(page, problems)
    page.goto(pages_of(project)["item"])
    image = page.locator(".item-image")
    fitting = image.evaluate("image => image.clientWidth")
    page.get_by_role("button", name="Larger").click()
    page.get_by_role("button", name="Larger").click()
    assert image.evaluate("image => image.clientWidth") == pytest.approx(fitting * 1.5625, abs=2)
    page.get_by_role("button", name="Fit").click()
    assert image.evaluate("image => image.clientWidth") == fitting
