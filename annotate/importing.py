"""The work of an import: rows of an upload become items, in small transactions that a killed worker resumes after.

Where all or nothing is asked for, all rows are checked before the first is written; what came in all the same is taken
back when a later one cannot come in, or when somebody ends the import.
"""

import time
from collections.abc import Callable
from itertools import islice

from django.db import connection
from django.db.models import F
from django.utils import timezone

from annotate.full_disk import pausing_on_full_disk
from annotate.gold_labels import GoldLabels
from annotate.history import record
from annotate.import_checking import RowChecker
from annotate.import_rows import batches, open_reader, read_rows
from annotate.import_writing import BatchWriter, NotAll, Outcome, Stopped
from annotate.locks import lock_project
from annotate.models import Item, Label, RejectedRow, Upload
from annotate.references import referred_to
from annotate.row_content import KnownContents
from annotate.uploads.errors import UploadError
from annotate.uploads.rows import Reader
from jobs import shutdown
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.work import CannotGoOn, Work

ITEMS_TAKEN_BACK_AT_ONCE = 500
NOTHING_IMPORTED = "Nothing of it was imported."
_PROBLEMS_AT_ONCE = 500
# Who waits for SQLite's lock looks again after 1, 2, 5, 10, 15, 20 and three times 25 ms, then more rarely. In those
# 128 ms comes one pause of more than 25 ms, which nobody misses; the short gaps between transactions they can.
_SECONDS_BETWEEN_PAUSES, _PAUSE_SECONDS = 0.09, 0.026


class Import(Work):
    kind = "import"

    def run(self, lease: Lease) -> bool:
        upload = Upload.objects.select_related("project").get(job=lease.job)
        with pausing_on_full_disk():
            if upload.step != Upload.Step.UNDOING:
                try:
                    return _read(lease, upload)
                except Stopped:
                    upload.refresh_from_db()
                    if upload.step != Upload.Step.UNDOING:
                        return False
            return _take_back(lease, upload)

    def finished(self, job: Job) -> None:
        Upload.objects.filter(job=job).update(state=Upload.State.DONE, step="")
        upload = Upload.objects.select_related("project", "created_by").get(job=job)
        if upload.replaced:
            new = {"items": upload.replaced}
            record(
                upload.project,
                upload.created_by,
                "items replaced",
                subject=upload.filename,
                subject_id=upload.pk,
                new=new,
            )


def _read(lease: Lease, upload: Upload) -> bool:
    """All steps that read the file; True when everything is written. Raises Stopped."""
    try:
        with open_reader(upload) as reader:
            known = _known_contents(lease, upload)
            if upload.step == Upload.Step.CHECKING and not _check(lease, upload, reader, known):
                return False
            return _write(lease, upload, reader, known)
    except UploadError as error:
        return _fail(lease, upload, error.sentence)
    except NotAll as problem:
        return _fail(
            lease, upload, f"All or nothing was chosen, and a row cannot come in any more. {problem}"
        )
    except FileNotFoundError:
        return _fail(lease, upload, f"The file of “{upload.filename}” is gone. Upload it again.")


def _known_contents(lease: Lease, upload: Upload) -> KnownContents | None:
    """What the project has already, where only contents can tell: rows without ids of their own."""
    if upload.mapping.get("id"):
        return None
    return KnownContents(upload, keep_alive=lease.renew_if_due)


