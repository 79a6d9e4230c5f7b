"""The same rows uploaded again, and imports that are all or nothing."""

import errno
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError, transaction
from django.utils import timezone

from annotate.errors import Refusal
from annotate.importing import Import
from annotate.models import Change, Item, Project, Upload
from annotate.services.projects import label_update
from annotate.services.uploads import upload_cancel, upload_like, upload_resume
from annotate.uploads.mapping import ColumnMapping
from annotate.vectors import (
    fit_version,
    items_seen,
    make_vectors,
    missing_items,
    vector_rows,
    vectors_of,
    write_rows,
)
from jobs.leases import claim
from jobs.models import Chunk
from jobs.running import run_next_chunk
from tests.annotate.test_importing import begin, bring_in, receive, rejections, table, work_on
from tests.annotate.uploads.factories import zip_bytes
from tests.factories import make_annotation_run, make_calibration_label, make_project, png_bytes

COLORS = "id,text,gold\nn0,red,\nn1,green,\nn2,blue,\nn3,red and green,\nn4,blue or red,\nn5,red or green or blue,\n"

pytestmark = pytest.mark.django_db


def counts(upload: Upload) -> tuple[int, int, int, int, int]:
    return upload.imported, upload.repeated, upload.differing, upload.replaced, upload.rejected


def text_of(project: Project, external_id: str) -> str:
    return project.items.get(external_id=external_id).text


class TestAgain:
    def test_the_same_file_is_known_and_makes_nothing_twice(self):
        project = make_project()
        first = bring_in(project, table(70))

        second = receive(project, table(70), "renamed.csv")
        assert upload_like(second) == first
        assert upload_like(receive(make_project(), table(70))) is None
        upload = bring_in(project, table(70))

        assert counts(upload) == (0, 70, 0, 0, 0)
        assert upload.state == Upload.State.DONE
        assert project.items.count() == 70

    def test_what_is_there_what_is_new_and_what_differs(self):
        project = make_project()
        bring_in(project, table(70))
        changed = table(80).replace("text 3,", "another text,").replace("text 69,", "and another,")

        upload = bring_in(project, changed)

        assert counts(upload) == (10, 68, 2, 0, 2)
        assert rejections(upload) == {
            4: "The id “n3” is already in this project, with other content.",
            70: "The id “n69” is already in this project, with other content.",
        }
        assert text_of(project, "n3") == "text 3"

    def test_other_columns_and_another_gold_label_are_other_content(self):
        project = make_project()
        bring_in(project, "id,text,gold,note\n1,a,positive,x\n2,b,positive,x\n3,c,positive,x\n")

        upload = bring_in(project, "id,text,gold,note\n1,a,positive,y\n2,b,negative,x\n3,c,positive,x\n")

        assert counts(upload) == (0, 1, 2, 0, 2)

    def test_numbers_are_known_again_however_the_database_writes_them(self):
        project = make_project()
        rows = '[{"id": "1", "text": "a", "n": 1e20, "m": 0.1, "k": 1.0, "b": true, "z": null}]'
        mapping = ColumnMapping(id="id", text="text")
        bring_in(project, rows, "data.json", mapping)

        assert counts(bring_in(project, rows, "data.json", mapping)) == (0, 1, 0, 0, 0)

    def test_images_are_known_again(self):
        project = make_project("image_classification", ["cats"])
        mapping = ColumnMapping(id="file", image="file", folder_as_gold=True)
        red, blue = png_bytes("red"), png_bytes("blue")
        bring_in(project, zip_bytes({"cats/one.png": red, "cats/two.png": red}), "a.zip", mapping)

        upload = bring_in(project, zip_bytes({"cats/one.png": red, "cats/two.png": blue}), "a.zip", mapping)

        assert counts(upload) == (0, 1, 1, 0, 1)

    def test_items_are_replaced_where_that_is_asked_for_and_nothing_was_done_with_them(self):
        project = make_project()
        first = bring_in(project, table(6))
        items = {item.external_id: item for item in project.items.all()}
        make_annotation_run(project, {items["n1"]: "positive"})
        make_calibration_label(items["n2"], "positive")
        items["n3"].comments.create(author=project.created_by, text="Look.")
        data = "id,text,gold\n" + "".join(f"n{n},new {n},positive\n" for n in range(5)) + "n0,newest,\n"

        upload = bring_in(project, data, if_different="replace")

        assert counts(upload) == (0, 0, 6, 2, 4)
        assert [text_of(project, f"n{n}") for n in range(6)] == [
            "new 0",
            "text 1",
            "text 2",
            "text 3",
            "new 4",
            "text 5",
        ]
        replaced = Item.objects.select_related("gold").get(external_id="n0")
        assert (replaced.pk, replaced.upload_id) == (items["n0"].pk, first.pk)
        assert replaced.gold is not None
        assert replaced.gold.name == "positive"
        said = rejections(upload)
        assert all("something was done with its item" in said[row] for row in (2, 3, 4))
        assert said[6] == "The id “n0” is in this file twice, with other content."
        change = Change.objects.get(action="items replaced")
        assert (change.actor, change.new) == (project.created_by, {"items": 2})

    def test_a_replaced_item_keeps_no_vector_of_what_it_was(self):
        project = make_project()
        bring_in(project, COLORS)
        ids = list(project.items.order_by("pk").values_list("pk", flat=True))
        version = make_vectors(project, ids, user=project.created_by)
        before = vectors_of(project, ids)

        upload = bring_in(project, "id,text,gold\nn0,green and blue,\n", if_different="replace")

        assert counts(upload) == (0, 0, 1, 1, 0)
        assert missing_items(version, ids) == [ids[0]]
        assert project.items.get(external_id="n0").replaced_at is not None
        make_vectors(project, ids, user=project.created_by)
        after = vectors_of(project, ids)
        assert (after[1:] == before[1:]).all()
        assert (after[0] != before[0]).any()

    def test_a_vector_on_its_way_is_not_kept_where_the_item_was_replaced_meanwhile(self):
        project = make_project()
        bring_in(project, COLORS)
        ids = list(project.items.order_by("pk").values_list("pk", flat=True))
        version = make_vectors(project, ids[1:], user=project.created_by)
        rows = vector_rows(version, fit_version(version), items_seen(version, ids[:1]))

        bring_in(project, "id,text,gold\nn0,green,\n", if_different="replace")
        with transaction.atomic():
            write_rows(version, rows)

        assert missing_items(version, ids) == [ids[0]]

    def test_an_item_that_an_annotator_is_asked_about_is_in_use(self):
        project = make_project()
        bring_in(project, table(2))
        run = make_annotation_run(project, {})
        [asked, _] = project.items.order_by("pk").values_list("pk", flat=True)
        Chunk.objects.create(job=run.job, number=0, subjects=[asked], state=Chunk.State.RUNNING)

        upload = bring_in(project, "id,text,gold\nn0,new,\nn1,new,\n", if_different="replace")

        assert counts(upload) == (0, 0, 2, 1, 1)
        assert "something was done with its item" in rejections(upload)[1]


