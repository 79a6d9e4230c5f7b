"""Many requests handed in together and answered within a day, for half the price of calls."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request

# What a batch costs beside the same calls made at once, at the providers that have batches.
PRICE_SHARE = 0.5
LONGEST_WAIT_HOURS = 24
# Seconds for handing in or fetching a whole batch, which may be a few hundred megabytes.
TRANSFER_TIMEOUT = 900.0
LARGEST_BATCH_BYTES = 150_000_000  # of requests; both providers take a little more


class BatchState(StrEnum):
    WAITING = "waiting"  # the provider works on it
    ENDED = "ended"  # whatever was answered can be fetched: it is complete, expired or cancelled
    FAILED = "failed"  # the provider refused it as a whole


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch at a moment. `answered` and `failed` of its `total` requests; `message` says why it failed."""

    id: str
    state: BatchState
    answered: int = 0
    failed: int = 0
    total: int = 0
    message: str = ""


class BatchAdapter(Protocol):
    """A connection whose provider takes batches. Every failure is a `CallError`; nothing is asked twice by itself."""

    async def batch_submit(self, requests: Mapping[str, Request], *, token: str) -> str:
        """Hand in the requests, by key; the provider's id of the batch. `token` marks it as ours, to find it again."""
        ...

    async def batch_find(self, *, token: str, since: datetime, count: int) -> str | None:
        """The id of a batch of `count` requests that was handed in with this token after `since`, if there is one."""
        ...

    async def batch_status(self, batch_id: str) -> BatchStatus: ...

    def batch_answers(self, batch_id: str) -> AsyncGenerator[tuple[str, Reply | CallError], None]:
        """Each request's key with its reply or failure, in any order, of a batch that has ended."""
        ...

    async def batch_cancel(self, batch_id: str) -> None:
        """Ask for its end. What was answered by then can be fetched once it has ended."""
        ...

    async def aclose(self) -> None: ...


def expired() -> CallError:
    return CallError(Failure.TIMED_OUT, "The batch ran out of time before this request was answered.")


def cancelled() -> CallError:
    return CallError(Failure.TIMED_OUT, "The batch was cancelled before this request was answered.")


def unanswered() -> CallError:
    return CallError(Failure.SERVER_ERROR, "The batch ended without an answer to this request.")
