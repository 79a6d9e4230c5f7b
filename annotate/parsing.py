"""Read the label out of an annotator's reply.

An answer is taken only from where the answer format puts it. A reply that gives none is unparseable
(index None): a label is never guessed, and an index outside the label set is never clamped.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

ANSWER_FORMATS = ("bracket", "structured")

# A bracketed group with no bracket inside. An answer is short, so long groups are not looked into.
_SHORT_GROUP = re.compile(r"\[([^\[\]]{1,40})\]")
_INDEX = re.compile(r"[0-9]{1,9}")
_CONFIDENCE = re.compile(r"0?\.[0-9]{1,20}|0\.?|1(?:\.0{0,20})?")
_CODE_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
# What may follow the answer while it still ends the reply: closing marks, Markdown emphasis, spaces.
_AFTER_ANSWER = " \t\r\n.!*`\"'”’»」)]。"


def parse_label(text: str, n_labels: int) -> tuple[int | None, str]:
    """Read `[label_index]` or `[reasoning][label_index]` (paper, appendix C).

    The answer is the last bracketed group that is a valid index in ASCII digits, 0 ≤ index < `n_labels`.
    In two cases the index is None although a valid group occurs somewhere: the reply *ends* with a
    bracketed number that is no valid index (that was the answer, and it is invalid), or the only valid
    groups stand inside a longer bracketed group and do not end the reply (they are quotations in the
    reasoning).

    Returns the index or None, and the reasoning: what stands before the answer, without its brackets, or the
    whole reply when there is no answer. Raises ValueError when `n_labels` is not positive.
    """
    if n_labels < 1:
        raise ValueError("A label set needs at least one label.")
    answer = find_bracketed_answer(text, lambda group: _is_index(group, n_labels))
    if answer is None:
        return None, text.strip()
    return int(answer.group(1)), unbracket(text[: answer.start()])


def parse_label_and_confidence(text: str, n_labels: int) -> tuple[int | None, float | None, str]:
    """Read `[label_index][confidence]` or `[reasoning][label_index][confidence]`.

    The label is found by the rules of `parse_label`, with the group of the confidence taken off the end: of two
    neighboring bracketed numbers the first is the label. A confidence that is missing, or is no number in
    [0, 1], is None and leaves the label as it is; it is never clamped, and a percentage is not converted.

    Returns the index or None, the confidence or None, and the reasoning. Raises ValueError as `parse_label` does.
    """
    last = find_bracketed_answer(text, lambda group: True)
    before = None if last is None else _numeric_groups(text[: last.start()])
    if last is None or not before or text[before[-1].end() : last.start()].strip():
        index, reasoning = parse_label(text, n_labels)
        return index, None, reasoning
    index, reasoning = parse_label(text[: last.start()], n_labels)
    said = last.group(1).strip()
    is_confidence = index is not None and _CONFIDENCE.fullmatch(said) is not None
    return index, float(said) if is_confidence else None, reasoning if index is not None else text.strip()


def parse_structured(text: str, labels: Sequence[str]) -> tuple[int | None, str]:
    """Read `{"reasoning": "…", "label": "<name>"}`, also with a code fence around it.

    The label must be one of `labels`, exactly. Returns its index or None, and the reasoning; when the reply
    is no such object, the whole reply takes the reasoning's place.
    """
    answer = read_json_object(text)
    if answer is None:
        return None, text.strip()
    name = answer.get("label")
    index = labels.index(name) if isinstance(name, str) and name in labels else None
    return index, structured_reasoning(answer)


def find_bracketed_answer(
    text: str, is_valid: Callable[[str], bool], is_meant: Callable[[str], bool] | None = None
) -> re.Match[str] | None:
    """The last bracketed number in `text` that is the answer, by the rules of `parse_label`.

    `is_valid` is given the group's content, stripped, and says whether it can be an answer; `is_meant` says of a
    group whether it was meant as one, for answers that are no numbers.
    """
    is_meant = is_meant or _looks_numeric
    numbers = [group for group in _SHORT_GROUP.finditer(text) if is_meant(group.group(1))]
    if not numbers:
        return None
    last = numbers[-1]
    if not text[last.end() :].strip(_AFTER_ANSWER):
        return last if is_valid(last.group(1).strip()) else None
    pairs = _bracket_pairs(text)
    for group in reversed(numbers):
        quoted = any(start < group.start() and group.end() <= end for start, end in pairs.items())
        if not quoted and is_valid(group.group(1).strip()):
            return group
    return None


def structured_confidence(text: str) -> float | None:
    """The key "confidence" of a structured answer: a JSON number in [0, 1], None for anything else."""
    value = (read_json_object(text) or {}).get("confidence")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def unbracket(reasoning: str) -> str:
    """The reasoning without the brackets that the answer format puts around it."""
    reasoning = reasoning.strip()
    if not reasoning.startswith("["):
        return reasoning
    end = _bracket_pairs(reasoning).get(0)
    if end == len(reasoning) - 1:
        return reasoning[1:-1].strip()
    return reasoning[1:].strip() if end is None else reasoning


def read_json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` consists of, without a code fence around it; None when it is not one."""
    text = text.strip()
    fenced = _CODE_FENCE.fullmatch(text)
    try:
        answer = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def structured_reasoning(answer: dict[str, Any]) -> str:
    """The reasoning of a structured answer, "" where it has none."""
    reasoning = answer.get("reasoning", "")
    return reasoning.strip() if isinstance(reasoning, str) else ""


def _numeric_groups(text: str) -> list[re.Match[str]]:
    return [group for group in _SHORT_GROUP.finditer(text) if _looks_numeric(group.group(1))]


def _is_index(digits: str, n_labels: int) -> bool:
    return _INDEX.fullmatch(digits) is not None and int(digits) < n_labels


def _looks_numeric(group: str) -> bool:
    """Whether a group was meant as a number, valid or not: digits of any script, signs, a percent sign."""
    return any(sign.isnumeric() for sign in group) and all(
        sign.isnumeric() or sign in "+-−.,eE%" or sign.isspace() for sign in group
    )


def _bracket_pairs(text: str) -> dict[int, int]:
    """Position of each opening bracket → position of the one that closes it; unmatched ones are left out."""
    pairs: dict[int, int] = {}
    open_positions: list[int] = []
    for position, sign in enumerate(text):
        if sign == "[":
            open_positions.append(position)
        elif sign == "]" and open_positions:
            pairs[open_positions.pop()] = position
    return pairs
