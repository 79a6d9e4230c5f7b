"""Connections: made, changed, tested and deleted without their key ever being shown; and model prices."""

from decimal import Decimal

import pytest
from django.test import Client

from annotate.connections import ConnectionProblem, api_key
from annotate.models import Connection, ModelPrice, User
from annotate.views import connections as views
from mllm.messages import Reply
from tests.factories import make_connection, make_user

pytestmark = pytest.mark.django_db

KEY = "sk-very-secret-1234"
FORM = {
    "provider": "openai",
    "name": "Lab",
    "base_url": "",
    "key_source": "store",
    "key": KEY,
    "in_flight": "8",
    "timeout": "60",
}


@pytest.fixture
def user(client: Client) -> User:
    user = make_user()
    client.force_login(user)
    return user


def test_without_connections_the_three_providers_are_explained(client: Client, user: User) -> None:
    page = client.get("/connections/").content.decode()
    for provider in ("openai", "anthropic", "gguf"):
        assert f"/connections/new/?provider={provider}" in page


def test_nobody_sees_the_connections_of_others(client: Client, user: User) -> None:
    make_connection(make_user(), name="Theirs")
    make_connection(user, name="Mine <b>")
    page = client.get("/connections/").content.decode()
    assert "Mine &lt;b&gt;" in page
    assert "Theirs" not in page


def test_a_key_is_stored_and_never_shown(client: Client, user: User) -> None:
    sent = client.post("/connections/new/", FORM)
    connection = Connection.objects.get()
    assert sent.headers["Location"] == f"/connections/{connection.pk}/"
    assert api_key(connection) == KEY
    assert KEY not in connection.encrypted_key
    for path in ("/connections/", f"/connections/{connection.pk}/"):
        page = client.get(path).content.decode()
        assert KEY not in page
    assert "Keep the stored key" in page


def test_a_refused_form_keeps_what_was_typed_but_the_key(client: Client, user: User) -> None:
    make_connection(user, name="Lab")
    sent = client.post("/connections/new/", FORM | {"base_url": "https://models.example.com/v1"})
    page = sent.content.decode()
    assert sent.status_code == 422
    assert "You have a connection named “Lab” already." in page
    assert "https://models.example.com/v1" in page
    assert KEY not in page


def test_an_address_that_is_not_allowed_is_refused_at_its_field(
    client: Client, user: User, settings: pytest.FixtureRequest
) -> None:
    settings.ALLOW_PRIVATE_BASE_URLS = False  # type: ignore[attr-defined]
    sent = client.post("/connections/new/", FORM | {"base_url": "http://169.254.169.254/v1"})
    assert sent.status_code == 422
    assert sent.context["form"].errors["base_url"]
    assert not Connection.objects.exists()


def test_storing_a_key_needs_one(client: Client, user: User) -> None:
    sent = client.post("/connections/new/", FORM | {"key": "  "})
    assert sent.status_code == 422
    assert "Enter the key" in sent.content.decode()


def test_saving_with_the_stored_key_keeps_it(client: Client, user: User) -> None:
    connection = make_connection(user, key=KEY)
    client.post(f"/connections/{connection.pk}/", FORM | {"key_source": "keep", "key": "", "in_flight": "3"})
    connection.refresh_from_db()
    assert (api_key(connection), connection.in_flight) == (KEY, 3)


def test_a_changed_address_needs_the_key_again(client: Client, user: User) -> None:
    connection = make_connection(user, key=KEY)
    changed = FORM | {"key_source": "keep", "key": "", "base_url": "http://127.0.0.1:9/v1"}
    sent = client.post(f"/connections/{connection.pk}/", changed)
    assert sent.status_code == 422
    assert "enter the key again" in sent.content.decode()
    assert 'data-show-when="key_source=store keep"' in sent.content.decode()
    client.post(f"/connections/{connection.pk}/", changed | {"key": "sk-new"})
    connection.refresh_from_db()
    assert (api_key(connection), connection.base_url) == ("sk-new", "http://127.0.0.1:9/v1")


def test_a_key_comes_only_from_variables_on_the_list(client: Client, user: User) -> None:
    variable = FORM | {"key_source": "variable", "key": ""}
    assert client.post("/connections/new/", variable | {"key_variable": "PATH"}).status_code == 422
    client.post("/connections/new/", variable | {"key_variable": "OPENAI_API_KEY"})
    assert Connection.objects.get().key_variable == "OPENAI_API_KEY"


