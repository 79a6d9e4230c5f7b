"""Taking turns: what several people or processes may do to a project at once is done one after the other."""

from annotate.models import Project


def lock_project(project_id: int) -> None:
    """Wait for whoever else does this in the project; until the transaction ends, others wait here.

    Read afterwards, in a statement of its own: what the other one wrote is not seen by the statement that waits for it.
    """
    # Not the key: who adds rows of the project meanwhile must not wait for this while holding what is wanted here.
    Project.objects.select_for_update(no_key=True).values_list("pk").get(pk=project_id)
