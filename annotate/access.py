"""Who may see and do what. Every page and endpoint finds its objects through here, so that no id opens another's door.

What a person may not see does not exist for them (404); what they may see but not do is forbidden (403).
"""

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404

from annotate.models import Connection, Membership, Project, User

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


def connections_of(user: User) -> QuerySet[Connection]:
    return Connection.objects.filter(owner=user)


def connection_for(user: User, connection_id: int) -> Connection:
    connection = connections_of(user).filter(pk=connection_id).first()
    if connection is None:
        raise Http404("There is no such connection.")
    return connection
