"""OpenAI's chat completions, and the servers that speak them: vLLM, llama.cpp, Ollama, Gemini's endpoint."""

import asyncio
import base64
import codecs
import json
import math
import time
from array import array
from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mllm.adapters.base import Capabilities
from mllm.adapters.batches import BatchState, BatchStatus, cancelled, expired
from mllm.adapters.failures import Problem, name_failure, read_problem
from mllm.adapters.http import HttpAdapter, StreamReader, refuse_impossible
from mllm.adapters.sse import Event
from mllm.errors import CallError, Failure
from mllm.messages import Delta, Embeddings, Image, Reply, Request, TokenLogprob, Usage

if TYPE_CHECKING:
    import httpx2

# What OpenAI writes for a probability too small to tell; other servers write null or -Infinity.
NO_LOGPROB = -9999.0

_MAX_COMPLETION_TOKENS = "max_completion_tokens"
# Parameters whose loss leaves a valid request, with what is learned when a model rejects them.
_DROPPABLE = {
    "temperature": "no temperature",
    "seed": "no seed",
    "stream_options": "no stream_options",
}
_MARK = "overread"  # the name under which a batch carries its token
_BATCH_STATES = {
    "failed": BatchState.FAILED,
    "completed": BatchState.ENDED,
    "expired": BatchState.ENDED,
    "cancelled": BatchState.ENDED,
}
# Some servers give fewer alternatives than the 20 of OpenAI's; all that give any give these.
_FEW_TOP_LOGPROBS = 5
_FEWER = "fewer top_logprobs"


