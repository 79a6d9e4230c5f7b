from decimal import Decimal
from typing import Any

import pytest

from annotate.connections import api_key
from annotate.errors import Refusal
from annotate.models import Connection, User
from annotate.services.connections import GEMINI_URL, connection_save, price_save
from tests.factories import make_connection, make_user

pytestmark = pytest.mark.django_db


def save(owner: User | None = None, **fields: Any) -> Connection:
    connection = fields.pop("connection", None) or Connection(owner=owner or make_user())
    return connection_save(
        connection=connection, **{"name": "mine", "provider": "openai", "key": "sk-secret", **fields}
    )


def test_it_is_kept_with_the_name_and_address_tidied():
    connection = save(name="  mine ", base_url=" https://8.8.8.8/v1/ ")

    connection.refresh_from_db()
    assert (connection.name, connection.base_url) == ("mine", "https://8.8.8.8/v1")
    assert api_key(connection) == "sk-secret"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "  "}, "name"),
        ({"provider": "nobody"}, "provider"),
        ({"key_variable": "PATH"}, "key_variable"),
        ({"in_flight": 0}, "in_flight"),
        ({"in_flight": 513}, "in_flight"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 3601}, "timeout"),
        ({"provider": "anthropic", "key": None}, "key"),
        ({"provider": "anthropic", "key": "  "}, "key"),
        ({"base_url": "ftp://8.8.8.8"}, ""),
        ({"base_url": "https://user:password@8.8.8.8"}, ""),
    ],
)
def test_what_cannot_work_is_refused_at_its_field(fields, field):
    with pytest.raises(Refusal) as refusal:
        save(**fields)

    assert refusal.value.field == field
    assert not Connection.objects.exists()


def test_a_name_is_used_once_by_each_person():
    owner = make_user()
    first = save(owner)
    save(make_user())
    save(connection=first)  # and may be saved again

    with pytest.raises(Refusal, match="named “mine” already"):
        save(owner)


class TestKeepingTheKey:
    def test_without_a_new_key_the_old_one_stays(self):
        connection = save()

        save(connection=connection, key=None, name="renamed")

        assert api_key(Connection.objects.get()) == "sk-secret"

    @pytest.mark.parametrize("change", [{"base_url": "https://8.8.4.4/v1"}, {"provider": "anthropic"}])
    def test_it_is_not_sent_to_another_server(self, change):
        connection = save()

        with pytest.raises(Refusal, match="enter the key again"):
            save(connection=Connection.objects.get(pk=connection.pk), key=None, **change)
        save(connection=Connection.objects.get(pk=connection.pk), key="sk-other", **change)

        assert api_key(Connection.objects.get()) == "sk-other"

    def test_it_can_be_removed(self):
        connection = save()

        save(connection=connection, key="")

        assert not Connection.objects.get().has_key

    def test_a_variable_takes_its_place(self):
        connection = save()

        save(connection=connection, key=None, key_variable="OPENAI_API_KEY")

        connection = Connection.objects.get()
        assert (connection.encrypted_key, connection.key_variable) == ("", "OPENAI_API_KEY")


class TestKeysOfTheServer:
    def test_nobody_can_have_them_sent_to_a_server_of_their_own(self):
        with pytest.raises(Refusal, match="its provider's own address only"):
            save(base_url="https://8.8.8.8/v1", key=None, key_variable="OPENAI_API_KEY")

        assert not Connection.objects.exists()

    @pytest.mark.parametrize(
        "base_url", ["", "https://api.openai.com/v1", "https://api.openai.com/v1/", GEMINI_URL]
    )
    def test_they_go_to_their_providers(self, base_url, settings, monkeypatch):
        monkeypatch.setattr(
            "annotate.services.connections.check_address", lambda url: None
        )  # no name server here

        assert save(base_url=base_url, key=None, key_variable="GEMINI_API_KEY").pk

    def test_an_administrator_may_send_them_elsewhere(self):
        admin = User.objects.create_superuser("admin", password=None)

        assert save(admin, base_url="https://8.8.8.8/v1", key=None, key_variable="OPENAI_API_KEY").pk

    def test_a_connection_cannot_be_turned_to_another_server_later(self):
        connection = make_connection(make_user(), key_variable="OPENAI_API_KEY")

        with pytest.raises(Refusal, match="its provider's own address only"):
            save(
                connection=connection, base_url="https://8.8.8.8/v1", key=None, key_variable="OPENAI_API_KEY"
            )


class TestPrices:
    def test_a_price_is_kept_and_changed_not_doubled(self):
        user = make_user()
        for output in (Decimal(2), Decimal(3)):
            price_save(user=user, provider="openai", model=" small ", input=Decimal(1), output=output)

        from annotate.models import ModelPrice

        price = ModelPrice.objects.get()
        assert (price.model, price.output, price.updated_by) == ("small", Decimal(3), user)

    @pytest.mark.parametrize("price", [{"input": -1}, {"output": -1}, {"cached_input": -1}])
    def test_a_negative_price_is_refused(self, price):
        amounts = {"input": 1, "output": 1} | price
        with pytest.raises(Refusal, match="cannot be negative"):
            price_save(
                user=make_user(),
                provider="openai",
                model="small",
                **{name: Decimal(amount) for name, amount in amounts.items()},
            )
