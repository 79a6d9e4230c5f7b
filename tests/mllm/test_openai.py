import asyncio
import base64
import json
import time
from typing import Any

import pytest

from mllm.adapters.openai import NO_LOGPROB, is_strict
from mllm.errors import Failure
from mllm.messages import Image
from mllm.registry import build
from mllm.tokens import estimate_tokens
from tests.mllm.calls import (
    KEY,
    complete,
    failure,
    list_models,
    make_request,
    make_settings,
    stream,
    stream_failure,
)
from tests.mllm.wire import Answer, Wire, as_bytes, as_events, as_json, data, hang

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["cat", "dog"]}},
    "required": ["label"],
    "additionalProperties": False,
}


def answer_body(content="[1]", finish_reason="stop", message=None, **choice):
    message = {"role": "assistant", "content": content} | (message or {})
    return {
        "id": "chatcmpl-1",
        "model": "m-1-2026",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason} | choice],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 16},
        },
    }


def rejection(message, param=None, code=None) -> Answer:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return as_json({"error": error}, 400)


def chunk(delta=None, finish_reason=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return data({"id": "chatcmpl-1", "model": "m-1-2026", "choices": choices} | more)


def test_request_on_the_wire_and_reply(wire: Wire):
    wire.answer(as_json(answer_body(), headers={"x-request-id": "req-7"}))
    [reply] = complete(
        make_settings("openai", wire.url),
        make_request(max_tokens=9, temperature=0.5, seed=3, stop=("\n",)),
    )
    [seen] = wire.seen
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"
    assert seen.body == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "Answer in brackets."},
            {"role": "user", "content": "Is it?"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["\n"],
    }
    assert (reply.text, reply.model, reply.finish_reason) == ("[1]", "m-1-2026", "stop")
    assert (reply.input_tokens, reply.output_tokens, reply.cached_tokens) == (20, 3, 16)
    assert reply.request_id == "req-7"
    assert 0 < reply.latency < 10


def test_nothing_of_the_environment_is_sent_to_a_server_without_a_key(wire: Wire, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    wire.answer(as_json(answer_body()))
    complete(make_settings("openai", wire.url, api_key=""), make_request())
    assert "authorization" not in wire.seen[0].headers
    assert not [value for value in wire.seen[0].headers.values() if "secret" in value or "sk-" in value]


def test_image_parts_are_sent_as_data_urls_in_order(wire: Wire):
    wire.answer(as_json(answer_body()))
    complete(
        make_settings("openai", wire.url), make_request("before", Image(b"\x89PNG", "image/png"), "after")
    )
    assert wire.seen[0].body["messages"][1]["content"] == [
        {"type": "text", "text": "before"},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()},
        },
        {"type": "text", "text": "after"},
    ]


def test_logprobs(wire: Wire):
    content = [
        {
            "token": "Yes",
            "logprob": -0.1,
            "top_logprobs": [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": None}],
        }
    ]
    wire.answer(as_json(answer_body("Yes", logprobs={"content": content})))
    [reply] = complete(make_settings("openai", wire.url), make_request(top_logprobs=2))
    assert wire.seen[0].body["logprobs"] is True
    assert wire.seen[0].body["top_logprobs"] == 2
    [token] = reply.logprobs
    assert (token.token, token.logprob) == ("Yes", -0.1)
    assert token.top == (("Yes", -0.1), ("No", NO_LOGPROB))


def split_in_bytes(text: str) -> list[dict[str, Any]]:
    """Entries as OpenAI writes them, one a byte: a part of a character is written as an escape."""
    return [
        {
            "token": f"bytes:\\x{byte:02x}" if byte > 127 else chr(byte),
            "bytes": [byte],
            "logprob": -0.5,
            "top_logprobs": [],
        }
        for byte in text.encode()
    ]


def test_the_tokens_spell_the_answer_though_a_character_is_split_over_several(wire: Wire):
    text = "[Es ist 😀, ja.][no]"
    wire.answer(as_json(answer_body(text, logprobs={"content": split_in_bytes(text)})))
    [reply] = complete(make_settings("openai", wire.url), make_request(top_logprobs=1))
    assert "".join(token.token for token in reply.logprobs) == text
    assert [token.token for token in reply.logprobs].count("") == 3
    assert len(reply.logprobs) == len(text.encode())


def test_tokens_whose_bytes_are_not_told_are_taken_as_written(wire: Wire):
    content = [
        {"token": "Yes", "bytes": None, "logprob": -0.1},
        {"token": ".", "logprob": -0.2, "bytes": "x"},
    ]
    wire.answer(as_json(answer_body("Yes.", logprobs={"content": content})))
    [reply] = complete(make_settings("openai", wire.url), make_request(top_logprobs=1))
    assert [token.token for token in reply.logprobs] == ["Yes", "."]


def test_structured_output_is_asked_for_as_a_strict_schema(wire: Wire):
    wire.answer(as_json(answer_body('{"label": "cat"}')))
    [reply] = complete(make_settings("openai", wire.url), make_request(schema=SCHEMA))
    assert wire.seen[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert json.loads(reply.text) == {"label": "cat"}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (SCHEMA, True),
        (SCHEMA | {"additionalProperties": True}, False),
        (SCHEMA | {"required": []}, False),
        ({"type": "array", "items": {"type": "object", "properties": {}}}, False),
        ({"type": "string", "enum": [{"type": "object"}]}, True),
    ],
)
def test_only_closed_schemas_are_strict(schema, strict):
    assert is_strict(schema) is strict


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept(wire: Wire, name):
    wire.answer(as_json(answer_body(message={name: "It has whiskers."})))
    [reply] = complete(make_settings("openai", wire.url), make_request())
    assert (reply.text, reply.reasoning) == ("[1]", "It has whiskers.")


