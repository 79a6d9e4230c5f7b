"""The server that benchmarks run against must speak as a provider does."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.mock_provider import Provider
from mllm.adapters.base import Adapter
from mllm.registry import build
from route.router_prompts import read_verdict
from route.trace import steps_of
from tests.mllm.calls import make_request, make_settings

SCHEMA = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "label": {"enum": ["cat", "dog", "cow"]},
        "error": {"type": "number", "minimum": 0, "maximum": 1},
        "level": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}


def with_provider(provider: Provider, use: Callable[[Adapter, str], Awaitable[None]]) -> None:
    async def run() -> None:
        runner = web.AppRunner(provider.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        adapter = build(make_settings("openai", url))
        await use(adapter, url)
        await adapter.aclose()
        await runner.cleanup()

    asyncio.run(run())


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


def test_answers_in_the_form_that_is_asked_for_and_counts():
    async def use(adapter: Adapter, url: str) -> None:
        bracket = make_request("item", system="Give the label.")
        texts = {(await adapter.complete(bracket)).text for _ in range(3)}
        assert len(texts) == 1
        assert texts < {"[0]", "[1]", "[2]"}
        reasoned = await adapter.complete(make_request("item", system="Give your reasoning, then the label."))
        assert reasoned.text.count("[") == 2
        answer = json.loads((await adapter.complete(make_request("item", schema=SCHEMA))).text)
        assert set(answer) == set(SCHEMA["properties"])
        assert answer["label"] in ("cat", "dog", "cow")
        assert 0 <= answer["error"] <= 1
        assert answer["level"] in range(1, 6)
        assert (await get(f"{url}/calls"))["calls"] == 5
        assert await get(f"{url}/duplicates") == {"duplicates": 2, "distinct": 3}

    with_provider(Provider(labels=3, latency=0.0), use)


def test_labels_are_spread_and_latency_is_kept():
    async def use(adapter: Adapter, url: str) -> None:
        requests = [make_request(f"item {number}", system="Label.") for number in range(60)]
        replies = await asyncio.gather(*map(adapter.complete, requests))
        assert {reply.text for reply in replies} == {"[0]", "[1]", "[2]", "[3]"}
        assert min(reply.latency for reply in replies) >= 0.05
        assert (await get(f"{url}/calls"))["most_in_flight"] > 8

    with_provider(Provider(labels=4, latency=0.05), use)


def test_writes_steps_and_reads_them_along():
    async def use(adapter: Adapter, url: str) -> None:
        texts = []
        for number in range(40):
            asked = make_request(f"item {number}", system="Write Step 1: what you see first, then more.")
            texts.append([delta.text async for delta in adapter.stream(asked)])
        traces = ["".join(text) for text in texts]
        assert {len(steps_of(trace)) for trace in traces} == {4, 5}
        assert all(trace.splitlines()[-1].startswith("Label: [") for trace in traces)
        verdicts = {}
        for trace in traces[:20]:
            asked = make_request(trace, system="Answer ESCALATE or CONTINUE.")
            verdicts["hard to tell" in trace] = read_verdict((await adapter.complete(asked)).text).escalates
        assert verdicts == {True: True, False: False}

    with_provider(Provider(latency=0.0), use)


def test_streams_with_usage_and_gives_logprobs():
    async def use(adapter: Adapter, url: str) -> None:
        deltas = [delta async for delta in adapter.stream(make_request(system="Label."))]
        assert deltas[-1].reply is not None
        assert deltas[-1].reply.output_tokens == 1
        reply = await adapter.complete(make_request(system="Label.", top_logprobs=1))
        assert "".join(token.token for token in reply.logprobs) == reply.text
        assert await adapter.list_models() == ["mock"]

    with_provider(Provider(latency=0.0), use)
