"""Jobs whose calls are handed in as a provider's batches, against batches on the wire."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.utils import timezone

from jobs import batching, services, work
from jobs.calling import Outcome
from jobs.leases import Progress
from jobs.models import Chunk, Job, ProviderBatch
from jobs.recording import call_fields
from jobs.running import run_next_chunk
from jobs.services import JobStateError, job_cancel, job_extend, job_pause, job_resume, job_retry, sweep
from mllm.errors import Failure
from mllm.prices import Price
from mllm.registry import ConnectionSettings
from tests.jobs.counting_work import CountingWork, make_counting_job
from tests.mllm.batch_provider import Batch, BatchProvider
from tests.mllm.calls import make_settings

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = Price(input=Decimal(10), output=Decimal(100))  # 100 tokens in and 10 out: 0.2 cents
CALL = Decimal("0.002")


class BatchedWork(CountingWork):
    """Counting over a provider on the wire; a failed subject is open again when it is asked for later."""

    def __init__(self, settings: ConnectionSettings) -> None:
        super().__init__(PRICE)
        self.settings = settings

    def connection(self, job: Job) -> ConnectionSettings:
        return self.settings

    def write(self, job: Job, outcomes: list[Outcome]) -> Progress:  # type: ignore[override]
        progress = super().write(job, outcomes)
        costs = [call_fields(outcome, PRICE)["cost"] for outcome in outcomes]
        usable = frozenset(outcome.subject for outcome in outcomes if outcome.reply is not None)
        return Progress(
            done=progress.done,
            failed=progress.failed,
            cost=sum(
                (cost for outcome, cost in zip(outcomes, costs, strict=True) if not outcome.reused),
                Decimal(0),
            ),
            usable=usable,
        )


@pytest.fixture
def batches() -> Iterator[BatchProvider]:
    with BatchProvider() as running:
        yield running


@pytest.fixture(params=["openai", "anthropic"])
def counting(
    request: pytest.FixtureRequest, batches: BatchProvider, monkeypatch: pytest.MonkeyPatch
) -> BatchedWork:
    registered = BatchedWork(make_settings(request.param, batches.url))
    monkeypatch.setitem(work._kinds, "counting", registered)
    return registered


def look_again(job: Job) -> bool:
    """As if the time to look again had come."""
    job.chunks.update(not_before=None)
    return run_next_chunk(job.pk)


def custom_ids(batch: Batch, *subjects: int) -> list[str]:
    return [name for name in batch.ids if int(name.rpartition("-")[2]) in subjects]


def test_one_call_is_made_and_the_rest_is_handed_in_and_collected(
    counting: BatchedWork, batches: BatchProvider
):
    job = make_counting_job(30, by_batch=True)
    run_next_chunk(job.pk)

    [batch] = batches.batches
    assert (len(batches.direct), len(batch.entries), len(counting.rows)) == (1, 29, 1)
    chunk = job.chunks.get()
    assert (chunk.state, chunk.lease_token) == (Chunk.State.WAITING, None)
    assert not run_next_chunk(job.pk), "nobody takes it before its time"

    look_again(job)
    assert len(counting.rows) == 1
    batches.end(batch)
    look_again(job)

    job.refresh_from_db()
    assert sorted(counting.rows) == list(range(1, 31))
    assert (job.state, job.done, job.failed) == (Job.State.DONE, 30, 0)
    assert job.cost == CALL + 29 * CALL / 2, "a batch costs half"
    assert len(batches.batches) == 1
    assert ProviderBatch.objects.get().state == ProviderBatch.State.DONE


def test_what_failed_in_it_fails_by_name_and_what_is_missing_too(
    counting: BatchedWork, batches: BatchProvider
):
    job = make_counting_job(5, by_batch=True)
    run_next_chunk(job.pk)
    [batch] = batches.batches
    [refused], [expired], [missing] = (custom_ids(batch, subject) for subject in (2, 3, 4))
    batches.end(batch, **{refused: "refuse", expired: "expire", missing: "nothing"})
    look_again(job)

    job.refresh_from_db()
    assert (job.state, job.done, job.failed) == (Job.State.DONE, 5, 3)
    failures = {subject: outcome.error.failure for subject, outcome in counting.rows.items() if outcome.error}
    assert failures[3] == Failure.TIMED_OUT
    assert failures[4] == Failure.SERVER_ERROR
    assert "Too long" in str(counting.rows[2].error)


def test_a_crash_after_handing_in_pays_nothing_twice(counting: BatchedWork, batches: BatchProvider):
    job = make_counting_job(12, by_batch=True)
    batches.drop_reply_to_submit = True
    run_next_chunk(job.pk)
    assert ProviderBatch.objects.get().state == ProviderBatch.State.SUBMITTING

    batches.end(batches.batches[0])
    look_again(job)

    job.refresh_from_db()
    assert (job.state, len(batches.batches), len(counting.rows)) == (Job.State.DONE, 1, 12)


def test_a_batch_that_never_arrived_is_handed_in_anew(counting: BatchedWork, batches: BatchProvider):
    job = make_counting_job(12, by_batch=True)
    batches.drop_reply_to_submit = True
    run_next_chunk(job.pk)
    batches.batches.clear()
    batches.drop_reply_to_submit = False
    look_again(job)

    states = list(ProviderBatch.objects.values_list("state", flat=True))
    assert states == [ProviderBatch.State.LOST, ProviderBatch.State.WAITING]
    assert len(batches.batches) == 1


def test_a_crash_while_collecting_writes_each_answer_once(
    counting: BatchedWork, batches: BatchProvider, monkeypatch: pytest.MonkeyPatch, settings
):
    settings.WRITE_BATCH = 5
    job = make_counting_job(21, by_batch=True)
    run_next_chunk(job.pk)
    batches.end(batches.batches[0])
    written = batching._rows
    calls = []

    def dies(*arguments: object) -> Progress:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return written(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batching, "_rows", dies)
    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        look_again(job)
    monkeypatch.undo()
    monkeypatch.setitem(work._kinds, "counting", counting)
    Chunk.objects.update(state=Chunk.State.WAITING, lease_token=None, lease_until=None)
    look_again(job)

    assert sorted(counting.rows) == list(range(1, 22))
    assert len(batches.batches) == 1


def test_pausing_hands_nothing_in_and_resuming_collects(counting: BatchedWork, batches: BatchProvider):
    job = make_counting_job(6, by_batch=True)
    run_next_chunk(job.pk)
    job_pause(job)
    batches.end(batches.batches[0])
    look_again(job)
    assert len(counting.rows) == 1

    job_resume(job)
    look_again(job)
    job.refresh_from_db()
    assert (job.state, len(counting.rows)) == (Job.State.DONE, 6)


def test_cancelling_ends_it_at_the_provider_and_keeps_what_was_answered(
    counting: BatchedWork, batches: BatchProvider, wake_ups: list[int]
):
    job = make_counting_job(8, by_batch=True)
    run_next_chunk(job.pk)
    [batch] = batches.batches
    job_cancel(job)
    assert wake_ups[-1] == job.pk
    run_next_chunk(job.pk)
    assert batch.state == "cancelling"

    unanswered = custom_ids(batch, 7, 8)
    batches.end(batch, **dict.fromkeys(unanswered, "expire"))
    ProviderBatch.objects.update(looked_at=timezone.now() - timedelta(hours=1))
    wake_ups.clear()
    assert sweep() == 1
    run_next_chunk(job.pk)

    job.refresh_from_db()
    assert sorted(counting.rows) == [1, 2, 3, 4, 5, 6], "what nobody wants any more is no failure"
    assert (job.state, job.done, job.failed) == (Job.State.CANCELLED, 6, 0)
    assert job.cost == CALL + 5 * CALL / 2
    assert not ProviderBatch.objects.filter(state__in=ProviderBatch.OPEN).exists()


@pytest.mark.parametrize("again", [job_retry, job_extend])
def test_a_cancelled_job_asks_again_once_its_batch_has_ended_and_pays_nothing_twice(
    counting: BatchedWork, batches: BatchProvider, again: Callable[[Job, list[int]], None]
):
    job = make_counting_job(8, by_batch=True)
    run_next_chunk(job.pk)
    [batch] = batches.batches
    job_cancel(job)
    for state in ("waiting", "cancelling"):
        assert batch.state == state
        with pytest.raises(JobStateError, match="still being ended at the provider"):
            again(job, [7])
        run_next_chunk(job.pk)
    batches.end(batch, **dict.fromkeys(custom_ids(batch, 7, 8), "expire"))
    run_next_chunk(job.pk)
    job.refresh_from_db()
    assert (job.state, sorted(counting.rows)) == (Job.State.CANCELLED, [1, 2, 3, 4, 5, 6])

    again(job, [7])
    run_next_chunk(job.pk)

    job.refresh_from_db()
    assert (job.state, sorted(counting.rows)) == (Job.State.DONE, [1, 2, 3, 4, 5, 6, 7])
    assert (len(batches.batches), len(batches.direct)) == (1, 2)
    assert not ProviderBatch.objects.filter(state__in=ProviderBatch.OPEN).exists()


def test_a_batch_that_nobody_could_look_at_for_days_holds_nothing_up(
    counting: BatchedWork, batches: BatchProvider
):
    job = make_counting_job(8, by_batch=True)
    run_next_chunk(job.pk)
    job_cancel(job)
    ProviderBatch.objects.update(created_at=timezone.now() - services.LONGEST_AT_PROVIDER)

    job_retry(job, [1])

    assert job.state == Job.State.QUEUED


def test_a_refused_batch_pauses_the_job_with_the_reason(counting: BatchedWork, batches: BatchProvider):
    job = make_counting_job(8, by_batch=True)
    batches.refuse_submit = True
    run_next_chunk(job.pk)

    job.refresh_from_db()
    assert (job.state, job.failure) == (Job.State.PAUSED, Failure.BAD_REQUEST)
    assert "No" in job.reason
    assert ProviderBatch.objects.get().state == ProviderBatch.State.REFUSED

    batches.refuse_submit = False
    job_resume(job)
    look_again(job)
    assert len(batches.batches) == 1


def test_the_spend_limit_counts_what_is_under_way(counting: BatchedWork, batches: BatchProvider):
    # A request of the most: 10 tokens out at US$ 100 a million are 0.1 cents, and about as much goes in.
    job = make_counting_job(40, by_batch=True, spend_limit=Decimal("0.005"))
    run_next_chunk(job.pk)

    job.refresh_from_db()
    assert (job.state, job.failure) == (Job.State.PAUSED, Failure.SPEND_LIMIT)
    assert not batches.batches
    assert "batch" in job.reason

    job_resume(job, spend_limit=Decimal(1))
    look_again(job)
    assert len(batches.batches) == 1
    batches.end(batches.batches[0])
    look_again(job)
    job.refresh_from_db()
    assert job.state == Job.State.DONE
    assert job.cost <= 1


def test_many_requests_are_handed_in_by_parts(
    counting: BatchedWork, batches: BatchProvider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batching, "LARGEST_BATCH_BYTES", 3000)
    monkeypatch.setattr(services, "SUBJECTS_A_BATCH", 15)
    job = make_counting_job(20, by_batch=True)
    while run_next_chunk(job.pk):
        pass
    assert job.chunks.count() == 2
    handed_in = [name for batch in batches.batches for name in batch.ids]
    assert len(handed_in) == len(set(handed_in)) == 18, "each chunk asks about one subject at once"
    assert len(batches.batches) >= 4
    for batch in batches.batches:
        batches.end(batch)
    while look_again(job):
        pass
    job.refresh_from_db()
    assert (job.state, sorted(counting.rows)) == (Job.State.DONE, list(range(1, 21)))


def test_it_looks_again_more_and_more_rarely():
    def look_after(waited: timedelta) -> timedelta:
        created: datetime = timezone.now() - waited
        return batching._next_look(ProviderBatch(created_at=created))

    assert look_after(timedelta(0)) == batching.FIRST_LOOK
    assert timedelta(minutes=1.9) < look_after(timedelta(minutes=20)) < timedelta(minutes=2.1)
    assert look_after(timedelta(hours=20)) == batching.LONGEST_LOOK
