"""The data card, the archives that it travels in, image folders, and what audits do to the rows."""

import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.db.models import F
from django.db.models.functions import Floor
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from annotate.errors import Refusal
from annotate.models import Project
from jobs.models import Chunk, Job
from jobs.running import run_next_chunk, run_to_end
from review.browsing import chain_of
from review.data_card import product_version, readme
from review.models import BudgetRaise, Export, ReviewRound
from review.services.exports import export_create
from review.services.picking import ACCEPT, Action, pick
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_create
from review.weights import act_weights
from tests.factories import (
    label_named,
    make_annotation_run,
    make_audit_round,
    make_calibration_label,
    make_criticism_run,
    make_image,
    make_item,
    make_items,
    make_project,
    make_user,
    png_bytes,
)
from tests.review.test_exporting import by_id, path_of, read, write

pytestmark = pytest.mark.django_db


def drawn_round(
    items: int = 12, budget: int = 4, *, rule: str = "threshold", project: Project | None = None
) -> ReviewRound:
    project = project or make_project()
    make_items(project, items - project.items.count(), gold="positive")
    run = make_criticism_run(make_annotation_run(project), np.linspace(0.9, 0.1, items).tolist())
    return round_create(run=run, user=project.created_by, count=budget, rule=rule)


def answer_all(round: ReviewRound, label: str = "positive", most: int = 1000) -> set[str]:
    """Gives the external ids of what was answered."""
    answered: set[str] = set()
    while len(answered) < most and (tasks := tasks_claim(round=round, user=round.created_by)):
        for task in tasks:
            given = Answer("label", label_named(round.project, label))
            task_submit(task=task, user=round.created_by, answer=given)
            answered.add(task.item.external_id)
    return answered


def archive_of(export: Export) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path_of(export))
    assert archive.testzip() is None
    return archive


