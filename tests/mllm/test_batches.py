"""Batches over the wire, in the forms of both providers that have them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mllm import registry
from mllm.adapters.batches import BatchState
from mllm.errors import CallError, Failure
from mllm.messages import Image, Reply
from tests.mllm.batch_provider import BatchProvider
from tests.mllm.calls import make_request, make_settings

PROVIDERS = ["openai", "anthropic"]
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def batches() -> Iterator[BatchProvider]:
    with BatchProvider() as running:
        yield running


def run(batches: BatchProvider, provider: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
    async def with_adapter() -> Any:
        adapter = registry.build(make_settings(provider, batches.url))
        try:
            return await work(adapter)
        finally:
            await adapter.aclose()

    return asyncio.run(with_adapter())


def submit(batches: BatchProvider, provider: str, count: int = 3, *parts: Any) -> str:
    requests = {str(number): make_request(*parts or (f"item {number}",)) for number in range(count)}
    batch_id: str = run(batches, provider, lambda adapter: adapter.batch_submit(requests, token=TOKEN))
    return batch_id


def answers_of(batches: BatchProvider, provider: str, batch_id: str) -> dict[str, Reply | CallError]:
    async def read(adapter: Any) -> dict[str, Reply | CallError]:
        return {key: answer async for key, answer in adapter.batch_answers(batch_id)}

    answers: dict[str, Reply | CallError] = run(batches, provider, read)
    return answers


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_batch_is_handed_in_waits_and_is_answered_by_key(batches: BatchProvider, provider: str):
    batch_id = submit(batches, provider)
    waiting = run(batches, provider, lambda adapter: adapter.batch_status(batch_id))
    batches.end(batches.batches[0])
    ended = run(batches, provider, lambda adapter: adapter.batch_status(batch_id))

    assert (waiting.state, waiting.total) == (BatchState.WAITING, 3)
    assert (ended.state, ended.answered) == (BatchState.ENDED, 3)
    answers = answers_of(batches, provider, batch_id)
    assert sorted(answers) == ["0", "1", "2"]
    replies = [reply for reply in answers.values() if isinstance(reply, Reply)]
    assert [(reply.text, reply.input_tokens, reply.output_tokens) for reply in replies] == [
        ("yes", 100, 10)
    ] * 3


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_asked_is_what_a_call_asks(batches: BatchProvider, provider: str):
    submit(batches, provider, 1, "look", Image(b"\x89PNG", "image/png"))

    [entry] = batches.batches[0].entries
    body = entry["body"] if provider == "openai" else entry["params"]
    assert "iVBORw==" in str(body) or "data:image/png" in str(body)
    assert "stream" not in body


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_request_fails_by_its_own_name(batches: BatchProvider, provider: str):
    batch_id = submit(batches, provider)
    first, second, _ = batches.batches[0].ids
    batches.end(batches.batches[0], **{first: "refuse", second: "expire"})

    answers = answers_of(batches, provider, batch_id)
    refused, expired = answers["0"], answers["1"]
    assert isinstance(refused, CallError)
    assert "Too long" in refused.message
    assert isinstance(expired, CallError)
    assert expired.failure == Failure.TIMED_OUT
    assert isinstance(answers["2"], Reply)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_batch_whose_id_never_arrived_is_found_by_its_token(batches: BatchProvider, provider: str):
    batches.drop_reply_to_submit = True
    since = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(CallError) as cut_off:
        submit(batches, provider)
    assert cut_off.value.retryable

    def find(token: str, count: int) -> str | None:
        found: str | None = run(
            batches, provider, lambda adapter: adapter.batch_find(token=token, since=since, count=count)
        )
        return found

    batches.end(batches.batches[0])
    assert find(TOKEN, 3) == batches.batches[0].id
    assert find("another", 3) is None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_refused_batch_is_an_error_and_a_cancelled_one_is_told_so(batches: BatchProvider, provider: str):
    batch_id = submit(batches, provider)
    run(batches, provider, lambda adapter: adapter.batch_cancel(batch_id))
    assert batches.batches[0].state == "cancelling"

    batches.refuse_submit = True
    with pytest.raises(CallError) as refused:
        submit(batches, provider)
    assert not refused.value.retryable


def test_a_batch_that_failed_as_a_whole_says_why(batches: BatchProvider):
    batch_id = submit(batches, "openai")
    batches.batches[0].state = "failed"
    status = run(batches, "openai", lambda adapter: adapter.batch_status(batch_id))
    assert (status.state, status.message) == (BatchState.FAILED, "Line 1 is no request.")


def test_only_these_providers_have_batches():
    having = [name for name, info in registry.PROVIDERS.items() if info.capabilities.batches]
    assert having == PROVIDERS
