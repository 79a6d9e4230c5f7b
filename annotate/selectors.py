"""What pages and the API say about a project's calibration set."""

from dataclasses import dataclass

from django.db.models import Count, Q

from annotate.models import Project
from annotate.run_results import LabelCount


@dataclass(frozen=True, slots=True)
class CalibrationState:
    """The calibration set at a moment. `gold_left` items have a gold label and could join it."""

    items: int
    from_gold: int
    by_people: int
    gold_left: int
    labels: list[LabelCount]


def calibration_state(project: Project) -> CalibrationState:
    """How many calibration labels there are, whose, and how they spread over the labels, never given ones included."""
    counts = project.calibration_labels.aggregate(
        items=Count("pk"), from_gold=Count("pk", filter=Q(author=None))
    )
    given = dict(project.calibration_labels.values_list("label").annotate(count=Count("pk")).order_by())
    labels = project.labels.order_by("position").values_list("pk", "name")
    return CalibrationState(
        items=counts["items"],
        from_gold=counts["from_gold"],
        by_people=counts["items"] - counts["from_gold"],
        gold_left=project.items.filter(gold__isnull=False, calibration_label=None).count(),
        labels=[LabelCount(name, given.get(pk, 0)) for pk, name in labels],
    )
