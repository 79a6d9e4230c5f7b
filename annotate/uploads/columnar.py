"""Parquet files, streamed in small batches; images may lie in their cells, as Hugging Face writes them."""

import json
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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

_BYTES_A_CHARACTER = 4
_MOST_ANSWERS_A_ROW = 100  # on average

Convert = Callable[[Any], Any]


class ParquetReader(Reader):
    """One Parquet file. Binary columns, and structs with `bytes` and `path`, become ImageCell.

    Columns of lists are left out: a few bytes of a file can stand for a list of any length. Kept are short lists of
    answers, as SQuAD's are stored: texts and where each begins.

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
            self._texts = [
                leaf.path
                for leaf in map(parquet.schema.column, range(metadata.num_columns))
                if _is_bytes(leaf)
            ]
            self._row_groups = [
                metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)
            ]
            self._many = _long_lists(metadata)
            unpacked = sum(
                metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)
            )
        self.total_hint = sum(self._row_groups)
        self._check_size(unpacked)
        check_column_names(list(schema.names), limits)
        fields = self._without_lists(schema)
        self.columns = [field.name for field in fields]
        self._convert = self._converters(fields, _class_names(schema.metadata or {}))
        images = [field.name for field in fields if _holds_images(field)]
        self._rows_a_batch = _ROWS_A_BATCH_WITH_IMAGES if images else _ROWS_A_BATCH
        self._max_bytes = dict.fromkeys(self.columns, limits.max_cell_chars * _BYTES_A_CHARACTER)
        self._max_bytes.update(dict.fromkeys(images, limits.max_image_bytes))

    def _without_lists(self, schema: Any) -> list[Any]:
        kept = [
            field
            for field in schema
            if not _holds_lists(field.type) or (_holds_answers(field.type) and field.name not in self._many)
        ]
        left_out = [f"“{field.name}”" for field in schema if field not in kept]
        if left_out:
            self.notes.append(f"Columns that hold lists are left out: {', '.join(left_out)}.")
        if not kept:
            raise UploadError(
                f"“{self._source.name}” has only columns that hold lists; texts or images are needed."
            )
        return kept

    def _open(self, stream: Any, read_dictionary: list[str] | None = None) -> Any:
        try:
            return pq.ParquetFile(
                stream,
                buffer_size=_READ_BUFFER_BYTES,
                pre_buffer=False,
                read_dictionary=read_dictionary,
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

    def _converters(self, fields: list[Any], class_names: dict[str, list[str]]) -> dict[str, Convert]:
        converters: dict[str, Convert] = {}
        for field in fields:
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
            return ImageCell(data, PurePosixPath(path).name if isinstance(path, str) else "")

        return convert

    def _records(self, start: int) -> Iterator[Row | RowError]:
        first_group, number = self._skip_groups(start)
        groups = range(first_group, len(self._row_groups))
        unpacked = 0
        with self._source.open() as stream:
            # Read as dictionaries, a text that the file holds once and repeats often is in memory once.
            parquet = self._open(stream, read_dictionary=self._texts)
            try:
                for record_batch in parquet.iter_batches(
                    self._rows_a_batch, row_groups=groups, columns=self.columns, use_threads=False
                ):
                    batch = _Batch(record_batch)
                    unpacked += batch.unpacked_bytes
                    self._check_unpacked(unpacked)
                    for position in range(max(0, start - number), batch.rows):
                        yield self._row(batch, position, number + position + 1)
                    number += batch.rows
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(f"it cannot be read after row {number:,}") from error

    def _check_unpacked(self, unpacked: int) -> None:
        if unpacked > self.limits.max_zip_total_bytes:
            limit = format_bytes(self.limits.max_zip_total_bytes)
            raise UploadError(f"The file unpacks to more than {limit}, which is the limit. Split it.")

    def _row(self, batch: "_Batch", position: int, number: int) -> Row | RowError:
        try:
            return Row(number, {name: self._cell(batch, name, position) for name in self.columns})
        except RowProblem as problem:
            return RowError(number, f"Row {number:,}: {problem.sentence}")
        except (UnicodeDecodeError, OverflowError):
            return RowError(number, f"Row {number:,}: a value cannot be read as text or as a date.")

    def _cell(self, batch: "_Batch", column: str, position: int) -> Any:
        size, limit = batch.cell_bytes(column, position), self._max_bytes[column]
        if size > limit:
            raise RowProblem(
                f"Column “{column}” holds {format_bytes(size)}; at most {format_bytes(limit)} are accepted."
            )
        return self._convert[column](batch.value(column, position))

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


class _Batch:
    """A few rows, whose cells are measured before they become Python values."""

    def __init__(self, record_batch: Any) -> None:
        self.rows: int = record_batch.num_rows
        names = record_batch.schema.names
        self._columns = {
            name: _in_microseconds(column) for name, column in zip(names, record_batch, strict=True)
        }
        lengths = {name: _byte_lengths(column) for name, column in self._columns.items()}
        self._lengths = {name: column.to_pylist() for name, column in lengths.items() if column is not None}
        self.unpacked_bytes = sum(map(sum, self._lengths.values()))

    def cell_bytes(self, column: str, position: int) -> int:
        """Size of a cell's texts and bytes; 0 for numbers and the like."""
        lengths = self._lengths.get(column)
        return lengths[position] if lengths else 0

    def value(self, column: str, position: int) -> Any:
        return self._columns[column][position].as_py()


