"""Jobs that ask a model once per subject: claim and load, call, write; stop on pause, cancel, limit or outage."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice

from django.conf import settings
from django.utils import timezone

from jobs import answers, shutdown
from jobs.batching import run_by_batch
from jobs.calling import Calls, Outcome
from jobs.leases import Lease, Progress, chunks_on_connection, is_another_waiting
from jobs.models import Job
from jobs.unwritten import Unwritten
from jobs.work import CannotGoOn, Work
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import Price, token_cost
from mllm.registry import ConnectionSettings
from mllm.tokens import estimate_tokens

# Failures that say something about the provider, not about the item.
OUTAGES = frozenset({Failure.UNREACHABLE, Failure.SERVER_ERROR, Failure.TIMED_OUT, Failure.RATE_LIMITED})
# So many of them in a row, each after its retries, and the job pauses rather than fail every item.
OUTAGE_STREAK = 10
# Results are written when a batch is full or this old, so that progress is seen and a kill loses little.
WRITE_EVERY_SECONDS = 0.25
SHARED_EVERY_SECONDS = 1.0
# A chunk holds its process for so long at least. Then it gives way to a job that is seen waiting for one at two looks,
# and comes back after a pause in which others have theirs: calls to a slow model may take hours.
TURN_SECONDS = 30.0
TURN_LOOKED_EVERY_SECONDS = 5.0
TURN_PAUSE = timedelta(seconds=5)


class CallWork(Work):
    """One model call a subject. Subclasses say what to ask and how an answer is kept."""

    @abstractmethod
    def connection(self, job: Job) -> ConnectionSettings:
        """Where the calls go. Raises CannotGoOn when it cannot be used."""

    @abstractmethod
    def price(self, job: Job) -> Price | None:
        """What the calls cost; None when nobody knows, and then no spend limit can be set."""

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
        if job.by_batch:
            return run_by_batch(self, lease)
        todo = self.open_subjects(job, chunk.subjects, since=chunk.created_at)
        connection = self.connection(job)
        unwritten = Unwritten(chunk)
        arrived = unwritten.read()
        requests = _with_kept_answers(self.requests(job, todo), connection)
        calls = Calls(connection)
        sharing = _Sharing(calls, lease)
        turn = _Turn(job)
        budget = _Budget(job, self.price(job))
        batch = _Batch(self, lease, budget)
        upcoming = next(requests, None)
        going, gives_way = True, False
        try:
            while upcoming is not None or calls.outstanding:
                sharing.look_if_due()
                # As many again wait on the loop as are in flight: it never idles while this thread writes.
                while (
                    going
                    and upcoming is not None
                    and calls.outstanding < max(1, 2 * calls.limit)
                    and not batch.is_full
                ):
                    subject, request, key = upcoming
                    if isinstance(request, CallError):
                        batch.add(Outcome(subject, error=request))
                    elif isinstance(request, Reply):
                        batch.add(Outcome(subject, reply=request, reused=True))
                    elif (subject, key) in arrived:
                        batch.keys[subject] = key
                        batch.add(Outcome(subject, reply=arrived[subject, key]))
                    elif budget.reserve(subject, request):
                        batch.keys[subject] = key
                        calls.submit(subject, request, arrived=partial(unwritten.keep, subject, key))
                    else:
                        break
                    upcoming = next(requests, None)
                for outcome in calls.collect(settings.WRITE_BATCH, wait=WRITE_EVERY_SECONDS):
                    batch.add(outcome)
                if batch.write_if_due(now=not calls.outstanding):
                    going = going and batch.stop is None and lease.may_go_on() and not shutdown.requested()
                    if going and upcoming is not None and turn.is_over():
                        going, gives_way = False, True
                lease.renew_if_due()
                if not going:
                    calls.stop_starting()
                    if not calls.outstanding:
                        break
                elif upcoming is not None and not calls.outstanding and isinstance(upcoming[1], Request):
                    budget.check_room(upcoming[1])
        finally:
            calls.stop_starting()
        if batch.stop is not None:
            raise batch.stop
        if gives_way:
            lease.release(until=timezone.now() + TURN_PAUSE)
        complete = upcoming is None and going
        if complete:
            batch.write_streak()
            unwritten.forget()
        return complete


class _Sharing:
    """The part of a connection's calls that this chunk may make, looked up every second while it runs."""

    def __init__(self, calls: Calls, lease: Lease) -> None:
        self._calls = calls
        self._lease = lease
        self._looked = float("-inf")

    def look_if_due(self) -> None:
        if time.monotonic() - self._looked < SHARED_EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        users = chunks_on_connection(self._lease.job)
        if self._lease.chunk.pk in users:
            self._calls.share(users.index(self._lease.chunk.pk), len(users))


