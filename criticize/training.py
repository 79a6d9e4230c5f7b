"""The trained criticizer of a run: the annotations and calibration items it learns from, and the fit."""

from functools import lru_cache

import numpy as np

from annotate.contents import label_specs
from annotate.training import trained_items, training_set
from criticize.models import CriticismRun
from criticize.selectors import annotations_in_order
from criticize.trained import MAX_TRAINING_ITEMS, TrainedCriticizer
from jobs.work import CannotGoOn
from mllm.errors import Failure


@lru_cache(maxsize=2)
def fitted_criticizer(run_id: int) -> tuple[TrainedCriticizer, dict[int | None, int]]:
    """The run's classifier and the position of each label: the same in every process."""
    run = CriticismRun.objects.select_related("annotation_run__project").get(pk=run_id)
    project = run.annotation_run.project
    labels, _ = label_specs(project)
    position: dict[int | None, int] = {label.pk: index for index, label in enumerate(labels)}
    calibration, calibration_labels = training_set(
        run.annotation_run.project, run.parameters["training_item_ids"]
    )
    annotation_ids = _training_annotations(run)
    annotations = list(annotations_in_order(annotation_ids))
    classifier = TrainedCriticizer(project.task_type, len(labels), run.seed)
    try:
        classifier.fit(
            trained_items(annotation.item for annotation in annotations),
            np.array([position[annotation.label_id] for annotation in annotations]),
            np.array([annotation.item_id for annotation in annotations]),
            trained_items(calibration),
            np.array(calibration_labels),
        )
    except ValueError as error:
        raise CannotGoOn(str(error), failure=Failure.BAD_REQUEST, pause=False) from error
    return classifier, position


def _training_annotations(run: CriticismRun) -> list[int]:
    """Ids of the annotations it learns from: all, or a seeded sample where there are more than it takes."""
    ids = list(
        run.annotation_run.annotations.filter(failure="").order_by("item_id").values_list("pk", flat=True)
    )
    if len(ids) <= MAX_TRAINING_ITEMS:
        return ids
    rng = np.random.default_rng(run.seed)
    return [ids[i] for i in sorted(rng.permutation(len(ids))[:MAX_TRAINING_ITEMS])]
