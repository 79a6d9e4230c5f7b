"""The trained criticizer of a run: the annotations and calibration items it learns from, and the fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from annotate.contents import items_in_order, label_specs
from annotate.examples import content_of
from annotate.models import Annotation, AnnotationRun, Item
from annotate.training import trained_items, training_set
from criticize.models import CriticismRun
from criticize.selectors import annotations_in_order
from criticize.trained import MAX_TRAINING_ITEMS, TrainedCriticizer
from jobs.work import CannotGoOn
from mllm.errors import Failure


@dataclass(frozen=True)
class FittedCriticizer:
    """A run's classifier. It knows items by their place in the run and labels by their position: the ids of the
    database differ from one import of a data set to the next, and the same data must give the same ε̂.
    """

    classifier: TrainedCriticizer
    item_ids: npt.NDArray[np.int64]  # of all the run's annotations, rising
    position: dict[int | None, int]
    copies: dict[str, int] | None = None
    """Of a candidate, the place of the first item by what it shows: copies are judged without each other's labels."""

    def error_probabilities(self, annotations: Sequence[Annotation]) -> npt.NDArray[np.float64]:
        """ε̂ of each annotation, shape (n,)."""
        return self.classifier.error_probabilities(
            trained_items(annotation.item for annotation in annotations),
            self.labels_of(annotations),
            self.places_of(annotations),
        )

    def labels_of(self, annotations: Sequence[Annotation]) -> npt.NDArray[np.int64]:
        return np.array([self.position[annotation.label_id] for annotation in annotations], dtype=np.int64)

    def places_of(self, annotations: Sequence[Annotation]) -> npt.NDArray[np.int64]:
        return self.places_or_none([annotation.item for annotation in annotations])

    def places_or_none(self, items: Sequence[Item]) -> npt.NDArray[np.int64]:
        """The items' places, −1 for those that the run did not annotate."""
        if self.copies is not None:
            return np.array([self.copies.get(content_of(item), -1) for item in items], dtype=np.int64)
        ids = np.array([item.pk for item in items], dtype=np.int64)
        places = np.searchsorted(self.item_ids, ids)
        is_annotated = np.isin(ids, self.item_ids)
        return np.where(is_annotated, places, -1)


@lru_cache(maxsize=2)
def fitted_criticizer(run_id: int) -> FittedCriticizer:
    """The run's classifier, the same in every process. Raises CannotGoOn."""
    run = CriticismRun.objects.select_related("annotation_run__project").get(pk=run_id)
    project = run.annotation_run.project
    labels, _ = label_specs(project)
    position: dict[int | None, int] = {label.pk: index for index, label in enumerate(labels)}
    calibration, calibration_labels = training_set(
        run.annotation_run.project, run.parameters["training_item_ids"]
    )
    item_ids = list(run.annotation_run.annotations.order_by("item_id").values_list("item_id", flat=True))
    annotations = list(annotations_in_order(_training_annotations(run)))
    copies: dict[str, int] | None = None
    if run.annotation_run.scope == AnnotationRun.Scope.CALIBRATION:
        copies = {}
        for place, item in enumerate(items_in_order(item_ids)):
            copies.setdefault(content_of(item), place)
    fitted = FittedCriticizer(
        TrainedCriticizer(project.task_type, len(labels), run.seed),
        np.array(item_ids, dtype=np.int64),
        position,
        copies,
    )
    if copies is not None:  # of each thing shown, one label is learned from
        annotations = list({content_of(each.item): each for each in reversed(annotations)}.values())[::-1]
    try:
        fitted.classifier.fit(
            trained_items(annotation.item for annotation in annotations),
            fitted.labels_of(annotations),
            fitted.places_of(annotations),
            trained_items(calibration),
            np.array(calibration_labels),
            fitted.places_or_none(calibration),
        )
    except ValueError as error:
        raise CannotGoOn(str(error), failure=Failure.BAD_REQUEST, pause=False) from error
    return fitted


def _training_annotations(run: CriticismRun) -> list[int]:
    """Ids of the annotations it learns from: all, or a seeded sample where there are more than it takes."""
    ids = list(
        run.annotation_run.annotations.filter(failure="").order_by("item_id").values_list("pk", flat=True)
    )
    if len(ids) <= MAX_TRAINING_ITEMS:
        return ids
    rng = np.random.default_rng(run.seed)
    return [ids[i] for i in sorted(rng.permutation(len(ids))[:MAX_TRAINING_ITEMS])]
