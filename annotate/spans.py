"""Spans of text as answers: where an answer stands in its context, and how well it matches (SQuAD's metrics)."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PUNCTUATION = re.compile("[" + re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + "]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_QUOTES = "\"'“”‘’«»`"
# Of an excerpt, in characters: the words before and after the answer, and the first and last ones of a long answer.
_BEFORE, _AFTER = 32, 56
_FIRST, _LAST = 180, 60
_JOINER = "\u200d"  # between emoji that make one sign


def normalized(answer: str) -> str:
    """An answer in lower case, without punctuation (ASCII), English articles and surplus white space."""
    without_marks = _PUNCTUATION.sub("", answer.lower())
    return " ".join(_ARTICLES.sub(" ", without_marks).split())


def exact_match(answer: str, golds: Sequence[str]) -> bool:
    """Whether the normalized answer equals that of any gold answer; "" stands for "no answer".

    Raises ValueError without gold answers.
    """
    return max(normalized(answer) == normalized(gold) for gold in _at_least_one(golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """F1 of the normalized words against the best gold answer, in [0, 1].

    Where the answer or the gold is empty ("no answer"), 1 if both are, else 0. Raises ValueError without gold answers.
    """
    return max(_f1(normalized(answer).split(), normalized(gold).split()) for gold in _at_least_one(golds))


def gold_texts(gold: Sequence[Mapping[str, Any]]) -> list[str]:
    """The wordings of gold answers as items keep them, each `{text, start}`; of none of them "", for "no answer"."""
    return [str(each["text"]) for each in gold] or [""]


def is_right(answer: str | None, gold: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an answer, "" for "no answer", matches one of an item's gold answers exactly, by the metric's rules.

    None is an answer that failed, which is never right. What the metric leaves nothing of, such as "the", is no "no
    answer" all the same.
    """
    return answer is not None and bool(answer) is bool(gold) and exact_match(answer, gold_texts(gold))


def answer_f1(answer: str | None, gold: Sequence[Mapping[str, Any]]) -> float:
    """`token_f1` of an answer against an item's gold answers, in [0, 1]; 0 of one that failed (None)."""
    if answer is None or bool(answer) is not bool(gold):
        return 0.0
    return token_f1(answer, gold_texts(gold))


def locate(answer: str, context: str) -> list[tuple[int, int]]:
    """Every place where `answer` stands in `context`, as [start, end) in characters, from left to right.

    White space around the answer does not count. The first of these readings that is found anywhere is taken: the
    answer as it is; without quotation marks around it; with any white space between its words; in any case. In each,
    places that do not begin or end inside a word are preferred to others. Empty when there is none, as for a blank
    answer. Occurrences may overlap.
    """
    bare = answer.strip()
    unquoted = bare.strip(_QUOTES).strip()
    for wording in dict.fromkeys((bare, unquoted)):
        if spans := _occurrences(re.escape(wording), context, 0) if wording else []:
            return spans
    if not unquoted:
        return []
    loosely = r"\s+".join(re.escape(word) for word in unquoted.split())
    return _occurrences(loosely, context, 0) or _occurrences(loosely, context, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a text around an answer in it. `before` and `after` begin or end with "…" where the text goes on."""

    before: str
    answer: str
    after: str


def excerpt(text: str, start: int, end: int) -> Excerpt:
    """The characters `start` up to `end` of a text with a few words around them; a long answer without its middle.

    Raises ValueError for a place outside of the text.
    """
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"Characters {start} to {end} are not in a text of {len(text)}.")
    answer = text[start:end]
    if len(answer) > _FIRST + _LAST + 20:
        first, last = _whole(answer, _FIRST), _whole(answer, len(answer) - _LAST)
        answer = f"{answer[:first]} … {answer[last:]}"
    begin, stop = max(0, start - _BEFORE), min(len(text), end + _AFTER)
    before, after = text[_whole(text, begin) : start], text[end : _whole(text, stop)]
    # Words are not cut, but for those that are longer than what is shown.
    if begin > 0:
        before = "…" + (before[before.find(" ") :] if " " in before else before)
    if stop < len(text):
        after = (after[: after.rfind(" ") + 1] if " " in after else after) + "…"
    return Excerpt(before, answer, after)


def _whole(text: str, place: int) -> int:
    """The place, or the next one before it that does not cut a sign made of several characters."""
    while 0 < place < len(text) and _goes_on(text[place - 1], text[place]):
        place -= 1
    return place


def _goes_on(before: str, after: str) -> bool:
    is_mark = unicodedata.category(after) in ("Mn", "Me", "Mc") or "\U0001f3fb" <= after <= "\U0001f3ff"
    return is_mark or _JOINER in (before, after)


def _occurrences(pattern: str, context: str, flags: int) -> list[tuple[int, int]]:
    found = re.finditer(f"(?=({pattern}))", context, flags)
    spans = [match.span(1) for match in found]
    whole = [span for span in spans if not _cuts_word(context, span[0]) and not _cuts_word(context, span[1])]
    return whole or spans


def _cuts_word(context: str, position: int) -> bool:
    """Whether a word goes on across this position of the context."""
    return 0 < position < len(context) and context[position - 1].isalnum() and context[position].isalnum()


def _f1(words: list[str], gold_words: list[str]) -> float:
    if not words or not gold_words:
        return float(words == gold_words)
    shared = sum((Counter(words) & Counter(gold_words)).values())
    return 2 * shared / (len(words) + len(gold_words))


def _at_least_one(golds: Sequence[str]) -> Sequence[str]:
    if isinstance(golds, str) or not golds:
        raise ValueError('Give at least one gold answer in a list, "" for "no answer".')
    return golds