class _Turn:
    """How long a chunk may keep its process while other jobs wait for one."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._next_look = time.monotonic() + TURN_SECONDS
        self._is_awaited = False

    def is_over(self) -> bool:
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + TURN_LOOKED_EVERY_SECONDS
        was_awaited, self._is_awaited = self._is_awaited, is_another_waiting(self._job)
        return was_awaited and self._is_awaited


# Requests whose kept answers are looked up with one query.
_LOOKED_UP = 50
_Asked = Request | CallError


def _with_kept_answers(
    requests: Iterator[tuple[int, _Asked]], connection: ConnectionSettings
) -> Iterator[tuple[int, _Asked | Reply, str]]:
    """Each subject with its request and the request's key, or with the reply where it is kept."""
    while block := list(islice(requests, _LOOKED_UP)):
        keys = [
            answers.request_key(connection, request) if isinstance(request, Request) else ""
            for _, request in block
        ]
        kept = answers.find([key for key in keys if key])
        for (subject, request), key in zip(block, keys, strict=True):
            yield subject, kept.get(key, request), key


class _Budget:
    """The most that the calls under way can cost, so that the spend limit holds whatever is answered.

    A call counts with its tokens as estimated, an answer of full length, or the job's mean cost, whichever is
    most; so near the limit fewer calls run at once, and the last part of the limit may stay unspent.
    """

    def __init__(self, job: Job, price: Price | None) -> None:
        self._job = job
        self._price = price
        self._most: dict[int, Decimal] = {}
        self._reserved = Decimal(0)

    def reserve(self, subject: int, request: Request) -> bool:
        """Set aside what the call may cost; False when the limit has no room for it."""
        if self._job.spend_limit is None:
            return True
        most = self._most_cost(request)
        if self._job.cost + self._reserved + most > self._job.spend_limit:
            return False
        self._most[subject] = most
        self._reserved += most
        return True

    def arrived(self, outcome: Outcome) -> None:
        """What the call cost is known from here on, although it is not written yet."""
        said = outcome.reply or outcome.error
        if said is None or self._price is None or outcome.subject not in self._most:
            return
        cost = token_cost(self._price, said.input_tokens, said.output_tokens, said.cached_tokens)
        self._reserved += cost - self._most[outcome.subject]
        self._most[outcome.subject] = cost

    def settle(self, subject: int) -> None:
        """The call costs nothing, or what it cost is in the job's own figure."""
        self._reserved -= self._most.pop(subject, Decimal(0))

    def check_room(self, request: Request) -> None:
        """Raise CannotGoOn when not even this one call fits into the limit."""
        limit, most = self._job.spend_limit, self._most_cost(request)
        if limit is not None and self._job.cost + self._reserved + most > limit:
            raise CannotGoOn(
                f"The spend limit of US$ {limit:.4f} is reached: US$ {self._job.cost:.4f} is spent, "
                f"and the next call may cost up to US$ {most:.4f}.",
                failure=Failure.SPEND_LIMIT,
            )

    def _most_cost(self, request: Request) -> Decimal:
        job = self._job
        mean = job.cost / job.done if job.done else Decimal(0)
        if self._price is None:
            return max(job.expected_call_cost, mean)
        longest = token_cost(self._price, estimate_tokens(request), request.max_tokens)
        return max(longest, mean)


class _Batch:
    """Outcomes on their way into the database; holds back a streak of outage failures until it is judged."""

    def __init__(self, work: CallWork, lease: Lease, budget: _Budget) -> None:
        self.work = work
        self.lease = lease
        self.budget = budget
        self.ready: list[Outcome] = []
        self.streak: list[Outcome] = []
        self.keys: dict[int, str] = {}  # of the requests under way
        self.stop: CannotGoOn | None = None
        self.written = time.monotonic()
        self._most = settings.WRITE_BATCH

    @property
    def is_full(self) -> bool:
        return len(self.ready) >= self._most

    def add(self, outcome: Outcome) -> None:
        error = outcome.error
        self.budget.arrived(outcome)
        if error is not None and not (error.input_tokens or error.output_tokens):
            self.budget.settle(outcome.subject)
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

    def write_if_due(self, *, now: bool) -> bool:
        """Write what is ready when it fills a batch or is old enough. True when it was time, whatever there was."""
        due = now or self.is_full or self.stop is not None
        if not due and time.monotonic() - self.written < WRITE_EVERY_SECONDS:
            return False
        while self.ready:
            outcomes = self.ready[: self._most]
            self.ready = self.ready[self._most :]
            self.lease.write(partial(self._write, outcomes))
            for outcome in outcomes:
                self.budget.settle(outcome.subject)
        self.written = time.monotonic()
        return True

    def _write(self, outcomes: Sequence[Outcome]) -> Progress:
        """Runs within the lease's transaction. Only answers that could be used are kept for other jobs."""
        progress = self.work.write(self.lease.job, outcomes)
        keys = {outcome.subject: self.keys.pop(outcome.subject, "") for outcome in outcomes}
        answers.keep(
            {
                keys[outcome.subject]: outcome.reply
                for outcome in outcomes
                if outcome.reply is not None and keys[outcome.subject] and outcome.subject in progress.usable
            }
        )
        return progress

    def write_streak(self) -> None:
        """At the end of the chunk: too few failures in a row for an outage are failures of their items."""
        self.ready, self.streak = self.streak, []
        self.write_if_due(now=True)
