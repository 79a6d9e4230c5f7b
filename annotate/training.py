"""The trained annotator of a run: its training set, and the classifier fitted on it."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from PIL import Image as PillowImage

from annotate.contents import items_in_order, label_specs
from annotate.models import AnnotationRun, Item, Label, Project, StoredImage
from annotate.trained import TrainedAnnotator, TrainedItem
from jobs.work import CannotGoOn
from mllm.errors import Failure


class RunAnnotator:
    """The classifiers of a trained run: one that learned from all its training items, or for a candidate one a fold.

    A candidate labels the very items that it learns from, so each item is labelled by the classifier that saw every
    fold but the item's own: none saw the item's label.
    """

    def __init__(self, run: AnnotationRun) -> None:
        self._run = run
        self._labels, _ = label_specs(run.project)
        ids = run.parameters["training_item_ids"]
        folds = run.parameters.get("training_folds") or [0] * len(ids)
        self._fold = dict(zip(ids, folds, strict=True))
        self._is_cross_fitted = "training_folds" in run.parameters
        self._classifiers: list[TrainedAnnotator] = []

    def fit(self, *, between: Callable[[], None]) -> None:
        """Learn, unless it has; `between` is called after each classifier. Raises CannotGoOn."""
        if self._classifiers:
            return
        project = self._run.project
        items, indices = training_set(project, list(self._fold))
        seen = trained_items(items)
        fold_of = [self._fold[item.pk] for item in items]
        classifiers = []
        for left_out in range(max(self._fold.values()) + 1):
            kept = [i for i, fold in enumerate(fold_of) if fold != left_out or not self._is_cross_fitted]
            classifier = TrainedAnnotator(project.task_type, len(self._labels), self._run.seed)
            try:
                classifier.fit([seen[i] for i in kept], [indices[i] for i in kept])
            except ValueError as error:
                raise CannotGoOn(str(error), failure=Failure.BAD_REQUEST, pause=False) from error
            classifiers.append(classifier)
            between()
        self._classifiers = classifiers

    def predict(self, items: Sequence[Item]) -> list[tuple[Label, float]]:
        """Each item's label and the probability given to it, in [0, 1]. An item of no fold is labelled by the first
        classifier: none saw it.
        """
        answers: dict[int, tuple[Label, float]] = {}
        for left_out, classifier in enumerate(self._classifiers):
            mine = [item for item in items if self._fold.get(item.pk, 0) == left_out]
            indices, confidences = classifier.predict(trained_items(mine))
            for item, index, confidence in zip(mine, indices, confidences, strict=True):
                answers[item.pk] = self._labels[index], float(confidence)
        return [answers[item.pk] for item in items]


@lru_cache(maxsize=4)
def annotator_of(run_id: int) -> RunAnnotator:
    """The run's classifiers: the same in every process, since data and seed are the run's own."""
    return RunAnnotator(AnnotationRun.objects.select_related("project").get(pk=run_id))


def training_set(project: Project, item_ids: Sequence[int]) -> tuple[list[Item], list[int]]:
    """The calibration items with these ids and the positions of their labels."""
    position = {
        pk: index for index, pk in enumerate(project.labels.order_by("position").values_list("pk", flat=True))
    }
    given = dict(project.calibration_labels.filter(item_id__in=item_ids).values_list("item_id", "label_id"))
    items = [item for item in items_in_order(item_ids) if item.pk in given]
    return items, [position[given[item.pk]] for item in items]


def trained_items(items: Iterable[Item]) -> list[TrainedItem]:
    """The items as the trained classifiers take them, with their images decoded."""
    return [
        TrainedItem(
            text=item.text, question=item.question, image=_picture(item.image) if item.image else None
        )
        for item in items
    ]


def _picture(image: StoredImage) -> PillowImage.Image:
    with image.file.open("rb") as file:
        picture = PillowImage.open(file)
        picture.load()
        return picture
