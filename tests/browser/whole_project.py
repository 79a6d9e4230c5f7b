"""Projects with something of everything in them, and the address of every page that shows it."""

from dataclasses import dataclass
from typing import Any

from django.core.files.base import ContentFile
from django.urls import reverse

from annotate.models import AnnotationRun, Item, Label, Membership, ModelPrice, Project, Upload, User
from annotate.services.comments import comment_add
from annotate.services.guidelines import example_add, guideline_set
from annotate.services.invitations import invitation_create, invitation_token
from annotate.services.tokens import token_create
from annotate.services.uploads import upload_import, upload_preview, upload_receive
from criticize.models import CriticismRun
from jobs.models import Heartbeat, Job
from jobs.running import run_to_end
from review.models import ReviewRound, ReviewTask
from review.services.exports import export_create
from review.services.pauses import pause
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_create
from review.services.saved_views import saved_view_save
from review.setup import RoundSetup
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
    make_membership,
    make_project,
    make_round,
    make_user,
    png_bytes,
)
from tests.written_answers import make_checks, make_written_project, make_written_run

LABELS = ("negative", "neutral", "positive")
GUIDELINE = """The writer is **not** pleased.

| it says | label |
| --- | --- |
| “could be worse” | negative |

1. Look at the *feeling*, not at the `event`.
2. [Read more](https://example.org/guidelines)
"""
ROWS = "id,text,label,channel\n" + "".join(
    f"row-{number},The room was {'awful' if number % 2 else 'lovely'} on day {number},"
    f"{'negative' if number % 2 else 'positive'},{'mail' if number % 3 else 'chat'}\n"
    for number in range(40)
)


@dataclass(frozen=True)
class Page:
    """A page as `person` sees it; nobody is signed in where that is None."""

    name: str
    address: str
    person: User | None
    status: int = 200


@dataclass(frozen=True)
class People:
    owner: User
    manager: User
    reviewers: tuple[User, User]
    viewer: User
    stranger: User


def make_people() -> People:
    names = ("olga", "mona", "rita", "rob", "vera", "sam")
    owner, manager, rita, rob, viewer, stranger = (make_user(name) for name in names)
    owner.is_staff = True  # who may change the prices, too
    owner.save()
    Heartbeat.objects.create(pk=1)
    return People(owner, manager, (rita, rob), viewer, stranger)


def page_of(name: str, person: User, *, title: str = "", query: str = "", **ids: int | str) -> Page:
    return Page(title or name, reverse(name, kwargs=ids) + query, person)


def pages_without_a_project(people: People) -> list[Page]:
    connection = make_connection(people.owner, key="sk-nobody-may-ever-read-this")
    token_create(user=people.owner, days=30)
    ModelPrice.objects.create(provider="openai", model="small", input=1, output=2, updated_by=people.owner)
    names = (
        "projects",
        "project_new",
        "connections",
        "connection_new",
        "prices",
        "account",
        "password_change",
    )
    return [
        Page("sign_in", reverse("sign_in"), None),
        *(page_of(name, people.owner) for name in names),
        page_of("connection", people.owner, connection_id=connection.pk),
        page_of("projects", people.stranger, title="projects, none"),
        Page("not found", "/nowhere/", people.owner, status=404),
    ]


@dataclass(frozen=True)
class Texts:
    """A project of texts that went through everything."""

    people: People
    project: Project
    imported: Upload
    waiting: Upload
    run: AnnotationRun
    criticisms: CriticismRun
    closed: ReviewRound
    audit: ReviewRound
    blind: ReviewRound
    round: ReviewRound
    decide: ReviewTask

    @property
    def ids(self) -> dict[str, Any]:
        return {"project_id": self.project.pk}


