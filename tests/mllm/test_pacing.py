import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mllm.errors import CallError, Failure
from mllm.pacing import Pace


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_pace(clock: Clock, in_flight: int = 4, **limits: int) -> Pace:
    return Pace(in_flight=in_flight, clock=clock, sleep=clock.sleep, **limits)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, timeout=5))


def too_many(retry_after: float | None = None) -> CallError:
    return CallError(Failure.RATE_LIMITED, "Too many.", retry_after=retry_after)


async def entered(pace: Pace, calls: int, tokens: int = 10) -> list[asyncio.Task[None]]:
    """So many calls at the gate, after each had time to pass it."""
    tasks = [asyncio.create_task(pace.enter(tokens)) for _ in range(calls)]
    for _ in range(20 * calls):
        await asyncio.sleep(0)
    return tasks


def passed(tasks: list[asyncio.Task[None]]) -> list[bool]:
    return [task.done() for task in tasks]


def test_no_more_calls_than_may_be_in_flight_pass_and_the_first_comes_first(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock, in_flight=2)
        tasks = await entered(pace, 4)
        assert passed(tasks) == [True, True, False, False]
        pace.leave(reserved=10, used=10)
        for _ in range(20):
            await asyncio.sleep(0)
        assert passed(tasks) == [True, True, True, False]
        tasks[3].cancel()

    run(scenario())


@pytest.mark.parametrize(("in_flight", "users"), [(8, 1), (8, 3), (2, 3), (1, 4)])
def test_the_shares_of_all_users_are_the_connections_calls(clock: Clock, in_flight: int, users: int):
    limits = []
    for place in range(users):
        pace = make_pace(clock, in_flight=in_flight)
        pace.share(place, users)
        limits.append(pace.limit)

    assert sum(limits) == in_flight
    assert max(limits) - min(limits) <= 1


def test_who_had_no_share_goes_on_when_it_gets_one(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock, in_flight=1)
        pace.share(1, 2)
        tasks = await entered(pace, 1)
        assert passed(tasks) == [False]
        pace.share(0, 1)
        await tasks[0]

    run(scenario())


def test_calls_are_spread_over_the_minute(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock, in_flight=500, requests_per_minute=60)
        starts = []
        for _ in range(10):
            await pace.enter(10)
            starts.append(clock.now - 1000)
        assert starts == pytest.approx(list(range(10)))

    run(scenario())


def test_half_a_connection_has_half_of_its_minute(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock, in_flight=500, requests_per_minute=60)
        pace.share(0, 2)
        for _ in range(6):
            await pace.enter(10)
        assert clock.now - 1000 == pytest.approx(10)

    run(scenario())


def test_tokens_a_minute_hold_with_what_was_not_used_given_back(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock, in_flight=500, tokens_per_minute=6000)
        await pace.enter(1000)  # 10 seconds' worth
        pace.leave(reserved=1000, used=400)
        await pace.enter(1000)
        assert clock.now - 1000 == pytest.approx(4)
        pace.leave(reserved=1000, used=1000)
        await pace.enter(1000)
        assert clock.now - 1000 == pytest.approx(14)

    run(scenario())


def test_no_call_starts_before_the_time_that_the_provider_names(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock)
        await pace.enter(10)
        pace.heard(too_many(retry_after=7))
        pace.leave(reserved=10, used=10)
        await pace.enter(10)
        assert clock.now - 1000 == pytest.approx(7)

    run(scenario())


def test_complaints_of_one_moment_halve_the_calls_once_and_answers_bring_them_back(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock, in_flight=16)
        await entered(pace, 16)
        for _ in range(16):
            pace.heard(too_many())
        assert pace.limit == 8
        clock.now += 2
        pace.heard(too_many())
        assert pace.limit == 4
        for _ in range(4):
            pace.heard(None)
        assert pace.limit == 4
        pace.heard(None)
        assert pace.limit == 5
        for _ in range(500):
            pace.heard(None)
        assert pace.limit == 16

    run(scenario())


def test_it_never_gives_way_to_nothing(clock: Clock):
    pace = make_pace(clock, in_flight=2)
    for _ in range(10):
        clock.now += 2
        pace.heard(too_many())

    assert pace.limit == 1


@pytest.mark.parametrize("failure", [Failure.TIMED_OUT, Failure.REFUSED, Failure.BAD_REQUEST])
def test_other_failures_do_not_slow_it_down(clock: Clock, failure: Failure):
    pace = make_pace(clock)

    pace.heard(CallError(failure, "No.", retry_after=5))

    assert pace.limit == 4


def test_a_call_that_is_given_up_at_the_gate_leaves_room_for_the_next(clock: Clock):
    async def scenario() -> None:
        pace = make_pace(clock, in_flight=1)
        tasks = await entered(pace, 3)
        tasks[1].cancel()
        pace.leave(reserved=10, used=10)
        await tasks[2]

    run(scenario())
