"""Whatever goes wrong is told as problem details."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from annotate.api.endpoint import Endpoint
from tests.api.caller import Caller, openapi
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def post_raw(body: str, **extra: Any) -> Any:
    return Caller(make_user()).generic("POST", "projects/", body, content_type="application/json", **extra)


def check_problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert problem["status"] == status
    return problem


@pytest.mark.parametrize(
    "path", ["", "nothing/", "projects", "projects/one/", "projects/1/nothing/", f"projects/{10**40}/"]
)
def test_an_address_that_is_none(path: str) -> None:
    check_problem(Caller(make_user()).get(path), 404)


@pytest.mark.parametrize("body", ["{", "[1]", '"text"', "null", '{"name": NaN}', "[" * 100_000])
def test_a_body_that_is_no_object(body: str) -> None:
    check_problem(post_raw(body), 400)


@pytest.mark.parametrize("body", [r'{"task_type": "\ud800"}', r'{"\udc00": 1}', r'{"labels": ["\ud800"]}'])
def test_a_body_with_half_a_character(body: str) -> None:
    """No answer could even quote it."""
    assert "half a character" in check_problem(post_raw(body), 400)["detail"]


def test_a_body_of_another_type() -> None:
    response = Caller(make_user()).generic("POST", "projects/", "name=x", content_type="text/plain")

    check_problem(response, 415)


def test_a_body_that_is_far_too_large() -> None:
    problem = check_problem(post_raw(" " * 3_000_000), 413)

    assert problem["detail"].endswith("at most 2.5 MiB are accepted here.")


def test_a_token_that_is_none() -> None:
    check_problem(Caller().get("projects/", headers={"Authorization": "Token 0123456789abcdef"}), 401)


def test_a_page_size_that_is_none_is_the_usual_one() -> None:
    for size in ("0", "-1", "many", "1000000"):
        assert Caller(make_user()).get(f"projects/?page_size={size}").status_code == 200


def test_the_schema_is_valid_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null")

    assert capsys.readouterr().err == ""


def test_each_operation_says_what_it_does_and_not_how_it_is_made() -> None:
    operations = [each for verbs in openapi()["paths"].values() for each in verbs.values()]

    assert all(each["summary"] for each in operations)
    assert Endpoint.__doc__ not in {each.get("description") for each in operations}


def test_the_schema_is_served() -> None:
    response = Caller().get("schema/")

    assert response.status_code == 200
    assert b"openapi: 3.1.0" in response.content


def test_the_examples_have_the_shapes_that_the_schema_asks_for() -> None:
    checked = 0
    for operations in openapi()["paths"].values():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in body.get("examples", {}).values():
                shape = body["schema"] | {"components": openapi()["components"]}
                Draft202012Validator(shape).validate(example["value"])
                checked += 1

    assert checked > 10


def test_a_database_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(**values: Any) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr("annotate.api.projects.project_create", no_room)
    body = {"name": "A", "task_type": "text_classification", "labels": ["a", "b"]}

    problem = check_problem(Caller(make_user()).post("projects/", body), 507)

    assert problem["detail"].endswith("then send it again.")
