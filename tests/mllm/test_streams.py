"""Streams over real HTTP, in both dialects: cut anywhere, broken off, endless, given up; and what they cost."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from mllm.errors import CallError, Failure
from mllm.messages import Delta, Usage
from mllm.registry import ConnectionSettings, build
from mllm.tokens import estimate_tokens, usage_of
from tests.mllm.calls import make_request, make_settings, stream, stream_failure
from tests.mllm.wire import Answer, Wire, as_events, as_json, data, named

PIECES = ("Step 1: the café", " — ", "is closed.\n", "Step 2: naïve 🙂\n", "Label: [1]")
TEXT = "".join(PIECES)
# The first call of a process imports the SDK: short limits are only for calls after it.
PATIENT = 30.0


@dataclass(frozen=True)
class Dialect:
    """How a provider streams. `told` are the tokens that it tells: input at which time, output at the end."""

    name: str
    start: str
    end: str
    end_without_usage: str
    input_at_start: int

    def piece(self, text: str) -> str:
        if self.name == "openai":
            return data({"choices": [{"index": 0, "delta": {"content": text}}]})
        delta = {"type": "text_delta", "text": text}
        return named({"type": "content_block_delta", "index": 0, "delta": delta})

    def events(self, *, usage: bool = True) -> list[str]:
        end = self.end if usage else self.end_without_usage
        start = self.start if usage else self.start.replace('"input_tokens": 40', '"input_tokens": 0')
        return [start, *map(self.piece, PIECES), end]

    def settings(self, wire: Wire, **changes: Any) -> ConnectionSettings:
        return make_settings(self.name, wire.url, **({"timeout": PATIENT} | changes))


_STOPPED = data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
_USAGE = data({"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 30}})
_ENDED: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
_DIALECTS = [
    Dialect(
        "openai",
        start=data({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
        end=_STOPPED + _USAGE + "data: [DONE]\n\n",
        end_without_usage=_STOPPED + "data: [DONE]\n\n",
        input_at_start=0,
    ),
    Dialect(
        "anthropic",
        start=named(
            {"type": "message_start", "message": {"usage": {"input_tokens": 40, "output_tokens": 1}}}
        ),
        end=named({**_ENDED, "usage": {"output_tokens": 30}}) + named({"type": "message_stop"}),
        end_without_usage=named(_ENDED) + named({"type": "message_stop"}),
        input_at_start=40,
    ),
]


@pytest.fixture(params=_DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


def as_bytes_in(chunks: Sequence[bytes]) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.001)  # so that chunks are sent one by one
        return response

    return answer


def without_end(first: str, again: str, *, pause: float = 0.01) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(first.encode())
        while True:
            await response.write(again.encode())
            await asyncio.sleep(pause)

    return answer


def text_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@pytest.mark.parametrize("size", [3, 7, 64, 100_000])
def test_a_stream_in_chunks_of_any_size_is_the_same(wire: Wire, dialect: Dialect, size: int) -> None:
    whole = "".join(dialect.events()).encode()
    wire.answer(as_bytes_in([whole[start : start + size] for start in range(0, len(whole), size)]))

    deltas = stream(dialect.settings(wire))

    assert [delta.text for delta in deltas] == [*PIECES, ""]
    reply = deltas[-1].reply
    assert reply is not None
    assert (reply.text, reply.input_tokens, reply.output_tokens) == (TEXT, 40, 30)
    assert not reply.is_estimated


def test_tokens_that_are_not_told_are_estimated_and_marked(wire: Wire, dialect: Dialect) -> None:
    wire.answer(as_events(*dialect.events(usage=False)))

    reply = stream(dialect.settings(wire))[-1].reply

    assert reply is not None
    assert reply.is_estimated
    assert reply.input_tokens == estimate_tokens(make_request())
    assert reply.output_tokens == -(-len(TEXT.encode()) // 4)


@pytest.mark.parametrize(
    "death",
    [
        pytest.param({"reset": True}, id="the connection breaks"),
        pytest.param({}, id="it ends too early"),
        pytest.param({"hang": True}, id="nothing comes any more"),
        pytest.param({"last": "data: {broken\n\n"}, id="no JSON"),
        pytest.param({"last": "data: [1, 2]\n\n"}, id="no object"),
        pytest.param({"last": 'data: {"type": "content_block_delta", "choices": [3]}\n\n'}, id="odd shape"),
        pytest.param(
            {"last": data({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})},
            id="it says that it failed",
        ),
    ],
)
def test_a_stream_that_dies_may_be_retried_and_has_its_tokens(
    wire: Wire, dialect: Dialect, death: dict[str, Any]
) -> None:
    how = dict(death)
    last = how.pop("last", "")
    pieces = [dialect.start, dialect.piece(PIECES[0]), dialect.piece(PIECES[1])]
    wire.answer(as_events(*pieces, *([last] if last else []), pause=0.01, **how))

    error = stream_failure(dialect.settings(wire, timeout=1.5 if "hang" in how else PATIENT))

    assert error.retryable
    assert error.failure is (Failure.TIMED_OUT if "hang" in how else Failure.SERVER_ERROR)
    assert error.is_estimated
    assert error.input_tokens == (dialect.input_at_start or estimate_tokens(make_request()))
    assert error.output_tokens == -(-len("".join(PIECES[:2]).encode()) // 4)


def test_a_stream_that_was_refused_before_it_began_cost_nothing(wire: Wire, dialect: Dialect) -> None:
    wire.answer(as_json({"error": {"type": "rate_limit_error", "message": "Too many"}}, 429))

    error = stream_failure(dialect.settings(wire))

    assert (error.failure, error.input_tokens, error.output_tokens) == (Failure.RATE_LIMITED, 0, 0)
    assert not error.is_estimated


def test_a_stream_without_an_end_is_stopped_and_the_server_learns_of_it(wire: Wire, dialect: Dialect) -> None:
    wire.answer(without_end(dialect.start, dialect.piece("and on ")))

    error = stream_failure(dialect.settings(wire, timeout=1.5))

    assert error.failure is Failure.TIMED_OUT
    assert error.output_tokens > 10
    assert wire.disconnected.wait(5)


def test_an_event_without_an_end_is_stopped(wire: Wire, dialect: Dialect) -> None:
    wire.answer(without_end(dialect.start, "data: " + "x" * 500_000, pause=0.0))

    error = stream_failure(dialect.settings(wire))

    assert error.failure is Failure.SERVER_ERROR
    assert "too long" in error.message
    assert not error.retryable
    assert error.input_tokens > 0
    assert wire.disconnected.wait(5)


@pytest.mark.parametrize("way", ["closed", "cancelled"])
def test_giving_a_stream_up_reaches_the_server(wire: Wire, dialect: Dialect, way: str) -> None:
    wire.answer(without_end(dialect.start + dialect.piece(PIECES[0]), ": wait\n\n"))

    async def give_up() -> list[Delta]:
        adapter = build(dialect.settings(wire))
        deltas = adapter.stream(make_request())
        read = [await anext(deltas)]
        assert not wire.disconnected.is_set()
        if way == "closed":
            await deltas.aclose()
        else:
            waiting = asyncio.ensure_future(anext(deltas))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await asyncio.to_thread(wire.disconnected.wait, 5)
        await adapter.aclose()
        return read

    [first] = asyncio.run(give_up())

    assert first.text == PIECES[0]
    # What a provider has told by then is known to whoever stopped the stream.
    known = Usage(40, 1, is_estimated=True) if dialect.input_at_start else None
    assert first.usage == known


def test_the_time_that_the_reader_takes_is_not_the_streams(wire: Wire, dialect: Dialect) -> None:
    wire.answer(as_events(*dialect.events(), pause=0.02))

    async def read_slowly() -> tuple[str, float, float]:
        adapter = build(dialect.settings(wire))
        await anext(stream_of := adapter.stream(make_request()))  # the SDK is there from here on
        await stream_of.aclose()
        await adapter.aclose()
        adapter = build(dialect.settings(wire, timeout=1.0))
        started, texts, latency = time.perf_counter(), "", 0.0
        async for delta in adapter.stream(make_request()):
            texts += delta.text
            latency = latency if delta.reply is None else delta.reply.latency
            await asyncio.sleep(0.4)
        await adapter.aclose()
        return texts, latency, time.perf_counter() - started

    text, latency, took = asyncio.run(read_slowly())

    assert text == TEXT
    assert took > 5 * 0.4 > 1.0
    assert latency < 1.0


def test_the_streams_own_time_is_limited_though_its_reader_is_slow(wire: Wire, dialect: Dialect) -> None:
    wire.answer(without_end(dialect.start + dialect.piece(PIECES[0]), ": wait\n\n", pause=0.05))

    async def read() -> CallError:
        adapter = build(dialect.settings(wire, timeout=1.5))
        try:
            async for _ in adapter.stream(make_request()):
                await asyncio.sleep(0.2)
        except CallError as error:
            return error
        finally:
            await adapter.aclose()
        raise AssertionError("The stream came to an end.")

    assert asyncio.run(read()).failure is Failure.TIMED_OUT


def test_figures_that_are_told_with_every_piece_need_no_estimate(wire: Wire) -> None:
    def piece(text: str, usage: dict[str, int] | None) -> str:
        return data({"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage})

    told = {"prompt_tokens": 40, "completion_tokens": 5}
    wire.answer(as_events(piece("Step 1: a", told), piece(" b" * 40, None), _STOPPED))

    deltas = stream(make_settings("openai", wire.url, timeout=PATIENT))

    assert deltas[0].usage == Usage(40, 5)
    assert deltas[1].usage == Usage(40, 5, is_estimated=True)
    reply = deltas[-1].reply
    assert reply is not None
    assert (reply.input_tokens, reply.output_tokens, reply.is_estimated) == (40, 23, True)


def test_what_is_told_is_never_made_less() -> None:
    request = make_request()

    assert usage_of(request, "word", Usage(9, 7)) == Usage(9, 7)
    assert usage_of(request, "word", Usage(9, 7, 4, is_estimated=True)) == Usage(9, 7, 4, is_estimated=True)
    assert usage_of(request, "", Usage(9, 0)) == Usage(9, 0)
    assert usage_of(request, "", None).is_estimated
