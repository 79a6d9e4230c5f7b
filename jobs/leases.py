"""Claiming chunks, and the fenced writes that only a live lease may make."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from jobs import liveness
from jobs.models import Chunk, Job


def lease_length() -> timedelta:
    return timedelta(seconds=settings.LEASE_SECONDS)


def leased_at(now: datetime) -> Q:
    """Chunks that somebody holds. A lease that runs for longer than any is given was given before the clock was set
    back: whoever is alive has renewed it in a moment, and nobody waits for the hours in between.
    """
    return Q(state=Chunk.State.RUNNING, lease_until__gt=now, lease_until__lte=now + 2 * lease_length())


def claimable_at(now: datetime) -> Q:
    waits = Q(state=Chunk.State.WAITING) & (Q(not_before=None) | Q(not_before__lte=now))
    return waits | (Q(state=Chunk.State.RUNNING) & ~leased_at(now))


class LeaseLost(Exception):
    """Another process took the chunk over; what this one still holds must not be written."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one written batch adds to its job's counters, and which subjects have a usable result now."""

    done: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    usable: frozenset[int] = frozenset()


@dataclass
class Lease:
    """The right to work on one chunk, for as long as it is renewed."""

    job: Job
    chunk: Chunk
    token: uuid.UUID
    renewed: float = field(default_factory=time.monotonic)

    def _renew_row(self, **changes: object) -> None:
        held = Chunk.objects.filter(pk=self.chunk.pk, lease_token=self.token, state=Chunk.State.RUNNING)
        if not held.update(lease_until=timezone.now() + lease_length(), **changes):
            raise LeaseLost(f"{self.chunk} was taken over")
        self.renewed = time.monotonic()

    def renew(self) -> None:
        """Prolong the lease. Raises LeaseLost when it is no longer ours."""
        self._renew_row()
        liveness.beat()

    def renew_if_due(self) -> None:
        if time.monotonic() - self.renewed > lease_length().total_seconds() / 4:
            self.renew()

    def write(self, rows: Callable[[], Progress], *, cursor: int | None = None) -> None:
        """Run `rows` (which writes results and says what they add) in one transaction with fence and counters."""
        with transaction.atomic():
            self._renew_row(**({} if cursor is None else {"cursor": cursor}))
            progress = rows()
            Job.objects.filter(pk=self.job.pk).update(
                done=F("done") + progress.done,
                failed=F("failed") + progress.failed,
                input_tokens=F("input_tokens") + progress.input_tokens,
                output_tokens=F("output_tokens") + progress.output_tokens,
                cost=F("cost") + progress.cost,
            )
        if cursor is not None:
            self.chunk.cursor = cursor
        liveness.beat()

    def may_go_on(self) -> bool:
        """Whether new work may be started: the job is running. Reads afresh what changes while it runs."""
        self.job.refresh_from_db(fields=("state", "done", "cost", "spend_limit"))
        return self.job.state == Job.State.RUNNING

    def complete(self) -> None:
        """The chunk is done. Raises LeaseLost when it is no longer ours to say so."""
        self._renew_row(state=Chunk.State.DONE)

    def release(self, *, until: datetime | None = None) -> None:
        """Hand the chunk back unfinished (paused, or its process is told to stop); nobody takes it before `until`."""
        Chunk.objects.filter(pk=self.chunk.pk, lease_token=self.token, state=Chunk.State.RUNNING).update(
            state=Chunk.State.WAITING, lease_token=None, lease_until=None, leases=0, not_before=until
        )


def chunks_on_connection(job: Job) -> list[int]:
    """Ids of the chunks that are running now over the job's connection, in an order that all of them agree on."""
    running = Chunk.objects.filter(leased_at(timezone.now()))
    if job.connection_key:
        running = running.filter(job__connection_key=job.connection_key)
    else:
        running = running.filter(job=job)
    return list(running.order_by("pk").values_list("pk", flat=True))


def is_another_waiting(job: Job) -> bool:
    """Whether there is another job with something to do, and no process at work on it."""
    now = timezone.now()
    at_work = Chunk.objects.filter(leased_at(now), job=OuterRef("job"))
    todo = Chunk.objects.filter(claimable_at(now), job__state__in=[Job.State.QUEUED, Job.State.RUNNING])
    return todo.exclude(job=job).filter(~Exists(at_work)).exists()


@transaction.atomic
def claim(job_id: int) -> Lease | None:
    """Lease the job's next open chunk, or None: nothing open, enough running, or the job is not active."""
    # Claims of a job wait for each other: two that count its live chunks at once would start one too many.
    active = Job.objects.select_for_update().filter(state__in=[Job.State.QUEUED, Job.State.RUNNING])
    job = active.filter(pk=job_id).first()
    if job is None:
        return None
    now = timezone.now()
    live = job.chunks.filter(leased_at(now)).count()
    if live >= job.parallel:
        return None
    # A chunk whose row is locked is being written this moment, by a process that only seemed to be dead.
    free = job.chunks.select_for_update(skip_locked=True).filter(claimable_at(now))
    chunk = free.order_by("number").first()
    if chunk is None:
        return None
    chunk.state = Chunk.State.RUNNING
    chunk.lease_token = uuid.uuid4()
    chunk.lease_until = now + lease_length()
    chunk.leases += 1
    chunk.save(update_fields=["state", "lease_token", "lease_until", "leases"])
    Job.objects.filter(pk=job.pk, state=Job.State.QUEUED).update(
        state=Job.State.RUNNING, pace_since=now, pace_done=F("done")
    )
    Job.objects.filter(pk=job.pk, started_at=None).update(started_at=now)
    job.refresh_from_db()
    return Lease(job=job, chunk=chunk, token=chunk.lease_token)
