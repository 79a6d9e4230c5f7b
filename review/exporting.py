"""The work of an export: rows stream into a file, which is published with its data card when it is whole."""

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from django.conf import settings

from jobs import shutdown
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.work import CannotGoOn, Work
from review.answer_rows import answer_rows
from review.data_card import CARD, README, card_json, data_card, readme
from review.export_files import Archive, CsvWriter, ExportWriter, JsonLinesWriter, ParquetWriter
from review.export_rows import BOOLEANS, INTEGERS, NUMBERS, header, images, own_columns, rows
from review.models import Export

_ROWS_BETWEEN_SIGNS = 2000
_SECONDS_BETWEEN_SIGNS = 2.0
_TYPES = (
    dict.fromkeys(INTEGERS, pa.int64())
    | dict.fromkeys(BOOLEANS, pa.bool_())
    | dict.fromkeys(NUMBERS, pa.float64())
)
# Where Parquet keeps the card, beside the schema.
CARD_KEY = "overread_data_card"


class _Stopped(Exception):
    """The job was stopped, or this process is told to."""


class Exporting(Work):
    kind = "export"

    def run(self, lease: Lease) -> bool:
        """Write the whole file in one go: an export that is cut off starts again, as nobody has seen any of it."""
        export = Export.objects.select_related("project", "round__criticism_run__annotation_run").get(
            job=lease.job
        )
        name = f"exports/{export.project_id}/{export.pk}{Path(export.filename).suffix}"
        path = Path(settings.MEDIA_ROOT) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_behind in path.parent.glob(f"{path.name}.*.part"):  # by a process that was killed
            left_behind.unlink(missing_ok=True)
        table = path.with_name(f"{path.name}.{lease.token.hex}.part")
        archive = path.with_name(f"{path.name}.{lease.token.hex}.zip.part")
        signs = _Signs(lease)
        try:
            card = self._write_table(export, table, signs)
            whole = table
            if export.is_archive:
                self._write_archive(export, archive, table, card, signs)
                whole = archive
            count = card["export"]["rows"]
            lease.write(lambda: self._publish(export, name, whole, count, card))
        except _Stopped:
            return False
        finally:
            table.unlink(missing_ok=True)
            archive.unlink(missing_ok=True)
        return True

    def _write_table(self, export: Export, path: Path, signs: "_Signs") -> dict[str, Any]:
        """The rows; returns the card, which Parquet carries too."""
        is_answers = export.layout == Export.Layout.ANSWERS
        columns = {} if is_answers else own_columns(export)
        count = 0
        with _writer(export, path, header(export, columns)) as writer:
            for row in answer_rows(export) if is_answers else rows(export, columns):
                writer.write(row)
                count += 1
                if count % _ROWS_BETWEEN_SIGNS == 0:
                    signs.give(count)
            card = data_card(export, rows=count, columns=columns)
            writer.add_metadata({CARD_KEY: card_json(card)})
        return card

    def _write_archive(
        self, export: Export, path: Path, table: Path, card: dict[str, Any], signs: "_Signs"
    ) -> None:
        """The table with its card, and the images beside it. The card comes first: it is what people open."""
        with Archive(path, goes_on=signs.may_go_on) as archive:
            archive.add_text(README, readme(card))
            archive.add_text(CARD, card_json(card))
            with table.open("rb") as file:
                _must(archive.add(export.table_name, file))
            if export.format != Export.Format.IMAGE_FOLDER:
                return
            folder = Path(export.table_name).parent
            for file_name, image in images(export):
                try:
                    opened = image.file.open("rb")
                except FileNotFoundError as error:
                    raise CannotGoOn(
                        f"The image {file_name} is not in the storage any more.", pause=False
                    ) from error
                with opened as file:
                    _must(archive.add(f"{folder}/{file_name}", file))

    def _publish(self, export: Export, name: str, whole: Path, count: int, card: dict[str, Any]) -> Progress:
        """Runs behind the lease's fence, so that only its holder puts a file in its place."""
        size = whole.stat().st_size
        os.replace(whole, Path(settings.MEDIA_ROOT) / name)
        Export.objects.filter(pk=export.pk).update(file=name, rows=count, size=size, card=card)
        Job.objects.filter(pk=export.job_id).update(done=0, total=count)
        return Progress(done=count)


class _Signs:
    """Signs of life while a file is written, and whether to go on."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._last = time.monotonic()

    def give(self, count: int) -> None:
        """Tell that so many rows are written. Raises _Stopped."""
        self._lease.renew()
        Job.objects.filter(pk=self._lease.job.pk).update(done=count)
        self._last = time.monotonic()
        _must(self._lease.may_go_on() and not shutdown.requested())

    def may_go_on(self) -> bool:
        """Cheap enough to ask after every piece of a file."""
        if time.monotonic() - self._last < _SECONDS_BETWEEN_SIGNS:
            return True
        self._lease.renew()
        self._last = time.monotonic()
        return self._lease.may_go_on() and not shutdown.requested()


def _must(goes_on: bool) -> None:
    if not goes_on:
        raise _Stopped


def _writer(export: Export, path: Path, columns: list[str]) -> ExportWriter:
    match export.format:
        case Export.Format.CSV:
            return CsvWriter(path, columns, escape_formulas=export.escape_formulas)
        case Export.Format.JSONL:
            return JsonLinesWriter(path, columns)
        case Export.Format.PARQUET | Export.Format.IMAGE_FOLDER:
            # `datasets` documents metadata.csv, .jsonl and .parquet for image folders, with the image's path in the
            # column file_name, relative to that file; and since its version 3.4 several rows may name one image. Of
            # the three only Parquet states types: of CSV and JSON it takes those of the first part of the file, and
            # fails on a column of labels that begins with many empty ones.
            return ParquetWriter(path, columns, _TYPES)
        case _:
            raise ValueError(f"There is no export format {export.format!r}.")
