"""What only projects with a label set can do."""

from annotate.errors import Refusal
from annotate.models import Project


def need_label_set(project: Project, what_follows: str, *, field: str = "") -> None:
    """Raise Refusal where the project's answers are written; `what_follows` ends the sentence that says why."""
    if project.task.is_written:
        raise Refusal(f"Written answers have no label set, so {what_follows}.", field=field)
