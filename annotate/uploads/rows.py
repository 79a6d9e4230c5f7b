"""What every reader gives: rows, row errors, and the reader's own interface."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self

from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.limits import UploadLimits

Kind = Literal["csv", "tsv", "json", "jsonl", "txt", "parquet", "images"]


@dataclass(frozen=True, slots=True)
class ImageCell:
    """An image that lies inside a table's cell, undecoded. `name` is its file name, or ""."""

    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One data row. `number` counts records from 1, bad ones included.

    Values are str, int, float, bool, None or ImageCell; nested values are already JSON text.
    """

    number: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowError:
    """A record that cannot be used, in the place of its row. `message` is a sentence for the user."""

    number: int
    message: str


class Reader(ABC):
    """Reads one uploaded file. The constructor looks at its beginning; `rows` streams the rest.

    Use it as a context manager, or call `close`: an archive stays open between calls.
    """

    kind: Kind
    columns: list[str]
    notes: list[str]
    total_hint: int | None
    limits: UploadLimits
    has_header: bool = True  # False where the first line of a table is a row

    @abstractmethod
    def _records(self, start: int) -> Iterator[Row | RowError]:
        """Records `start + 1`, `start + 2`, … in the file's order, always with the same numbers."""

    def rows(self, start: int = 0) -> Iterator[Row | RowError]:
        """Stream the records after the first `start` ones, good or bad, so that an import can go on where it
        stopped.

        Raises UploadError, possibly after some rows, when the file cannot be read further.
        """
        for record in self._records(start):
            if record.number > self.limits.max_rows:
                raise UploadError(
                    f"The file has more than {self.limits.max_rows:,} rows, which is the limit. Split"
                    " it into several uploads."
                )
            yield record

    def preview(self, n: int = 20) -> list[Row]:
        """The first `n` good rows, looked for among the first `10 n` records."""
        good = (record for record in islice(self.rows(), 10 * n) if isinstance(record, Row))
        return list(islice(good, n))

    def open_image(self, name: str) -> bytes:
        """The undecoded bytes of the image that a row calls `name`. Raises RowProblem when there is none."""
        raise RowProblem(
            f"The image “{name}” is not in the upload. To upload images, put them into a zip, with this"
            " table in it as its manifest."
        )

    def close(self) -> None:  # noqa: B027 - most readers keep nothing open between calls
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
