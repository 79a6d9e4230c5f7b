"""Every page in a real browser: narrow and wide, light and dark, without errors; the banner and the theme."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from annotate.models import AnnotationRun, Item, Project, Upload, User
from annotate.services.calibration import calibration_from_gold
from annotate.services.runs import TRAINED, annotation_run_create
from annotate.services.tokens import token_create
from annotate.services.uploads import upload_import, upload_preview, upload_receive
from criticize.models import CriticismRun
from criticize.services import criticism_run_create
from jobs import liveness
from jobs.liveness import SILENCE
from jobs.models import Heartbeat, Job
from jobs.running import run_to_end
from review.services.exports import export_create
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_create
from review.setup import RoundSetup
from tests.browser.conftest import keep_problems
from tests.factories import (
    label_named,
    make_annotation_run,
    make_audit_round,
    make_calibration_label,
    make_calibration_round,
    make_connection,
    make_criticism_run,
    make_image,
    make_items,
    make_job,
    make_membership,
    make_project,
    make_round,
    make_user,
    png_bytes,
)

pytestmark = pytest.mark.django_db(transaction=True)

SignedIn = Callable[..., BrowserContext]
WIDTHS = (360, 1280, 1920)
UNBROKEN = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
LONG_NAME = f"{UNBROKEN} {UNBROKEN}"


@pytest.fixture
def owner() -> User:
    return make_user("olga-" + "o" * 60)


@pytest.fixture
def pages(owner: User) -> list[str]:
    """The addresses of all pages that somebody who owns two projects has."""
    connection = make_connection(
        owner, name=LONG_NAME[:100], base_url=f"https://{UNBROKEN[:60].lower()}.test/v1"
    )
    token_create(user=owner, days=30)
    return [
        *(reverse(name) for name in ("projects", "project_new", "connections", "connection_new", "prices")),
        *(reverse(name) for name in ("account", "password_change")),
        reverse("connection", args=[connection.pk]),
        *pages_of_texts(owner),
        *pages_of_images(owner),
    ]


def pages_of_texts(owner: User) -> list[str]:
    """A project that went through the whole loop by the services, its jobs run here."""
    project = make_project(owner=owner, name=LONG_NAME[:100], labels=["negative", UNBROKEN])
    make_membership(project, make_user("rita"))
    upload = receive(project, owner, table())
    upload_import(upload=upload, mapping=upload_preview(upload).mapping)
    run_to_end(Upload.objects.get(pk=upload.pk).job_id or 0)
    waiting = receive(project, owner, table())
    calibration_from_gold(project=project, count=20)
    run = annotation_run_create(project=project, user=owner, choice=TRAINED)
    run_to_end(run.job_id)
    run.refresh_from_db()
    criticism_run = criticism_run_create(annotation_run=run, user=owner, choice=TRAINED)
    run_to_end(criticism_run.job_id)
    criticism_run.refresh_from_db()
    round = round_create(run=criticism_run, user=owner, count=8)
    first, second, *_ = tasks_claim(round=round, user=owner, count=4)
    task_submit(task=first, user=owner, answer=Answer("label", label_named(project, UNBROKEN)))
    task_submit(task=second, user=owner, answer=Answer("skip", reason=UNBROKEN))
    export = export_create(round=round, user=owner, with_card=True)
    run_to_end(export.job_id)

    item = first.item
    return [
        *addresses(project),
        reverse("upload", args=[project.pk, upload.pk]),
        reverse("upload", args=[project.pk, waiting.pk]),
        reverse("item", args=[project.pk, item.pk]),
        reverse("export_card", args=[project.pk, export.pk]),
        reverse("review_round_audits", args=[project.pk, round.pk]),
        reverse("annotation_run", args=[project.pk, run.pk]),
        reverse("criticism_run", args=[project.pk, criticism_run.pk]),
        reverse("review_round", args=[project.pk, round.pk]),
        reverse("review", args=[project.pk, round.pk]),
    ]


def pages_of_images(owner: User) -> list[str]:
    """Questions about images, answered by a model that stopped on the way, and a blind round."""
    project = make_project("closed_vqa", ["yes", "no"], owner=owner, name="Pictures")
    items = make_items(project, 6, image=make_image(project, png_bytes(size=(640, 480))))
    run = make_annotation_run(project, dict.fromkeys(items[:4], "yes") | {items[4]: ""})
    round = make_round(make_criticism_run(run), 3)
    paused = make_annotation_run(project, {items[0]: "no"}, state=Job.State.PAUSED)
    Job.objects.filter(pk=paused.job_id).update(failure="authentication", reason=LONG_NAME, total=6)
    audit = make_audit_round(round, 2)
    while tasks := tasks_claim(round=audit, user=owner):
        task_submit(task=tasks[0], user=owner, answer=Answer("label", label_named(project, "yes")))
    blind = make_calibration_round(project, 2)
    annotator, criticizer = make_candidates(project, owner)
    return [
        *addresses(project),
        reverse("item", args=[project.pk, items[0].pk]),
        reverse("annotation_run", args=[project.pk, run.pk]),
        reverse("annotation_run", args=[project.pk, paused.pk]),
        reverse("annotation_run", args=[project.pk, annotator.pk]),
        reverse("criticism_run", args=[project.pk, criticizer.pk]),
        reverse("review_round_audits", args=[project.pk, round.pk]),
        reverse("review_round", args=[project.pk, round.pk]),
        reverse("review_round", args=[project.pk, audit.pk]),
        reverse("review", args=[project.pk, audit.pk]),
        reverse("review_round", args=[project.pk, blind.pk]),
        reverse("review", args=[project.pk, round.pk]),
        reverse("review", args=[project.pk, blind.pk]),
    ]


def make_candidates(project: Project, user: User) -> tuple[AnnotationRun, CriticismRun]:
    """Two annotators tried on six calibration items and a criticizer of one: a leaderboard and a grid with curves."""
    items = make_items(project, 6, image=make_image(project, png_bytes(size=(64, 48))))
    for item in items:
        make_calibration_label(item, "yes", user)
    calibration = AnnotationRun.Scope.CALIBRATION
    answers: dict[Item, str] = dict.fromkeys(items[:4], "yes") | dict.fromkeys(items[4:], "no")
    make_annotation_run(project, dict.fromkeys(items, "yes"), scope=calibration, model=LONG_NAME[:100])
    run = make_annotation_run(project, answers, scope=calibration)
    return run, make_criticism_run(run)


def addresses(project: Project) -> list[str]:
    names = "project project_settings uploads items calibration candidates annotation_runs criticism_runs"
    names += " budget_planner review_rounds exports"
    return [reverse(name, args=[project.pk]) for name in names.split()]


def table() -> bytes:
    """60 texts with gold labels, one that cannot be broken, and a row without a text."""
    rows = ["id,text,label"]
    for number in range(60):
        label, words = ("negative", "awful and cold") if number % 2 else (UNBROKEN, "lovely and warm")
        rows.append(f"row-{number},The room was {words} {UNBROKEN if number == 7 else number},{label}")
    return "\n".join([*rows, "row-60,,negative", ""]).encode()


def receive(project: Project, user: User, data: bytes) -> Upload:
    return upload_receive(project=project, user=user, file=ContentFile(data, f"{UNBROKEN}.csv"))


@pytest.mark.timeout(180)
def test_every_page_is_whole_at_every_width_in_both_schemes(
    signed_in: SignedIn, owner: User, pages: list[str]
) -> None:
    """Status 200, one main heading, nothing wider than the window, and no error in the console."""
    wrong: list[str] = []
    for scheme in ("light", "dark"):
        problems: list[str] = []
        page = signed_in(owner, color_scheme=scheme).new_page()
        keep_problems(page, problems)
        for address in pages:
            page.set_viewport_size({"width": WIDTHS[0], "height": 800})
            wrong += [f"{scheme} {address} {what}" for what in wrong_with(page, address)]
            wrong += [f"{scheme} {address} {problem}" for problem in problems]
            problems.clear()
    assert not wrong, "\n".join(wrong)


def wrong_with(page: Page, address: str) -> list[str]:
    response = page.goto(address)
    assert response is not None
    expect(page.locator(".htmx-request, #review[data-state=loading]")).to_have_count(0)
    found = [] if response.status == 200 else [f"has status {response.status}"]
    headings = page.locator("h1").count()
    if headings != 1:
        found.append(f"has {headings} main headings")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        if too_wide := page.evaluate(TOO_WIDE):
            found.append(f"at {width} px is too wide: {too_wide}")
    return found


# The document does not scroll sideways; if it does, what reaches beyond the window.
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return "";
  const isBeyond = (each) => each.getBoundingClientRect().right > width + 1;
  const beyond = [...document.body.querySelectorAll("*")].filter(isBeyond);
  return beyond.slice(-3).map((each) => each.outerHTML.slice(0, 120)).join(" ... ") || "the document";
}"""


