"""The work of an export: rows stream into parts of a file, which is put together and published with its data card.

A part is written down once it is whole, so that a worker which takes over goes on after the last one.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from django.conf import settings

from annotate.full_disk import pausing_on_full_disk
from jobs import shutdown
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.work import CannotGoOn, Work
from review.answer_rows import answer_rows
from review.data_card import CARD, README, card_json, data_card, readme
from review.export_files import Archive, CsvWriter, ExportWriter, JsonLinesWriter, ParquetWriter, join_parquet
from review.export_parts import Parts, concatenate, digest_of, folder_of, forget_parts, keep_only, parts_of
from review.export_rows import BOOLEANS, INTEGERS, NUMBERS, header, images, own_columns, row_blocks, source_of
from review.models import Export
from review.squad_export import Questions, squad_columns, write_squad

# A worker that dies loses no more than a part, which takes seconds.
_ROWS_A_PART = 50_000
_ANSWERS_AT_ONCE = 1000
_SECONDS_BETWEEN_SIGNS = 2.0
_TYPES = (
    dict.fromkeys(INTEGERS, pa.int64())
    | dict.fromkeys(BOOLEANS, pa.bool_())
    | dict.fromkeys(NUMBERS, pa.float64())
)
# Where Parquet keeps the card, beside the schema.
CARD_KEY = "overread_data_card"

Block = tuple[int, list[dict[str, Any]]]


class _Stopped(Exception):
    """The job was stopped, or this process is told to."""


class Exporting(Work):
    kind = "export"

    def run(self, lease: Lease) -> bool:
        export = Export.objects.select_related("project", "round__criticism_run__annotation_run").get(
            job=lease.job
        )
        try:
            with pausing_on_full_disk():
                _Writing(lease, export).to_the_end()
        except _Stopped:
            return False
        return True


class _Writing:
    """One worker's go at an export's file."""

    def __init__(self, lease: Lease, export: Export) -> None:
        self._lease = lease
        self._export = export
        self._signs = _Signs(lease)
        self._is_answers = export.layout == Export.Layout.ANSWERS
        self._is_squad = export.format == Export.Format.SQUAD
        self._columns = {} if self._is_answers else own_columns(export)
        if self._is_squad:
            self._columns = squad_columns(self._columns)
        self._header = header(export, self._columns)

    def to_the_end(self) -> None:
        """Raises _Stopped, and LeaseLost when somebody else took over; what was in work is then deleted."""
        export, lease = self._export, self._lease
        parts = self._write_parts()
        name = f"exports/{export.project_id}/{export.pk}{Path(export.filename).suffix}"
        path = Path(settings.MEDIA_ROOT) / name
        for left_behind in path.parent.glob(f"{path.name}.*.part"):  # by a process that was killed
            left_behind.unlink(missing_ok=True)
        table = path.with_name(f"{path.name}.{lease.token.hex}.part")
        archive = path.with_name(f"{path.name}.{lease.token.hex}.zip.part")
        try:
            questions = self._write_squad(parts, table) if self._is_squad else None
            rows = parts.rows if questions is None else questions.written
            left_out = None if questions is None else questions.left_out
            card = data_card(export, rows=rows, columns=self._columns, left_out=left_out)
            if questions is None:
                self._join(parts, table, card)
            whole = table
            if export.is_archive:
                self._write_archive(archive, table, card)
                whole = archive
            lease.write(lambda: self._publish(name, whole, rows, card))
        finally:
            table.unlink(missing_ok=True)
            archive.unlink(missing_ok=True)
        forget_parts(export)

    # --- Parts ---------------------------------------------------------------------------------------------------

    def _write_parts(self) -> Parts:
        export, lease = self._export, self._lease
        made_of = digest_of(self._header, [] if self._is_answers else source_of(export))
        parts = parts_of(export, made_of)
        lease.renew()  # raises when somebody else took over, whose parts are not ours to delete
        keep_only(export, parts.names)
        folder = folder_of(export)
        folder.mkdir(parents=True, exist_ok=True)
        blocks = self._blocks(parts.last)
        while True:
            path = folder / f"{len(parts.names):06}-{lease.token.hex}"
            try:
                count, last = self._write_part(path, blocks, parts.rows)
                if not count and last <= parts.last:
                    return parts
                parts = parts.with_part(path.name, rows=count, last=last)
                lease.write(self._written_down(parts))
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                if path.name not in parts.names:
                    path.unlink(missing_ok=True)
            self._signs.give(parts.rows)

    def _blocks(self, after: int) -> Iterator[Block]:
        """Some rows at a time, each time with the cursor behind them."""
        if not self._is_answers:
            yield from row_blocks(self._export, self._columns, after=after)
            return
        # Answers are only ever added, behind all others: how many were read tells where to go on.
        answers = islice(answer_rows(self._export), after, None)
        while block := list(islice(answers, _ANSWERS_AT_ONCE)):
            after += len(block)
            yield after, block

    def _write_part(self, path: Path, blocks: Iterator[Block], before: int) -> tuple[int, int]:
        """(rows written, the cursor behind them)."""
        count, behind = 0, 0
        with self._writer(path) as writer:
            for last, rows in blocks:
                writer.write_rows(rows)
                count += len(rows)
                behind = last
                self._signs.give_if_due(before + count)
                if count >= _ROWS_A_PART:
                    break
        return count, behind

    def _written_down(self, parts: Parts) -> Callable[[], Progress]:
        def write() -> Progress:
            Export.objects.filter(pk=self._export.pk).update(written=parts.as_dict())
            return Progress()

        return write

    # --- The whole -----------------------------------------------------------------------------------------------

    def _join(self, parts: Parts, path: Path, card: dict[str, Any]) -> None:
        export = self._export
        files = [folder_of(export) / name for name in parts.names]
        with self._writer(path) as writer:
            writer.write_header()
            if isinstance(writer, ParquetWriter):
                _must(join_parquet(files, writer, goes_on=self._signs.may_go_on))
                writer.add_metadata({CARD_KEY: card_json(card)})
                return
        _must(concatenate(files, path, goes_on=self._signs.may_go_on))

    def _write_squad(self, parts: Parts, path: Path) -> Questions:
        files = [folder_of(self._export) / name for name in parts.names]
        questions = write_squad(files, path, self._columns, goes_on=self._signs.may_go_on)
        if questions is None:
            raise _Stopped
        return questions

    def _writer(self, path: Path) -> ExportWriter:
        return _writer(self._export, path, self._header, self._columns.values())

    def _write_archive(self, path: Path, table: Path, card: dict[str, Any]) -> None:
        """The table with its card, and the images beside it. The card comes first: it is what people open."""
        export = self._export
        with Archive(path, goes_on=self._signs.may_go_on) as archive:
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

    def _publish(self, name: str, whole: Path, count: int, card: dict[str, Any]) -> Progress:
        """Runs behind the lease's fence, so that only its holder puts a file in its place."""
        size = whole.stat().st_size
        os.replace(whole, Path(settings.MEDIA_ROOT) / name)
        Export.objects.filter(pk=self._export.pk).update(
            file=name, rows=count, size=size, card=card, written={}
        )
        Job.objects.filter(pk=self._export.job_id).update(done=0, total=count)
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

    def give_if_due(self, count: int) -> None:
        """The same, where the last one is a while ago."""
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_SIGNS:
            self.give(count)

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


def _writer(export: Export, path: Path, columns: list[str], own: Collection[str]) -> ExportWriter:
    """`own` are those of the columns that are the items' own, which are text whatever they are called."""
    types = {name: kind for name, kind in _TYPES.items() if name not in own}
    match export.format:
        case Export.Format.CSV:
            return CsvWriter(path, columns, escape_formulas=export.escape_formulas)
        case Export.Format.JSONL | Export.Format.SQUAD:  # whose parts are lines until they are put together
            return JsonLinesWriter(path, columns)
        case Export.Format.PARQUET | Export.Format.IMAGE_FOLDER:
            # `datasets` documents metadata.csv, .jsonl and .parquet for image folders, with the image's path in the
            # column file_name, relative to that file; and since its version 3.4 several rows may name one image. Of
            # the three only Parquet states types: of CSV and JSON it takes those of the first part of the file, and
            # fails on a column of labels that begins with many empty ones.
            return ParquetWriter(path, columns, types)
        case _:
            raise ValueError(f"There is no export format {export.format!r}.")
