"""Two transactions at once whose order is certain: one goes on when the other waits for a lock or has ended."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import pytest
from django.db import connection

Given = TypeVar("Given")

needs_row_locks = pytest.mark.skipif(
    not connection.features.has_select_for_update, reason="The database is locked as a whole."
)


class Meanwhile(Generic[Given]):
    """`act` in a thread with a connection of its own, from now on; by the time it is made, `act` waits or has ended."""

    def __init__(self, act: Callable[[], Given]) -> None:
        self._act = act
        self._given: list[Given] = []
        self._errors: list[Exception] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until = time.monotonic() + 20
        while self._thread.is_alive() and not _somebody_waits_for_us():
            assert time.monotonic() < until
            time.sleep(0.005)

    def _run(self) -> None:
        try:
            self._given.append(self._act())
        except Exception as error:
            self._errors.append(error)
        finally:
            connection.close()

    def end(self) -> Given:
        """What `act` returned, once it has. Raises what it raised."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        for error in self._errors:
            raise error
        return self._given[0]


def _somebody_waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return bool(cursor.fetchone()[0])
