"""What a project's guidelines say, as pages and the review screen show them."""

from collections.abc import Collection
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.urls import reverse

from annotate.markdown import markdown
from annotate.models import Item, Label, LabelExample, Project

MOST_SHOWN = 600  # characters of an example's text beside another item
_TOP = 4  # labels are headings of level 3 wherever guidelines stand


def labels_with_examples(project: Project, *, without: Collection[int] = ()) -> QuerySet[Label]:
    """The project's labels in order, each with its examples but those of the items `without`."""
    examples = LabelExample.objects.select_related("item__image", "created_by").exclude(item__in=without)
    return project.labels.order_by("position").prefetch_related(
        Prefetch("examples", queryset=examples.order_by("pk"))
    )


def guidelines_for_screen(project: Project, *, without: Collection[int] = ()) -> list[dict[str, Any]]:
    """The guidelines of each label, in order, for the side of the item under review.

    `without` are ids of items that must not be shown as examples now. Texts of examples are cut to 600 characters.
    """
    return [
        {
            "label_id": label.pk,
            "position": label.position,
            "name": label.name,
            "description": label.description,
            "html": markdown(label.guideline, _TOP),
            "examples": [example_for_screen(example) for example in label.examples.all()],
        }
        for label in labels_with_examples(project, without=without)
    ]


def example_for_screen(example: LabelExample) -> dict[str, Any]:
    item = example.item
    return {
        "id": example.pk,
        "item_id": item.pk,
        "external_id": item.external_id,
        "image_url": _image_url(item),
        "image_width": item.image.width if item.image else None,
        "image_height": item.image.height if item.image else None,
        "question": _cut(item.question),
        "text": _cut(item.text),
        "note": example.note,
    }


def _image_url(item: Item) -> str | None:
    return reverse("api:item_image", args=[item.pk]) if item.image_id else None


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1].rstrip() + "…"