class _Pace:
    """Whether to go on, and pauses in which other writers get their turn where the database has one at a time."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._since = time.monotonic()

    def goes_on(self) -> bool:
        """To be asked after every transaction."""
        if connection.vendor == "sqlite" and time.monotonic() - self._since > _SECONDS_BETWEEN_PAUSES:
            time.sleep(_PAUSE_SECONDS)
            self._since = time.monotonic()
        return self._lease.may_go_on() and not shutdown.requested()


def _write(lease: Lease, upload: Upload, reader: Reader, known: KnownContents | None) -> bool:
    labels = GoldLabels(upload)
    rows = read_rows(reader, upload, start=lease.chunk.cursor, keep_images=True)
    pace = _Pace(lease)
    for batch in batches(rows):
        writer = BatchWriter(upload, batch, labels, known)
        _write_to(lease, writer.write, cursor=batch[-1].number)
        if not pace.goes_on():
            return False
    return True


def _write_to(lease: Lease, rows: Callable[[], Progress], *, cursor: int | None = None) -> None:
    """`lease.write` of rows that change the upload too: the job is locked first, and then the upload.

    Whoever ends an import, by hand or because it is done, locks the two in this order: in the other they would wait for
    one another.
    """

    def write() -> Progress:
        Job.objects.select_for_update(no_key=True).values_list("pk").get(pk=lease.job.pk)
        return rows()

    lease.write(write, cursor=cursor)


# --- All or nothing --------------------------------------------------------------------------------------------------


def _check(lease: Lease, upload: Upload, reader: Reader, known: KnownContents | None) -> bool:
    """Look at all rows; False when it was stopped before their end. A pass that is cut off begins again.

    Raises CannotGoOn, and the upload has failed, when a row would be rejected.
    """
    _write_to(lease, _at_once(lambda: _begin(upload, Upload.Step.CHECKING)), cursor=0)
    checker = RowChecker(upload, known)
    pace = _Pace(lease)
    count = 0
    for batch in batches(read_rows(reader, upload, start=0, keep_images=False)):
        count = batch[-1].number
        _write_to(lease, lambda batch=batch: checker.check(batch))  # type: ignore[misc]
        if not pace.goes_on():
            return False
    twice = checker.twice()
    while problems := dict(islice(twice, _PROBLEMS_AT_ONCE)):
        outcome = Outcome(differing=len(problems), problems=problems)
        _write_to(lease, _at_once(lambda outcome=outcome: outcome.add_to(upload)))  # type: ignore[misc]
    upload.refresh_from_db(fields=["rejected"])
    if upload.rejected:
        rows = f"{upload.rejected:,} row" if upload.rejected == 1 else f"{upload.rejected:,} rows"
        return _fail(
            lease,
            upload,
            f"All or nothing was chosen, and {rows} of {count:,} would be rejected. {NOTHING_IMPORTED} Mend them "
            "and upload the file again.",
        )
    _write_to(lease, _at_once(lambda: _begin(upload, Upload.Step.WRITING, total=count)), cursor=0)
    return True


def _at_once(act: Callable[[], None]) -> Callable[[], Progress]:
    def acted() -> Progress:
        act()
        return Progress()

    return acted


def _begin(upload: Upload, step: Upload.Step, *, total: int | None = None) -> None:
    """Begin a pass over all rows, with nothing counted."""
    going_on = Upload.objects.filter(pk=upload.pk, state=Upload.State.IMPORTING)
    if not going_on.update(step=step, imported=0, repeated=0, differing=0, replaced=0, rejected=0):
        raise Stopped
    RejectedRow.objects.filter(upload=upload).delete()
    counters = {"done": 0, "failed": 0, "pace_done": 0, "pace_since": timezone.now()}
    Job.objects.filter(upload=upload).update(**counters, **({} if total is None else {"total": total}))
    upload.step = step


def _fail(lease: Lease, upload: Upload, sentence: str) -> bool:
    """Mark the import as failed. What came in before is kept, or taken back where it is all or nothing."""
    if upload.all_or_nothing and upload.step == Upload.Step.WRITING:
        reason = f"{sentence} {NOTHING_IMPORTED}"
        Upload.objects.filter(pk=upload.pk).update(step=Upload.Step.UNDOING, reason=reason)
        upload.refresh_from_db()
        return _take_back(lease, upload)
    Upload.objects.filter(pk=upload.pk).update(state=Upload.State.FAILED, step="", reason=sentence)
    raise CannotGoOn(sentence, pause=False)


def _take_back(lease: Lease, upload: Upload) -> bool:
    """Remove the items that came in, some at a time; False when it was stopped before the last.

    Raises CannotGoOn with the reason when none is left.
    """
    pace = _Pace(lease)
    while items := list(upload.items.order_by("pk").values_list("pk", flat=True)[:ITEMS_TAKEN_BACK_AT_ONCE]):
        _write_to(lease, _at_once(lambda items=items: remove_items(upload, items)))  # type: ignore[misc]
        if not pace.goes_on():
            return False
    _write_to(lease, _at_once(lambda: remove_labels(upload)))
    Upload.objects.filter(pk=upload.pk).update(state=Upload.State.FAILED, step="")
    raise CannotGoOn(upload.reason, pause=False)


def remove_items(upload: Upload, pks: list[int]) -> None:
    """Delete items of an upload, in the caller's transaction."""
    Item.objects.filter(pk__in=pks, upload=upload).delete()
    Upload.objects.filter(pk=upload.pk).update(imported=F("imported") - len(pks))


def remove_labels(upload: Upload) -> None:
    """Delete the labels that the upload made, in the caller's transaction, and close up the positions after them.

    One that anything else uses stays, or that somebody has worked on. So do all once there is an annotation run, whose
    prompts list the labels, and while another import of the project may find them.
    """
    project = upload.project
    lock_project(project.pk)
    others = project.uploads.filter(state=Upload.State.IMPORTING).exclude(pk=upload.pk)
    if project.annotation_runs.exists() or others.exists():
        return
    made = {label.pk: label for label in upload.labels_made.filter(description="", guideline="")}
    kept = referred_to(Label, made) | set(
        project.changes.filter(action="label changed", subject_id__in=made).values_list(
            "subject_id", flat=True
        )
    )
    if not made.keys() - kept:
        return
    Label.objects.filter(pk__in=made.keys() - kept).delete()
    for position, label in enumerate(project.labels.order_by("position")):
        if label.position != position:
            label.position = position
            label.save(update_fields=["position"])
