"""Items, their images, and the calibration set."""

from typing import Any

from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, project_for
from annotate.api.endpoint import Endpoint, Filter, Input
from annotate.image_response import MEDIA_TYPES, image_response
from annotate.models import Item, Label
from annotate.selectors import calibration_state
from annotate.services.calibration import calibration_from_gold


class LabelNameSerializer(serializers.ModelSerializer[Label]):
    class Meta:
        model = Label
        fields = ["id", "name"]
        read_only_fields = fields


class GoldAnswerSerializer(serializers.Serializer[Any]):
    """An answer that is known to be right: its wording, and the first of its characters in the text."""

    text = serializers.CharField()
    start = serializers.IntegerField()


class ItemSerializer(serializers.ModelSerializer[Item]):
    """An item with the answers that are known of it. Reviewers, who stay blind to them, see it in their queue alone."""

    columns = serializers.DictField(read_only=True, help_text="The upload's columns that have no other part.")
    image_url = serializers.SerializerMethodField()
    gold = LabelNameSerializer(read_only=True, allow_null=True)
    calibration = LabelNameSerializer(
        source="calibration_label.label", read_only=True, allow_null=True, default=None
    )
    gold_answers = GoldAnswerSerializer(
        many=True,
        read_only=True,
        allow_null=True,
        help_text="Where answers are spans of the text: empty where it holds none, null where none is known.",
    )
    calibration_answers = GoldAnswerSerializer(
        source="calibration_label.answers",
        many=True,
        read_only=True,
        allow_null=True,
        default=None,
        help_text="The same as a person gave it in the calibration set.",
    )

    class Meta:
        model = Item
        fields = [
            "id",
            "project",
            "external_id",
            "text",
            "question",
            "image_url",
            "columns",
            "gold",
            "calibration",
            "gold_answers",
            "calibration_answers",
        ]
        read_only_fields = fields

    def get_image_url(self, item: Item) -> str | None:
        return image_url(item)


def image_url(item: Item) -> str | None:
    return reverse("api:item_image", args=[item.pk]) if item.image_id else None


class ItemEndpoint(Endpoint):
    tag = "items"

    def items(self) -> QuerySet[Item]:
        return Item.objects.select_related("project", "image", "gold", "calibration_label__label")

    def item(self, item_id: int, *, may: May) -> Item:
        return found_for(self.user, self.items(), item_id, project="project", may=may)


class OneItem(ItemEndpoint):
    @extend_schema(summary="Read an item", responses=ItemSerializer)
    def get(self, request: Request, item_id: int) -> Response:
        return self.reply(ItemSerializer, self.item(item_id, may=May.SEE))


class ExternalIdFilter(Filter):
    external_id = serializers.CharField(
        max_length=255, trim_whitespace=False, help_text="The item's id in the upload, as it stands there."
    )


class ItemByExternalId(ItemEndpoint):
    @extend_schema(
        summary="Find an item by its id in the upload",
        parameters=[ExternalIdFilter],
        responses=ItemSerializer,
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.SEE)
        name = self.asked(ExternalIdFilter)["external_id"]
        row = self.items().filter(project=project, external_id=name).first()
        if row is None:
            raise Http404(f"There is no item “{name}” in this project, or not any more.")
        return self.reply(ItemSerializer, row)


class ItemImage(ItemEndpoint):
    @extend_schema(
        summary="An item's image",
        responses={(200, media_type): OpenApiTypes.BINARY for media_type in MEDIA_TYPES},
    )
    def get(self, request: Request, item_id: int) -> HttpResponse | FileResponse:
        return image_response(request, self.item(item_id, may=May.ENTER))


class LabelCountSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]
    count = serializers.IntegerField()


class CalibrationSerializer(serializers.Serializer[Any]):
    """The calibration set: items that a person answered without seeing a machine's answer."""

    items = serializers.IntegerField()
    from_gold = serializers.IntegerField()
    by_people = serializers.IntegerField()
    gold_left = serializers.IntegerField(
        help_text="Items with a gold label, or gold answers, that could join it."
    )
    labels = LabelCountSerializer(many=True)


class CalibrationFromGoldSerializer(Input):
    count = serializers.IntegerField(min_value=1)


class Calibration(Endpoint):
    tag = "calibration"

    @extend_schema(summary="The calibration set", responses=CalibrationSerializer)
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        return self.reply(CalibrationSerializer, calibration_state(project))


class CalibrationFromGold(Endpoint):
    tag = "calibration"

    @extend_schema(
        summary="Make calibration items of random items with a gold label or gold answers",
        description="For items without one, make a review round of kind `calibration`, which people answer.",
        request=CalibrationFromGoldSerializer,
        responses={201: CalibrationSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        calibration_from_gold(project=project, user=self.user, **self.given(CalibrationFromGoldSerializer))
        return self.reply(CalibrationSerializer, calibration_state(project), status=201)
