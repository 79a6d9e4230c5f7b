"""Cut a long written answer into statements, so that each can be judged by itself (paper, appendix G.4).

Rules and no model: the same text is always cut alike, and every statement is a slice of the text, so that it can be
highlighted in place. The rules know sentence ends of many scripts, abbreviations, initials and numbers, lists,
headings, wrapped lines, quotations and brackets. Where they are in doubt they do not cut: two facts judged as one
cost the reviewer a longer sentence, half a fact cannot be judged at all.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple


class Fact(NamedTuple):
    """The slice [start, end) of a text, in characters (code points), without white space at its ends."""

    start: int
    end: int


_LATIN_ENDS = ".!?…"
# Sentence ends of scripts that put no space after them, or have signs of their own.
_FIRM_ENDS = "。！？｡．؟۔।॥።։៕။⸮‼⁇⁈⁉"
_CLOSERS = "\"'”’»›)]}」』】》〉）］｝*_`"
_OPENERS = "\"'“‘«‹([{「『《（【*_` "
_PAIRS = {"(": ")", "[": "]", "“": "”", "«": "»", "「": "」", "『": "』", "（": "）", "《": "》", "【": "】"}
# How far around a sentence end is looked, in characters: enough for a word, and every text is cut in linear time.
_NEAR = 80
# A longer quotation is cut like any other text.
_LONGEST_KEPT_TOGETHER = 300
# A line of prose that is at least this long was wrapped there; a shorter one ends because its writer ended it.
_WRAPPED = 50

_LIST_MARK = re.compile(
    r"[ \t]*(?:[-*+•◦▪‣·–—][ \t]+|\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})[.)][ \t]+|\d{1,3}[、．])"
)
_HEADING = re.compile(r"[ \t]*#{1,6}[ \t]")
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Words that a full stop belongs to, without it, in lower case. A sentence never ends with the first ones; with the
# second it does where a word follows that usually begins one.
_NEVER_LAST = _words(
    "dr mr mrs ms prof st rev hon gen col sgt capt lt gov sen rep pres mt messrs mme mlle sra srta fr hr "
    "e.g i.e cf vs viz fig figs no nos nr vol vols ch sec pp ed eds approx ca resp bzw z.b d.h u.a vgl abs art dipl "
    "eq eqs ref refs op tab"
)
_MAY_BE_LAST = _words(
    "etc al inc ltd co corp jr sr bros dept est univ assn usw u.s.w p.m a.m ph.d m.d b.a m.a d.c u.s u.k u.n e.u "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun ave blvd rd min max avg"
)
_BEGINNINGS = _words(
    "the this that these those it its he she they we i you his her their our my your there here in on at a an and but "
    "however when while after before since for from with as if by although though moreover meanwhile then so yet "
    "der die das es er sie wir ein eine im am und aber le la les il elle un une el los las en no se"
)
_MONTHS = _words("januar februar märz april mai juni juli august september oktober november dezember jänner")


def facts_of(text: str) -> list[Fact]:
    """The statements of `text`, in order, without overlap; every character that is not white space is in one.

    Marks of lists stay with their statement; headings and lines without a letter or digit go with the statement that
    follows (with the one before at the end). A blank text has none.
    """
    pieces = [piece for block in _blocks(text) for piece in _sentences(text, block)]
    return _joined(text, [fact for piece in pieces if (fact := _trimmed(text, *piece)) is not None])


def _trimmed(text: str, start: int, end: int) -> Fact | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Fact(start, end) if start < end else None


def _joined(text: str, pieces: list[Fact]) -> list[Fact]:
    """The pieces with those that state nothing joined to the next one, or to the last."""
    facts: list[Fact] = []
    waiting: int | None = None  # where the pieces begin that wait for a statement
    for start, end in pieces:
        begin = start if waiting is None else waiting
        piece = text[start:end]
        if _HEADING.match(piece) or not any(sign.isalnum() for sign in _LIST_MARK.sub("", piece, count=1)):
            waiting = begin
            continue
        facts.append(Fact(begin, end))
        waiting = None
    if waiting is not None:
        end = pieces[-1].end
        last = facts.pop() if facts else None
        facts.append(Fact(waiting if last is None else last.start, end))
    return facts


# --- Lines -----------------------------------------------------------------------------------------------------------


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of text that no statement crosses: paragraphs, points of lists, headings."""
    start = end = 0
    before = ""  # the line before, within the block
    for line_start, line_end in _lines(text):
        line = text[line_start:line_end]
        if end > start and (not line.strip() or _begins_block(before, line)):
            yield start, end
            start = line_start
        elif end == start:
            start = line_start
        before, end = line, (line_end if line.strip() else start)
    if end > start:
        yield start, end