def make_texts(people: People) -> Texts:
    owner, project = people.owner, make_project(owner=people.owner, labels=LABELS, instructions="Look twice.")
    make_membership(project, people.manager, Membership.Role.MANAGER)
    make_membership(project, people.viewer, Membership.Role.VIEWER)
    for reviewer in people.reviewers:
        make_membership(project, reviewer)
    imported, waiting = _upload(project, owner, import_it=True), _upload(project, owner)
    _candidates(project, owner)
    run, criticisms = _runs(project)
    closed = make_round(criticisms, 3)
    audit = make_audit_round(closed, 10)
    _answer_all(audit, owner, "negative")
    blind = make_calibration_round(project, 2)
    round, decide = _conflicts(criticisms, people)
    _words(project, decide.item, people)
    return Texts(people, project, imported, waiting, run, criticisms, closed, audit, blind, round, decide)


def pages_of_data(people: People) -> list[Page]:
    """A project's items and people, as each role sees them."""
    texts = make_texts(people)
    owner, viewer, reviewer, ids = people.owner, people.viewer, people.reviewers[0], texts.ids
    project, item = texts.project, texts.decide.item
    invitation = invitation_create(project=project, user=owner, role="reviewer", note="For Tim", most_uses=3)
    invitation_create(project=project, user=owner, role="viewer")
    label = label_named(project, "negative")
    names = "project project_settings people history uploads items comments guidelines calibration"
    shared = "project project_settings people uploads items"
    return [
        *(page_of(name, owner, **ids) for name in names.split()),
        *(page_of(name, viewer, title=f"{name}, viewer", **ids) for name in shared.split()),
        page_of("project", people.manager, title="project, manager", **ids),
        page_of("project", reviewer, title="project, reviewer", **ids),
        page_of("guidelines", reviewer, title="guidelines, reviewer", **ids),
        page_of("projects", reviewer, title="projects, reviewer"),
        page_of("upload", owner, title="upload, imported", upload_id=texts.imported.pk, **ids),
        page_of("upload", owner, title="upload, mapping", upload_id=texts.waiting.pk, **ids),
        page_of("items", owner, title="items, filtered", query="?status=reviewed&eps_min=0.1&q=room", **ids),
        page_of("items", owner, title="items, nothing matches", query="?q=nowhere+to+be+found", **ids),
        page_of("item", owner, item_id=item.pk, **ids),
        page_of("item", viewer, title="item, viewer", item_id=item.pk, **ids),
        Page("item, gone", reverse("item_permalink", args=[project.pk, "no such item"]), owner, status=404),
        page_of("label_guideline", owner, label_id=label.pk, **ids),
        Page("join", reverse("join", args=[invitation_token(invitation)]), people.stranger),
        Page("join, refused", reverse("join", args=["no-invitation"]), people.stranger, status=410),
    ]


def pages_of_work(people: People) -> list[Page]:
    """What machines and people did in a project, from candidates to exports, as managers and viewers see it."""
    texts = make_texts(people)
    owner, viewer, ids = people.owner, people.viewer, texts.ids
    export = export_create(round=texts.round, user=owner, with_card=True)
    run_to_end(export.job_id)
    names = "candidates annotation_runs criticism_runs budget_planner review_rounds"
    names += " adjudication agreement dashboard exports"
    shared = "candidates annotation_runs criticism_runs budget_planner"
    return [
        *(page_of(name, owner, **ids) for name in names.split()),
        *(page_of(name, viewer, title=f"{name}, viewer", **ids) for name in shared.split()),
        page_of("annotation_run", owner, run_id=texts.run.pk, **ids),
        page_of("criticism_run", owner, run_id=texts.criticisms.pk, **ids),
        page_of("review_round", owner, round_id=texts.round.pk, **ids),
        page_of("review_round", viewer, title="review_round, viewer", round_id=texts.round.pk, **ids),
        page_of("review_round", owner, title="review_round, closed", round_id=texts.closed.pk, **ids),
        page_of("review_round", owner, title="review_round, audit", round_id=texts.audit.pk, **ids),
        page_of("review_round", owner, title="review_round, blind", round_id=texts.blind.pk, **ids),
        page_of("review_round_audits", owner, round_id=texts.closed.pk, **ids),
        page_of("review", people.reviewers[0], round_id=texts.round.pk, **ids),
        page_of("adjudicate", owner, task_id=texts.decide.pk, **ids),
        page_of("adjudicate", viewer, title="adjudicate, viewer", task_id=texts.decide.pk, **ids),
        page_of("export_card", owner, export_id=export.pk, **ids),
    ]


