"""Items as models and classifiers take them: text, question and a prepared image."""

from collections.abc import Iterator, Sequence

from annotate.models import Item, Label, Project, StoredImage
from annotate.prompts import ItemContent, LabelSpec
from mllm.errors import CallError, Failure
from mllm.images import ImageError, prepare

# Items read from the database at a time.
BLOCK = 100


def items_in_order(item_ids: Sequence[int]) -> Iterator[Item]:
    """The items with these ids, in this order, read in blocks. Ids that are gone are left out."""
    for start in range(0, len(item_ids), BLOCK):
        block = item_ids[start : start + BLOCK]
        found = Item.objects.select_related("image").in_bulk(block)
        yield from (found[item_id] for item_id in block if item_id in found)


def label_specs(project: Project) -> tuple[list[Label], list[LabelSpec]]:
    """The project's labels in order, as rows and as models are told about them."""
    labels = list(project.labels.order_by("position"))
    return labels, [LabelSpec(label.name, label.description) for label in labels]


def item_content(item: Item) -> ItemContent:
    """What a model sees. Raises CallError where the image cannot be read."""
    image = None
    if item.image is not None:
        try:
            image = prepare(_bytes(item.image))
        except ImageError as error:
            raise CallError(Failure.BAD_REQUEST, f"The item's image cannot be read: {error}") from error
        except OSError as error:
            raise CallError(
                Failure.BAD_REQUEST,
                f"The item's image cannot be read: {error.strerror or 'its file is damaged'}.",
            ) from error
    return ItemContent(text=item.text, question=item.question, image=image)


def _bytes(image: StoredImage) -> bytes:
    with image.file.open("rb") as file:
        content: bytes = file.read()
        return content
