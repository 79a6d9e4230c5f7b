import asyncio
import json
from typing import cast

import pytest

from mllm import retry
from mllm.adapters.base import EmbeddingAdapter
from mllm.adapters.scripted import ScriptedAdapter
from mllm.errors import CallError, Failure
from mllm.messages import EmbeddingRequest, Embeddings
from mllm.prices import DEFAULT_PRICES, cost, find_price
from mllm.registry import PROVIDERS, build
from mllm.tokens import estimate_tokens
from tests.mllm.calls import KEY, make_settings
from tests.mllm.wire import Wire, as_bytes, as_json, hang


def embed(settings, *texts, model="e-1") -> Embeddings:
    async def run() -> Embeddings:
        adapter = cast(EmbeddingAdapter, build(settings))
        try:
            return await adapter.embed(texts, model)
        finally:
            await adapter.aclose()

    return asyncio.run(run())


def failure(settings, *texts) -> CallError:
    with pytest.raises(CallError) as caught:
        embed(settings, *texts)
    return caught.value


def body(*vectors, **changes):
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return {"data": data, "model": "e-1-2026", "usage": {"prompt_tokens": 7, "total_tokens": 7}} | changes


def request_of(*texts: str) -> EmbeddingRequest:
    return EmbeddingRequest(model="e-1", system="", parts=texts, max_tokens=0)


def test_the_call_on_the_wire_and_its_vectors(wire: Wire):
    wire.answer(as_json(body([0.5, -1.0], [0.25, 2])))

    found = embed(make_settings("openai", wire.url), "one", "zwei ü")

    [seen] = wire.seen
    assert (seen.method, seen.path) == ("POST", "/v1/embeddings")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == {"model": "e-1", "input": ["one", "zwei ü"]}
    assert [list(vector) for vector in found.vectors] == [[0.5, -1.0], [0.25, 2.0]]
    assert (found.input_tokens, found.output_tokens, found.model) == (7, 0, "e-1-2026")
    assert 0 < found.latency < 10


def test_vectors_are_put_in_the_order_of_their_texts(wire: Wire):
    shuffled = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]
    wire.answer(as_json(body(data=shuffled)))

    assert [list(vector) for vector in embed(make_settings("openai", wire.url), "a", "b").vectors] == [
        [0],
        [1],
    ]


def test_a_server_that_numbers_nothing_and_counts_no_tokens(wire: Wire):
    wire.answer(as_json({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}))

    found = embed(make_settings("openai", wire.url), "a", "b")

    assert [list(vector) for vector in found.vectors] == [[1.0], [2.0]]
    assert (found.input_tokens, found.model) == (0, "")


@pytest.mark.parametrize(
    "answer",
    [
        body([1.0]),
        body([1.0], [2.0], [3.0]),
        body([1.0], [2.0, 3.0]),
        body([], []),
        body(["a"], [1.0]),
        body([None], [1.0]),
        body([1.0], "AACAPw=="),
        body(data=[{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]),
        body(data=None),
        body(data=[1, 2]),
        {"vectors": []},
    ],
)
def test_an_answer_without_a_vector_of_numbers_for_each_text_is_named(wire: Wire, answer):
    wire.answer(as_json(answer))

    error = failure(make_settings("openai", wire.url), "a", "b")

    assert error.failure == Failure.SERVER_ERROR
    assert "vector of numbers" in error.message


def test_numbers_that_are_none_are_refused(wire: Wire):
    for value in ("NaN", "Infinity", "1e300"):
        wire.answer(
            as_bytes(b'{"data": [{"embedding": [%s]}]}' % value.encode(), content_type="application/json")
        )
        assert "vector of numbers" in failure(make_settings("openai", wire.url), "a").message


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (401, "Incorrect API key provided", Failure.AUTHENTICATION),
        (404, "The model `e-1` does not exist", Failure.MODEL_NOT_FOUND),
        (429, "Rate limit reached", Failure.RATE_LIMITED),
        (400, "maximum context length is 8192 tokens", Failure.TOO_LARGE),
        (500, "oops", Failure.SERVER_ERROR),
    ],
)
def test_failures_have_the_names_of_all_calls(wire: Wire, status, message, expected):
    wire.answer(as_json({"error": {"message": message}}, status))

    error = failure(make_settings("openai", wire.url), "a")

    assert error.failure == expected
    assert KEY not in error.message


def test_a_call_that_takes_too_long_is_ended(wire: Wire):
    wire.answer(hang)

    assert failure(make_settings("openai", wire.url, timeout=0.3), "a").failure == Failure.TIMED_OUT


def test_passing_failures_are_asked_again(wire: Wire):
    wire.answer(as_json({"error": {"message": "busy"}}, 503), as_json(body([1.0])))

    async def no_wait(seconds: float) -> None:
        return None

    async def run():
        adapter = build(make_settings("openai", wire.url))
        try:
            return await retry.complete(adapter, request_of("a"), sleep=no_wait)
        finally:
            await adapter.aclose()

    found = asyncio.run(run())

    assert isinstance(found, Embeddings)
    assert found.attempts == 2
    assert len(wire.seen) == 2


def test_the_script_answers_with_vectors_and_sees_the_texts():
    answer = Embeddings("", "", "e", "stop", 3, 0, 0, (), 0.0)
    adapter = ScriptedAdapter([answer, CallError(Failure.RATE_LIMITED, "busy"), "text"])

    assert asyncio.run(adapter.embed(["a", "b"], "e")) == answer
    with pytest.raises(CallError, match="busy"):
        asyncio.run(adapter.embed(["a"], "e"))
    with pytest.raises(AssertionError):
        asyncio.run(adapter.embed(["a"], "e"))
    first = adapter.requests[0]
    assert isinstance(first, EmbeddingRequest)
    assert (first.texts, first.model) == (("a", "b"), "e")


def test_which_providers_have_them():
    assert {name for name, info in PROVIDERS.items() if info.capabilities.embeddings} == {
        "openai",
        "scripted",
    }
    for name, info in PROVIDERS.items():
        if name in ("openai", "anthropic"):
            adapter = build(make_settings(name, "http://127.0.0.1:1"))
            assert hasattr(adapter, "embed") == info.capabilities.embeddings


def test_they_are_estimated_and_priced():
    assert estimate_tokens(request_of("a" * 400)) >= 100
    price = find_price(DEFAULT_PRICES, "openai", "text-embedding-3-small")
    assert price is not None
    million = Embeddings("", "", "e", "stop", 1_000_000, 0, 0, (), 0.0)
    assert float(cost(price, million)) == pytest.approx(0.02)
    assert json.dumps(str(price.output)) == '"0"'
