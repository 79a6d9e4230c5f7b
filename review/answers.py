"""Whether a person's answer differs from the machine's: a label by which one it is, an answer in words by its text.

Written answers are kept without outer white space (`annotate.written.clean_answer`), so that the database compares them
as `is_changed` does. Spans that differ in their words may still be the same answer: whether the machine was right, says
`judged_by_people`.
"""

from collections.abc import Iterator

from django.db.models import Case, F, Q, QuerySet, Value, When

from annotate.models import Annotation
from annotate.spans import is_right, normalized
from annotate.task_types import TaskType
from review.models import Correction, ReviewTask

# Of `ReviewTask`: its answer that counts is the machine's. A skip has no answer, and a failed annotation neither.
# Of spans, the empty one that ends at 0 is "no answer".
AGREED = Q(correction__label=F("annotation__label")) | (
    Q(correction__label=None, correction__answer=F("annotation__answer"))
    & (~Q(correction__answer="") | Q(correction__end=0, annotation__end=0))
)
AGREES = Case(When(AGREED, then=Value(True)), default=Value(False))


def judged_by_people(tasks: QuerySet[ReviewTask], task: TaskType) -> Iterator[tuple[int, bool]]:
    """(item id, whether the machine's answer is right by the person's) of these answered tasks, in their order.

    That is the same label, the same text, or of spans an exact match.
    """
    if not task.is_span:
        yield from tasks.values_list("item_id", AGREES).iterator()
        return
    rows = tasks.values_list("item_id", "annotation__answer", "annotation__start", "correction__answer")
    for item_id, machine, start, answer in rows.iterator():
        yield item_id, is_right(None if start is None else machine, as_gold(answer))


def as_gold(answer: str) -> list[dict[str, str]]:
    """A person's answer as the one that is right; the empty one is "no answer"."""
    return [{"text": answer}] if answer else []


def answer_key(label_id: int | None, answer: str, start: int | None) -> tuple[int | None, str]:
    """Equal for answers that are the same: the same label, the same text, or spans that match exactly."""
    if start is None:
        return label_id, answer.strip()
    # Two spans of nothing but articles and marks match, and are no "no answer".
    return None, f"={normalized(answer)}" if answer else ""


def is_changed(annotation: Annotation | None, correction: Correction) -> bool:
    """Whether the answer is another than the machine's; a skip or an undo changes nothing.

    Where the machine gave no answer, every answer is a change.
    """
    if correction.action != Correction.Action.LABEL:
        return False
    if annotation is None or annotation.failure:
        return True
    return (
        correction.label_id != annotation.label_id or correction.answer.strip() != annotation.answer.strip()
    )
