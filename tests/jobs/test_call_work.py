import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from jobs import call_work, calling, shutdown, work
from jobs.leases import Lease, LeaseLost, chunks_on_connection, claim
from jobs.models import Chunk, Job
from jobs.running import run_next_chunk, run_to_end
from jobs.services import job_cancel, job_pause, job_resume
from jobs.work import work_of
from mllm.addresses import AddressError
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import Price
from tests.conftest import Provider
from tests.jobs.counting_work import CountingWork, make_counting_job, numbers_asked

pytestmark = pytest.mark.django_db

# An answer of 10 tokens, the most that may be given, costs a cent.
DEAR = Price(input=Decimal(0), output=Decimal(1000))
CENT = Decimal("0.01")

AtEachLook = Callable[[Callable[[Lease], object]], None]


@pytest.fixture
def priced(monkeypatch) -> CountingWork:
    registered = CountingWork(DEAR)
    monkeypatch.setitem(work._kinds, "counting", registered)
    return registered


@pytest.fixture
def at_each_look(monkeypatch) -> AtEachLook:
    """Do something each time that a chunk is about to look whether it may go on, which it then does very often."""

    def install(act: Callable[[Lease], object]) -> None:
        may_go_on = Lease.may_go_on

        def act_and_look(lease: Lease) -> bool:
            act(lease)
            return may_go_on(lease)

        monkeypatch.setattr(Lease, "may_go_on", act_and_look)
        monkeypatch.setattr(call_work, "WRITE_EVERY_SECONDS", 0.001)

    return install


@pytest.fixture
def short_turns(monkeypatch) -> None:
    for name in ("TURN_SECONDS", "TURN_LOOKED_EVERY_SECONDS"):
        monkeypatch.setattr(call_work, name, 0.0)
    monkeypatch.setattr(call_work, "WRITE_EVERY_SECONDS", 0.001)


def number_of(request: Request) -> int:
    return numbers_asked([request])[0]


def reply_of(output_tokens: int) -> Reply:
    return Reply(
        text="yes",
        reasoning="",
        model="counter",
        finish_reason="stop",
        input_tokens=3,
        output_tokens=output_tokens,
        cached_tokens=0,
        logprobs=(),
        latency=0.0,
    )


@pytest.mark.parametrize("in_flight", [1, 3, 64])
def test_every_subject_is_asked_once_and_written_once(in_flight, counting: CountingWork, provider: Provider):
    adapter = provider(lambda request: "yes")
    job = make_counting_job(230, in_flight=in_flight)

    run_to_end(job.pk)

    job.refresh_from_db()
    assert sorted(numbers_asked(adapter.requests)) == sorted(counting.rows) == list(range(1, 231))
    assert (job.state, job.done, job.failed, job.total) == ("done", 230, 0, 230)
    assert counting.finished_jobs == [job.pk]
    assert not job.chunks.exclude(state=Chunk.State.DONE).exists()


def test_as_many_calls_are_in_flight_as_the_job_may_have(
    counting: CountingWork, provider: Provider, monkeypatch
):
    adapter = provider(lambda request: "yes", latency=0.01)
    wait = adapter._wait
    in_flight: list[int] = [0]

    async def counted(seconds: float) -> None:
        in_flight.append(in_flight[-1] + 1)
        await wait(seconds)
        in_flight.append(in_flight[-1] - 1)

    monkeypatch.setattr(adapter, "_wait", counted)

    run_to_end(make_counting_job(120, in_flight=6).pk)

    assert max(in_flight) == 6


def test_what_cannot_be_asked_is_a_failure_without_a_call(
    counting: CountingWork, provider: Provider, monkeypatch
):
    adapter = provider(lambda request: "yes")
    unreadable = CallError(Failure.BAD_REQUEST, "The item's image cannot be read.")
    monkeypatch.setattr(
        counting, "requests", lambda job, subjects: ((subject, unreadable) for subject in subjects)
    )
    job = make_counting_job(120)

    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.done, job.failed, adapter.requests) == ("done", 120, 120, [])