class TestAllOrNothing:
    def test_one_bad_row_and_nothing_comes_in(self):
        project = make_project()
        upload = bring_in(project, table(1200) + "n3000,,\n", all_or_nothing=True)

        assert upload.job is not None
        assert (upload.state, upload.step, upload.job.state) == ("failed", "", "failed")
        assert counts(upload) == (0, 0, 0, 0, 1)
        assert rejections(upload) == {1201: "Row 1,201 has no text in column “text”."}
        assert "1 row of 1,201 would be rejected. Nothing of it was imported." in upload.reason
        assert not project.items.exists()

    def test_without_a_bad_row_everything_does(self):
        project = make_project(labels=["negative"])
        data = table(1200) + "a,b,new label\nn5,text 5,negative\n"

        upload = bring_in(project, data, all_or_nothing=True, add_labels=True)

        assert (upload.state, upload.step) == ("done", "")
        assert counts(upload) == (1201, 1, 0, 0, 0)
        assert upload.job is not None
        assert (upload.job.done, upload.job.total) == (1202, 1202)
        assert list(project.labels.values_list("name", flat=True)) == ["negative", "new label"]

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("n3,another text,\n", "The id “n3” is already in this project, with other content."),
            ("x1,one,\nx2,two,\nx1,other,\n", "Row 2 has the same id, with other content."),
            ("x,y,no label\n", "The gold label “no label” is not one of the project's labels."),
        ],
    )
    def test_ids_that_are_taken_and_unknown_labels_count_as_bad(self, row, said):
        project = make_project()
        bring_in(project, table(5))

        upload = bring_in(project, "id,text,gold\nok,fine,\n" + row, all_or_nothing=True)

        assert list(rejections(upload).values()) == [said]
        assert project.items.count() == 5

    def test_rows_that_are_there_already_are_no_harm(self):
        project = make_project()
        bring_in(project, table(5))

        upload = bring_in(project, table(7), all_or_nothing=True)

        assert counts(upload) == (2, 5, 0, 0, 0)

    def test_it_does_not_go_with_replacing(self):
        with pytest.raises(Refusal, match="choose one of the two"):
            begin(make_project(), table(2), all_or_nothing=True, if_different="replace")

    @pytest.mark.parametrize("batches", [0, 1, 2, 3, 4, 5, 6, 7])
    @pytest.mark.parametrize("bad", ["", "z,,\n"])
    def test_killed_anywhere_an_heir_ends_it_all_or_nothing(self, bad, batches, monkeypatch, settings):
        from jobs.leases import Lease

        settings.WRITE_BATCH = 5
        project = make_project()
        upload = begin(project, table(120) + bad, all_or_nothing=True)
        write, made = Lease.write, iter(range(1000))

        def dying_write(lease: Lease, rows: Any, *, cursor: int | None = None) -> None:
            if next(made) == batches:
                raise KeyboardInterrupt
            write(lease, rows, cursor=cursor)

        monkeypatch.setattr(Lease, "write", dying_write)
        assert upload.job_id is not None
        lease = claim(upload.job_id)
        assert lease is not None
        if not bad or batches < 4:
            with pytest.raises(KeyboardInterrupt):
                Import().run(lease)
        monkeypatch.undo()
        if bad:
            assert not project.items.exists()
        Chunk.objects.update(lease_until=timezone.now())

        upload = work_on(upload)

        assert project.items.count() == (0 if bad else 120)
        assert counts(upload) == ((0, 0, 0, 0, 1) if bad else (120, 0, 0, 0, 0))

    def test_an_item_that_came_meanwhile_ends_it_with_nothing(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        project = make_project()
        upload = begin(project, table(120), all_or_nothing=True)
        from annotate import importing

        write = importing._write

        def somebody_was_faster(*args: Any) -> bool:
            Item.objects.create(project=project, external_id="n110", text="other")
            return write(*args)

        monkeypatch.setattr(importing, "_write", somebody_was_faster)
        upload = work_on(upload)

        assert upload.state == "failed"
        assert "n110" in upload.reason
        assert upload.reason.endswith("Nothing of it was imported.")
        assert list(project.items.values_list("external_id", flat=True)) == ["n110"]

    def test_cancelled_in_the_middle_it_is_taken_back(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        monkeypatch.setattr("annotate.importing.ITEMS_TAKEN_BACK_AT_ONCE", 20)
        monkeypatch.setattr("jobs.shutdown.requested", lambda: Upload.objects.get().imported == 50)
        project = make_project()
        upload = begin(project, table(120), all_or_nothing=True)
        assert upload.job_id is not None
        run_next_chunk(upload.job_id)
        assert project.items.count() == 50
        monkeypatch.setattr("jobs.shutdown.requested", lambda: False)

        upload_cancel(upload=upload)
        upload.refresh_from_db()
        assert (upload.state, upload.step) == ("importing", "undoing")
        with pytest.raises(Refusal, match="being taken back"):
            upload_cancel(upload=upload)
        upload = work_on(upload)

        assert (upload.state, upload.step, upload.imported) == ("failed", "", 0)
        assert upload.reason == "The import was cancelled. Nothing of it was imported."
        assert not project.items.exists()

    def undone(
        self, project: Project, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]
    ) -> None:
        """An import that made the labels “second” and “third” and is taken back; `meanwhile` happens before that."""
        rows = "".join(f"x{n},text {n},{'second' if n % 2 else 'third'}\n" for n in range(60))
        upload = begin(project, "id,text,gold\n" + rows, all_or_nothing=True, add_labels=True)
        with monkeypatch.context() as stopping:
            stopping.setattr(
                "jobs.shutdown.requested", lambda: Upload.objects.get(pk=upload.pk).imported == 50
            )
            assert upload.job_id is not None
            run_next_chunk(upload.job_id)
        assert list(project.labels.values_list("name", flat=True)) == ["first", "third", "second"]
        meanwhile()
        upload_cancel(upload=upload)
        assert work_on(upload).state == "failed"

    def test_labels_that_it_made_go_too(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        project = make_project(labels=["first"])

        self.undone(project, monkeypatch, lambda: project.labels.create(position=3, name="by a person"))

        assert list(project.labels.values_list("position", "name")) == [(0, "first"), (1, "by a person")]

    def test_labels_that_something_else_uses_stay(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        project = make_project(labels=["first"])

        def meanwhile() -> None:
            bring_in(project, "id,text,gold\nother,text,second\n")

        self.undone(project, monkeypatch, meanwhile)

        assert list(project.labels.values_list("position", "name")) == [(0, "first"), (1, "second")]

    def test_labels_that_somebody_worked_on_stay(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        project = make_project(labels=["first"])

        def meanwhile() -> None:
            label_update(
                label=project.labels.get(name="third"), user=project.created_by, name="3rd", description=""
            )
            project.labels.filter(name="second").update(guideline="When it is the second.")

        self.undone(project, monkeypatch, meanwhile)

        assert list(project.labels.values_list("position", "name")) == [
            (0, "first"),
            (1, "3rd"),
            (2, "second"),
        ]

    def test_no_label_goes_once_models_were_told_of_them(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        project = make_project(labels=["first"])

        self.undone(project, monkeypatch, lambda: make_annotation_run(project, {}))

        assert project.labels.count() == 3

    def test_cancelled_while_it_checks_nothing_is_there_to_take_back(self):
        project = make_project()
        upload = begin(project, table(20), all_or_nothing=True)

        upload_cancel(upload=upload)

        upload.refresh_from_db()
        assert (upload.state, upload.reason) == (
            "failed",
            "The import was cancelled. Nothing of it was imported.",
        )


class TestFullDisk:
    def fill(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next file is written by half."""
        write = default_storage._save  # type: ignore[attr-defined]

        def half(name: str, content: Any) -> str:
            content.file = type(content.file)(b"half")
            write(name, content)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(default_storage._wrapped, "_save", half)  # type: ignore[attr-defined]

    def test_an_upload_is_refused_and_leaves_nothing(self, monkeypatch, settings, tmp_path):
        settings.MEDIA_ROOT = str(tmp_path)
        project = make_project()
        with monkeypatch.context() as full:
            self.fill(full)
            with pytest.raises(Refusal, match="disk of the server is full"):
                receive(project, table(5))
        assert not Upload.objects.exists()
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

        assert bring_in(project, table(5)).imported == 5

    def test_an_import_pauses_with_a_sentence_and_goes_on(self, monkeypatch, settings, tmp_path):
        settings.MEDIA_ROOT = str(tmp_path)
        project = make_project("image_classification", ["a", "b"])
        archive = zip_bytes({"a/one.png": png_bytes("red"), "a/two.png": png_bytes("blue")})
        upload = begin(project, archive, "a.zip", ColumnMapping(id="file", image="file"))
        with monkeypatch.context() as full:
            self.fill(full)
            upload = work_on(upload)
        assert upload.job is not None
        assert (upload.state, upload.job.state, upload.job.failure) == ("importing", "paused", "disk_full")
        assert "Free some space there, then go on." in upload.job.reason
        assert not (tmp_path / "images").exists() or not list((tmp_path / "images").rglob("*.png"))

        upload_resume(upload=upload)

        assert counts(work_on(upload)) == (2, 0, 0, 0, 0)

    @pytest.mark.parametrize(
        "said", ["database or disk is full", "could not extend: No space left on device"]
    )
    def test_a_database_without_room_pauses_it_too(self, said, monkeypatch):
        project = make_project()
        upload = begin(project, table(5))

        def no_room(*args: Any, **options: Any) -> set[str]:
            raise OperationalError(said)

        with monkeypatch.context() as full:
            full.setattr("annotate.import_writing.insert_items", no_room)
            upload = work_on(upload)
        assert upload.job is not None
        assert (upload.job.state, upload.job.failure) == ("paused", "disk_full")

        upload_resume(upload=upload)

        assert counts(work_on(upload)) == (5, 0, 0, 0, 0)
