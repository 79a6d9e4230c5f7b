"""What people decided in review rounds, for the rooms before this one."""

from collections.abc import Iterable

from annotate.models import Project
from review.models import ReviewRound, ReviewTask


def corrected_labels(project: Project) -> Iterable[tuple[int, int]]:
    """(item id, label id) of every answer that counts, in order of the answers: of two for an item the later is last.

    Without calibration rounds: what was said in them are calibration labels.
    """
    answered = ReviewTask.counted.filter(
        round__project=project, state=ReviewTask.State.ANSWERED, correction__label__isnull=False
    ).exclude(round__kind=ReviewRound.Kind.CALIBRATION)
    pairs = answered.order_by("correction_id").values_list("item_id", "correction__label_id")
    return ((item_id, label_id) for item_id, label_id in pairs if label_id is not None)
