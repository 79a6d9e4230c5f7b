"""Answers in lists: those that are spans of a text in a short excerpt of it, others by their words."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import template

from annotate.spans import Excerpt, excerpt

register = template.Library()


@register.inclusion_tag("annotate/answer.html")
def said_answer(text: str, answer: str, start: int | None, tone: str = "") -> dict[str, Any]:
    """An answer of an item with this text. `start` is None where answers are no spans; "" from 0 is "no answer"."""
    return {"answer": answer, "excerpt": _excerpt(text, answer, start), "tone": tone}


@register.inclusion_tag("annotate/known_answers.html")
def known_answers(text: str, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is known of an item: its gold or calibration answers, each `{text, start}`; without any, "no answer"."""
    return {"text": text, "answers": answers}


def _excerpt(text: str, answer: str, start: int | None) -> Excerpt | None:
    if start is None or not answer or text[start : start + len(answer)] != answer:
        return None
    return excerpt(text, start, start + len(answer))
