"""Asking again after a failure that may pass: exponential back-off with full jitter."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import cast

from mllm.adapters.base import Adapter, EmbeddingAdapter
from mllm.errors import CallError, Failure
from mllm.messages import EmbeddingRequest, Reply, Request


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` calls within `total_time` seconds, waits included.

    The wait before attempt k+1 is uniform in [0, min(longest_wait, first_wait·2^(k−1))] seconds, or the
    provider's Retry-After where it names one. A call that timed out `timeouts` times is given up: what was too
    slow twice mostly stays too slow, and each try may be charged for.
    """

    attempts: int = 5
    timeouts: int = 2
    first_wait: float = 1.0
    longest_wait: float = 60.0
    total_time: float = 300.0


NO_RETRY = RetryPolicy(attempts=1)
DEFAULT_POLICY = RetryPolicy()


async def complete(
    adapter: Adapter,
    request: Request,
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    rng: random.Random | None = None,
    clock: Callable[[], float] = time.monotonic,
    heard: Callable[[CallError | None], object] = lambda error: None,
) -> Reply:
    """The reply, with `attempts` set. Raises the last `CallError`, with its `attempts` and all tokens spent.

    A fatal error is never retried, and a wait that would end after `total_time` is not begun. `heard` is told what
    each attempt came to: its error, or None for an answer.
    """
    started = clock()
    spent_input = spent_output = spent_cached = timeouts = 0
    for attempt in range(1, policy.attempts + 1):
        try:
            reply = replace(await _answer(adapter, request), attempts=attempt)
            heard(None)
            return reply
        except CallError as error:
            heard(error)
            spent_input += error.input_tokens
            spent_output += error.output_tokens
            spent_cached += error.cached_tokens
            error.attempts = attempt
            error.input_tokens, error.output_tokens = spent_input, spent_output
            error.cached_tokens = spent_cached
            timeouts += error.failure == Failure.TIMED_OUT
            if attempt == policy.attempts or timeouts == policy.timeouts or not adapter.should_retry(error):
                raise
            wait = _wait(error, attempt, policy, rng)
            if clock() - started + wait > policy.total_time:
                raise
        await sleep(wait)
    raise ValueError("A retry policy needs at least one attempt.")


async def _answer(adapter: Adapter, request: Request) -> Reply:
    if isinstance(request, EmbeddingRequest):
        return await cast(EmbeddingAdapter, adapter).embed(request.texts, request.model)
    return await adapter.complete(request)


def _wait(error: CallError, attempt: int, policy: RetryPolicy, rng: random.Random | None) -> float:
    # Without one the module's own: a generator for each call would take longer than all else here.
    jittered = (rng or random).uniform(0, min(policy.longest_wait, policy.first_wait * 2.0 ** (attempt - 1)))
    if error.retry_after is None:
        return jittered
    # Callers told the same second would all come back at once, so a little jitter goes on top.
    return error.retry_after + min(jittered, 1.0)
