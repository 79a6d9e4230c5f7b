"""The export of answers: a row for everything that people said, in every format, and nothing of the items but ids."""

import csv
import json
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import Item
from jobs.running import run_to_end
from review.models import Correction, Export, ReviewRound, ReviewTask
from review.services.exports import export_create
from tests.factories import (
    make_annotation_run,
    make_criticism_run,
    make_image,
    make_item,
    make_project,
    make_round,
)
from tests.review.turns import items_of, make_adjudication, make_labeled_round, make_people, make_turn
from tests.written_answers import make_written_round

pytestmark = pytest.mark.django_db

COLUMNS = [
    "item_id",
    "external_id",
    "round",
    "answer",
    "machine_label",
    "reviewer",
    "purpose",
    "copy",
    "arm",
    "action",
    "reason",
    "seconds",
    "late",
    "counted",
    "stands",
    "answered_at",
]
Purpose = ReviewTask.Purpose


@pytest.fixture(autouse=True)
def _files(settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)


@pytest.fixture
def round() -> ReviewRound:
    """One item that two people answer differently and a third decides, one that is skipped, one known item."""
    round = make_labeled_round(items=4)
    ann, bob, mona = make_people(round.project, "ann", "bob", "mona")
    first, second, third, _ = items_of(round)
    make_turn(round, first, ann, "negative", seconds=1.5)
    make_turn(round, first, bob, "positive", arm=ReviewTask.Arm.BLIND)
    task = make_adjudication(round, first)
    task.correction = Correction.objects.create(
        task=task, action="label", label=round.project.labels.get(name="positive"), author=mona
    )
    task.state, task.holder = ReviewTask.State.ANSWERED, mona
    task.save()
    make_turn(round, second, ann, "", reason="It is not clear")
    make_turn(round, third, bob, "positive", purpose=Purpose.GOLD)
    return round


def write(round: ReviewRound, **options: Any) -> Export:
    export = export_create(round=round, user=round.created_by, layout="answers", **options)
    run_to_end(export.job_id)
    export.refresh_from_db()
    assert export.job.state == "done", export.job.reason
    return export


def read(export: Export) -> list[dict[str, Any]]:
    path = Path(export.file.path)
    match export.format:
        case "parquet":
            rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
            return rows
        case "jsonl":
            return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_answer_is_a_row_in_the_order_given(round):
    rows = read(write(round, format="jsonl"))

    assert [list(row) for row in rows] == [COLUMNS] * 5
    said = [(row["reviewer"], row["answer"], row["purpose"], row["action"], row["counted"]) for row in rows]
    assert said == [
        ("ann", "negative", "review", "label", False),
        ("bob", "positive", "review", "label", False),
        ("mona", "positive", "adjudication", "label", True),
        ("ann", None, "review", "skip", True),
        ("bob", "positive", "gold", "label", False),
    ]
    assert {row["machine_label"] for row in rows} == {"negative"}
    assert [row["copy"] for row in rows[:2]] == [0, 1]
    assert [row["arm"] for row in rows[:2]] == ["criticism", "blind"]
    assert (rows[0]["seconds"], rows[0]["late"], rows[0]["stands"]) == (1.5, False, True)
    assert rows[3]["reason"] == "It is not clear"
    assert rows[0]["external_id"] == items_of(round)[0].external_id
    assert rows[0]["answered_at"] <= rows[4]["answered_at"]


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_the_formats_hold_the_same(round, format):
    rows = read(write(round, format=format))

    assert [row["answer"] or None for row in rows] == ["negative", "positive", "positive", None, "positive"]
    assert list(rows[0]) == COLUMNS


def test_parquet_states_the_types(round):
    schema = pq.read_schema(write(round, format="parquet").file.path)

    assert [
        schema.field(name).type for name in ("round", "copy", "seconds", "late", "counted", "stands")
    ] == [
        pa.int64(),
        pa.int64(),
        pa.float64(),
        pa.bool_(),
        pa.bool_(),
        pa.bool_(),
    ]


