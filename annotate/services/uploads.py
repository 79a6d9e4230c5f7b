"""Receiving an upload, showing its first rows, and starting its import."""

from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.db.models import Q

from annotate.errors import Refusal
from annotate.history import record
from annotate.importing import open_reader
from annotate.models import Item, Project, Upload, User
from annotate.uploads.errors import UploadError
from annotate.uploads.limits import format_bytes
from annotate.uploads.mapping import ColumnMapping, suggest_mapping, validate_mapping
from annotate.uploads.rows import Row
from jobs.models import Job
from jobs.services import job_cancel, job_resume, stream_job_create

PREVIEW_ROWS = 20


@dataclass(frozen=True, slots=True)
class Preview:
    """The beginning of an upload and how its columns could be used."""

    columns: list[str]
    rows: list[Row]
    notes: list[str]
    total_hint: int | None
    mapping: ColumnMapping


def upload_receive(*, project: Project, user: User, file: "File[bytes]", encoding: str = "") -> Upload:
    """Keep the file and find out what it is. Raises Refusal, and keeps nothing, when it cannot be read."""
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
    upload.file.save("upload", file, save=False)
    try:
        with open_reader(upload) as reader:
            upload.kind = reader.kind
        upload.save()
    except UploadError as error:
        upload.file.delete(save=False)
        raise Refusal(error.sentence, field="file") from error
    except BaseException:
        upload.file.delete(save=False)
        raise
    return upload


def upload_preview(upload: Upload) -> Preview:
    """The first rows and a suggested mapping. Raises Refusal."""
    try:
        with open_reader(upload) as reader:
            rows = reader.preview(PREVIEW_ROWS)
            return Preview(
                columns=reader.columns,
                rows=rows,
                notes=reader.notes,
                total_hint=reader.total_hint,
                mapping=suggest_mapping(reader.columns, rows, upload.project.task_type),
            )
    except UploadError as error:
        raise Refusal(error.sentence, field="file") from error


@transaction.atomic
def upload_import(
    *, upload: Upload, mapping: ColumnMapping, add_labels: bool = False, user: User | None = None
) -> Upload:
    """Start the import. Raises Refusal for a mapping that does not fit the file or the task."""
    upload = Upload.objects.select_for_update().get(pk=upload.pk)
    if upload.state != Upload.State.RECEIVED:
        raise Refusal("This upload is already imported or being imported.")
    try:
        with open_reader(upload) as reader:
            validate_mapping(mapping, reader.columns, upload.project.task_type, reader.kind)
            total = reader.total_hint or 0
            upload.columns = reader.columns
    except UploadError as error:
        raise Refusal(error.sentence) from error
    upload.mapping = asdict(mapping)
    upload.add_labels = add_labels
    upload.state = Upload.State.IMPORTING
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
    """End an import. The items that it made stay."""
    if upload.job is None or upload.job.is_finished:
        raise Refusal("This import is not running.")
    job_cancel(upload.job)
    Upload.objects.filter(pk=upload.pk).update(
        state=Upload.State.FAILED, reason="The import was cancelled. The items it had made are kept."
    )
    _record(upload, user, "import cancelled")


@transaction.atomic
def upload_discard(*, upload: Upload, user: User | None = None) -> None:
    """Throw away an upload that was not imported, or whose import failed, with the items it made.

    Raises Refusal once something was done with one of them.
    """
    if upload.state not in (Upload.State.RECEIVED, Upload.State.FAILED):
        raise Refusal("Items came from this upload, so it is kept.")
    if upload.job is not None and not upload.job.is_finished:
        raise Refusal("The import is still running. Cancel it first.")
    items = Item.objects.filter(upload=upload)
    if items.filter(Q(annotations__isnull=False) | Q(calibration_label__isnull=False)).exists():
        raise Refusal("Items of this upload are annotated or labelled already, so it is kept.")
    items.delete()
    file = upload.file
    _record(upload, user, "upload thrown away")
    upload.delete()
    transaction.on_commit(lambda: file.delete(save=False))
