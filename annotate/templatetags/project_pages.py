"""A project's name and the tabs of its pages, at the top of each of them."""

from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse

from annotate.access import May, permissions
from annotate.models import Project

register = template.Library()

# (url name, title, who sees it)
_PAGES = (
    ("project", "Overview", May.ENTER),
    ("dashboard", "Dashboard", May.SEE),
    ("uploads", "Uploads", May.SEE),
    ("items", "Items", May.SEE),
    ("guidelines", "Guidelines", May.ENTER),
    ("calibration", "Calibration", May.SEE),
    ("candidates", "Candidates", May.SEE),
    ("annotation_runs", "Annotation", May.SEE),
    ("criticism_runs", "Criticism", May.SEE),
    ("budget_planner", "Budget", May.SEE),
    ("review_rounds", "Review", May.SEE),
    ("exports", "Exports", May.SEE),
    ("people", "People", May.SEE),
    ("project_settings", "Settings", May.SEE),
)

_NEED_LABELS = {"calibration", "candidates", "budget_planner"}
# Pages that belong to a tab and lie in folders of their own.
_ALSO = {"review_rounds": ("adjudication", "agreement")}


@dataclass(frozen=True, slots=True)
class Tab:
    title: str
    url: str
    current: bool


@register.inclusion_tag("project_head.html", takes_context=True)
def project_head(context: dict[str, Any], project: Project) -> dict[str, Any]:
    """The tabs that the signed-in person may use; the one whose folder the page lies in is the current one."""
    request = context["request"]
    can = permissions(request.user, project)
    overview = reverse("project", args=[project.pk])
    pages = []
    for name, title, may in _PAGES:
        if not can.do(may):
            continue
        if name in _NEED_LABELS and project.task.is_written:
            continue
        url = reverse(name, args=[project.pk])
        folders = [url, *(reverse(also, args=[project.pk]) for also in _ALSO.get(name, ()))]
        current = request.path == url or (url != overview and request.path.startswith(tuple(folders)))
        pages.append(Tab(title, url, current))
    return {"project": project, "role": can.role, "pages": pages}