def test_a_model_file_needs_neither_address_nor_key(client: Client, user: User) -> None:
    client.post("/connections/new/", FORM | {"provider": "gguf", "base_url": "https://x.example.com"})
    connection = Connection.objects.get()
    assert (connection.base_url, connection.has_key) == ("", False)


def test_the_scripted_provider_is_not_offered(client: Client, user: User) -> None:
    assert client.post("/connections/new/", FORM | {"provider": "scripted"}).status_code == 422


@pytest.mark.parametrize("path", ["", "test/", "delete/"])
def test_a_connection_of_another_person_is_out_of_reach(client: Client, user: User, path: str) -> None:
    other = make_connection(make_user())
    assert client.post(f"/connections/{other.pk}/{path}", FORM).status_code == 404
    assert Connection.objects.filter(pk=other.pk).exists()


@pytest.mark.parametrize("path", ["test/", "delete/"])
def test_testing_and_deleting_need_post(client: Client, user: User, path: str) -> None:
    connection = make_connection(user)
    assert client.get(f"/connections/{connection.pk}/{path}").status_code == 405


def test_the_test_lists_models(client: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "list_models", lambda connection: ["small-1", "<large>"])
    url = f"/connections/{make_connection(user).pk}/test/"
    part = client.post(url, headers={"HX-Request": "true"}).content.decode()
    assert "It works: 2 models." in part
    assert "&lt;large&gt;" in part
    assert "<html" not in part
    assert "<html" in client.post(url).content.decode()


def test_the_test_asks_a_model_and_shows_its_answer(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Reply(
        text="ready <b>", reasoning="", model="small-1", finish_reason="stop", input_tokens=9,
        output_tokens=2, cached_tokens=0, logprobs=(), latency=0.4,
    )  # fmt: skip
    asked: list[str] = []

    def answer(connection: Connection, model: str) -> Reply:
        asked.append(model)
        return reply

    monkeypatch.setattr(views, "try_model", answer)
    page = client.post(
        f"/connections/{make_connection(user).pk}/test/", {"model": " small-1 "}
    ).content.decode()
    assert asked == ["small-1"]
    assert "ready &lt;b&gt;" in page


def test_the_test_says_what_the_provider_said(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: Connection) -> list[str]:
        raise ConnectionProblem("The key was not accepted.")

    monkeypatch.setattr(views, "list_models", refuse)
    page = client.post(f"/connections/{make_connection(user).pk}/test/").content.decode()
    assert "The key was not accepted." in page


def test_a_connection_is_deleted(client: Client, user: User) -> None:
    connection = make_connection(user)
    client.post(f"/connections/{connection.pk}/delete/")
    assert not Connection.objects.exists()


PRICE = {"provider": "openai", "model": "house-model", "input": "1.5", "output": "6", "cached_input": ""}


def test_prices_are_seen_by_all_and_changed_by_administrators(client: Client, user: User) -> None:
    page = client.get("/prices/").content.decode()
    assert "gpt-4o" in page
    assert "Save the price" not in page
    assert client.post("/prices/", PRICE).status_code == 403
    assert not ModelPrice.objects.exists()


def test_an_administrator_sets_changes_and_removes_a_price(client: Client, user: User) -> None:
    user.is_staff = True
    user.save()
    client.post("/prices/", PRICE)
    client.post("/prices/", PRICE | {"input": "2"})
    price = ModelPrice.objects.get()
    assert (price.input, price.cached_input, price.updated_by) == (Decimal(2), None, user)
    assert 'value="house-model"' in client.get("/prices/", {"edit": price.pk}).content.decode()
    client.post(f"/prices/{price.pk}/delete/")
    assert not ModelPrice.objects.exists()


def test_only_an_administrator_removes_a_price(client: Client, user: User) -> None:
    price = ModelPrice.objects.create(provider="openai", model="m", input=1, output=1)
    assert client.get(f"/prices/{price.pk}/delete/").status_code == 405
    assert client.post(f"/prices/{price.pk}/delete/").status_code == 403


def test_a_price_that_is_no_number_is_refused_and_kept(client: Client, user: User) -> None:
    user.is_staff = True
    user.save()
    sent = client.post("/prices/", PRICE | {"input": "-1", "output": "much"})
    assert sent.status_code == 422
    assert 'value="much"' in sent.content.decode()
    assert not ModelPrice.objects.exists()
