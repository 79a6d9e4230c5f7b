"""Connections as calls need them: where, with which key, at what price."""

import os
from collections.abc import Mapping

from django.conf import settings

from annotate.errors import Refusal
from annotate.models import Connection, ModelPrice, ModelRun
from annotate.secrets import SecretUnreadable, decrypt, encrypt
from jobs import calling
from jobs.work import CannotGoOn
from mllm.addresses import AddressError, check_base_url
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import DEFAULT_PRICES, Price, find_price
from mllm.registry import PROVIDERS, ConnectionSettings

# Providers that people connect; the scripted one is for tests.
OFFERED_PROVIDERS = ("openai", "anthropic", "gguf")
PROVIDER_CHOICES = [(key, PROVIDERS[key].label) for key in OFFERED_PROVIDERS]


class ConnectionProblem(Refusal):
    """A connection cannot be used or saved like this; the sentence says why."""


def api_key(connection: Connection) -> str:
    """The key in clear. Raises ConnectionProblem where there should be one and is none."""
    if connection.key_variable:
        if connection.key_variable not in settings.KEY_VARIABLES:
            raise ConnectionProblem(
                f"The environment variable {connection.key_variable} may not be used for keys. "
                f"Allowed are: {', '.join(settings.KEY_VARIABLES)}."
            )
        key = os.environ.get(connection.key_variable, "")
        if not key:
            raise ConnectionProblem(
                f"The environment variable {connection.key_variable} is not set on the server."
            )
        return key
    if connection.encrypted_key:
        try:
            return decrypt(connection.encrypted_key)
        except SecretUnreadable as error:
            raise ConnectionProblem(str(error)) from error
    if PROVIDERS[connection.provider].needs_key:
        raise ConnectionProblem(f"The connection “{connection.name}” has no key.")
    return ""


def settings_of(connection: Connection) -> ConnectionSettings:
    """How to reach the connection's provider. Raises ConnectionProblem."""
    return ConnectionSettings(
        provider=connection.provider,
        base_url=connection.base_url,
        api_key=api_key(connection),
        timeout=float(connection.timeout),
        max_in_flight=connection.in_flight,
        requests_per_minute=connection.requests_per_minute,
        tokens_per_minute=connection.tokens_per_minute,
        allow_private=settings.ALLOW_PRIVATE_BASE_URLS,
        options={"model_dirs": tuple(settings.GGUF_MODEL_DIRS), "runtime_dir": str(settings.RUNTIME_DIR)},
    )


def connection_settings(run: ModelRun) -> ConnectionSettings:
    """How a run's calls reach their provider. Raises CannotGoOn, so that the job pauses and says why."""
    if run.connection is None:
        raise CannotGoOn("The connection of this run was deleted.", failure=Failure.AUTHENTICATION)
    try:
        return settings_of(run.connection)
    except ConnectionProblem as error:
        raise CannotGoOn(str(error), failure=Failure.AUTHENTICATION) from error


def check_address(base_url: str) -> None:
    """Raises ConnectionProblem for an address that connections may not have."""
    if not base_url:
        return
    try:
        check_base_url(base_url, allow_private=settings.ALLOW_PRIVATE_BASE_URLS)
    except AddressError as error:
        raise ConnectionProblem(str(error)) from error


def store_key(connection: Connection, key: str) -> None:
    connection.encrypted_key = encrypt(key) if key else ""


def list_models(connection: Connection) -> list[str]:
    """The models that the provider offers this key. Raises ConnectionProblem with what the provider said."""
    try:
        return calling.models_now(settings_of(connection))
    except (CallError, AddressError) as error:
        raise ConnectionProblem(str(error)) from error


def try_model(connection: Connection, model: str) -> Reply:
    """One short call, so that a wrong key or model is noticed before a run. Raises ConnectionProblem."""
    request = Request(
        model=model, system="You are being connected.", parts=("Answer with the word: ready",), max_tokens=256
    )
    try:
        return calling.call_now(settings_of(connection), request)
    except (CallError, AddressError) as error:
        raise ConnectionProblem(str(error)) from error


def price_table() -> Mapping[str, Mapping[str, Price]]:
    """The prices that ship, with those that people entered in front."""
    table = {provider: dict(prices) for provider, prices in DEFAULT_PRICES.items()}
    for row in ModelPrice.objects.all():
        table.setdefault(row.provider, {})[row.model] = Price(row.input, row.output, row.cached_input)
    return table


def price_of(provider: str, model: str) -> Price | None:
    return find_price(price_table(), provider, model)


def run_price(run: ModelRun) -> Price | None:
    return price_of(run.provider, run.model)


def default_answer_format(connection: Connection) -> str:
    """Structured where the provider is known to keep to a JSON schema, else brackets, which any model can write."""
    own_openai = connection.provider == "openai" and not connection.base_url
    return "structured" if own_openai or connection.provider in ("anthropic", "gguf") else "bracket"