class TestAuditedRows:
    def test_under_threshold_a_final_label_is_a_final_label(self):
        round = drawn_round()
        reviewed = answer_all(round)
        audited = answer_all(make_audit_round(round, 3))

        rows = by_id(read(write(round, format="jsonl", lam=0.7)))

        for name in audited:
            row = rows[name]
            assert (row["status"], row["label_source"], row["final_label"]) == (
                "audited",
                "human",
                "positive",
            )
            assert (row["human_label"], row["machine_label"]) == ("positive", "negative")
            assert (row["selected"], row["inclusion_prob"]) == (False, 1.0)
            assert (row["machine_weight"], row["human_weight"]) == (0.0, 1.0)
            assert row["reviewer"] == round.created_by.username
            assert row["reviewed_at"]
        for name, row in rows.items():
            if name in reviewed:
                assert (row["status"], row["inclusion_prob"], row["human_weight"]) == ("reviewed", 1.0, 1.0)
            elif name not in audited:
                assert (row["status"], row["inclusion_prob"]) == ("machine", 0.0)
                assert (row["machine_weight"], row["human_weight"]) == (0.7, 0.0)

    @pytest.mark.parametrize("rule", ["normalize", "exponential"])
    def test_where_reviews_speak_for_others_the_audit_is_a_second_chance(self, rule):
        round = drawn_round(rule=rule)
        reviewed = answer_all(round)
        drawn = np.concatenate([block.arrays().inclusion_probs for block in round.current_blocks])
        before = read(write(round, format="jsonl"))
        first = answer_all(make_audit_round(round, 2))
        second = answer_all(make_audit_round(round, 1))  # extends it: together three of the eight

        rows = read(write(round, format="jsonl"))

        share = 3 / (12 - len(reviewed))
        assert [row["inclusion_prob"] for row in before] == drawn.tolist()
        assert [row["inclusion_prob"] for row in rows] == pytest.approx(drawn + (1 - drawn) * share)
        for row in rows:
            is_labelled = row["external_id"] in reviewed | first | second
            weights = act_weights([is_labelled], [row["inclusion_prob"]])
            assert (row["machine_weight"], row["human_weight"]) == pytest.approx(
                tuple(float(weight[0]) for weight in weights)
            )
            assert (row["status"] == "audited") == (row["external_id"] in first | second)
        assert sum(row["selected"] for row in rows) == len(reviewed)

    @pytest.mark.parametrize("done", [0, 2])
    def test_of_an_audit_under_way_what_is_done_counts(self, done):
        round = drawn_round(rule="normalize")
        reviewed = answer_all(round)
        drawn = np.concatenate([block.arrays().inclusion_probs for block in round.current_blocks])
        answer_all(make_audit_round(round, 4), most=done)

        rows = read(write(round, format="jsonl"))

        share = done / (12 - len(reviewed))
        assert [row["inclusion_prob"] for row in rows] == pytest.approx(drawn + (1 - drawn) * share)

    def test_beside_a_random_training_part_an_audit_is_a_second_chance_whatever_the_rule(self):
        project = make_project()
        make_items(project, 24)
        run = make_criticism_run(make_annotation_run(project))
        run.annotation_run.annotations.update(confidence=0.5)
        round = round_create(run=run, user=project.created_by, count=24, priority="cdi", training_share=0.5)
        answer_all(round)
        answer_all(make_audit_round(round, 6))

        rows = read(write(round, format="jsonl"))

        assert [row["inclusion_prob"] for row in rows] == pytest.approx([0.5 + 0.5 * 6 / 12] * 24)
        assert sum(row["human_weight"] for row in rows) == pytest.approx(24)

    def test_an_audit_before_a_raise_is_certain_in_the_draw_after_it(self):
        round = drawn_round(rule="normalize")
        answer_all(round)
        audited = answer_all(make_audit_round(round, 3))
        for block in round.draw_blocks.all():
            block.pk, block.draw_number = None, 1
            block.save()
        ReviewRound.objects.filter(pk=round.pk).update(draw_number=1)
        round.refresh_from_db()
        drawn = np.concatenate([block.arrays().inclusion_probs for block in round.current_blocks])

        rows = read(write(round, format="jsonl"))

        for row, inclusion_prob in zip(rows, drawn, strict=True):
            is_audited = row["external_id"] in audited
            assert row["inclusion_prob"] == (1.0 if is_audited else inclusion_prob)
            if is_audited:
                assert (row["machine_weight"], row["human_weight"]) == (0.0, 1.0)

    def test_an_audited_item_without_an_answer_keeps_the_machines_label(self):
        round = drawn_round()
        answer_all(round)
        audit = make_audit_round(round, 3)
        (task,) = tasks_claim(round=audit, user=round.created_by)
        task_submit(task=task, user=round.created_by, answer=Answer("skip"))

        statuses = {row["status"] for row in read(write(round, format="jsonl"))}

        assert statuses == {"reviewed", "machine"}

    def test_a_review_goes_before_an_audit_where_there_are_both(self):
        round = drawn_round()
        audit = make_audit_round(round, 12)  # closed before anybody reviewed
        answer_all(audit, "negative")
        ReviewRound.objects.filter(pk=round.pk).update(state="open")
        round.refresh_from_db()
        reviewed = answer_all(round, "positive")

        rows = by_id(read(write(round, format="jsonl")))

        for name, row in rows.items():
            assert row["final_label"] == ("positive" if name in reviewed else "negative")
            assert row["status"] == ("reviewed" if name in reviewed else "audited")
            assert (row["machine_weight"], row["human_weight"]) == (0.0, 1.0)

    def test_an_audit_itself_cannot_be_exported(self):
        round = drawn_round()
        with pytest.raises(Refusal, match="exported with the round that it audits"):
            export_create(round=make_audit_round(round, 2), user=round.created_by)

    def test_a_round_of_ranks_alone_has_no_error_probabilities(self):
        project = make_project()
        make_items(project, 6)
        run = make_criticism_run(make_annotation_run(project), strategy="mc")
        run.criticisms.update(error_prob=None, priority=Floor(5 * F("priority")))
        round = round_create(run=run, user=project.created_by, count=2)
        answer_all(round)

        rows = read(write(round, format="parquet"))

        assert {row["error_prob"] for row in rows} == {None}
        assert [row["status"] for row in rows] == ["reviewed"] * 2 + ["machine"] * 4


