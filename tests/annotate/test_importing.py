import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone

from annotate import importing
from annotate.errors import Refusal
from annotate.importing import Import
from annotate.models import Item, Project, Upload
from annotate.services.calibration import calibration_from_gold
from annotate.services.uploads import (
    upload_cancel,
    upload_discard,
    upload_import,
    upload_preview,
    upload_receive,
    upload_resume,
)
from annotate.uploads.mapping import ColumnMapping
from jobs.leases import Lease, LeaseLost, claim
from jobs.models import Chunk, Job
from jobs.running import run_to_end
from jobs.services import finish_if_complete
from tests.annotate.uploads.factories import zip_bytes
from tests.factories import make_project, png_bytes

pytestmark = pytest.mark.django_db

TEXT = ColumnMapping(id="id", text="text", gold="gold")


def receive(project: Project, data: bytes | str, name: str = "data.csv") -> Upload:
    content = data.encode() if isinstance(data, str) else data
    return upload_receive(project=project, user=project.created_by, file=SimpleUploadedFile(name, content))


def begin(
    project: Project, data: bytes | str, name: str = "data.csv", mapping: ColumnMapping = TEXT, **options: Any
) -> Upload:
    return upload_import(upload=receive(project, data, name), mapping=mapping, **options)


def bring_in(*args: Any, **options: Any) -> Upload:
    upload = begin(*args, **options)
    return work_on(upload)


def work_on(upload: Upload) -> Upload:
    assert upload.job_id is not None
    run_to_end(upload.job_id)
    return Upload.objects.select_related("job").get(pk=upload.pk)


def rejections(upload: Upload) -> dict[int, str]:
    return dict(upload.rejected_rows.values_list("row", "message"))


def table(count: int, first: int = 0) -> str:
    return "id,text,gold\n" + "".join(
        f"n{number},text {number},negative\n" for number in range(first, first + count)
    )


def assert_counters(upload: Upload, imported: int, rejected: int = 0) -> None:
    job = upload.job
    assert job is not None
    assert (upload.imported, upload.rejected) == (imported, rejected)
    assert (upload.items.count(), upload.rejected_rows.count()) == (imported, rejected)
    assert (job.done, job.failed) == (imported + rejected, rejected)


class TestRows:
    def test_more_than_a_thousand_rows(self):
        upload = bring_in(make_project(), table(1203))

        assert upload.state == Upload.State.DONE
        assert upload.job is not None
        assert upload.job.state == "done"
        assert_counters(upload, 1203)
        assert list(upload.items.order_by("id").values_list("external_id", flat=True)) == [
            f"n{number}" for number in range(1203)
        ]

    def test_the_order_of_the_columns_is_known(self):
        upload = bring_in(make_project(), "id,zebra,text,a,gold\n1,2,3,4,\n")

        assert upload.columns == ["id", "zebra", "text", "a", "gold"]
        assert upload.items.get().columns == {"zebra": "2", "a": "4"}

    def test_markup_and_formulas_are_kept_as_text(self):
        texts = ["<script>alert(1)</script>", "=1+1", "@SUM(A1)", "naïve 🎉", "שלום", 'a "quoted", cell']
        rows = [{"id": str(number), "text": text, "extra": text} for number, text in enumerate(texts)]
        data = "\n".join(json.dumps(row) for row in rows)

        upload = bring_in(make_project(), data, "data.jsonl", ColumnMapping(id="id", text="text"))

        items = list(upload.items.order_by("id"))
        assert [item.text for item in items] == texts
        assert [item.columns for item in items] == [{"extra": text} for text in texts]

    def test_an_id_twice_in_the_file_or_in_the_project_is_rejected(self):
        project = make_project()
        bring_in(project, table(2))

        upload = bring_in(project, "id,text,gold\nn1,again,\nx,new,\nx,twice,\n" + "y,z,\n" * 1)

        assert rejections(upload) == {
            1: "The id “n1” is already in this project, with other content.",
            3: "The id “x” is in this file twice, with other content.",
        }
        assert_counters(upload, 2, 2)
        assert Item.objects.get(external_id="n1").text == "text 1"

    def test_an_id_twice_far_apart_is_rejected_too(self):
        upload = bring_in(make_project(), table(120) + "n3,again,\n")

        assert rejections(upload) == {121: "The id “n3” is in this file twice, with other content."}

    def test_the_same_id_may_be_in_two_projects(self):
        for _ in range(2):
            assert bring_in(make_project(), table(3)).rejected == 0

    def test_without_an_id_column_uploads_do_not_clash(self):
        project = make_project()
        mapping = ColumnMapping(text="text")

        uploads = [bring_in(project, f"text\n{text}\n{text}\n", mapping=mapping) for text in ("one", "two")]

        assert [upload.imported for upload in uploads] == [2, 2]
        assert project.items.values("external_id").distinct().count() == 4

    def test_without_an_id_column_rows_are_known_again_by_what_they_hold(self):
        project = make_project()
        mapping = ColumnMapping(text="text", gold="gold")
        bring_in(project, "text,gold,note\none,positive,a\ntwo,positive,b\n", mapping=mapping)

        upload = bring_in(
            project, "text,gold,note\none,positive,a\ntwo,negative,b\none,positive,c\n", mapping=mapping
        )

        assert (upload.imported, upload.repeated, upload.rejected) == (2, 1, 0)
        assert project.items.count() == 4

    def test_rows_that_lack_something_say_what(self):
        upload = bring_in(make_project(), "id,text,gold\n1,,\n,x,\n3,fine,\n")

        assert rejections(upload) == {
            1: "Row 1 has no text in column “text”.",
            2: "Row 2 has no id in column “id”.",
        }
        assert_counters(upload, 1, 2)

    def test_the_job_knows_the_total_once_it_is_done(self):
        upload = bring_in(make_project(), table(10))

        assert upload.job is not None
        assert upload.job.share_done == 1.0


