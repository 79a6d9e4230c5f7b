"""Connections to providers, and prices. A key goes in and never comes out."""

from dataclasses import asdict
from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import connection_for, connections_of, require_staff
from annotate.api.endpoint import Endpoint, Input
from annotate.connections import PROVIDER_CHOICES, list_models, try_model
from annotate.models import Connection, ModelPrice
from annotate.services.connections import (
    MOST_A_MINUTE,
    MOST_IN_FLIGHT,
    SAVED_FIELDS,
    connection_save,
    price_save,
)
from mllm.prices import AS_OF, DEFAULT_PRICES, NOTE


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    provider = serializers.ChoiceField(PROVIDER_CHOICES, read_only=True)
    has_key = serializers.BooleanField(read_only=True, help_text="The key itself is never sent.")

    class Meta:
        model = Connection
        fields = [
            "id",
            "name",
            "provider",
            "base_url",
            "has_key",
            "key_variable",
            "in_flight",
            "timeout",
            "requests_per_minute",
            "tokens_per_minute",
            "created_at",
        ]
        read_only_fields = fields


class ConnectionCreateSerializer(Input):
    name = serializers.CharField(max_length=80)
    provider = serializers.ChoiceField(PROVIDER_CHOICES)
    base_url = serializers.CharField(
        max_length=500, required=False, allow_blank=True, help_text="Empty: the provider's own."
    )
    key = serializers.CharField(
        max_length=2000,
        required=False,
        allow_blank=True,
        write_only=True,
        help_text="Kept encrypted, never sent back. Left out: as it is. Empty: removed.",
    )
    key_variable = serializers.CharField(
        max_length=80,
        required=False,
        allow_blank=True,
        help_text="Name of the server's environment variable that holds the key, instead of storing it.",
    )
    in_flight = serializers.IntegerField(
        required=False, min_value=1, max_value=MOST_IN_FLIGHT, help_text="Calls at once."
    )
    timeout = serializers.IntegerField(
        required=False, min_value=1, max_value=3600, help_text="Seconds for one call."
    )
    requests_per_minute = serializers.IntegerField(
        required=False, min_value=0, max_value=MOST_A_MINUTE, help_text="0: no limit."
    )
    tokens_per_minute = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_A_MINUTE,
        help_text="Input and output together. 0: no limit.",
    )


class ConnectionUpdateSerializer(ConnectionCreateSerializer):
    name = serializers.CharField(max_length=80, required=False)
    provider = serializers.ChoiceField(PROVIDER_CHOICES, required=False)


class ConnectionTestSerializer(Input):
    model = serializers.CharField(max_length=200)