def _upload(project: Project, user: User, *, import_it: bool = False) -> Upload:
    rows = ROWS + ("row-40,,negative,mail\n" if import_it else "")
    upload = upload_receive(project=project, user=user, file=ContentFile(rows.encode(), "remarks.csv"))
    if import_it:
        upload_import(upload=upload, mapping=upload_preview(upload).mapping)
        upload.refresh_from_db()
        run_to_end(upload.job_id or 0)
    return upload


def _candidates(project: Project, user: User) -> None:
    """Two annotators tried on eight calibration items, and a criticizer of one."""
    items = list(project.items.order_by("pk")[:8])
    for place, item in enumerate(items):
        make_calibration_label(item, LABELS[place % 3], user)
    calibration = AnnotationRun.Scope.CALIBRATION
    make_annotation_run(project, dict.fromkeys(items, "negative"), scope=calibration, model="larger")
    answers = {item: LABELS[place % 3 if place < 6 else 0] for place, item in enumerate(items)}
    make_criticism_run(make_annotation_run(project, answers, scope=calibration))


def _runs(project: Project) -> tuple[AnnotationRun, CriticismRun]:
    """32 items annotated, one of them refused, and criticized, one of them too late; a run that stands still."""
    items = list(project.items.filter(calibration_label=None).order_by("pk"))
    answers = {item: LABELS[place % 3] for place, item in enumerate(items)} | {items[-1]: ""}
    run = make_annotation_run(project, answers)
    count = len(items) - 1
    criticisms = make_criticism_run(run, [None, *(0.95 - 0.9 * place / count for place in range(1, count))])
    paused = make_annotation_run(project, {items[0]: "negative"}, state=Job.State.PAUSED)
    Job.objects.filter(pk=paused.job_id).update(
        failure="authentication", reason="The provider refused the key.", total=32
    )
    return run, criticisms


def _conflicts(criticisms: CriticismRun, people: People) -> tuple[ReviewRound, ReviewTask]:
    """A round of 14 that two people answer each, partly differing, and one conflict that waits for a decision.

    One conflict is decided, one item is skipped, known items are among them as chance has it, and one reviewer is
    paused by hand.
    """
    project = criticisms.annotation_run.project
    setup = RoundSetup(display="random", overlap=2, overlap_share=1, gold_rate=0.2, gold_threshold=0.5)
    round = round_create(run=criticisms, user=people.owner, count=14, setup=setup)
    for number, reviewer in enumerate(people.reviewers):
        place = 0
        while place < 8:
            (task,) = tasks_claim(round=round, user=reviewer)
            differs = number == 1 and place % 3 != 0
            answer = Answer(
                "label", label_named(project, LABELS[(place + int(differs)) % 3]), seconds=2.5 + place
            )
            if place == 5:
                answer = Answer("skip", reason="cannot tell")
            task_submit(task=task, user=reviewer, answer=answer)
            place += task.purpose != ReviewTask.Purpose.GOLD  # both answer the same items in the same order
    pause(round=round, user=people.reviewers[1], by=people.manager)
    adjudications = round.tasks.filter(
        purpose=ReviewTask.Purpose.ADJUDICATION, state=ReviewTask.State.WAITING
    )
    decided, waiting, *_ = adjudications.order_by("rank")
    task_submit(task=decided, user=people.owner, answer=Answer("label", label_named(project, "positive")))
    return round, waiting


def _answer_all(round: ReviewRound, user: User, label: str) -> None:
    chosen: Label = label_named(round.project, label)
    while tasks := tasks_claim(round=round, user=user):
        task_submit(task=tasks[0], user=user, answer=Answer("label", chosen))


