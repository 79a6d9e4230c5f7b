import asyncio
import base64
import json
import re

import pytest

from mllm.errors import CallError, Failure
from mllm.messages import Image
from mllm.registry import build
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
from tests.mllm.wire import Wire, as_bytes, as_events, as_json, named

SCHEMA = {
    "type": "object",
    "properties": {"error": {"type": "number", "minimum": 0, "maximum": 1}},
    "required": ["error"],
}
USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 90,
    "cache_creation_input_tokens": 5,
    "output_tokens": 3,
}


def message(*content, stop_reason="end_turn", usage=None):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-2026",
        "content": list(content) or [{"type": "text", "text": "[1]"}],
        "stop_reason": stop_reason,
        "usage": usage or USAGE,
    }


def error(kind, said, status):
    return as_json({"type": "error", "error": {"type": kind, "message": said}}, status)


def started(**usage):
    empty = message(stop_reason=None, usage={"input_tokens": 10, "output_tokens": 1} | usage)
    return named({"type": "message_start", "message": empty | {"content": []}})


def piece(delta, index=0):
    return named({"type": "content_block_delta", "index": index, "delta": delta})


def ended(stop_reason="end_turn"):
    delta = {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 7}}
    return named(delta) + named({"type": "message_stop"})


def test_request_on_the_wire_and_reply(wire: Wire):
    wire.answer(as_json(message(), headers={"request-id": "req_7"}))
    [reply] = complete(
        make_settings("anthropic", wire.url),
        make_request(
            "before", Image(b"\xff\xd8", "image/jpeg"), "after", stop=("\n",), temperature=0.0, seed=3
        ),
    )
    [seen] = wire.seen
    assert (seen.method, seen.path) == ("POST", "/v1/messages")
    assert KEY in (seen.headers.get("x-api-key", "") + seen.headers.get("authorization", ""))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", seen.headers["anthropic-version"])
    assert seen.body == {
        "model": "m-1",
        "max_tokens": 512,
        "system": [
            {"type": "text", "text": "Answer in brackets.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "before"},
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/jpeg",
                            "data": base64.b64encode(b"\xff\xd8").decode(),
                        },
                    },
                    {"type": "text", "text": "after"},
                ],
            }
        ],
        "stop_sequences": ["\n"],
    }
    assert (reply.text, reply.model, reply.finish_reason) == ("[1]", "claude-x-2026", "stop")
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (105, 90, 3)
    assert reply.request_id == "req_7"


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_base_url_with_or_without_version(wire: Wire, suffix):
    wire.answer(as_json(message()))
    complete(make_settings("anthropic", wire.url, base_url=wire.url + suffix), make_request())
    assert wire.seen[0].path == "/v1/messages"


