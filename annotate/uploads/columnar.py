"""Parquet files, streamed in small batches; images may lie in their cells, as Hugging Face writes them."""

import json
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.uploads.cells import flat_value
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.limits import UploadLimits, format_bytes
from annotate.uploads.rows import ImageCell, Reader, Row, RowError
from annotate.uploads.sources import Source
from annotate.uploads.tables import check_column_names

# Small, because a batch is in memory as a whole and a few bytes of a file can stand for a long text in each
# row.
_ROWS_A_BATCH = 128
_ROWS_A_BATCH_WITH_IMAGES = 8
# With a buffer, column chunks are read piece by piece instead of a whole row group at once.
_READ_BUFFER_BYTES = 64 * 1024
_MAX_METADATA_BYTES = 16 * 1024 * 1024

Convert = Callable[[Any], Any]


class ParquetReader(Reader):
    """One Parquet file. Binary columns, and structs with `bytes` and `path`, become ImageCell.

    Where Hugging Face's metadata names the classes of a label column, its numbers become those names.
    """

    kind = "parquet"

    def __init__(self, source: Source, limits: UploadLimits) -> None:
        self.limits = limits
        self.notes = []
        self._source = source
        with source.open() as stream:
            parquet = self._open(stream)
            schema, metadata = parquet.schema_arrow, parquet.metadata
            self._row_groups = [
                metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)
            ]
            unpacked = sum(
                metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)
            )
        self.columns = list(schema.names)
        self.total_hint = sum(self._row_groups)
        self._check_size(unpacked)
        check_column_names(self.columns, limits)
        self._convert = self._converters(schema)
        self._rows_a_batch = _ROWS_A_BATCH_WITH_IMAGES if any(map(_holds_images, schema)) else _ROWS_A_BATCH

    def _open(self, stream: Any) -> Any:
        try:
            return pq.ParquetFile(
                stream,
                buffer_size=_READ_BUFFER_BYTES,
                pre_buffer=False,
                thrift_string_size_limit=_MAX_METADATA_BYTES,
            )
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged("it cannot be opened") from error

    def _damaged(self, what: str) -> UploadError:
        return UploadError(
            f"“{self._source.name}” is damaged or not a Parquet file: {what}. Write it again and upload"
            " it anew."
        )

    def _check_size(self, unpacked: int) -> None:
        if not self.total_hint:
            raise UploadError(f"“{self._source.name}” holds no rows.")
        if self.total_hint > self.limits.max_rows:
            raise UploadError(
                f"The file has {self.total_hint:,} rows; at most {self.limits.max_rows:,} are accepted."
                " Split it into several uploads."
            )
        if unpacked > self.limits.max_zip_total_bytes:
            raise UploadError(
                f"The file unpacks to {format_bytes(unpacked)}; at most"
                f" {format_bytes(self.limits.max_zip_total_bytes)} are accepted."
            )

    def _converters(self, schema: Any) -> dict[str, Convert]:
        class_names = _class_names(schema.metadata or {})
        converters: dict[str, Convert] = {}
        for field in schema:
            if _holds_images(field):
                converters[field.name] = self._image_converter(field.name)
            elif field.name in class_names and pa.types.is_integer(field.type):
                converters[field.name] = _class_converter(class_names[field.name])
                self.notes.append(
                    f"The numbers in “{field.name}” are shown as the class names that the file gives them."
                )
            else:
                converters[field.name] = self._value_converter(field.name)
        return converters

    def _value_converter(self, column: str) -> Convert:
        return lambda value: flat_value(value, column, self.limits.max_cell_chars)

    def _image_converter(self, column: str) -> Convert:
        def convert(value: Any) -> ImageCell | None:
            data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
            if data is None:
                return None
            if len(data) > self.limits.max_image_bytes:
                raise RowProblem(
                    f"The image in column “{column}” has {format_bytes(len(data))};"
                    f" at most {format_bytes(self.limits.max_image_bytes)} are accepted."
                )
            return ImageCell(data, PurePosixPath(path).name if isinstance(path, str) else "")

        return convert

    def _records(self, start: int) -> Iterator[Row | RowError]:
        first_group, number = self._skip_groups(start)
        with self._source.open() as stream:
            parquet = self._open(stream)
            try:
                for batch in parquet.iter_batches(
                    self._rows_a_batch,
                    row_groups=range(first_group, len(self._row_groups)),
                    use_threads=False,
                ):
                    first = max(0, start - number)
                    yield from self._rows_of(batch, first, number)
                    number += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(f"it cannot be read after row {number:,}") from error

    def _skip_groups(self, start: int) -> tuple[int, int]:
        """The first row group that holds a row after the first `start`, and the number of rows before that
        group.
        """
        before = 0
        for index, rows in enumerate(self._row_groups):
            if before + rows > start:
                return index, before
            before += rows
        return len(self._row_groups), before

    def _rows_of(self, batch: Any, first: int, number: int) -> Iterator[Row | RowError]:
        columns = [
            (name, _in_microseconds(column)) for name, column in zip(self.columns, batch.columns, strict=True)
        ]
        for position in range(first, batch.num_rows):
            row_number = number + position + 1
            try:
                yield Row(
                    row_number,
                    {name: self._convert[name](column[position].as_py()) for name, column in columns},
                )
            except RowProblem as problem:
                yield RowError(row_number, f"Row {row_number:,}: {problem.sentence}")
            except (UnicodeDecodeError, OverflowError):
                yield RowError(
                    row_number, f"Row {row_number:,}: a value cannot be read as text or as a date."
                )


def _holds_images(field: Any) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        return any(child.name == "bytes" and _is_binary(child.type) for child in kind)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def _in_microseconds(column: Any) -> Any:
    """`column`, with nanoseconds cut to microseconds, because Python's dates and times end there."""
    kind = column.type
    if getattr(kind, "unit", None) != "ns":
        return column
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    if pa.types.is_duration(kind):
        return column.cast(pa.duration("us"), safe=False)
    return column.cast(pa.time64("us"), safe=False)


def _class_converter(names: list[str]) -> Convert:
    def convert(value: Any) -> Any:
        return names[value] if value is not None and 0 <= value < len(names) else value

    return convert


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Class names by column, from the metadata of Hugging Face's data sets; empty when there is none."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        labels = {
            name: feature["names"]
            for name, feature in features.items()
            if feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        name: names
        for name, names in labels.items()
        if isinstance(names, list) and all(isinstance(n, str) for n in names)
    }
