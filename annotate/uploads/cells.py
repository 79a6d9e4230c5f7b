"""Single values: what may be stored, and nested values as JSON text."""

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from annotate.uploads.errors import RowProblem

_LARGEST_WHOLE_NUMBER = 2**63


def check_text(text: str, column: str, max_chars: int) -> str:
    """`text` unchanged, if a database and JSON can hold it. Raises RowProblem otherwise."""
    if len(text) > max_chars:
        raise RowProblem(
            f"Column “{column}” holds {len(text):,} characters; at most {max_chars:,} are accepted."
        )
    if "\0" in text:
        raise RowProblem(f"Column “{column}” holds a NUL character.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RowProblem(f"Column “{column}” holds half a character (a lone surrogate).") from None
    return text


def flat_value(value: Any, column: str, max_chars: int) -> str | int | float | bool | None:
    """`value` as a text, number, boolean or None that JSON can hold; lists and objects become JSON text.

    Not-a-number becomes None; infinities, and whole numbers beyond 64 bits, become text so that nothing is
    rounded. Raises RowProblem when it is too long, too deeply nested or not storable.
    """
    match value:
        case None | bool():
            return value
        case str():
            return check_text(value, column, max_chars)
        case int():
            return value if abs(value) < _LARGEST_WHOLE_NUMBER else _digits(value, column)
        case float() | Decimal():
            return _finite(float(value))
        case datetime() | date() | time():
            return value.isoformat()
    if isinstance(value, Mapping | list | tuple):
        return check_text(_as_json(value, column), column, max_chars)
    return check_text(str(value), column, max_chars)


def _finite(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _digits(value: int, column: str) -> str:
    try:
        return str(value)
    except ValueError:
        raise RowProblem(f"Column “{column}” holds a whole number of too many digits.") from None


def _as_json(value: Any, column: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        raise RowProblem(f"Column “{column}” is nested too deeply.") from None
    except (TypeError, ValueError):
        raise RowProblem(f"Column “{column}” holds a nested value that cannot be written as JSON.") from None