class TestWeightsOfAnyRound:
    @hypothesis_settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        rule=st.sampled_from(["threshold", "normalize", "exponential"]),
        lam=st.sampled_from([0.0, 0.6, 0.85, 1.0]),
        error_probs=st.lists(st.floats(0.001, 1), min_size=6, max_size=14),
        budget=st.integers(1, 5),
        answered=st.integers(0, 5),
        audited=st.integers(0, 4),
        failed=st.integers(0, 3),
        seed=st.integers(0, 100),
    )
    def test_the_two_weights_of_a_row_belong_together(
        self, rule, lam, error_probs, budget, answered, audited, failed, seed
    ):
        project = make_project(name=f"Weights {seed}", owner=make_user())
        items = make_items(project, len(error_probs))
        make_calibration_label(make_item(project), "positive")
        answers = {item: "" if place < failed else "negative" for place, item in enumerate(items)}
        run = make_criticism_run(make_annotation_run(project, answers), error_probs[failed:])
        round = round_create(run=run, user=project.created_by, count=budget, rule=rule, seed=seed)
        answer_all(round, most=answered) if answered else set()
        if audited:
            left = len(items) - round.tasks.filter(state="answered").count()
            answer_all(make_audit_round(round, min(audited, left)))

        wide = read(write(round, format="jsonl", lam=lam))
        long = read(write(round, format="jsonl", lam=lam, layout="long"))

        for row in wide:
            is_human = row["human_label"] is not None
            assert row["final_label"] == (row["human_label"] or row["machine_label"])
            if row["status"] == "calibration":
                assert (row["machine_weight"], row["human_weight"]) == (0.0, 1.0)
                continue
            assert is_human == (row["status"] in ("reviewed", "audited"))
            assert row["human_weight"] == (pytest.approx(1 / row["inclusion_prob"]) if is_human else 0)
            if row["machine_label"] is None:
                assert row["machine_weight"] == 0
            else:
                assert row["machine_weight"] == pytest.approx(lam * (1 - row["human_weight"]))
        assert sum(row["selected"] for row in wide if row["status"] != "calibration") <= budget
        for source in ("machine", "human"):
            total = sum(row[f"{source}_weight"] for row in wide)
            assert sum(row["weight"] for row in long if row["source"] == source) == pytest.approx(total)
        assert all(row["label"] is not None for row in long)


