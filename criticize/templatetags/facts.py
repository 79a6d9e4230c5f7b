"""The facts of a written answer as a table."""

from collections.abc import Sequence
from typing import Any

from django import template

register = template.Library()


@register.inclusion_tag("criticize/facts_table.html")
def facts_table(answer: str, facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each fact in its words, with its number and error probability."""
    return {
        "rows": [
            (number, answer[fact["start"] : fact["end"]], fact["error_prob"])
            for number, fact in enumerate(facts, start=1)
        ]
    }
