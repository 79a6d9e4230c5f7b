"""An adapter that answers from a script, for tests and for showing what happens without any provider."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mllm.adapters.base import Capabilities
from mllm.errors import CallError
from mllm.messages import Delta, EmbeddingRequest, Embeddings, Reply, Request
from mllm.tokens import estimate_tokens

if TYPE_CHECKING:
    from mllm.registry import ConnectionSettings

Line = str | Reply | CallError
Script = Callable[[Request], Line] | Iterable[Line]

_ALL = Capabilities(images=True, logprobs=True, structured_output=True, streaming=True, embeddings=True)


class ScriptedAdapter:
    """Answers each request with the script's next line, or with what the script's function returns.

    A string becomes a reply that counts estimated tokens; an error is raised. `requests` lists what was
    asked, `cancelled` counts the calls that were cut off. `latency` is seconds a call; a streamed answer
    comes word by word, spread over it.
    """

    name = "scripted"

    def __init__(self, script: Script, *, latency: float = 0.0, capabilities: Capabilities = _ALL) -> None:
        self.capabilities = capabilities
        self.requests: list[Request] = []
        self.cancelled = 0
        self._script = script
        self._lines: Iterator[Line] | None = None if callable(script) else iter(script)
        self._latency = latency

    async def complete(self, request: Request) -> Reply:
        line = self._next_line(request)
        await self._wait(self._latency)
        return self._reply(line, request)

    async def embed(self, texts: Sequence[str], model: str) -> Embeddings:
        """The script's next line, which has to be `Embeddings` or an error."""
        request = EmbeddingRequest(model=model, system="", parts=tuple(texts), max_tokens=0)
        line = self._next_line(request)
        await self._wait(self._latency)
        reply = self._reply(line, request)
        assert isinstance(reply, Embeddings), "The script has another line where vectors are wanted."  # noqa: S101
        return reply

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        reply = self._reply(self._next_line(request), request)
        words = _words(reply.text)
        try:
            if reply.reasoning:
                yield Delta("", reply.reasoning)
            for word in words:
                await asyncio.sleep(self._latency / len(words))
                yield Delta(word)
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise
        yield Delta("", reply=reply)

    async def list_models(self) -> list[str]:
        return ["scripted"]

    async def aclose(self) -> None:
        return None

    def should_retry(self, error: CallError) -> bool:
        return error.retryable

    def _next_line(self, request: Request) -> Line:
        self.requests.append(request)
        if self._lines is None:
            assert callable(self._script)  # noqa: S101 - for the type checker
            return self._script(request)
        try:
            return next(self._lines)
        except StopIteration:
            raise RuntimeError(f"The script has no line for request {len(self.requests)}.") from None

    def _reply(self, line: Line, request: Request) -> Reply:
        if isinstance(line, CallError):
            raise line
        if isinstance(line, Reply):
            return replace(line, latency=self._latency)
        return Reply(
            text=line,
            reasoning="",
            model=request.model,
            finish_reason="stop",
            input_tokens=estimate_tokens(request),
            output_tokens=-(-len(line) // 4),
            cached_tokens=0,
            logprobs=(),
            latency=self._latency,
        )

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def from_settings(settings: "ConnectionSettings") -> ScriptedAdapter:
    """The adapter of a connection with the options `replies` (its script) and `latency` (seconds a call)."""
    return ScriptedAdapter(
        settings.options.get("replies", ()), latency=float(settings.options.get("latency", 0.0))
    )


def _words(text: str) -> list[str]:
    """The text cut after each space, so that joining the pieces gives it back."""
    pieces = [piece + " " for piece in text.split(" ")]
    pieces[-1] = pieces[-1][:-1]
    return [piece for piece in pieces if piece]