class TestCard:
    def card_of(self, round: ReviewRound, **options: Any) -> dict[str, Any]:
        card: dict[str, Any] = write(round, **options).card
        return card

    def test_it_says_what_ran_and_what_people_did(self):
        project = make_project(name="Tweets | <b>of</b> all\nkinds", instructions="Be fair.")
        project.review_price = Decimal("0.25")
        project.save()
        make_calibration_label(make_item(project), "positive", make_user())
        make_calibration_label(make_item(project), "positive")
        items = make_items(project, 10)
        annotations = make_annotation_run(
            project,
            {item: "negative" if place else "" for place, item in enumerate(items)},
            prompt_version="annotate-cot-1",
            answer_format="bracket",
            parameters={"top_logprobs": 0},
            seed=9,
        )
        Job.objects.filter(pk=annotations.job_id).update(cost=Decimal("1.5"), input_tokens=700)
        run = make_criticism_run(annotations, strategy="naive", model="judge")
        round = round_create(run=run, user=project.created_by, count=4, seed=11)
        tasks = tasks_claim(round=round, user=project.created_by, count=3)
        for task, label in zip(tasks, ("positive", "negative", ""), strict=True):
            answer = Answer("label", label_named(project, label)) if label else Answer("skip")
            task_submit(task=task, user=project.created_by, answer=answer)
        BudgetRaise.objects.create(
            round=round, draw_number=0, old_budget=2, new_budget=4, reviewed=1, created_by=project.created_by
        )

        card = self.card_of(round, lam=0.8, layout="long", format="parquet")

        assert card["product"] == {"name": "Overread", "version": product_version()}
        assert card["project"]["name"] == project.name
        assert [label["name"] for label in card["project"]["labels"]] == ["negative", "positive"]
        annotator, criticizer = card["annotator"], card["criticizer"]
        assert (annotator["model"], annotator["strategy"], annotator["seed"]) == ("small", "cot", 9)
        assert annotator["prompt_version"] == "annotate-cot-1"
        assert (annotator["answers"], annotator["failed"]) == (9, 1)
        assert (criticizer["model"], criticizer["strategy"]) == ("judge", "naive")
        assert card["items"] == {
            "total": 12,
            "calibration": 2,
            "annotated": 9,
            "annotation_failed": 1,
            "given_to_people": 0,
            "drawn_from": 10,
        }
        assert (card["round"]["rule"], card["round"]["budget"], card["round"]["seed"]) == ("threshold", 4, 11)
        assert card["round"]["parameters"] == round.parameters
        assert (card["round"]["raises"][0]["from"], card["round"]["raises"][0]["to"]) == (2, 4)
        assert card["reviews"] == {
            "selected": 4,
            "answered": 2,
            "skipped": 1,
            "unanswered": 1,
            "picked": 0,
            "adjudicated": 0,
            "in_conflict": 0,
            "readings": 3,
            "people": 1,
            "at_once": 0,
        }
        # Three reviews and one calibration label at 25 cents; the other label is from gold.
        assert card["cost"] == {
            "currency": "USD",
            "models": 1.5,
            "review_price": 0.25,
            "reviews": 3,
            "audited": 0,
            "calibration_labels": 1,
            "people": 1.0,
            "total": 2.5,
            "all_human": 3.0,
        }
        export = card["export"]
        assert (export["lambda"], export["layout"], export["format"]) == (0.8, "long", "parquet")
        assert export["rows"] == len(read(Export.objects.get()))
        assert project.created_by.username not in json.dumps(card)

    def test_what_was_answered_many_at_once_is_no_paid_review(self):
        round = drawn_round()
        answer_all(round, most=1)
        action = Action(ACCEPT)
        ids = list(round.project.items.values_list("pk", flat=True))
        pick(
            project=round.project,
            chain=chain_of(round.project, round.pk),
            action=action,
            ids=ids,
            user=round.created_by,
        )

        card = self.card_of(round)

        assert (card["reviews"]["readings"], card["reviews"]["at_once"], card["cost"]["reviews"]) == (
            12,
            11,
            1,
        )
        assert "| answered many at once, not one by one | 11 |" in readme(card)

    def test_every_column_has_a_meaning(self):
        project = make_project("closed_vqa", [])
        make_item(project, columns={"label": "x", "other": 1, "image": "y"})
        round = round_create(
            run=make_criticism_run(make_annotation_run(project)), user=project.created_by, count=1
        )
        for layout in Export.TO_TRAIN_ON:
            for format in (*Export.TABLES, Export.Format.IMAGE_FOLDER):
                export = write(round, layout=layout, format=format)
                columns = export.card["export"]["columns"]
                if format in ("csv", "jsonl", "parquet"):
                    assert [column["name"] for column in columns] == list(
                        pq.read_schema(path_of(export)).names if format == "parquet" else read(export)[0]
                    )
                assert all(column["meaning"] and column["type"] for column in columns)
        own = {column["name"]: column["meaning"] for column in columns}
        assert own["source_label"] == "the item's own column “label”"

    def test_a_cost_that_is_not_known_is_not_stated(self):
        round = drawn_round()
        run = round.criticism_run
        assert run is not None
        run.criticisms.update(input_tokens=10, cost=None)

        card = self.card_of(round)

        assert card["criticizer"]["cost"] is card["cost"]["models"] is card["cost"]["total"] is None
        assert "not known: a model has no price" in readme(card)

    def test_it_carries_the_certificate_or_what_is_missing(self):
        round = drawn_round()
        answer_all(round)
        before = self.card_of(round)
        answer_all(make_audit_round(round, 8))
        after = self.card_of(round)

        assert before["certificate"] is None
        assert "nobody has audited" in before["certificate_missing"]
        assert "None was made" in readme(before)
        assert after["certificate"]["final_accuracy"]["low"] == pytest.approx(4 / 12)
        assert after["certificate"]["wrong"] == 8
        assert (after["audits"][0]["selected"], after["audits"][0]["people"]) == (8, 1)
        assert after["cost"]["audited"] == 8
        assert "| final labels | 33.3% | 33.3% to 33.3% |" in readme(after)

    def test_the_page_keeps_peoples_words_as_words(self):
        project = make_project(
            name='A | "b" <script>\n# Title: x', instructions="# One\n\n<i>two</i> | three"
        )
        page = readme(self.card_of(drawn_round(project=project)))

        front, _, body = page.removeprefix("---\n").partition("\n---\n")
        names = [line for line in front.split("\n") if line.startswith("pretty_name: ")]
        assert [json.loads(name.removeprefix("pretty_name: ")) for name in names] == [project.name]
        assert "<script>" not in body
        assert "<i>" not in body
        assert '# A \\| "b" &lt;script&gt; # Title: x' in body
        assert "> # One" in body

    def test_its_front_matter_names_the_file(self):
        round = drawn_round()
        export = write(round, with_card=True)
        front = readme(export.card).split("---")[1]

        assert front.strip().split("\n")[-5:] == [
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            f'    path: "{export.table_name}"',
        ]
        assert "- text-classification" in front


