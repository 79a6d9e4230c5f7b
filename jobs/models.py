"""Durable bulk work. The rows here are the truth; a queue message only says that there may be something to do.

A job is cut into chunks of subject ids (of items, annotations, …: this room does not care). A worker process leases a
chunk with one conditional UPDATE, writes results in small transactions that are fenced by the lease's token, and marks
the chunk done. A process that dies leaves an expired lease behind, which anyone may take over.
"""

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils import timezone


class Job(models.Model):
    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        CANCELLED = "cancelled", "Cancelled"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    UNFINISHED = (State.QUEUED, State.RUNNING, State.PAUSED)

    kind = models.CharField(max_length=32)
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    # Why it stopped by itself: one of the failure names, and the sentence that people read.
    failure = models.CharField(max_length=32, blank=True)
    reason = models.TextField(blank=True)

    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(
        default=0, help_text="Subjects with a written result, failed ones included."
    )
    failed = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0), help_text="US$ so far.")
    spend_limit = models.DecimalField(max_digits=12, decimal_places=4, null=True, blank=True, help_text="US$")
    expected_call_cost = models.DecimalField(max_digits=12, decimal_places=8, default=Decimal(0))

    in_flight = models.PositiveSmallIntegerField(default=8, help_text="Calls at once, over all its chunks.")
    connection_key = models.CharField(
        max_length=64, blank=True, help_text="Jobs with the same one share the connection's calls in flight."
    )
    parallel = models.PositiveSmallIntegerField(default=1, help_text="Chunks at once.")
    by_batch = models.BooleanField(
        default=False,
        help_text="Its calls are handed in together and answered within a day, at half the price.",
    )

    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    # When it last began to run and what was done by then: its pace is measured from here.
    pace_since = models.DateTimeField(null=True, blank=True)
    pace_done = models.PositiveIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(
                fields=["created_at"], name="job_unfinished", condition=Q(state__in=["queued", "running"])
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(failed__lte=F("done")), name="job_failed_within_done"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} job {self.pk} ({self.state})"

    @property
    def is_active(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    @property
    def is_finished(self) -> bool:
        return self.state not in self.UNFINISHED

    @property
    def succeeded(self) -> int:
        return self.done - self.failed

    @property
    def share_done(self) -> float:
        """Between 0 and 1."""
        if self.state == self.State.DONE:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0


class Chunk(models.Model):
    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    subjects = models.JSONField(default=list)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    # Where work without subject ids (an import, an export) goes on after its process died.
    cursor = models.PositiveBigIntegerField(default=0)
    not_before = models.DateTimeField(
        null=True, blank=True, help_text="When to look again whether what it waits for is there."
    )
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    leases = models.PositiveSmallIntegerField(
        default=0, help_text="How often it was taken since it was last handed back."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="chunk_number")]
        indexes = [
            models.Index(fields=["job", "number"], name="chunk_open", condition=~Q(state="done")),
            models.Index(fields=["lease_until"], name="chunk_running", condition=Q(state="running")),
        ]

    def __str__(self) -> str:
        return f"chunk {self.number} of job {self.job_id}"


class ProviderBatch(models.Model):
    """Calls of a chunk that were handed in together. The row is written before they are, so that none is paid twice."""

    class State(models.TextChoices):
        SUBMITTING = "submitting", "Being handed in"
        WAITING = "waiting", "Waiting for its answers"
        DONE = "done", "Its answers are written"
        LOST = "lost", "Never handed in"
        REFUSED = "refused", "Refused by the provider"

    OPEN = (State.SUBMITTING, State.WAITING)

    chunk = models.ForeignKey(Chunk, on_delete=models.CASCADE, related_name="batches")
    token = models.CharField(max_length=32, unique=True, help_text="Marks the batch at the provider as ours.")
    provider_id = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=16, choices=State, default=State.SUBMITTING)
    subjects = models.JSONField(help_text="Answer keys by subject id.")
    most_cost = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0), help_text="US$")
    answered = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    message = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    looked_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "provider batches"
        indexes = [
            models.Index(
                fields=["looked_at"], name="batch_open", condition=Q(state__in=["submitting", "waiting"])
            )
        ]

    def __str__(self) -> str:
        return f"batch {self.provider_id or self.token} of {self.chunk}"


class Heartbeat(models.Model):
    """One row: when a worker last did anything. No row newer than a minute means that nobody works."""

    seen_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"worker seen {self.seen_at:%F %T}"


class KeptAnswer(models.Model):
    """What a model answered to a request, by the digest of the request (see `jobs.answers`)."""

    key = models.CharField(max_length=64, primary_key=True)
    reply = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.key


class ModelCall(models.Model):
    """Everything a model said about one subject: the base of each room's result rows.

    `failure` is empty for a usable answer. A failed row may be asked again; what it held moves to `earlier`.
    """

    failure = models.CharField(max_length=32, blank=True, default="")
    message = models.TextField(blank=True, default="", help_text="The failure in the user's words.")
    raw_text = models.TextField(blank=True, default="")
    reasoning = models.TextField(blank=True, default="")
    logprobs = models.JSONField(null=True, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(
        max_digits=12, decimal_places=8, null=True, help_text="US$; empty without a price."
    )
    latency = models.FloatField(default=0.0, help_text="Seconds.")
    attempts = models.PositiveSmallIntegerField(default=1)
    reused = models.BooleanField(
        default=False, help_text="An answer kept from an identical request: its cost was paid then, not now."
    )
    model_returned = models.CharField(max_length=200, blank=True, default="")
    earlier = models.JSONField(default=list, blank=True)
    recorded_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True

    def as_earlier(self) -> dict[str, Any]:
        """What is kept of a failed attempt when it is asked again."""
        return {
            "failure": self.failure,
            "message": self.message,
            "raw_text": self.raw_text,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": None if self.cost is None else str(self.cost),
            "model_returned": self.model_returned,
            "recorded_at": self.recorded_at.isoformat(),
        }
