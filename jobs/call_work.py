"""Jobs that ask a model once per subject: claim and load, call, write; stop on pause, cancel, limit or outage."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial

from django.conf import settings

from jobs import shutdown
from jobs.calling import Calls, Outcome
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.work import CannotGoOn, Work
from mllm.errors import CallError, Failure
from mllm.messages import Request
from mllm.registry import ConnectionSettings

# Failures that say something about the provider, not about the item.
OUTAGES = frozenset({Failure.UNREACHABLE, Failure.SERVER_ERROR, Failure.TIMED_OUT, Failure.RATE_LIMITED})
# So many of them in a row, each after its retries, and the job pauses rather than fail every item.
OUTAGE_STREAK = 10
# Results are written when a batch is full or this old, so that progress is seen and a kill loses little.
WRITE_EVERY_SECONDS = 0.25


class CallWork(Work):
    """One model call a subject. Subclasses say what to ask and how an answer is kept."""

    @abstractmethod
    def connection(self, job: Job) -> ConnectionSettings:
        """Where the calls go. Raises CannotGoOn when it cannot be used."""

    @abstractmethod
    def open_subjects(self, job: Job, subjects: Sequence[int], *, since: datetime) -> list[int]:
        """Those without a usable result and without a failure recorded after `since`, in order."""

    @abstractmethod
    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        """What to ask about each; a CallError where it cannot even be asked (an unreadable image, say)."""

    @abstractmethod
    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        """Store the results, inside the lease's transaction."""

    def run(self, lease: Lease) -> bool:
        job, chunk = lease.job, lease.chunk
        todo = self.open_subjects(job, chunk.subjects, since=chunk.created_at)
        requests = self.requests(job, todo)
        in_flight = max(1, job.in_flight // job.parallel)
        calls = Calls(self.connection(job), in_flight=in_flight)
        batch = _Batch(self, lease)
        upcoming = next(requests, None)
        going = True
        while upcoming is not None or calls.outstanding:
            # As many again wait on the loop as are in flight: it never idles while this thread writes.
            while going and upcoming is not None and calls.outstanding < 2 * in_flight:
                if not _within_limit(job, calls.outstanding + batch.size + 1):
                    break
                subject, request = upcoming
                if isinstance(request, CallError):
                    batch.add(Outcome(subject, error=request))
                else:
                    calls.submit(subject, request)
                upcoming = next(requests, None)
            for outcome in calls.collect(settings.WRITE_BATCH, wait=WRITE_EVERY_SECONDS):
                batch.add(outcome)
            if batch.write_if_due(last=not calls.outstanding):
                going = going and batch.stop is None and lease.may_go_on() and not shutdown.requested()
            lease.renew_if_due()
            if not going:
                calls.stop_starting()
                if not calls.outstanding:
                    break
            elif upcoming is not None and not calls.outstanding and not _within_limit(job, 1):
                raise CannotGoOn(
                    f"The spend limit of US$ {job.spend_limit:.2f} is reached.", failure=Failure.SPEND_LIMIT
                )
        batch.write_if_due(last=True)
        if batch.stop is not None:
            raise batch.stop
        return upcoming is None and going


def _within_limit(job: Job, calls_out: int) -> bool:
    """Whether the spend limit still has room for this many calls at the usual price, in each chunk that runs."""
    if job.spend_limit is None:
        return True
    answered = max(1, job.done)
    each = max(job.expected_call_cost, job.cost / answered if job.done else Decimal(0))
    return job.cost + each * calls_out * job.parallel <= job.spend_limit


class _Batch:
    """Outcomes on their way into the database; holds back a streak of outage failures until it is judged."""

    def __init__(self, work: CallWork, lease: Lease) -> None:
        self.work = work
        self.lease = lease
        self.ready: list[Outcome] = []
        self.streak: list[Outcome] = []
        self.stop: CannotGoOn | None = None
        self.written = time.monotonic()

    @property
    def size(self) -> int:
        return len(self.ready) + len(self.streak)

    def add(self, outcome: Outcome) -> None:
        error = outcome.error
        if error is not None and error.fatal:
            self.stop = CannotGoOn(error.message, failure=error.failure)
        elif error is not None and error.failure in OUTAGES:
            self.streak.append(outcome)
            if len(self.streak) >= OUTAGE_STREAK and self.stop is None:
                self.stop = CannotGoOn(
                    f"{OUTAGE_STREAK} calls in a row failed. The last one said: {error.message}",
                    failure=error.failure,
                )
        else:
            self.ready += [*self.streak, outcome]
            self.streak = []

    def write_if_due(self, *, last: bool) -> bool:
        """Write what is ready when it fills a batch or is old enough. True when it was time, whatever there was."""
        due = last or len(self.ready) >= settings.WRITE_BATCH
        if not due and self.stop is None and time.monotonic() - self.written < WRITE_EVERY_SECONDS:
            return False
        if last and self.stop is None:
            self.ready += self.streak
            self.streak = []
        while self.ready:
            outcomes = self.ready[: settings.WRITE_BATCH]
            self.ready = self.ready[settings.WRITE_BATCH :]
            self.lease.write(partial(self.work.write, self.lease.job, outcomes))
        self.written = time.monotonic()
        return True
