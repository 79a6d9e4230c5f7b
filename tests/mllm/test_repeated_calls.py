"""The SDK's client prepares the first call of an adapter; those after its answer repeat it with their own body. They
must be the same on the wire, and fail in the same way.
"""

import asyncio
from typing import Any

import pytest

from mllm.adapters.base import Adapter
from mllm.errors import CallError, Failure
from mllm.registry import ConnectionSettings, build
from tests.mllm.calls import KEY, complete, failure, make_request, make_settings
from tests.mllm.wire import (
    Answer,
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


def later_failure(settings: ConnectionSettings) -> CallError:
    """What the second call fails with, after the first was answered."""
    with pytest.raises(CallError) as caught:
        complete(settings, make_request(), make_request())
    return caught.value


def refusal(status: int, said: str, headers: dict[str, str] | None = None) -> Answer:
    return as_json({"type": "error", "error": {"type": "error", "message": said}}, status, headers)


def test_a_later_call_is_the_first_one_on_the_wire_but_for_its_body(wire: Wire, provider: str):
    wire.answer(as_json(GOOD[provider]))
    same, other = make_request("Fröhlich 😀?"), make_request("Otherwise, and longer?")

    complete(make_settings(provider, wire.url), same, same, other)

    first, second, third = wire.seen
    assert (second.headers, second.path, second.body) == (first.headers, first.path, first.body)
    own_length = {"content-length": third.headers["content-length"]}
    assert third.headers == first.headers | own_length
    assert "Otherwise" in str(third.body)
    assert KEY in str(third.headers)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refusal(400, "stop: too many sequences"), id="bad request"),
        pytest.param(refusal(401, f"Incorrect API key provided: {KEY}"), id="key"),
        pytest.param(refusal(404, "The model `m-1` does not exist"), id="model"),
        pytest.param(refusal(413, "Too big"), id="too large"),
        pytest.param(refusal(429, "Slow down", {"Retry-After": "7"}), id="rate limit"),
        pytest.param(refusal(500, "Oops", {"x-should-retry": "false"}), id="no retry"),
        pytest.param(refusal(529, "Overloaded"), id="overloaded"),
        pytest.param(as_bytes(b"<html>Bad Gateway</html>", 502), id="html"),
        pytest.param(as_bytes(b"<html>Sign in</html>"), id="no json"),
        pytest.param(as_json({"error": {"message": "Oops"}}), id="error with status 200"),
        pytest.param(redirect("http://127.0.0.1:9/"), id="redirect"),
        pytest.param(reset_mid_body, id="reset"),
        pytest.param(flood, id="flood"),
    ],
)
def test_a_later_call_fails_as_a_first_one_does(wire: Wire, provider: str, answer: Answer):
    settings = make_settings(provider, wire.url)
    wire.answer(answer)
    first = failure(settings)
    wire.answer(as_json(GOOD[provider]), answer)
    later = later_failure(settings)

    assert vars(later) == vars(first)
    assert KEY not in f"{later!r} {later.raw} {later.__cause__!r} {later.__context__!r}"


@pytest.mark.parametrize("answer", [hang, drip])
def test_a_later_call_has_a_limit(wire: Wire, provider: str, answer: Answer):
    async def run() -> None:
        adapter = build(make_settings(provider, wire.url))
        try:
            await adapter.complete(make_request())
            # Only now: the first call may take seconds, which are those of importing the SDK.
            adapter._settings = make_settings(provider, wire.url, timeout=0.6)  # type: ignore[attr-defined]
            await adapter.complete(make_request())
        finally:
            await adapter.aclose()

    wire.answer(as_json(GOOD[provider]), answer)
    with pytest.raises(CallError) as caught:
        asyncio.run(run())
    assert caught.value.failure is Failure.TIMED_OUT
    assert wire.disconnected.wait(5)


def test_a_later_call_that_is_cancelled_ends_at_the_server_too(wire: Wire, provider: str):
    async def run() -> None:
        adapter = build(make_settings(provider, wire.url))
        try:
            await adapter.complete(make_request())
            call = asyncio.create_task(adapter.complete(make_request()))
            while len(wire.seen) < 2:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        finally:
            await adapter.aclose()

    wire.answer(as_json(GOOD[provider]), hang)
    asyncio.run(run())
    assert wire.disconnected.wait(5)


def test_what_a_later_call_teaches_is_kept(wire: Wire, provider: str):
    """A parameter, or the form of a structured answer, that the model takes no more is left out from then on."""
    complaints: dict[str, Any] = {"openai": "temperature", "anthropic": "output_config"}
    request = make_request(schema={"type": "object", "properties": {}, "additionalProperties": False})
    good = as_json(GOOD[provider])
    wire.answer(good, refusal(400, f"Unsupported parameter: {complaints[provider]}"), good)

    complete(make_settings(provider, wire.url), request, request, request)

    has_it = [complaints[provider] in seen.body for seen in wire.seen]
    assert has_it == [True, True, False, False]


def test_a_new_loop_prepares_its_own(wire: Wire, provider: str):
    """An adapter that outlives its event loop goes on with a new client."""
    wire.answer(as_json(GOOD[provider]))
    adapter: Adapter = build(make_settings(provider, wire.url))

    async def twice() -> None:
        for _ in range(2):
            await adapter.complete(make_request())
        await adapter.aclose()

    asyncio.run(twice())
    asyncio.run(twice())

    assert [seen.headers for seen in wire.seen] == [wire.seen[0].headers] * 4
