"""What can be done to a job: created, started, paused, resumed, cancelled, retried, swept."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from jobs.leases import claimable_at, leased_at
from jobs.models import Chunk, Job, ProviderBatch
from jobs.work import work_of
from mllm.adapters.batches import LONGEST_WAIT_HOURS

log = logging.getLogger(__name__)

# A chunk keeps its calls in flight full to the end when it holds many times as many subjects.
LARGEST_CHUNK = 2000
SUBJECTS_PER_CALL_IN_FLIGHT = 16
# What is lost when a batch expires, and what is waited for before anything is seen.
SUBJECTS_A_BATCH = 2000
CANCELLED_LOOK = timedelta(minutes=1)
LONGEST_AT_PROVIDER = timedelta(hours=2 * LONGEST_WAIT_HOURS)


class JobStateError(Exception):
    """The job is not in a state that allows this; the sentence says which would."""


def chunk_size(total: int, *, in_flight: int, parallel: int) -> int:
    """Subjects in a chunk: an equal share a process, but never so few that the calls in flight run dry."""
    share = -(-total // max(1, parallel))
    fewest = SUBJECTS_PER_CALL_IN_FLIGHT * max(1, in_flight // max(1, parallel))
    return max(1, min(max(share, fewest), max(LARGEST_CHUNK, fewest)))


@transaction.atomic
def job_create(
    *,
    kind: str,
    subjects: Sequence[int],
    in_flight: int = 8,
    connection_key: str = "",
    spend_limit: Decimal | None = None,
    expected_call_cost: Decimal = Decimal(0),
    by_batch: bool = False,
) -> Job:
    """A job over these subject ids, queued and on its way to a worker once the transaction commits.

    With `by_batch` its calls are handed in together: slower and for half the price.
    """
    job = Job.objects.create(
        kind=kind,
        total=len(subjects),
        in_flight=in_flight,
        connection_key=connection_key,
        spend_limit=spend_limit,
        expected_call_cost=expected_call_cost,
        by_batch=by_batch,
    )
    _add_chunks(job, subjects)
    wake_on_commit(job)
    return job


@transaction.atomic
def stream_job_create(*, kind: str, total: int = 0) -> Job:
    """A job of one chunk without subject ids, for work that walks a file from its cursor on."""
    job = Job.objects.create(kind=kind, total=total, in_flight=1, parallel=1)
    Chunk.objects.create(job=job, number=0)
    wake_on_commit(job)
    return job


def _add_chunks(job: Job, subjects: Sequence[int]) -> None:
    # Only a process that makes all of the job's calls itself can tell whether the next one fits into the limit.
    processes = 1 if job.spend_limit is not None else settings.WORKER_PROCESSES
    parallel = max(1, min(processes, job.in_flight))
    size = chunk_size(len(subjects), in_flight=job.in_flight, parallel=parallel)
    if job.by_batch:
        size = SUBJECTS_A_BATCH
    job.parallel = max(1, min(parallel, -(-len(subjects) // size)))
    job.save(update_fields=["parallel"])
    last = job.chunks.aggregate(last=Max("number"))["last"]
    first = 0 if last is None else last + 1
    Chunk.objects.bulk_create(
        [
            Chunk(job=job, number=first + position, subjects=list(subjects[start : start + size]))
            for position, start in enumerate(range(0, len(subjects), size))
        ],
        batch_size=100,
    )


def job_pause(job: Job, *, failure: str = "", reason: str = "") -> None:
    """Stop starting calls; those in flight are written. Raises JobStateError for a job that is not active."""
    _move(job, (Job.State.QUEUED, Job.State.RUNNING), Job.State.PAUSED, failure=failure, reason=reason)


@transaction.atomic
def job_resume(job: Job, *, spend_limit: Decimal | None = None) -> None:
    """Go on where it stopped. A job that its spend limit paused needs a higher limit."""
    job.refresh_from_db()
    if job.failure == "spend_limit" and job.spend_limit is not None:
        if spend_limit is None or spend_limit <= max(job.spend_limit, job.cost):
            raise JobStateError(
                f"This job has reached its limit of US$ {job.spend_limit:.4f}. Give it a higher one to go on."
            )
        Job.objects.filter(pk=job.pk).update(spend_limit=spend_limit)
    _move(job, (Job.State.PAUSED,), Job.State.QUEUED)
    wake_on_commit(job)


def job_cancel(job: Job) -> None:
    """End it for good. What is written stays, and what its batches answered by then is written still."""
    _move(job, Job.UNFINISHED, Job.State.CANCELLED, finished=True)
    if job.by_batch:
        job_id = job.pk
        transaction.on_commit(lambda: wake(job_id))  # to cancel its batches at the provider


@transaction.atomic
def job_retry(job: Job, failed_subjects: Sequence[int]) -> None:
    """Ask again for those subjects alone, whose results are failures."""
    if not failed_subjects:
        raise JobStateError("Nothing failed, so there is nothing to retry.")
    _queue_again(job, failed_subjects)


@transaction.atomic
def job_extend(job: Job, new_subjects: Sequence[int], *, may_spend: Decimal | None = None) -> None:
    """Let a job that has ended go on with subjects that have no result yet.

    `may_spend` is US$ beyond what it has cost; None leaves its limit, if any, as it is. Raises JobStateError.
    """
    if not new_subjects:
        raise JobStateError("There is nothing new to ask about.")
    _lock_open_chunks(job)
    job.refresh_from_db()
    job.total = job.done + len(new_subjects)
    if may_spend is not None:
        job.spend_limit = job.cost + may_spend
    job.save(update_fields=["total", "spend_limit"])
    _queue_again(job, new_subjects)


def _queue_again(job: Job, subjects: Sequence[int]) -> None:
    """Queue a job that has ended, with those subjects alone."""
    _lock_open_chunks(job)
    job.refresh_from_db()
    open_chunks = job.chunks.exclude(state=Chunk.State.DONE)
    if job.is_finished and open_chunks.filter(leased_at(timezone.now())).exists():
        raise JobStateError("This job is still stopping. Try again in a minute.")
    if _at_the_provider(job):
        raise JobStateError(
            "What this job handed in is still being ended at the provider, and what was answered is then written. Try "
            "again in a few minutes."
        )
    _move(job, (Job.State.DONE, Job.State.FAILED, Job.State.CANCELLED), Job.State.QUEUED)
    # What a cancelled job never asked stays unasked.
    open_chunks.update(state=Chunk.State.DONE, lease_token=None, lease_until=None)
    _add_chunks(job, subjects)
    wake_on_commit(job)


def _at_the_provider(job: Job) -> bool:
    """Whether batches of the job may still be answered: asked about again now, their subjects would be paid for twice.

    Where nobody could look at one for so long that the provider must have ended it, the job need not wait any more.
    """
    started = timezone.now() - LONGEST_AT_PROVIDER
    batches = ProviderBatch.objects.filter(chunk__job=job, state__in=ProviderBatch.OPEN)
    return batches.filter(created_at__gt=started).exists()


def _lock_open_chunks(job: Job) -> None:
    """Before the job itself is changed: who writes a chunk's results locks the chunk, and then the job."""
    open_chunks = job.chunks.exclude(state=Chunk.State.DONE).order_by("pk")
    list(open_chunks.select_for_update(no_key=True).values_list("pk"))


