"""The rows of an upload as an import reads them: outside any transaction, each whole or with why it is rejected."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from annotate.models import Project, Upload
from annotate.uploads.errors import NotAHeader, RowProblem
from annotate.uploads.images import CheckedImage, check_image
from annotate.uploads.limits import UploadLimits
from annotate.uploads.mapping import ColumnMapping, ItemRecord, RowMapper
from annotate.uploads.reading import open_upload
from annotate.uploads.rows import Reader, Row, RowError

# A row of an import is one insert among many of one statement: a tenth of the work of a model's result.
_ROWS_FOR_A_RESULT = 10
_LONGEST_BATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class KeptImage:
    """A checked image without its bytes; `name` is where they are stored, "" where they are not yet."""

    sha256: str
    name: str
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row's record and its image, or why it is rejected."""

    number: int
    record: ItemRecord | None = None
    image: KeptImage | None = None
    problem: str = ""


def limits() -> UploadLimits:
    return UploadLimits(max_bytes=settings.MAX_UPLOAD_BYTES)


def open_reader(upload: Upload, *, no_header: bool | None = None) -> Reader:
    """The upload's reader. Raises UploadError.

    Without `no_header`, its mapping says whether the first line is a row; before it has one, that is so where the line
    cannot be a header.
    """
    if no_header is None and upload.mapping:
        no_header = bool(upload.mapping.get("no_header"))
    try:
        return _open(upload, has_header=not no_header)
    except NotAHeader:
        if no_header is not None:
            raise
        return _open(upload, has_header=False)


def _open(upload: Upload, *, has_header: bool) -> Reader:
    return open_upload(
        Path(upload.file.path),
        upload.filename,
        limits=limits(),
        encoding=upload.encoding or None,
        has_header=has_header,
    )


def read_rows(reader: Reader, upload: Upload, *, start: int, keep_images: bool) -> Iterator[ReadRow]:
    """The upload's rows after the first `start`, with images decoded and checked, and stored if `keep_images`.

    Raises UploadError.
    """
    mapper = RowMapper(ColumnMapping(**upload.mapping), task_type=upload.project.task_type)
    keep = _keeper(upload.project) if keep_images else _described
    for row in reader.rows(start=start):
        if isinstance(row, RowError):
            yield ReadRow(row.number, problem=row.message)
        else:
            yield _read_row(row, reader, mapper, keep)


def _read_row(
    row: Row, reader: Reader, mapper: RowMapper, keep: Callable[[CheckedImage], KeptImage]
) -> ReadRow:
    try:
        record = mapper.record(row)
        data = record.image_data
        if data is None and record.image_name is not None:
            data = reader.open_image(record.image_name)
    except RowProblem as problem:
        return ReadRow(row.number, problem=problem.sentence)
    if data is None:
        return ReadRow(row.number, record=record)
    try:
        image = check_image(data, reader.limits)
    except RowProblem as problem:
        name = f" “{record.image_name}”" if record.image_name else ""
        return ReadRow(row.number, problem=f"The image{name} cannot be used. {problem.sentence}")
    return ReadRow(row.number, record=record, image=keep(image))


def _described(image: CheckedImage, name: str = "") -> KeptImage:
    return KeptImage(image.sha256, name, image.media_type, image.width, image.height)


def _keeper(project: Project) -> Callable[[CheckedImage], KeptImage]:
    return lambda image: _described(image, store_image_file(project, image))


def store_image_file(project: Project, image: CheckedImage) -> str:
    """Keep the image's bytes under the project, named by their hash; returns the storage name.

    Storing them again after a crash changes nothing. Raises OSError, and leaves nothing, when there is no room.
    """
    name = f"images/{project.pk}/{image.sha256[:2]}/{image.sha256}.{image.extension.lstrip('.')}"
    if default_storage.exists(name):
        if default_storage.size(name) == len(image.data):
            return name
        default_storage.delete(name)  # left half written by a process that died
    try:
        return default_storage.save(name, ContentFile(image.data))
    except OSError:
        default_storage.delete(name)
        raise


def batches(rows: Iterator[ReadRow]) -> Iterator[list[ReadRow]]:
    """Rows to write in one transaction: many where they are read fast, fewer where reading takes long."""
    most = settings.WRITE_BATCH * _ROWS_FOR_A_RESULT
    batch: list[ReadRow] = []
    began = time.monotonic()
    for row in rows:
        batch.append(row)
        if len(batch) == most or (row.image and time.monotonic() - began > _LONGEST_BATCH_SECONDS):
            yield batch
            batch = []
            began = time.monotonic()
    if batch:
        yield batch
