"""SQuAD's JSON, versions 1.1 and 2.0: articles that hold paragraphs that hold questions, read as one row a question."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from annotate.uploads.cells import flat_value
from annotate.uploads.decoding import TextSource
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.json_text import Window, kind_of
from annotate.uploads.limits import UploadLimits
from annotate.uploads.rows import Reader, Row, RowError

COLUMNS = ("id", "title", "context", "question", "answers")

_PARAGRAPHS = re.compile(r'"paragraphs"\s*:\s*\[')
_TITLE = re.compile(r'"title"\s*:')


def is_squad(beginning: str) -> bool:
    """Whether a JSON text that begins so holds articles with paragraphs."""
    return beginning.startswith("{") and '"data"' in beginning and _PARAGRAPHS.search(beginning) is not None


class SquadReader(Reader):
    """Each question with its paragraph, the article's title, and its answers as JSON text: `[{text, answer_start}]`.

    `answers` is `[]` where the question is said to be impossible, and None where the file gives none. Streamed: at most
    one paragraph with its questions is in memory.
    """

    kind = "json"

    def __init__(self, text: TextSource, limits: UploadLimits) -> None:
        self.limits = limits
        self.columns = list(COLUMNS)
        self.notes = ["The file is read as SQuAD JSON: one item a question. Plausible answers are left out."]
        self._text = text
        paragraphs, title = _PARAGRAPHS.search(text.sample), _TITLE.search(text.sample)
        self._title_is_last = title is None or (paragraphs is not None and paragraphs.start() < title.start())
        self._titles: list[Any] | None = None
        if next(self._records(0), None) is None:
            raise UploadError(f"“{text.source.name}” holds no questions.")
        self.total_hint = sum(1 for _ in self._records(0)) if text.sample_is_whole else None

    def _records(self, start: int) -> Iterator[Row | RowError]:
        if self._title_is_last and self._titles is None:
            self._titles = self._read_titles()
        rows = self._rows()
        for number, row in enumerate(islice(rows, start, None), start=start + 1):
            yield self._row(number, row)

    def _read_titles(self) -> list[Any]:
        """The articles' titles in order, for files that name them behind their paragraphs."""
        titles: list[Any] = []
        with self._text.open() as stream:
            for place, name, value in _parts(Window(stream, self.limits.max_row_chars)):
                titles += [None] * (place + 1 - len(titles))
                if name == "title":
                    titles[place] = value
        return titles

    def _rows(self) -> Iterator[dict[str, Any] | str]:
        """The values of each question by column, or a sentence why there are none."""
        title: Any = None
        article = -1
        with self._text.open() as stream:
            for place, name, value in _parts(Window(stream, self.limits.max_row_chars)):
                if place != article:
                    article = place
                    title = self._titles[place] if self._titles else None
                if name == "title":
                    title = value
                else:
                    yield from _questions(value, title)

    def _row(self, number: int, row: dict[str, Any] | str) -> Row | RowError:
        if isinstance(row, str):
            return RowError(number, f"Question {number:,}: {row}")
        most = self.limits.max_cell_chars
        try:
            values = {column: flat_value(row.get(column), column, most) for column in COLUMNS}
            return Row(number, values)
        except RowProblem as problem:
            return RowError(number, f"Question {number:,}: {problem.sentence}")


def _parts(window: Window) -> Iterator[tuple[int, str, Any]]:
    """(place of the article, "title" or "paragraph", its value) of all articles, in the order of the file."""
    if window.take_symbol() != "{":
        raise _not_squad()
    is_there = False
    for key in _keys(window):
        if key == "data" and window.symbol() == "[":
            is_there = True
            for place, _ in enumerate(_elements(window)):
                if window.take_symbol() != "{":
                    raise _not_squad()
                for name in _keys(window):
                    if name == "paragraphs" and window.symbol() == "[":
                        for _ in _elements(window):
                            yield place, "paragraph", window.take_value()
                    else:
                        value = window.take_value()
                        if name == "title":
                            yield place, name, value
        else:
            window.take_value()
    if not is_there:
        raise _not_squad()


def _keys(window: Window) -> Iterator[str]:
    """The names of an object behind its opening brace; whoever asks takes the value of each before the next."""
    if window.symbol() == "}":
        window.take_symbol()
        return
    while True:
        key = window.take_value()
        if not isinstance(key, str) or window.take_symbol() != ":":
            raise window.invalid("a name and a colon were expected")
        yield key
        symbol = window.take_symbol()
        if symbol == "}":
            return
        if symbol != ",":
            raise window.invalid("a comma or the end of the object was expected")


def _elements(window: Window) -> Iterator[None]:
    """Once before each element of a list that begins here; whoever asks takes the element."""
    window.take_symbol()
    if window.symbol() == "]":
        window.take_symbol()
        return
    while True:
        yield
        symbol = window.take_symbol()
        if symbol == "]":
            return
        if symbol == "":
            raise window.invalid("the file ends before the list does")
        if symbol != ",":
            raise window.invalid("a comma or the end of the list was expected")


def _not_squad() -> UploadError:
    return UploadError(
        'SQuAD JSON is an object whose "data" is a list of articles, each with a list of "paragraphs".'
    )


def _questions(paragraph: Any, title: Any) -> Iterator[dict[str, Any] | str]:
    if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
        found = kind_of(paragraph) if not isinstance(paragraph, dict) else 'an object without "qas"'
        yield f'expected a paragraph with a list called "qas", found {found}.'
        return
    for question in paragraph["qas"]:
        if not isinstance(question, dict):
            yield f"expected an object, found {kind_of(question)}."
            continue
        try:
            answers = _answers(question)
        except RowProblem as problem:
            yield problem.sentence
            continue
        yield {
            "id": question.get("id"),
            "title": title,
            "context": paragraph.get("context"),
            "question": question.get("question"),
            "answers": answers,
        }


def _answers(question: dict[str, Any]) -> list[Any] | None:
    """Those that are right; raises RowProblem for what is no list."""
    if question.get("is_impossible") is True:
        return []
    answers = question.get("answers")
    if answers is not None and not isinstance(answers, list):
        raise RowProblem(f'its "answers" must be a list, and are {kind_of(answers)}.')
    # A question that is not called impossible has an answer: where there is none, the file keeps it to itself.
    return answers or None