class TestStopping:
    @pytest.mark.parametrize("stop", [job_pause, job_cancel])
    def test_no_call_is_started_after_a_stop_and_those_in_flight_are_written(
        self, stop, counting: CountingWork, provider: Provider, at_each_look: AtEachLook
    ):
        def stop_at_20(lease: Lease) -> None:
            if len(counting.rows) >= 20 and lease.job.is_active:
                stop(lease.job)

        adapter = provider(lambda request: "yes", latency=0.002)
        at_each_look(stop_at_20)
        job = make_counting_job(400, in_flight=4)

        run_to_end(job.pk)

        job.refresh_from_db()
        asked = numbers_asked(adapter.requests)
        assert job.state in ("paused", "cancelled")
        assert 20 <= len(asked) < 100
        assert sorted(asked) == sorted(counting.rows)
        assert job.done == len(asked)
        assert not job.chunks.filter(state=Chunk.State.RUNNING).exists()

    def test_a_resumed_job_asks_only_what_is_left(
        self, counting: CountingWork, provider: Provider, at_each_look: AtEachLook
    ):
        def pause_often(lease: Lease) -> None:
            if 20 <= len(counting.rows) < 100:
                job_pause(lease.job)

        adapter = provider(lambda request: "yes", latency=0.001)
        at_each_look(pause_often)
        job = make_counting_job(300, in_flight=4)
        run_to_end(job.pk)
        job.refresh_from_db()
        assert job.state == "paused"

        while job.state == "paused":
            job_resume(job)
            run_to_end(job.pk)
            job.refresh_from_db()

        assert (job.state, job.done) == ("done", 300)
        assert sorted(numbers_asked(adapter.requests)) == list(range(1, 301))

    def test_a_worker_that_is_told_to_stop_hands_the_chunk_back(
        self, counting: CountingWork, provider: Provider, at_each_look: AtEachLook, monkeypatch
    ):
        adapter = provider(lambda request: "yes", latency=0.002)
        at_each_look(lambda lease: None)
        monkeypatch.setattr(shutdown, "requested", lambda: len(counting.rows) >= 20)
        job = make_counting_job(400, in_flight=4)
        lease = claim(job.pk)
        assert lease is not None

        assert counting.run(lease) is False

        assert sorted(numbers_asked(adapter.requests)) == sorted(counting.rows)
        assert 20 <= len(counting.rows) < 100

    def test_a_chunk_gives_way_to_a_job_that_no_process_works_on(
        self, counting: CountingWork, provider: Provider, short_turns: None
    ):
        adapter = provider(lambda request: "yes", latency=0.002)
        slow, waiting = make_counting_job(400, in_flight=1), make_counting_job(8)

        assert run_next_chunk(slow.pk)

        [chunk] = slow.chunks.all()
        slow.refresh_from_db()
        assert (slow.state, chunk.state, chunk.lease_token) == ("running", "waiting", None)
        assert 0 < slow.done < 400
        # Or messages that are left over would begin it again at once.
        assert chunk.not_before is not None
        assert chunk.not_before > timezone.now()
        assert run_next_chunk(waiting.pk)
        assert not run_next_chunk(slow.pk)
        Chunk.objects.filter(pk=chunk.pk).update(not_before=timezone.now())
        assert run_next_chunk(slow.pk)
        slow.refresh_from_db()
        assert slow.state == "done"
        assert sorted(numbers_asked(adapter.requests)) == list(range(1, 401))

    @pytest.mark.parametrize("state", ["at work", "paused", "its turn is later"])
    def test_a_chunk_keeps_its_process_while_no_job_waits_for_one(
        self, counting: CountingWork, provider: Provider, short_turns: None, state: str
    ):
        provider(lambda request: "yes", latency=0.002)
        job, other = make_counting_job(100, in_flight=1), make_counting_job(8)
        if state == "at work":
            assert claim(other.pk) is not None
        elif state == "paused":
            Job.objects.filter(pk=other.pk).update(state=Job.State.PAUSED)
        else:
            other.chunks.update(not_before=timezone.now() + timedelta(hours=1))

        assert run_next_chunk(job.pk)

        job.refresh_from_db()
        assert (job.state, job.done) == ("done", 100)

    def test_the_signal_of_a_worker_going_down_sets_the_flag(self):
        from celery.signals import worker_shutting_down

        assert not shutdown.requested()
        try:
            worker_shutting_down.send(sender="worker", sig="SIGTERM", how="Warm", exitcode=0)
            assert shutdown.requested()
        finally:
            shutdown._requested.value = 0

    def test_a_lost_lease_drops_the_calls_that_wait_for_room(
        self, counting: CountingWork, provider: Provider, at_each_look: AtEachLook
    ):
        def take_over(lease: Lease) -> None:
            if counting.rows:
                Chunk.objects.update(lease_until=timezone.now())
                assert claim(lease.job.pk) is not None

        adapter = provider(lambda request: "yes", latency=0.05)
        at_each_look(take_over)
        job = make_counting_job(400, in_flight=4)
        lease = claim(job.pk)
        assert lease is not None

        with pytest.raises(LeaseLost):
            counting.run(lease)
        asked_then = len(adapter.requests)
        # The loop is given the time in which it would start the calls that waited.
        _wait_on_the_loop(0.15)

        assert len(adapter.requests) <= asked_then + 4
        assert Job.objects.get().done == len(counting.rows) < len(adapter.requests)


