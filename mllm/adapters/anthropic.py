"""Anthropic's messages."""

import base64
import json
from collections.abc import AsyncGenerator, Mapping, Set
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mllm.adapters.base import Capabilities
from mllm.adapters.batches import BatchState, BatchStatus, cancelled, expired
from mllm.adapters.failures import Problem, name_failure, read_problem
from mllm.adapters.http import HttpAdapter, StreamReader, refuse_impossible
from mllm.adapters.sse import Event
from mllm.errors import CallError, Failure
from mllm.messages import Delta, Image, Reply, Request, Usage

if TYPE_CHECKING:
    import httpx2

    from mllm.registry import ConnectionSettings

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",  # only ever the forced tool that carries a structured answer
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
# An error in the middle of a stream has a type but no status.
_STATUS_OF_ERROR = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_BATCHES = "/v1/messages/batches"
_CLOCKS_DIFFER = timedelta(minutes=1)
_ANSWER_TOOL = "answer"
_BY_TOOL = "structured by tool"


class AnthropicAdapter(HttpAdapter):
    """Structured answers use the native output format; models that lack it get a tool that they must call.

    The interface has no log-probabilities: a request for them is refused. It has no seed and, since its
    version of October 2026, no temperature (a request with one fails, even at the default): they are not sent.
    """

    name = "anthropic"
    capabilities = Capabilities(
        images=True, logprobs=False, structured_output=True, streaming=True, batches=True
    )
    default_base_url = "https://api.anthropic.com"
    path = "/v1/messages"

    def __init__(self, settings: "ConnectionSettings") -> None:
        super().__init__(settings)
        # The SDK adds /v1 itself; people copy addresses with it.
        self._base_url = self._base_url.removesuffix("/v1")

    def sdk(self) -> Any:
        import anthropic

        return anthropic

    def open_client(self, http_client: "httpx2.AsyncClient") -> Any:
        import anthropic

        if not self._settings.api_key:
            # Without one the SDK would look through the environment and the home folder for another key.
            raise CallError(
                Failure.AUTHENTICATION, "This connection has no key. Enter one, or set ANTHROPIC_API_KEY."
            )
        return anthropic.AsyncAnthropic(
            api_key=self._settings.api_key,
            base_url=self._base_url,
            max_retries=0,
            timeout=None,
            http_client=http_client,
            open_telemetry=False,
        )

    def body(self, request: Request, adaptations: Set[str], *, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "messages": [{"role": "user", "content": [_part(part) for part in request.parts]}],
        }
        if request.system:
            # The stable part of every prompt of a job; the provider ignores the mark on short ones.
            body["system"] = [
                {"type": "text", "text": request.system, "cache_control": {"type": "ephemeral"}},
            ]
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if request.schema is not None:
            body |= _by_tool(request.schema) if _BY_TOOL in adaptations else _by_format(request.schema)
        if stream:
            body["stream"] = True
        return body

    def adaptation_for(self, problem: Problem, body: Mapping[str, Any]) -> str | None:
        if "output_config" in body and _rejects_format(problem):
            return _BY_TOOL
        return None

    def read_reply(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        answer = self.parse(body)
        gathered = _Gathered()
        try:
            gathered.start(answer)
            for block in answer["content"]:
                gathered.add(block)
            gathered.finish(answer)
            return gathered.reply(headers)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self.broken("it is not a message", body) from None

    def stream_reader(self) -> StreamReader:
        return _AnthropicStream(self)

    def error_in_answer(self, found: Mapping[str, Any], body: bytes | str) -> CallError:
        error = found["error"]
        kind = error.get("type") if isinstance(error, dict) else None
        status = _STATUS_OF_ERROR.get(str(kind), 500)
        return name_failure(read_problem(status, {}, body, self._secrets))

    # --- Batches -----------------------------------------------------------------------------------------------------

    async def batch_submit(self, requests: Mapping[str, Request], *, token: str) -> str:
        entries = []
        for key, request in requests.items():
            refuse_impossible(request, self.capabilities)
            adaptations = self._adaptations.get(request.model, frozenset())
            entries.append(
                # A batch has no place for a token of ours but its keys.
                {"custom_id": f"{token}-{key}", "params": self.body(request, adaptations, stream=False)}
            )
        async with self.transferring():
            batch = await self.post_json(_BATCHES, {"requests": entries})
        return self._batch_id(batch)

    async def batch_find(self, *, token: str, since: datetime, count: int) -> str | None:
        answer = await self.get_json(f"{_BATCHES}?limit=100")
        for batch in answer.get("data") or []:
            created = datetime.fromisoformat(str(batch["created_at"]))
            if created < since - _CLOCKS_DIFFER or sum((batch.get("request_counts") or {}).values()) != count:
                continue
            if await self._is_ours(batch, token):
                return self._batch_id(batch)
        return None

    async def _is_ours(self, batch: Mapping[str, Any], token: str) -> bool:
        """Whether it carries the token, as far as can be seen: its keys are shown with its answers alone."""
        if batch.get("processing_status") != "ended":
            return True
        async for line in self.get_lines(f"{_BATCHES}/{batch['id']}/results"):
            return str(json.loads(line).get("custom_id")).startswith(f"{token}-")
        return False

    async def batch_status(self, batch_id: str) -> BatchStatus:
        batch = await self.get_json(f"{_BATCHES}/{batch_id}")
        counts = {name: int(value or 0) for name, value in (batch.get("request_counts") or {}).items()}
        has_ended = batch.get("processing_status") == "ended"
        answered = counts.get("succeeded", 0)
        waiting = counts.get("processing", 0)
        return BatchStatus(
            id=batch_id,
            state=BatchState.ENDED if has_ended else BatchState.WAITING,
            answered=answered,
            failed=sum(counts.values()) - answered - waiting,
            total=sum(counts.values()),
        )

    async def batch_answers(self, batch_id: str) -> AsyncGenerator[tuple[str, Reply | CallError], None]:
        async for line in self.get_lines(f"{_BATCHES}/{batch_id}/results"):
            yield self._batch_answer(line)

    def _batch_answer(self, line: str) -> tuple[str, Reply | CallError]:
        try:
            answer = json.loads(line)
            key, result = str(answer["custom_id"]).partition("-")[2], answer["result"]
            match result["type"]:
                case "succeeded":
                    return key, self.read_reply(json.dumps(result["message"]).encode(), {})
                case "errored":
                    return key, self.error_in_answer(result["error"], json.dumps(result["error"]))
                case "canceled":
                    return key, cancelled()
                case _:
                    return key, expired()
        except CallError as failure:
            return key, failure
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self.broken("a line of a batch's answers has an unknown shape", line) from None

    async def batch_cancel(self, batch_id: str) -> None:
        await self.post_json(f"{_BATCHES}/{batch_id}/cancel", {})

    def _batch_id(self, batch: Mapping[str, Any]) -> str:
        if not isinstance(batch.get("id"), str):
            raise self.broken("it is not a batch", json.dumps(batch))
        return str(batch["id"])

    async def fetch_models(self) -> list[str]:
        names: list[str] = []
        page = "/v1/models?limit=1000"
        while True:
            answer = await self.get_json(page)
            entries = answer.get("data")
            if not isinstance(entries, list):
                raise self.broken("it has no list of models", json.dumps(answer))
            names += [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
            last = answer.get("last_id")
            if not answer.get("has_more") or not last:
                return names
            page = f"/v1/models?limit=1000&after_id={last}"


class _Gathered:
    """The pieces of a message, whole or streamed."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasonings: list[str] = []
        self.model = ""
        self.id = ""
        self.stop_reason = ""
        self.usage: dict[str, Any] = {}

    def start(self, message: Mapping[str, Any]) -> None:
        self.model = message.get("model") or ""
        self.id = message.get("id") or ""
        self.usage |= message.get("usage") or {}

    def add(self, block: Mapping[str, Any]) -> None:
        match block["type"]:
            case "text":
                self.texts.append(block["text"])
            case "thinking":
                self.reasonings.append(block["thinking"])
            case "tool_use":
                self.texts.append(json.dumps(block["input"], ensure_ascii=False))

    def finish(self, message: Mapping[str, Any]) -> None:
        self.stop_reason = message.get("stop_reason") or self.stop_reason
        # Counts of a message's end replace those of its start; those it leaves out stay.
        self.usage |= {
            name: value for name, value in (message.get("usage") or {}).items() if value is not None
        }

    def told(self) -> Usage:
        """What the provider said of the tokens, those from and into its cache among the input."""
        cached = int(self.usage.get("cache_read_input_tokens") or 0)
        kept = int(self.usage.get("cache_creation_input_tokens") or 0)
        input_tokens = int(self.usage.get("input_tokens") or 0) + cached + kept
        return Usage(input_tokens, int(self.usage.get("output_tokens") or 0), cached)

    def reply(self, headers: Mapping[str, str]) -> Reply:
        """Raises `CallError` for a refusal, which was charged for."""
        usage = self.told()
        text = "".join(self.texts)
        if self.stop_reason == "refusal":
            raise CallError(
                Failure.REFUSED,
                "The model refused to answer.",
                raw=text,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
            )
        return Reply(
            text=text,
            reasoning="".join(self.reasonings),
            model=self.model,
            finish_reason=_FINISH_REASONS.get(self.stop_reason, self.stop_reason),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            logprobs=(),
            latency=0.0,
            request_id=headers.get("request-id") or self.id,
        )


class _AnthropicStream(StreamReader):
    def __init__(self, adapter: AnthropicAdapter) -> None:
        self._adapter = adapter
        self._gathered = _Gathered()
        self._last = ""

    @property
    def written(self) -> str:
        return "".join(self._gathered.texts) + "".join(self._gathered.reasonings)

    def take(self, event: Event) -> list[Delta]:
        self._last = event.data
        found = self._adapter.parse(event.data)
        try:
            return self._take_event(found)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self._adapter.broken("a piece of the stream has an unknown shape", event.data) from None

    def _take_event(self, event: Mapping[str, Any]) -> list[Delta]:
        match event["type"]:
            case "message_start":
                self._gathered.start(event["message"])
                self.has_begun = True
                # It counts the tokens of the answer that are written by then, that is next to none.
                self.told = replace(self._gathered.told(), is_estimated=True)
            case "content_block_delta":
                return self._take_delta(event["delta"])
            case "message_delta":
                self._gathered.finish({**event["delta"], "usage": event.get("usage")})
                if (event.get("usage") or {}).get("output_tokens") is not None:
                    self.told = self._gathered.told()
            case "message_stop":
                self.done = True
        return []

    def _take_delta(self, delta: Mapping[str, Any]) -> list[Delta]:
        match delta["type"]:
            case "text_delta":
                text = delta["text"]
            case "input_json_delta":
                text = delta["partial_json"]
            case "thinking_delta":
                self._gathered.reasonings.append(delta["thinking"])
                return [Delta("", delta["thinking"])]
            case _:
                return []
        self._gathered.texts.append(text)
        return [Delta(text)] if text else []

    def reply(self, headers: Mapping[str, str]) -> Reply:
        if not self.done and not self._gathered.stop_reason:
            raise self._adapter.broken("the stream ended before the answer was complete", self._last)
        return self._gathered.reply(headers)


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    data = base64.b64encode(part.data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}


def _by_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    import anthropic

    try:
        # The native format takes no number ranges or open objects; the SDK knows what must be rewritten.
        rewritten = anthropic.transform_schema(dict(schema))
    except ValueError as error:
        raise CallError(Failure.BAD_REQUEST, f"The answer's schema cannot be used: {error}") from None
    return {"output_config": {"format": {"type": "json_schema", "schema": rewritten}}}


def _by_tool(schema: Mapping[str, Any]) -> dict[str, Any]:
    tool = {
        "name": _ANSWER_TOOL,
        "description": "Give the answer with this tool.",
        "input_schema": dict(schema),
    }
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": _ANSWER_TOOL}}


def _rejects_format(problem: Problem) -> bool:
    return (
        problem.is_about("output_config")
        or problem.is_about("output_format")
        or (problem.status == 400 and "structured output" in problem.message.lower())
    )
