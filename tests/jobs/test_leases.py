import threading
import uuid
from collections import Counter
from decimal import Decimal

import pytest
from django.db import connection
from django.utils import timezone

from jobs.leases import Lease, LeaseLost, Progress, claim
from jobs.models import Chunk, Job
from jobs.services import finish_if_complete, job_pause
from tests.jobs.counting_work import CountingWork, make_counting_job

pytestmark = pytest.mark.django_db


def claimed(job: Job) -> Lease:
    lease = claim(job.pk)
    assert lease is not None
    return lease


def expire(lease: Lease) -> None:
    Chunk.objects.filter(pk=lease.chunk.pk).update(lease_until=timezone.now())


def one_done() -> Progress:
    return Progress(done=1)


def never() -> Progress:
    raise AssertionError("rows were written without a lease")


class TestClaim:
    def test_it_starts_the_job(self, counting: CountingWork):
        job = make_counting_job()

        lease = claimed(job)

        job.refresh_from_db()
        assert (job.state, lease.job.state) == ("running", "running")
        assert job.started_at is not None
        assert job.pace_since is not None
        assert lease.chunk.lease_token == lease.token
        assert lease.chunk.lease_until is not None
        assert lease.chunk.lease_until > timezone.now()

    def test_chunks_are_given_in_order_and_once(self, counting: CountingWork):
        job = make_counting_job(4000, in_flight=8)

        first, second, third = claim(job.pk), claim(job.pk), claim(job.pk)

        assert first is not None
        assert second is not None
        assert (first.chunk.number, second.chunk.number, third) == (0, 1, None)

    @pytest.mark.parametrize("state", ["paused", "cancelled", "done", "failed"])
    def test_a_job_that_shall_not_run_gives_none(self, state, counting: CountingWork):
        job = make_counting_job()
        Job.objects.update(state=state)

        assert claim(job.pk) is None
        assert job.chunks.get().state == Chunk.State.WAITING

    def test_a_job_that_is_gone_gives_none(self):
        assert claim(12345) is None

    def test_an_expired_lease_is_taken_over(self, counting: CountingWork):
        job = make_counting_job()
        dead = claimed(job)
        assert claim(job.pk) is None
        expire(dead)

        heir = claimed(job)

        assert heir.chunk.pk == dead.chunk.pk
        assert heir.token != dead.token
        assert heir.chunk.leases == 2

    def test_a_chunk_that_was_handed_back_does_not_count_as_crashed(self, counting: CountingWork):
        job = make_counting_job()
        for _ in range(3):
            lease = claimed(job)
            assert lease.chunk.leases == 1
            lease.release()


class TestFence:
    def test_after_a_takeover_nothing_is_written(self, counting: CountingWork):
        job = make_counting_job()
        dead = claimed(job)
        expire(dead)
        heir = claimed(job)

        with pytest.raises(LeaseLost):
            dead.write(never, cursor=7)
        with pytest.raises(LeaseLost):
            dead.renew()
        with pytest.raises(LeaseLost):
            dead.complete()
        dead.release()

        chunk = Chunk.objects.get()
        assert (chunk.lease_token, chunk.state, chunk.cursor) == (heir.token, "running", 0)
        heir.write(one_done)
        job.refresh_from_db()
        assert (job.done, job.state) == (1, "running")

    def test_an_expired_lease_that_nobody_took_may_still_write(self, counting: CountingWork):
        lease = claimed(make_counting_job())
        expire(lease)

        lease.write(one_done)

        assert Job.objects.get().done == 1
        assert claim(lease.job.pk) is None  # and it is live again

    def test_a_forged_token_writes_nothing(self, counting: CountingWork):
        lease = claimed(make_counting_job())
        forged = Lease(job=lease.job, chunk=lease.chunk, token=uuid.uuid4())

        with pytest.raises(LeaseLost):
            forged.write(never)

    def test_a_chunk_that_is_done_takes_no_more(self, counting: CountingWork):
        lease = claimed(make_counting_job())
        lease.complete()

        with pytest.raises(LeaseLost):
            lease.write(never)

    def test_rows_that_fail_leave_counters_and_cursor_alone(self, counting: CountingWork):
        lease = claimed(make_counting_job())

        def fail() -> Progress:
            Job.objects.update(reason="half written")
            raise RuntimeError("the disk is full")

        with pytest.raises(RuntimeError):
            lease.write(fail, cursor=9)

        job = Job.objects.get()
        assert (job.done, job.reason, job.chunks.get().cursor, lease.chunk.cursor) == (0, "", 0, 0)

    def test_counters_add_up(self, counting: CountingWork):
        lease = claimed(make_counting_job())

        for _ in range(3):
            lease.write(
                lambda: Progress(
                    done=2, failed=1, input_tokens=5, output_tokens=7, cost=Decimal("0.00000001")
                )
            )

        job = Job.objects.get()
        assert (job.done, job.failed, job.succeeded) == (6, 3, 3)
        assert (job.input_tokens, job.output_tokens, job.cost) == (15, 21, Decimal("0.00000003"))


class TestComplete:
    def test_the_last_chunk_finishes_the_job_once(self, counting: CountingWork):
        job = make_counting_job(4000)
        first, second = claimed(job), claimed(job)

        first.complete()
        finish_if_complete(job.pk)
        job.refresh_from_db()
        assert job.state == "running"
        while lease := second:
            lease.complete()
            finish_if_complete(job.pk)
            second = claim(job.pk)  # type: ignore[assignment]

        job.refresh_from_db()
        assert (job.state, job.failure) == ("done", "")
        assert counting.finished_jobs == [job.pk]

    def test_a_job_paused_meanwhile_is_not_done(self, counting: CountingWork):
        lease = claimed(make_counting_job())
        job_pause(lease.job)

        lease.complete()
        finish_if_complete(lease.job.pk)

        assert Job.objects.get().state == "paused"
        assert counting.finished_jobs == []


def run_at_once(threads: int, work) -> list:
    """What `work(number)` gave in each of these threads, all started together."""
    barrier = threading.Barrier(threads)
    results: list = []

    def run(number: int) -> None:
        try:
            barrier.wait(10)
            results.append(work(number))
        except Exception as error:
            results.append(error)
        finally:
            connection.close()

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
    return results


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("counting")
class TestAtTheSameMoment:
    def test_a_chunk_goes_to_one_process(self):
        job = make_counting_job(20)

        leases = run_at_once(8, lambda _: claim(job.pk))

        assert Counter(type(lease).__name__ for lease in leases) == {"Lease": 1, "NoneType": 7}
        assert Chunk.objects.get().leases == 1

    def test_no_more_chunks_run_than_the_job_may_have(self, settings):
        settings.WORKER_PROCESSES = 3
        job = make_counting_job(20_000, in_flight=8)
        assert (job.parallel, job.chunks.count()) == (3, 10)

        leases = [lease for lease in run_at_once(10, lambda _: claim(job.pk)) if lease is not None]

        assert sorted(lease.chunk.number for lease in leases) == [0, 1, 2]

    def test_one_heir_takes_over_an_expired_lease(self):
        job = make_counting_job(20)
        expire(claimed(job))

        heirs = [lease for lease in run_at_once(8, lambda _: claim(job.pk)) if lease is not None]

        assert len(heirs) == 1
        assert Chunk.objects.get().lease_token == heirs[0].token

    def test_no_count_is_lost(self):
        job = make_counting_job(20)
        lease = claimed(job)

        def write_five(_: int) -> None:
            for _ in range(5):
                lease.write(one_done)

        assert run_at_once(6, write_five) == [None] * 6

        assert Job.objects.get().done == 30
