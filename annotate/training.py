"""The trained annotator of a run: its training set, and the classifier fitted on it."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from PIL import Image as PillowImage

from annotate.contents import items_in_order, label_specs
from annotate.models import AnnotationRun, Item, Label, Project, StoredImage
from annotate.trained import TrainedAnnotator, TrainedItem
from jobs.work import CannotGoOn
from mllm.errors import Failure


@lru_cache(maxsize=4)
def fitted_annotator(run_id: int) -> tuple[list[Label], TrainedAnnotator]:
    """The run's classifier: the same in every process, since data and seed are the run's own."""
    run = AnnotationRun.objects.select_related("project").get(pk=run_id)
    labels, _ = label_specs(run.project)
    items, indices = training_set(run.project, run.parameters["training_item_ids"])
    classifier = TrainedAnnotator(run.project.task_type, len(labels), run.seed)
    try:
        classifier.fit(trained_items(items), indices)
    except ValueError as error:
        raise CannotGoOn(str(error), failure=Failure.BAD_REQUEST, pause=False) from error
    return labels, classifier


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
