"""What both adapters over HTTP must do alike, each on its own wire."""

import asyncio
import gzip
import json
import logging
import socket
import time

import pytest

from mllm.errors import Failure
from mllm.registry import build
from tests.mllm.calls import KEY, complete, failure, list_models, make_request, make_settings
from tests.mllm.wire import (
    Wire,
    as_bytes,
    as_json,
    drip,
    flood,
    hang,
    redirect,
    reset_mid_body,
)

GOOD = {
    "openai": {"choices": [{"message": {"content": "[1]"}, "finish_reason": "stop"}]},
    "anthropic": {"content": [{"type": "text", "text": "[1]"}], "stop_reason": "end_turn"},
}

pytestmark = pytest.mark.parametrize("provider", ["openai", "anthropic"])


def error_body(said, kind="error", code=None):
    return {"type": "error", "error": {"type": kind, "message": said, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "name", "retryable", "fatal"),
    [
        (400, error_body("stop: too many sequences"), Failure.BAD_REQUEST, False, False),
        (401, error_body("Incorrect key"), Failure.AUTHENTICATION, False, True),
        (402, error_body("Pay first"), Failure.SPEND_LIMIT, False, True),
        (403, error_body("Not from this country"), Failure.AUTHENTICATION, False, True),
        (404, error_body("The model `m-1` does not exist"), Failure.MODEL_NOT_FOUND, False, True),
        (404, error_body("Not Found", code="model_not_found"), Failure.MODEL_NOT_FOUND, False, True),
        (404, {"detail": "Not Found"}, Failure.BAD_REQUEST, False, True),
        (408, error_body("Too slow"), Failure.TIMED_OUT, True, False),
        (413, error_body("Too big"), Failure.TOO_LARGE, False, False),
        (400, error_body("x", code="context_length_exceeded"), Failure.TOO_LARGE, False, False),
        (400, error_body("x", code="content_filter"), Failure.CONTENT_FILTERED, False, False),
        (400, [error_body("API key not valid. Please pass one.")], Failure.AUTHENTICATION, False, True),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, Failure.BAD_REQUEST, False, False),
        (429, error_body("Slow down"), Failure.RATE_LIMITED, True, False),
        (429, error_body("x", code="insufficient_quota"), Failure.SPEND_LIMIT, False, True),
        (429, [error_body("You exceeded your current quota")], Failure.RATE_LIMITED, True, False),
        (429, error_body("Request too large for the model"), Failure.TOO_LARGE, False, False),
        (500, error_body("Oops"), Failure.SERVER_ERROR, True, False),
        (503, error_body("Loading model"), Failure.SERVER_ERROR, True, False),
        (504, error_body("Gateway"), Failure.TIMED_OUT, True, False),
        (529, error_body("Overloaded"), Failure.SERVER_ERROR, True, False),
    ],
)
def test_every_status_has_a_name(wire: Wire, provider, status, body, name, retryable, fatal):
    wire.answer(as_json(body, status))
    error = failure(make_settings(provider, wire.url))
    assert (error.failure, error.retryable, error.fatal) == (name, retryable, fatal)
    assert error.message.endswith((".", "”"))
    assert len(wire.seen) == 1  # retrying is not the adapter's


def test_an_html_error_page_is_kept_but_not_shown(wire: Wire, provider):
    wire.answer(as_bytes(b"<html><h1>502 Bad Gateway</h1></html>", 502))
    error = failure(make_settings(provider, wire.url))
    assert error.failure is Failure.SERVER_ERROR
    assert "Bad Gateway" in error.raw
    assert "<" not in error.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "7"}, 7.0), ({"Retry-After": "7", "retry-after-ms": "1500"}, 1.5), ({}, None)],
)
def test_the_wish_to_wait_is_read(wire: Wire, provider, headers, seconds):
    wire.answer(as_json(error_body("Slow down"), 429, headers))
    assert failure(make_settings(provider, wire.url)).retry_after == seconds


def test_a_provider_can_forbid_a_retry(wire: Wire, provider):
    wire.answer(as_json(error_body("Oops"), 500, {"x-should-retry": "false"}))
    assert not failure(make_settings(provider, wire.url)).retryable


