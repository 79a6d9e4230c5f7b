"""Whether the first record of a table names its columns, or is a row like the others."""

from collections.abc import Sequence

from annotate.uploads.mapping import names_a_part
from annotate.uploads.rows import Row

_LONG_NAME = 60  # characters: longer than anybody calls a column, and shorter than most texts


def looks_like_a_row(columns: Sequence[str], rows: Sequence[Row]) -> bool:
    """Whether names of columns look like the cells of a row: a number, a long text, or what stands below them, too.

    A name that columns usually have settles that it is a header, and so do names that only count from 0 or 1.
    """
    if any(names_a_part(column) for column in columns) or _only_count(columns):
        return False
    return any(_is_number(column) or len(column) > _LONG_NAME for column in columns) or any(
        column == str(row.values.get(column, "")).strip() for column in columns for row in rows
    )


def _only_count(columns: Sequence[str]) -> bool:
    return any(list(columns) == [str(first + place) for place in range(len(columns))] for first in (0, 1))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
