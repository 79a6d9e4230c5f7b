"""One item with everything that is known about it."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from annotate.access import May, permissions, project_for
from annotate.models import CalibrationLabel, Item
from annotate.requests import PageRequest
from review.models import Correction, ReviewRound, ReviewTask

_SMALL = 128  # pixels: a smaller image is shown enlarged


@require_GET
def item(request: PageRequest, project_id: int, item_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.SEE)
    row = get_object_or_404(project.items.select_related("image", "gold", "upload"), pk=item_id)
    is_blind = waits_blind(row)
    annotations = (
        []
        if is_blind
        else list(
            row.annotations.select_related("run__job", "label")
            .prefetch_related("criticisms__run")
            .order_by("-run_id")
        )
    )
    context = {
        "project": project,
        "item": row,
        "can": permissions(request.user, project),
        "columns": {name: value for name, value in row.columns.items() if value not in (None, "")},
        "is_blind": is_blind,
        "is_small": row.image is not None and max(row.image.width, row.image.height) <= _SMALL,
        "annotations": annotations,
        "calibration_label": CalibrationLabel.objects.select_related("label", "author")
        .filter(item=row)
        .first(),
        "corrections": Correction.objects.filter(task__item=row)
        .select_related("label", "author", "task__round", "task")
        .order_by("pk"),
        "tasks": row.review_tasks.select_related("round", "holder").order_by("-round_id"),
        "previous": project.items.filter(pk__lt=row.pk).order_by("-pk").values_list("pk", flat=True).first(),
        "following": project.items.filter(pk__gt=row.pk).order_by("pk").values_list("pk", flat=True).first(),
    }
    return render(request, "items/item.html", context)


def waits_blind(row: Item) -> bool:
    """Whether somebody is still to label the item without seeing a machine's label."""
    return ReviewTask.objects.filter(
        item=row,
        round__kind__in=[ReviewRound.Kind.CALIBRATION, ReviewRound.Kind.AUDIT],
        round__state=ReviewRound.State.OPEN,
        state__in=[ReviewTask.State.WAITING, ReviewTask.State.LEASED],
    ).exists()
