"""No more items are escalated than the budget has slots, whatever runs at once and whatever goes wrong."""

import ast
import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from route.escalation import Decision, End, MemoryBudget, deploy, route_stream

TRACE = "Step 1: look\nStep 2: doubt it\nStep 3: decide\nLabel: [1]"


class Stream:
    """A trace in pieces; `closed` once it was told to stop or has ended, `given` what was read of it."""

    def __init__(self, text=TRACE, *, size=3, dies_at=None, close_error=None, pause=0):
        self.pieces = [text[start : start + size] for start in range(0, len(text), size)]
        self.dies_at, self.close_error, self.pause = dies_at, close_error, pause
        self.given, self.closed = "", False

    async def __call__(self):
        try:
            for place, piece in enumerate(self.pieces):
                await asyncio.sleep(self.pause)
                if place == self.dies_at:
                    raise ConnectionError("The line went dead.")
                self.given += piece
                yield piece
        except GeneratorExit:
            if self.close_error is not None:
                raise self.close_error from None
            raise
        finally:
            self.closed = True


def judge_at(*steps, seen=None):
    """A router that escalates after these steps, and notes after which it was asked."""

    async def judge(item, read):
        await asyncio.sleep(0)
        if seen is not None:
            seen.append(len(read))
        return Decision(len(read) in steps, tokens=10)

    return judge


def routed(stream, judge, budget=None, **options):
    budget = budget or MemoryBudget(1)
    return asyncio.run(_routed(stream, judge, budget, options))


async def _routed(stream, judge, budget, options):
    return await route_stream("item", stream(), judge, budget, **options)


def test_an_escalation_stops_the_stream_once_the_next_marker_is_read():
    stream, budget = Stream(size=1), MemoryBudget(1)

    outcome = routed(stream, judge_at(2), budget)

    assert outcome.end is End.ESCALATED
    assert outcome.stopped_at == 2
    assert outcome.steps == ("look", "doubt it")
    assert outcome.text == stream.given == "Step 1: look\nStep 2: doubt it\nStep 3:"
    assert stream.closed
    assert budget.n_taken == 1
    assert outcome.router_tokens == 20


@pytest.mark.parametrize(("interval", "asked"), [(1, [1, 2, 3]), (2, [2, 3]), (4, [3])])
@pytest.mark.parametrize("trace", [TRACE, TRACE[: TRACE.index("Label")], TRACE[: TRACE.index("\nLabel")]])
def test_the_router_is_asked_after_every_so_many_steps_and_once_at_the_end(interval, asked, trace):
    seen: list[int] = []

    outcome = routed(Stream(trace), judge_at(seen=seen), interval=interval)

    assert seen == asked == [query.step for query in outcome.queries]
    assert (outcome.end, outcome.stopped_at, outcome.text) == (End.COMPLETED, 0, trace)
    assert outcome.steps == ("look", "doubt it", "decide")


def test_the_last_query_may_escalate():
    outcome = routed(Stream(), judge_at(3), interval=4)

    assert (outcome.end, outcome.stopped_at, outcome.text) == (End.ESCALATED, 3, TRACE)


@pytest.mark.parametrize("text", ["", "  \n", "Label: [0]"])
def test_an_empty_trace_is_completed_and_nobody_is_asked(text):
    seen: list[int] = []
    budget = MemoryBudget(1)

    outcome = routed(Stream(text), judge_at(0, 1, seen=seen), budget)

    assert (outcome.end, outcome.steps, outcome.text, seen) == (End.COMPLETED, (), text, [])
    assert budget.n_taken == 0


def test_a_stream_that_dies_keeps_what_was_read_and_takes_no_slot():
    budget = MemoryBudget(1)

    outcome = routed(Stream(size=8, dies_at=4), judge_at(), budget)

    assert outcome.end is End.BROKEN
    assert isinstance(outcome.error, ConnectionError)
    assert outcome.text == TRACE[:32]
    assert outcome.steps == ("look",)
    assert len(outcome.queries) == 1
    assert budget.n_taken == 0


def test_without_slots_the_router_is_not_asked_and_the_stream_goes_on():
    seen: list[int] = []

    outcome = routed(Stream(), judge_at(1, seen=seen), MemoryBudget(0))

    assert (outcome.end, outcome.text, seen, outcome.is_over_budget) == (End.COMPLETED, TRACE, [], False)


def test_a_slot_that_went_while_the_router_thought_is_no_slot():
    class Late(MemoryBudget):
        async def is_spent(self):
            return False

    seen: list[int] = []

    outcome = routed(Stream(), judge_at(1, 2, 3, seen=seen), Late(0))

    assert (outcome.end, outcome.text, seen) == (End.COMPLETED, TRACE, [1])
    assert outcome.is_over_budget


def test_a_stream_that_cannot_be_stopped_gives_its_slot_back():
    budget, error = MemoryBudget(1), OSError("The connection would not close.")

    outcome = routed(Stream(close_error=error), judge_at(2), budget)

    assert (outcome.end, outcome.error, outcome.stopped_at) == (End.BROKEN, error, 0)
    assert outcome.steps == ("look", "doubt it")
    assert budget.n_taken == 0


def test_a_router_that_fails_or_cannot_be_read_lets_the_stream_go_on():
    async def judge(item, steps):
        if len(steps) == 1:
            raise TimeoutError
        if len(steps) == 2:
            raise ValueError("Bad day.")
        return Decision(False, is_readable=False)

    outcome = routed(Stream(), judge)

    assert outcome.end is End.COMPLETED
    assert [query.error for query in outcome.queries] == ["TimeoutError", "Bad day.", ""]
    assert (outcome.n_failed, outcome.n_unreadable) == (2, 1)


