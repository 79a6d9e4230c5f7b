"""Whole columns of numbers out of the database at once: a million rows one by one take several times as long.

A column comes as one text, with a blank between its numbers: about 8 bytes each, besides the 8 that are kept of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db.models import Aggregate, F, QuerySet, TextField

_MOST_VALUES = 1_000


class _Written(Aggregate):
    """A column of whole numbers, never null, as one text. Those of one query have their rows in the same order."""

    output_field = TextField()
    template = "%(function)s(CAST(%(expressions)s AS TEXT), ' ')"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, function="GROUP_CONCAT")

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, function="STRING_AGG")


def columns_by(rows: QuerySet[Any], value: str, *columns: str) -> np.ndarray:
    """Whole numbers of shape (rows, 1 + columns), in no order; none of `columns` has a null.

    The first column is `value`: the id of one of a few other rows, such as a label; 0 for null.

    Quick where an index has `value` and then `columns`: the rows themselves are then not read.
    """
    grouped = rows.order_by().values_list(value).annotate(**_written(columns))
    parts = [np.insert(_numbers(texts), 0, each or 0, axis=1) for each, *texts in grouped]
    return np.concatenate(parts) if parts else np.empty((0, len(columns) + 1), dtype=np.int64)


def by_few_values(rows: QuerySet[Any], value: str, column: str) -> list[tuple[Any, np.ndarray]] | None:
    """By each value that an index has in order: the whole numbers of a column. None where there are many values."""
    grouped = rows.order_by(value).values_list(value).annotate(**_written([column]))
    found = [(each, _numbers(texts)[:, 0]) for each, *texts in grouped[: _MOST_VALUES + 1]]
    return found if len(found) <= _MOST_VALUES else None


def looked_up(wanted: np.ndarray, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each wanted id, 0 for those that are not among `ids`, which are in any order, each once."""
    if not len(ids):
        return np.zeros(len(wanted), dtype=np.int64)
    # A stable sort takes the ids as what they are: a few parts, each in order already.
    order = np.argsort(ids, kind="stable")
    ids, values = ids[order], values[order]
    at = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
    return np.where(ids[at] == wanted, values[at], 0)


def _written(columns: Sequence[str]) -> dict[str, _Written]:
    return {f"written_{number}": _Written(F(column)) for number, column in enumerate(columns)}


def _numbers(texts: Sequence[str | None]) -> np.ndarray:
    return np.column_stack([np.fromstring(text or "", dtype=np.int64, sep=" ") for text in texts])
