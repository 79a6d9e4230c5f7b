"""Streams of annotators that a router reads along, many at once on the worker's loop of calls.

The loop's thread reads the streams and asks the router's model. Slots of the budget are taken, and results written, by
the thread that owns the database: the loop asks it, and waits.
"""

import asyncio
import queue
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from decimal import Decimal

from jobs.calling import Outcome as CallOutcome
from jobs.calling import loop_thread
from mllm import retry
from mllm.addresses import AddressError
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request, Usage
from mllm.prices import Price, token_cost
from mllm.registry import ConnectionSettings
from mllm.tokens import estimate_tokens, usage_of
from route.escalation import Decision, End, Outcome, route_stream
from route.router_prompts import read_verdict

NO_ROOM = "The spend limit has no room to ask the router."


@dataclass(frozen=True, slots=True)
class Broken:
    """A stream that died and was begun anew: what broke it, with the tokens that were paid, and what it had written."""

    error: CallError
    text: str


@dataclass
class Reading:
    """One item: what its annotator is asked, how the router is asked about its steps, and what came of it.

    `most` is what one attempt may cost. `usage` is what the provider told of the last attempt so far. `seconds` are
    the annotator's: without those in which the stream waited for the router. `broken` are attempts before the last one,
    `asked_before` what the router said about them.
    """

    item_id: int
    request: Request
    about: Callable[[Sequence[str]], Request]
    most: Decimal = Decimal(0)
    reply: Reply | None = None
    usage: Usage | None = None
    asked: dict[int, CallOutcome] = field(default_factory=dict)  # the router's answers, by step
    error: CallError | None = None
    attempts: int = 1
    seconds: float = 0.0
    broken: list[Broken] = field(default_factory=list)
    asked_before: list[CallOutcome] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a reading; `outcome` is None where its stream was never begun or was broken off by the worker."""

    reading: Reading
    outcome: Outcome[Reading] | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The loop wants a slot of the budget, or gives one back, and waits for the answer."""

    gives_back: bool
    answer: "asyncio.Future[bool]"


class Spending:
    """What calls under way may cost at most, so that a limit holds whatever is answered. Used by both threads."""

    def __init__(self, limit: Decimal | None, spent: Decimal) -> None:
        self._limit, self._spent = limit, spent
        self._reserved = Decimal(0)
        self._lock = threading.Lock()

    def reserve(self, most: Decimal) -> bool:
        """Set it aside; False where the limit has no room for it."""
        with self._lock:
            if self._limit is not None and self._spent + self._reserved + most > self._limit:
                return False
            self._reserved += most
            return True

    def set_aside_again(self, cost: Decimal) -> bool:
        """An attempt came to this, and another one like it follows; False, and nothing changes, without room for it."""
        with self._lock:
            if self._limit is not None and self._spent + self._reserved + cost > self._limit:
                return False
            self._spent += cost
            return True

    def settle(self, most: Decimal, cost: Decimal) -> None:
        """What was set aside came to this."""
        with self._lock:
            self._reserved -= most
            self._spent += cost


def most_cost(price: Price | None, request: Request) -> Decimal:
    """Of one call: its tokens as estimated, and an answer of full length."""
    return Decimal(0) if price is None else token_cost(price, estimate_tokens(request), request.max_tokens)


def paid_cost(price: Price | None, paid: Reply | CallError) -> Decimal:
    """Of one call that was answered or failed."""
    if price is None:
        return Decimal(0)
    return token_cost(price, paid.input_tokens, paid.output_tokens, paid.cached_tokens)


