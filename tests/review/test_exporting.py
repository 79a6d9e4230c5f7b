import csv
import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import Annotation, Item, Upload
from jobs.leases import Lease, LeaseLost, claim
from jobs.models import Chunk
from jobs.running import run_next_chunk, run_to_end
from review.exporting import Exporting
from review.models import Export, ReviewRound, ReviewTask
from review.services.exports import export_create
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.services.rounds import round_create
from review.setup import RoundSetup
from review.weights import act_weights
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_image,
    make_item,
    make_items,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db

# As the contract has them; the items' own columns come between the two halves.
BEFORE = ["item_id", "external_id"]
WIDE = [
    "machine_label",
    "human_label",
    "final_label",
    "label_source",
    "error_prob",
    "selected",
    "inclusion_prob",
    "machine_weight",
    "human_weight",
    "reviewer",
    "reviewed_at",
    "status",
]
LONG = ["label", "weight", "source"]

NASTY = [
    "=1+1",
    "+49 30",
    "-1",
    "@SUM(A1)",
    "\tTab",
    "a\rb",
    "line\nbreak",
    "both\r\n",
    'say "hi", then, go',
    "שלום עולם",
    "🎉 naïve é e\u0301",
    "<script>alert(1)</script>",
    "'",
    " leading",
    "NULL",
]


def write(round: ReviewRound, **options: Any) -> Export:
    export = export_create(round=round, user=round.created_by, **options)
    run_to_end(export.job_id)
    export.refresh_from_db()
    assert export.job.state == "done", export.job.reason
    return export


def path_of(export: Export) -> Path:
    return Path(export.file.path)


def read(export: Export) -> list[dict[str, Any]]:
    """The rows with their types, whatever the format: texts of CSV are turned into what the column holds."""
    path = path_of(export)
    match export.format:
        case "parquet":
            rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
            return rows
        case "jsonl":
            return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: typed(name, value) for name, value in row.items()} for row in csv.DictReader(file)]


def typed(name: str, value: str) -> Any:
    if value == "":
        return None
    if name == "item_id":
        return int(value)
    if name in ("error_prob", "inclusion_prob", "machine_weight", "human_weight", "weight"):
        return float(value)
    return {"true": True, "false": False}[value] if name == "selected" else value


def header_of(export: Export) -> list[str]:
    path = path_of(export)
    if export.format == "parquet":
        names: list[str] = pq.read_schema(path).names
        return names
    if export.format == "jsonl":
        return list(json.loads(path.read_text("utf-8").split("\n")[0]))
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def make_upload(project: Any, columns: list[str]) -> Upload:
    """An upload with these columns, for items that say they came from it."""
    return Upload.objects.create(
        project=project,
        filename="data.csv",
        file="data",
        size=1,
        columns=columns,
        created_by=project.created_by,
    )


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["external_id"]: row for row in rows}


def answer(round: ReviewRound, label: str, count: int = 1) -> list[str]:
    """Review the next items; gives their external ids."""
    tasks = tasks_claim(round=round, user=round.created_by, count=count)
    for task in tasks:
        given = Answer("label", label_named(round.project, label))
        task_submit(task=task, user=round.created_by, answer=given)
    return [task.item.external_id for task in tasks]


@pytest.fixture
def nasty_round() -> ReviewRound:
    """Items whose texts and columns are hard to write down, some of them reviewed."""
    project = make_project(labels=["negative", "=positive"])
    upload = make_upload(project, ["id", "text", "note", "number", "share", "flag", "empty"])
    for place, text in enumerate(NASTY):
        columns = {"note": text, "number": place, "share": place / 3, "flag": place % 2 == 0, "empty": None}
        make_item(project, external_id=f"i{place:02}", text=text, columns=columns, upload=upload)
    round = round_create(
        run=make_criticism_run(make_annotation_run(project)),
        user=project.created_by,
        count=9,
        rule="normalize",
    )
    answer(round, "=positive", 5)
    return round


