"""Read the error probability out of a criticizer's reply."""

import math
import re

from annotate.parsing import find_bracketed_answer, read_json_object, structured_reasoning, unbracket

_PROBABILITY = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


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


def _is_probability(group: str) -> bool:
    return _PROBABILITY.fullmatch(group) is not None and math.isfinite(float(group)) and float(group) <= 1