def test_what_was_taken_back_is_there_and_says_so(round):
    task = round.tasks.filter(purpose=Purpose.ADJUDICATION).get()
    Correction.objects.create(task=task, action="undo", author=task.holder)
    ReviewTask.objects.filter(pk=task.pk).update(correction=None, state="waiting", holder=None)

    rows = read(write(round, format="jsonl"))

    assert [(row["reviewer"], row["stands"]) for row in rows if row["purpose"] == "adjudication"] == [
        ("mona", False)
    ]
    assert len(rows) == 5  # the undo itself is no answer


def test_what_was_seen_is_what_was_kept_with_the_answer(round):
    Correction.objects.filter(author__username="ann").update(shown={"arm": "label"})

    assert next(row["arm"] for row in read(write(round, format="jsonl"))) == "label"


def test_other_rounds_stay_out(round):
    other = make_round(round.criticism_run, 2)
    make_turn(other, items_of(other)[0], round.created_by, "negative")

    assert len(read(write(round, format="jsonl"))) == 5
    assert [row["round"] for row in read(write(other, format="jsonl"))] == [other.pk]


def test_a_round_that_nobody_answered_gives_a_table_without_rows():
    export = write(make_labeled_round(items=2))

    assert (export.rows, read(export)) == (0, [])
    assert Path(export.file.path).read_text().strip() == ",".join(COLUMNS)


def test_written_answers_are_texts():
    round = make_written_round()
    item = items_of(round)[0]
    make_turn(round, item, make_people(round.project, "ann")[0], "A text\nof two lines.")

    [row] = read(write(round))

    assert row["answer"] == "A text\nof two lines."
    assert row["machine_label"] == item.annotations.get().answer


def test_its_card_explains_the_columns(round):
    export = write(round, with_card=True)
    columns = {column["name"]: column for column in export.card["export"]["columns"]}

    assert list(columns) == COLUMNS
    assert all(column["meaning"] for column in columns.values())
    assert (columns["late"]["type"], columns["seconds"]["type"], columns["copy"]["type"]) == (
        "boolean",
        "number",
        "integer",
    )
    assert "ann" not in json.dumps(export.card["reviews"])


def test_an_image_folder_holds_no_answers():
    project = make_project("image_classification")
    make_item(project, image=make_image(project))
    round = make_round(make_criticism_run(make_annotation_run(project)), 1)

    with pytest.raises(Refusal, match="An image folder holds items, not answers") as refused:
        export_create(round=round, user=round.created_by, layout="answers", format="imagefolder")
    assert refused.value.field == "format"


def test_the_page_and_the_api_offer_it(round):
    client = Client()
    client.force_login(round.created_by)
    sent = {"round": round.pk, "layout": "answers", "format": "csv", "lam": "1"}

    assert (
        "Answers: one row an answer"
        in client.get(reverse("exports", args=[round.project_id])).content.decode()
    )
    assert client.post(reverse("exports", args=[round.project_id]), sent).status_code == 302
    told = client.post(
        reverse("api:exports", args=[round.project_id]),
        {"round": round.pk, "layout": "answers", "format": "parquet"},
        content_type="application/json",
    )

    assert told.status_code == 202
    assert told.json()["filename"] == f"overread-{round.project_id}-round-{round.pk}-answers.parquet"
    assert list(Export.objects.values_list("layout", flat=True)) == ["answers", "answers"]


@pytest.mark.computed
def test_memory_stays_flat(monkeypatch):
    monkeypatch.setattr("review.answer_rows._BLOCK", 100)
    round = make_labeled_round(items=1)
    label, author = round.project.labels.first(), round.created_by
    task = round.tasks.get()
    Item.objects.update(text="a text of some length " * 200)
    count = 8000
    Correction.objects.bulk_create(
        (
            Correction(task=task, action="label", label=label, author=author, key=uuid.uuid4())
            for _ in range(count)
        ),
        batch_size=1000,
    )
    export = export_create(round=round, user=author, layout="answers")

    tracemalloc.start()
    try:
        run_to_end(export.job_id)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    export.refresh_from_db()
    assert export.rows == count
    assert peak < 3_000_000 < count * 2000
