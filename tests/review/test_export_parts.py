"""An export that is cut off goes on where it was, whoever takes over; a full disk pauses it."""

import errno
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from annotate.errors import Refusal
from jobs.leases import Lease, claim
from jobs.models import Chunk
from jobs.running import run_to_end
from review import exporting
from review.models import Export, ReviewRound
from review.services.exports import export_cancel, export_create, export_resume
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.raising import round_raise
from tests.factories import label_named, make_image, make_project, make_reviewable_round
from tests.review.test_exporting import path_of, read

pytestmark = pytest.mark.django_db

ITEMS = 13


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch, settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)
    monkeypatch.setattr("review.export_rows.BLOCK", 2)
    monkeypatch.setattr("review.exporting._ANSWERS_AT_ONCE", 2)
    monkeypatch.setattr("review.exporting._ROWS_A_PART", 4)


@pytest.fixture
def round() -> ReviewRound:
    round = make_reviewable_round(ITEMS, 6)
    for task in tasks_claim(round=round, user=round.created_by, count=5):
        answer = Answer("label", label_named(round.project, "positive"))
        task_submit(task=task, user=round.created_by, answer=answer)
    return round


def files(export: Export) -> list[str]:
    folder = Path(settings.MEDIA_ROOT) / "exports" / str(export.project_id)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def die_in_part(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """The process dies while it writes that part; lists after which cursors parts were begun."""
    begun: list[int] = []
    write, blocks = exporting._Writing._write_part, exporting._Writing._blocks

    def dying(self: Any, path: Path, rows: Any, before: int) -> Any:
        if int(path.name.partition("-")[0]) == number:
            path.write_text("half a part")
            raise KeyboardInterrupt
        return write(self, path, rows, before)

    def noting(self: Any, after: int) -> Any:
        begun.append(after)
        return blocks(self, after)

    monkeypatch.setattr(exporting._Writing, "_write_part", dying)
    monkeypatch.setattr(exporting._Writing, "_blocks", noting)
    return begun


def cut_off(export: Export, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    lease = claim(export.job_id)
    assert lease is not None
    with monkeypatch.context() as dying:
        die_in_part(dying, number)
        with pytest.raises(KeyboardInterrupt):
            exporting.Exporting().run(lease)
    Chunk.objects.update(lease_until=timezone.now())
    export.refresh_from_db()


def finished(export: Export) -> Export:
    run_to_end(export.job_id)
    export.refresh_from_db()
    assert export.job.state == "done", export.job.reason
    return export


@pytest.mark.parametrize("format", Export.TABLES)
@pytest.mark.parametrize("layout", Export.Layout.values)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_heir_goes_on_after_the_last_part(number, layout, format, round, monkeypatch):
    if layout == "answers":  # there are five
        monkeypatch.setattr("review.exporting._ROWS_A_PART", 2)
    options = {"layout": layout, "format": format}
    whole = finished(export_create(round=round, user=round.created_by, **options))
    export = export_create(round=round, user=round.created_by, **options)

    cut_off(export, monkeypatch, number)

    assert len(export.written.get("names", [])) == number
    begun = die_in_part(monkeypatch, -1)
    finished(export)
    assert begun == [export.written.get("last", 0) or begun[0]]
    assert bool(begun[0]) == bool(number)
    assert read(export) == read(whole)
    assert (export.rows, export.job.done) == (whole.rows, whole.rows)
    if format != "parquet":  # which carries its card
        assert path_of(export).read_bytes() == path_of(whole).read_bytes()
    assert files(export) == sorted(f"{each.pk}.{format}" for each in (whole, export))


def test_parts_of_another_draw_are_not_gone_on_with(round, monkeypatch):
    export = export_create(round=round, user=round.created_by)
    cut_off(export, monkeypatch, 2)
    assert export.written["rows"] == 8
    round_raise(round=round, user=round.created_by, count=round.budget + 2)
    export = Export.objects.get(pk=export.pk)

    begun = die_in_part(monkeypatch, -1)
    finished(export)

    assert begun == [0]
    whole = finished(export_create(round=ReviewRound.objects.get(pk=round.pk), user=round.created_by))
    assert read(export) == read(whole)


def test_a_part_that_is_gone_is_written_again(round, monkeypatch):
    export = export_create(round=round, user=round.created_by)
    cut_off(export, monkeypatch, 2)
    next((Path(settings.MEDIA_ROOT) / "exports" / str(export.project_id)).rglob("000000-*")).unlink()

    assert len(read(finished(export))) == ITEMS


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_killed_while_it_is_put_together(format, round, monkeypatch):
    export = export_create(round=round, user=round.created_by, format=format)
    lease = claim(export.job_id)
    assert lease is not None

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(exporting._Writing, "_publish", die)
        with pytest.raises(KeyboardInterrupt):
            exporting.Exporting().run(lease)
    Chunk.objects.update(lease_until=timezone.now())
    export.refresh_from_db()
    assert not export.file

    begun = die_in_part(monkeypatch, 5)

    assert len(read(finished(export))) == ITEMS
    assert begun == [export.project.items.order_by("-pk")[0].pk]


def test_an_image_folder_goes_on_too(monkeypatch):
    from review.services.rounds import round_create
    from tests.factories import make_annotation_run, make_criticism_run, make_item

    project = make_project("image_classification", ["cat", "dog"])
    for place in range(9):
        make_item(project, external_id=f"i{place}", image=make_image(project))
    run = make_criticism_run(make_annotation_run(project))
    round = round_create(run=run, user=project.created_by, count=3)
    export = export_create(round=round, user=round.created_by, format="imagefolder")

    cut_off(export, monkeypatch, 1)

    assert finished(export).rows == 9


class TestFullDisk:
    def test_it_pauses_with_a_sentence_and_goes_on(self, round, monkeypatch):
        export = export_create(round=round, user=round.created_by)
        write = exporting._Writing._write_part

        def no_room(self: Any, path: Path, rows: Any, before: int) -> Any:
            if before:
                path.write_text("half a part")
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(self, path, rows, before)

        with monkeypatch.context() as full:
            full.setattr(exporting._Writing, "_write_part", no_room)
            run_to_end(export.job_id)
        export = Export.objects.get(pk=export.pk)
        assert (export.job.state, export.job.failure) == ("paused", "disk_full")
        assert "Free some space there, then go on." in export.job.reason
        assert files(export) == [f"{export.pk}.parts/{export.written['names'][0]}"]

        export_resume(export=export, user=round.created_by)

        assert len(read(finished(export))) == ITEMS

    def test_no_room_for_the_whole_leaves_the_parts(self, round, monkeypatch):
        export = export_create(round=round, user=round.created_by)

        def no_room(*args: Any, **options: Any) -> bool:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr("review.exporting.concatenate", no_room)
            run_to_end(export.job_id)
        export = Export.objects.get(pk=export.pk)
        assert export.job.state == "paused"
        assert len(files(export)) == len(export.written["names"]) == 4
        export_resume(export=export, user=round.created_by)

        assert len(read(finished(export))) == ITEMS

    def test_cancelled_it_leaves_nothing(self, round, monkeypatch, django_capture_on_commit_callbacks):
        export = export_create(round=round, user=round.created_by)
        cut_off(export, monkeypatch, 2)
        with pytest.raises(Refusal, match="not paused"):
            export_resume(export=export, user=round.created_by)

        with django_capture_on_commit_callbacks(execute=True):
            export_cancel(export=export, user=round.created_by)

        assert files(export) == []
        export = Export.objects.get(pk=export.pk)
        assert export.job.state == "cancelled"
        with pytest.raises(Refusal, match="not being written"):
            export_cancel(export=export, user=round.created_by)


def test_one_who_was_taken_over_deletes_no_part_of_the_heir(round, monkeypatch):
    export = export_create(round=round, user=round.created_by)
    dead = claim(export.job_id)
    Chunk.objects.update(lease_until=timezone.now())
    heir = claim(export.job_id)
    assert dead is not None
    assert heir is not None
    renew = Lease.renew

    def interrupted(lease: Lease) -> None:
        monkeypatch.setattr(Lease, "renew", renew)
        with monkeypatch.context() as dying:
            die_in_part(dying, 2)
            with pytest.raises(KeyboardInterrupt):
                exporting.Exporting().run(heir)
        renew(lease)

    monkeypatch.setattr(Lease, "renew", interrupted)
    from jobs.leases import LeaseLost

    with pytest.raises(LeaseLost):
        exporting.Exporting().run(dead)

    export.refresh_from_db()
    assert len(export.written["names"]) == 2
    assert len(files(export)) == 2
