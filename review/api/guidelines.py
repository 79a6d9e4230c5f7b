"""Guidelines of a project and the examples of its labels. Items that wait to be answered blind are no examples."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, project_for
from annotate.api.endpoint import Endpoint, Input, chosen
from annotate.errors import Refusal
from annotate.guidelines import example_for_screen, guidelines_for_screen
from annotate.markdown import markdown
from annotate.models import Item, Label, LabelExample, Project
from annotate.services.guidelines import MOST_NOTE, example_note, example_remove
from review.blindness import examples_to_hide
from review.services.examples import example_add, item_named


class ExampleSerializer(serializers.Serializer[Any]):
    """An item that shows what a label means."""

    id = serializers.IntegerField()
    item_id = serializers.IntegerField()
    external_id = serializers.CharField()
    image_url = serializers.CharField(allow_null=True)
    image_width = serializers.IntegerField(allow_null=True)
    image_height = serializers.IntegerField(allow_null=True)
    question = serializers.CharField()
    text = serializers.CharField(help_text="Up to 600 characters of it.")
    note = serializers.CharField(help_text="Why it is one.")

    def to_representation(self, instance: Any) -> Any:
        is_row = isinstance(instance, LabelExample)
        return super().to_representation(example_for_screen(instance) if is_row else instance)


class LabelGuidelineSerializer(serializers.Serializer[Any]):
    label_id = serializers.IntegerField()
    position = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    html = serializers.CharField(help_text="The label's guideline, made safe to show.")
    examples = ExampleSerializer(many=True)


class GuidelinesSerializer(serializers.Serializer[Any]):
    """What reviewers are told. Headings in the HTML begin at level 4."""

    html = serializers.CharField(help_text="The project's instructions, made safe to show.")
    labels = LabelGuidelineSerializer(many=True)


class ExampleCreateSerializer(Input):
    item = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1, help_text="Its id.")
    external_id = serializers.CharField(
        required=False, max_length=255, trim_whitespace=False, help_text="Its id in the upload, instead."
    )
    note = serializers.CharField(required=False, allow_blank=True, max_length=MOST_NOTE)


class ExampleUpdateSerializer(Input):
    note = serializers.CharField(allow_blank=True, max_length=MOST_NOTE)


class Guidelines(Endpoint):
    tag = "guidelines"

    @extend_schema(
        summary="A project's guidelines",
        description="For every member, as HTML beside an item under review.",
        responses=GuidelinesSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.ENTER)
        shown = {
            "html": markdown(project.instructions, 4),
            "labels": guidelines_for_screen(project, without=examples_to_hide(project)),
        }
        return self.reply(GuidelinesSerializer, shown)


class LabelExamples(Endpoint):
    tag = "guidelines"

    def label(self, label_id: int, may: May) -> Label:
        rows = Label.objects.select_related("project")
        return found_for(self.user, rows, label_id, project="project", may=may)

    @extend_schema(
        summary="The examples of a label",
        description="At most twelve, first made first.",
        responses=ExampleSerializer(many=True),
    )
    def get(self, request: Request, label_id: int) -> Response:
        label = self.label(label_id, May.ENTER)
        rows = label.examples.select_related("item__image").exclude(item__in=examples_to_hide(label.project))
        return self.page(rows, ExampleSerializer, order="pk")

    @extend_schema(
        summary="Make an item an example of a label",
        description="Refused while the item waits to be answered blind: an example shows its label.",
        request=ExampleCreateSerializer,
        responses={201: ExampleSerializer},
    )
    def post(self, request: Request, label_id: int) -> Response:
        label = self.label(label_id, May.MANAGE)
        given = self.given(ExampleCreateSerializer)
        item = _item(label.project, given.pop("item", None), given.pop("external_id", None))
        example = example_add(label=label, item=item, user=self.user, **given)
        return self.reply(ExampleSerializer, example, status=201)


def _item(project: Project, item_id: int | None, external_id: str | None) -> Item:
    if (item_id is None) == (external_id is None):
        raise Refusal("Name the item by `item`, its id, or by `external_id`.", field="item")
    if external_id is not None:
        return item_named(project, external_id)
    assert item_id is not None  # noqa: S101 (one of the two is given)
    return chosen(project.items.select_related("image"), item_id, field="item", what="item")


class OneLabelExample(Endpoint):
    tag = "guidelines"

    def example(self, example_id: int) -> LabelExample:
        rows = LabelExample.objects.select_related("label__project", "item__image")
        return found_for(self.user, rows, example_id, project="label__project", may=May.MANAGE)

    @extend_schema(
        summary="Change the note of an example",
        request=ExampleUpdateSerializer,
        responses=ExampleSerializer,
    )
    def patch(self, request: Request, example_id: int) -> Response:
        example = self.example(example_id)
        example_note(example=example, user=self.user, **self.given(ExampleUpdateSerializer))
        return self.reply(ExampleSerializer, example)

    @extend_schema(summary="Remove an example; the item stays", responses={204: None})
    def delete(self, request: Request, example_id: int) -> Response:
        example_remove(example=self.example(example_id), user=self.user)
        return Response(status=204)
