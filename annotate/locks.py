"""Taking turns: what several people or processes may do at once to a project, or for a person, one after the other.

Read afterwards, in a statement of its own: what others wrote is not seen by the statement that waits for them.
"""

from django.db import connection
from django.db.models import QuerySet
from django.http import Http404

from annotate.models import Project, User

_DELETED = "This project has been deleted."


def lock_project(project_id: int) -> None:
    """Wait for whoever else does this in the project; until the transaction ends, others wait here.

    Raises Http404 where the project has been deleted.
    """
    # Not the key: who adds rows of the project meanwhile must not wait for this while holding what is wanted here.
    _lock(Project.objects.select_for_update(no_key=True), project_id)


def lock_project_to_delete(project_id: int) -> None:
    """Wait for everybody who makes something in the project; until the transaction ends, they wait for this.

    Raises Http404 where it has been deleted already.
    """
    _lock(Project.objects.select_for_update(), project_id)


def keep_project(project_id: int) -> None:
    """Until the transaction ends, the project is not deleted. Others who keep it do not wait for each other.

    What is made in a project refers to it, which a database checks only in the end: without this, whoever deletes it
    meanwhile, or makes something in it, would fail there. Raises Http404 where it has been deleted.
    """
    if connection.vendor != "postgresql":  # a transaction has the database to itself
        _lock(Project.objects.all(), project_id)
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM annotate_project WHERE id = %s FOR KEY SHARE", [project_id])
        if cursor.fetchone() is None:
            raise Http404(_DELETED)


def _lock(projects: QuerySet[Project], project_id: int) -> None:
    if projects.filter(pk=project_id).values_list("pk").first() is None:
        raise Http404(_DELETED)


def lock_person(user: User) -> None:
    """Let what makes somebody the holder of a turn, or pauses them, happen one after the other for each person.

    In two tabs, say, two turns of one item would otherwise both be free.
    """
    if connection.features.has_select_for_update:
        User.objects.select_for_update(no_key=True).values_list("pk").get(pk=user.pk)