@pytest.mark.parametrize("moment", ["reading", "judging", "taking", "closing"])
def test_a_cancellation_closes_the_stream_and_leaves_no_slot_taken(moment):
    waiting = asyncio.Event()

    async def wait_if(now):
        if now == moment:
            waiting.set()
            await asyncio.sleep(0.05)

    class Slow(MemoryBudget):
        async def take(self):
            taken = await super().take()
            await wait_if("taking")
            return taken

    closed = []

    async def stream():
        try:
            yield "Step 1: a\nStep 2:"
            await wait_if("reading")
            yield "b"
        except GeneratorExit:
            await wait_if("closing")
            raise
        finally:
            closed.append(True)

    async def judge(item, steps):
        await wait_if("judging")
        return Decision(moment != "reading")

    async def cancelled():
        budget = Slow(1)
        task = asyncio.create_task(route_stream("item", stream(), judge, budget))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return budget.n_taken

    assert asyncio.run(cancelled()) == 0
    assert closed == [True]


class SharedBudget(MemoryBudget):
    """A budget that others share, as a table would be: every answer takes a while."""

    def __init__(self, size):
        super().__init__(size)
        self.lock, self.most = asyncio.Lock(), 0

    async def take(self):
        async with self.lock:
            await asyncio.sleep(0)
            taken = await super().take()
            self.most = max(self.most, self.n_taken)
            return taken


@pytest.mark.parametrize("concurrency", [1, 16, 64])
@pytest.mark.parametrize("kind", [MemoryBudget, SharedBudget])
def test_escalations_never_exceed_the_budget(concurrency, kind):
    async def run():
        budget = kind(30)
        streams = {
            item: Stream(size=1 + item % 7, dies_at=5 if item % 10 == 0 else None) for item in range(100)
        }
        outcomes = await deploy(
            range(100),
            lambda item: streams[item](),
            judge_at(1, 2, 3),
            budget,
            concurrency=concurrency,
        )
        return budget, streams, outcomes

    budget, streams, outcomes = asyncio.run(run())

    assert [outcome.item for outcome in outcomes] == list(range(100))
    assert sum(outcome.end is End.ESCALATED for outcome in outcomes) == budget.n_taken == 30
    assert sum(outcome.end is End.BROKEN for outcome in outcomes) > 0
    assert all(stream.closed for stream in streams.values())
    assert all(
        (stream.given == TRACE) == (outcome.end is End.COMPLETED)
        for stream, outcome in zip(streams.values(), outcomes, strict=True)
    )


def test_one_after_the_other_the_first_ones_get_the_slots():
    async def run():
        return await deploy(range(5), lambda item: Stream()(), judge_at(1), MemoryBudget.of(0.5, 5))

    outcomes = asyncio.run(run())

    assert [outcome.stopped_at for outcome in outcomes] == [1, 1, 0, 0, 0]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 6),
    st.integers(1, 8),
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3), st.sampled_from(["", "dies", "stays"])), max_size=12
    ),
)
def test_slots_taken_are_exactly_the_escalations(size, concurrency, plans):
    async def judge(item, steps):
        await asyncio.sleep(0)
        return Decision(len(steps) == plans[item][0])

    def open_stream(item):
        _, pause, fate = plans[item]
        dies_at = 5 + pause if fate == "dies" else None
        error = OSError("no") if fate == "stays" else None
        return Stream(size=2 + pause, dies_at=dies_at, close_error=error)()

    async def run():
        budget = MemoryBudget(size)
        outcomes = await deploy(range(len(plans)), open_stream, judge, budget, concurrency=concurrency)
        return budget, outcomes

    budget, outcomes = asyncio.run(run())

    assert len(outcomes) == len(plans)
    assert sum(outcome.end is End.ESCALATED for outcome in outcomes) == budget.n_taken <= size


def test_outcomes_are_kept_as_they_come_and_a_failure_to_keep_gives_the_slot_back():
    kept = []

    async def keep(outcome):
        if outcome.item == 2:
            raise OSError("The disk is full.")
        kept.append(outcome.item)

    async def run():
        budget = MemoryBudget(5)
        with suppress(BaseExceptionGroup):
            await deploy(range(5), lambda item: Stream()(), judge_at(1), budget, keep=keep)
            raise AssertionError("The failure was swallowed.")
        return budget.n_taken

    assert asyncio.run(run()) == 2
    assert kept == [0, 1]


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="negative"):
        MemoryBudget(-1)
    with pytest.raises(ValueError, match="from 1"):
        routed(Stream(), judge_at(), interval=0)
    with pytest.raises(ValueError, match="At least one stream"):
        asyncio.run(deploy([], lambda item: Stream()(), judge_at(), MemoryBudget(1), concurrency=0))
    with pytest.raises(RuntimeError, match="nobody had taken"):
        asyncio.run(MemoryBudget(1).give_back())
    assert asyncio.run(deploy([], lambda item: Stream()(), judge_at(), MemoryBudget(1))) == []


def test_nothing_here_knows_django():
    source = (Path(__file__).parents[2] / "route/escalation.py").read_text()
    names = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert {name.split(".")[0] for name in names} == {
        "asyncio", "collections", "contextlib", "dataclasses", "enum", "route", "typing",
    }  # fmt: skip