def test_typed_content_parts_are_joined(wire: Wire):
    wire.answer(as_json(answer_body([{"type": "text", "text": "[0"}, {"type": "text", "text": "]"}])))
    assert complete(make_settings("openai", wire.url), make_request())[0].text == "[0]"


def test_an_answer_cut_at_its_length_keeps_its_text(wire: Wire):
    wire.answer(as_json(answer_body("It is a", "length")))
    [reply] = complete(make_settings("openai", wire.url), make_request())
    assert (reply.text, reply.finish_reason) == ("It is a", "length")


def test_refusal_is_a_failure_that_was_charged_for(wire: Wire):
    wire.answer(as_json(answer_body(None, message={"refusal": "I cannot help with that."})))
    error = failure(make_settings("openai", wire.url))
    assert error.failure is Failure.REFUSED
    assert error.raw == "I cannot help with that."
    assert (error.input_tokens, error.output_tokens, error.retryable) == (20, 3, False)


def test_content_filter_is_a_failure(wire: Wire):
    wire.answer(as_json(answer_body("It is", "content_filter")))
    error = failure(make_settings("openai", wire.url))
    assert error.failure is Failure.CONTENT_FILTERED
    assert (error.input_tokens, error.retryable, error.fatal) == (20, False, False)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (as_bytes(b"{not json", content_type="application/json"), "{not json"),
        (as_bytes(b"<html>Sign in</html>"), "<html>Sign in"),
        (as_json({"choices": []}), '"choices": []'),
        (as_json({"object": "chat.completion"}), "chat.completion"),
        (as_json(["not", "an", "object"]), "not"),
        (as_json({"error": {"message": "the engine stopped", "type": "server_error"}}), "the engine stopped"),
        (as_json({"error": "CUDA out of memory"}), "CUDA"),
    ],
)
def test_broken_bodies_are_server_errors_that_keep_the_start(wire: Wire, answer, said):
    wire.answer(answer)
    error = failure(make_settings("openai", wire.url))
    assert error.failure is Failure.SERVER_ERROR
    assert error.retryable
    assert said in error.raw


def test_an_error_under_status_200_is_named_by_its_own_code(wire: Wire):
    wire.answer(as_json({"error": {"code": 429, "message": "upstream is busy"}}))
    assert failure(make_settings("openai", wire.url)).failure is Failure.RATE_LIMITED


def test_a_model_that_wants_max_completion_tokens_gets_it_from_then_on(wire: Wire):
    wire.answer(
        rejection(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        ),
        rejection(
            "Unsupported value: 'temperature' does not support 0 with this model.",
            "temperature",
            "unsupported_value",
        ),
        as_json(answer_body()),
    )
    replies = complete(make_settings("openai", wire.url), make_request(), make_request())
    assert [reply.text for reply in replies] == ["[1]", "[1]"]
    assert [sorted(seen.body) for seen in wire.seen] == [
        ["max_tokens", "messages", "model", "temperature"],
        ["max_completion_tokens", "messages", "model", "temperature"],
        ["max_completion_tokens", "messages", "model"],
        ["max_completion_tokens", "messages", "model"],
    ]


