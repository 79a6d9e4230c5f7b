"""Running a leased chunk, whatever its kind."""

import logging
import time
from collections.abc import Iterator

from django.db import InterfaceError, OperationalError, connection

from jobs.batching import settle_cancelled
from jobs.call_work import CallWork
from jobs.leases import Lease, LeaseLost, claim
from jobs.logs import about
from jobs.models import Chunk, Job
from jobs.services import JobStateError, finish_if_complete, job_fail, job_pause, wake
from jobs.work import CannotGoOn, work_of

log = logging.getLogger(__name__)

# A chunk that was begun this often without an end is taken to kill its process.
MOST_LEASES = 100
# A database that is started anew, or whose disk is full for a while, is waited for: seconds before each further try.
DATABASE_WAITS = (0.5, 1, 2, 4, 8, 15, 30)
_DATABASE_GONE = (OperationalError, InterfaceError)


def run_next_chunk(job_id: int) -> bool:
    """Claim one chunk of the job and run it, then wake the job for the next. False when there was none to claim."""
    lease = claim(job_id)
    if lease is None:
        finish_if_complete(job_id)  # its last chunk may have ended while it was paused
        _settle_if_cancelled(job_id)
        return False
    with about(job=lease.job.pk, chunk=lease.chunk.pk):
        return _run(lease)


def _run(lease: Lease) -> bool:
    job, chunk = lease.job, lease.chunk
    try:
        if chunk.leases > MOST_LEASES:
            raise CannotGoOn(
                f"Chunk {chunk.number} was begun {MOST_LEASES} times without an end. The worker's log says why.",
                failure="server_error",
            )
        complete = _work(lease)
        if complete:
            lease.complete()
            finish_if_complete(job.pk)
        else:
            lease.release()
    except LeaseLost:
        log.warning("%s was taken over by another worker", chunk)
        return True
    except CannotGoOn as stop:
        lease.release()
        _stop_job(lease.job.pk, stop)
        return True
    except _DATABASE_GONE:
        log.exception("%s ended because the database does not take its results", chunk)
        lease.release()
        _stop_job(
            job.pk,
            CannotGoOn(
                "The database did not take the results. Nothing that is answered is lost: see that the database runs "
                "and that its disk has room, then resume.",
                failure="database",
            ),
        )
        return True
    except Exception:
        # The sentence on the page must not leak internals; the log has the trace.
        log.exception("%s ended with an error", chunk)
        lease.release()
        _stop_job(
            job.pk,
            CannotGoOn(
                "Something went wrong in the worker; its log has the details.", failure="server_error"
            ),
        )
        return True
    if job.chunks.exclude(state=Chunk.State.DONE).exists():
        wake(job.pk)
    return True


def _work(lease: Lease) -> bool:
    """What the work on the chunk comes to. Where the database breaks off it is begun anew from what is written."""
    waits = iter(DATABASE_WAITS)
    while True:
        try:
            return work_of(lease.job.kind).run(lease)
        except _DATABASE_GONE as error:
            log.warning("The database broke off in the middle of %s: %s", lease.chunk, error)
            if connection.in_atomic_block or not _is_back(lease, waits):
                raise


def _is_back(lease: Lease, waits: Iterator[float]) -> bool:
    """Wait until the lease can be renewed; False when that took too long. Raises LeaseLost."""
    for wait in waits:
        connection.close_if_unusable_or_obsolete()
        time.sleep(wait)
        try:
            lease.renew()
            # A write may have been kept although its answer was lost with the connection.
            lease.chunk.refresh_from_db(fields=["cursor"])
            return True
        except _DATABASE_GONE as error:
            log.warning("The database is not back yet: %s", error)
    return False


def _settle_if_cancelled(job_id: int) -> None:
    """End what a cancelled job handed in, and keep what was answered: it is paid for."""
    job = Job.objects.filter(pk=job_id, state=Job.State.CANCELLED, by_batch=True).first()
    if job is not None:
        work = work_of(job.kind)
        assert isinstance(work, CallWork)  # noqa: S101 (nothing else has calls to hand in)
        settle_cancelled(job, work)


def _stop_job(job_id: int, stop: CannotGoOn) -> None:
    job = Job.objects.get(pk=job_id)
    try:
        if stop.pause:
            job_pause(job, failure=stop.failure, reason=stop.reason)
        else:
            job_fail(job, failure=stop.failure, reason=stop.reason)
    except JobStateError:
        log.info("%s was already stopped", job)


def run_to_end(job_id: int) -> None:
    """Run every chunk of the job in this process, one after the other with all of the job's calls in flight."""
    Job.objects.filter(pk=job_id).update(parallel=1)
    while run_next_chunk(job_id):
        pass
