"""Model calls of one chunk, kept full to the end: an event loop in a thread of its own makes the calls, so that writing
results (database work, in the caller's thread) never holds them up.

One loop and one adapter per connection live in each worker process, made at the first use after the fork.
"""

import asyncio
import atexit
import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from mllm import registry, retry
from mllm.adapters.base import Adapter
from mllm.adapters.batches import BatchAdapter
from mllm.addresses import AddressError
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.pacing import Pace
from mllm.registry import ConnectionSettings
from mllm.tokens import estimate_tokens

Result = TypeVar("Result")

# With more calls under way than this, outcomes are gathered for a moment before they are handed on.
_MANY = 16
_MOMENT_SECONDS = 0.01
# The loop gives up the interpreter with every byte that it sends, and gets it back from a thread that computes only
# after so many seconds. With Python's own 5 ms a loop of hundreds of calls stands still while results are written.
_SWITCH_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one subject's call: a reply or a named failure. `reused`: a kept answer, no call was made.

    `price_share` is what the call cost as a part of the model's price: 1, or less in a batch.
    """

    subject: int
    reply: Reply | None = None
    error: CallError | None = None
    reused: bool = False
    price_share: float = 1.0


class _LoopThread:
    """An event loop that runs in a thread, with the adapters that live on it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.adapters: dict[str, Adapter] = {}
        self.paces: dict[str, Pace] = {}
        sys.setswitchinterval(_SWITCH_SECONDS)
        threading.Thread(target=self.loop.run_forever, name="model-calls", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def adapter(self, connection: ConnectionSettings) -> Adapter:
        key = _key(connection)
        if key not in self.adapters:
            self.adapters[key] = registry.build(connection)
        return self.adapters[key]

    def pace(self, connection: ConnectionSettings) -> Pace:
        """The connection's pace, which outlives a chunk: what a provider complained of is not forgotten with it."""
        key = _key(connection)
        if key not in self.paces:
            self.paces[key] = Pace(
                in_flight=connection.max_in_flight,
                requests_per_minute=connection.requests_per_minute,
                tokens_per_minute=connection.tokens_per_minute,
            )
        return self.paces[key]

    async def close(self) -> None:
        for adapter in self.adapters.values():
            await adapter.aclose()
        self.adapters.clear()
        self.paces.clear()


def _key(connection: ConnectionSettings) -> str:
    return repr((connection, connection.api_key, sorted(connection.options.items())))


_thread: _LoopThread | None = None
_thread_lock = threading.Lock()


def loop_thread() -> _LoopThread:
    """This process's loop, made anew in a forked child."""
    global _thread
    with _thread_lock:
        if _thread is None or _thread.pid != os.getpid():
            _thread = _LoopThread()
            atexit.register(_close, _thread)
        return _thread


def _close(thread: _LoopThread) -> None:
    """Leave no connection open when the process ends."""
    if thread.pid == os.getpid():
        closing = asyncio.run_coroutine_threadsafe(thread.close(), thread.loop)
        with contextlib.suppress(Exception):  # the process ends anyway
            closing.result(timeout=2)


def call_now(connection: ConnectionSettings, request: Request) -> Reply:
    """One call, waited for: to try a connection. Raises CallError."""
    thread = loop_thread()

    async def call() -> Reply:
        adapter = await thread.adapter(connection)
        return await retry.complete(adapter, request, policy=retry.NO_RETRY)

    reply: Reply = thread.run(call())
    return reply


def batches_now(connection: ConnectionSettings, work: Callable[[BatchAdapter], Awaitable[Result]]) -> Result:
    """What `work` does with the connection's batches, waited for. Raises CallError."""
    if not registry.PROVIDERS[connection.provider].capabilities.batches:
        raise CallError(Failure.BAD_REQUEST, "This provider takes no batches.", fatal=True)
    thread = loop_thread()

    async def run() -> Result:
        return await work(cast(BatchAdapter, await thread.adapter(connection)))

    result: Result = thread.run(run())
    return result


def models_now(connection: ConnectionSettings) -> list[str]:
    """The models that the connection offers, waited for. Raises CallError."""
    thread = loop_thread()

    async def ask() -> list[str]:
        return await (await thread.adapter(connection)).list_models()

    models: list[str] = thread.run(ask())
    return models


class Calls:
    """Calls over one connection, as many at once as its pace allows. Submit and collect from one thread."""

    def __init__(self, connection: ConnectionSettings) -> None:
        self._thread = loop_thread()
        self._connection = connection
        self._pace = self._thread.pace(connection)
        self._adapter: Adapter | None = None
        self._submitted: deque[tuple[int, Request, Callable[[Reply], object]]] = deque()
        self._is_told = False  # that something was submitted
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._stopping = False
        self.outstanding = 0

    @property
    def limit(self) -> int:
        """How many may be in flight just now."""
        return self._pace.limit

    def share(self, place: int, users: int) -> None:
        """Be number `place` (from 0) of `users` that share the connection."""
        self._thread.loop.call_soon_threadsafe(self._pace.share, place, users)

    def submit(
        self, subject: int, request: Request, *, arrived: Callable[[Reply], object] = lambda reply: None
    ) -> None:
        """`arrived` is told of the reply at once, on the loop's thread."""
        self.outstanding += 1
        self._submitted.append((subject, request, arrived))
        if not self._is_told:  # waking the loop once for many costs less than once for each
            self._is_told = True
            self._thread.loop.call_soon_threadsafe(self._start_submitted)

    def _start_submitted(self) -> None:
        self._is_told = False  # what is submitted from here on is told again, or taken below
        while self._submitted:
            # The loop itself does not keep its tasks from being collected as garbage.
            self._running.add(self._thread.loop.create_task(self._call(*self._submitted.popleft())))

    def stop_starting(self) -> None:
        """Calls that wait for room are dropped; those in flight end as they end."""
        self._stopping = True
        self._thread.loop.call_soon_threadsafe(self._drop_waiting)

    def _drop_waiting(self) -> None:
        for task in self._waiting:
            task.cancel()

    def collect(self, most: int, wait: float) -> list[Outcome]:
        """Up to `most` outcomes: waits at most `wait` seconds for the first one, then takes what is there.

        Where many are under way it waits a moment for more of them: the two threads would else take turns at every
        single outcome. As long as calls wait on the loop for room, that holds none of them up.
        """
        outcomes: list[Outcome] = []
        timeout: float = wait
        for _ in range(min(most, self.outstanding)):
            try:
                outcome = self._outcomes.get(timeout=timeout) if timeout else self._outcomes.get_nowait()
            except queue.Empty:
                break
            if timeout and self.outstanding > max(_MANY, self.limit):
                time.sleep(_MOMENT_SECONDS)
            timeout = 0
            self.outstanding -= 1
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    async def _call(self, subject: int, request: Request, arrived: Callable[[Reply], object]) -> None:
        outcome: Outcome | None = None
        try:
            reserved = estimate_tokens(request) + request.max_tokens
            if await self._entered(reserved):
                used = reserved
                try:
                    adapter = self._adapter or await self._thread.adapter(self._connection)
                    self._adapter = adapter
                    reply = await retry.complete(
                        adapter, request, policy=retry.DEFAULT_POLICY, heard=self._pace.heard
                    )
                    arrived(reply)
                    used = reply.input_tokens + reply.output_tokens
                    outcome = Outcome(subject, reply=reply)
                finally:
                    self._pace.leave(reserved=reserved, used=used)
        except CallError as error:
            outcome = Outcome(subject, error=error)
        except AddressError as error:
            refused = CallError(Failure.UNREACHABLE, str(error), fatal=True)
            outcome = Outcome(subject, error=refused)
        except Exception as error:
            unexpected = CallError(Failure.SERVER_ERROR, f"The call broke off: {type(error).__name__}.")
            outcome = Outcome(subject, error=unexpected)
        finally:
            self._outcomes.put(outcome)
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 (this is a coroutine of a loop)
            self._running.discard(task)

    async def _entered(self, tokens: int) -> bool:
        """Wait for room. False when no call may start any more."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (this is a coroutine of a loop)
        if self._stopping:
            return False
        self._waiting.add(task)
        try:
            await self._pace.enter(tokens)
        except asyncio.CancelledError:
            return False
        finally:
            self._waiting.discard(task)
        return True