class OpenAIAdapter(HttpAdapter):
    name = "openai"
    capabilities = Capabilities(
        images=True, logprobs=True, structured_output=True, streaming=True, batches=True, embeddings=True
    )
    default_base_url = "https://api.openai.com/v1"
    path = "/chat/completions"

    def sdk(self) -> Any:
        import openai

        return openai

    def open_client(self, http_client: "httpx2.AsyncClient") -> Any:
        import openai

        # The SDK would take key, organization and project from the environment and send them to any base URL.
        headers: dict[str, Any] = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        return openai.AsyncOpenAI(
            api_key=self._settings.api_key or "none",
            base_url=self._base_url,
            default_headers=headers,
            max_retries=0,
            timeout=None,
            http_client=http_client,
        )

    def call_options(self) -> dict[str, Any]:
        import openai

        # The SDK takes the absence of a key only from the call itself.
        return {} if self._settings.api_key else {"headers": {"Authorization": openai.Omit()}}

    def body(self, request: Request, adaptations: Set[str], *, stream: bool) -> dict[str, Any]:
        messages: list[dict[str, Any]] = []
        if request.system:
            messages.append({"role": "system", "content": request.system})
        messages.append({"role": "user", "content": _content(request.parts)})
        limit = _MAX_COMPLETION_TOKENS if _MAX_COMPLETION_TOKENS in adaptations else "max_tokens"
        body: dict[str, Any] = {"model": request.model, "messages": messages, limit: request.max_tokens}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.top_logprobs:
            body["logprobs"] = True
            most = _FEW_TOP_LOGPROBS if _FEWER in adaptations else request.top_logprobs
            body["top_logprobs"] = min(request.top_logprobs, most)
        if request.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "schema": dict(request.schema),
                    "strict": is_strict(request.schema),
                },
            }
        if stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        for parameter, adaptation in _DROPPABLE.items():
            if adaptation in adaptations:
                body.pop(parameter, None)
        return body

    def adaptation_for(self, problem: Problem, body: Mapping[str, Any]) -> str | None:
        if "max_tokens" in body and problem.is_about("max_tokens") and _wants_other_limit(problem):
            return _MAX_COMPLETION_TOKENS
        if body.get("top_logprobs", 0) > _FEW_TOP_LOGPROBS and problem.is_about("top_logprobs"):
            return _FEWER
        for parameter, adaptation in _DROPPABLE.items():
            if parameter in body and problem.is_about(parameter):
                return adaptation
        return None

    def read_reply(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        answer = self.parse(body)
        try:
            choice = answer["choices"][0]
            message = choice.get("message") or {}
            gathered = _Gathered(
                text=_text_of(message.get("content")),
                reasoning=_reasoning_of(message),
                refusal=message.get("refusal") or "",
                finish_reason=choice.get("finish_reason") or "",
                model=answer.get("model") or "",
                logprobs=tuple(_Spelling().logprobs_of(choice)),
                usage=answer.get("usage") or {},
            )
            return gathered.reply(_request_id(answer, headers))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self.broken("it has no choice with a message", body) from None

    def stream_reader(self) -> StreamReader:
        return _OpenAIStream(self)

    # --- Embeddings --------------------------------------------------------------------------------------------------

    async def embed(self, texts: Sequence[str], model: str) -> Embeddings:
        """A vector of each text. Raises `CallError`."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.timeout):
                body = await self._asked_to_embed({"model": model, "input": list(texts)})
        except TimeoutError:
            raise self._timed_out() from None
        answer = self.parse(body)
        try:
            vectors = _vectors_of(answer["data"], len(texts))
            usage = answer.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or usage.get("total_tokens") or 0)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            raise self.broken("it is not a vector of numbers for each text", body) from None
        return Embeddings(
            text="",
            reasoning="",
            model=str(answer.get("model") or ""),
            finish_reason="stop",
            input_tokens=tokens,
            output_tokens=0,
            cached_tokens=0,
            logprobs=(),
            latency=time.perf_counter() - started,
            vectors=vectors,
        )

    async def _asked_to_embed(self, body: Mapping[str, Any]) -> bytes:
        client, sdk = self._ready_client()
        import httpx2

        try:
            response: httpx2.Response = await client.post(
                "/embeddings", cast_to=httpx2.Response, body=body, options=self.call_options()
            )
        except sdk.APIStatusError as error:
            raise name_failure(self._problem(error)) from None
        except sdk.APIConnectionError as error:
            raise self._unreachable(error) from None
        return bytes(response.content)

    # --- Batches -----------------------------------------------------------------------------------------------------

    async def batch_submit(self, requests: Mapping[str, Request], *, token: str) -> str:
        lines = []
        for key, request in requests.items():
            refuse_impossible(request, self.capabilities)
            adaptations = self._adaptations.get(request.model, frozenset())
            body = self.body(request, adaptations, stream=False)
            lines.append(
                json.dumps({"custom_id": key, "method": "POST", "url": f"/v1{self.path}", "body": body})
            )
        async with self.transferring():
            file = await self.post_json(
                "/files",
                {"purpose": "batch"},
                files=[("file", (f"{token}.jsonl", "\n".join(lines).encode(), "application/jsonl"))],
                headers={"Content-Type": "multipart/form-data"},
            )
            batch = await self.post_json(
                "/batches",
                {
                    "input_file_id": file.get("id"),
                    "endpoint": f"/v1{self.path}",
                    "completion_window": "24h",
                    "metadata": {_MARK: token},
                },
            )
        return self._batch_id(batch)

    async def batch_find(self, *, token: str, since: datetime, count: int) -> str | None:
        page = "/batches?limit=100"
        while True:
            answer = await self.get_json(page)
            batches = answer.get("data") or []
            for batch in batches:
                if (batch.get("metadata") or {}).get(_MARK) == token:
                    return self._batch_id(batch)
            # Newest first: what is older than the token need not be looked through.
            if (
                not answer.get("has_more")
                or not batches
                or batches[-1]["created_at"] < since.timestamp() - 60
            ):
                return None
            page = f"/batches?limit=100&after={batches[-1]['id']}"

    async def batch_status(self, batch_id: str) -> BatchStatus:
        batch = await self.get_json(f"/batches/{batch_id}")
        counts = batch.get("request_counts") or {}
        errors = (batch.get("errors") or {}).get("data") or []
        return BatchStatus(
            id=batch_id,
            state=_BATCH_STATES.get(str(batch.get("status")), BatchState.WAITING),
            answered=int(counts.get("completed") or 0),
            failed=int(counts.get("failed") or 0),
            total=int(counts.get("total") or 0),
            message=" ".join(str(error.get("message") or "") for error in errors[:3]).strip(),
        )

    async def batch_answers(self, batch_id: str) -> AsyncGenerator[tuple[str, Reply | CallError], None]:
        batch = await self.get_json(f"/batches/{batch_id}")
        for file_id in (batch.get("output_file_id"), batch.get("error_file_id")):
            if not file_id:
                continue
            async for line in self.get_lines(f"/files/{file_id}/content"):
                yield self._batch_answer(line)

    def _batch_answer(self, line: str) -> tuple[str, Reply | CallError]:
        try:
            answer = json.loads(line)
            key, response, error = str(answer["custom_id"]), answer.get("response"), answer.get("error")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self.broken("a line of a batch's answers has an unknown shape", line) from None
        if error and not response:
            code = str(error.get("code") or "")
            gone = {"batch_expired": expired, "batch_cancelled": cancelled}.get(code)
            return key, gone() if gone else self.error_in_answer(
                {"error": error}, json.dumps({"error": error})
            )
        try:
            body = json.dumps(response["body"]).encode()
            if response["status_code"] >= 400:
                problem = read_problem(response["status_code"], {}, body, self._secrets)
                return key, name_failure(problem)
            return key, self.read_reply(body, {"x-request-id": str(response.get("request_id") or "")})
        except (KeyError, TypeError, AttributeError):
            raise self.broken("a line of a batch's answers has an unknown shape", line) from None
        except CallError as failure:
            return key, failure

    async def batch_cancel(self, batch_id: str) -> None:
        await self.post_json(f"/batches/{batch_id}/cancel", {})

    def _batch_id(self, batch: Mapping[str, Any]) -> str:
        if not isinstance(batch.get("id"), str):
            raise self.broken("it is not a batch", json.dumps(batch))
        return str(batch["id"])

    async def fetch_models(self) -> list[str]:
        answer = await self.get_json("/models")
        entries = answer.get("data") or []
        if not isinstance(entries, list):
            raise self.broken("it has no list of models", json.dumps(answer))
        return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]


class _Gathered:
    """The pieces of an answer, whole or streamed."""

    def __init__(
        self,
        *,
        text: str = "",
        reasoning: str = "",
        refusal: str = "",
        finish_reason: str = "",
        model: str = "",
        logprobs: tuple[TokenLogprob, ...] = (),
        usage: Mapping[str, Any] | None = None,
    ) -> None:
        self.text = text
        self.reasoning = reasoning
        self.refusal = refusal
        self.finish_reason = finish_reason
        self.model = model
        self.logprobs = logprobs
        self.usage = usage or {}

    def reply(self, request_id: str) -> Reply:
        """Raises `CallError` for a refusal and for a filtered answer; both were charged for."""
        input_tokens, output_tokens, cached_tokens = _tokens_of(self.usage)
        if self.refusal:
            raise CallError(
                Failure.REFUSED,
                "The model refused to answer.",
                raw=self.refusal,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cached_tokens=cached_tokens,
            )
        if self.finish_reason == "content_filter":
            raise CallError(
                Failure.CONTENT_FILTERED,
                "The provider's content filter stopped the answer.",
                raw=self.text,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cached_tokens=cached_tokens,
            )
        return Reply(
            text=self.text,
            reasoning=self.reasoning,
            model=self.model,
            finish_reason=self.finish_reason,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached_tokens,
            logprobs=self.logprobs,
            latency=0.0,
            request_id=request_id,
        )


class _OpenAIStream(StreamReader):
    def __init__(self, adapter: OpenAIAdapter) -> None:
        self._adapter = adapter
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._spelling = _Spelling()
        self._gathered = _Gathered()
        self._id = ""
        self._last = ""

    @property
    def written(self) -> str:
        return "".join(self._texts) + "".join(self._reasonings) + self._gathered.refusal

    def take(self, event: Event) -> list[Delta]:
        if event.data.strip() == "[DONE]":
            self.done = True
            return []
        self._last = event.data
        chunk = self._adapter.parse(event.data)
        if event.name == "error":
            raise self._adapter.error_in_answer({"error": chunk}, event.data)
        try:
            return self._take_chunk(chunk)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self._adapter.broken("a piece of the stream has an unknown shape", event.data) from None

    def _take_chunk(self, chunk: Mapping[str, Any]) -> list[Delta]:
        self._gathered.model = chunk.get("model") or self._gathered.model
        self._id = self._id or chunk.get("id") or ""
        if usage := chunk.get("usage"):
            self._gathered.usage = usage
            self.told = Usage(*_tokens_of(usage))
        if not chunk.get("choices"):  # the chunk that only carries usage
            return []
        choice = chunk["choices"][0]
        delta = choice.get("delta") or {}
        text, reasoning = _text_of(delta.get("content")), _reasoning_of(delta)
        self.has_begun = True
        if self.told is not None and not usage and (text or reasoning):
            self.told = replace(self.told, is_estimated=True)
        self._texts.append(text)
        self._reasonings.append(reasoning)
        self._logprobs.extend(self._spelling.logprobs_of(choice))
        self._gathered.refusal += delta.get("refusal") or ""
        self._gathered.finish_reason = choice.get("finish_reason") or self._gathered.finish_reason
        return [Delta(text, reasoning)] if text or reasoning else []

    def reply(self, headers: Mapping[str, str]) -> Reply:
        if not self.done and not self._gathered.finish_reason:
            raise self._adapter.broken("the stream ended before the answer was complete", self._last)
        self._gathered.text = "".join(self._texts)
        self._gathered.reasoning = "".join(self._reasonings)
        self._gathered.logprobs = tuple(self._logprobs)
        return self._gathered.reply(_request_id({"id": self._id}, headers))


def _vectors_of(entries: Sequence[Mapping[str, Any]], count: int) -> tuple["array[float]", ...]:
    """The vectors in the order of the texts; servers may answer in another one. Raises ValueError and its like."""
    placed = {int(entry.get("index", place)): entry["embedding"] for place, entry in enumerate(entries)}
    if sorted(placed) != list(range(count)):
        raise ValueError("not one vector a text")
    vectors = tuple(array("f", placed[place]) for place in range(count))
    if len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
        raise ValueError("vectors of different lengths")
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise ValueError("no numbers")
    return vectors


def _content(parts: tuple[str | Image, ...]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]  # some servers take no list where there is no image
    return [_part(part) for part in parts]


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    data = base64.b64encode(part.data).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{data}"}}


def is_strict(schema: Any) -> bool:
    """Whether a JSON schema meets the rule for `strict`: every object closed, every property required."""
    if isinstance(schema, list | tuple):
        return all(is_strict(inner) for inner in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties") or {}
        if schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required") or ()) != set(properties):
            return False
        return all(is_strict(inner) for inner in properties.values())
    return all(is_strict(value) for key, value in schema.items() if key not in ("enum", "const", "default"))


def _wants_other_limit(problem: Problem) -> bool:
    return _MAX_COMPLETION_TOKENS in problem.message or "nsupported" in f"{problem.code} {problem.message}"


def _text_of(content: Any) -> str:
    if isinstance(content, list):  # typed parts, as some compatible servers answer
        return "".join(str(part.get("text") or "") for part in content if part.get("type", "text") == "text")
    return content or ""


def _reasoning_of(message: Mapping[str, Any]) -> str:
    found = message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else ""


class _Spelling:
    """The text of each token. Characters of which a token holds only some bytes go to the token that completes them."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def logprobs_of(self, choice: Mapping[str, Any]) -> list[TokenLogprob]:
        entries = (choice.get("logprobs") or {}).get("content") or []
        return [
            TokenLogprob(
                token=self._text(entry),
                logprob=_logprob(entry.get("logprob")),
                top=tuple(
                    (top["token"], _logprob(top.get("logprob"))) for top in entry.get("top_logprobs") or ()
                ),
            )
            for entry in entries
        ]

    def _text(self, entry: Mapping[str, Any]) -> str:
        token, spelled = entry["token"], entry.get("bytes")
        if not isinstance(spelled, list) or not spelled:
            return str(token)
        return self._decoder.decode(bytes(spelled))


def _logprob(value: Any) -> float:
    number = NO_LOGPROB if value is None else float(value)
    return number if math.isfinite(number) else NO_LOGPROB


def _tokens_of(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """(input, output, cached); 0 where the server does not say."""
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0), int(cached)


def _request_id(answer: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    return str(headers.get("x-request-id") or answer.get("id") or "")
