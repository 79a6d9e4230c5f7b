"""A project's name and, in two levels, its pages: groups, and below them the pages of the current one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse

from annotate.access import May, Permissions, permissions
from annotate.models import Project
from review.adjudicating import waiting_count
from review.commenting import open_comments

register = template.Library()


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of every project: the name of its address, its title, and who sees it."""

    name: str
    title: str
    may: May = May.SEE
    needs_labels: bool = False
    # Pages that belong to it and lie in other folders: their paths within the project.
    also: tuple[str, ...] = ()


_GROUPS = (
    ("Overview", (_Page("project", "Overview", May.ENTER), _Page("dashboard", "Dashboard"))),
    (
        "Data",
        (
            _Page("uploads", "Uploads"),
            _Page("items", "Items"),
            _Page("guidelines", "Guidelines", May.ENTER, also=("labels/",)),
            _Page("comments", "Comments"),
        ),
    ),
    (
        "Models",
        (
            _Page("calibration", "Calibration", needs_labels=True),
            _Page("candidates", "Candidates", needs_labels=True),
            _Page("annotation_runs", "Annotation"),
            _Page("criticism_runs", "Criticism"),
        ),
    ),
    (
        "Review",
        (
            _Page("budget_planner", "Budget", needs_labels=True),
            _Page("review_rounds", "Rounds"),
            _Page("adjudication", "Adjudication"),
            _Page("agreement", "Agreement"),
        ),
    ),
    ("Routing", (_Page("routing", "Routing"),)),
    ("Exports", (_Page("exports", "Exports"),)),
    ("Team", (_Page("people", "People"), _Page("history", "History"))),
    ("Settings", (_Page("project_settings", "Settings"),)),
)
# What waits on a page, and in which word; counted while its group is the current one.
_WAITING: dict[str, tuple[Callable[[Project], int], str]] = {
    "adjudication": (waiting_count, "waiting"),
    "comments": (lambda project: open_comments(project).count(), "open"),
}


@dataclass(frozen=True, slots=True)
class Tab:
    """A link; `current` is the value of its aria-current, empty where one is not."""

    title: str
    url: str
    current: str
    waiting: int = 0
    waiting_word: str = ""


@register.inclusion_tag("project_head.html", takes_context=True)
def project_head(context: dict[str, Any], project: Project) -> dict[str, Any]:
    """The groups and pages that the signed-in person may open; the one whose folder the page lies in is current.

    Who may open a few pages only, as reviewers do, gets these in one level.
    """
    request = context["request"]
    can = permissions(request.user, project)
    groups = [(title, pages) for title, each in _GROUPS if (pages := _open_to(can, project, each))]
    if not can.see:
        pages = [page for _, each in groups for page in each]
        tabs = [_tab(page, project, request.path) for page in pages]
        return {"project": project, "can": can, "groups": tabs}
    tabs, group, shown = [], "", []
    for title, pages in groups:
        own = [_tab(page, project, request.path) for page in pages]
        is_current = any(tab.current for tab in own)
        # A group of one page is that page.
        current = ("true" if len(own) > 1 else "page") if is_current else ""
        tabs.append(Tab(title, own[0].url, current))
        if is_current and len(own) > 1:
            group = title
            shown = [_with_waiting(page, tab, project) for page, tab in zip(pages, own, strict=True)]
    return {"project": project, "can": can, "groups": tabs, "group": group, "pages": shown}


def _open_to(can: Permissions, project: Project, pages: tuple[_Page, ...]) -> list[_Page]:
    return [
        page
        for page in pages
        if can.do(page.may) and not (page.needs_labels and not project.task.is_checkable)
    ]


def _tab(page: _Page, project: Project, path: str) -> Tab:
    url = reverse(page.name, args=[project.pk])
    overview = reverse("project", args=[project.pk])
    folders = (url, *(overview + also for also in page.also))
    is_current = path == url or (url != overview and path.startswith(folders))
    return Tab(page.title, url, "page" if is_current else "")


def _with_waiting(page: _Page, tab: Tab, project: Project) -> Tab:
    if page.name not in _WAITING:
        return tab
    count, word = _WAITING[page.name]
    return Tab(tab.title, tab.url, tab.current, count(project), word)
