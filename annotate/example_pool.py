"""The pool of examples of a run, with what finds those nearest to an item. Apart, as it needs scikit-learn."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from annotate.contents import items_in_order
from annotate.examples import content_of, label_positions, shown_examples
from annotate.features import image_features
from annotate.models import AnnotationRun, Item, Project
from annotate.nearest import NearestItems
from annotate.prompts import Example
from annotate.trained import TrainedItem, uses_words, written_parts
from annotate.training import trained_items
from mllm.errors import CallError, Failure

# What Pillow raises for files that are gone, damaged or no images.
_UNREADABLE = (OSError, ValueError, SyntaxError)


class ExamplePool:
    """The items of a run's pool that can be read, and the features by which the nearest are found."""

    def __init__(self, project: Project, item_ids: Sequence[int], label_ids: Sequence[int]) -> None:
        self._task = project.task
        position = label_positions(project)
        labels = dict(zip(item_ids, label_ids, strict=True))
        self._ids: list[int] = []
        self._labels: list[int] = []
        contents: list[str] = []
        texts: list[str] = []
        images = []
        for item in items_in_order(item_ids):
            seen = self._seen(item)
            if seen is None:
                continue
            self._ids.append(item.pk)
            self._labels.append(position[labels[item.pk]])
            contents.append(content_of(item))
            texts += written_parts(self._task.key, [seen])
            if seen.image is not None:
                images.append(image_features([seen.image]))
        self._nearest = NearestItems(
            contents,
            texts if uses_words(self._task.key) else None,
            np.vstack([image_features([]), *images]) if self._task.needs_image else None,
        )

    def examples(self, item: Item, k: int) -> list[Example]:
        """The k nearest to the item, the nearest last and so next to it. Raises CallError where it cannot be read."""
        seen = self._seen(item)
        if seen is None:
            raise CallError(Failure.BAD_REQUEST, "The item's text or image is missing or cannot be read.")
        (text,) = written_parts(self._task.key, [seen])
        places = self._nearest.nearest(k, content_of(item), text, seen.image)
        return shown_examples({self._ids[place]: self._labels[place] for place in reversed(places)})

    def _seen(self, item: Item) -> TrainedItem | None:
        """The item as features are taken of it; None where what its task needs is missing or cannot be read."""
        try:
            (seen,) = trained_items([item])
        except _UNREADABLE:
            return None
        is_whole = (
            (seen.text.strip() or not self._task.needs_text)
            and (seen.question.strip() or not self._task.needs_question)
            and (seen.image is not None or not self._task.needs_image)
        )
        return seen if is_whole else None


@lru_cache(maxsize=2)
def example_pool(run_id: int) -> ExamplePool:
    """The run's pool: the same in every process, and made once in each."""
    run = AnnotationRun.objects.select_related("project").get(pk=run_id)
    parameters = run.parameters
    return ExamplePool(run.project, parameters["example_item_ids"], parameters["example_label_ids"])