def _wait_on_the_loop(seconds: float) -> None:
    import asyncio

    from jobs.calling import loop_thread

    loop_thread().run(asyncio.sleep(seconds))


class TestFatalErrors:
    @pytest.mark.parametrize("failure", [Failure.AUTHENTICATION, Failure.MODEL_NOT_FOUND])
    def test_the_job_pauses_with_the_name_and_the_sentence(
        self, failure, counting: CountingWork, provider: Provider
    ):
        provider(lambda request: CallError(failure, "The provider does not accept it."))
        job = make_counting_job(100)

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.failure, job.reason) == ("paused", failure, "The provider does not accept it.")
        assert counting.rows == {}
        assert (job.done, job.failed) == (0, 0)

    def test_after_mending_the_cause_the_rest_is_answered(self, counting: CountingWork, provider: Provider):
        wrong_key = CallError(Failure.AUTHENTICATION, "The key was not accepted.")
        provider(lambda request: wrong_key if number_of(request) > 30 else "yes", latency=0.001)
        job = make_counting_job(100, in_flight=2)
        run_to_end(job.pk)
        before = sorted(counting.rows)
        assert before == list(range(1, 31))
        adapter = provider(lambda request: "yes")

        job.refresh_from_db()
        job_resume(job)
        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.done, job.failed, job.reason) == ("done", 100, 0, "")
        assert sorted(numbers_asked(adapter.requests)) == list(range(31, 101))

    def test_an_address_that_is_no_longer_allowed_pauses_with_its_sentence(
        self, counting: CountingWork, provider: Provider, monkeypatch
    ):
        def refuse(connection: object) -> None:
            raise AddressError("models.example is in a private network.")

        provider(lambda request: "yes")
        monkeypatch.setattr("mllm.registry.build", refuse)
        job = make_counting_job(5)

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.failure) == ("paused", "unreachable")
        assert job.reason == "models.example is in a private network."
        assert job.done == 0