class ConnectionTestResultSerializer(serializers.Serializer[Any]):
    """What the model answered to a short call."""

    text = serializers.CharField()
    model = serializers.CharField(help_text="As the provider names it.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    latency = serializers.FloatField(help_text="Seconds.")


class ModelNamesSerializer(serializers.Serializer[Any]):
    models = serializers.ListField(child=serializers.CharField())


class Connections(Endpoint):
    tag = "connections"

    @extend_schema(summary="Your connections", responses=ConnectionSerializer(many=True))
    def get(self, request: Request) -> Response:
        return self.page(connections_of(self.user), ConnectionSerializer)

    @extend_schema(
        summary="Connect to a provider",
        request=ConnectionCreateSerializer,
        responses={201: ConnectionSerializer},
        examples=[
            OpenApiExample(
                "A model server of your own",
                value={"name": "vLLM", "provider": "openai", "base_url": "http://127.0.0.1:9000/v1"},
                request_only=True,
            ),
            OpenApiExample(
                "A key from the server's environment",
                value={"name": "Claude", "provider": "anthropic", "key_variable": "ANTHROPIC_API_KEY"},
                request_only=True,
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        given = self.given(ConnectionCreateSerializer)
        connection = connection_save(connection=Connection(owner=self.user), **given)
        return self.reply(ConnectionSerializer, connection, status=201)


class OneConnection(Endpoint):
    tag = "connections"

    @extend_schema(summary="Read a connection", responses=ConnectionSerializer)
    def get(self, request: Request, connection_id: int) -> Response:
        return self.reply(ConnectionSerializer, connection_for(self.user, connection_id))

    @extend_schema(
        summary="Change a connection",
        description="When the address changes, the key has to be given again.",
        request=ConnectionUpdateSerializer,
        responses=ConnectionSerializer,
    )
    def patch(self, request: Request, connection_id: int) -> Response:
        connection = connection_for(self.user, connection_id)
        current = {name: getattr(connection, name) for name in SAVED_FIELDS}
        given = self.given(ConnectionUpdateSerializer)
        connection = connection_save(connection=connection, **(current | given))
        return self.reply(ConnectionSerializer, connection)

    @extend_schema(
        summary="Delete a connection",
        description="Its key is gone; runs that used it keep their results and cannot go on.",
        responses={204: None},
    )
    def delete(self, request: Request, connection_id: int) -> Response:
        connection_for(self.user, connection_id).delete()
        return Response(status=204)


class ConnectionTest(Endpoint):
    tag = "connections"

    @extend_schema(
        summary="Try a model with one short call",
        request=ConnectionTestSerializer,
        responses={200: ConnectionTestResultSerializer},
    )
    def post(self, request: Request, connection_id: int) -> Response:
        connection = connection_for(self.user, connection_id)
        reply = try_model(connection, **self.given(ConnectionTestSerializer))
        return self.reply(ConnectionTestResultSerializer, reply)


class ConnectionModels(Endpoint):
    tag = "connections"

    @extend_schema(summary="The models that a connection offers", responses=ModelNamesSerializer)
    def get(self, request: Request, connection_id: int) -> Response:
        models = list_models(connection_for(self.user, connection_id))
        return self.reply(ModelNamesSerializer, {"models": models})


class PriceSerializer(serializers.ModelSerializer[ModelPrice]):
    provider = serializers.ChoiceField(PROVIDER_CHOICES, read_only=True)
    input = serializers.FloatField(read_only=True, help_text="US$ per million tokens.")
    output = serializers.FloatField(read_only=True, help_text="US$ per million tokens.")
    cached_input = serializers.FloatField(
        read_only=True, allow_null=True, help_text="US$ per million tokens."
    )
    updated_by = serializers.CharField(
        source="updated_by.username", read_only=True, default=None, allow_null=True
    )

    class Meta:
        model = ModelPrice
        fields = ["id", "provider", "model", "input", "output", "cached_input", "updated_by", "updated_at"]
        read_only_fields = fields


class PriceSaveSerializer(Input):
    provider = serializers.ChoiceField(PROVIDER_CHOICES)
    model = serializers.CharField(
        max_length=200, help_text="A name or its beginning; the longest match counts."
    )
    input = serializers.DecimalField(max_digits=10, decimal_places=4, min_value=0)
    output = serializers.DecimalField(max_digits=10, decimal_places=4, min_value=0)
    cached_input = serializers.DecimalField(
        max_digits=10, decimal_places=4, min_value=0, required=False, allow_null=True
    )


class ShippedPriceSerializer(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField()
    input = serializers.FloatField()
    output = serializers.FloatField()
    cached_input = serializers.FloatField(allow_null=True)


class ShippedPricesSerializer(serializers.Serializer[Any]):
    as_of = serializers.CharField()
    note = serializers.CharField()
    prices = ShippedPriceSerializer(many=True)


class Prices(Endpoint):
    tag = "prices"

    @extend_schema(summary="Prices that people entered", responses=PriceSerializer(many=True))
    def get(self, request: Request) -> Response:
        return self.page(ModelPrice.objects.select_related("updated_by"), PriceSerializer)

    @extend_schema(
        summary="Enter or change a price",
        description="For administrators, since all projects share the prices.",
        request=PriceSaveSerializer,
        responses={201: PriceSerializer},
    )
    def post(self, request: Request) -> Response:
        require_staff(self.user)
        price = price_save(user=self.user, **self.given(PriceSaveSerializer))
        return self.reply(PriceSerializer, price, status=201)


class OnePrice(Endpoint):
    tag = "prices"

    @extend_schema(
        summary="Go back to the shipped price, if there is one",
        description="For administrators, since all projects share the prices.",
        responses={204: None},
    )
    def delete(self, request: Request, price_id: int) -> Response:
        require_staff(self.user)
        deleted, _ = ModelPrice.objects.filter(pk=price_id).delete()
        if not deleted:
            raise Http404("There is no such price.")
        return Response(status=204)


class ShippedPrices(Endpoint):
    tag = "prices"

    @extend_schema(
        summary="The prices that ship, used where nobody entered one", responses=ShippedPricesSerializer
    )
    def get(self, request: Request) -> Response:
        prices = [
            {"provider": provider, "model": model, **asdict(price)}
            for provider, models in DEFAULT_PRICES.items()
            for model, price in models.items()
        ]
        return self.reply(ShippedPricesSerializer, {"as_of": AS_OF, "note": NOTE, "prices": prices})