class TestGold:
    def test_labels_are_made_where_the_upload_may(self):
        project = make_project(labels=["negative", "positive"])

        upload = bring_in(project, "id,text,gold\n1,a,neutral\n2,b,positive\n3,c,\n", add_labels=True)

        assert list(project.labels.values_list("position", "name")) == [
            (0, "negative"),
            (1, "positive"),
            (2, "neutral"),
        ]
        assert [item.gold and item.gold.name for item in upload.items.order_by("id")] == [
            "neutral",
            "positive",
            None,
        ]

    def test_otherwise_an_unknown_gold_label_rejects_its_row(self):
        upload = bring_in(make_project(), "id,text,gold\n1,a,<b>neutral</b>\n2,b,positive\n")

        assert rejections(upload) == {
            1: "The gold label “<b>neutral</b>” is not one of the project's labels."
        }
        assert_counters(upload, 1, 1)

    @pytest.mark.parametrize("written", ["cafe\u0301  au lait", " café au\tlait "])
    def test_a_gold_label_is_the_label_that_people_see(self, written):
        project = make_project(labels=["café au lait", "tea"])

        upload = bring_in(
            project, json.dumps({"id": 1, "text": "x", "gold": written}), "data.jsonl", add_labels=True
        )

        assert upload.items.get().gold == project.labels.get(name="café au lait")
        assert project.labels.count() == 2

    def test_a_label_that_is_too_long_or_unprintable_is_rejected(self):
        rows = [
            {"id": 1, "text": "x", "gold": "a" * 201},
            {"id": 2, "text": "y", "gold": "bell\a"},
        ]

        upload = bring_in(make_project(), "\n".join(map(json.dumps, rows)), "data.jsonl", add_labels=True)

        assert "longer than 200 characters" in rejections(upload)[1]
        assert "control character" in rejections(upload)[2]

    def test_a_column_that_cannot_be_the_gold_column_is_noticed(self, monkeypatch):
        monkeypatch.setattr("annotate.gold_labels.MAX_LABELS", 4)
        data = "id,text,gold\n" + "".join(f"{n},t{n},v{n}\n" for n in range(10))

        upload = bring_in(make_project(), data, add_labels=True)

        assert (upload.imported, upload.rejected) == (2, 8)
        assert "more than 4 different values" in rejections(upload)[10]


