"""Pages of a project whose answers are spans never say "label", a word of projects that have a label set."""

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse

from annotate.models import AnnotationRun, Item, Project, User
from annotate.services.uploads import upload_receive
from criticize.models import CriticismRun
from jobs.running import run_to_end
from review.data_card import card_json, readme
from review.models import Export, ReviewRound, ReviewTask
from review.services.exports import export_create
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_create
from review.setup import RoundSetup
from tests.factories import (
    make_audit_round,
    make_calibration_round,
    make_connection,
    make_criticism_run,
    make_membership,
    make_round,
    make_user,
)
from tests.span_answers import (
    make_calibration_answer,
    make_span_item,
    make_span_project,
    make_span_run,
    span_answer,
)

pytestmark = pytest.mark.django_db

ROWS = "id,context,question,answers,place\n1,The Oker is short.,What is short?,The Oker,x\n"
# What is a file to download, a part that needs a body, an image, or a page of a project that has labels alone.
NOT_PAGES = {
    "item_image",
    "item_thumbnail",
    "item_permalink",
    "item_permalink_by_query",
    "label_guideline",
    "export_download",
}
# A column's name in a file, and attributes and code: none of them is a word to people.
CODE = re.compile(r"<(script|style|code|svg)\b.*?</\1>|<!--.*?-->", re.DOTALL)
SEEN = re.compile(r'\b(?:title|placeholder|aria-label|alt|data-title)="([^"]*)"')
LABEL = re.compile(r".{0,60}\blabel.{0,40}", re.IGNORECASE)
# Sentences that say why there are none, names of columns and of a Python argument, and what stays hidden on the review
# screen while the project has no labels.
MEANT = re.compile(
    r"have no label set|Only for labels|item label weight source|row\[\"label\"\]|All labels|Find a label"
    r"|No label matches|Likely labels|Type to find a label|\| Labels|label_source|label \(an answer\)"
    r"|label \(the answer alone\)|\blabel text one answer of the item"
)


def words(page: str) -> str:
    """What people read of a page, also where only a mouse or a screen reader finds it."""
    page = CODE.sub(" ", page)
    attributes = " | ".join(SEEN.findall(page))
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page) + " | " + attributes))


@pytest.fixture
def project() -> Project:
    """A project that went through everything, from calibration items to an audit and an export."""
    owner, rita, rob = make_user("olga"), make_user("rita"), make_user("rob")
    owner.is_staff = True
    owner.save()
    make_connection(owner)
    project = make_span_project(owner=owner, reviewers=[rita, rob])
    make_membership(project, make_user("vera"), "viewer")
    upload_receive(project=project, user=owner, file=ContentFile(ROWS.encode(), "rows.csv"))
    known = [make_span_item(project, "Seehausen") for _ in range(4)]
    for item in known:
        make_calibration_answer(item, "Seehausen", author=owner)
    scope = AnnotationRun.Scope.CALIBRATION
    make_span_run(project, dict.fromkeys(known, "the Weser"), scope=scope, model="larger")
    make_criticism_run(make_span_run(project, dict.fromkeys(known, "Seehausen"), scope=scope))
    answers: dict[Item, str | None] = {
        make_span_item(project, "Seehausen"): "near Seehausen" for _ in range(11)
    }
    answers[make_span_item(project, "Seehausen")] = None
    criticisms = make_criticism_run(make_span_run(project, answers))
    closed = make_round(criticisms, 2)
    answer_all(closed, owner)
    answer_all(make_audit_round(closed, 2), owner)
    make_calibration_round(project, 1)
    doubled(round_create(run=criticisms, user=owner, count=6, setup=random_setup()), [rita, rob])
    for layout in Export.Layout.values:
        run_to_end(export_create(round=closed, user=owner, with_card=True, layout=layout).job_id)
    run_to_end(export_create(round=closed, user=owner, with_card=True, format=Export.Format.SQUAD).job_id)
    return project


def random_setup() -> RoundSetup:
    return RoundSetup(display="random", overlap=2, overlap_share=1, gold_rate=0.1, gold_threshold=0.5)


