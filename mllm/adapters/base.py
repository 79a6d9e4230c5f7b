"""What every provider's adapter offers."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mllm.errors import CallError
from mllm.messages import Delta, Embeddings, Reply, Request


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider's interface can do at all; a given model may do less and then answers with an error."""

    images: bool
    logprobs: bool
    structured_output: bool
    streaming: bool
    batches: bool = False
    embeddings: bool = False


class Adapter(Protocol):
    """One connection to one provider.

    An adapter belongs to the event loop of its first call. Every failure is a `CallError`, except
    `asyncio.CancelledError`, which passes through. No method retries: `mllm.retry.complete` does.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def complete(self, request: Request) -> Reply: ...

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Deltas as they arrive, the last one with the whole reply; `aclose()` cancels the HTTP call.

        The time that the caller takes between two deltas is not the call's: it counts neither towards its timeout nor
        in its latency. The error of a stream that broke off has the tokens that were paid for.
        """
        ...

    async def list_models(self) -> list[str]:
        """The names that `Request.model` may take, sorted."""
        ...

    async def aclose(self) -> None: ...

    def should_retry(self, error: CallError) -> bool: ...


class EmbeddingAdapter(Adapter, Protocol):
    """An adapter with the capability `embeddings`."""

    async def embed(self, texts: Sequence[str], model: str) -> Embeddings:
        """A vector of each text, and the tokens that they took. Raises `CallError`."""
        ...
