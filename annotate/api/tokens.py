"""Tokens that stand for an account in calls of the API.

They are made and revoked by name and password or in the browser, never by token: one that leaks makes no others.
"""

from django.http import Http404
from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from rest_framework import serializers
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.endpoint import Endpoint


class TokenSerializer(serializers.ModelSerializer[AuthToken]):
    key = serializers.CharField(
        source="token_key", read_only=True, help_text="The token's beginning, by which you can tell it."
    )

    class Meta:
        model = AuthToken
        fields = ["key", "created", "expiry"]
        read_only_fields = fields


class NewTokenSerializer(TokenSerializer):
    token = serializers.CharField(read_only=True, help_text="The whole token. It is shown only now.")

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]
        read_only_fields = fields


class TokenEndpoint(Endpoint):
    tag = "tokens"
    # The first one names what an anonymous caller is asked for.
    authentication_classes = [BasicAuthentication, SessionAuthentication]


class Tokens(TokenEndpoint):
    @extend_schema(summary="Your tokens, newest first", responses=TokenSerializer(many=True))
    def get(self, request: Request) -> Response:
        return self.page(AuthToken.objects.filter(user=self.user), TokenSerializer, order="-created")

    @extend_schema(
        summary="Make a token",
        description="Sign in with name and password (HTTP basic) or a session.",
        request=None,
        responses={201: NewTokenSerializer},
    )
    def post(self, request: Request) -> Response:
        row, token = AuthToken.objects.create(user=self.user)
        row.token = token
        return self.reply(NewTokenSerializer, row, status=201)


class OneToken(TokenEndpoint):
    @extend_schema(summary="Revoke a token", responses={204: None})
    def delete(self, request: Request, key: str) -> Response:
        deleted, _ = AuthToken.objects.filter(user=self.user, token_key=key).delete()
        if not deleted:
            raise Http404("You have no such token.")
        return Response(status=204)