def _words(project: Project, item: Item, people: People) -> None:
    """Guidelines, examples, comments and a saved view."""
    label = label_named(project, "negative")
    guideline_set(label=label, user=people.owner, text=GUIDELINE)
    for example in project.items.order_by("pk")[:2]:
        example_add(label=label, item=example, user=people.owner, note="It says so.")
    comment_add(item=item, user=people.reviewers[0], text="It could be meant otherwise.")
    comment_add(item=item, user=people.owner, text="It is not.\nLook at the guidelines.")
    saved_view_save(project=project, user=people.owner, name="Doubtful", query="eps_min=0.5")


def pages_of_images(people: People) -> list[Page]:
    owner = people.owner
    project = make_project("image_classification", ["cat", "dog"], owner=owner, name="Pictures")
    make_membership(project, people.reviewers[0])
    for color in ("teal", "maroon", "olive"):
        make_items(project, 4, image=make_image(project, png_bytes(color, (600, 400))))
    items = list(project.items.order_by("pk"))
    run = make_annotation_run(project, {item: ("cat", "dog", "")[item.pk % 3] for item in items})
    round = make_round(make_criticism_run(run), 4)
    example_add(label=label_named(project, "cat"), item=items[0], user=owner, note="Its ears.")
    (task,) = tasks_claim(round=round, user=owner)
    task_submit(task=task, user=owner, answer=Answer("label", label_named(project, "dog")))
    ids: dict[str, Any] = {"project_id": project.pk}
    return [
        page_of("items", owner, title="items, grid", **ids),
        page_of("items", owner, title="items, table of images", query="?view=table", **ids),
        page_of("item", owner, title="item, image", item_id=task.item_id, **ids),
        page_of("guidelines", owner, title="guidelines, images", **ids),
        page_of("dashboard", owner, title="dashboard, images", **ids),
        page_of("review", people.reviewers[0], title="review, image", round_id=round.pk, **ids),
    ]


def pages_of_written_answers(people: People) -> list[Page]:
    """Summaries whose statements were checked; two people differ on one."""
    owner = people.owner
    project = make_written_project("written_facts", owner=owner)
    for reviewer in people.reviewers:
        make_membership(project, reviewer)
    items = make_items(project, 4)
    run = make_written_run(project)
    said = "It says what day it is."
    checks = make_checks(run, [[(said, 0.2 * (place + 1))] for place in range(len(items))])
    round = round_create(run=checks, user=owner, count=2, setup=RoundSetup(overlap=2, overlap_share=1))
    for number, reviewer in enumerate(people.reviewers):
        (task,) = tasks_claim(round=round, user=reviewer)
        task_submit(task=task, user=reviewer, answer=Answer("label", text=f"The day is named, {number}."))
    decide = round.tasks.get(purpose=ReviewTask.Purpose.ADJUDICATION)
    ids: dict[str, Any] = {"project_id": project.pk}
    names = (
        "project",
        "items",
        "annotation_runs",
        "criticism_runs",
        "review_rounds",
        "agreement",
        "dashboard",
    )
    return [
        *(page_of(name, owner, title=f"{name}, written", **ids) for name in names),
        page_of("item", owner, title="item, written", item_id=decide.item_id, **ids),
        page_of("annotation_run", owner, title="annotation_run, written", run_id=run.pk, **ids),
        page_of("criticism_run", owner, title="criticism_run, written", run_id=checks.pk, **ids),
        page_of("review_round", owner, title="review_round, written", round_id=round.pk, **ids),
        page_of("review", people.reviewers[0], title="review, written", round_id=round.pk, **ids),
        page_of("adjudicate", owner, title="adjudicate, written", task_id=decide.pk, **ids),
    ]


def pages_of_an_empty_project(people: People) -> list[Page]:
    project = make_project(owner=people.owner, name="Nothing yet")
    names = (
        "project uploads items comments guidelines calibration candidates annotation_runs criticism_runs "
        "budget_planner review_rounds adjudication agreement dashboard people exports"
    )
    pages = names.split()
    return [page_of(name, people.owner, title=f"{name}, empty", project_id=project.pk) for name in pages]
