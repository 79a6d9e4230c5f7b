"""Read the error probability, the level of doubt, or the yes or no, out of a criticizer's reply.

As in `annotate.parsing`, an answer is taken only from where the answer format puts it. A reply that gives none is
unparseable (None): nothing is guessed, and nothing outside its range is clamped.
"""

import json
import math
import re
import unicodedata
from dataclasses import dataclass

from annotate.parsing import find_bracketed_answer, read_json_object, structured_reasoning, unbracket

LEVELS = (1, 2, 3, 4, 5)

_PROBABILITY = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_LEVELS = {str(level) for level in LEVELS}
_VERDICTS = {"yes": True, "no": False}
# ▁, Ġ and Ċ stand for a space and a line's end in the tokens of some servers.
_AROUND_WORDS = " \t\r\n\u00a0.,:;!?*_`'\"“”„‘’«»「」()[]{}<>\\/-–—▁ġċ"


def parse_error_probability(text: str) -> tuple[float | None, str]:
    """Read `[error_probability]` or `[reasoning][error_probability]` (paper, appendix C).

    The answer is the last bracketed group that is a number in [0, 1], by the same rules as
    `annotate.parsing.parse_label`: a percentage, a number outside [0, 1] or a decimal comma at the end of
    the reply makes it unparseable (None), never a nearby probability.

    Returns the probability that the label is wrong, or None, and the reasoning.
    """
    answer = find_bracketed_answer(text, _is_probability)
    if answer is None:
        return None, text.strip()
    return float(answer.group(1)), unbracket(text[: answer.start()])


def parse_structured_criticism(text: str) -> tuple[float | None, str]:
    """Read `{"reasoning": "…", "error_probability": 0.123}`, also with a code fence around it.

    The probability must be a JSON number in [0, 1]; anything else gives None.
    """
    answer = read_json_object(text)
    if answer is None:
        return None, text.strip()
    value = answer.get("error_probability")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None, structured_reasoning(answer)
    return float(value), structured_reasoning(answer)


def parse_level(text: str) -> tuple[int | None, str]:
    """Read `[level]` or `[reasoning][level]`, a whole number from 1 to 5, by the rules of `parse_error_probability`."""
    answer = find_bracketed_answer(text, lambda group: group in _LEVELS)
    if answer is None:
        return None, text.strip()
    return int(answer.group(1)), unbracket(text[: answer.start()])


def parse_structured_level(text: str) -> tuple[int | None, str]:
    """Read `{"reasoning": "…", "level": 4}`, also with a code fence around it. The level is a JSON integer."""
    answer = read_json_object(text)
    if answer is None:
        return None, text.strip()
    value = answer.get("level")
    is_level = isinstance(value, int) and not isinstance(value, bool) and value in LEVELS
    return value if is_level else None, structured_reasoning(answer)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the criticizer says that the label is wrong, and where in its reply it says so.

    `at` is the index in the reply of the first letter of the yes or no; `start` and `end` bound the reasoning as it is
    written there, without brackets or quotes: equal where there is none. `reasoning` is what it reads.
    """

    says_wrong: bool
    at: int
    reasoning: str
    start: int
    end: int


def parse_verdict(text: str) -> Verdict | None:
    """Read `[yes]`, `[no]`, `[reasoning][yes]` or `[reasoning][no]`, or a reply that is the bare word.

    The answer is the last bracketed yes or no, in any case, by the same rules as `annotate.parsing.parse_label`:
    another short group at the end of the reply makes it unparseable (None), and a yes or no that is quoted in the
    reasoning is not taken.
    """
    word = plain_word(text)
    if word in _VERDICTS:
        at = _first_letter(text, 0)
        return Verdict(_VERDICTS[word], at, "", at, at)
    answer = find_bracketed_answer(text, lambda group: plain_word(group) in _VERDICTS, lambda group: True)
    if answer is None:
        return None
    reasoning = unbracket(text[: answer.start()])
    start = text.find(reasoning)
    return Verdict(
        says_wrong=_VERDICTS[plain_word(answer.group(1))],
        at=_first_letter(text, answer.start()),
        reasoning=reasoning,
        start=start,
        end=start + len(reasoning),
    )


def parse_structured_verdict(text: str) -> Verdict | None:
    """Read `{"reasoning": "…", "answer": "yes"}`, also with a code fence around it."""
    answer = read_json_object(text)
    said = plain_word(answer["answer"]) if answer and isinstance(answer.get("answer"), str) else ""
    if answer is None or said not in _VERDICTS:
        return None
    places = _places_of_values(text, text.index("{"))
    at = _first_letter(text, places["answer"][0])
    reasoning = structured_reasoning(answer)
    start, end = places["reasoning"] if reasoning else (at, at)
    return Verdict(_VERDICTS[said], at, reasoning, start + bool(reasoning), end - bool(reasoning))


def plain_word(text: str) -> str:
    """A word without case, spaces, quotes, brackets, punctuation and the marks that tokenizers put for a space."""
    return unicodedata.normalize("NFKC", text).casefold().strip(_AROUND_WORDS)


def _first_letter(text: str, start: int) -> int:
    return next(index for index in range(start, len(text)) if text[index].isalpha())


def _places_of_values(text: str, start: int) -> dict[str, tuple[int, int]]:
    """Start and end of each value of the JSON object that starts at `start`, by key; of equal keys the last counts."""
    decoder = json.JSONDecoder(strict=False)
    places: dict[str, tuple[int, int]] = {}
    at = _after_space(text, start + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        value_start = _after_space(text, _after_space(text, at) + 1)
        _, at = decoder.raw_decode(text, value_start)
        places[key] = (value_start, at)
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return places


def _after_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _is_probability(group: str) -> bool:
    return _PROBABILITY.fullmatch(group) is not None and math.isfinite(float(group)) and float(group) <= 1
