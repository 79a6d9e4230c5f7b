"""Whole jobs against providers, databases and clocks that fail: nothing that is answered is asked for again or lost,
and the job ends done, or paused with a named reason that says what to do.
"""

import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from aiohttp import web
from django.db import OperationalError
from django.db import connection as database
from django.utils import timezone

from jobs import running, work
from jobs.leases import Lease, LeaseLost, Progress, claim
from jobs.models import Chunk, Job
from jobs.running import run_next_chunk, run_to_end
from jobs.selectors import FAILURE_NAMES
from jobs.services import job_resume, sweep
from mllm import retry
from mllm.registry import ConnectionSettings
from mllm.retry import RetryPolicy
from tests.conftest import Provider
from tests.jobs.counting_work import CountingWork, make_counting_job, numbers_asked
from tests.mllm.calls import make_settings
from tests.mllm.wire import Answer, Wire, as_bytes, as_json, drip, flood, reset_mid_body

ITEMS = 60
# A provider that fails from the middle of the job on, or each item's first time.
HALF = 25
GOOD = as_json(
    {
        "model": "counter",
        "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
)


@pytest.fixture(autouse=True)
def _one_chunk(settings) -> None:
    """A streak of failures is judged within a chunk."""
    settings.WORKER_PROCESSES = 1


def error(code: str, message: str = "Something is wrong.") -> dict[str, object]:
    return {"error": {"message": message, "type": code, "code": code}}


class WiredWork(CountingWork):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def connection(self, job: Job) -> ConnectionSettings:
        return make_settings("openai", self.url, timeout=0.5, max_in_flight=job.in_flight)


class Moody:
    """Answers well or with a fault, as it is told, and counts its good answers by item."""

    def __init__(self, wire: Wire) -> None:
        self.good: Counter[int] = Counter()
        self.asked: Counter[int] = Counter()
        self.fault: Answer = GOOD
        self.is_faulty: Callable[[int], bool] = lambda number: False
        wire.answer(self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        found = re.findall(r"\d+", str(body["messages"][-1]["content"]))
        number = int(found[-1])
        self.asked[number] += 1
        if self.is_faulty(number):
            return await self.fault(request)
        self.good[number] += 1
        return await GOOD(request)


@pytest.fixture
def moody(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Moody:
    monkeypatch.setattr(retry, "DEFAULT_POLICY", RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.02))
    monkeypatch.setattr("mllm.transport.MAX_BODY", 1024 * 1024)
    monkeypatch.setitem(work._kinds, "counting", WiredWork(wire.url))
    return Moody(wire)


@pytest.fixture
def wired(moody: Moody) -> WiredWork:
    registered = work.work_of("counting")
    assert isinstance(registered, WiredWork)
    return registered


# What a provider does, and the name that the job's pause gets from it.
LASTING = {
    "429 storm": (as_json(error("rate_limit_exceeded"), 429), "rate_limited"),
    "429 storm with Retry-After": (
        as_json(error("rate_limit_exceeded"), 429, {"retry-after-ms": "20"}),
        "rate_limited",
    ),
    "500s": (as_bytes(b"<html>Internal error</html>", 500), "server_error"),
    "529s": (as_json(error("overloaded_error"), 529), "server_error"),
    "resets mid-body": (reset_mid_body, "server_error"),
    "endless stream": (flood, "server_error"),
    "invalid JSON": (as_bytes(b'{"choices": [', content_type="application/json"), "server_error"),
    "200 with an error body": (as_json(error("server_error", "The engine is overloaded.")), "server_error"),
    "wrong model name": (
        as_json(error("model_not_found", "The model does not exist."), 404),
        "model_not_found",
    ),
    "expired key": (as_json(error("invalid_api_key", "Your key has expired."), 401), "authentication"),
    "slow-loris": (drip, "timed_out"),
}
PASSING = [
    "429 storm",
    "429 storm with Retry-After",
    "500s",
    "529s",
    "resets mid-body",
    "200 with an error body",
]


@pytest.mark.django_db
@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_pauses_the_job_by_name_and_a_resume_asks_only_for_the_rest(
    name: str, moody: Moody, wired: WiredWork
):
    moody.fault, failure = LASTING[name]
    moody.is_faulty = lambda number: number > HALF
    job = make_counting_job(ITEMS, in_flight=4)
    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.failure) == (Job.State.PAUSED, failure)
    assert job.reason.endswith((".", "”"))
    assert FAILURE_NAMES[failure][1], "the page says what to do"
    assert sorted(wired.rows) == list(range(1, HALF + 1)), "what was answered is written, and no item failed"
    assert (job.done, job.failed) == (HALF, 0)
    assert not job.chunks.filter(state=Chunk.State.RUNNING).exists()

    moody.is_faulty = lambda number: False
    job_resume(job)
    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.done, job.failed, job.reason) == (Job.State.DONE, ITEMS, 0, "")
    assert set(moody.good.values()) == {1}, "an answer was asked for twice"


