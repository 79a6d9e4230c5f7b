"""What the pages about review have in common: their own navigation, with how many conflicts and comments wait."""

from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse

from annotate.models import Project
from review.adjudicating import waiting_count
from review.commenting import open_comments

register = template.Library()

_PAGES = (
    ("review_rounds", "Rounds"),
    ("adjudication", "Adjudication"),
    ("agreement", "Agreement"),
    ("comments", "Comments"),
)


@dataclass(frozen=True, slots=True)
class ReviewPage:
    title: str
    url: str
    is_current: bool
    waiting: int = 0


@register.simple_tag(takes_context=True)
def review_pages(context: dict[str, Any], project: Project) -> list[ReviewPage]:
    """Rounds, adjudication, agreement and comments; the one whose folder the page lies in is the current one."""
    path = context["request"].path
    waiting = {"adjudication": waiting_count(project), "comments": open_comments(project).count()}
    pages = []
    for name, title in _PAGES:
        url = reverse(name, args=[project.pk])
        pages.append(ReviewPage(title, url, path.startswith(url), waiting.get(name, 0)))
    return pages
