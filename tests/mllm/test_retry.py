import asyncio
import random

import pytest

from mllm.adapters.scripted import ScriptedAdapter
from mllm.errors import CallError, Failure
from mllm.retry import NO_RETRY, RetryPolicy, complete
from tests.mllm.calls import make_request

POLICY = RetryPolicy(attempts=4, first_wait=1.0, longest_wait=3.0, total_time=100.0)


def busy(**changes):
    return CallError(Failure.RATE_LIMITED, "Busy.", **changes)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def run(script, policy=POLICY, seed=0):
    clock, adapter = Clock(), ScriptedAdapter(script)
    coroutine = complete(
        adapter,
        make_request(),
        policy=policy,
        sleep=clock.sleep,
        rng=random.Random(seed),
        clock=lambda: clock.now,
    )
    try:
        return asyncio.run(coroutine), clock.waits, adapter
    except CallError as error:
        return error, clock.waits, adapter


def test_the_reply_tells_how_many_attempts_it_took():
    reply, waits, adapter = run([busy(), busy(), "[1]"])
    assert (reply.text, reply.attempts, len(waits), len(adapter.requests)) == ("[1]", 3, 2, 3)
    assert run(["[1]"])[0].attempts == 1


def test_waits_are_uniform_below_a_limit_that_doubles():
    waits = [run([busy(), busy(), busy(), "[1]"], seed=seed)[1] for seed in range(300)]
    for k, limit in enumerate((1.0, 2.0, 3.0)):  # the third would be 4, above the longest wait
        drawn = [wait[k] for wait in waits]
        assert 0 <= min(drawn) < 0.1 * limit
        assert 0.9 * limit < max(drawn) <= limit
        assert abs(sum(drawn) / len(drawn) - limit / 2) < 0.1 * limit


def test_the_same_seed_waits_the_same():
    assert run([busy(), busy(), "x"], seed=5)[1] == run([busy(), busy(), "x"], seed=5)[1]


def test_the_providers_wish_is_honored():
    _, [wait], _ = run([busy(retry_after=7.0), "[1]"])
    assert 7.0 <= wait <= 8.0


def test_the_last_error_is_raised_after_all_attempts():
    error, waits, adapter = run([busy() for _ in range(9)])
    assert (error.failure, error.attempts) == (Failure.RATE_LIMITED, 4)
    assert (len(waits), len(adapter.requests)) == (3, 4)


def test_no_wait_is_begun_that_would_end_after_the_total_time():
    error, waits, _ = run([busy(retry_after=101.0), "[1]"])
    assert (error.attempts, waits) == (1, [])
    error, waits, _ = run([busy(retry_after=60.0), busy(retry_after=60.0), "[1]"])
    assert (error.attempts, len(waits)) == (2, 1)


@pytest.mark.parametrize(
    "failure",
    [
        Failure.AUTHENTICATION,
        Failure.MODEL_NOT_FOUND,
        Failure.REFUSED,
        Failure.BAD_REQUEST,
        Failure.TOO_LARGE,
    ],
)
def test_what_would_fail_again_is_not_asked_again(failure):
    error, waits, adapter = run([CallError(failure, "No."), "[1]"])
    assert (error.failure, waits, len(adapter.requests)) == (failure, [], 1)


def test_a_fatal_error_is_not_asked_again_whatever_its_name():
    error, _, adapter = run([busy(fatal=True), "[1]"])
    assert (error.fatal, len(adapter.requests)) == (True, 1)


def test_no_retry():
    error, waits, _ = run([busy(), "[1]"], policy=NO_RETRY)
    assert (error.attempts, waits) == (1, [])


def test_tokens_of_all_failed_attempts_are_added_up():
    error, _, _ = run([busy(input_tokens=10, output_tokens=2), busy(input_tokens=5), busy(), busy()])
    assert (error.input_tokens, error.output_tokens) == (15, 2)


def test_cancelling_passes_through_a_call_and_a_wait():
    async def cancel(adapter, sleep) -> None:
        task = asyncio.create_task(complete(adapter, make_request(), policy=POLICY, sleep=sleep))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def sleep_long(seconds: float) -> None:
        await asyncio.sleep(60)

    in_call = ScriptedAdapter(["[1]"], latency=60)
    asyncio.run(cancel(in_call, asyncio.sleep))
    assert in_call.cancelled == 1
    in_wait = ScriptedAdapter([busy(), "[1]"])
    asyncio.run(cancel(in_wait, sleep_long))
    assert len(in_wait.requests) == 1


def test_a_policy_needs_an_attempt():
    with pytest.raises(ValueError, match="at least one attempt"):
        run(["[1]"], policy=RetryPolicy(attempts=0))
