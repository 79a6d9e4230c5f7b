"""How the tests of adapters call them."""

import asyncio
from typing import Any

import pytest

from mllm.adapters.base import Adapter
from mllm.errors import CallError
from mllm.messages import Delta, Reply, Request
from mllm.registry import ConnectionSettings, build

KEY = "sk-secret-0123456789abcdef"


def make_request(*parts: Any, **changes: Any) -> Request:
    fields: dict[str, Any] = {"model": "m-1", "system": "Answer in brackets.", "parts": parts or ("Is it?",)}
    return Request(**(fields | changes))


def make_settings(provider: str, url: str, **changes: Any) -> ConnectionSettings:
    base_url = f"{url}/v1" if provider == "openai" else url
    fields: dict[str, Any] = {
        "provider": provider,
        "base_url": base_url,
        "api_key": KEY,
        "timeout": 30.0,
        "allow_private": True,
    }
    return ConnectionSettings(**(fields | changes))


def complete(settings: ConnectionSettings, *requests: Request) -> list[Reply]:
    """The replies of one adapter to the requests, one after the other."""

    async def run() -> list[Reply]:
        adapter = build(settings)
        try:
            return [await adapter.complete(request) for request in requests]
        finally:
            await adapter.aclose()

    return asyncio.run(run())


def failure(settings: ConnectionSettings, request: Request | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        complete(settings, request or make_request())
    return caught.value


def stream(settings: ConnectionSettings, request: Request | None = None) -> list[Delta]:
    async def run() -> list[Delta]:
        adapter = build(settings)
        try:
            return [delta async for delta in adapter.stream(request or make_request())]
        finally:
            await adapter.aclose()

    return asyncio.run(run())


def stream_failure(settings: ConnectionSettings, request: Request | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        stream(settings, request)
    return caught.value


def list_models(settings: ConnectionSettings) -> list[str]:
    async def run() -> list[str]:
        adapter: Adapter = build(settings)
        try:
            return await adapter.list_models()
        finally:
            await adapter.aclose()

    return asyncio.run(run())
