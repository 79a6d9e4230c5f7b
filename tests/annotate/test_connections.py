import logging
from decimal import Decimal

import pytest
from django.db import connection as database

from annotate.connections import (
    ConnectionProblem,
    api_key,
    check_address,
    connection_settings,
    default_answer_format,
    list_models,
    price_of,
    settings_of,
    try_model,
)
from annotate.models import AnnotationRun, Connection, ModelPrice
from jobs.work import CannotGoOn
from mllm.prices import DEFAULT_PRICES
from tests.factories import make_connection, make_user
from tests.mllm.wire import Wire, as_json

pytestmark = pytest.mark.django_db

KEY = "sk-the-secret-of-this-test-0123456789"


def raw_row(connection: Connection) -> str:
    with database.cursor() as cursor:
        cursor.execute("select * from annotate_connection where id = %s", [connection.pk])
        return repr(cursor.fetchall())


class TestKeys:
    def test_the_stored_key_is_not_the_key(self):
        connection = make_connection(make_user(), key=KEY)

        assert KEY not in raw_row(connection)
        assert api_key(connection) == KEY
        assert settings_of(connection).api_key == KEY

    def test_the_key_shows_in_no_text_made_of_it(self):
        connection = make_connection(make_user(), key=KEY)

        for text in (repr(connection), str(connection), repr(settings_of(connection)), str(vars(connection))):
            assert KEY not in text

    def test_a_key_of_the_environment_is_read_when_it_is_needed(self, monkeypatch):
        connection = make_connection(make_user(), key_variable="OPENAI_API_KEY")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

        assert api_key(connection) == KEY
        assert KEY not in raw_row(connection)

    def test_a_variable_without_a_value_says_so(self, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)

        with pytest.raises(ConnectionProblem, match="OPENAI_API_KEY is not set on the server"):
            api_key(make_connection(make_user(), key_variable="OPENAI_API_KEY"))

    def test_no_other_variable_can_be_read(self, monkeypatch):
        monkeypatch.setenv("OVERREAD_SECRET_KEY", "the crown jewels")

        with pytest.raises(ConnectionProblem, match="may not be used for keys") as refusal:
            api_key(make_connection(make_user(), key_variable="OVERREAD_SECRET_KEY"))
        assert "jewels" not in str(refusal.value)

    def test_a_provider_that_needs_a_key_and_has_none_is_refused(self):
        with pytest.raises(ConnectionProblem, match="has no key"):
            api_key(make_connection(make_user(), provider="anthropic"))
        assert api_key(make_connection(make_user(), provider="openai")) == ""

    def test_a_run_without_its_connection_cannot_go_on(self):
        with pytest.raises(CannotGoOn, match="was deleted"):
            connection_settings(AnnotationRun(connection=None))


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:8080/v1",
            "http://10.0.0.5/v1",
            "http://[::1]/v1",
            "http://169.254.169.254/latest",
            "http://localhost/v1",
        ],
    )
    def test_private_ones_are_refused_unless_allowed(self, url, settings):
        settings.ALLOW_PRIVATE_BASE_URLS = False
        with pytest.raises(ConnectionProblem):
            check_address(url)

    def test_an_administrator_can_allow_them(self, settings):
        settings.ALLOW_PRIVATE_BASE_URLS = True
        check_address("http://127.0.0.1:8080/v1")
        with pytest.raises(ConnectionProblem, match="link-local"):
            check_address("http://169.254.169.254/latest")

    def test_no_address_means_the_providers_own(self):
        check_address("")

    def test_a_call_is_refused_too_when_the_permission_went(self, settings, wire: Wire):
        wire.answer(as_json({"data": [{"id": "small"}]}))
        connection = make_connection(make_user(), base_url=f"{wire.url}/v1")
        settings.ALLOW_PRIVATE_BASE_URLS = False

        with pytest.raises(ConnectionProblem, match="private network"):
            list_models(connection)
        assert wire.seen == []


class TestTrying:
    def test_models_are_listed(self, wire: Wire):
        wire.answer(as_json({"data": [{"id": "small"}, {"id": "large"}]}))

        models = list_models(make_connection(make_user(), base_url=f"{wire.url}/v1", key=KEY))

        assert models == ["large", "small"]
        assert wire.seen[0].headers["authorization"] == f"Bearer {KEY}"

    def test_a_wrong_key_is_said_without_the_key(self, wire: Wire, caplog):
        caplog.set_level(logging.DEBUG)
        wire.answer(as_json({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401))
        connection = make_connection(make_user(), base_url=f"{wire.url}/v1", key=KEY)

        with pytest.raises(ConnectionProblem) as refusal:
            try_model(connection, "small")

        assert KEY not in str(refusal.value) + caplog.text
        assert "key" in str(refusal.value).lower()

    def test_a_model_that_answers_is_fine(self, wire: Wire):
        wire.answer(
            as_json(
                {"model": "small-1", "choices": [{"message": {"content": "ready"}, "finish_reason": "stop"}]}
            )
        )

        assert try_model(make_connection(make_user(), base_url=f"{wire.url}/v1"), "small").text == "ready"


class TestPrices:
    def test_what_people_entered_goes_before_the_table(self):
        shipped = DEFAULT_PRICES["openai"]["gpt-4o-mini"]
        assert price_of("openai", "gpt-4o-mini-2024-07-18") == shipped

        ModelPrice.objects.create(provider="openai", model="gpt-4o-mini", input=7, output=8)

        price = price_of("openai", "gpt-4o-mini-2024-07-18")
        assert price is not None
        assert (price.input, price.output) == (Decimal(7), Decimal(8))

    def test_an_unknown_model_has_no_price(self):
        assert price_of("openai", "my-own-model") is None
        assert price_of("gguf", "anything") is not None


def test_the_answer_format_follows_what_the_provider_keeps_to():
    def chosen(**fields: str) -> str:
        return default_answer_format(Connection(**fields))

    assert chosen(provider="openai") == "structured"
    assert chosen(provider="openai", base_url="http://127.0.0.1/v1") == "bracket"
    assert chosen(provider="anthropic", base_url="https://models.example") == "structured"
    assert chosen(provider="gguf") == "structured"
