import asyncio

import pytest

from mllm.adapters.scripted import ScriptedAdapter
from mllm.errors import CallError, Failure
from mllm.messages import Reply
from mllm.registry import ConnectionSettings, build
from tests.mllm.calls import complete, make_request, stream


def ask(adapter, *requests):
    async def run():
        return [await adapter.complete(request) for request in requests]

    return asyncio.run(run())


def test_a_list_is_answered_in_order_and_requests_are_recorded():
    adapter = ScriptedAdapter(["[0]", "[1]"])
    first, second = make_request("a"), make_request("b")
    assert [reply.text for reply in ask(adapter, first, second)] == ["[0]", "[1]"]
    assert adapter.requests == [first, second]


def test_a_generator_and_a_function():
    def lines():
        number = 0
        while True:
            yield f"[{number}]"
            number += 1

    assert [reply.text for reply in ask(ScriptedAdapter(lines()), make_request(), make_request())] == [
        "[0]",
        "[1]",
    ]
    echo = ScriptedAdapter(lambda request: str(request.parts[0]))
    assert ask(echo, make_request("hello"))[0].text == "hello"


def test_strings_count_estimated_tokens_and_name_the_model():
    [reply] = ask(ScriptedAdapter(["12345678"]), make_request("word " * 40, model="mine"))
    assert reply.model == "mine"
    assert reply.input_tokens >= 50
    assert reply.output_tokens == 2


def test_errors_are_raised():
    adapter = ScriptedAdapter([CallError(Failure.REFUSED, "No."), "[1]"])
    with pytest.raises(CallError, match="No"):
        ask(adapter, make_request())
    assert ask(adapter, make_request())[0].text == "[1]"


def test_a_script_that_is_used_up_says_so():
    with pytest.raises(RuntimeError, match="no line for request 2"):
        ask(ScriptedAdapter(["[0]"]), make_request(), make_request())


def test_streams_word_by_word_with_reasoning_first():
    reply = Reply("so it is [1]", "I think.", "m", "stop", 1, 2, 0, (), 0.0)

    async def run():
        return [delta async for delta in ScriptedAdapter([reply], latency=0.02).stream(make_request())]

    deltas = asyncio.run(run())
    assert [(delta.text, delta.reasoning) for delta in deltas] == [
        ("", "I think."),
        ("so ", ""),
        ("it ", ""),
        ("is ", ""),
        ("[1]", ""),
        ("", ""),
    ]
    assert deltas[-1].reply is not None
    assert deltas[-1].reply.text == reply.text


def test_closing_a_stream_is_counted():
    adapter = ScriptedAdapter(["one two three"])

    async def run() -> str:
        deltas = adapter.stream(make_request())
        first = await anext(deltas)
        await deltas.aclose()
        return first.text

    assert asyncio.run(run()) == "one "
    assert adapter.cancelled == 1


def test_as_a_connection():
    settings = ConnectionSettings("scripted", options={"replies": ["[1]", "[2]"]})
    assert [reply.text for reply in complete(settings, make_request(), make_request())] == ["[1]", "[2]"]
    assert stream(settings)[-1].reply is not None
    assert asyncio.run(build(settings).list_models()) == ["scripted"]
