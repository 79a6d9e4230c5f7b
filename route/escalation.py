"""Stop the streams of a run whose items go to people, within the budget (algorithms 1 and 2), many streams at once.

A stream is read step by step; after every Δ-th step, and at the end, the router is asked about the steps so far.
Where it says to escalate, a slot of the budget is taken, and only then is the stream stopped. Where no slot is left the
stream goes on to its end and the router is not asked any more. So no more than B items are ever escalated, whatever
runs at the same time.

Nothing here knows a provider or a database: streams are asynchronous generators of text, and a budget that several
processes share takes its slots where they share them.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from route.replay import escalation_budget, is_polled
from route.trace import StepParser

Item = TypeVar("Item")
JudgedItem = TypeVar("JudgedItem", contravariant=True)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the router said about the steps so far.

    `risk` is the level that it stated, "" for none. `is_readable` is False where its answer could not be read; it then
    counts as "continue". `tokens` of the call, prompt and answer together.
    """

    escalates: bool
    risk: str = ""
    is_readable: bool = True
    tokens: int = 0


class Judge(Protocol[JudgedItem]):
    """The router: what it says about an item after these steps. What it raises is kept and counts as "continue"."""

    async def __call__(self, item: JudgedItem, steps: Sequence[str]) -> Decision: ...


class Budget(Protocol):
    """The slots for escalations that all streams share. Taking must be atomic among everybody who shares them."""

    async def take(self) -> bool:
        """Take a slot; False when none is left."""
        ...

    async def give_back(self) -> None:
        """Give back a slot that was taken: the item was not escalated after all."""
        ...

    async def is_spent(self) -> bool:
        """Whether no slot is left, so that the router need not be asked. It may be out of date when it is read."""
        ...


class MemoryBudget:
    """The budget of the streams of one process. `n_taken` slots of `size` are taken."""

    def __init__(self, size: int) -> None:
        """Raises ValueError for a negative size."""
        if size < 0:
            raise ValueError("A budget cannot be negative.")
        self.size = size
        self.n_taken = 0

    @classmethod
    def of(cls, limit: float, n_items: int) -> "MemoryBudget":
        """B = ⌊ρ·n⌋ slots. Raises ValueError unless ρ is in [0, 1] and n ≥ 0."""
        return cls(escalation_budget(limit, n_items))

    async def take(self) -> bool:
        # Nothing is awaited between the look and the taking, so no other stream comes between.
        if self.n_taken >= self.size:
            return False
        self.n_taken += 1
        return True

    async def give_back(self) -> None:
        """Raises RuntimeError when no slot is taken."""
        if self.n_taken == 0:
            raise RuntimeError("A slot was given back that nobody had taken.")
        self.n_taken -= 1

    async def is_spent(self) -> bool:
        return self.n_taken >= self.size


class End(StrEnum):
    """How the reading of a stream ended."""

    COMPLETED = "completed"  # the annotator wrote to its end
    ESCALATED = "escalated"  # stopped; a person labels the item, and a slot of the budget is taken
    BROKEN = "broken"  # the stream raised, or could not be stopped: ask again; no slot is taken


@dataclass(frozen=True, slots=True)
class Query:
    """One time that the router was asked: after which step (from 1), and its decision or what went wrong."""

    step: int
    decision: Decision | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item]):
    """What became of one stream.

    `text` is all that was read, `steps` the complete ones; the step that a broken stream was in is in `text` only.
    `stopped_at` is τ, 0 where the item was not escalated. `is_over_budget`: the router said to escalate, and no slot
    was left. `error` is what broke it.
    """

    item: Item
    end: End
    text: str
    steps: tuple[str, ...]
    stopped_at: int = 0
    queries: tuple[Query, ...] = ()
    is_over_budget: bool = False
    error: Exception | None = None

    @property
    def router_tokens(self) -> int:
        """Tokens of all answers of the router."""
        return sum(query.decision.tokens for query in self.queries if query.decision is not None)

    @property
    def n_unreadable(self) -> int:
        """How many of the router's answers could not be read."""
        return sum(query.decision is not None and not query.decision.is_readable for query in self.queries)

    @property
    def n_failed(self) -> int:
        """How many times the router gave no answer."""
        return sum(query.decision is None for query in self.queries)


async def route_stream(
    item: Item,
    stream: AsyncGenerator[str, None],
    judge: Judge[Item],
    budget: Budget,
    *,
    interval: int = 1,
) -> Outcome[Item]:
    """Read one stream, asking the judge after every `interval`-th step and at the end; stop it where it says so.

    The stream is closed in any case before this returns, which ends the call behind it. A stream without steps is read
    to its end and never escalated. Where the stream raises, the outcome is broken and has all that was read; so it is
    where closing it raises after a slot was taken, and the slot is given back. Whatever the judge raises is kept with
    the query, and the stream goes on. A cancellation closes the stream, gives back a slot and is passed on. While the
    judge is asked, the stream waits. Raises ValueError for an interval below 1, and whatever the budget raises.
    """
    if interval < 1:
        raise ValueError("The polling interval counts steps, from 1.")
    reading = _Reading(item, stream, judge, budget, interval)
    try:
        return await reading.outcome()
    finally:
        await _closed(stream)


