"""Two who do the same, or things that touch each other, at the same moment: on PostgreSQL, where both get to write."""

import pytest
from django.db import transaction

from annotate import importing
from annotate.errors import Refusal
from annotate.gold_labels import GoldLabels
from annotate.import_writing import BatchWriter
from annotate.importing import Import
from annotate.models import Connection, Item, Upload
from annotate.services import uploads
from annotate.services.calibration import calibration_from_gold
from annotate.services.connections import connection_save
from annotate.services.projects import label_add, label_delete, label_update
from annotate.services.uploads import upload_cancel, upload_discard, upload_import
from annotate.uploads.mapping import ColumnMapping
from jobs.leases import Progress
from jobs.models import Job
from jobs.running import run_next_chunk
from tests.annotate.test_importing import TEXT, begin, bring_in, receive, table
from tests.annotate.uploads.factories import zip_bytes
from tests.factories import make_image, make_items, make_project, make_user, png_bytes
from tests.waiting import Meanwhile, needs_row_locks

pytestmark = [pytest.mark.django_db(transaction=True), needs_row_locks]


class TestLabels:
    def test_the_same_label_added_twice_is_told_and_breaks_nothing(self):
        project = make_project()

        with transaction.atomic():
            label_add(project=project, name="mixed")
            again = Meanwhile(lambda: label_add(project=project, name="mixed"))

        with pytest.raises(Refusal, match="There is a label “mixed” already"):
            again.end()

    def test_two_labels_added_at_once_have_places_of_their_own(self):
        project = make_project(labels=("a", "b"))

        with transaction.atomic():
            label_add(project=project, name="c")
            other = Meanwhile(lambda: label_add(project=project, name="d"))
        other.end()

        assert list(project.labels.values_list("position", "name")) == [
            (0, "a"),
            (1, "b"),
            (2, "c"),
            (3, "d"),
        ]

    def test_a_name_that_another_label_gets_this_moment_is_taken(self):
        project = make_project(labels=("a", "b"))
        one, other = project.labels.all()

        with transaction.atomic():
            label_update(label=one, name="c", description="")
            again = Meanwhile(lambda: label_update(label=other, name="c", description=""))

        with pytest.raises(Refusal, match="There is a label “c” already"):
            again.end()

    def test_two_labels_deleted_at_once_leave_no_gap(self):
        project = make_project(labels=("a", "b", "c", "d"))
        first, second, *_ = project.labels.all()

        with transaction.atomic():
            label_delete(label=first)
            other = Meanwhile(lambda: label_delete(label=second))
        other.end()

        assert list(project.labels.values_list("position", "name")) == [(0, "c"), (1, "d")]

    def test_an_import_takes_the_label_that_another_makes_this_moment(self):
        project = make_project(labels=("a", "b"))
        upload = receive(project, "text,gold\nx,c\n")
        Upload.objects.filter(pk=upload.pk).update(add_labels=True)
        upload.refresh_from_db()

        def name_of() -> int | None:
            with transaction.atomic():
                labels = GoldLabels(upload)
                labels.refresh()
                return labels.id_of(labels.name_of("c"))

        with transaction.atomic():
            made = label_add(project=project, name="c")
            other = Meanwhile(name_of)

        assert other.end() == made.pk


def test_a_connection_saved_twice_is_told_and_breaks_nothing():
    user = make_user()

    def save() -> Connection:
        return connection_save(connection=Connection(owner=user), name="Mine", provider="scripted")

    with transaction.atomic():
        save()
        again = Meanwhile(save)

    with pytest.raises(Refusal, match="You have a connection named “Mine” already"):
        again.end()


def test_calibration_items_taken_from_gold_twice_are_different_ones():
    project = make_project()
    make_items(project, 6, gold="positive")

    with transaction.atomic():
        calibration_from_gold(project=project, count=2)
        again = Meanwhile(lambda: calibration_from_gold(project=project, count=2))

    assert again.end() == 2
    assert project.calibration_labels.count() == 4


def job_of(upload: Upload) -> Job:
    assert upload.job is not None
    return upload.job


class TestImports:
    def test_one_that_ends_the_moment_it_is_cancelled_has_ended(self, monkeypatch):
        upload = begin(make_project(), table(3))
        cancelling: list[Meanwhile[None]] = []
        finished = Import.finished

        def finish(work: Import, job: Job) -> None:
            cancelling.append(Meanwhile(lambda: upload_cancel(upload=upload)))
            finished(work, job)

        monkeypatch.setattr(Import, "finished", finish)
        run_next_chunk(job_of(upload).pk)

        with pytest.raises(Refusal, match="not running"):
            cancelling[0].end()
        upload.refresh_from_db()
        assert (upload.state, job_of(upload).state) == (Upload.State.DONE, Job.State.DONE)

    def test_one_that_is_cancelled_while_it_writes_keeps_what_it_wrote(self, monkeypatch, settings):
        settings.WRITE_BATCH = 1  # ten rows at a time
        upload = begin(make_project(), table(30))
        cancelling: list[Meanwhile[None]] = []
        write = BatchWriter.write

        def write_while_it_is_cancelled(writer: BatchWriter) -> Progress:
            written = write(writer)
            cancelling.append(Meanwhile(lambda: upload_cancel(upload=upload)))
            return written

        monkeypatch.setattr(BatchWriter, "write", write_while_it_is_cancelled)
        run_next_chunk(job_of(upload).pk)

        cancelling[0].end()
        upload.refresh_from_db()
        assert (upload.state, job_of(upload).state) == (Upload.State.FAILED, Job.State.CANCELLED)
        assert upload.items.count() == upload.imported == 10 * len(cancelling)

    def test_two_that_hold_the_same_picture_keep_it_once(self):
        project = make_project("image_classification", ["a", "b"])
        archive = zip_bytes({"a/one.png": png_bytes("red")})
        upload = begin(project, archive, "a.zip", ColumnMapping(id="file", image="file"))

        with transaction.atomic():
            image = make_image(project, png_bytes("red"))
            other = Meanwhile(lambda: run_next_chunk(job_of(upload).pk))
        other.end()

        upload.refresh_from_db()
        assert upload.state == Upload.State.DONE
        assert upload.items.get().image == image

    def test_one_thrown_away_twice_is_gone(self, monkeypatch):
        upload = bring_in(make_project(), table(3))
        Upload.objects.filter(pk=upload.pk).update(state=Upload.State.FAILED)
        upload.refresh_from_db()
        again: list[Meanwhile[None]] = []
        remove = importing.remove_items

        def remove_while_it_is_thrown_away(upload: Upload, pks: list[int]) -> None:
            remove(upload, pks)
            if not again:
                again.append(Meanwhile(lambda: upload_discard(upload=Upload.objects.get(pk=upload.pk))))

        monkeypatch.setattr(uploads, "remove_items", remove_while_it_is_thrown_away)
        upload_discard(upload=upload)

        again[0].end()
        assert not Upload.objects.exists()
        assert not Item.objects.exists()

    def test_one_that_begins_while_it_is_thrown_away_is_kept(self):
        upload = receive(make_project(), table(3))

        with transaction.atomic():
            upload_import(upload=upload, mapping=TEXT)
            other = Meanwhile(lambda: upload_discard(upload=Upload.objects.get(pk=upload.pk)))

        with pytest.raises(Refusal, match="it is kept"):
            other.end()
        assert Upload.objects.get().state == Upload.State.IMPORTING
