"""The rejected rows of an upload as a table: why each is rejected, and what it holds, read from the kept file."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from annotate.import_rows import open_reader
from annotate.models import Upload
from annotate.uploads.errors import UploadError
from annotate.uploads.rows import ImageCell, Row

_ROWS_AT_ONCE = 1000


def rejection_table(upload: Upload) -> tuple[list[str], Iterator[list[Any]]]:
    """(column names, rows): the row's number, the message, and the row's own columns, in order of the file.

    Cells are empty where the row, or the whole file, cannot be read. An image is named, not given.
    """
    own = list(upload.columns)
    ours = [f"rejected_{name}" if name in own else name for name in ("row", "message")]
    return [*ours, *own], _rows(upload, own)


def _rows(upload: Upload, columns: list[str]) -> Iterator[list[Any]]:
    rejected = upload.rejected_rows.order_by("row").values_list("row", "message")
    records = _records(upload)
    record = next(records, None)
    for number, message in rejected.iterator(chunk_size=_ROWS_AT_ONCE):
        while record is not None and record.number < number:
            record = next(records, None)
        values = record.values if record is not None and record.number == number else {}
        yield [number, message, *(_cell(values.get(column)) for column in columns)]


def _records(upload: Upload) -> Iterator[Row]:
    """The file's readable rows from the first rejected one on, as far as it can be read."""
    first = upload.rejected_rows.order_by("row").values_list("row", flat=True).first()
    if first is None:
        return
    with suppress(UploadError, OSError), open_reader(upload) as reader:
        for record in reader.rows(start=max(0, first - 1)):
            if isinstance(record, Row):
                yield record


def _cell(value: Any) -> Any:
    return value.name if isinstance(value, ImageCell) else value