class Streams:
    """Starts readings and hands on what happens. All methods but the private ones belong to one thread."""

    def __init__(
        self,
        annotator: ConnectionSettings,
        router: ConnectionSettings,
        *,
        interval: int,
        spending: Spending,
        price: Price | None,
        router_price: Price | None,
    ) -> None:
        self._thread = loop_thread()
        self._annotator = annotator
        # A connection of its own: while the router is asked the stream waits, and holds its place in the other one.
        self._router = replace(
            router,
            max_in_flight=annotator.max_in_flight,
            options=dict(router.options) | {"reads_along": True},
        )
        self._pace = self._thread.pace(annotator)
        self._router_pace = self._thread.pace(self._router)
        self._interval, self._spending = interval, spending
        self._price, self._router_price = price, router_price
        self._events: queue.SimpleQueue[Finished | Wanted] = queue.SimpleQueue()
        self._tasks: set[Future[None]] = set()
        self._closed = False
        self.is_spent = False  # whether the budget has no slot left
        self.outstanding = 0

    @property
    def limit(self) -> int:
        """How many streams may run just now."""
        return self._pace.limit

    def share(self, place: int, users: int) -> None:
        """Be number `place` (from 0) of `users` that share the annotator's connection."""
        self._thread.loop.call_soon_threadsafe(self._pace.share, place, users)

    def start(self, reading: Reading) -> None:
        self.outstanding += 1
        task = asyncio.run_coroutine_threadsafe(self._read(reading), self._thread.loop)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def next_event(self, wait: float) -> Finished | Wanted | None:
        """What happens next, None when nothing does within `wait` seconds. A `Wanted` has to be answered."""
        try:
            event = self._events.get(timeout=wait) if wait else self._events.get_nowait()
        except queue.Empty:
            return None
        self.outstanding -= isinstance(event, Finished)
        return event

    def answer(self, wanted: Wanted, is_given: bool) -> None:
        self._thread.loop.call_soon_threadsafe(_set_result, wanted.answer, is_given)

    def close(self) -> None:
        """Break off what still runs: every stream is closed, and no slot is given any more."""
        self._closed = True
        until = time.monotonic() + 5
        for task in list(self._tasks):
            task.cancel()
        while self.outstanding and time.monotonic() < until:
            event = self.next_event(0.05)
            if isinstance(event, Wanted):
                self.answer(event, False)

    async def take(self) -> bool:
        """The budget, as `route.escalation` takes it."""
        return False if self._closed else await self._want(gives_back=False)

    async def give_back(self) -> None:
        if not self._closed:  # else whoever takes the chunk over counts what is written
            await self._want(gives_back=True)

    async def _want(self, *, gives_back: bool) -> bool:
        answer = self._thread.loop.create_future()
        self._events.put(Wanted(gives_back, answer))
        return bool(await answer)

    async def _read(self, reading: Reading) -> None:
        outcome: Outcome[Reading] | None = None
        try:
            outcome = await self._outcome(reading)
        except asyncio.CancelledError:
            pass  # broken off: the item is asked again
        except AddressError as error:
            reading.error = CallError(Failure.UNREACHABLE, str(error), fatal=True)
        except CallError as error:
            reading.error = error
        except Exception as error:
            reading.error = CallError(Failure.SERVER_ERROR, f"The call broke off: {type(error).__name__}.")
        finally:
            self._events.put(Finished(reading, outcome))

    async def _outcome(self, reading: Reading) -> Outcome[Reading]:
        """Read the stream, and again where it broke and may go better; what it came to at last."""
        adapter = await self._thread.adapter(self._annotator)
        tries = _Tries(retry.DEFAULT_POLICY)
        while True:
            outcome = await self._attempt(reading)
            if outcome.end is not End.BROKEN:
                self._pace.heard(None)
                return outcome
            if isinstance(outcome.error, AddressError):
                raise outcome.error
            error = reading.error = _broken_by(reading, outcome)
            self._pace.heard(error)
            wait = tries.wait_after(error, reading.attempts) if adapter.should_retry(error) else None
            if wait is None or self._closed:
                return outcome
            if not self._spending.set_aside_again(paid_cost(self._price, error)):
                return outcome
            await asyncio.sleep(wait)
            reading.broken.append(Broken(error, outcome.text))
            reading.asked_before += reading.asked.values()
            reading.reply, reading.error, reading.usage, reading.asked = None, None, None, {}
            reading.attempts += 1

    async def _attempt(self, reading: Reading) -> Outcome[Reading]:
        reserved = estimate_tokens(reading.request) + reading.request.max_tokens
        await self._pace.enter(reserved)
        used, started = reserved, time.perf_counter()
        reading.seconds = 0.0
        try:
            stream = self._text(reading)
            outcome = await route_stream(
                reading, stream, self._judge, _SharedBudget(self), interval=self._interval
            )
            if reading.reply is not None:
                used = reading.reply.input_tokens + reading.reply.output_tokens
        finally:
            # The router's time was taken off already.
            reading.seconds += time.perf_counter() - started
            self._pace.leave(reserved=reserved, used=used)
        return outcome

    async def _text(self, reading: Reading) -> AsyncGenerator[str, None]:
        adapter = await self._thread.adapter(self._annotator)
        stream = adapter.stream(reading.request)
        try:
            async for delta in stream:
                if delta.reply is not None:
                    reading.reply = delta.reply
                reading.usage = delta.usage or reading.usage
                if delta.text:
                    yield delta.text
        finally:
            await stream.aclose()

    async def _judge(self, item: Reading, steps: Sequence[str]) -> Decision:
        """Ask the router; a failure is kept, and counts as going on. The stream waits meanwhile."""
        started = time.perf_counter()
        try:
            return await self._asked(item, steps)
        finally:
            item.seconds -= time.perf_counter() - started

    async def _asked(self, reading: Reading, steps: Sequence[str]) -> Decision:
        step = len(steps)
        request = reading.about(steps)
        most = most_cost(self._router_price, request)
        if not self._spending.reserve(most):
            raise CallError(Failure.SPEND_LIMIT, NO_ROOM)
        cost = Decimal(0)
        tokens = estimate_tokens(request) + request.max_tokens
        await self._router_pace.enter(tokens)
        try:
            adapter = await self._thread.adapter(self._router)
            reply = await retry.complete(
                adapter, request, policy=retry.DEFAULT_POLICY, heard=self._router_pace.heard
            )
            cost = paid_cost(self._router_price, reply)
        except CallError as error:
            cost = paid_cost(self._router_price, error)
            reading.asked[step] = CallOutcome(reading.item_id, error=error)
            raise
        except AddressError as error:
            refused = CallError(Failure.UNREACHABLE, str(error), fatal=True)
            reading.asked[step] = CallOutcome(reading.item_id, error=refused)
            raise refused from error
        finally:
            self._router_pace.leave(reserved=tokens, used=tokens)
            self._spending.settle(most, cost)
        reading.asked[step] = CallOutcome(reading.item_id, reply=reply)
        verdict = read_verdict(reply.text)
        return Decision(
            verdict.escalates, verdict.risk, verdict.is_readable, reply.input_tokens + reply.output_tokens
        )


