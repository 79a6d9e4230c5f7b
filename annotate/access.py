"""Who may see and do what. Every page and endpoint finds its objects through here, so that no id opens another's door.

What a person may not see does not exist for them (404); what they may see but not do is forbidden (403).
"""

from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import TypeVar

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404

from annotate.models import Connection, Membership, Project, User

Row = TypeVar("Row", bound=Model)
Role = Membership.Role


class May(StrEnum):
    """What somebody may do in a project."""

    ENTER = "enter"  # know that it is there, and what its reviewers need: every member
    SEE = "see"  # read everything of it
    REVIEW = "review"  # answer items
    MANAGE = "manage"  # upload, run, draw, adjudicate, export, configure
    OWN = "own"  # its members with rights to change it, and its end


_ROLES = {
    May.ENTER: set(Role),
    May.SEE: {Role.OWNER, Role.MANAGER, Role.VIEWER},
    May.REVIEW: {Role.OWNER, Role.MANAGER, Role.REVIEWER},
    May.MANAGE: {Role.OWNER, Role.MANAGER},
    May.OWN: {Role.OWNER},
}
_REFUSALS = {
    May.ENTER: "Only members of the project can do this.",
    May.SEE: "Reviewers see their queue and their own figures. Ask a manager of the project for the rest.",
    May.REVIEW: "Viewers of the project look, and do not answer.",
    May.MANAGE: "Only an owner or a manager of the project can do this.",
    May.OWN: "Only an owner of the project can do this.",
}
_SAFE = ("GET", "HEAD", "OPTIONS")


def to_manage(method: str | None) -> May:
    """What a page or an endpoint needs whose reading is for all who see, and whose writing is for managers."""
    return May.SEE if method in _SAFE else May.MANAGE


@dataclass(frozen=True, slots=True)
class Permissions:
    """What somebody may do in a project, for templates: `can.manage`."""

    role: str | None

    def do(self, may: May) -> bool:
        return self.role in _ROLES[may]

    @property
    def see(self) -> bool:
        return self.do(May.SEE)

    @property
    def review(self) -> bool:
        return self.do(May.REVIEW)

    @property
    def manage(self) -> bool:
        return self.do(May.MANAGE)

    @property
    def own(self) -> bool:
        return self.do(May.OWN)


def permissions(user: User, project: Project) -> Permissions:
    return Permissions(role_in(user, project))


def projects_of(user: User) -> QuerySet[Project]:
    return Project.objects.filter(memberships__user=user)


def role_in(user: User, project: Project) -> str | None:
    return Membership.objects.filter(user=user, project=project).values_list("role", flat=True).first()


def members_who_may(project: Project, may: May) -> QuerySet[User]:
    """The project's members whose role allows it, by username."""
    return User.objects.filter(
        memberships__project=project, memberships__role__in=_ROLES[may], is_active=True
    ).order_by("username")


def project_for(user: User, project_id: int, *, may: May = May.ENTER) -> Project:
    """The project, if the user is a member who may do this. Raises Http404 or PermissionDenied."""
    project = Project.objects.filter(pk=project_id).first()
    role = role_in(user, project) if project else None
    if project is None or role is None:
        raise Http404("There is no such project, or you are not a member of it.")
    _require(role, may)
    return project


def require(user: User, project: Project, may: May) -> None:
    """Raises PermissionDenied for a member whose role does not allow it."""
    if may != May.ENTER:
        _require(role_in(user, project), may)


def _require(role: str | None, may: May) -> None:
    if may != May.ENTER and role not in _ROLES[may]:
        raise PermissionDenied(_REFUSALS[may])


def require_staff(user: User) -> None:
    """Raises PermissionDenied for whoever may not change what all projects share."""
    if not user.is_staff:
        raise PermissionDenied("Only an administrator can change prices, since all projects share them.")


def connections_of(user: User) -> QuerySet[Connection]:
    return Connection.objects.filter(owner=user)


def connection_for(user: User, connection_id: int) -> Connection:
    connection = connections_of(user).filter(pk=connection_id).first()
    if connection is None:
        raise Http404("There is no such connection.")
    return connection


def found_for(user: User, rows: QuerySet[Row], pk: int, *, project: str, may: May = May.ENTER) -> Row:
    """The row with this key, if it belongs to a project where the user may do this.

    `project` is the lookup from the row to its project, such as "annotation_run__project"; the rows select it as a
    related row. Raises Http404 or PermissionDenied.
    """
    row = rows.filter(pk=pk).first()
    role = role_in(user, attrgetter(project.replace("__", "."))(row)) if row else None
    if row is None or role is None:
        raise Http404(
            f"There is no such {rows.model._meta.verbose_name}, or you are not a member of its project."
        )
    _require(role, may)
    return row
