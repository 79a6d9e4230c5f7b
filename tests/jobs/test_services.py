from decimal import Decimal

import pytest
from django.db import transaction
from django.utils import timezone

from jobs.leases import claim
from jobs.models import Chunk, Job
from jobs.services import (
    LARGEST_CHUNK,
    SUBJECTS_PER_CALL_IN_FLIGHT,
    JobStateError,
    chunk_size,
    job_cancel,
    job_create,
    job_extend,
    job_fail,
    job_pause,
    job_resume,
    job_retry,
    stream_job_create,
    sweep,
    wake,
)
from tests.factories import make_job
from tests.jobs.counting_work import CountingWork, make_counting_job

pytestmark = pytest.mark.django_db

State = Job.State


@pytest.mark.parametrize("total", [1, 7, 200, 999, 1000, 1001, 2000, 1_000_000])
@pytest.mark.parametrize("in_flight", [1, 8, 64, 512])
@pytest.mark.parametrize("parallel", [1, 2, 8])
def test_a_chunk_keeps_its_calls_full_and_is_never_endless(total, in_flight, parallel):
    size = chunk_size(total, in_flight=in_flight, parallel=parallel)

    fewest = SUBJECTS_PER_CALL_IN_FLIGHT * max(1, in_flight // parallel)
    assert fewest <= size <= max(LARGEST_CHUNK, fewest)
    assert size >= min(-(-total // parallel), LARGEST_CHUNK)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 999, 2500])
def test_the_chunks_hold_every_subject_once_and_in_order(count, settings):
    settings.WORKER_PROCESSES = 2

    job = make_counting_job(count, in_flight=8)

    chunks = list(job.chunks.order_by("number"))
    assert [subject for chunk in chunks for subject in chunk.subjects] == list(range(1, count + 1))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert 1 <= job.parallel <= min(2, len(chunks))
    assert job.total == count


def test_workers_are_told_once_the_job_is_committed(wake_ups, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        job = make_counting_job(2000, in_flight=64)
        assert wake_ups == []

    assert wake_ups == [job.pk] * job.parallel


def test_a_stream_job_has_one_chunk_without_subjects():
    job = stream_job_create(kind="import", total=5)

    chunk = job.chunks.get()
    assert (chunk.subjects, chunk.cursor, job.parallel, job.total) == ([], 0, 1, 5)


def test_a_job_with_a_spend_limit_runs_in_one_process(settings):
    settings.WORKER_PROCESSES = 4

    assert make_counting_job(5000, in_flight=64).parallel == 4
    assert make_counting_job(5000, in_flight=64, spend_limit=Decimal(1)).parallel == 1


MOVES = {
    "pause": (lambda job: job_pause(job), {State.QUEUED, State.RUNNING}, State.PAUSED),
    "resume": (lambda job: job_resume(job), {State.PAUSED}, State.QUEUED),
    "cancel": (lambda job: job_cancel(job), {State.QUEUED, State.RUNNING, State.PAUSED}, State.CANCELLED),
    "retry": (lambda job: job_retry(job, [1]), {State.DONE, State.FAILED, State.CANCELLED}, State.QUEUED),
    "fail": (
        lambda job: job_fail(job, failure="server_error", reason="It broke."),
        {State.QUEUED, State.RUNNING, State.PAUSED},
        State.FAILED,
    ),
}


@pytest.mark.parametrize("state", State.values)
@pytest.mark.parametrize("move", MOVES)
def test_each_move_is_made_from_its_states_and_refused_from_others(move, state):
    act, allowed, to = MOVES[move]
    job = make_job("counting", state)

    if state in allowed:
        act(job)
        expected = to
    else:
        with pytest.raises(JobStateError, match=rf"this one is {state}\.$"):
            act(job)
        expected = state

    assert job.state == Job.objects.get(pk=job.pk).state == expected
    assert (job.finished_at is not None) == job.is_finished


def test_a_move_goes_by_the_state_in_the_database_not_in_hand():
    job = make_job("counting", State.RUNNING)
    stale = Job.objects.get(pk=job.pk)
    job_cancel(job)

    with pytest.raises(JobStateError):
        job_pause(stale)

    assert Job.objects.get().state == State.CANCELLED


def test_resume_wakes_workers_and_forgets_the_reason(wake_ups, django_capture_on_commit_callbacks):
    job = make_job("counting", State.PAUSED, failure="authentication", reason="Wrong key.")

    with django_capture_on_commit_callbacks(execute=True):
        job_resume(job)

    assert (job.state, job.failure, job.reason) == (State.QUEUED, "", "")
    assert wake_ups == [job.pk]


@pytest.mark.parametrize("higher", [None, "0.0001", "0.5", "0.9", "1"])
def test_a_job_at_its_limit_needs_a_higher_one(higher):
    limits = {"spend_limit": Decimal(1), "cost": Decimal("0.9")}
    job = make_job("counting", State.PAUSED, failure="spend_limit", reason="Spent.", **limits)

    with pytest.raises(JobStateError, match=r"limit of US\$ 1\.0000"):
        job_resume(job, spend_limit=Decimal(higher) if higher else None)

    job.refresh_from_db()
    assert (job.state, job.failure, job.spend_limit) == (State.PAUSED, "spend_limit", Decimal(1))


def test_a_higher_limit_is_kept():
    job = make_job(
        "counting", State.PAUSED, failure="spend_limit", spend_limit=Decimal(1), cost=Decimal("0.9")
    )

    job_resume(job, spend_limit=Decimal("1.5"))

    job.refresh_from_db()
    assert (job.state, job.failure, job.spend_limit) == (State.QUEUED, "", Decimal("1.5"))


def test_a_refused_resume_does_not_raise_the_limit():
    limits = {"spend_limit": Decimal(1), "cost": Decimal("0.9")}
    job = make_job("counting", State.PAUSED, failure="spend_limit", **limits)
    stale = Job.objects.get(pk=job.pk)
    job_cancel(job)

    with pytest.raises(JobStateError):
        job_resume(stale, spend_limit=Decimal(9))

    assert Job.objects.get().spend_limit == 1


def test_retry_without_failures_is_refused():
    job = make_job("counting", State.DONE)

    with pytest.raises(JobStateError, match="Nothing failed"):
        job_retry(job, [])

    assert job.state == State.DONE


def test_retry_asks_for_the_failed_alone_even_after_a_cancel(counting: CountingWork):
    job = make_counting_job(20)
    job_cancel(job)

    job_retry(job, [3, 5])

    open_chunks = job.chunks.exclude(state=Chunk.State.DONE)
    assert [chunk.subjects for chunk in open_chunks] == [[3, 5]]


def test_retry_waits_for_a_cancelled_job_to_stop(counting: CountingWork):
    job = make_counting_job(20)
    lease = claim(job.pk)
    assert lease is not None
    job_cancel(job)

    with pytest.raises(JobStateError, match="still stopping"):
        job_retry(job, [3])
    assert Job.objects.get().state == State.CANCELLED
    lease.release()
    job_retry(job, [3])

    assert job.state == State.QUEUED


def test_an_extended_job_goes_on_with_the_new_subjects_alone(counting: CountingWork, wake_ups):
    job = make_job("counting", State.DONE, total=20, done=20, failed=2, cost=Decimal("0.5"))

    job_extend(job, [21, 22], may_spend=Decimal("0.25"))

    assert [chunk.subjects for chunk in job.chunks.all()] == [[21, 22]]
    assert (job.state, job.total, job.done, job.spend_limit) == (State.QUEUED, 22, 20, Decimal("0.7500"))


def test_an_extended_job_that_was_cancelled_counts_what_it_never_asked_once(counting: CountingWork):
    job = make_counting_job(20)
    job_cancel(job)

    job_extend(job, list(range(1, 26)))

    open_chunks = job.chunks.exclude(state=Chunk.State.DONE)
    assert sorted(pk for chunk in open_chunks for pk in chunk.subjects) == list(range(1, 26))
    assert (job.total, job.spend_limit) == (25, None)


def test_only_an_ended_job_with_something_new_is_extended(counting: CountingWork):
    job = make_counting_job(20)

    with pytest.raises(JobStateError, match="is queued"):
        job_extend(job, [21])
    with pytest.raises(JobStateError, match="nothing new"):
        job_extend(job, [])

    job.refresh_from_db()
    assert (job.state, job.total) == (State.QUEUED, 20)


class TestSweep:
    def test_it_sends_lost_messages_again(self, counting: CountingWork, wake_ups):
        job = make_counting_job(5000, in_flight=64)
        assert job.parallel == 2

        assert sweep() == 1

        assert wake_ups == [job.pk] * 2

    def test_it_leaves_alone_what_runs(self, counting: CountingWork, wake_ups):
        job = make_counting_job(20)
        claim(job.pk)

        assert sweep() == 0
        assert wake_ups == []

    def test_it_wakes_for_an_expired_lease(self, counting: CountingWork, wake_ups):
        job = make_counting_job(20)
        claim(job.pk)
        job.chunks.update(lease_until=timezone.now())

        assert sweep() == 1
        assert wake_ups == [job.pk]

    @pytest.mark.parametrize("state", [State.PAUSED, State.CANCELLED, State.DONE, State.FAILED])
    def test_it_leaves_alone_what_shall_not_run(self, state, counting: CountingWork, wake_ups):
        job = make_counting_job(20)
        Job.objects.update(state=state)

        assert sweep() == 0
        assert wake_ups == []
        assert Job.objects.get(pk=job.pk).state == state

    def test_it_finishes_a_job_whose_worker_died_before_saying_so(self, counting: CountingWork, wake_ups):
        job = make_counting_job(20)
        job.chunks.update(state=Chunk.State.DONE)

        sweep()
        sweep()

        job.refresh_from_db()
        assert job.state == State.DONE
        assert job.finished_at is not None
        assert counting.finished_jobs == [job.pk]
        assert wake_ups == []


class TestBrokerDown:
    @pytest.fixture(autouse=True)
    def _no_broker(self, monkeypatch, tmp_path):
        """The real way to the broker, where none listens."""
        from config.celery import app
        from jobs.tasks import run_chunk

        monkeypatch.undo()  # the list that stands in for it
        assert "delay" not in vars(run_chunk._get_current_object())
        monkeypatch.setattr(app.conf, "broker_url", f"redis+socket://{tmp_path}/none.sock")
        monkeypatch.setattr(app.conf, "broker_write_url", f"redis+socket://{tmp_path}/none.sock")
        monkeypatch.setattr(app, "_pool", None)
        monkeypatch.setattr(app.amqp, "_producer_pool", None)

    def test_waking_does_not_fail(self, caplog):
        wake(7)

        assert "waits for the next sweep" in caplog.text

    def test_a_job_is_created_and_found_by_the_sweeper(self, django_capture_on_commit_callbacks):
        with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
            job = job_create(kind="counting", subjects=[1, 2])

        assert Job.objects.get().state == State.QUEUED
        assert job.chunks.count() == 1
        assert sweep() == 1


def test_workers_are_told_of_cancelled_batches_once_that_is_committed(
    counting: CountingWork, wake_ups, django_capture_on_commit_callbacks
):
    job = make_counting_job(20, by_batch=True)
    with django_capture_on_commit_callbacks(execute=True):
        job_cancel(job)
        assert wake_ups == []

    assert wake_ups == [job.pk]