def answer_all(round: ReviewRound, user: User) -> None:
    for task in tasks_claim(round=round, user=user, count=50):
        task_submit(task=task, user=user, answer=span_answer(task, "Seehausen"))


def doubled(round: ReviewRound, reviewers: list[User]) -> None:
    """Two people differ on what both answered, the first skips one item, and one conflict is decided."""
    for reviewer, said in zip(reviewers, ("Seehausen", "the Weser"), strict=True):
        for place in range(5):
            (task,) = tasks_claim(round=round, user=reviewer)
            is_skip = said == "Seehausen" and place == 4
            task_submit(
                task=task, user=reviewer, answer=Answer("skip") if is_skip else span_answer(task, said)
            )
    decided = round.tasks.filter(purpose=ReviewTask.Purpose.ADJUDICATION).order_by("rank")[0]
    task_submit(task=decided, user=round.created_by, answer=span_answer(decided, ""))


def addresses(project: Project) -> Iterator[str]:
    """Every address below a project, for each of the things it has."""
    things: dict[str, list[Any]] = {
        "project_id": [project.pk],
        "upload_id": list(project.uploads.values_list("pk", flat=True)),
        "item_id": [project.items.earliest("pk").pk, project.items.latest("pk").pk],
        "round_id": list(project.review_rounds.values_list("pk", flat=True)),
        "task_id": list(
            ReviewTask.objects.filter(purpose=ReviewTask.Purpose.ADJUDICATION).values_list("pk", flat=True)
        ),
        "export_id": list(project.exports.values_list("pk", flat=True)),
    }
    runs: dict[str, Any] = {
        "annotation_run": AnnotationRun.objects.all(),
        "criticism_run": CriticismRun.objects.all(),
    }
    for name, parameters in _patterns(get_resolver().url_patterns):
        if "project_id" not in parameters or name in NOT_PAGES:
            continue
        kinds = dict(things)
        if name in runs:
            kinds["run_id"] = [run.pk for run in runs[name]]
        if not parameters <= set(kinds):
            continue
        (other,) = (parameters - {"project_id"}) or {"project_id"}
        for value in kinds[other]:
            yield reverse(
                name, kwargs={"project_id": project.pk} | ({other: value} if other != "project_id" else {})
            )


def _patterns(patterns: list[Any]) -> Iterator[tuple[str, set[str]]]:
    for each in patterns:
        if isinstance(each, URLResolver):
            if not str(each.pattern).startswith("api/"):
                yield from _patterns(each.url_patterns)
        elif each.name:
            yield each.name, set(each.pattern.converters)


@pytest.mark.parametrize(("person", "least"), [("olga", 55), ("vera", 30), ("rita", 5)])
def test_no_page_says_label(project: Project, client: Client, person: str, least: int) -> None:
    client.force_login(User.objects.get(username=person))
    found = {}
    seen = 0
    for address in addresses(project):
        response = client.get(address)
        if response.status_code in (302, 403, 404, 405) or "html" not in response["Content-Type"]:
            continue
        seen += 1
        if said := LABEL.findall(MEANT.sub("", words(response.content.decode()))):
            found[address] = said
    assert found == {}
    assert seen >= least


def test_no_data_card_says_label(project: Project) -> None:
    """Neither for people nor as data: but for the names of columns, of keys, and of the values that columns hold."""
    name = re.compile(r"^ *\"name\": \"\w+\"|^ *\"\w+\":|^\| *\w+ *\|", re.MULTILINE)
    cards = [export.card for export in project.exports.order_by("pk")]
    assert [(card["export"]["format"], card["export"]["layout"]) for card in cards] == [
        *(("csv", layout) for layout in Export.Layout.values),
        ("squad", "wide"),
    ]
    for card in cards:
        for text in (readme(card), card_json(card)):
            assert LABEL.findall(MEANT.sub("", name.sub("", text))) == []
    assert "Answers that a model gave and people corrected" in readme(cards[0])
    assert "items with a machine answer" in readme(cards[0])
    assert "| final answers |" in readme(cards[0])