def test_without_a_key_nothing_is_sent_whatever_the_environment_holds(wire: Wire, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-from-the-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-from-the-environment")
    caught = failure(make_settings("anthropic", wire.url, api_key=""))
    assert caught.failure is Failure.AUTHENTICATION
    assert caught.fatal
    assert wire.seen == []


def test_thinking_is_kept_as_reasoning(wire: Wire):
    thinking = {"type": "thinking", "thinking": "It has whiskers.", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    wire.answer(as_json(message(thinking, hidden, {"type": "text", "text": "[1]"})))
    [reply] = complete(make_settings("anthropic", wire.url), make_request())
    assert (reply.text, reply.reasoning) == ("[1]", "It has whiskers.")


def test_structured_output_in_the_native_format(wire: Wire):
    wire.answer(as_json(message({"type": "text", "text": '{"error": 0.25}'})))
    [reply] = complete(make_settings("anthropic", wire.url), make_request(schema=SCHEMA))
    sent = wire.seen[0].body["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["additionalProperties"] is False
    assert "minimum" not in sent["schema"]["properties"]["error"]  # the native format rejects ranges
    assert json.loads(reply.text) == {"error": 0.25}


def test_a_model_without_the_native_format_is_given_a_tool_from_then_on(wire: Wire):
    used = {"type": "tool_use", "id": "t", "name": "answer", "input": {"error": 0.25}}
    wire.answer(
        error("invalid_request_error", "output_config: Extra inputs are not permitted", 400),
        as_json(message(used, stop_reason="tool_use")),
    )
    replies = complete(
        make_settings("anthropic", wire.url), make_request(schema=SCHEMA), make_request(schema=SCHEMA)
    )
    assert len(wire.seen) == 3
    for seen in wire.seen[1:]:
        assert "output_config" not in seen.body
        assert seen.body["tool_choice"] == {"type": "tool", "name": "answer"}
        assert seen.body["tools"][0]["input_schema"] == SCHEMA
    assert [json.loads(reply.text) for reply in replies] == [{"error": 0.25}] * 2
    assert replies[0].finish_reason == "stop"


def test_a_schema_that_cannot_be_rewritten_is_a_bad_request(wire: Wire):
    caught = failure(make_settings("anthropic", wire.url), make_request(schema={"description": "anything"}))
    assert caught.failure is Failure.BAD_REQUEST
    assert wire.seen == []


def test_logprobs_are_refused_before_any_call(wire: Wire):
    caught = failure(make_settings("anthropic", wire.url), make_request(top_logprobs=5))
    assert "log-probabilities" in caught.message
    assert not caught.retryable
    assert wire.seen == []
    assert (
        "log-probabilities"
        in stream_failure(make_settings("anthropic", wire.url), make_request(top_logprobs=5)).message
    )


def test_refusal_is_a_failure_that_was_charged_for(wire: Wire):
    wire.answer(as_json(message({"type": "text", "text": "I can't."}, stop_reason="refusal")))
    caught = failure(make_settings("anthropic", wire.url))
    assert caught.failure is Failure.REFUSED
    assert (caught.raw, caught.input_tokens, caught.cached_tokens) == ("I can't.", 105, 90)


def test_an_answer_cut_at_its_length_keeps_its_text(wire: Wire):
    wire.answer(as_json(message({"type": "text", "text": "It is a"}, stop_reason="max_tokens")))
    [reply] = complete(make_settings("anthropic", wire.url), make_request())
    assert (reply.text, reply.finish_reason) == ("It is a", "length")


@pytest.mark.parametrize(
    ("answer", "name", "retryable", "fatal"),
    [
        (error("overloaded_error", "Overloaded", 529), Failure.SERVER_ERROR, True, False),
        (error("rate_limit_error", "Too many", 429), Failure.RATE_LIMITED, True, False),
        (error("authentication_error", "invalid x-api-key", 401), Failure.AUTHENTICATION, False, True),
        (error("not_found_error", "model: claude-none", 404), Failure.MODEL_NOT_FOUND, False, True),
        (
            error("request_too_large", "Request exceeds the maximum size", 413),
            Failure.TOO_LARGE,
            False,
            False,
        ),
        (
            error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", 400),
            Failure.TOO_LARGE,
            False,
            False,
        ),
        (
            error("invalid_request_error", "Your credit balance is too low to access the API.", 400),
            Failure.SPEND_LIMIT,
            False,
            True,
        ),
    ],
)
def test_errors_by_name(wire: Wire, answer, name, retryable, fatal):
    wire.answer(answer)
    caught = failure(make_settings("anthropic", wire.url))
    assert (caught.failure, caught.retryable, caught.fatal) == (name, retryable, fatal)


@pytest.mark.parametrize(
    "answer",
    [
        as_bytes(b"<html>"),
        as_json({"type": "message", "content": None}),
        as_json({"type": "message", "content": [{"type": "text"}]}),
        as_json({"type": "error", "error": {"type": "api_error", "message": "odd"}}),
    ],
)
def test_broken_bodies_are_server_errors(wire: Wire, answer):
    wire.answer(answer)
    caught = failure(make_settings("anthropic", wire.url))
    assert (caught.failure, caught.retryable) == (Failure.SERVER_ERROR, True)
    assert caught.raw


def test_stream(wire: Wire):
    wire.answer(
        as_events(
            started(cache_read_input_tokens=90),
            named({"type": "ping"}),
            piece({"type": "thinking_delta", "thinking": "Whiskers."}),
            piece({"type": "signature_delta", "signature": "x"}),
            piece({"type": "text_delta", "text": "[1"}, 1),
            piece({"type": "text_delta", "text": "]"}, 1),
            ended(),
        )
    )
    deltas = stream(make_settings("anthropic", wire.url))
    assert [(delta.text, delta.reasoning) for delta in deltas] == [
        ("", "Whiskers."),
        ("[1", ""),
        ("]", ""),
        ("", ""),
    ]
    reply = deltas[-1].reply
    assert reply is not None
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("[1]", "Whiskers.", "stop")
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (100, 90, 7)
    assert wire.seen[0].body["stream"] is True


def test_stream_of_a_structured_answer_by_tool(wire: Wire):
    wire.answer(
        error("invalid_request_error", "output_config: Extra inputs are not permitted", 400),
        as_events(
            started(),
            piece({"type": "input_json_delta", "partial_json": '{"error":'}),
            piece({"type": "input_json_delta", "partial_json": " 0.5}"}),
            ended("tool_use"),
        ),
    )
    reply = stream(make_settings("anthropic", wire.url), make_request(schema=SCHEMA))[-1].reply
    assert reply is not None
    assert json.loads(reply.text) == {"error": 0.5}


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (as_events(started(), piece({"type": "text_delta", "text": "["}), reset=True), Failure.SERVER_ERROR),
        (as_events(started(), piece({"type": "text_delta", "text": "["})), Failure.SERVER_ERROR),
        (as_events(started(), "data: {broken\n\n"), Failure.SERVER_ERROR),
        (as_events(started(), named({"type": "content_block_delta"})), Failure.SERVER_ERROR),
        (
            as_events(
                started(),
                named({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            ),
            Failure.SERVER_ERROR,
        ),
        (
            as_events(
                named({"type": "error", "error": {"type": "rate_limit_error", "message": "Too many"}}),
            ),
            Failure.RATE_LIMITED,
        ),
        (as_events(started(), hang=True), Failure.TIMED_OUT),
        (as_events(started(), ended("refusal")), Failure.REFUSED),
    ],
)
def test_streams_that_fail(wire: Wire, answer, name):
    wire.answer(answer)
    # The first call of a process imports the SDK: a second is only enough where nothing more is to come.
    timeout = 1.0 if name is Failure.TIMED_OUT else 30.0
    assert stream_failure(make_settings("anthropic", wire.url, timeout=timeout)).failure is name


def test_closing_a_stream_cancels_the_call(wire: Wire):
    wire.answer(as_events(started(), piece({"type": "text_delta", "text": "[1"}), hang=True))

    async def read_one_piece() -> str:
        adapter = build(make_settings("anthropic", wire.url))
        deltas = adapter.stream(make_request())
        first = await anext(deltas)
        await deltas.aclose()
        assert await asyncio.to_thread(wire.disconnected.wait, 5)
        await adapter.aclose()
        return first.text

    assert asyncio.run(read_one_piece()) == "[1"


def test_models_are_listed_over_all_pages(wire: Wire):
    wire.answer(
        as_json({"data": [{"id": "claude-b"}], "has_more": True, "last_id": "claude-b"}),
        as_json({"data": [{"id": "claude-a"}], "has_more": False}),
    )
    assert list_models(make_settings("anthropic", wire.url)) == ["claude-a", "claude-b"]
    assert wire.seen[1].path == "/v1/models?limit=1000&after_id=claude-b"


def test_a_provider_page_that_is_none_when_listing_models(wire: Wire):
    wire.answer(as_json({"data": None}))
    with pytest.raises(CallError) as caught:
        list_models(make_settings("anthropic", wire.url))
    assert caught.value.failure is Failure.SERVER_ERROR