class TestImages:
    def test_a_zip_of_images_with_hostile_entries_end_to_end(self):
        project = make_project("image_classification", ["cats"])
        red, blue = png_bytes("red"), png_bytes("blue")
        archive = zip_bytes(
            {
                "cats/one.png": red,
                "cats/two.png": red,
                "dogs/three.png": blue,
                "dogs/not.png": b"<html>not a picture</html>",
                "../../escape.png": blue,
            }
        )
        upload = receive(project, archive, "pictures.zip")
        preview = upload_preview(upload)

        upload = work_on(upload_import(upload=upload, mapping=preview.mapping, add_labels=True))

        assert upload.state == Upload.State.DONE
        golds = {item.file_name: item.gold and item.gold.name for item in upload.items.select_related("gold")}
        assert {name: gold for name, gold in golds.items() if gold} == {
            "cats/one.png": "cats",
            "cats/two.png": "cats",
            "dogs/three.png": "dogs",
        }
        assert not any(".." in name for name in golds)
        web_page, escape = sorted(rejections(upload).values(), key=lambda message: "escape" in message)
        assert web_page.startswith("The image “dogs/not.png” cannot be used. It is a web page")
        assert "escape.png" in escape
        # The same picture is kept once, under a name that the archive has no say in.
        assert project.images.count() == 2
        for image in project.images.all():
            assert image.file.name == f"images/{project.pk}/{image.sha256[:2]}/{image.sha256}.png"
            with image.file.open("rb") as file:
                assert file.read() in (red, blue)
            assert (image.media_type, image.width, image.height) == ("image/png", 8, 6)

    def test_a_picture_half_written_by_a_dead_process_is_written_again(self, settings):
        project = make_project("image_classification", ["a", "b"])
        archive = zip_bytes({"a/one.png": png_bytes("red")})
        upload = bring_in(project, archive, "a.zip", ColumnMapping(id="file", image="file"))
        path = upload.items.select_related("image").get().image.file.path  # type: ignore[union-attr]
        with open(path, "wb") as file:
            file.write(b"\x89PNG")
        project.items.all().delete()
        project.images.all().delete()

        bring_in(project, archive, "a.zip", ColumnMapping(id="file", image="file"))

        with open(path, "rb") as file:
            assert file.read() == png_bytes("red")