def test_what_was_learned_of_one_model_is_not_held_against_another(wire: Wire):
    wire.answer(rejection("temperature is deprecated for this model"), as_json(answer_body()))
    complete(make_settings("openai", wire.url), make_request(), make_request(model="m-2"))
    assert ["temperature" in seen.body for seen in wire.seen] == [True, False, True]


def test_a_rejected_parameter_that_cannot_be_dropped_is_a_failure_at_once(wire: Wire):
    wire.answer(rejection("Invalid value for 'top_logprobs'", "top_logprobs"))
    error = failure(make_settings("openai", wire.url), make_request(top_logprobs=5))
    assert error.failure is Failure.BAD_REQUEST
    assert len(wire.seen) == 1


def test_a_server_that_gives_fewer_alternatives_is_asked_for_five_from_then_on(wire: Wire):
    wire.answer(
        rejection("Invalid value for 'top_logprobs': must be at most 5", "top_logprobs"),
        as_json(answer_body()),
    )
    complete(make_settings("openai", wire.url), make_request(top_logprobs=20), make_request(top_logprobs=3))
    assert [seen.body["top_logprobs"] for seen in wire.seen] == [20, 5, 3]


def test_a_server_that_gives_no_alternatives_at_all_is_asked_twice_and_not_again(wire: Wire):
    wire.answer(rejection("logprobs and top_logprobs are not supported by this model", "top_logprobs"))
    error = failure(make_settings("openai", wire.url), make_request(top_logprobs=20))
    assert error.failure is Failure.BAD_REQUEST
    assert [seen.body["top_logprobs"] for seen in wire.seen] == [20, 5]


def test_a_limit_that_is_too_large_is_not_taken_for_a_large_item(wire: Wire):
    wire.answer(rejection("max_tokens is too large: 99999.", "max_tokens", "invalid_value"))
    assert failure(make_settings("openai", wire.url)).failure is Failure.BAD_REQUEST
    assert len(wire.seen) == 1


def test_stream_gives_pieces_and_at_last_the_whole_reply(wire: Wire):
    wire.answer(
        as_events(
            ": comment\n\n",
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "Whiskers"}),
            chunk({"content": "[1"}),
            chunk({"content": "]"}),
            chunk({}, "stop"),
            chunk(usage={"prompt_tokens": 20, "completion_tokens": 3}),
            "data: [DONE]\n\n",
        )
    )
    deltas = stream(make_settings("openai", wire.url))
    assert [(delta.text, delta.reasoning) for delta in deltas] == [
        ("", "Whiskers"),
        ("[1", ""),
        ("]", ""),
        ("", ""),
    ]
    reply = deltas[-1].reply
    assert reply is not None
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("[1]", "Whiskers", "stop")
    assert (reply.input_tokens, reply.output_tokens, reply.model) == (20, 3, "m-1-2026")
    assert wire.seen[0].body["stream"] is True
    assert wire.seen[0].body["stream_options"] == {"include_usage": True}


def test_stream_with_logprobs(wire: Wire):
    entry = {"token": "No", "logprob": -1.5, "top_logprobs": []}
    choice = {"index": 0, "delta": {"content": "No"}, "finish_reason": "stop"}
    wire.answer(
        as_events(data({"choices": [choice | {"logprobs": {"content": [entry]}}]}), "data: [DONE]\n\n")
    )
    reply = stream(make_settings("openai", wire.url), make_request(top_logprobs=1))[-1].reply
    assert reply is not None
    assert [(token.token, token.logprob) for token in reply.logprobs] == [("No", -1.5)]


def test_a_character_split_over_two_pieces_of_a_stream(wire: Wire):
    first, second = split_in_bytes("é")
    choices = [
        {"index": 0, "delta": {"content": ""}, "logprobs": {"content": [first]}},
        {"index": 0, "delta": {"content": "é"}, "finish_reason": "stop", "logprobs": {"content": [second]}},
    ]
    wire.answer(as_events(*(data({"choices": [choice]}) for choice in choices), "data: [DONE]\n\n"))
    reply = stream(make_settings("openai", wire.url), make_request(top_logprobs=1))[-1].reply
    assert reply is not None
    assert [token.token for token in reply.logprobs] == ["", "é"]


def test_stream_of_a_server_without_usage_or_end_mark(wire: Wire):
    wire.answer(
        rejection("stream_options: extra fields not permitted"), as_events(chunk({"content": "[1]"}, "stop"))
    )
    reply = stream(make_settings("openai", wire.url))[-1].reply
    assert reply is not None
    assert (reply.text, reply.is_estimated) == ("[1]", True)
    assert (reply.input_tokens, reply.output_tokens) == (estimate_tokens(make_request()), 1)
    assert "stream_options" not in wire.seen[1].body


