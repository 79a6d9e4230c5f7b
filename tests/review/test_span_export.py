"""Tables of answers that are spans: "no answer" is an answer, and an item that nobody answered has none."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse

from annotate.models import Item
from annotate.services.uploads import upload_import, upload_preview, upload_receive
from annotate.uploads.errors import UploadError
from annotate.uploads.mapping import ColumnMapping, validate_mapping
from jobs.running import run_to_end
from review.models import Export, ReviewRound
from review.services.exports import export_create
from review.services.queue import Answer, task_submit, tasks_claim
from tests.factories import make_criticism_run, make_round
from tests.span_answers import TEXT, make_span_item, make_span_project, make_span_run, span_answer

pytestmark = pytest.mark.django_db

AGAIN = TEXT.rindex("260 km")  # these words stand twice in the text
# By item: what the machine says, and what its person does: answers, skips (None), or is not asked (...).
SAID: dict[str, tuple[str | None, Any]] = {
    "accepted": ("Seehausen", "Seehausen"),
    "second place": ("260 km", Answer("label", text="260 km", start=AGAIN, end=AGAIN + 6)),
    "none by a person": ("Seehausen", ""),
    "none by the machine": ("", ...),
    "machine alone": ("the Weser", ...),
    "skipped": (None, None),
    "nobody": (None, ...),
}
FINAL = {
    "accepted": [{"text": "Seehausen", "start": TEXT.index("Seehausen")}],
    "second place": [{"text": "260 km", "start": AGAIN}],
    "none by a person": [],
    "none by the machine": [],
    "machine alone": [{"text": "the Weser", "start": TEXT.index("the Weser")}],
    "skipped": None,
    "nobody": None,
}


@pytest.fixture
def round() -> ReviewRound:
    project = make_span_project()
    answers = {
        make_span_item(project, known=False, external_id=name): said for name, (said, _) in SAID.items()
    }
    round = make_round(make_criticism_run(make_span_run(project, answers)), len(SAID))
    for task in tasks_claim(round=round, user=round.created_by, count=10):
        person = SAID[task.item.external_id][1]
        if person is not ...:
            if not isinstance(person, Answer):
                person = Answer("skip") if person is None else span_answer(task, person)
            task_submit(task=task, user=round.created_by, answer=person)
    return round


def written(round: ReviewRound, **options: Any) -> bytes:
    export = export_create(round=round, user=round.created_by, **options)
    run_to_end(export.job_id)
    return Path(Export.objects.get(pk=export.pk).file.path).read_bytes()


def rows_of(data: bytes) -> dict[str, dict[str, str]]:
    return {row["external_id"]: row for row in csv.DictReader(io.StringIO(data.decode(), newline=""))}


def test_the_wide_layout_says_who_answered_that_there_is_none(round: ReviewRound) -> None:
    rows = rows_of(written(round, format="csv", layout="wide"))

    names = ("machine_no_answer", "human_no_answer", "final_no_answer")
    assert {external_id: tuple(row[name] for name in names) for external_id, row in rows.items()} == {
        "accepted": ("false", "false", "false"),
        "second place": ("false", "false", "false"),
        "none by a person": ("false", "true", "true"),
        "none by the machine": ("true", "", "true"),
        "machine alone": ("false", "", "false"),
        "skipped": ("", "", ""),
        "nobody": ("", "", ""),
    }


def test_the_other_layouts_say_it_too(round: ReviewRound) -> None:
    long = rows_of(written(round, format="csv", layout="long"))
    assert (long["none by a person"]["label"], long["none by a person"]["no_answer"]) == ("", "true")
    assert long["machine alone"]["no_answer"] == "false"
    answers = [json.loads(line) for line in written(round, format="jsonl", layout="answers").splitlines()]
    assert {row["external_id"]: (row["answer"], row["no_answer"]) for row in answers} == {
        "accepted": ("Seehausen", False),
        "second place": ("260 km", False),
        "none by a person": ("", True),
        "skipped": (None, None),
    }


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_final_answers_are_read_again_as_they_were(round: ReviewRound, format: str) -> None:
    data = written(round, format=format, layout="wide")
    copy = make_span_project(owner=round.created_by)
    upload = upload_receive(project=copy, user=copy.created_by, file=ContentFile(data, f"final.{format}"))
    mapping = upload_preview(upload).mapping
    assert (mapping.id, mapping.gold) == ("external_id", "final_label")
    assert (mapping.no_answer, mapping.start) == ("final_no_answer", "final_start")
    upload_import(upload=upload, mapping=mapping)
    upload.refresh_from_db()
    run_to_end(upload.job_id or 0)

    found = Item.objects.filter(project=copy).values_list("external_id", "gold_answers")
    assert dict(found) == FINAL


def test_such_a_column_goes_with_answers_that_are_spans_alone() -> None:
    columns = ["text", "question", "gold", "none"]
    mapping = ColumnMapping(text="text", question="question", no_answer="none")
    with pytest.raises(UploadError, match="goes with a column of answers"):
        validate_mapping(mapping, columns, "extractive_qa")
    for other in (
        ColumnMapping(text="text", gold="gold", no_answer="none"),
        ColumnMapping(text="text", gold="gold", start="none"),
    ):
        with pytest.raises(UploadError, match="goes with a column of answers"):
            validate_mapping(other, columns, "text_classification")
    mapping = ColumnMapping(text="text", question="question", gold="gold", start="place")
    with pytest.raises(UploadError, match="no column “place” for the places of the answers"):
        validate_mapping(mapping, columns, "extractive_qa")


def test_the_page_takes_the_column_with_the_places(client: Client) -> None:
    project = make_span_project()
    rows = f"context,question,answer,start\n{TEXT},How long?,260 km,{AGAIN}\n{TEXT},Where?,Seehausen,\n"
    upload = upload_receive(
        project=project, user=project.created_by, file=ContentFile(rows.encode(), "a.csv")
    )
    client.force_login(project.created_by)
    address = reverse("upload", args=[project.pk, upload.pk])
    assert '<option value="start" selected>' in client.get(address).content.decode()

    sent = {"text": "context", "question": "question", "gold": "answer", "id": "", "if_different": "keep"}
    client.post(address, sent | {"start": "start"})
    upload.refresh_from_db()
    run_to_end(upload.job_id or 0)
    items = Item.objects.filter(project=project).order_by("pk")
    assert [item.gold_answers for item in items] == [FINAL["second place"], FINAL["accepted"]]
    assert [item.columns for item in items] == [{}, {}]


def test_the_page_offers_the_column_for_spans(client: Client) -> None:
    project = make_span_project()
    rows = b"context,question,answer,no_answer\nThe Oker is short.,What is?,,false\n"
    upload = upload_receive(project=project, user=project.created_by, file=ContentFile(rows, "a.csv"))
    client.force_login(project.created_by)
    address = reverse("upload", args=[project.pk, upload.pk])
    assert '<option value="no_answer" selected>' in client.get(address).content.decode()

    sent = {"text": "context", "question": "question", "gold": "answer", "id": "", "if_different": "keep"}
    client.post(address, sent | {"no_answer": "no_answer"})
    upload.refresh_from_db()
    run_to_end(upload.job_id or 0)
    assert Item.objects.get(project=project).gold_answers is None
