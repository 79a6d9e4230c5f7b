"""The keys of the review screen, as each person set them."""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoint import Endpoint, Input
from annotate.models import User
from review.keys import changed_keys


class ReviewKeysSerializer(serializers.Serializer[Any]):
    keys = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Keys that differ from the usual, by command.",
    )


class ReviewKeysChangeSerializer(Input):
    keys = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField(max_length=32), allow_null=True),
        help_text="By command, its keys; null gives it the usual ones back. Commands not named stay as they are.",
    )


class ReviewKeys(Endpoint):
    tag = "account"

    @extend_schema(summary="Your keys of the review screen", responses=ReviewKeysSerializer)
    def get(self, request: Request) -> Response:
        return self.reply(ReviewKeysSerializer, {"keys": self.user.review_keys})

    @extend_schema(
        summary="Change keys of the review screen",
        request=ReviewKeysChangeSerializer,
        responses=ReviewKeysSerializer,
        examples=[
            OpenApiExample("Skip with K", value={"keys": {"skip": ["k"], "undo": None}}, request_only=True)
        ],
    )
    def patch(self, request: Request) -> Response:
        changes = self.given(ReviewKeysChangeSerializer)["keys"]
        with transaction.atomic():
            user = User.objects.select_for_update(no_key=True).get(pk=self.user.pk)
            user.review_keys = changed_keys(user.review_keys, changes)
            user.save(update_fields=["review_keys"])
        return self.reply(ReviewKeysSerializer, {"keys": user.review_keys})
