"""A text with the spans that were said of it marked in place, cut into the pieces that a page shows."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from annotate.models import Annotation, CalibrationLabel, Item
from review.models import Correction


@dataclass(frozen=True, slots=True)
class SpanMark:
    """Characters `start` up to `end` of a text, who means them, and the tone of the mark: machine, human or ok."""

    start: int
    end: int
    tone: str
    who: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the text. `tones` is "" where nothing marks it; `who` are all that do."""

    text: str
    tones: str = ""
    who: str = ""


def marked(text: str, marks: Iterable[SpanMark]) -> list[Piece]:
    """The whole text in pieces, cut wherever a mark begins or ends, since marks may overlap."""
    there = [mark for mark in marks if 0 <= mark.start < mark.end <= len(text)]
    cuts = sorted({0, len(text), *(mark.start for mark in there), *(mark.end for mark in there)})
    pieces = []
    for start, end in pairwise(cuts):
        over = [mark for mark in there if mark.start <= start and end <= mark.end]
        tones = " ".join(dict.fromkeys(mark.tone for mark in over))
        pieces.append(Piece(text[start:end], tones, ", ".join(dict.fromkeys(mark.who for mark in over))))
    return pieces


def marks_of_item(
    item: Item,
    annotations: Iterable[Annotation],
    corrections: Iterable[Correction],
    calibration: CalibrationLabel | None,
    *,
    with_gold: bool,
) -> list[SpanMark]:
    """What machines and people said of an item and still holds; with its gold and calibration answers if wanted."""
    found = [
        SpanMark(each.start, each.end, "machine", str(each.run.who))
        for each in annotations
        if each.start is not None and each.end is not None
    ]
    found += [
        SpanMark(each.start, each.end, "human", each.author.get_username())
        for each in corrections
        if each.start is not None and each.end is not None and each.task.correction_id == each.pk
    ]
    if with_gold:
        found += _known(item.gold_answers or [], "gold")
        found += _known(calibration.answers or [] if calibration is not None else [], "calibration")
    return found


def _known(answers: Collection[dict[str, Any]], who: str) -> list[SpanMark]:
    return [SpanMark(answer["start"], answer["start"] + len(answer["text"]), "ok", who) for answer in answers]