def _byte_lengths(column: Any) -> Any:
    """Bytes of text or binary data in each cell, structs' parts added up, or None for other columns."""
    kind = column.type
    if pa.types.is_struct(kind):
        parts = [_byte_lengths(pc.struct_field(column, index)) for index in range(kind.num_fields)]
        total = None
        for part in parts:
            if part is not None:
                total = part if total is None else pc.add(total, part)
        return total
    if pa.types.is_list(kind):
        return _list_bytes(column)
    if pa.types.is_dictionary(kind):
        lengths = _byte_lengths(column.dictionary)
        return None if lengths is None else pc.fill_null(lengths.take(column.indices), 0)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_binary(kind):
        return pc.fill_null(pc.cast(pc.binary_length(column), pa.int64()), 0)
    return None


def _list_bytes(column: Any) -> Any:
    """The same of lists: what all their elements hold together, and 8 bytes for each."""
    values = column.flatten()
    inside = _byte_lengths(values)
    sizes = np.full(len(values), 8, dtype=np.int64)
    if inside is not None:
        sizes += inside.to_numpy(zero_copy_only=False)
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
    total = np.concatenate([[0], np.cumsum(sizes)])[np.concatenate([[0], ends]).astype(np.int64)]
    return pa.array(np.diff(total), type=pa.int64())


def _holds_answers(kind: Any) -> bool:
    """Whether a column holds answers with their places: two lists, or a list of pairs."""
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return _are_answers({child.name: child.type for child in kind.value_type})
    if not pa.types.is_struct(kind) or not all(pa.types.is_list(child.type) for child in kind):
        return False
    return _are_answers({child.name: child.type.value_type for child in kind})


def _are_answers(parts: dict[str, Any]) -> bool:
    start = parts.get("answer_start") or parts.get("start")
    text = parts.get("text")
    return (
        len(parts) == 2
        and (start is not None and pa.types.is_integer(start))
        and (text is not None and (pa.types.is_string(text) or pa.types.is_large_string(text)))
    )


def _long_lists(metadata: Any) -> set[str]:
    """Columns whose lists hold more values than answers ever have, by what the file says of itself."""
    many: set[str] = set()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for leaf in map(group.column, range(metadata.num_columns)):
            if leaf.num_values > _MOST_ANSWERS_A_ROW * group.num_rows:
                many.add(leaf.path_in_schema.split(".")[0])
    return many


def _is_bytes(leaf: Any) -> bool:
    return bool(leaf.physical_type == "BYTE_ARRAY")


def _holds_lists(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_lists(child.type) for child in kind)
    return bool(pa.types.is_nested(kind))


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
