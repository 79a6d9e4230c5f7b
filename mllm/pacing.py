"""How fast calls may start over one connection: calls in flight, calls and tokens a minute, giving way when asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from mllm.errors import CallError, Failure

# Errors that ask for fewer calls: the provider's limit, and a provider that is overloaded or breaking down.
_TOO_MANY = frozenset({Failure.RATE_LIMITED, Failure.SERVER_ERROR})
_ONE_STEP_SECONDS = 1.0


class Pace:
    """The gate before every call of this process over one connection. Belongs to one event loop.

    Where other processes use the connection too, `share` says which part of it is this one's. After an answer that says
    *too many* the calls in flight are halved, once a second at most, and none starts before the time that the provider
    names; each full round of successes lets one more in, up to the share.
    """

    def __init__(
        self,
        *,
        in_flight: int,
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Limits a minute of 0 mean none."""
        self._most = in_flight
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._sleep = sleep
        self._slots = in_flight
        self._part = 1.0
        self._ceiling = float(in_flight)
        self._under_way = 0
        self._next_start = 0.0
        self._not_before = 0.0
        self._slowed = float("-inf")
        self._turn = asyncio.Lock()  # first come, first served
        self._room = asyncio.Event()

    @property
    def limit(self) -> int:
        """Calls that may be in flight now; 0 where others have all of the connection."""
        return min(self._slots, max(1, int(self._ceiling)))

    def share(self, place: int, users: int) -> None:
        """This process is number `place` (from 0) of `users` on the connection."""
        self._slots = self._most // users + (place < self._most % users)
        self._part = 1.0 / users
        self._room.set()

    async def enter(self, tokens: int) -> None:
        """Wait for room, and for the minute's limits to allow a call of so many tokens. `leave` gives the room back."""
        async with self._turn:
            while True:
                while self._under_way >= self.limit:
                    self._room.clear()
                    await self._room.wait()
                wait = max(self._next_start, self._not_before) - self._clock()
                if wait <= 0:
                    break
                await self._sleep(wait)
            self._under_way += 1
            self._next_start = max(self._next_start, self._clock()) + self._spacing(tokens)

    def leave(self, *, reserved: int, used: int) -> None:
        """The call has ended; of the tokens reserved for it, those not used are given back."""
        self._under_way -= 1
        if self._tokens_per_minute and used < reserved:
            self._next_start -= self._token_time(reserved - used)
        self._room.set()

    def heard(self, error: CallError | None) -> None:
        """What an attempt came to: None for an answer."""
        if error is None:
            self._ceiling = min(float(self._most), self._ceiling + 1.0 / max(1.0, self._ceiling))
            return
        if error.failure not in _TOO_MANY or error.fatal:
            return
        now = self._clock()
        self._not_before = max(self._not_before, now + (error.retry_after or 0.0))
        if (
            now - self._slowed >= _ONE_STEP_SECONDS
        ):  # the calls that were in flight together are one complaint
            self._slowed = now
            self._ceiling = max(1.0, min(self._ceiling, float(self._under_way)) / 2)

    def _spacing(self, tokens: int) -> float:
        seconds = 60.0 / (self._requests_per_minute * self._part) if self._requests_per_minute else 0.0
        return max(seconds, self._token_time(tokens))

    def _token_time(self, tokens: int) -> float:
        return 60.0 * tokens / (self._tokens_per_minute * self._part) if self._tokens_per_minute else 0.0