class TestFormats:
    @pytest.mark.parametrize("layout", Export.TO_TRAIN_ON)
    def test_all_three_say_the_same(self, layout, nasty_round):
        exports = {
            str(format): write(nasty_round, layout=layout, format=format, escape_formulas=False)
            for format in Export.TABLES
        }

        jsonl = read(exports["jsonl"])
        assert jsonl
        assert read(exports["parquet"]) == read(exports["csv"]) == [in_a_table(row) for row in jsonl]
        for export in exports.values():
            assert header_of(export) == header_of(exports["jsonl"])
            assert export.rows == len(jsonl)
            assert export.size == path_of(export).stat().st_size

    def test_the_columns_are_the_contracts(self, nasty_round):
        own = ["text", "note", "number", "share", "flag", "empty"]

        assert header_of(write(nasty_round, layout="wide")) == BEFORE + own + WIDE
        assert header_of(write(nasty_round, layout="long")) == BEFORE + own + LONG

    def test_texts_come_back_as_they_are(self, nasty_round):
        for format in Export.TABLES:
            rows = read(write(nasty_round, format=format, escape_formulas=False))
            assert [row["text"] for row in rows] == NASTY
            assert [row["note"] for row in rows] == NASTY

    def test_formulas_are_escaped_in_csv_alone_and_only_if_wanted(self, nasty_round):
        escaped = read(write(nasty_round, format="csv"))

        seen = [row["text"] for row in escaped][:6]
        assert seen == ["'=1+1", "'+49 30", "-1", "'@SUM(A1)", "'\tTab", "a\rb"]
        assert "'=positive" in {row["human_label"] for row in escaped}
        for format in ("jsonl", "parquet"):
            assert [row["text"] for row in read(write(nasty_round, format=format))] == NASTY

    def test_a_signed_number_is_no_formula(self):
        project = make_project()
        for value in ("-5", "+1.5e-3", "-.5", "-5+cmd|' /C calc'!A0"):
            make_item(project, columns={"delta": value})
        rows = read(write(one_round(project), format="csv"))

        assert [row["delta"] for row in rows] == ["-5", "+1.5e-3", "-.5", "'-5+cmd|' /C calc'!A0"]

    def test_a_header_that_is_a_formula_is_escaped_too(self):
        project = make_project()
        make_item(project, columns={"=cmd()": "x"})
        round = one_round(project)

        assert "'=cmd()" in header_of(write(round))

    def test_numbers_and_flags_have_types_in_parquet(self, nasty_round):
        schema = pq.read_schema(path_of(write(nasty_round, format="parquet")))

        types = {name: str(schema.field(name).type) for name in schema.names}
        assert types["item_id"] == "int64"
        assert types["selected"] == "bool"
        for name in ("error_prob", "inclusion_prob", "machine_weight", "human_weight"):
            assert types[name] == "double"
        assert types["number"] == types["text"] == "string"


