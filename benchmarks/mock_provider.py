"""A model server that knows nothing: OpenAI's chat completions with a fixed latency, for load tests.

    python -m benchmarks.mock_provider --port 9000 --latency-ms 300 --labels 3

It answers in the form that the request asks for: JSON after a schema, numbered steps and a label where the prompt
wants steps, `[ESCALATE][high]` or `[CONTINUE][low]` where it is asked to read them along, otherwise `[k]`, or
`[reasoning][k]` where the prompt mentions reasoning. The label follows from a hash of the user's text, so the same
request always gets the same answer. `GET /calls` counts calls, `GET /duplicates` requests that were asked again.

With `--fixed` it reads no request and gives every call the same bytes, `[1]`: a tenth of the CPU, for measuring clients
on the same machine.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Provider:
    """What the server counts and how it answers. `latency` is in seconds."""

    labels: int = 3
    latency: float = 0.3
    calls: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    times_asked: Counter[str] = field(default_factory=Counter)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        for prefix in ("", "/v1"):
            application.router.add_post(f"{prefix}/chat/completions", self.complete)
            application.router.add_get(f"{prefix}/models", self.list_models)
        application.router.add_get("/calls", self.report_calls)
        application.router.add_get("/duplicates", self.report_duplicates)
        return application

    async def complete(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        self.calls += 1
        self.times_asked[hashlib.sha256(raw).hexdigest()] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if body.get("stream"):
                return await self._stream(request, body)
            await asyncio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        return web.json_response(completion(body, answer_to(body, self.labels)))

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = answer_to(body, self.labels)
        for letter in text:
            await asyncio.sleep(self.latency / len(text))
            await response.write(_event(_chunk(body, [{"index": 0, "delta": {"content": letter}}])))
        ending = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        await response.write(_event(_chunk(body, ending)))
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.write(_event({**_chunk(body, []), "usage": usage(body, text)}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def list_models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})

    async def report_calls(self, request: web.Request) -> web.Response:
        return web.json_response({"calls": self.calls, "most_in_flight": self.most_in_flight})

    async def report_duplicates(self, request: web.Request) -> web.Response:
        repeated = sum(count - 1 for count in self.times_asked.values())
        return web.json_response({"duplicates": repeated, "distinct": len(self.times_asked)})


class FixedAnswers(asyncio.Protocol):
    """One connection of a server that gives every call the same answer, `latency` seconds after its last byte."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _CONTENT_LENGTH.search(self._received, 0, head_end + 2)
        if len(self._received) < head_end + 4 + (int(length[1]) if length else 0):
            return
        is_call = self._received.startswith(b"POST")
        self._received = b""  # clients ask again only when they were answered
        if not is_call:
            counted = json.dumps({"calls": self._provider.calls}).encode()
            self._transport.write(_http_answer(counted))
            return
        self._provider.calls += 1
        asyncio.get_running_loop().call_later(self._provider.latency, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_FIXED_ANSWER)


def user_text(body: dict[str, Any]) -> str:
    """Everything in the user's turns, images included, as one text."""
    return json.dumps([message["content"] for message in body["messages"] if message["role"] == "user"])


def system_text(body: dict[str, Any]) -> str:
    return " ".join(str(message["content"]) for message in body["messages"] if message["role"] != "user")


def answer_to(body: dict[str, Any], labels: int) -> str:
    """The answer's text. Depends on the request alone."""
    number = int.from_bytes(hashlib.sha256(user_text(body).encode()).digest()[:8], "big")
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        schema = response_format["json_schema"]["schema"]
        return json.dumps(value_for(schema, number, schema))
    label = number % labels
    if "ESCALATE" in system_text(body):
        about_it = user_text(body).rpartition("</example>")[2]
        return "[ESCALATE][high]" if "hard to tell" in about_it else "[CONTINUE][low]"
    if "Step 1:" in system_text(body):
        return trace_of(number, label)
    if "reason" in system_text(body).lower() + user_text(body).lower():
        return f"[The hash of the text says so.][{label}]"
    return f"[{label}]"


def trace_of(number: int, label: int) -> str:
    """A reasoning in three to five numbered steps; about every sixth one says that it does not know."""
    looks = [f"the text has the hash {number:020d}.", "its last digits decide."]
    doubts = ["they are hard to tell."] if number // 7 % 6 == 0 else []
    steps = [*looks, *doubts, f"that leaves {label}.", "nothing else matters."]
    return (
        "".join(f"Step {place}: {step}\n" for place, step in enumerate(steps, start=1)) + f"Label: [{label}]"
    )


def value_for(schema: dict[str, Any], number: int, root: dict[str, Any]) -> Any:
    """A value that the JSON schema allows, chosen by the number."""
    if "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return value_for(found, number, root)
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return value_for(schema[key][0], number, root)
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return {
            name: value_for(inner, number, root) for name, inner in (schema.get("properties") or {}).items()
        }
    if kind == "array":
        return [value_for(schema.get("items") or {}, number, root)] * max(1, schema.get("minItems", 1))
    if kind in ("number", "integer"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 1 if kind == "number" else 9)
        if kind == "integer":
            return low + number % (high - low + 1)
        return round(low + (high - low) * (number % 1001) / 1000, 3)
    return {"boolean": number % 2 == 0, "null": None}.get(kind, "The hash of the text says so.")


def usage(body: dict[str, Any], text: str) -> dict[str, Any]:
    prompt = -(-len(user_text(body) + system_text(body)) // 4)
    answer = -(-len(text) // 4)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_logprob(letter) for letter in text]}
    return {**_chunk(body, [choice]), "object": "chat.completion", "usage": usage(body, text)}


def _logprob(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": -0.105, "top_logprobs": [{"token": token, "logprob": -0.105}]}


def _chunk(body: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body.get("model", "mock"),
        "choices": choices,
    }


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def _http_answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_FIXED_ANSWER = _http_answer(
    json.dumps(completion({"messages": [{"role": "user", "content": "?" * 400}]}, "[1]")).encode()
)


async def serve_fixed(provider: Provider, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FixedAnswers(provider), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server with a fixed latency.")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--latency-ms", type=float, default=300)
    parser.add_argument("--labels", type=int, default=3, help="how many labels to choose from")
    parser.add_argument("--fixed", action="store_true", help="the same answer to every call, at little cost")
    options = parser.parse_args()
    provider = Provider(labels=options.labels, latency=options.latency_ms / 1000)
    if options.fixed:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve_fixed(provider, options.port))
        return
    web.run_app(
        provider.application(), host="127.0.0.1", port=options.port, access_log=None, backlog=2048, print=None
    )


if __name__ == "__main__":
    main()
