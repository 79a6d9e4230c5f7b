"""Final answers that are spans as SQuAD's JSON of version 2.0, written as a stream."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from review.export_rows import Column

VERSION = "v2.0"
FIELDS = {
    "data": "the articles: items in their order, those with the same title that follow each other as one",
    "title": "the item's own column “title”; empty where it has none",
    "paragraphs": "the article's texts",
    "context": "the item's text; items about the same text that follow each other share it",
    "qas": "the questions about this text, one an item",
    "id": "the item's own id",
    "question": "the item's question",
    "is_impossible": "whether the final answer is that the text holds none",
    "answers": "the final answer, with the character of the context at which it begins; empty where there is none",
}

_TITLE, _TEXT, _QUESTION = ("column", "title"), ("part", "text"), ("part", "question")
_SIGNS_EVERY = 1000  # questions


@dataclass(slots=True)
class Questions:
    """How many items became questions, and how many have no final answer and were left out."""

    written: int = 0
    left_out: int = 0


def squad_columns(columns: Mapping[Column, str]) -> dict[Column, str]:
    """Those of the items' own columns that the format has a place for."""
    return {column: name for column, name in columns.items() if column in (_TITLE, _TEXT, _QUESTION)}


def write_squad(
    parts: Iterable[Path], path: Path, columns: Mapping[Column, str], *, goes_on: Callable[[], bool]
) -> Questions | None:
    """Put parts of JSON lines in the wide layout together as one file; None when it was stopped before the end.

    At most one question is in memory. `columns` as of `own_columns`.
    """
    counted = Questions()
    rows = _answered(_rows(parts), counted, goes_on)

    def title(row: Mapping[str, Any]) -> str:
        return str(row.get(columns.get(_TITLE, "")) or "")

    def context(row: Mapping[str, Any]) -> str:
        return str(row[columns[_TEXT]] or "")

    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"version": {_text(VERSION)}, "data": [')
        for before, (name, article) in _separated(groupby(rows, title)):
            file.write(f'{before}{{"title": {_text(name)}, "paragraphs": [')
            for between, (text, questions) in _separated(groupby(article, context)):
                file.write(f'{between}{{"context": {_text(text)}, "qas": [')
                for separator, row in _separated(questions):
                    file.write(separator + _text(_question(row, columns)))
                file.write("]}")
            file.write("]}")
        file.write("\n]}\n")
    return counted if goes_on() else None


def _rows(parts: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for part in parts:
        with part.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield json.loads(line)


def _answered(
    rows: Iterable[dict[str, Any]], counted: Questions, goes_on: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """The rows with a final answer; ends where it is told to stop."""
    for number, row in enumerate(rows, 1):
        if number % _SIGNS_EVERY == 0 and not goes_on():
            return
        if row["final_label"] is None:
            counted.left_out += 1
        else:
            counted.written += 1
            yield row


def _question(row: Mapping[str, Any], columns: Mapping[Column, str]) -> dict[str, Any]:
    answer = row["final_label"]
    return {
        "id": row["external_id"],
        "question": row[columns[_QUESTION]] or "",
        "is_impossible": answer == "",
        "answers": [{"text": answer, "answer_start": row["final_start"]}] if answer else [],
    }


def _separated(parts: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Each with what stands before it in a list of JSON."""
    for number, part in enumerate(parts):
        yield ",\n" if number else "\n", part


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
