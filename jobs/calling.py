"""Model calls of one chunk, kept full to the end: an event loop in a thread of its own makes the calls, so that writing
results (database work, in the caller's thread) never holds them up.

One loop and one adapter per connection live in each worker process, made at the first use after the fork.
"""

import asyncio
import atexit
import contextlib
import os
import queue
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from mllm import registry, retry
from mllm.adapters.base import Adapter
from mllm.addresses import AddressError
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.registry import ConnectionSettings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one subject's call: a reply or a named failure. `reused`: a kept answer, no call was made."""

    subject: int
    reply: Reply | None = None
    error: CallError | None = None
    reused: bool = False


class _LoopThread:
    """An event loop that runs in a thread, with the adapters that live on it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.adapters: dict[str, Adapter] = {}
        threading.Thread(target=self.loop.run_forever, name="model-calls", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def adapter(self, connection: ConnectionSettings) -> Adapter:
        key = repr((connection, connection.api_key, sorted(connection.options.items())))
        if key not in self.adapters:
            self.adapters[key] = registry.build(connection)
        return self.adapters[key]

    async def close(self) -> None:
        for adapter in self.adapters.values():
            await adapter.aclose()
        self.adapters.clear()


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


def models_now(connection: ConnectionSettings) -> list[str]:
    """The models that the connection offers, waited for. Raises CallError."""
    thread = loop_thread()

    async def ask() -> list[str]:
        return await (await thread.adapter(connection)).list_models()

    models: list[str] = thread.run(ask())
    return models


class Calls:
    """Calls over one connection, `in_flight` at once. Submit and collect from one thread."""

    def __init__(self, connection: ConnectionSettings, *, in_flight: int) -> None:
        self._thread = loop_thread()
        self._connection = connection
        self._room = asyncio.Semaphore(in_flight)
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._stopping = False
        self.outstanding = 0

    def submit(self, subject: int, request: Request) -> None:
        self.outstanding += 1
        asyncio.run_coroutine_threadsafe(self._call(subject, request), self._thread.loop)

    def stop_starting(self) -> None:
        """Calls that wait for room are dropped; those in flight end as they end."""
        self._stopping = True

    def collect(self, most: int, wait: float) -> list[Outcome]:
        """Up to `most` outcomes: waits at most `wait` seconds for the first one, then takes what is there."""
        outcomes: list[Outcome] = []
        timeout: float = wait
        for _ in range(min(most, self.outstanding)):
            try:
                outcome = self._outcomes.get(timeout=timeout) if timeout else self._outcomes.get_nowait()
            except queue.Empty:
                break
            timeout = 0
            self.outstanding -= 1
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    async def _call(self, subject: int, request: Request) -> None:
        outcome: Outcome | None = None
        try:
            async with self._room:
                if not self._stopping:
                    adapter = await self._thread.adapter(self._connection)
                    reply = await retry.complete(adapter, request, policy=retry.DEFAULT_POLICY)
                    outcome = Outcome(subject, reply=reply)
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
