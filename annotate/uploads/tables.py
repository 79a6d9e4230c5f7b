"""Tables as text: CSV, TSV, a JSON list, JSON Lines, and plain lines."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, TextIO

from annotate.uploads.cells import check_text, flat_value
from annotate.uploads.decoding import TextSource
from annotate.uploads.delimited import DELIMITER_NAMES, Record, choose_delimiter, read_records
from annotate.uploads.errors import NotAHeader, RowProblem, UploadError
from annotate.uploads.json_text import iterate_array, kind_of, parse_object
from annotate.uploads.limits import UploadLimits
from annotate.uploads.rows import Reader, Row, RowError

MAX_COLUMN_NAME_CHARS = 200
_ROWS_THAT_NAME_COLUMNS = 100


class DelimitedReader(Reader):
    """CSV and TSV. The first record is the header, where there is one; a column without a name is "column N"."""

    def __init__(
        self, text: TextSource, kind: Literal["csv", "tsv"], limits: UploadLimits, *, has_header: bool = True
    ) -> None:
        self.kind = kind
        self.limits = limits
        self.notes = []
        self.has_header = has_header
        self._text = text
        self._delimiter = "\t"
        if kind == "csv":
            self._delimiter = choose_delimiter(text.sample, is_whole=text.sample_is_whole, limits=limits)
            if self._delimiter != ",":
                self.notes.append(f"Columns are separated by {DELIMITER_NAMES[self._delimiter]}.")
        self.columns = self._read_header()
        if next(self._records(0), None) is None:
            raise UploadError(f"“{text.source.name}” has a header but no rows below it.")
        self.total_hint = _total_hint(text, self._records)

    def _read_header(self) -> list[str]:
        with self._text.open() as stream:
            header = next(read_records(stream, self._delimiter, self.limits), None)
        if header is None:
            raise UploadError(f"“{self._text.source.name}” is empty.")
        if header.problem:
            raise UploadError(f"The header cannot be read. Line {header.line:,}: {header.problem}")
        return self._column_names(header.cells)

    def _column_names(self, cells: list[str]) -> list[str]:
        if not self.has_header:
            _check_count(len(cells), self.limits)
            return [f"column {position}" for position in range(1, len(cells) + 1)]
        names = [cell.strip() for cell in cells]
        if not any(names):
            raise UploadError("The first line must name the columns, but all its cells are blank.")
        check_column_names(names, self.limits)
        for position, name in enumerate(names, start=1):
            if not name:
                names[position - 1] = f"column {position}"
                self.notes.append(
                    f"Column {position} has no name in the header; it is called “column {position}” here."
                )
        _refuse_duplicates(names)
        return names

    def _records(self, start: int) -> Iterator[Row | RowError]:
        with self._text.open() as stream:
            records = read_records(stream, self._delimiter, self.limits)
            first = start + 1 if self.has_header else start
            for number, record in enumerate(islice(records, first, None), start=start + 1):
                yield self._row(number, record)

    def _row(self, number: int, record: Record) -> Row | RowError:
        if record.problem:
            return RowError(number, f"Line {record.line:,}: {record.problem}")
        if len(record.cells) != len(self.columns):
            return RowError(
                number,
                f"Line {record.line:,} has {_count(len(record.cells), 'cell')}, but the"
                f" {'header names' if self.has_header else 'first line has'}"
                f" {_count(len(self.columns), 'column')}.",
            )
        values: dict[str, Any] = dict(zip(self.columns, record.cells, strict=True))
        try:
            for column, cell in values.items():
                check_text(cell, column, self.limits.max_cell_chars)
        except RowProblem as problem:
            return RowError(number, f"Line {record.line:,}: {problem.sentence}")
        return Row(number, values)


class JsonLinesReader(Reader):
    """JSON Lines: one object a line; blank lines are left out and not counted."""

    kind = "jsonl"

    def __init__(self, text: TextSource, limits: UploadLimits) -> None:
        self.limits = limits
        self.notes = []
        self.columns = []
        self._text = text
        self.columns = _columns_of_objects(self._records(0), text.source.name)
        self.total_hint = _total_hint(text, self._records)

    def _records(self, start: int) -> Iterator[Row | RowError]:
        with self._text.open() as stream:
            lines = _filled_lines(stream, self.limits.max_row_chars)
            for number, (line_number, line) in enumerate(islice(lines, start, None), start=start + 1):
                yield self._row(number, line_number, line)

    def _row(self, number: int, line_number: int, line: str) -> Row | RowError:
        try:
            if len(line) > self.limits.max_row_chars:
                raise RowProblem(f"the line is longer than {self.limits.max_row_chars:,} characters.")
            return Row(number, flat_values(parse_object(line), self.columns, self.limits))
        except RowProblem as problem:
            return RowError(number, f"Line {line_number:,}: {problem.sentence}")


class LinesReader(Reader):
    """Plain text: each line is a row of one column, "text"; blank lines are left out and not counted."""

    kind = "txt"

    def __init__(self, text: TextSource, limits: UploadLimits) -> None:
        self.limits = limits
        self.columns = ["text"]
        self.notes = ["Each line of the file is an item."]
        self._text = text
        self.total_hint = _total_hint(text, self._records)

    def _records(self, start: int) -> Iterator[Row | RowError]:
        with self._text.open() as stream:
            lines = _filled_lines(stream, self.limits.max_row_chars)
            for number, (line_number, line) in enumerate(islice(lines, start, None), start=start + 1):
                yield self._row(number, line_number, line.strip())

    def _row(self, number: int, line_number: int, line: str) -> Row | RowError:
        try:
            return Row(number, {"text": check_text(line, "text", self.limits.max_cell_chars)})
        except RowProblem as problem:
            return RowError(number, f"Line {line_number:,}: {problem.sentence}")


class JsonArrayReader(Reader):
    """A JSON list of objects, or an object whose "data" is such a list. Streamed: a list of any length is
    fine.
    """

    kind = "json"

    def __init__(self, text: TextSource, limits: UploadLimits) -> None:
        self.limits = limits
        self.notes = []
        self.columns = []
        self._text = text
        self.columns = _columns_of_objects(self._records(0), text.source.name)
        self.total_hint = sum(1 for _ in self._records(0)) if text.sample_is_whole else None

    def _records(self, start: int) -> Iterator[Row | RowError]:
        with self._text.open() as stream:
            values = iterate_array(stream, self.limits)
            for number, value in enumerate(islice(values, start, None), start=start + 1):
                yield self._row(number, value)

    def _row(self, number: int, value: Any) -> Row | RowError:
        if not isinstance(value, dict):
            return RowError(
                number, f"Item {number:,}: expected an object with named values, found {kind_of(value)}."
            )
        try:
            return Row(number, flat_values(value, self.columns, self.limits))
        except RowProblem as problem:
            return RowError(number, f"Item {number:,}: {problem.sentence}")


def flat_values(record: dict[str, Any], columns: list[str], limits: UploadLimits) -> dict[str, Any]:
    """The record's values by column, flat, with None for columns that it lacks. Raises RowProblem."""
    if len(record) > limits.max_columns:
        raise RowProblem(f"{len(record):,} values; at most {limits.max_columns:,} are accepted.")
    values: dict[str, Any] = dict.fromkeys(columns)
    for name, value in record.items():
        column = check_text(name, name[:40], MAX_COLUMN_NAME_CHARS)
        values[column] = flat_value(value, column, limits.max_cell_chars)
    return values