def test_a_key_that_the_provider_echoes_is_shown_nowhere(wire: Wire, provider, caplog):
    caplog.set_level(logging.DEBUG)
    wire.answer(
        as_json(error_body(f"Incorrect API key provided: {KEY}. Also sk-proj-****************1234"), 401)
    )
    settings = make_settings(provider, wire.url)
    error = failure(settings)
    shown = f"{error} {error!r} {error.raw} {error.__cause__!r} {error.__context__!r} {settings!r} {build(settings)!r}"
    assert KEY not in shown
    assert "sk-proj" not in shown
    assert "[key]" in error.message
    assert KEY not in caplog.text


def test_redirects_are_not_followed(wire: Wire, provider):
    with Wire() as elsewhere:
        elsewhere.answer(as_json(GOOD[provider]))
        wire.answer(redirect(elsewhere.url))
        error = failure(make_settings(provider, wire.url))
        assert elsewhere.seen == []
    assert (error.failure, error.fatal) == (Failure.BAD_REQUEST, True)
    assert "redirect" in error.message


def test_a_connection_that_breaks_mid_body(wire: Wire, provider):
    wire.answer(reset_mid_body)
    error = failure(make_settings(provider, wire.url))
    assert (error.failure, error.retryable) == (Failure.SERVER_ERROR, True)


@pytest.mark.parametrize("answer", [hang, drip])
def test_the_whole_call_has_a_limit(wire: Wire, provider, answer):
    wire.answer(answer)
    started = time.monotonic()
    error = failure(make_settings(provider, wire.url, timeout=0.6))
    assert (error.failure, error.retryable) == (Failure.TIMED_OUT, True)
    assert time.monotonic() - started < 5
    assert wire.disconnected.wait(5)


def test_a_body_without_an_end_is_stopped(wire: Wire, provider):
    wire.answer(flood)
    error = failure(make_settings(provider, wire.url))
    assert (error.failure, error.retryable) == (Failure.SERVER_ERROR, False)
    assert "32 MB" in error.message
    assert wire.disconnected.wait(5)


def test_a_packed_body_is_counted_unpacked(wire: Wire, provider):
    packed = gzip.compress(b" " * 64 * 1024 * 1024)
    wire.answer(as_bytes(packed, headers={"Content-Encoding": "gzip"}, content_type="application/json"))
    error = failure(make_settings(provider, wire.url))
    assert error.failure is Failure.SERVER_ERROR


def test_a_packed_answer_is_read(wire: Wire, provider):
    packed = gzip.compress(json.dumps(GOOD[provider]).encode())
    wire.answer(as_bytes(packed, headers={"Content-Encoding": "gzip"}, content_type="application/json"))
    assert complete(make_settings(provider, wire.url), make_request())[0].text == "[1]"


def test_no_server_at_the_address(provider):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        error = failure(make_settings(provider, url))
    assert (error.failure, error.retryable, error.fatal) == (Failure.UNREACHABLE, True, False)
    assert "127.0.0.1" in error.message


def test_a_server_that_does_not_speak_http(provider):
    async def run() -> Failure:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"220 mail ready\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        adapter = build(make_settings(provider, f"http://127.0.0.1:{port}"))
        try:
            await adapter.complete(make_request())
        except Exception as error:
            return error.failure  # type: ignore[attr-defined, no-any-return]
        finally:
            await adapter.aclose()
            server.close()
        raise AssertionError("the call must fail")

    assert asyncio.run(run()) is Failure.SERVER_ERROR


def test_listing_models_names_a_wrong_address(wire: Wire, provider):
    wire.answer(as_json({"detail": "Not Found"}, 404))
    with pytest.raises(Exception, match="no such interface") as caught:
        list_models(make_settings(provider, wire.url))
    assert caught.value.failure is Failure.BAD_REQUEST  # type: ignore[attr-defined]


def test_building_an_adapter_imports_no_sdk(provider):
    import subprocess
    import sys

    program = (
        "import sys; from mllm.registry import ConnectionSettings, build; "
        f"build(ConnectionSettings({provider!r}, api_key='x')); "
        "print([name for name in ('openai', 'anthropic', 'httpx2', 'aiohttp', 'django') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
