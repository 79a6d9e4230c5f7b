"""Whether a person's answer differs from the machine's: a label by which one it is, a written answer by its text.

Both sides are kept without outer white space (`annotate.written.clean_answer`), so that the database compares them as
`is_changed` does.
"""

from django.db.models import F, Q

from annotate.models import Annotation
from review.models import Correction

# Of `ReviewTask`: its answer that counts is the machine's. A skip has no answer, and a failed annotation neither.
AGREED = Q(correction__label=F("annotation__label")) | (
    Q(correction__label=None, correction__answer=F("annotation__answer")) & ~Q(correction__answer="")
)


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
