"""The work that turns the rows of an uploaded file into comparisons, and the rows of it that could not be any."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import F

from annotate.full_disk import pausing_on_full_disk
from annotate.import_rows import limits
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.reading import open_upload
from annotate.uploads.rows import ImageCell, Reader, Row, RowError
from jobs import shutdown
from jobs.leases import Lease, Progress
from jobs.work import CannotGoOn, Work
from route.comparison_rows import ComparisonMapping, ComparisonRecord, comparison_of
from route.models import Comparison, ComparisonSet

SHOWN_PROBLEMS = 100
NOTHING_KEPT = "Nothing of it was kept."
_ROWS_AT_ONCE = 10  # for each result that is written together


@dataclass(frozen=True, slots=True)
class ReadComparison:
    """A row as a comparison, or why it is rejected; `row` is None where it cannot even be read."""

    number: int
    record: ComparisonRecord | None = None
    problem: str = ""
    row: Row | None = None


def open_comparisons(comparisons: ComparisonSet) -> Reader:
    """The file's reader. Raises UploadError."""
    return open_upload(
        Path(comparisons.file.path),
        comparisons.filename,
        limits=limits(),
        encoding=comparisons.encoding or None,
    )


def read_comparisons(
    reader: Reader, mapping: ComparisonMapping, *, start: int = 0
) -> Iterator[ReadComparison]:
    """The file's rows after the first `start`, good and bad. Raises UploadError."""
    for row in reader.rows(start=start):
        if isinstance(row, RowError):
            yield ReadComparison(row.number, problem=row.message)
        else:
            yield read_comparison(row, mapping)


def read_comparison(row: Row, mapping: ComparisonMapping) -> ReadComparison:
    """The row as a comparison, or why it cannot be one."""
    try:
        return ReadComparison(row.number, record=comparison_of(row, mapping), row=row)
    except RowProblem as problem:
        return ReadComparison(row.number, problem=problem.sentence, row=row)


class ComparisonImport(Work):
    """Rows in small transactions, each with the place where a killed worker goes on. A file that cannot be read to its
    end leaves nothing behind.
    """

    kind = "comparison_import"

    def run(self, lease: Lease) -> bool:
        comparisons = ComparisonSet.objects.get(job=lease.job)
        with pausing_on_full_disk():
            try:
                return _read(lease, comparisons)
            except UploadError as error:
                sentence = error.sentence
            except FileNotFoundError:
                sentence = f"The file of “{comparisons.filename}” is gone. Upload it again."
            lease.write(lambda: _forget(comparisons))
            raise CannotGoOn(f"{sentence} {NOTHING_KEPT}", pause=False)


def _read(lease: Lease, comparisons: ComparisonSet) -> bool:
    mapping = ComparisonMapping(**comparisons.mapping)
    with open_comparisons(comparisons) as reader:
        rows = read_comparisons(reader, mapping, start=lease.chunk.cursor)
        while batch := list(islice(rows, settings.WRITE_BATCH * _ROWS_AT_ONCE)):
            lease.write(lambda batch=batch: _write(comparisons, batch), cursor=batch[-1].number)  # type: ignore[misc]
            if not lease.may_go_on() or shutdown.requested():
                return False
    return True


def _write(comparisons: ComparisonSet, batch: Sequence[ReadComparison]) -> Progress:
    good = [
        Comparison(comparison_set=comparisons, position=row.number, **asdict(row.record))
        for row in batch
        if row.record is not None
    ]
    bad = [{"row": row.number, "message": row.problem} for row in batch if row.record is None]
    Comparison.objects.bulk_create(good)
    comparisons.refresh_from_db(fields=["problems"])
    ComparisonSet.objects.filter(pk=comparisons.pk).update(
        imported=F("imported") + len(good),
        rejected=F("rejected") + len(bad),
        problems=[*comparisons.problems, *bad][:SHOWN_PROBLEMS],
    )
    return Progress(done=len(batch), failed=len(bad))


def _forget(comparisons: ComparisonSet) -> Progress:
    comparisons.comparisons.all().delete()
    ComparisonSet.objects.filter(pk=comparisons.pk).update(imported=0)
    return Progress()


def rejected_comparisons(comparisons: ComparisonSet) -> tuple[list[str], Iterator[list[Any]]]:
    """(column names, rows): the number of each rejected row, why, and its own columns, in order of the file.

    They are found by reading the file again. Raises UploadError where it cannot be read.
    """
    with open_comparisons(comparisons) as reader:
        own = reader.columns
    ours = [f"rejected_{name}" if name in own else name for name in ("row", "message")]
    return [*ours, *own], _rejected_rows(comparisons, own)


def _rejected_rows(comparisons: ComparisonSet, columns: Sequence[str]) -> Iterator[list[Any]]:
    mapping = ComparisonMapping(**comparisons.mapping)
    with suppress(UploadError), open_comparisons(comparisons) as reader:
        for read in read_comparisons(reader, mapping):
            if read.record is None:
                values = read.row.values if read.row is not None else {}
                yield [read.number, read.problem, *(_cell(values.get(column)) for column in columns)]


def _cell(value: Any) -> Any:
    return value.name if isinstance(value, ImageCell) else value