def test_reviewers_and_the_leaderboard_are_cards_on_a_phone(signed_in: SignedIn, owner: User) -> None:
    project = make_project("image_classification", ["yes", "no"], owner=owner)
    make_candidates(project, owner)
    make_membership(project, make_user("rita-" + "r" * 40))
    make_items(project, 4, image=make_image(project, png_bytes(size=(64, 48))))
    run = make_criticism_run(make_annotation_run(project))
    round = round_create(run=run, user=owner, count=4, setup=RoundSetup(gold_rate=0.2))
    tasks_claim(round=round, user=owner, count=2)
    page = signed_in(owner).new_page()
    page.set_viewport_size({"width": WIDTHS[0], "height": 800})

    for address, table, title in (
        (reverse("review_round", args=[project.pk, round.pk]), "#reviewers table", "Known items right"),
        (reverse("candidates", args=[project.pk]), "table.leaderboard", "Cost per 1,000"),
    ):
        page.goto(address)
        shown = page.locator(f"{table} td[data-title='{title}']").first
        expect(shown).to_be_visible()
        assert title in shown.evaluate("cell => getComputedStyle(cell, '::before').content")
        assert page.locator(table).evaluate("each => each.parentElement.scrollWidth") <= WIDTHS[0]
        page.set_viewport_size({"width": WIDTHS[1], "height": 800})
        assert shown.evaluate("cell => getComputedStyle(cell, '::before').content") == "none"
        page.set_viewport_size({"width": WIDTHS[0], "height": 800})


