"""The providers that can be connected, and how a connection becomes an adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any, cast

from mllm.adapters.base import Adapter, Capabilities


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to reach a provider. An empty `base_url` means the provider's default.

    `timeout` is seconds for one whole attempt; `max_in_flight` calls at once size the connection pool. Limits a minute
    of 0 mean none. `allow_private`
    lets the base URL be on this machine or a private network. `options` are the provider's own: for gguf
    `model_dirs`, `runtime_dir`; for scripted `replies`.
    """

    provider: str
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    timeout: float = 60.0
    max_in_flight: int = 16
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    allow_private: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What a page needs to offer a provider. `key_variable`: where the environment often has its key."""

    label: str
    needs_key: bool
    default_base_url: str
    key_variable: str
    capabilities: Capabilities


PROVIDERS: Mapping[str, ProviderInfo] = {
    "openai": ProviderInfo(
        label="OpenAI or a compatible server",
        needs_key=False,
        default_base_url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        capabilities=Capabilities(
            images=True,
            logprobs=True,
            structured_output=True,
            streaming=True,
            batches=True,
            embeddings=True,
        ),
    ),
    "anthropic": ProviderInfo(
        label="Anthropic",
        needs_key=True,
        default_base_url="https://api.anthropic.com",
        key_variable="ANTHROPIC_API_KEY",
        capabilities=Capabilities(
            images=True, logprobs=False, structured_output=True, streaming=True, batches=True
        ),
    ),
    "gguf": ProviderInfo(
        label="GGUF model file on this machine",
        needs_key=False,
        default_base_url="",
        key_variable="",
        capabilities=Capabilities(images=False, logprobs=True, structured_output=True, streaming=True),
    ),
    "scripted": ProviderInfo(
        label="Scripted replies (tests)",
        needs_key=False,
        default_base_url="",
        key_variable="",
        capabilities=Capabilities(
            images=True, logprobs=True, structured_output=True, streaming=True, embeddings=True
        ),
    ),
}

_ADAPTERS = {
    "openai": ("mllm.adapters.openai", "OpenAIAdapter"),
    "anthropic": ("mllm.adapters.anthropic", "AnthropicAdapter"),
    "gguf": ("mllm.adapters.gguf", "GgufAdapter"),
    "scripted": ("mllm.adapters.scripted", "from_settings"),
}


def build(settings: ConnectionSettings) -> Adapter:
    """The adapter of a connection. Opens nothing: clients, SDKs and servers start with the first call.

    Raises ValueError for an unknown provider, and `mllm.addresses.AddressError` for a base URL that is
    not allowed.
    """
    if settings.provider not in _ADAPTERS:
        raise ValueError(
            f"There is no provider named “{settings.provider}”. Choose one of: {', '.join(_ADAPTERS)}."
        )
    module, name = _ADAPTERS[settings.provider]
    return cast(Adapter, getattr(import_module(module), name)(settings))