def _lines(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    for line in text.splitlines(keepends=True):
        yield position, position + len(line)
        position += len(line)


def _begins_block(before: str, line: str) -> bool:
    if any(mark.match(each) for each in (before, line) for mark in (_HEADING, _FENCE)) or _LIST_MARK.match(
        line
    ):
        return True
    first = next((sign for sign in line if not sign.isspace()), "")
    return not (first.islower() or len(before.rstrip()) >= _WRAPPED)


# --- Sentences -------------------------------------------------------------------------------------------------------


def _sentences(text: str, block: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The block cut after each sentence."""
    begin, end = block
    kept_together = _kept_together(text, begin, end)
    is_cased = any(sign.isupper() for sign in text[begin:end])
    mark = _LIST_MARK.match(text, begin, end)
    position = mark.end() if mark else begin
    while position < end:
        sign = text[position]
        if sign not in _LATIN_ENDS and sign not in _FIRM_ENDS:
            position += 1
            continue
        stop = position + 1
        while stop < end and (text[stop] in _LATIN_ENDS or text[stop] in _FIRM_ENDS):
            stop += 1
        after = stop
        while after < end and text[after] in _CLOSERS:
            after += 1
        if kept_together.get(position, 0) <= after and _ends_sentence(
            text, begin, position, stop, after, end, is_cased=is_cased
        ):
            yield begin, after
            begin = after
        position = after
    if begin < end:
        yield begin, end


def _ends_sentence(
    text: str, begin: int, position: int, stop: int, after: int, end: int, *, is_cased: bool
) -> bool:
    """Whether a sentence ends with the signs [position, stop), whose closing marks end at `after`."""
    following = text[after : min(end, after + _NEAR)].lstrip()
    if not following:
        return True
    is_spaced = text[after].isspace()
    if any(sign in _FIRM_ENDS for sign in text[position:stop]):
        # 「…。」と言った goes on; 「…。」「…。」 does not.
        return is_spaced or after == stop or not following[0].isalnum()
    if not is_spaced:
        return False
    if is_cased and _first_letter(following).islower():
        return False
    if text[position] != "." or stop - position > 1:
        return True
    return not _belongs_to_word(text[max(begin, position - _NEAR) : position], following)


def _first_letter(following: str) -> str:
    """The first sign that is not an opening mark."""
    return following.lstrip(_OPENERS + "-–—¿¡")[:1]


def _belongs_to_word(before: str, following: str) -> bool:
    """Whether a full stop after `before` marks an abbreviation, an initial or an ordinal number, not an end."""
    words = before.split()
    word = words[-1].lstrip(_OPENERS) if words else ""
    plain = word.lower()
    next_word = re.split(r"[\s,.;:!?)’']", following.lstrip(_OPENERS), maxsplit=1)[0].lower()
    if plain in _NEVER_LAST:
        return plain not in ("no", "art", "fig", "sec", "tab", "ed", "ch", "ref") or next_word[:1].isdigit()
    if plain in _MAY_BE_LAST or re.fullmatch(r"(?:[^\W\d]\.)+[^\W\d]", word):
        return next_word not in _BEGINNINGS
    if len(word) == 1 and word.isupper():
        return next_word not in _BEGINNINGS
    return word.isdigit() and len(word) <= 2 and next_word in _MONTHS


def _kept_together(text: str, begin: int, end: int) -> dict[int, int]:
    """Position of each sentence end inside a quotation or brackets → position after their closing mark.

    Only for pairs that are closed within the block and not too long. Straight double quotes pair up as they come.
    """
    spans: list[tuple[int, int]] = []
    open_marks: list[tuple[str, int]] = []
    still_open: Counter[str] = Counter()  # the closing marks of `open_marks`
    straight: int | None = None
    for position in range(begin, end):
        sign = text[position]
        if sign == '"':
            if straight is not None:
                spans.append((straight, position))
            straight = position if straight is None else None
        elif sign in _PAIRS:
            open_marks.append((_PAIRS[sign], position))
            still_open[_PAIRS[sign]] += 1
        elif still_open[sign]:
            closed, opened_at = open_marks.pop()
            while closed != sign:
                still_open[closed] -= 1
                closed, opened_at = open_marks.pop()
            still_open[sign] -= 1
            spans.append((opened_at, position))
    inside: dict[int, int] = {}
    for first, last in spans:
        if last - first <= _LONGEST_KEPT_TOGETHER:
            for position in range(first + 1, last):
                if text[position] in _LATIN_ENDS or text[position] in _FIRM_ENDS:
                    inside[position] = max(inside.get(position, 0), last + 1)
    return inside
