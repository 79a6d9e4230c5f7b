"""Writing export rows as CSV, JSON Lines or Parquet, and files into an archive, as streams."""

import csv
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.csv_response import without_formula

# A row group of Parquet is held in memory: this many rows, or fewer of long texts.
_ROW_GROUP = 20_000
_ROW_GROUP_CHARACTERS = 8_000_000


class ExportWriter(ABC):
    """Writes rows to a file. A context manager; the file is whole only after it ended without an error."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = columns

    @abstractmethod
    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def write_header(self) -> None:  # noqa: B027 (only CSV has one)
        """The names of the columns, where the format writes them before the rows."""

    def add_metadata(self, texts: Mapping[str, str]) -> None:  # noqa: B027 (most formats have no place for any)
        """Keep texts about the file in it, where its format has a place for them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CsvWriter(ExportWriter):
    """CSV in UTF-8. With `escape_formulas`, texts that a spreadsheet would run get an apostrophe in front."""

    def __init__(self, path: Path, columns: Sequence[str], *, escape_formulas: bool) -> None:
        super().__init__(path, columns)
        self._escape = escape_formulas
        self._file = path.open("w", encoding="utf-8", newline="")
        # With "\n" alone at the end of rows, a "\r" inside a text would not be quoted and would break its row.
        self._writer = csv.writer(self._file, lineterminator="\r\n")

    def write_header(self) -> None:
        self._writer.writerow([self._cell(column) for column in self.columns])

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        columns, cell = self.columns, self._cell
        plain = (int, float, type(None))
        self._writer.writerows(
            [value if type(value := row.get(column)) in plain else cell(value) for column in columns]
            for row in rows
        )

    def _cell(self, value: Any) -> Any:
        if type(value) is bool:
            return "true" if value else "false"
        return without_formula(value) if self._escape and isinstance(value, str) else value

    def close(self) -> None:
        self._file.close()


class JsonLinesWriter(ExportWriter):
    """One JSON object a line, texts exactly as they are."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__(path, columns)
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            values = {column: row.get(column) for column in self.columns}
            self._file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


class ParquetWriter(ExportWriter):
    """Parquet with a fixed schema: our columns typed, the items' own as text, whatever their values were."""

    def __init__(self, path: Path, columns: Sequence[str], types: Mapping[str, pa.DataType]) -> None:
        super().__init__(path, columns)
        self._schema = pa.schema([(column, types.get(column, pa.string())) for column in columns])
        # Arrow's own copy of the schema would hide what `add_metadata` adds; these types need none.
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", store_schema=False)
        self._rows: list[dict[str, Any]] = []
        self._characters = 0

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            values = {column: self._value(column, row.get(column)) for column in self.columns}
            self._rows.append(values)
            self._characters += sum(len(value) for value in values.values() if isinstance(value, str))
            if len(self._rows) >= _ROW_GROUP or self._characters >= _ROW_GROUP_CHARACTERS:
                self._flush()

    def write_table(self, table: pa.Table) -> None:
        """Rows of this schema, which become one row group."""
        self._writer.write_table(table)

    def _value(self, column: str, value: Any) -> Any:
        if value is None or isinstance(value, str) or not pa.types.is_string(self._schema.field(column).type):
            return value
        return json.dumps(value)

    def add_metadata(self, texts: Mapping[str, str]) -> None:
        self._flush()
        self._writer.add_key_value_metadata(dict(texts))

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []
            self._characters = 0

    def close(self) -> None:
        self._flush()
        self._writer.close()


def join_parquet(parts: Iterable[Path], writer: ParquetWriter, *, goes_on: Callable[[], bool]) -> bool:
    """Copy the row groups of files with the writer's schema; False when it was stopped before the end."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group))
                if not goes_on():
                    return False
    return True


# Already compressed: trying again costs time and gains nothing.
_STORED_AS_THEY_ARE = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".parquet")
_PIECE = 1 << 20


class Archive:
    """A zip archive that files are copied into in pieces, so that none is ever held whole. A context manager.

    Of each file only its name and place stay in memory, some hundred bytes, until the directory at the end is written.
    `goes_on` is asked after each piece; where it says no the rest is left out and `add` returns False.
    """

    def __init__(self, path: Path, *, goes_on: Callable[[], bool]) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self._goes_on = goes_on

    def add(self, name: str, file: IO[bytes]) -> bool:
        with self._zip.open(self._entry(name), "w", force_zip64=True) as entry:
            while piece := file.read(_PIECE):
                entry.write(piece)
                if not self._goes_on():
                    return False
        return True

    def add_text(self, name: str, text: str) -> None:
        self._zip.writestr(self._entry(name), text.encode())

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(name)
        is_stored = name.lower().endswith(_STORED_AS_THEY_ARE)
        entry.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16  # a file that everybody may read
        return entry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
