"""Who may see and do what. Every page and endpoint finds its objects through here, so that no id opens another's door.

What a person may not see does not exist for them (404); what they may see but not do is forbidden (403).
"""

from operator import attrgetter
from typing import TypeVar

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404

from annotate.models import Connection, Membership, Project, User

Row = TypeVar("Row", bound=Model)

OWNER = Membership.Role.OWNER
REVIEWER = Membership.Role.REVIEWER


def projects_of(user: User) -> QuerySet[Project]:
    return Project.objects.filter(memberships__user=user)


def role_in(user: User, project: Project) -> str | None:
    return Membership.objects.filter(user=user, project=project).values_list("role", flat=True).first()


def project_for(user: User, project_id: int, *, owner: bool = False) -> Project:
    """The project, if the user is a member; with `owner`, an owner. Raises Http404 or PermissionDenied."""
    project = projects_of(user).filter(pk=project_id).first()
    if project is None:
        raise Http404("There is no such project, or you are not a member of it.")
    if owner:
        require_owner(user, project)
    return project


def require_owner(user: User, project: Project) -> None:
    if role_in(user, project) != OWNER:
        raise PermissionDenied("Only an owner of the project can do this.")


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


def found_for(user: User, rows: QuerySet[Row], pk: int, *, project: str, owner: bool = False) -> Row:
    """The row with this key, if it belongs to a project of the user; with `owner`, one that the user owns.

    `project` is the lookup from the row to its project, such as "annotation_run__project"; the rows select it as a
    related row. Raises Http404 or PermissionDenied.
    """
    row = rows.filter(**{f"{project}__in": projects_of(user)}, pk=pk).first()
    if row is None:
        raise Http404(
            f"There is no such {rows.model._meta.verbose_name}, or you are not a member of its project."
        )
    if owner:
        require_owner(user, attrgetter(project.replace("__", "."))(row))
    return row
