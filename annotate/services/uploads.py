"""Receiving an upload, showing its first rows, and starting its import."""

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Q

from annotate.errors import Refusal
from annotate.full_disk import FullDisk, is_full_disk
from annotate.history import record
from annotate.import_rows import open_reader
from annotate.importing import ITEMS_TAKEN_BACK_AT_ONCE, NOTHING_IMPORTED, remove_items, remove_labels
from annotate.locks import keep_project
from annotate.models import Item, Project, Upload, User, upload_path
from annotate.uploads.errors import UploadError
from annotate.uploads.headers import looks_like_a_row
from annotate.uploads.limits import format_bytes
from annotate.uploads.mapping import ColumnMapping, suggest_mapping, validate_mapping
from annotate.uploads.rows import Row
from jobs.models import Job
from jobs.services import job_cancel, job_resume, stream_job_create

PREVIEW_ROWS = 20
FULL_DISK = (
    "The disk of the server is full, so the file could not be kept. Whoever looks after the server has to free some "
    "space; then upload it again."
)
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Preview:
    """The beginning of an upload and how its columns could be used.

    `header_looks_like_a_row`: the line that is taken for the header may well be a row.
    """

    columns: list[str]
    rows: list[Row]
    notes: list[str]
    total_hint: int | None
    mapping: ColumnMapping
    header_looks_like_a_row: bool = False


def upload_receive(*, project: Project, user: User, file: "File[bytes]", encoding: str = "") -> Upload:
    """Keep the file and find out what it is.

    Raises Refusal, and keeps nothing, when it cannot be read; FullDisk when there is no room for it.
    """
    size = file.size or 0
    if size > settings.MAX_UPLOAD_BYTES:
        raise Refusal(
            f"The file has {format_bytes(size)}; at most {format_bytes(settings.MAX_UPLOAD_BYTES)} are accepted. "
            "Split it into several uploads.",
            field="file",
        )
    upload = Upload(
        project=project,
        filename=(file.name or "upload")[-255:],
        size=size,
        encoding=encoding,
        created_by=user,
    )
    name = upload_path(upload, upload.filename)
    try:
        upload.sha256 = _sha256(file)
        upload.file.name = default_storage.save(name, file)
        with open_reader(upload) as reader:
            upload.kind = reader.kind
        with transaction.atomic():
            keep_project(project.pk)
            upload.save()
    except BaseException as error:
        default_storage.delete(name)  # half of it too
        if isinstance(error, UploadError):
            raise Refusal(error.sentence, field="file") from error
        if is_full_disk(error):
            raise FullDisk(FULL_DISK, field="file") from error
        raise
    return upload


def _sha256(file: "File[bytes]") -> str:
    digest = hashlib.sha256()
    for piece in file.chunks(_PIECE):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def upload_like(upload: Upload) -> Upload | None:
    """The latest other upload of the same file, by its content, from which rows were imported."""
    if not upload.sha256:
        return None
    others = Upload.objects.filter(project=upload.project_id, sha256=upload.sha256).exclude(pk=upload.pk)
    return others.exclude(state=Upload.State.RECEIVED).filter(imported__gt=0).first()


def upload_preview(upload: Upload, *, no_header: bool | None = None) -> Preview:
    """The first rows and a suggested mapping. Raises Refusal.

    `no_header` says whether the first line of a CSV or TSV file is a row; without it, it is the header if it can be.
    """
    try:
        with open_reader(upload, no_header=no_header) as reader:
            rows = reader.preview(PREVIEW_ROWS)
            mapping = suggest_mapping(reader.columns, rows, upload.project.task_type)
            is_table = reader.kind in ("csv", "tsv")
            return Preview(
                columns=reader.columns,
                rows=rows,
                notes=reader.notes,
                total_hint=reader.total_hint,
                mapping=replace(mapping, no_header=not reader.has_header),
                header_looks_like_a_row=is_table
                and reader.has_header
                and looks_like_a_row(reader.columns, rows),
            )
    except UploadError as error:
        raise Refusal(error.sentence, field="file") from error


