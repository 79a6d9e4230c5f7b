"""What every endpoint of the API shares: strict input, cursor pages, and a schema that names the problems."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar, cast

from django.conf import settings
from django.db.models import Model, QuerySet
from django.utils.functional import classproperty
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import get_doc
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.generics import GenericAPIView
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, to_manage
from annotate.errors import Refusal
from annotate.models import User
from annotate.problems import Pagination
from annotate.sent_again import HEADER, MOST_CHARACTERS, done_once
from annotate.uploads.limits import format_bytes

Row = TypeVar("Row", bound=Model)

_PAGE_PARAMETERS = {"cursor", "page_size", "format"}


class Input(serializers.Serializer[Any]):
    """Values that come in. A name that is not known is an error: a limit with a typing mistake must not be no limit."""

    allowed_beside: set[str] = set()

    def to_internal_value(self, data: Any) -> Any:
        unknown = set(data) - set(self.fields) - self.allowed_beside if isinstance(data, Mapping) else set()
        known = ", ".join(self.fields) or "none"
        errors: dict[str, Any] = {
            str(name): [f"There is no value of this name here. Known are: {known}."] for name in unknown
        }
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError(errors | cast(dict[str, Any], error.detail)) from error
        if errors:
            raise serializers.ValidationError(errors)
        return values


class Filter(Input):
    """Values that come in the address of a list."""

    allowed_beside = _PAGE_PARAMETERS


class TooLarge(exceptions.APIException):
    status_code = 413
    default_code = "too_large"


class ProblemSerializer(serializers.Serializer[Any]):
    """An error as problem details (RFC 9457)."""

    type = serializers.CharField(help_text="Always about:blank: the status says what kind of problem it is.")
    title = serializers.CharField(help_text="The status in words.")
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="One sentence that says what is wrong and what to do.")
    errors = serializers.DictField(  # type: ignore[assignment]
        required=False,
        help_text="For values that are missing or not usable: sentences by the value's name.",
    )


_PROBLEMS = {
    "400": "A value is missing or not usable, or what was asked for cannot be done.",
    "401": "Nobody is signed in: send a token.",
    "403": "Your role in the project does not allow this.",
    "404": "There is no such thing, or you are not a member of its project.",
    "409": "The state it is in does not allow this, or somebody was faster.",
    "422": f"The {HEADER} was sent before with another address or body.",
    "507": "The disk of the server is full. Nothing of what was sent is kept.",
}


_KEY_PARAMETER = OpenApiParameter(
    HEADER,
    {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS},
    OpenApiParameter.HEADER,
    description="A new one of your own for each request, such as a UUID. The same request sent again with it within a "
    "day is answered as before and not done again.",
)


class EndpointSchema(AutoSchema):
    """The schema of an endpoint, with the problems that it can answer."""

    @property
    def endpoint(self) -> "Endpoint":
        return cast(Endpoint, self.view)

    def get_tags(self) -> list[str]:
        return [self.endpoint.tag] if self.endpoint.tag else super().get_tags()

    def get_description(self) -> str:  # type: ignore[override]
        """What the method says. The docstring of its class is for who reads the code."""
        return get_doc(getattr(self.view, self.method.lower()))

    def get_override_parameters(self) -> list[Any]:
        given: list[Any] = super().get_override_parameters()
        return [*given, _KEY_PARAMETER] if self.method == "POST" else given

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        for status, description in _PROBLEMS.items():
            if self._can_answer(status) and status not in responses:
                problem = OpenApiResponse(ProblemSerializer, description)
                responses[status] = self._get_response_for_code(  # type: ignore[no-untyped-call]
                    problem, status, ["application/problem+json"], direction
                )
        return responses

    def _can_answer(self, status: str) -> bool:
        if status == "404":
            return "{" in self.path or self._is_list_view()
        if status == "507":
            return self.method != "GET"
        return status not in ("409", "422") or self.method == "POST"


class FlatJSONParser(JSONParser):
    """JSON as far as Python's own parser follows its brackets, of whole characters only."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            values = super().parse(stream, media_type, parser_context)
            # Half a character can neither be stored nor, in the sentence about it, be answered.
            json.dumps(values, ensure_ascii=False).encode()
        except RecursionError as error:
            raise exceptions.ParseError("The JSON is nested too deeply.") from error
        except UnicodeEncodeError as error:
            raise exceptions.ParseError("The JSON holds half a character (a lone surrogate).") from error
        return values


class Endpoint(GenericAPIView[Any]):
    """One address. Methods check the input, make one call, and answer."""

    schema = EndpointSchema()
    parser_classes = [FlatJSONParser]
    filter_backends = []
    pagination_class: Any = Pagination
    tag = ""
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    post: Any

    @classproperty
    def largest_body(cls) -> int:  # noqa: N805
        """Bytes. A body that announces more is refused before anything of it is read."""
        return settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Before signing in: checking a session's CSRF token would read the whole body.
        check_announced_size(request, self.largest_body)
        super().initial(request, *args, **kwargs)
        key = request.headers.get(HEADER)
        if key is not None and request.method == "POST" and hasattr(self, "post"):
            self.post = partial(done_once, key, self.post)

    @property
    def needed(self) -> May:
        """What a member needs who may read this where reading is for all who see, and writing for managers."""
        return to_manage(self.request.method)

    @property
    def user(self) -> User:
        return cast(User, self.request.user)

    def given(self, serializer: type[serializers.BaseSerializer[Any]]) -> dict[str, Any]:
        """The body's values. Raises ValidationError."""
        return self._checked(serializer, self.request.data)

    def asked(self, serializer: type[serializers.BaseSerializer[Any]]) -> dict[str, Any]:
        """The values in the address. Raises ValidationError."""
        return self._checked(serializer, self.request.query_params.dict())

    def _checked(self, serializer: type[serializers.BaseSerializer[Any]], data: Any) -> dict[str, Any]:
        checked = serializer(data=data, context=self.get_serializer_context())
        checked.is_valid(raise_exception=True)
        return cast(dict[str, Any], checked.validated_data)

    def page(
        self, rows: QuerySet[Any], serializer: type[serializers.BaseSerializer[Any]], *, order: str = "-pk"
    ) -> Response:
        """One page of the rows. `order` is a column that is unique among them."""
        paginator = Pagination()
        paginator.ordering = order
        page = paginator.paginate_queryset(rows, self.request, view=self)
        return paginator.get_paginated_response(
            serializer(page, many=True, context=self.get_serializer_context()).data
        )

    def reply(
        self, serializer: type[serializers.BaseSerializer[Any]], of: Any, *, status: int = 200
    ) -> Response:
        return Response(serializer(of, context=self.get_serializer_context()).data, status=status)


def check_announced_size(request: Request, most: int) -> None:
    """Raise TooLarge for a body that announces more bytes than accepted."""
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdecimal() and int(announced) > most:
        raise TooLarge(
            f"The request has {format_bytes(int(announced))}; at most {format_bytes(most)} are accepted here."
        )


def chosen(rows: QuerySet[Row], pk: int, *, field: str, what: str) -> Row:
    """The row that a value of the body names. Raises Refusal."""
    row = rows.filter(pk=pk).first()
    if row is None:
        raise Refusal(f"There is no {what} {pk} here.", field=field)
    return row


class UnknownAddress(Endpoint):
    """Answers every address that is none of the API's as the API answers: with a problem."""

    permission_classes = []
    authentication_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise exceptions.NotFound("There is nothing at this address. All addresses end with a slash.")

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:  # pragma: no cover - initial has raised
        raise exceptions.NotFound
