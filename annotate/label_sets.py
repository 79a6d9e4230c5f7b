"""What only projects with a label set can do."""

from annotate.errors import Refusal
from annotate.models import Project
from annotate.task_types import TaskType


def need_label_set(project: Project, what_follows: str, *, field: str = "") -> None:
    """Raise Refusal where the project's answers are words; `what_follows` ends the sentence that says why."""
    if project.task.is_written:
        raise Refusal(f"{without_labels(project.task)} have no label set, so {what_follows}.", field=field)


def without_labels(task: TaskType) -> str:
    """What the answers of a task without a label set are, to begin a sentence."""
    return "Answers that are spans of a text" if task.is_span else "Written answers"
