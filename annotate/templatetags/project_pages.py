"""A project's name and the tabs of its pages, at the top of each of them."""

from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse

from annotate.access import OWNER, role_in
from annotate.models import Project

register = template.Library()

# (url name, title, whether reviewers see it)
_PAGES = (
    ("project", "Overview", True),
    ("uploads", "Uploads", False),
    ("items", "Items", True),
    ("calibration", "Calibration", False),
    ("candidates", "Candidates", False),
    ("annotation_runs", "Annotation", False),
    ("criticism_runs", "Criticism", False),
    ("budget_planner", "Budget", False),
    ("review_rounds", "Review", True),
    ("exports", "Exports", False),
    ("project_settings", "Settings", False),
)

_NEED_LABELS = {"calibration", "candidates", "budget_planner"}


@dataclass(frozen=True, slots=True)
class Tab:
    title: str
    url: str
    current: bool


@register.inclusion_tag("project_head.html", takes_context=True)
def project_head(context: dict[str, Any], project: Project) -> dict[str, Any]:
    """The tabs that the signed-in person may use; the one whose folder the page lies in is the current one."""
    request = context["request"]
    role = role_in(request.user, project)
    overview = reverse("project", args=[project.pk])
    pages = []
    for name, title, for_reviewers in _PAGES:
        if role != OWNER and not for_reviewers:
            continue
        if name in _NEED_LABELS and project.task.is_written:
            continue
        url = reverse(name, args=[project.pk])
        current = request.path == url or (url != overview and request.path.startswith(url))
        pages.append(Tab(title, url, current))
    return {"project": project, "role": role, "pages": pages}
