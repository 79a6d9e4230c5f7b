"""JSON objects out of a long text, one at a time.

Python's own parser is used on a sliding window, because streaming parsers were found to crash the process on
very long numbers or to take quadratic time on deep nesting; here both are an error message.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.limits import UploadLimits

_CHUNK = 64 * 1024
_MAX_DIGITS = 19
_END = ""
_WHITE_SPACE = re.compile(r"[ \t\r\n]*")


def _whole_number(digits: str) -> int | str:
    # Longer ones stay text: nothing is rounded, and turning them into numbers takes quadratic time.
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _constant(name: str) -> str | None:
    return None if name == "NaN" else name


_DECODER = json.JSONDecoder(parse_int=_whole_number, parse_constant=_constant)


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that is the whole of `text`. Raises RowProblem when it is anything else."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise RowProblem(f"not valid JSON: {error.msg} at character {error.pos + 1:,}.") from None
    except RecursionError:
        raise RowProblem("the JSON is nested too deeply.") from None
    if not isinstance(value, dict):
        raise RowProblem(f"expected an object with named values, found {kind_of(value)}.")
    return value


def kind_of(value: Any) -> str:
    """What a JSON value is, for a sentence: "a list", "a number", …"""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"


def iterate_array(stream: TextIO, limits: UploadLimits) -> Iterator[Any]:
    """Stream the values of a JSON list, or of the list called "data" in an object.

    At most one value and one chunk are in memory. Raises UploadError, with the line, where the text is not
    such a list.
    """
    window = Window(stream, limits.max_row_chars)
    opening = window.take_symbol()
    if opening == "{":
        _seek_data(window)
    elif opening != "[":
        raise _not_a_list()
    yield from _values(window)
    if opening == "[" and window.symbol() != _END:
        raise window.invalid("there is more text after the end of the list")


def _values(window: "Window") -> Iterator[Any]:
    if window.symbol() == "]":
        window.take_symbol()
        return
    while True:
        yield window.take_value()
        symbol = window.take_symbol()
        if symbol == "]":
            return
        if symbol == _END:
            raise window.invalid("the file ends before the list does")
        if symbol != ",":
            raise window.invalid("a comma or the end of the list was expected")


def _seek_data(window: "Window") -> None:
    """Move behind the opening bracket of the list called "data"."""
    if window.symbol() == "}":
        raise _not_a_list()
    while True:
        key = window.take_value()
        if not isinstance(key, str) or window.take_symbol() != ":":
            raise window.invalid("a name and a colon were expected")
        if key == "data" and window.symbol() == "[":
            window.take_symbol()
            return
        window.take_value()
        symbol = window.take_symbol()
        if symbol == "}":
            raise _not_a_list()
        if symbol != ",":
            raise window.invalid("a comma or the end of the object was expected")


def _not_a_list() -> UploadError:
    return UploadError('The JSON must be a list of objects, or an object whose "data" is such a list.')


def _white_space_end(text: str, start: int) -> int:
    match = _WHITE_SPACE.match(text, start)
    return match.end() if match else start


class Window:
    """The part of a JSON text between what was read and what was used: values and signs are taken one by one.

    At most one value, of `max_chars` characters, and one chunk are in memory. Raises UploadError, with the line.
    """

    def __init__(self, stream: TextIO, max_chars: int) -> None:
        self._stream = stream
        self._max_chars = max_chars
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def symbol(self) -> str:
        """The next character that is not white space, not taken yet; "" at the end."""
        while True:
            self._at = _white_space_end(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return _END
            self._read_more()

    def take_symbol(self) -> str:
        symbol = self.symbol()
        self._at += len(symbol)
        return symbol

    def take_value(self) -> Any:
        if self.symbol() == _END:
            raise self.invalid("the file ends where a value was expected")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self.invalid("it is nested too deeply") from None
            except json.JSONDecodeError as error:
                problem = error.msg
            else:
                # A number at the very end of the window may go on in the next chunk.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
                problem = "the value goes on"
            if self._ended:
                raise self.invalid(problem)
            if len(self._text) - self._at > self._max_chars:
                raise self.invalid(
                    f"a value is broken or longer than {self._max_chars:,} characters ({problem})"
                )
            self._read_more()

    def invalid(self, problem: str) -> UploadError:
        line = self._line + self._text.count("\n", 0, self._at)
        return UploadError(f"The JSON cannot be read after line {line:,}: {problem}.")

    def _read_more(self) -> None:
        # As much again as is waiting: a long value is then parsed a few times, not once for each chunk.
        chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not chunk
        self._line += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + chunk
        self._at = 0
