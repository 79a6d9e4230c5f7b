"""Records of delimiter-separated text, with recovery from broken quotes."""

import csv
import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

from annotate.uploads.errors import UploadError
from annotate.uploads.limits import UploadLimits

DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

_SNIFFED_RECORDS = 50
_CONSISTENT_SHARE = 0.8
# Lines are parsed again after a broken quote. This bounds the work that a file full of them can cause.
_MAX_REREAD_CHARS = 50_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of one record; `line` is the line it begins on, from 1. `problem` replaces the cells of a
    broken one.
    """

    line: int
    cells: list[str]
    problem: str = ""


class _RecordTooLong(Exception):
    pass


class _LineFeed:
    """Hands lines to the csv parser, and can take back those that a broken record swallowed."""

    def __init__(self, stream: TextIO, max_chars: int) -> None:
        self.line = 0
        self._stream = stream
        self._max_chars = max_chars
        self._ahead: deque[str] = deque()
        self._record: list[str] = []
        self._chars = 0
        self._reread_chars = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else self._stream.readline(self._max_chars + 1)
        if not line:
            raise StopIteration
        self.line += 1
        self._record.append(line)
        self._chars += len(line)
        if self._chars > self._max_chars:
            raise _RecordTooLong
        return line

    def begin_record(self) -> None:
        self._record.clear()
        self._chars = 0

    def keep_only_first_line(self) -> int:
        """Give back all lines of this record but its first, so that one bad quote costs one line.

        Returns how many lines were given back.
        """
        first, *rest = self._record
        self._ahead.extendleft(reversed(rest))
        self.line -= len(rest)
        self._reread_chars += self._chars - len(first)
        if self._reread_chars > _MAX_REREAD_CHARS:
            raise UploadError(
                f"Too many quotes are opened and never closed; the last one is on line {self.line:,}."
                ' Write a quote inside a cell as two quotes ("") within a quoted cell.'
            )
        if not rest:
            self._skip_rest_of_line(first)
        return len(rest)

    def _skip_rest_of_line(self, line: str) -> None:
        while line and line[-1] not in "\r\n":
            line = self._stream.readline(self._max_chars)


def read_records(stream: TextIO, delimiter: str, limits: UploadLimits) -> Iterator[Record]:
    """Stream the records of `stream` (opened with newline=""), blank lines left out.

    A record with a broken quote costs its first line only: reading goes on at the next line.
    Raises UploadError when a file has so many of them that it cannot be read in reasonable time.
    """
    # The csv module's own limit is one for the whole process; ours, applied by _LineFeed, is lower and per
    # record.
    csv.field_size_limit(max(csv.field_size_limit(), limits.max_row_chars + 1))
    feed = _LineFeed(stream, limits.max_row_chars)
    parser = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin_record()
        first_line = feed.line + 1
        try:
            cells = next(parser)
        except StopIteration:
            return
        except _RecordTooLong:
            returned = feed.keep_only_first_line()
            yield Record(first_line, [], _too_long(returned, limits.max_row_chars))
        except csv.Error as error:
            returned = feed.keep_only_first_line()
            yield Record(first_line, [], _broken_quote(str(error), returned))
        else:
            if cells:
                yield Record(first_line, cells)


def _too_long(lines_after: int, max_chars: int) -> str:
    if lines_after:
        return f'a quote (") is opened on this line and not closed within {max_chars:,} characters.'
    return f"the line is longer than {max_chars:,} characters."


def _broken_quote(parser_message: str, lines_after: int) -> str:
    if "unexpected end" in parser_message:
        return 'a quote (") is opened on this line and never closed.'
    if lines_after:
        return 'a quote (") is opened on this line and not closed properly.'
    return 'a quoted cell goes on after its closing quote; write a quote inside a cell as two quotes ("").'


def is_table(sample: str, *, is_whole: bool, limits: UploadLimits) -> bool:
    """Whether some delimiter splits a text that begins with `sample` into a table."""
    shares = (_agreement(sample, delimiter, is_whole, limits) for delimiter in DELIMITER_NAMES)
    return any(share >= _CONSISTENT_SHARE for share in shares)


def choose_delimiter(sample: str, *, is_whole: bool, limits: UploadLimits) -> str:
    """The delimiter of a text that begins with `sample`: a comma, unless another one gives clearly a better
    table.

    A delimiter counts only when it splits the header and when at least 80% of the sampled records agree with
    the header.
    """
    best, best_share = ",", 0.0
    for delimiter in DELIMITER_NAMES:
        share = _agreement(sample, delimiter, is_whole, limits)
        if share >= _CONSISTENT_SHARE and share > best_share:
            best, best_share = delimiter, share
    return best


def _agreement(sample: str, delimiter: str, is_whole: bool, limits: UploadLimits) -> float:
    """Share of the sampled data records that have as many cells as the header, 0 when the header is not
    split.
    """
    records = list(
        islice(read_records(io.StringIO(sample, newline=""), delimiter, limits), _SNIFFED_RECORDS + 1)
    )
    if not is_whole and 2 < len(records) <= _SNIFFED_RECORDS:
        records.pop()  # the sample may end within this record
    if not records or len(records[0].cells) < 2:
        return 0.0
    width = len(records[0].cells)
    same = sum(len(record.cells) == width for record in records)
    return same / len(records)