def test_fingers_find_the_menu_and_the_ticks_of_a_list(signed_in: SignedIn, owner: User) -> None:
    project = make_project(owner=owner)
    make_items(project, 2)
    page = signed_in(owner, has_touch=True).new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/projects/{project.pk}/items/")
    page.tap(".menu > summary")
    targets = page.locator(
        ".brand, .topnav > a:visible, .menu > summary, .menu-panel :is(a, button), .browse-tick"
    )
    boxes = targets.evaluate_all("all => all.map((each) => [each.textContent.trim(), each.offsetHeight])")
    assert [box for box in boxes if box[1] < 44] == []


def test_pages_for_those_who_are_not_signed_in_are_whole(live_server: LiveServer, page: Page) -> None:
    problems: list[str] = []
    keep_problems(page, problems)
    page.set_viewport_size({"width": WIDTHS[0], "height": 800})

    assert wrong_with(page, f"{live_server.url}{reverse('sign_in')}") == []
    assert problems == []
    assert wrong_with(page, f"{live_server.url}{reverse('sign_in')}nowhere/") == ["has status 404"]


def test_the_banner_says_when_no_worker_is_there(
    signed_in: SignedIn, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "_started", -1000.0)
    page = signed_in(owner).new_page()
    banner = page.locator(".banner")
    heartbeat = Heartbeat.objects.create(pk=1, seen_at=timezone.now())
    job = make_job(state=Job.State.QUEUED)

    page.goto("/")
    expect(banner).to_have_count(0)

    heartbeat.seen_at = timezone.now() - SILENCE - timedelta(seconds=1)
    heartbeat.save()
    page.reload()
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("No worker is running, and 1 job waits for one.")

    job.state = Job.State.DONE
    job.save()
    page.reload()
    expect(banner).to_contain_text("No worker is running.")
    expect(banner).not_to_contain_text("wait")

    heartbeat.seen_at = timezone.now()
    heartbeat.save()
    page.reload()
    expect(banner).to_have_count(0)


def test_a_chosen_theme_stays_and_is_there_before_anything_is_painted(
    signed_in: SignedIn, owner: User
) -> None:
    page = signed_in(owner, color_scheme="light").new_page()
    page.goto("/")
    light = background(page)

    page.locator(".menu summary").click()
    page.get_by_role("button", name="Dark").click()
    dark = background(page)
    assert dark != light
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")

    # Nothing is painted before there is a body.
    page.add_init_script("""
      new MutationObserver((_, observer) => {
        if (!document.body) return;
        window.themeAtFirst = document.documentElement.dataset.theme ?? "none";
        observer.disconnect();
      }).observe(document, { childList: true, subtree: true });
    """)
    for address in ("/", reverse("account")):
        page.goto(address)
        assert page.evaluate("window.themeAtFirst") == "dark"
        assert background(page) == dark

    page.locator(".menu summary").click()
    page.get_by_role("button", name="System").click()
    assert background(page) == light
    page.reload()
    assert page.evaluate("window.themeAtFirst") == "none"
    assert background(page) == light
    page.emulate_media(color_scheme="dark")
    assert background(page) == dark


def background(page: Page) -> str:
    color: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert re.match(r"rgb|oklch|color", color), color
    return color