@pytest.mark.django_db
@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_outlasted(name: str, moody: Moody, wired: WiredWork):
    moody.fault, _ = LASTING[name]
    moody.is_faulty = lambda number: moody.asked[number] == 1
    job = make_counting_job(ITEMS, in_flight=4)

    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.done, job.failed) == (Job.State.DONE, ITEMS, 0)
    assert set(moody.good.values()) == {1}


@pytest.mark.django_db
def test_one_item_that_no_provider_survives_costs_that_item_only(moody: Moody, wired: WiredWork):
    moody.fault, _ = LASTING["invalid JSON"]
    moody.is_faulty = lambda number: number % 20 == 7
    job = make_counting_job(ITEMS, in_flight=4)

    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.done, job.failed) == (Job.State.DONE, ITEMS, 3)
    failed = {number: outcome.error for number, outcome in wired.rows.items() if outcome.error}
    assert set(failed) == {7, 27, 47}
    assert {str(each.failure) for each in failed.values()} == {"server_error"}


# --- The clock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Set the wall clock forward or back; the monotonic one goes on."""
    now = timezone.now

    def jump(by: timedelta) -> None:
        monkeypatch.setattr(timezone, "now", lambda: now() + by)

    return jump


@pytest.mark.django_db
@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_jumps_under_a_running_chunk_does_no_harm(
    by: timedelta, clock: Callable[[timedelta], None], counting: CountingWork, provider: Provider, wake_ups
):
    def script(request: object) -> str:
        if len(adapter.requests) == 100:
            clock(by)
        return "yes"

    adapter = provider(script)
    job = make_counting_job(300, in_flight=4)

    assert run_next_chunk(job.pk)

    job.refresh_from_db()
    assert (job.state, job.done) == (Job.State.DONE, 300)
    assert sorted(numbers_asked(adapter.requests)) == list(range(1, 301))


@pytest.mark.django_db
@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_chunk_of_a_dead_worker_is_taken_over_at_once_whatever_the_clock_did(
    by: timedelta, clock: Callable[[timedelta], None], counting: CountingWork, provider: Provider, wake_ups
):
    adapter = provider(lambda request: "yes")
    job = make_counting_job(20)
    assert claim(job.pk) is not None, "by a worker that dies"
    clock(by)

    assert sweep() == 1
    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.done, len(adapter.requests)) == (Job.State.DONE, 20, 20)


@pytest.mark.django_db
@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(hours=-1)])
def test_of_two_workers_that_a_jump_gave_one_chunk_only_one_writes(
    by: timedelta, clock: Callable[[timedelta], None], counting: CountingWork
):
    job = make_counting_job(20)
    first = claim(job.pk)
    clock(by)
    second = claim(job.pk)
    assert first is not None
    assert second is not None

    with pytest.raises(LeaseLost):
        first.write(lambda: Progress(done=1))
    second.write(lambda: Progress(done=1))

    job.refresh_from_db()
    assert job.done == 1