class TestArchives:
    @pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
    def test_with_its_card_it_is_an_archive_of_three_files(self, format):
        round = drawn_round()
        answer_all(round)
        bare = write(round, format=format, lam=0.9)
        export = write(round, format=format, lam=0.9, with_card=True)

        archive = archive_of(export)

        assert archive.namelist() == ["README.md", "data_card.json", export.table_name]
        assert export.filename == export.table_name.replace(f".{format}", ".zip")
        assert bare.filename == bare.table_name == export.table_name
        if format != "parquet":  # its card has the time in it
            assert archive.read(export.table_name) == path_of(bare).read_bytes()
        assert json.loads(archive.read("data_card.json")) == export.card
        assert archive.read("README.md").decode() == readme(export.card)
        assert (export.rows, export.size) == (bare.rows, path_of(export).stat().st_size)

    def test_parquet_carries_the_card_in_itself(self):
        export = write(drawn_round(), format="parquet")

        metadata = pq.read_schema(path_of(export)).metadata

        assert json.loads(metadata[b"overread_data_card"]) == export.card

    def test_one_that_is_cut_off_leaves_no_more_than_what_can_be_gone_on_with(
        self, monkeypatch, tmp_path, settings
    ):
        settings.MEDIA_ROOT = str(tmp_path)
        monkeypatch.setattr("review.exporting._SECONDS_BETWEEN_SIGNS", 0.0)
        export = export_create(round=drawn_round(), user=make_user(), with_card=True)
        monkeypatch.setattr("jobs.shutdown.requested", lambda: True)

        assert run_next_chunk(export.job_id)

        export.refresh_from_db()
        assert not export.file
        assert not export.card
        left = [path.name for path in (tmp_path / "exports").rglob("*") if path.is_file()]
        assert left == export.written.get("names", [])
        monkeypatch.undo()
        settings.MEDIA_ROOT = str(tmp_path)
        run_to_end(export.job_id)
        export.refresh_from_db()
        assert [path.name for path in (tmp_path / "exports" / str(export.project_id)).iterdir()] == [
            f"{export.pk}.zip"
        ]


