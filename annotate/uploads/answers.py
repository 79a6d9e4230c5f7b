"""Gold answers that are spans of a text, as files give them: words, a list of answers, or SQuAD's two lists."""

import json
import re
from collections.abc import Mapping
from typing import Any

from annotate.spans import locate
from annotate.uploads.errors import RowProblem

MOST_ANSWERS = 1000
_SHOWN = 80  # characters of an answer in a sentence
_STARTS = ("start", "answer_start")
_WHOLE = re.compile(r"[0-9]{1,12}(?:\.0*)?")  # programs that know no empty whole numbers write 1 as 1.0
# In JSON within a cell they are spelled out, and no look at the cell finds them.
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")


def gold_answers(value: Any, text: str, start: Any = None) -> list[dict[str, Any]] | None:
    """What is right by a cell, each `{text, start}` as it stands in the text; empty for "no answer", None for unknown.

    The cell holds the words of an answer, a list of words, a list of `{text, start}`, or `{"text": […],
    "answer_start": […]}`; the latter three may be JSON text. A blank cell and empty lists say "no answer", an empty
    value (null) nothing. `start`, a number or blank, is the place of the cell's only answer if it has none there.
    An answer that does not stand where it is said to stand is looked for in the text, and the nearest place is taken.
    Raises RowProblem, with a sentence that goes on after "Row 3: ", where it is not found, and where a place is no
    whole number.
    """
    if value is None:
        return None
    given = _given(value)
    if len(given) > MOST_ANSWERS:
        raise RowProblem(f"it has {len(given):,} answers; at most {MOST_ANSWERS:,} are accepted.")
    beside = _start_beside(start)
    if len(given) == 1 and given[0][1] is None:
        given = [(given[0][0], beside)]
    found = [_placed(words, place, text) for words, place in given]
    return [dict(answer) for answer in dict.fromkeys(tuple(each.items()) for each in found)]


def with_no_answer(answers: list[dict[str, Any]] | None, value: Any) -> list[dict[str, Any]] | None:
    """`gold_answers` of a row that says in a column of its own whether its text holds no answer: true, false or blank.

    Only true makes "no answer" of a row without answers; otherwise nothing is known of it. Raises RowProblem, with a
    sentence that goes on after "Row 3: ", for another value, and where true stands beside answers.
    """
    said = "" if value is None else str(value).strip().lower()
    if said not in _TRUE and said not in _FALSE:
        raise RowProblem(f"whether it has no answer is said by true or false, not by “{said[:_SHOWN]}”.")
    if said in _TRUE and answers:
        raise RowProblem("it has an answer, and is said to have none.")
    return [] if said in _TRUE else answers or None


def _given(value: Any) -> list[tuple[str, int | None]]:
    """(words, start) of each answer of a cell."""
    if isinstance(value, str):
        words = value.strip()
        if not words:
            return []
        nested = _nested(words)
        # Answers may begin with a bracket themselves.
        return [(words, None)] if nested is None else _of_nested(nested)
    return _of_nested(value)


def _nested(words: str) -> Any:
    if words[0] not in "[{":
        return None
    try:
        return json.loads(words)
    except (ValueError, RecursionError):
        return None


def _of_nested(value: Any) -> list[tuple[str, int | None]]:
    if isinstance(value, list):
        return [_answer(each) for each in value]
    if not isinstance(value, Mapping):
        return [(_words(value), None)]
    words, starts = value.get("text"), next((value[name] for name in _STARTS if name in value), None)
    if not isinstance(words, list):
        return [_answer(value)]
    starts = [None] * len(words) if starts is None else starts
    if not isinstance(starts, list) or len(starts) != len(words):
        raise RowProblem(f"its answers have {len(words):,} texts, and not as many places.")
    return [(_words(each), _start(start)) for each, start in zip(words, starts, strict=True)]


def _answer(value: Any) -> tuple[str, int | None]:
    if not isinstance(value, Mapping):
        return _words(value), None
    if "text" not in value:
        raise RowProblem("an answer of it has no “text”.")
    start = next((value[name] for name in _STARTS if name in value), None)
    return _words(value["text"]), _start(start)


def _words(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowProblem("an answer of it is no text.")
    words = str(value)
    if not words.strip():
        raise RowProblem("one of its answers is blank; where there is no answer, leave the list empty.")
    if _NOT_STORABLE.search(words):
        raise RowProblem("one of its answers holds a NUL character or half a character (a lone surrogate).")
    return words


def _start(value: Any) -> int | None:
    if value is None:
        return None
    # JSON as Python reads it has infinities and NaN, which leave no 0 behind either.
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise RowProblem("the place of an answer must be a whole number.")
    return int(value)


def _start_beside(value: Any) -> int | None:
    """The place that a column of its own says; text files have numbers as text."""
    if not isinstance(value, str):
        return _start(value)
    said = value.strip()
    if not said:
        return None
    if not _WHOLE.fullmatch(said):
        raise RowProblem(f"the place of an answer must be a whole number, not “{said[:_SHOWN]}”.")
    return int(said.partition(".")[0])


def _placed(words: str, start: int | None, text: str) -> dict[str, Any]:
    if start is not None and start >= 0 and text[start : start + len(words)] == words:
        return {"text": words, "start": start}
    places = locate(words, text)
    if not places:
        shown = words if len(words) <= _SHOWN else words[:_SHOWN] + "…"
        raise RowProblem(f"its answer “{shown}” does not stand in its text.")
    wanted = 0 if start is None else start
    first, last = min(places, key=lambda place: abs(place[0] - wanted))
    return {"text": text[first:last], "start": first}