def check_column_names(names: list[str], limits: UploadLimits) -> None:
    """Raise UploadError for too many columns, a name too long or not storable, and a name used twice."""
    _check_count(len(names), limits)
    for name in names:
        try:
            check_text(name, name[:40], MAX_COLUMN_NAME_CHARS)
        except RowProblem:
            raise NotAHeader(
                f"The column name that begins “{name[:40]}” is longer than {MAX_COLUMN_NAME_CHARS}"
                " characters or holds"
                " characters that cannot be stored. Is the first line a header?"
            ) from None
    _refuse_duplicates([name for name in names if name])


def _check_count(columns: int, limits: UploadLimits) -> None:
    if columns > limits.max_columns:
        raise UploadError(f"The file has {columns:,} columns; at most {limits.max_columns:,} are accepted.")


def _refuse_duplicates(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UploadError(
                f"Two columns are called “{name}”. Rename one of them, so that each name is used once."
            )
        seen.add(name)


def _columns_of_objects(records: Iterator[Row | RowError], name: str) -> list[str]:
    """The names used by the first objects, in order of appearance. Raises UploadError when there is no
    object.
    """
    columns: dict[str, None] = {}
    first_error = ""
    for record in islice(records, _ROWS_THAT_NAME_COLUMNS):
        if isinstance(record, Row):
            columns.update(dict.fromkeys(record.values))
        else:
            first_error = first_error or record.message
    if first_error and not columns:
        raise UploadError(f"“{name}” holds no usable rows. {first_error}")
    if not columns:
        raise UploadError(f"“{name}” holds no rows.")
    return list(columns)


def _filled_lines(stream: TextIO, max_chars: int) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers. One that is too long comes cut, one character above
    `max_chars`.
    """
    line_number = 0
    while line := stream.readline(max_chars + 1):
        line_number += 1
        rest = line
        while len(rest) > max_chars and rest[-1] not in "\r\n":
            rest = stream.readline(max_chars + 1)
        if line.strip():
            yield line_number, line


def _total_hint(text: TextSource, records: Any) -> int | None:
    """How many rows there are: counted when the sample is the whole file, else estimated from its lines."""
    if text.sample_is_whole:
        return sum(1 for _ in records(0))
    lines = text.sample.count("\n")
    if not lines:
        return None
    bytes_a_line = len(text.sample.encode(text.codec)) / lines
    return max(1, round(text.source.size / bytes_a_line))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
