from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from annotate.connections import api_key
from annotate.models import Connection, ModelPrice, User
from mllm.errors import CallError, Failure
from tests.api.caller import call
from tests.conftest import Provider
from tests.factories import make_connection, make_user

pytestmark = pytest.mark.django_db

NEW = {"name": "Claude", "provider": "anthropic", "key": "sk-1"}


def test_a_key_is_kept_encrypted_and_never_shown() -> None:
    user = make_user()

    made = call(user, "post", "connections/", NEW, status=201)

    connection = Connection.objects.get(pk=made["id"])
    assert made["has_key"] is True
    assert "key" not in made
    assert api_key(connection) == "sk-1"
    assert "sk-1" not in connection.encrypted_key


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "Taken"}, "name"),
        ({"provider": "oracle"}, "provider"),
        ({"key": ""}, "key"),
        ({"key_variable": "DATABASE_URL"}, "key_variable"),
        ({"in_flight": 0}, "in_flight"),
        ({"timeout": 4000}, "timeout"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict[str, Any], field: str) -> None:
    user = make_user()
    make_connection(user, name="Taken")

    problem = call(user, "post", "connections/", NEW | change, status=400)

    assert field in problem["errors"]
    assert Connection.objects.count() == 1


def test_an_address_in_a_private_network_needs_permission(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_BASE_URLS = False

    body = {"name": "Inside", "provider": "openai", "base_url": "http://169.254.169.254/v1"}
    call(make_user(), "post", "connections/", body, status=400)

    assert not Connection.objects.exists()


def test_what_a_change_does_not_name_stays() -> None:
    user = make_user()
    connection = make_connection(user, provider="anthropic", key="sk-1", in_flight=3)

    changed = call(user, "patch", f"connections/{connection.pk}/", {"timeout": 30})

    assert (changed["timeout"], changed["in_flight"], changed["has_key"]) == (30, 3, True)
    connection.refresh_from_db()
    assert api_key(connection) == "sk-1"


def test_a_stored_key_is_not_sent_to_a_new_address() -> None:
    user = make_user()
    connection = make_connection(user, key="sk-1")
    body = {"base_url": "http://127.0.0.1:9/v1"}

    problem = call(user, "patch", f"connections/{connection.pk}/", body, status=400)
    changed = call(user, "patch", f"connections/{connection.pk}/", body | {"key": "sk-2"})

    assert "key" in problem["errors"]
    assert changed["base_url"] == "http://127.0.0.1:9/v1"


def test_a_connection_is_tried_with_one_call(provider: Provider) -> None:
    user = make_user()
    connection = make_connection(user)
    provider(["ready"])

    result = call(user, "post", f"connections/{connection.pk}/test/", {"model": "small"})

    assert (result["text"], result["model"]) == ("ready", "small")


def test_what_the_provider_said_is_told(provider: Provider) -> None:
    user = make_user()
    connection = make_connection(user)
    provider([CallError(Failure.AUTHENTICATION, "The key was not accepted.")])

    problem = call(user, "post", f"connections/{connection.pk}/test/", {"model": "small"}, status=400)

    assert problem["detail"] == "The key was not accepted."


def test_a_connection_lists_its_models(provider: Provider) -> None:
    user = make_user()
    provider([])

    models = call(user, "get", f"connections/{make_connection(user).pk}/models/")

    assert models == {"models": ["scripted"]}


def make_administrator() -> User:
    user = make_user()
    user.is_staff = True
    user.save()
    return user


def test_only_an_administrator_changes_the_prices_of_all_projects() -> None:
    """Whoever could set a price to 0 would make the spend limits of others void."""
    price = ModelPrice.objects.create(provider="openai", model="small", input=1, output=2)
    free = {"provider": "openai", "model": "small", "input": "0", "output": "0"}

    call(make_user(), "post", "prices/", free, status=403)
    call(make_user(), "delete", f"prices/{price.pk}/", status=403)

    price.refresh_from_db()
    assert (price.input, price.output) == (Decimal(1), Decimal(2))


def test_the_scripted_provider_is_not_offered() -> None:
    problem = call(
        make_user(), "post", "connections/", {"name": "Script", "provider": "scripted"}, status=400
    )

    assert "provider" in problem["errors"]


def test_a_price_is_entered_changed_and_taken_back() -> None:
    user = make_administrator()
    price = {"provider": "openai", "model": "small", "input": "0.1", "output": "0.4"}

    entered = call(user, "post", "prices/", price, status=201)
    changed = call(user, "post", "prices/", price | {"cached_input": "0.05"}, status=201)
    listed = call(user, "get", "prices/")["results"]
    call(user, "delete", f"prices/{entered['id']}/", status=204)

    assert listed == [changed]
    assert (changed["id"], changed["input"], changed["cached_input"]) == (entered["id"], 0.1, 0.05)
    assert changed["updated_by"] == user.username
    assert not ModelPrice.objects.exists()


@pytest.mark.parametrize(("field", "value"), [("input", "-1"), ("output", "NaN"), ("provider", "oracle")])
def test_a_price_that_is_none_is_refused(field: str, value: str) -> None:
    price = {"provider": "openai", "model": "small", "input": "0.1", "output": "0.4"}

    problem = call(make_administrator(), "post", "prices/", price | {field: value}, status=400)

    assert field in problem["errors"]


def test_the_shipped_prices_say_how_old_they_are() -> None:
    shipped = call(make_user(), "get", "prices/shipped/")

    assert shipped["as_of"]
    assert {"openai", "anthropic"} <= {price["provider"] for price in shipped["prices"]}