@transaction.atomic
def upload_import(
    *,
    upload: Upload,
    mapping: ColumnMapping,
    add_labels: bool = False,
    all_or_nothing: bool = False,
    if_different: str = Upload.IfDifferent.KEEP,
    user: User | None = None,
) -> Upload:
    """Start the import. Raises Refusal for a mapping that does not fit the file or the task.

    With `all_or_nothing` no row is imported where one would be rejected. `if_different` says what happens to a row
    whose id an item has with other content.
    """
    if if_different not in Upload.IfDifferent.values:
        raise Refusal(f"It is one of: {', '.join(Upload.IfDifferent.values)}.", field="if_different")
    if all_or_nothing and if_different == Upload.IfDifferent.REPLACE:
        raise Refusal(
            "What an item held before cannot be brought back, so replacing items does not go with all or nothing: "
            "choose one of the two.",
            field="if_different",
        )
    keep_project(upload.project_id)
    upload = Upload.objects.select_for_update().get(pk=upload.pk)
    if upload.state != Upload.State.RECEIVED:
        raise Refusal("This upload is already imported or being imported.")
    try:
        with open_reader(upload, no_header=mapping.no_header) as reader:
            validate_mapping(mapping, reader.columns, upload.project.task_type, reader.kind)
            total = reader.total_hint or 0
            upload.columns = reader.columns
    except UploadError as error:
        raise Refusal(error.sentence) from error
    upload.mapping = asdict(mapping)
    upload.add_labels = add_labels
    upload.all_or_nothing = all_or_nothing
    upload.if_different = if_different
    upload.state = Upload.State.IMPORTING
    upload.step = Upload.Step.CHECKING if all_or_nothing else Upload.Step.WRITING
    upload.job = stream_job_create(kind="import", total=total)
    upload.save()
    columns = {part: column for part, column in upload.mapping.items() if column}
    _record(upload, user, "import started", new=columns)
    return upload


def _record(upload: Upload, user: User | None, action: str, new: Any = None) -> None:
    record(upload.project, user, action, subject=upload.filename, subject_id=upload.pk, new=new)


@transaction.atomic
def upload_resume(*, upload: Upload, user: User | None = None) -> None:
    """Go on with an import that stopped by itself, where it stopped."""
    if upload.job is None or upload.job.state != Job.State.PAUSED:
        raise Refusal("This import is not paused.")
    job_resume(upload.job)
    _record(upload, user, "import resumed")


@transaction.atomic
def upload_cancel(*, upload: Upload, user: User | None = None) -> None:
    """End an import. The items that it made stay; where it is all or nothing, a worker takes them back."""
    # The job first, as the worker does who writes or ends the import this moment.
    list(Job.objects.select_for_update(of=("self",), no_key=True).filter(upload=upload).values_list("pk"))
    upload = Upload.objects.select_for_update(no_key=True).get(pk=upload.pk)
    if upload.job is None or upload.job.is_finished:
        raise Refusal("This import is not running.")
    if upload.step == Upload.Step.UNDOING:
        raise Refusal("This import is being taken back already.")
    _record(upload, user, "import cancelled")
    ended = Upload.objects.filter(pk=upload.pk)
    if upload.all_or_nothing and upload.imported:
        reason = f"The import was cancelled. {NOTHING_IMPORTED}"
        ended.update(step=Upload.Step.UNDOING, reason=reason)
        if upload.job.state == Job.State.PAUSED:
            job_resume(upload.job)
        return
    kept = NOTHING_IMPORTED if upload.all_or_nothing else "The items that it had made are kept."
    job_cancel(upload.job)
    ended.update(state=Upload.State.FAILED, step="", reason=f"The import was cancelled. {kept}")


def upload_discard(*, upload: Upload, user: User | None = None) -> None:
    """Throw away an upload that was not imported, or whose import failed, with the items and labels it made.

    Raises Refusal once something was done with one of them. Cut off in the middle, it can be asked for again.
    """
    with transaction.atomic():
        row = _row_to_discard(upload)
        items = Item.objects.filter(upload=upload)
        if items.filter(Q(annotations__isnull=False) | Q(calibration_label__isnull=False)).exists():
            raise Refusal("Items of this upload are annotated or labelled already, so it is kept.")
    # Some at a time: nobody waits long to write, and what is in memory does not grow with the upload.
    while row is not None:
        with transaction.atomic():
            row = _row_to_discard(upload)
            if row is not None and not _discard_some(row, user):
                return


def _row_to_discard(upload: Upload) -> Upload | None:
    """The upload as it is now, locked; None where somebody else has thrown it away. Raises Refusal."""
    row = Upload.objects.select_for_update(of=("self",)).select_related("job").filter(pk=upload.pk).first()
    if row is None:
        return None
    if row.state not in (Upload.State.RECEIVED, Upload.State.FAILED):
        raise Refusal("Items came from this upload, so it is kept.")
    if row.job is not None and not row.job.is_finished:
        raise Refusal("The import is still running. Cancel it first.")
    return row


def _discard_some(upload: Upload, user: User | None) -> bool:
    """Remove some of its items, or where none is left the upload itself; whether it is there still."""
    some = list(upload.items.order_by("pk").values_list("pk", flat=True)[:ITEMS_TAKEN_BACK_AT_ONCE])
    if some:
        remove_items(upload, some)
        return True
    file = upload.file
    _record(upload, user, "upload thrown away")
    remove_labels(upload)
    upload.delete()
    transaction.on_commit(lambda: file.delete(save=False))
    return False