async def deploy(
    items: Sequence[Item],
    open_stream: Callable[[Item], AsyncGenerator[str, None]],
    judge: Judge[Item],
    budget: Budget,
    *,
    interval: int = 1,
    concurrency: int = 1,
    keep: Callable[[Outcome[Item]], Awaitable[None]] | None = None,
) -> list[Outcome[Item]]:
    """Algorithm 1: route the items in the order given (by falling p̂), `concurrency` streams at a time.

    The outcomes in the order of the items. `keep` is awaited with each as soon as there is one, so that nothing is lost
    by what happens later; where it raises, an escalation's slot is given back, the other streams are closed, and what
    it raised is raised as an exception group. Raises ValueError for a concurrency or interval below 1.
    """
    if concurrency < 1:
        raise ValueError("At least one stream has to run at a time.")
    if interval < 1:
        raise ValueError("The polling interval counts steps, from 1.")
    outcomes: list[Outcome[Item] | None] = [None] * len(items)
    waiting = iter(enumerate(items))

    async def read_streams(waiting: Iterator[tuple[int, Item]]) -> None:
        for place, item in waiting:
            outcome = await route_stream(item, open_stream(item), judge, budget, interval=interval)
            if keep is not None:
                await _kept(outcome, keep, budget)
            outcomes[place] = outcome

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(items))):
            group.create_task(read_streams(waiting))
    return [outcome for outcome in outcomes if outcome is not None]


class _Reading(Generic[Item]):
    """One stream while it is read."""

    def __init__(
        self,
        item: Item,
        stream: AsyncGenerator[str, None],
        judge: Judge[Item],
        budget: Budget,
        interval: int,
    ) -> None:
        self._item, self._stream, self._judge = item, stream, judge
        self._budget, self._interval = budget, interval
        self._parser = StepParser()
        self._texts: list[str] = []
        self._steps: list[str] = []
        self._queries: list[Query] = []
        self._is_over_budget = False

    async def outcome(self) -> Outcome[Item]:
        while True:
            try:
                text = await anext(self._stream)
            except StopAsyncIteration:
                break
            except Exception as error:
                return self._ended(End.BROKEN, error=error)
            self._texts.append(text)
            if ended := await self._after(self._parser.feed(text), is_end=False):
                return ended
        return await self._after(self._parser.close(), is_end=True) or self._ended(End.COMPLETED)

    async def _after(self, completed: list[str], *, is_end: bool) -> Outcome[Item] | None:
        """Ask about the steps that were completed; the outcome where they end the reading."""
        for place, step in enumerate(completed, start=1):
            self._steps.append(step)
            is_last = is_end and place == len(completed)
            is_due = is_polled(len(self._steps), self._interval, is_last=is_last)
            if is_due and (ended := await self._asked()):
                return ended
        # The last step may have been completed by the label after it, when it was not known to be the last.
        was_asked = bool(self._queries) and self._queries[-1].step == len(self._steps)
        if is_end and not completed and self._steps and not was_asked:
            return await self._asked()
        return None

    async def _asked(self) -> Outcome[Item] | None:
        if self._is_over_budget or await self._budget.is_spent():
            return None
        step = len(self._steps)
        try:
            decision = await self._judge(self._item, tuple(self._steps))
        except Exception as error:
            self._queries.append(Query(step, None, str(error) or type(error).__name__))
            return None
        self._queries.append(Query(step, decision))
        if not decision.escalates:
            return None
        if not await _taken(self._budget):
            self._is_over_budget = True
            return None
        return await self._stopped(step)

    async def _stopped(self, step: int) -> Outcome[Item]:
        """Stop the stream; a slot is taken for it."""
        try:
            await self._stream.aclose()
        except Exception as error:
            await _to_the_end(self._budget.give_back())
            return self._ended(End.BROKEN, error=error)
        except BaseException:  # cancelled while the stream was being closed
            await _to_the_end(self._budget.give_back())
            raise
        return self._ended(End.ESCALATED, stopped_at=step)

    def _ended(self, end: End, *, stopped_at: int = 0, error: Exception | None = None) -> Outcome[Item]:
        return Outcome(
            item=self._item,
            end=end,
            text="".join(self._texts),
            steps=tuple(self._steps),
            stopped_at=stopped_at,
            queries=tuple(self._queries),
            is_over_budget=self._is_over_budget,
            error=error,
        )


async def _taken(budget: Budget) -> bool:
    """Take a slot; a cancellation that comes meanwhile gives it back."""
    is_taken = False

    async def take() -> None:
        nonlocal is_taken
        is_taken = await budget.take()

    try:
        await _to_the_end(take())
    except asyncio.CancelledError:
        if is_taken:
            await _to_the_end(budget.give_back())
        raise
    return is_taken


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for what must not be left half-done; a cancellation that comes meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
    task.result()


async def _closed(stream: AsyncGenerator[str, None]) -> None:
    """Close a stream whose outcome is known: that it could not be closed changes nothing about it."""
    with contextlib.suppress(Exception):
        await stream.aclose()


async def _kept(
    outcome: Outcome[Item], keep: Callable[[Outcome[Item]], Awaitable[None]], budget: Budget
) -> None:
    try:
        await keep(outcome)
    except BaseException:
        if outcome.end is End.ESCALATED:
            await _to_the_end(budget.give_back())
        raise