class TestOutages:
    @pytest.mark.parametrize("in_flight", [1, 2, 4, 8, 64])
    @pytest.mark.parametrize("failure", sorted(call_work.OUTAGES))
    def test_a_streak_pauses_the_job_and_fails_no_item(
        self, failure, in_flight, counting: CountingWork, provider: Provider
    ):
        provider(lambda request: CallError(failure, "The provider is gone."))
        job = make_counting_job(200, in_flight=in_flight)

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.failure) == ("paused", failure)
        assert job.reason == "10 calls in a row failed. The last one said: The provider is gone."
        assert (counting.rows, job.done, job.failed) == ({}, 0, 0)

    def test_what_an_outage_cut_off_is_asked_again_after_a_resume(
        self, counting: CountingWork, provider: Provider
    ):
        gone = CallError(Failure.UNREACHABLE, "The provider is gone.")
        provider(lambda request: gone if number_of(request) > 50 else "yes")
        job = make_counting_job(200, in_flight=2)
        run_to_end(job.pk)
        assert sorted(counting.rows) == list(range(1, 51))
        adapter = provider(lambda request: "yes")

        job.refresh_from_db()
        job_resume(job)
        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.done, job.failed) == ("done", 200, 0)
        assert sorted(numbers_asked(adapter.requests)) == list(range(51, 201))

    @pytest.mark.parametrize("in_flight", [1, 8])
    def test_a_few_failures_among_answers_are_results(
        self, in_flight, counting: CountingWork, provider: Provider
    ):
        busy = CallError(Failure.RATE_LIMITED, "Too many calls.")
        provider(lambda request: busy if number_of(request) % 3 == 0 else "yes")
        job = make_counting_job(100, in_flight=in_flight)

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.done, job.failed) == ("done", 100, 33)
        failed = {subject for subject, outcome in counting.rows.items() if outcome.error}
        assert failed == set(range(3, 100, 3))

    def test_a_short_streak_at_the_end_is_written(self, counting: CountingWork, provider: Provider):
        busy = CallError(Failure.TIMED_OUT, "No answer in time.")
        provider(lambda request: busy if number_of(request) > 95 else "yes")
        job = make_counting_job(100, in_flight=1)

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.done, job.failed) == ("done", 100, 5)

    def test_failures_of_items_are_no_outage(self, counting: CountingWork, provider: Provider):
        provider(lambda request: CallError(Failure.REFUSED, "The model refused to answer."))
        job = make_counting_job(40)

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.done, job.failed) == ("done", 40, 40)

    def test_an_unforeseen_error_in_an_adapter_names_its_kind_only(
        self, counting: CountingWork, provider: Provider
    ):
        def broken(request: Request) -> str:
            raise KeyError("sk-secret")

        provider(broken)
        job = make_counting_job(3)

        run_to_end(job.pk)

        messages = {str(outcome.error) for outcome in counting.rows.values()}
        assert messages == {"The call broke off: KeyError."}