def job_fail(job: Job, *, failure: str, reason: str) -> None:
    """It cannot go on, whoever runs it (a file that cannot be read, say)."""
    _move(job, Job.UNFINISHED, Job.State.FAILED, failure=failure, reason=reason, finished=True)


def finish_if_complete(job_id: int) -> None:
    """Mark the job done when no chunk is open; whoever notices first does it, once."""
    open_chunks = Chunk.objects.filter(job=job_id).exclude(state=Chunk.State.DONE)
    if open_chunks.exists():
        return
    with transaction.atomic():
        active = Job.objects.select_for_update(no_key=True).filter(
            state__in=[Job.State.QUEUED, Job.State.RUNNING]
        )
        # Looked at again once it is locked: the statement that waits does not see chunks that came meanwhile.
        if active.filter(pk=job_id).first() is None or open_chunks.exists():
            return
        Job.objects.filter(pk=job_id).update(
            state=Job.State.DONE, finished_at=timezone.now(), failure="", reason=""
        )
        job = Job.objects.get(pk=job_id)
        work_of(job.kind).finished(job)


def _move(
    job: Job,
    allowed: Sequence[str],
    to: str,
    *,
    failure: str = "",
    reason: str = "",
    finished: bool = False,
) -> None:
    moved = Job.objects.filter(pk=job.pk, state__in=allowed).update(
        state=to, failure=failure, reason=reason, finished_at=timezone.now() if finished else None
    )
    job.refresh_from_db()
    if not moved:
        names = " or ".join(str(Job.State(state).label).lower() for state in allowed)
        raise JobStateError(f"Only a job that is {names} can become {to}; this one is {job.state}.")


# --- Waking workers --------------------------------------------------------------------------------------------------


def wake_on_commit(job: Job) -> None:
    job_id = job.pk
    transaction.on_commit(lambda: wake(job_id, messages=job.parallel))


def wake(job_id: int, *, messages: int = 1) -> None:
    """Tell the workers that this job has something to do. A lost message costs a sweep's interval, never work."""
    from jobs.tasks import run_chunk  # here, because tasks stand at the end of this chain

    try:
        for _ in range(messages):
            run_chunk.delay(job_id)
    except run_chunk.OperationalError as error:
        log.warning("The broker cannot be reached, job %s waits for the next sweep: %s", job_id, error)


def sweep() -> int:
    """Wake every job that has open chunks and fewer live leases than it may have. Returns how many were woken."""
    now = timezone.now()
    woken = 0
    for job in Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING]).order_by("created_at"):
        open_chunks = job.chunks.exclude(state=Chunk.State.DONE)
        live = open_chunks.filter(leased_at(now)).count()
        claimable = open_chunks.filter(claimable_at(now)).count()
        messages = min(job.parallel - live, claimable)
        if messages > 0:
            wake(job.pk, messages=messages)
            woken += 1
        elif not claimable and not live:
            finish_if_complete(job.pk)
    for job_id in _cancelled_with_batches(now - CANCELLED_LOOK):
        wake(job_id)
        woken += 1
    return woken


def _cancelled_with_batches(looked_before: datetime) -> list[int]:
    """Ids of cancelled jobs with batches at the provider that nobody has looked at since."""
    left = ProviderBatch.objects.filter(
        state__in=ProviderBatch.OPEN, chunk__job__state=Job.State.CANCELLED, looked_at__lt=looked_before
    )
    return list(left.order_by().values_list("chunk__job_id", flat=True).distinct())