def in_a_table(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a table of texts holds it: the items' own values that are no texts as JSON."""
    own = ("number", "share", "flag")
    return {name: json.dumps(value) if name in own else value for name, value in row.items()}


def one_round(
    project: Any, error_probs: list[float] | None = None, count: int = 1, **options: Any
) -> ReviewRound:
    run = make_criticism_run(make_annotation_run(project), error_probs)
    return round_create(run=run, user=run.created_by, count=count, **options)


class TestWeights:
    @pytest.mark.parametrize("rule", ["threshold", "normalize", "exponential"])
    @pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
    def test_they_are_those_of_the_paper(self, lam, rule):
        project = make_project()
        make_items(project, 12)
        round = one_round(project, np.linspace(0.05, 0.95, 12).tolist(), 5, rule=rule)
        reviewed = answer(round, "positive", 4)

        rows = read(write(round, lam=lam, format="jsonl"))

        is_reviewed = np.array([row["external_id"] in reviewed for row in rows])
        inclusion_prob = np.array([row["inclusion_prob"] for row in rows])
        machine_weight, human_weight = act_weights(is_reviewed, inclusion_prob, lam)
        assert [row["machine_weight"] for row in rows] == machine_weight.tolist()
        assert [row["human_weight"] for row in rows] == human_weight.tolist()
        drawn = np.concatenate([block.arrays().inclusion_probs for block in round.draw_blocks.all()])
        assert inclusion_prob.tolist() == drawn.tolist()
        assert sum(row["selected"] for row in rows) == 5

    def test_long_rows_are_the_wide_ones_with_weights_that_are_not_zero(self):
        project = make_project()
        make_items(project, 12)
        round = one_round(project, np.linspace(0.05, 0.95, 12).tolist(), 5, rule="normalize")
        answer(round, "positive", 3)

        wide = read(write(round, lam=0.8, format="jsonl"))
        long = read(write(round, lam=0.8, format="jsonl", layout="long"))

        expected = [
            (row["external_id"], row[f"{source}_label"], row[f"{source}_weight"], source)
            for row in wide
            for source in ("machine", "human")
            if row[f"{source}_weight"] != 0
        ]
        assert [(row["external_id"], row["label"], row["weight"], row["source"]) for row in long] == expected
        assert any(row["weight"] < 0 for row in long)

    def test_under_the_threshold_rule_it_is_one_label_an_item(self):
        round = make_reviewable_round(items=6, budget=3)
        reviewed = answer(round, "positive", 3)

        long = read(write(round, layout="long", format="jsonl"))

        assert [(row["weight"], row["source"]) for row in long] == [
            (1.0, "human" if row["external_id"] in reviewed else "machine") for row in long
        ]
        assert len(long) == 6


def pick(round: ReviewRound) -> str:
    """Ask for the answer to an item that the draw left, by hand, and answer it; gives its external id."""
    queued = round.tasks.values("item_id")
    item = round.project.items.exclude(pk__in=queued).earliest("pk")
    task = ReviewTask.objects.create(
        round=round, item=item, annotation=item.annotations.get(), rank=1000, purpose="picked"
    )
    task_submit(
        task=task, user=round.created_by, answer=Answer("label", label_named(round.project, "positive"))
    )
    return item.external_id


class TestPicked:
    def test_under_the_threshold_rule_it_weighs_as_reviewed(self):
        round = make_reviewable_round(items=6, budget=2)
        picked = pick(round)

        row = by_id(read(write(round, format="jsonl")))[picked]

        assert (row["status"], row["label_source"], row["selected"]) == ("picked", "human", False)
        assert (row["inclusion_prob"], row["machine_weight"], row["human_weight"]) == (1.0, 0.0, 1.0)
        assert row["final_label"] == row["human_label"] == "positive"

    @pytest.mark.parametrize("rule", ["normalize", "exponential"])
    def test_where_chance_decides_the_weights_are_those_of_the_draw(self, rule):
        project = make_project()
        make_items(project, 12)
        round = one_round(project, np.linspace(0.05, 0.95, 12).tolist(), 5, rule=rule)
        reviewed = answer(round, "positive", 4)
        weights = ("inclusion_prob", "machine_weight", "human_weight")
        before = read(write(round, format="jsonl", lam=0.7))
        picked = pick(round)

        after = read(write(round, format="jsonl", lam=0.7))

        assert [[row[name] for name in weights] for row in after] == [
            [row[name] for name in weights] for row in before
        ]
        row = by_id(after)[picked]
        assert (row["final_label"], row["status"], row["human_weight"]) == ("positive", "picked", 0.0)
        # The estimator is still that of the items which the draw selected.
        is_reviewed = np.array([row["external_id"] in reviewed for row in after])
        inclusion_prob = np.array([row["inclusion_prob"] for row in after])
        machine_weight, human_weight = act_weights(is_reviewed, inclusion_prob, 0.7)
        assert [row["machine_weight"] for row in after] == machine_weight.tolist()
        assert [row["human_weight"] for row in after] == human_weight.tolist()


class TestOverlap:
    def test_conflicts_count_as_not_reviewed_until_they_are_adjudicated(self):
        project = make_project()
        make_items(project, 4)
        round = one_round(project, setup=RoundSetup(overlap=2, overlap_share=1.0))
        owner, other = project.created_by, make_user()
        for user, label in ((owner, "positive"), (other, "negative")):
            (task,) = tasks_claim(round=round, user=user)
            task_submit(task=task, user=user, answer=Answer("label", label_named(project, label)))

        row = by_id(read(write(round, format="jsonl")))[task.item.external_id]
        assert (row["status"], row["label_source"], row["human_label"]) == ("in conflict", "machine", None)
        assert (row["machine_weight"], row["human_weight"], row["reviewer"]) == (1.0, 0.0, None)

        adjudication = round.tasks.get(purpose="adjudication")
        given = Answer("label", label_named(project, "positive"))
        task_submit(task=adjudication, user=owner, answer=given)

        row = by_id(read(write(round, format="jsonl")))[task.item.external_id]
        assert (row["status"], row["label_source"], row["human_label"]) == (
            "reviewed",
            "adjudicated",
            "positive",
        )
        assert (row["machine_weight"], row["human_weight"]) == (0.0, 1.0)
        assert len(read(write(round, format="jsonl"))) == 4


class TestRows:
    def test_a_reviewed_item(self):
        round = make_reviewable_round(items=3, budget=1)
        (reviewed,) = answer(round, "positive")

        row = by_id(read(write(round, format="jsonl")))[reviewed]

        assert (row["machine_label"], row["human_label"], row["final_label"]) == (
            "negative",
            "positive",
            "positive",
        )
        assert (row["label_source"], row["status"], row["selected"]) == ("human", "reviewed", True)
        assert row["reviewer"] == round.created_by.username
        assert row["reviewed_at"].startswith(timezone.now().date().isoformat()[:8])

    @pytest.mark.parametrize("how", ["not reached", "skipped", "undone"])
    def test_a_selected_item_without_an_answer_counts_as_not_reviewed(self, how):
        round = make_reviewable_round(items=3, budget=1)
        user = round.created_by
        if how != "not reached":
            (task,) = tasks_claim(round=round, user=user)
            given = (
                Answer("skip")
                if how == "skipped"
                else Answer("label", label_named(round.project, "positive"))
            )
            task_submit(task=task, user=user, answer=given)
        if how == "undone":
            answer_undo(round=round, user=user)

        (row,) = [row for row in read(write(round, format="jsonl", lam=0.9)) if row["selected"]]

        assert (row["machine_weight"], row["human_weight"]) == (0.9, 0.0)
        assert (row["human_label"], row["final_label"], row["label_source"]) == (None, "negative", "machine")
        assert (row["status"], row["reviewer"], row["reviewed_at"]) == ("unanswered", None, None)

    def test_a_failed_item_has_no_machine_weight(self):
        project = make_project()
        items = make_items(project, 3)
        run = make_annotation_run(project, dict(zip(items, ["", "positive", "positive"], strict=True)))
        criticism_run = make_criticism_run(run, [0.99, 0.98])
        round = round_create(run=criticism_run, user=run.created_by, count=1)
        failed = items[0].external_id

        before = by_id(read(write(round, format="jsonl")))[failed]
        long = read(write(round, format="jsonl", layout="long"))
        assert (before["machine_label"], before["final_label"], before["machine_weight"]) == (None, None, 0.0)
        assert (before["status"], before["error_prob"], before["inclusion_prob"]) == ("unanswered", None, 1.0)
        assert failed not in by_id(long)
        assert answer(round, "negative") == [failed]

        after = by_id(read(write(round, format="jsonl")))[failed]
        assert (after["final_label"], after["machine_weight"], after["human_weight"]) == (
            "negative",
            0.0,
            1.0,
        )

    def test_a_failed_item_that_nobody_is_to_review_says_so(self):
        project = make_project()
        items = make_items(project, 2)
        run = make_annotation_run(project, dict(zip(items, ["", ""], strict=True)))
        round = round_create(run=make_criticism_run(run, []), user=run.created_by, count=1)

        statuses = [row["status"] for row in read(write(round, format="jsonl"))]

        assert sorted(statuses) == ["failed", "unanswered"]

    def test_calibration_items_carry_their_label_with_full_weight(self):
        project = make_project()
        items = make_items(project, 3)
        author = make_user("ann")
        make_calibration_label(items[0], "positive", author)
        make_calibration_label(items[1], "negative")
        round = one_round(project)

        rows = by_id(read(write(round, format="jsonl")))

        row = rows[items[0].external_id]
        assert (row["status"], row["final_label"], row["label_source"]) == (
            "calibration",
            "positive",
            "human",
        )
        assert (row["machine_label"], row["machine_weight"], row["human_weight"]) == (None, 0.0, 1.0)
        assert (row["inclusion_prob"], row["reviewer"]) == (1.0, "ann")
        assert rows[items[1].external_id]["reviewer"] is None

    def test_an_item_that_came_later_has_no_weight(self):
        round = make_reviewable_round(items=2, budget=1)
        late = make_item(round.project)

        row = by_id(read(write(round, format="jsonl")))[late.external_id]

        assert (row["status"], row["final_label"], row["machine_weight"], row["human_weight"]) == (
            "not_annotated",
            None,
            0.0,
            0.0,
        )
        assert late.external_id not in by_id(read(write(round, format="jsonl", layout="long")))

    def test_answers_of_another_round_are_left_out(self):
        round = make_reviewable_round(items=3, budget=1)
        other = round_create(run=round.criticism_run, user=round.created_by, count=1)  # type: ignore[arg-type]
        answer(other, "positive")

        assert {row["human_label"] for row in read(write(round, format="jsonl"))} == {None}


class TestOwnColumns:
    def rows_of(self, project: Any) -> tuple[list[str], list[dict[str, Any]]]:
        export = write(one_round(project), format="jsonl")
        header = header_of(export)
        assert len(set(header)) == len(header)
        return header, read(export)

    def test_a_name_of_ours_gets_a_prefix_and_loses_nothing(self):
        project = make_project()
        columns = {"label": "a", "item_id": "b", "source_label": "c", "selected": "d", "weight": "e"}
        make_item(project, columns=columns, upload=make_upload(project, list(columns)))

        header, (row,) = self.rows_of(project)

        assert header[3:8] == [
            "source_label",
            "source_item_id",
            "source_source_label",
            "source_selected",
            "source_weight",
        ]
        assert [row[name] for name in header[3:8]] == ["a", "b", "c", "d", "e"]

    def test_a_column_called_text_does_not_hide_the_text(self):
        project = make_project()
        make_item(project, text="what the model read", columns={"text": "something else"})

        _, (row,) = self.rows_of(project)

        assert (row["text"], row["source_text"]) == ("what the model read", "something else")

    def test_columns_of_several_uploads_stand_side_by_side(self):
        project = make_project()
        make_item(project, columns={"a": 1})
        make_item(project, columns={"b": [2]})

        header, rows = self.rows_of(project)

        assert header[3:5] == ["a", "b"]
        assert [(row["a"], row["b"]) for row in rows] == [(1, None), (None, [2])]

    def test_an_image_is_named_by_its_file(self):
        project = make_project("closed_vqa", [])
        make_item(project, question="Red?", file_name="a/b.png", columns={"file": "a/b.png", "folder": "a"})
        make_item(project, question="Blue?", image=make_image(project))

        header, rows = self.rows_of(project)

        assert header[2:5] == ["file", "question", "folder"]
        assert rows[0]["file"] == "a/b.png"
        assert rows[1]["file"].startswith(f"images/{project.pk}/")


class TestStarting:
    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"layout": "square"}, "layout"),
            ({"format": "xlsx"}, "format"),
            ({"lam": 1.01}, "lam"),
            ({"lam": -0.1}, "lam"),
            ({"lam": math.nan}, "lam"),
        ],
    )
    def test_what_cannot_be_written_is_refused(self, options, field):
        round = make_reviewable_round()

        with pytest.raises(Refusal) as refusal:
            export_create(round=round, user=round.created_by, **options)

        assert refusal.value.field == field

    def test_a_calibration_round_cannot_be_exported(self):
        project = make_project()
        make_items(project, 2)

        with pytest.raises(Refusal, match="draw a review round first"):
            export_create(round=make_calibration_round(project), user=project.created_by)