# --- The database ----------------------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "DATABASE_WAITS", (0.3,) * 20)


class Breaks:
    """Breaks the database off under the third write: PostgreSQL ends the connection, SQLite is locked by another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.seconds = seconds
        self.writes = 0
        self._write = Lease.write
        self._threads: list[threading.Thread] = []
        monkeypatch.setattr(Lease, "write", lambda lease, rows, **options: self.write(lease, rows, **options))

    def write(self, lease: Lease, rows: Callable[[], Progress], **options: object) -> None:
        self.writes += 1
        if self.writes == 3:
            self.break_off()
        self._write(lease, rows, **options)  # type: ignore[arg-type]

    def break_off(self) -> None:
        if database.vendor == "postgresql":
            _end_connection()
            return
        with database.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 50")
        locked = threading.Event()
        thread = threading.Thread(target=self._hold_lock, args=(locked,))
        thread.start()
        self._threads.append(thread)
        assert locked.wait(10)

    def _hold_lock(self, locked: threading.Event) -> None:
        other = sqlite3.connect(str(database.settings_dict["NAME"]), isolation_level=None, timeout=20)
        other.execute("BEGIN IMMEDIATE")
        locked.set()
        time.sleep(self.seconds)
        other.rollback()
        other.close()

    def end(self) -> None:
        for thread in self._threads:
            thread.join()


def _end_connection() -> None:
    import psycopg

    own = database.connection.info
    with psycopg.connect(own.dsn, password=own.password or None, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s)", [own.backend_pid])


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[Breaks]:
    found = Breaks(monkeypatch, seconds=0.8)
    yield found
    found.end()
    database.close()  # with its short patience


def test_a_database_that_breaks_off_in_the_middle_of_a_chunk_is_waited_for(
    breaks: Breaks, patient: None, counting: CountingWork, provider: Provider, settings
):
    settings.WRITE_BATCH = 50  # so that there are writes after the third, however fast the machine is
    adapter = provider(lambda request: "yes", latency=0.001)
    job = make_counting_job(400, in_flight=4)

    assert run_next_chunk(job.pk)

    assert breaks.writes > 3
    job.refresh_from_db()
    assert (job.state, job.done, job.failed) == (Job.State.DONE, 400, 0)
    assert sorted(numbers_asked(adapter.requests)) == list(range(1, 401)), "an answer was paid for twice"


def test_a_database_that_takes_nothing_for_too_long_pauses_the_job_by_name(
    transactional_db: None, counting: CountingWork, provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise OperationalError("database or disk is full")

    adapter = provider(lambda request: "yes")
    monkeypatch.setattr(running, "DATABASE_WAITS", (0.01, 0.01))
    monkeypatch.setattr(Lease, "write", full)
    job = make_counting_job(40, in_flight=4)

    assert run_next_chunk(job.pk)

    job.refresh_from_db()
    assert (job.state, job.failure, job.done) == (Job.State.PAUSED, "database", 0)
    assert "its disk has room, then resume" in job.reason
    asked = len(adapter.requests)
    monkeypatch.undo()
    monkeypatch.setitem(work._kinds, "counting", counting)
    adapter = provider(lambda request: "yes")
    job_resume(job)
    run_to_end(job.pk)
    job.refresh_from_db()
    assert (job.state, job.done) == (Job.State.DONE, 40)
    assert asked + len(adapter.requests) == 40, "an answer was paid for twice"


# --- The broker ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_broker_that_forgets_everything_in_the_middle_of_a_job_costs_a_sweep(
    counting: CountingWork, provider: Provider, wake_ups: list[int]
):
    adapter = provider(lambda request: "yes")
    job = make_counting_job(2500)
    run_next_chunk(job.pk)
    wake_ups.clear()  # flushed

    while sweep():
        for job_id in [*wake_ups]:
            wake_ups.clear()
            run_next_chunk(job_id)

    job.refresh_from_db()
    assert (job.state, job.done) == (Job.State.DONE, 2500)
    assert len(adapter.requests) == 2500
