"""Saving connections and prices."""

from decimal import Decimal

from django.conf import settings
from django.db import IntegrityError, transaction

from annotate.connections import check_address, store_key
from annotate.errors import Refusal
from annotate.models import Connection, ModelPrice, User
from mllm.registry import PROVIDERS

MOST_IN_FLIGHT = 512
MOST_A_MINUTE = 1_000_000_000
# What a connection is saved with, its key aside.
SAVED_FIELDS = (
    "provider",
    "name",
    "base_url",
    "key_variable",
    "in_flight",
    "timeout",
    "requests_per_minute",
    "tokens_per_minute",
)
GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta/openai"


def connection_save(
    *,
    connection: Connection,
    name: str,
    provider: str,
    base_url: str = "",
    key: str | None = None,
    key_variable: str = "",
    in_flight: int = 8,
    timeout: int = 60,
    requests_per_minute: int = 0,
    tokens_per_minute: int = 0,
) -> Connection:
    """Save a new or changed connection. `key` None keeps the stored key; "" removes it.

    Raises Refusal for a name in use, an address that is not allowed, or a missing key.
    """
    if not name.strip():
        raise Refusal("Give the connection a name.", field="name")
    taken = Refusal(f"You have a connection named “{name.strip()}” already.", field="name")
    namesakes = Connection.objects.filter(owner=connection.owner, name=name.strip())
    if namesakes.exclude(pk=connection.pk).exists():
        raise taken
    if provider not in PROVIDERS:
        raise Refusal(f"Choose one of: {', '.join(PROVIDERS)}.", field="provider")
    if key_variable and key_variable not in settings.KEY_VARIABLES:
        raise Refusal(
            f"Keys may be taken from these environment variables: {', '.join(settings.KEY_VARIABLES)}.",
            field="key_variable",
        )
    if not 1 <= in_flight <= MOST_IN_FLIGHT:
        raise Refusal(f"Calls at once: between 1 and {MOST_IN_FLIGHT}.", field="in_flight")
    if not 1 <= timeout <= 3600:
        raise Refusal("The time limit of a call: between 1 and 3600 seconds.", field="timeout")
    for field, limit in (
        ("requests_per_minute", requests_per_minute),
        ("tokens_per_minute", tokens_per_minute),
    ):
        if not 0 <= limit <= MOST_A_MINUTE:
            raise Refusal(f"A limit a minute: between 0 (none) and {MOST_A_MINUTE:,}.", field=field)
    base_url = base_url.strip().rstrip("/")
    check_address(base_url)
    if key_variable and not connection.owner.is_staff and not _is_known(provider, base_url):
        # Otherwise anyone with an account could have the server's own keys sent to a server of theirs.
        raise Refusal(
            "A key of the server goes to its provider's own address only. Leave the address empty, enter a key of "
            "your own, or ask an administrator to make this connection.",
            field="base_url",
        )
    was = (connection.provider, connection.base_url)
    if connection.pk and connection.encrypted_key and key is None and (provider, base_url) != was:
        # Otherwise whoever may edit a connection could have its stored key sent to a server of their own.
        raise Refusal(
            "The address has changed: enter the key again, so that it is not sent to the wrong server.",
            field="key",
        )
    connection.name = name.strip()
    connection.provider = provider
    connection.base_url = base_url
    connection.in_flight = in_flight
    connection.timeout = timeout
    connection.requests_per_minute = requests_per_minute
    connection.tokens_per_minute = tokens_per_minute
    connection.key_variable = key_variable
    if key is not None:
        store_key(connection, key.strip())
    if key_variable:
        connection.encrypted_key = ""
    if PROVIDERS[provider].needs_key and not connection.has_key:
        raise Refusal(f"{PROVIDERS[provider].label} needs a key.", field="key")
    try:
        with transaction.atomic():
            connection.save()
    except IntegrityError as error:
        if not namesakes.exclude(pk=connection.pk).exists():
            raise
        raise taken from error  # it was sent twice at once
    return connection


def _is_known(provider: str, base_url: str) -> bool:
    """Whether the address is the provider's own, or Gemini's for the protocol that it shares with OpenAI."""
    return base_url in ("", PROVIDERS[provider].default_base_url, GEMINI_URL)


def price_save(
    *,
    user: User,
    provider: str,
    model: str,
    input: Decimal,
    output: Decimal,
    cached_input: Decimal | None = None,
) -> ModelPrice:
    """Set the price of models whose name begins with `model`, in US$ per million tokens."""
    if provider not in PROVIDERS:
        raise Refusal(f"Choose one of: {', '.join(PROVIDERS)}.", field="provider")
    if min(input, output, cached_input or Decimal(0)) < 0:
        raise Refusal("A price cannot be negative.", field="input")
    price, _ = ModelPrice.objects.update_or_create(
        provider=provider,
        model=model.strip(),
        defaults={"input": input, "output": output, "cached_input": cached_input, "updated_by": user},
    )
    return price


def connection_delete(*, connection: Connection) -> None:
    """Delete it with its key. Runs keep the name of their model; one that still goes on pauses and says why."""
    connection.delete()


def price_delete(*, price: ModelPrice) -> None:
    """Forget a price that people entered: the one that ships counts again."""
    price.delete()
