"""Labelled items shown to an annotator with each item: what a run draws them from.

A run's pool, ids and labels, is fixed when the run starts: a run that is paused for days shows the same examples
when it goes on. An item is never shown itself as an example, nor an item with the same text, question and image: in
a data set with copies, and on calibration items, that would tell the answer.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from annotate.contents import item_content, items_in_order
from annotate.errors import Refusal
from annotate.label_sets import need_label_set
from annotate.models import Item, Project
from annotate.prompts import Example
from mllm.errors import CallError

MAX_EXAMPLES = 16
# An image costs about as much as a thousand words, and many models take few images at once.
MAX_IMAGE_EXAMPLES = 4
MAX_POOL = 5000
_POOL_SALT = 0x706F6F6C

# Gives the (item id, label id) pairs that people decided in rooms after this one; what comes later in it counts.
ExampleSource = Callable[[Project], Iterable[tuple[int, int]]]
_sources: list[ExampleSource] = []


def register_example_source(source: ExampleSource) -> None:
    """Let examples also be drawn from what `source` gives, beside the calibration labels."""
    if source not in _sources:
        _sources.append(source)


def most_examples(project: Project) -> int:
    """How many examples an item of this project can be shown with."""
    return MAX_IMAGE_EXAMPLES if project.task.needs_image else MAX_EXAMPLES


def example_parameters(project: Project, examples: int) -> dict[str, Any]:
    """A run's parameters for so many examples an item: the pool with its labels. Empty for 0 examples.

    The pool is every item with a person's label; beyond `MAX_POOL` a sample by the project's seed. Raises Refusal.
    """
    if not examples:
        return {}
    need_label_set(project, "there are no labelled items to show as examples", field="examples")
    most = most_examples(project)
    if not 1 <= examples <= most:
        raise Refusal(f"Show between 0 and {most} examples with each item.", field="examples")
    labelled = labelled_items(project)
    if not labelled:
        raise Refusal(
            "There are no labelled items to take examples from. Label a calibration set first.",
            field="examples",
        )
    ids = sorted(labelled)
    if len(ids) > MAX_POOL:
        rng = np.random.default_rng([project.seed, _POOL_SALT])
        ids = [ids[place] for place in sorted(rng.permutation(len(ids))[:MAX_POOL])]
    return {
        "examples": examples,
        "example_item_ids": ids,
        "example_label_ids": [labelled[item_id] for item_id in ids],
    }


def labelled_items(project: Project) -> dict[int, int]:
    """Label ids by item id: corrections and calibration labels. A calibration label counts before a correction: it
    was given without seeing a machine's.
    """
    labelled = {item_id: label_id for source in _sources for item_id, label_id in source(project)}
    labelled.update(project.calibration_labels.values_list("item_id", "label_id"))
    return labelled


def some_examples(project: Project, parameters: dict[str, Any]) -> list[Example]:
    """As many examples as an item is shown with, any of the pool: enough to tell what the prompts will cost."""
    position = label_positions(project)
    labels = dict(zip(parameters["example_item_ids"], parameters["example_label_ids"], strict=True))
    ids = list(labels)
    rng = np.random.default_rng(0)
    chosen = [ids[place] for place in rng.permutation(len(ids))[: parameters["examples"]]]
    return shown_examples({item_id: position[labels[item_id]] for item_id in chosen})


def shown_examples(labels: Mapping[int, int]) -> list[Example]:
    """The items with these ids and label positions, in this order; one that cannot be read is left out."""
    examples = []
    for item in items_in_order(list(labels)):
        with suppress(CallError):
            examples.append(Example(item_content(item), labels[item.pk]))
    return examples


def content_of(item: Item) -> str:
    """Equal for items that show the same: text and question but for case and spaces, and the image's bytes."""
    written = [" ".join(part.casefold().split()) for part in (item.text, item.question)]
    image = item.image.sha256 if item.image else ""
    return hashlib.sha256("\x00".join([*written, image]).encode(errors="surrogatepass")).hexdigest()


def label_positions(project: Project) -> dict[int, int]:
    """The position of each label of the project, by its id."""
    return {
        pk: place for place, pk in enumerate(project.labels.order_by("position").values_list("pk", flat=True))
    }
