"""API errors as problem details (RFC 9457), and cursor pagination."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404
from rest_framework import exceptions
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from annotate.errors import Refusal
from annotate.full_disk import NOTHING_KEPT, is_full_disk
from jobs.services import JobStateError


class Pagination(CursorPagination):
    ordering = "-pk"
    page_size_query_param = "page_size"
    max_page_size = 1000

    def paginate_queryset(
        self, queryset: QuerySet[Any] | Sequence[Any], request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """One page. Raises NotFound for a cursor that somebody made up."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError) as error:
            raise exceptions.NotFound(self.invalid_cursor_message) from error

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """One page in the OpenAPI schema."""
        address = {
            "type": ["string", "null"],
            "format": "uri",
            "description": "Of that page; null without one.",
        }
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": address, "previous": address, "results": schema},
        }


def problem_details(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response for an error that a view raised; None (a plain server error) for what nobody foresaw."""
    errors: dict[str, Any] | None = None
    headers: dict[str, str]
    if is_full_disk(error):
        status, detail, headers = HTTPStatus.INSUFFICIENT_STORAGE, NOTHING_KEPT, {}
    elif isinstance(error, Refusal):
        status = HTTPStatus.CONFLICT if error.is_conflict else HTTPStatus.BAD_REQUEST
        if error.is_passing:
            status = HTTPStatus.SERVICE_UNAVAILABLE
        detail = error.sentence
        errors = {error.field: [error.sentence]} if error.field else None
        headers = {}
    elif isinstance(error, JobStateError):
        status, detail, headers = HTTPStatus.CONFLICT, str(error), {}
    else:
        response = exception_handler(error, context)
        if response is None:
            return None
        status = HTTPStatus(response.status_code)
        detail = _detail(error)
        errors = response.data if isinstance(error, exceptions.ValidationError) else None
        headers = {
            key: response.headers[key]
            for key in ("WWW-Authenticate", "Retry-After")
            if key in response.headers
        }
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    return Response(body, status=status.value, headers=headers, content_type="application/problem+json")


def _detail(error: Exception) -> str:
    if isinstance(error, exceptions.ValidationError):
        return "Some values are missing or not usable; see errors."
    if isinstance(error, Http404 | PermissionDenied):
        return str(error) or "There is nothing here for you."
    return str(getattr(error, "detail", error))
