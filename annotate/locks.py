"""Taking turns: what several people or processes may do at once to a project, or for a person, one after the other.

Read afterwards, in a statement of its own: what others wrote is not seen by the statement that waits for them.
"""

from django.db import connection

from annotate.models import Project, User


def lock_project(project_id: int) -> None:
    """Wait for whoever else does this in the project; until the transaction ends, others wait here."""
    # Not the key: who adds rows of the project meanwhile must not wait for this while holding what is wanted here.
    Project.objects.select_for_update(no_key=True).values_list("pk").get(pk=project_id)


def lock_person(user: User) -> None:
    """Let what makes somebody the holder of a turn, or pauses them, happen one after the other for each person.

    In two tabs, say, two turns of one item would otherwise both be free.
    """
    if connection.features.has_select_for_update:
        User.objects.select_for_update(no_key=True).values_list("pk").get(pk=user.pk)