class TestCutOff:
    def lease(self, upload: Upload) -> Lease:
        assert upload.job_id is not None
        lease = claim(upload.job_id)
        assert lease is not None
        return lease

    def die_after(self, monkeypatch: pytest.MonkeyPatch, batches: int, *, inside: bool) -> None:
        """Break off like a killed process: in the middle of a batch's transaction, or just after one."""
        write = Lease.write
        made = iter(range(1000))

        def dying_write(lease: Lease, rows: Any, *, cursor: int | None = None) -> None:
            last = next(made) == batches

            def rows_and_die() -> Any:
                progress = rows()
                if last and inside:
                    raise KeyboardInterrupt
                return progress

            write(lease, rows_and_die, cursor=cursor)
            if last:
                raise KeyboardInterrupt

        monkeypatch.setattr(Lease, "write", dying_write)

    @pytest.mark.parametrize("inside", [True, False])
    @pytest.mark.parametrize("batches", [0, 1, 3])
    def test_an_heir_goes_on_at_the_cursor(self, batches, inside, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        project = make_project()
        upload = begin(project, table(230) + "n5,again,\n" + "n500,last,unknown\n")
        lease = self.lease(upload)
        self.die_after(monkeypatch, batches, inside=inside)
        with pytest.raises(KeyboardInterrupt):
            Import().run(lease)
        monkeypatch.undo()
        written = batches if inside else batches + 1
        assert project.items.count() == 50 * written
        assert Chunk.objects.get().cursor == 50 * written
        Chunk.objects.update(lease_until=timezone.now())

        upload = work_on(upload)

        assert sorted(project.items.values_list("external_id", flat=True)) == sorted(
            f"n{number}" for number in range(230)
        )
        assert sorted(rejections(upload)) == [231, 232]
        assert_counters(upload, 230, 2)
        assert upload.state == Upload.State.DONE

    def test_the_one_who_was_taken_over_writes_nothing_more(self, settings):
        settings.WRITE_BATCH = 5
        upload = begin(make_project(), table(120))
        dead = self.lease(upload)
        Chunk.objects.update(lease_until=timezone.now())
        heir = self.lease(upload)

        with pytest.raises(LeaseLost):
            Import().run(dead)
        assert not Item.objects.exists()
        assert Import().run(heir)
        heir.complete()
        finish_if_complete(heir.job.pk)

        upload.refresh_from_db()
        assert_counters(upload, 120)

    def test_a_worker_that_shuts_down_hands_it_back(self, monkeypatch, settings):
        settings.WRITE_BATCH = 5
        upload = begin(make_project(), table(120))
        monkeypatch.setattr("jobs.shutdown.requested", lambda: True)
        lease = self.lease(upload)

        assert Import().run(lease) is False

        assert Item.objects.count() == 50
        lease.release()
        monkeypatch.undo()
        assert_counters(work_on(upload), 120)

    def test_a_file_that_is_bad_midway_keeps_what_came_before_and_says_so(self, settings):
        settings.WRITE_BATCH = 50
        good = "".join(f'{{"id": "n{n}", "text": "t"}},' for n in range(6000))
        upload = begin(
            make_project(), "[" + good + '{"id": ', "data.json", ColumnMapping(id="id", text="text")
        )

        upload = work_on(upload)

        assert upload.state == Upload.State.FAILED
        assert upload.reason
        assert upload.job is not None
        assert (upload.job.state, upload.job.reason) == ("failed", upload.reason)
        assert upload.imported == upload.items.count() >= 3000

        upload_discard(upload=upload)  # so that the mended file can be uploaded whole
        assert not Item.objects.exists()
        assert not Upload.objects.exists()

    def test_a_failed_import_whose_items_are_in_use_is_kept(self):
        upload = bring_in(make_project(), table(30))
        calibration_from_gold(project=upload.project, count=1)
        with pytest.raises(Refusal, match="Items came from this upload"):
            upload_discard(upload=upload)

        Upload.objects.filter(pk=upload.pk).update(state=Upload.State.FAILED)
        with pytest.raises(Refusal, match="labelled already"):
            upload_discard(upload=upload)
        assert Item.objects.count() == 30

    def test_a_file_that_is_gone_fails_with_a_sentence(self):
        upload = begin(make_project(), table(3))
        Path(upload.file.path).unlink()

        upload = work_on(upload)

        assert upload.job is not None
        assert (upload.state, upload.job.state) == (Upload.State.FAILED, Job.State.FAILED)
        assert "is gone" in upload.reason
        assert "/" not in upload.reason


class TestStarting:
    def test_it_is_imported_once(self):
        upload = begin(make_project(), table(3))

        with pytest.raises(Refusal, match="already imported or being imported"):
            upload_import(upload=upload, mapping=TEXT)

        assert Job.objects.count() == 1

    def test_a_mapping_that_does_not_fit_is_refused_before_anything_starts(self):
        upload = receive(make_project(), table(3))

        with pytest.raises(Refusal, match="no column “words”"):
            upload_import(upload=upload, mapping=ColumnMapping(text="words"))

        assert not Job.objects.exists()

    def test_an_unreadable_file_is_refused_and_not_kept(self, settings, tmp_path):
        settings.MEDIA_ROOT = tmp_path

        for data in (b"", b"\x89PNG....", b"id,text\n\xff\xfe\xfa,x\n"):
            with pytest.raises(Refusal):
                receive(make_project(), data)

        assert not Upload.objects.exists()
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_a_file_that_is_too_large_is_refused(self, settings):
        settings.MAX_UPLOAD_BYTES = 10

        with pytest.raises(Refusal, match="at most 10 bytes"):
            receive(make_project(), table(3))

    def test_an_upload_that_was_not_imported_can_be_discarded(self, django_capture_on_commit_callbacks):
        upload = receive(make_project(), table(3))
        path = upload.file.path

        with django_capture_on_commit_callbacks(execute=True):
            upload_discard(upload=upload)

        assert not Upload.objects.exists()
        assert not Path(path).exists()


def test_others_get_to_write_while_an_import_runs(monkeypatch, settings):
    """A pause after each transaction, where the last one is long enough ago."""
    settings.WRITE_BATCH = 5
    pauses: list[float] = []
    monkeypatch.setattr("annotate.importing.time.sleep", pauses.append)
    monkeypatch.setattr(importing, "_SECONDS_BETWEEN_PAUSES", 0.0)

    bring_in(make_project(), table(200))

    wanted = 4 if connection.vendor == "sqlite" else 0
    assert pauses == [importing._PAUSE_SECONDS] * wanted


class TestStopping:
    def paused(self) -> Upload:
        upload = begin(make_project(), table(20))
        Job.objects.update(state=Job.State.PAUSED)
        upload.refresh_from_db()
        return upload

    def test_a_paused_import_goes_on(self):
        upload = self.paused()
        upload_resume(upload=upload)
        assert_counters(work_on(upload), 20)

    def test_only_a_paused_one_can(self):
        upload = begin(make_project(), table(20))
        with pytest.raises(Refusal, match="not paused"):
            upload_resume(upload=upload)

    def test_a_cancelled_import_says_so_and_keeps_what_it_made(self):
        upload = self.paused()
        upload_cancel(upload=upload)

        upload.refresh_from_db()
        assert (upload.state, Job.objects.get().state) == ("failed", "cancelled")
        assert "kept" in upload.reason
        with pytest.raises(Refusal, match="not running"):
            upload_cancel(upload=upload)

    def test_the_page_offers_both(self, client):
        upload = self.paused()
        client.force_login(upload.created_by)
        page = f"/projects/{upload.project_id}/uploads/{upload.pk}/"
        assert "Go on with the import" in client.get(page).content.decode()

        assert client.post(f"{page}resume/").status_code == 302
        assert Job.objects.get().state == "queued"
        assert client.post(f"{page}cancel/").status_code == 302
        assert Job.objects.get().state == "cancelled"