def many_items(count: int) -> ReviewRound:
    project = make_project()
    texts = "a text of some length " * 20
    items = Item.objects.bulk_create(
        (
            Item(project=project, external_id=str(number), text=f"{number} {texts}", columns={"note": texts})
            for number in range(count)
        ),
        batch_size=500,
    )
    run = make_annotation_run(project, {items[0]: "positive"})
    label = label_named(project, "positive")
    Annotation.objects.bulk_create(
        (Annotation(run=run, item=item, label=label) for item in items[1:]), batch_size=500
    )
    criticism_run = make_criticism_run(run, np.linspace(0, 1, count).tolist())
    return round_create(run=criticism_run, user=project.created_by, count=count // 10, rule="exponential")


@pytest.mark.computed
class TestLarge:
    @pytest.mark.parametrize(("format", "rows"), [("csv", 20_000), ("parquet", 6000)])
    def test_every_row_is_written_and_memory_stays_flat(self, format, rows, monkeypatch):
        monkeypatch.setattr("review.export_rows.BLOCK", 100)
        monkeypatch.setattr("review.export_files._ROW_GROUP_CHARACTERS", 100_000)
        round = many_items(rows)
        export = export_create(round=round, user=round.created_by, format=format)

        tracemalloc.start()
        try:
            run_to_end(export.job_id)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        export.refresh_from_db()
        assert (export.rows, export.job.done, export.job.total) == (rows, rows, rows)
        assert len(read(export)) == rows
        # The own columns of 2,000 items are looked at together: 2 MB. All rows would be 880 bytes each and more.
        assert peak < 3_500_000 < rows * 880


class TestCutOff:
    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch, settings, tmp_path):
        settings.MEDIA_ROOT = str(tmp_path)
        monkeypatch.setattr("review.export_rows.BLOCK", 2)
        monkeypatch.setattr("review.exporting._ANSWERS_AT_ONCE", 2)
        monkeypatch.setattr("review.exporting._ROWS_A_PART", 2)

    def folder(self, export: Export) -> Path:
        return Path(settings.MEDIA_ROOT) / "exports" / str(export.project_id)

    def files(self, export: Export) -> list[str]:
        folder = self.folder(export)
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def start(self) -> tuple[Export, Lease]:
        round = make_reviewable_round(items=9)
        export = export_create(round=round, user=round.created_by)
        lease = claim(export.job_id)
        assert lease is not None
        return export, lease

    def at_a_sign(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[Lease], Any]) -> None:
        renew = Lease.renew

        def act_and_renew(lease: Lease) -> None:
            monkeypatch.setattr(Lease, "renew", renew)
            act(lease)
            renew(lease)

        monkeypatch.setattr(Lease, "renew", act_and_renew)

    def test_a_killed_writer_publishes_nothing_and_the_next_cleans_up(self, monkeypatch):
        export, lease = self.start()
        left_behind = self.folder(export) / f"{export.pk}.csv.{'0' * 32}.part"
        left_behind.parent.mkdir(parents=True, exist_ok=True)
        left_behind.write_text("half a file")
        Chunk.objects.filter(pk=lease.chunk.pk).update(lease_until=timezone.now())

        export.refresh_from_db()
        assert not export.file
        run_to_end(export.job_id)

        export.refresh_from_db()
        assert [path.name for path in self.folder(export).iterdir()] == [f"{export.pk}.csv"]
        assert (export.rows, len(read(export)), export.job.done) == (9, 9, 9)

    def test_a_writer_that_breaks_off_leaves_no_file(self, monkeypatch):
        export, lease = self.start()

        def die(lease: Lease) -> None:
            raise KeyboardInterrupt

        self.at_a_sign(monkeypatch, die)
        with pytest.raises(KeyboardInterrupt):
            Exporting().run(lease)

        export.refresh_from_db()
        assert not export.file
        assert self.files(export) == [f"{export.pk}.parts/{name}" for name in export.written.get("names", [])]

    def test_one_who_was_taken_over_does_not_touch_the_published_file(self, monkeypatch):
        export, lease = self.start()

        def take_over(lease: Lease) -> None:
            Chunk.objects.filter(pk=lease.chunk.pk).update(lease_until=timezone.now())
            run_to_end(export.job_id)
            export.refresh_from_db()
            path_of(export).write_text("published")

        self.at_a_sign(monkeypatch, take_over)
        with pytest.raises(LeaseLost):
            Exporting().run(lease)

        export.refresh_from_db()
        assert (path_of(export).read_text(), export.rows, export.job.state) == ("published", 9, "done")

    def test_a_lease_lost_at_the_last_moment_publishes_nothing(self, monkeypatch):
        export, lease = self.start()
        write_rows = Lease.write

        def lose_then_write(lease: Lease, *args: Any, **options: Any) -> None:
            Chunk.objects.filter(pk=lease.chunk.pk).update(lease_until=timezone.now())
            assert claim(export.job_id) is not None
            write_rows(lease, *args, **options)

        monkeypatch.setattr(Lease, "write", lose_then_write)
        with pytest.raises(LeaseLost):
            Exporting().run(lease)

        export.refresh_from_db()
        assert not export.file
        assert self.files(export) == []

    def test_a_worker_that_shuts_down_starts_again_later(self, monkeypatch):
        round = make_reviewable_round(items=9)
        export = export_create(round=round, user=round.created_by)
        monkeypatch.setattr("jobs.shutdown.requested", lambda: True)
        assert run_next_chunk(export.job_id)
        export.refresh_from_db()
        assert not export.file
        monkeypatch.undo()

        run_to_end(export.job_id)

        export.refresh_from_db()
        assert (export.rows, export.job.done, export.job.total) == (9, 9, 9)