def test_stream_from_a_server_that_does_not_stream(wire: Wire):
    wire.answer(as_json(answer_body()))
    deltas = stream(make_settings("openai", wire.url))
    assert [delta.text for delta in deltas] == ["[1]", ""]
    assert deltas[-1].reply is not None


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (as_events(chunk({"content": "[1"}), reset=True), Failure.SERVER_ERROR),
        (as_events(chunk({"content": "[1"})), Failure.SERVER_ERROR),
        (as_events(chunk({"content": "[1"}), "data: {broken\n\n"), Failure.SERVER_ERROR),
        (
            as_events(chunk({"content": "[1"}), data({"error": {"message": "overloaded"}})),
            Failure.SERVER_ERROR,
        ),
        (as_events(chunk({"content": "[1"}), data({"choices": ["?"]})), Failure.SERVER_ERROR),
        (as_events(chunk({"content": "[1"}), hang=True), Failure.TIMED_OUT),
        (as_events(chunk({"refusal": "No."}, "stop"), "data: [DONE]\n\n"), Failure.REFUSED),
        (as_events(chunk({"content": "a"}, "content_filter"), "data: [DONE]\n\n"), Failure.CONTENT_FILTERED),
        (as_json({"error": {"message": "slow down"}}, 429), Failure.RATE_LIMITED),
    ],
)
def test_streams_that_fail(wire: Wire, answer, name):
    wire.answer(answer)
    # The first call of a process imports the SDK: a second is only enough where nothing more is to come.
    timeout = 1.0 if name is Failure.TIMED_OUT else 30.0
    assert stream_failure(make_settings("openai", wire.url, timeout=timeout)).failure is name


def test_closing_a_stream_cancels_the_call(wire: Wire):
    wire.answer(as_events(chunk({"content": "[1"}), hang=True))

    async def read_one_piece() -> str:
        adapter = build(make_settings("openai", wire.url))
        deltas = adapter.stream(make_request())
        first = await anext(deltas)
        assert not wire.disconnected.is_set()
        await deltas.aclose()
        assert await asyncio.to_thread(wire.disconnected.wait, 5)
        await adapter.aclose()
        return first.text

    assert asyncio.run(read_one_piece()) == "[1"


def test_cancelling_a_call_passes_through_and_reaches_the_server(wire: Wire):
    wire.answer(hang)

    async def cancel() -> None:
        adapter = build(make_settings("openai", wire.url))
        task = asyncio.create_task(adapter.complete(make_request()))
        while not wire.seen:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(wire.disconnected.wait, 5)
        await adapter.aclose()

    asyncio.run(cancel())


def test_a_slow_consumer_is_not_cut_off_by_the_limit_of_the_call(wire: Wire):
    wire.answer(as_events(chunk({"content": "[1]"}, "stop"), "data: [DONE]\n\n"))

    async def read_slowly() -> list[str]:
        adapter = build(make_settings("openai", wire.url, timeout=0.4))
        texts = []
        async for delta in adapter.stream(make_request()):
            texts.append(delta.text)
            time.sleep(0.0)
            await asyncio.sleep(0.3)
        await adapter.aclose()
        return texts

    assert asyncio.run(read_slowly()) == ["[1]", ""]


def test_models_are_listed_in_order(wire: Wire):
    wire.answer(as_json({"object": "list", "data": [{"id": "b"}, {"id": "a"}]}))
    assert list_models(make_settings("openai", wire.url)) == ["a", "b"]
    assert (wire.seen[0].method, wire.seen[0].path) == ("GET", "/v1/models")


def test_an_adapter_works_in_a_second_event_loop(wire: Wire):
    wire.answer(as_json(answer_body()))
    adapter = build(make_settings("openai", wire.url))
    for _ in range(2):
        assert asyncio.run(adapter.complete(make_request())).text == "[1]"


def test_connections_are_pooled(wire: Wire):
    wire.answer(as_json(answer_body()))

    async def many() -> None:
        adapter = build(make_settings("openai", wire.url, max_in_flight=2))
        await asyncio.gather(*(adapter.complete(make_request()) for _ in range(10)))
        await adapter.aclose()

    asyncio.run(many())
    assert len(wire.seen) == 10
    assert len({seen.client_port for seen in wire.seen}) == 2