@dataclass(frozen=True, slots=True)
class _SharedBudget:
    """The budget of a run, whose slots the database keeps."""

    streams: Streams

    async def take(self) -> bool:
        return await self.streams.take()

    async def give_back(self) -> None:
        await self.streams.give_back()

    async def is_spent(self) -> bool:
        return self.streams.is_spent


class _Tries:
    """Whether a stream that broke is begun anew, by the rules of all other calls."""

    def __init__(self, policy: retry.RetryPolicy) -> None:
        self._policy, self._started, self._timeouts = policy, time.monotonic(), 0

    def wait_after(self, error: CallError, attempt: int) -> float | None:
        """Seconds to wait after attempt number `attempt`, from 1; None: give up."""
        policy = self._policy
        self._timeouts += error.failure == Failure.TIMED_OUT
        if attempt >= policy.attempts or self._timeouts >= policy.timeouts:
            return None
        longest = min(policy.longest_wait, policy.first_wait * 2.0 ** (attempt - 1))
        wait = (error.retry_after or 0.0) + random.uniform(0, longest)
        return wait if time.monotonic() - self._started + wait <= policy.total_time else None


def _broken_by(reading: Reading, outcome: Outcome[Reading]) -> CallError:
    """What broke a stream, with the tokens of what it had written."""
    error = outcome.error
    if not isinstance(error, CallError):
        error = CallError(Failure.SERVER_ERROR, f"The call broke off: {type(error).__name__}.")
    if outcome.text and not error.output_tokens:
        usage = usage_of(reading.request, outcome.text, reading.usage)
        error.input_tokens, error.output_tokens = usage.input_tokens, usage.output_tokens
        error.cached_tokens, error.is_estimated = usage.cached_tokens, usage.is_estimated
    return error


def _set_result(answer: "asyncio.Future[bool]", value: bool) -> None:
    if not answer.done():
        answer.set_result(value)
