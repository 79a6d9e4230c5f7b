"""The work of an import: rows of an upload become items, in small transactions that a killed worker resumes after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import F, Max

from annotate.errors import Refusal
from annotate.models import Item, Label, Project, RejectedRow, StoredImage, Upload
from annotate.services.projects import clean_label_name
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.images import CheckedImage, check_image
from annotate.uploads.limits import UploadLimits
from annotate.uploads.mapping import ColumnMapping, ItemRecord, to_record
from annotate.uploads.reading import open_upload
from annotate.uploads.rows import Reader, Row, RowError
from jobs import shutdown
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.work import CannotGoOn, Work

MAX_LABELS = 2000


def limits() -> UploadLimits:
    return UploadLimits(max_bytes=settings.MAX_UPLOAD_BYTES)


def open_reader(upload: Upload) -> Reader:
    """The upload's reader. Raises UploadError."""
    return open_upload(
        Path(upload.file.path), upload.filename, limits=limits(), encoding=upload.encoding or None
    )


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row read whole, outside any transaction: its record and its checked image, or why it is rejected."""

    number: int
    record: ItemRecord | None = None
    image: CheckedImage | None = None
    problem: str = ""


class Import(Work):
    kind = "import"

    def run(self, lease: Lease) -> bool:
        upload = Upload.objects.select_related("project").get(job=lease.job)
        Upload.objects.filter(pk=upload.pk).update(state=Upload.State.IMPORTING)
        try:
            with open_reader(upload) as reader:
                rows = read_rows(reader, upload, start=lease.chunk.cursor)
                while batch := list(islice(rows, settings.WRITE_BATCH)):
                    writer = _BatchWriter(upload, batch)
                    lease.write(writer.write, cursor=batch[-1].number)
                    if not lease.may_go_on() or shutdown.requested():
                        return False
        except UploadError as error:
            raise _failed(upload, error.sentence) from error
        except FileNotFoundError as error:
            raise _failed(upload, f"The file of “{upload.filename}” is gone. Upload it again.") from error
        return True

    def finished(self, job: Job) -> None:
        Upload.objects.filter(job=job).update(state=Upload.State.DONE)


def _failed(upload: Upload, sentence: str) -> CannotGoOn:
    """Mark the import as failed; what came in before is kept."""
    Upload.objects.filter(pk=upload.pk).update(state=Upload.State.FAILED, reason=sentence)
    return CannotGoOn(sentence, pause=False)


def read_rows(reader: Reader, upload: Upload, *, start: int) -> Iterator[ReadRow]:
    """The upload's rows after the first `start`, with images decoded and checked. Raises UploadError."""
    mapping = ColumnMapping(**upload.mapping)
    task = upload.project.task
    for row in reader.rows(start=start):
        if isinstance(row, RowError):
            yield ReadRow(row.number, problem=row.message)
        else:
            yield _read_row(row, reader, mapping, task.key)


def _read_row(row: Row, reader: Reader, mapping: ColumnMapping, task_type: str) -> ReadRow:
    try:
        record = to_record(row, mapping, task_type=task_type)
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
    return ReadRow(row.number, record=record, image=image)


class _BatchWriter:
    """Writes one batch of read rows as items and rejected rows."""

    def __init__(self, upload: Upload, batch: Sequence[ReadRow]) -> None:
        self.upload = upload
        self.project: Project = upload.project
        self.batch = batch
        # Files are named by their content, so that storing them again after a crash changes nothing.
        self.files = {
            row.image.sha256: store_image_file(self.project, row.image)
            for row in batch
            if row.image is not None
        }

    def write(self) -> Progress:
        images = self._images()
        self._labels = {label.name: label for label in self.project.labels.all()}
        taken = self._taken_ids()
        items: list[Item] = []
        rejected: list[RejectedRow] = []
        for row in self.batch:
            item = self._item(row, taken, images)
            if isinstance(item, str):
                rejected.append(RejectedRow(upload=self.upload, row=row.number, message=item))
            else:
                taken.add(item.external_id)
                items.append(item)
        Item.objects.bulk_create(items)
        RejectedRow.objects.bulk_create(rejected)
        Upload.objects.filter(pk=self.upload.pk).update(
            imported=F("imported") + len(items), rejected=F("rejected") + len(rejected)
        )
        return Progress(done=len(self.batch), failed=len(rejected))

    def _item(self, row: ReadRow, taken: set[str], images: dict[str, StoredImage]) -> Item | str:
        """The row's item, or why it is rejected."""
        record = row.record
        if record is None:
            return row.problem
        external_id = self._external_id(row)
        if external_id in taken:
            return f"The id “{external_id}” is already in this project."
        gold = None if record.gold is None else self._label(record.gold)
        if isinstance(gold, str):
            return gold
        return Item(
            project=self.project,
            upload=self.upload,
            external_id=external_id,
            text=record.text,
            question=record.question,
            image=images[row.image.sha256] if row.image else None,
            file_name=(record.image_name or "")[:500],
            columns=record.columns,
            gold=gold,
        )

    def _external_id(self, row: ReadRow) -> str:
        assert row.record is not None  # noqa: S101 (the caller checked)
        if self.upload.mapping.get("id") is None:
            return f"{self.upload.pk}-{row.number}"  # row numbers alone would clash between uploads
        return row.record.external_id

    def _taken_ids(self) -> set[str]:
        wanted = [self._external_id(row) for row in self.batch if row.record is not None]
        return set(
            Item.objects.filter(project=self.project, external_id__in=wanted).values_list(
                "external_id", flat=True
            )
        )

    def _label(self, value: str) -> Label | str:
        """The label of a gold value, made if the upload may make labels; or why there is none."""
        try:
            name = clean_label_name(value)
        except Refusal as refusal:
            return refusal.sentence
        if name in self._labels:
            return self._labels[name]
        if not self.upload.add_labels:
            return f"The gold label “{name[:80]}” is not one of the project's labels."
        if len(self._labels) >= MAX_LABELS:
            return f"The gold column has more than {MAX_LABELS:,} different values; is it really the gold column?"
        last = self.project.labels.aggregate(last=Max("position"))["last"]
        label = Label.objects.create(
            project=self.project, position=0 if last is None else last + 1, name=name
        )
        self._labels[name] = label
        return label

    def _images(self) -> dict[str, StoredImage]:
        """The batch's images by content hash, those that the project does not have yet made."""
        checked = {row.image.sha256: row.image for row in self.batch if row.image is not None}
        stored = StoredImage.objects.filter(project=self.project, sha256__in=list(checked))
        known = {image.sha256: image for image in stored}
        new = [
            StoredImage(
                project=self.project,
                sha256=sha256,
                file=self.files[sha256],
                media_type=image.media_type,
                width=image.width,
                height=image.height,
            )
            for sha256, image in checked.items()
            if sha256 not in known
        ]
        return known | {image.sha256: image for image in StoredImage.objects.bulk_create(new)}


def store_image_file(project: Project, image: CheckedImage) -> str:
    """Keep the image's bytes under the project, named by their hash; returns the storage name."""
    name = f"images/{project.pk}/{image.sha256[:2]}/{image.sha256}.{image.extension.lstrip('.')}"
    if default_storage.exists(name):
        if default_storage.size(name) == len(image.data):
            return name
        default_storage.delete(name)  # left half written by a process that died
    return default_storage.save(name, ContentFile(image.data))