class TestImageFolder:
    def project(self) -> Project:
        """Two questions about one picture, and one about another."""
        project = make_project("closed_vqa", ["no", "yes"])
        shared = make_image(project, png_bytes("red"))
        for name in ("a/first.png", "../../etc/passwd", "第三"):
            image = shared if name.startswith(("a/", "..")) else make_image(project, png_bytes("blue"))
            make_item(
                project, external_id=name, image=image, columns={"image": "x", "mask_file_name": "m.png"}
            )
        return project

    def round(self, project: Project) -> ReviewRound:
        run = make_criticism_run(make_annotation_run(project))
        return round_create(run=run, user=project.created_by, count=1, rule="normalize")

    @pytest.mark.parametrize("layout", Export.TO_TRAIN_ON)
    def test_it_is_laid_out_as_its_reader_wants_it(self, layout):
        project = self.project()
        round = self.round(project)
        answer_all(round, "yes")

        export = write(round, format="imagefolder", layout=layout)

        archive = archive_of(export)
        names = archive.namelist()
        assert names[:3] == ["README.md", "data_card.json", "train/metadata.parquet"]
        first, _, third = project.items.order_by("pk")
        assert names[3:] == [f"train/{first.pk}-first.png", f"train/{third.pk}.png"]
        table = pq.read_table(io.BytesIO(archive.read("train/metadata.parquet")))
        assert table.column_names[0] == "file_name"
        rows = table.to_pylist()
        assert len(rows) == export.rows
        # Every row's image lies beside the table, by its relative path.
        for row in rows:
            assert Image.open(io.BytesIO(archive.read(f"train/{row['file_name']}"))).size == (8, 6)
        # No other column may be taken for the path of an image.
        others = set(table.column_names) - {"file_name"}
        assert not [name for name in others if name == "image" or name.endswith(("file_name", "file_names"))]
        assert {"image_text", "mask_file_name_text"} <= others
        assert 'path: "train/**"' in archive.read("README.md").decode()
        assert export.is_archive
        assert export.filename.endswith(f"-{layout}-images.zip")

    def test_its_rows_are_those_of_the_other_formats(self):
        round = self.round(self.project())
        answer_all(round, "yes")
        for layout in Export.TO_TRAIN_ON:
            archive = archive_of(write(round, format="imagefolder", layout=layout))
            rows = pq.read_table(io.BytesIO(archive.read("train/metadata.parquet"))).to_pylist()
            plain = read(write(round, format="parquet", layout=layout))
            for row in rows:
                del row["file_name"]
                for name in ("image", "mask_file_name"):
                    row[name] = row.pop(f"{name}_text")
            assert rows == [dict(row) for row in plain]

    def test_names_are_the_same_in_every_export(self):
        project = self.project()
        lists = [archive_of(write(self.round(project), format="imagefolder")).namelist() for _ in range(2)]
        assert lists[0] == lists[1]

    def test_a_project_without_images_cannot_have_one(self):
        round = drawn_round()
        with pytest.raises(Refusal, match="Only a project with images") as refusal:
            export_create(round=round, user=round.created_by, format="imagefolder")
        assert refusal.value.field == "format"

    def test_an_image_that_is_gone_fails_with_its_name(self):
        project = self.project()
        first = project.items.earliest("pk")
        assert first.image is not None
        Path(first.image.file.path).unlink()
        round = self.round(project)
        export = export_create(round=round, user=round.created_by, format="imagefolder")

        run_to_end(export.job_id)

        export.refresh_from_db()
        assert export.job.state == "failed"
        assert f"{first.pk}-first.png is not in the storage" in export.job.reason
        assert not export.file
        assert not Chunk.objects.filter(job=export.job, lease_until__isnull=False, state="running").exists()
