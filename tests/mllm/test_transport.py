import asyncio
import socket

import pytest

from mllm.errors import Failure
from mllm.registry import build
from tests.mllm.calls import complete, failure, make_request, make_settings
from tests.mllm.wire import Wire, as_json

GOOD = {"choices": [{"message": {"content": "[1]"}, "finish_reason": "stop"}]}


def resolves_to(monkeypatch, *addresses):
    """Names have these addresses from now on, as if the owner of a name had changed it."""

    def getaddrinfo(host, port, *_, **__):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("1.1.1.1", "127.0.0.1"), ("169.254.169.254",)])
def test_a_name_that_turns_private_after_the_check_is_not_called(wire: Wire, monkeypatch, addresses):
    wire.answer(as_json(GOOD))
    resolves_to(monkeypatch, *addresses)
    url = f"http://models.example.com:{wire.port}"
    error = failure(make_settings("openai", url, allow_private=False))
    assert (error.failure, error.retryable, error.fatal) == (Failure.UNREACHABLE, False, True)
    assert "models.example.com" in error.message
    assert wire.seen == []


def test_a_private_name_is_called_where_it_is_allowed(wire: Wire, monkeypatch):
    wire.answer(as_json(GOOD))
    resolves_to(monkeypatch, "127.0.0.1")
    [reply] = complete(make_settings("openai", f"http://models.example.com:{wire.port}"), make_request())
    assert reply.text == "[1]"
    assert wire.seen[0].headers["host"] == f"models.example.com:{wire.port}"


def test_a_written_out_address_is_checked_again_at_connect_time(wire: Wire):
    wire.answer(as_json(GOOD))
    adapter = build(make_settings("openai", "http://1.1.1.1", allow_private=False))
    adapter._base_url = f"{wire.url}/v1"  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="private network"):
        asyncio.run(adapter.complete(make_request()))
    assert wire.seen == []


def test_a_name_that_cannot_be_found_may_be_found_later(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(-2, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    error = failure(make_settings("openai", "http://models.example.com", allow_private=False))
    assert (error.failure, error.retryable, error.fatal) == (Failure.UNREACHABLE, True, False)
    assert "cannot be found" in error.message


def test_proxies_and_cookies_of_the_environment_are_not_used(wire: Wire, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    wire.answer(as_json(GOOD, headers={"Set-Cookie": "track=1"}))
    complete(make_settings("openai", wire.url), make_request(), make_request())
    assert len(wire.seen) == 2
    assert "cookie" not in wire.seen[1].headers