class TestSpendLimit:
    @pytest.mark.parametrize("in_flight", [1, 8, 64])
    @pytest.mark.parametrize("limit", ["0.005", "0.01", "0.105", "0.5"])
    def test_it_is_never_exceeded_and_used_as_far_as_calls_fit(
        self, limit, in_flight, priced: CountingWork, provider: Provider
    ):
        adapter = provider(lambda request: reply_of(10))
        job = make_counting_job(200, in_flight=in_flight, spend_limit=Decimal(limit))

        run_to_end(job.pk)

        job.refresh_from_db()
        calls = int(Decimal(limit) / CENT)
        assert len(adapter.requests) == len(priced.rows) == job.done == calls
        assert job.cost == calls * CENT <= Decimal(limit)
        assert (job.state, job.failure) == ("paused", "spend_limit")
        assert job.reason.startswith(f"The spend limit of US$ {limit:0<6} is reached")

    @pytest.mark.parametrize("seed", range(5))
    def test_it_holds_when_answers_turn_out_longer_than_those_before(
        self, seed, priced: CountingWork, provider: Provider
    ):
        # Cheap at first, so that the mean says nothing about what comes.
        provider(lambda request: reply_of(1 if number_of(request) <= 60 + seed else 10))
        job = make_counting_job(
            400, in_flight=16, spend_limit=Decimal("0.2"), expected_call_cost=Decimal("0.001")
        )

        run_to_end(job.pk)

        job.refresh_from_db()
        assert job.failure == "spend_limit"
        assert Decimal("0.19") <= job.cost <= Decimal("0.2")
        assert sum((outcome.reply.output_tokens for outcome in priced.rows.values() if outcome.reply), 0) == (
            job.cost * 1000
        )

    def test_with_a_higher_limit_it_goes_on_where_it_stopped(self, priced: CountingWork, provider: Provider):
        adapter = provider(lambda request: reply_of(10))
        job = make_counting_job(50, spend_limit=Decimal("0.2"))
        run_to_end(job.pk)

        job.refresh_from_db()
        job_resume(job, spend_limit=Decimal("0.5"))
        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.failure, job.done, job.cost) == ("done", "", 50, Decimal("0.5"))
        assert sorted(numbers_asked(adapter.requests)) == list(range(1, 51))

    def test_what_calls_cost_counts_before_it_is_written(
        self, priced: CountingWork, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ):
        """Answers are ten times as long as they may be, and a second goes by before the first of them is written."""
        monkeypatch.setattr("jobs.call_work.WRITE_EVERY_SECONDS", 1.0)
        provider(lambda request: reply_of(100), latency=0.01)
        job = make_counting_job(50, in_flight=2, spend_limit=Decimal("0.4"))

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.failure) == ("paused", "spend_limit")
        assert job.cost <= Decimal("0.8")  # four are under way, or wait for room, when the limit is reached

    def test_failures_without_a_charge_take_no_room(self, priced: CountingWork, provider: Provider):
        busy = CallError(Failure.RATE_LIMITED, "Too many calls.")
        provider(lambda request: busy if number_of(request) % 5 else reply_of(10))
        job = make_counting_job(100, in_flight=8, spend_limit=Decimal("0.2"))

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.done, job.failed, job.cost) == ("done", 100, 80, Decimal("0.2"))

    def test_the_last_calls_of_a_sufficient_limit_are_made(self, priced: CountingWork, provider: Provider):
        provider(lambda request: reply_of(10))
        job = make_counting_job(30, in_flight=64, spend_limit=Decimal("0.3"))

        run_to_end(job.pk)

        job.refresh_from_db()
        assert (job.state, job.cost) == ("done", Decimal("0.3"))


def test_the_registry_finds_the_work_of_each_room():
    for kind in ("annotation", "trained_annotation", "criticism", "trained_criticism", "import", "export"):
        assert work_of(kind).kind == kind


def test_jobs_on_one_connection_share_its_calls(counting: CountingWork):
    """Whatever job they belong to, its running chunks have the connection's calls between them."""
    jobs = [make_counting_job(10, in_flight=5, connection_key="connection 1") for _ in range(3)]
    other = make_counting_job(10, in_flight=5, connection_key="connection 2")
    leases = [claim(job.pk) for job in (*jobs, other)]
    chunks = [lease.chunk.pk for lease in leases if lease is not None]

    assert [chunks_on_connection(job) for job in jobs] == [chunks[:3]] * 3
    assert chunks_on_connection(other) == chunks[3:]

    Chunk.objects.filter(pk=chunks[0]).update(lease_until=timezone.now())

    assert chunks_on_connection(jobs[1]) == chunks[1:3]


def test_a_chunk_alone_on_its_connection_gets_all_of_it(counting: CountingWork, provider: Provider):
    provider(lambda request: "yes")
    job = make_counting_job(40, in_flight=4, connection_key="connection 1")
    Job.objects.filter(pk=job.pk).update(parallel=2)
    calls = calling.Calls(counting.connection(job))
    calls.share(1, 3)

    assert run_next_chunk(job.pk)

    assert calls.limit == 4


def test_a_job_that_is_paused_while_its_provider_asks_for_patience_stops_at_once(
    counting: CountingWork, provider: Provider, at_each_look: AtEachLook
):
    def script(request: Request) -> str:
        raise CallError(Failure.RATE_LIMITED, "Too many.", retry_after=3600)

    adapter = provider(script)
    job = make_counting_job(30, in_flight=2)
    at_each_look(lambda lease: job_pause(job) if lease.job.state == "running" and adapter.requests else None)
    started = time.monotonic()

    run_to_end(job.pk)

    assert time.monotonic() - started < 30
    job.refresh_from_db()
    assert job.state == "paused"
    assert len(adapter.requests) <= 2
