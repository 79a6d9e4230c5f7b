"""A client of the API that holds every answer against the OpenAPI schema."""

import re
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from rest_framework.test import APIClient

from annotate.models import User
from jobs.models import Job
from jobs.running import run_to_end

PREFIX = "/api/v1/"


class Caller(APIClient):
    """Calls addresses below /api/v1/ with JSON bodies."""

    def __init__(self, user: User | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.default_format = "json"
        if user is not None:
            self.force_login(user)

    def generic(self, method: str, path: str, *args: Any, **extra: Any) -> Any:  # type: ignore[override]
        response = super().generic(method, path if path.startswith("/") else PREFIX + path, *args, **extra)
        check_answer(response, method)
        return response


def call(user: User, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    """What the API answers the user, as values; the status must be the one that is expected."""
    response = getattr(Caller(user), method)(path, body)
    assert response.status_code == status, response.content
    return response.json() if response.content else None


def content_of(response: Any) -> bytes:
    """The bytes of an answer, streamed or not."""
    return b"".join(response.streaming_content) if response.streaming else bytes(response.content)


@cache
def openapi() -> dict[str, Any]:
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


def check_answer(response: Any, method: str) -> None:
    """The answer is one that the schema announces for its address, verb and status, and has its shape."""
    match = response.resolver_match
    if (
        match is None
        or match.url_name in ("unknown_address", "schema")
        or response.status_code in (405, 413, 415)
    ):
        return
    template = "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", match.route)
    operation = openapi()["paths"][template].get(method.lower())
    if operation is None:
        return
    answers = operation["responses"]
    assert str(response.status_code) in answers, f"{method} {template} answered {response.status_code}"
    content = answers[str(response.status_code)].get("content")
    if content is None:
        assert not response.content
        return
    media_type = response.headers["Content-Type"].partition(";")[0]
    assert media_type in content, f"{method} {template} answered {media_type}"
    if not response.streaming:
        shape = content[media_type]["schema"] | {"components": openapi()["components"]}
        Draft202012Validator(shape).validate(response.json())


def work() -> None:
    """Do what the workers would: run every job that waits."""
    for job in Job.objects.filter(state=Job.State.QUEUED).order_by("pk"):
        run_to_end(job.pk)
