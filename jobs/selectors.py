"""What pages and the API say about a job."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, QuerySet
from django.utils import timezone

from jobs.models import Job, ModelCall, ProviderBatch

# How each failure is called on pages, and what to do about it.
FAILURE_NAMES = {
    "refused": ("Refused", "The model declined to answer. Send these items to people or try another model."),
    "unparseable": (
        "Unparseable",
        "The answer did not have the form that was asked for. Try the other format or a stronger model.",
    ),
    "rate_limited": ("Rate-limited", "The provider allows fewer calls. Lower the calls at once and retry."),
    "timed_out": ("Timed out", "No answer in time. Raise the connection's time limit or retry."),
    "content_filtered": ("Content-filtered", "The provider's filter stopped it. Send these items to people."),
    "too_large": ("Too large", "The item does not fit the model. Use one that takes longer input."),
    "authentication": ("Authentication", "The key was not accepted. Mend the connection and resume."),
    "server_error": ("Server error", "The provider failed. Retry later."),
    "database": ("Database", "The database took no results. See that it runs and has room, then resume."),
    "spend_limit": ("Spend limit", "The run spent its limit. Resume it with a higher one."),
    "model_not_found": ("Model not found", "The provider has no such model for this key."),
    "bad_request": ("Bad request", "The provider did not accept the call as it was sent."),
    "no_votes": (
        "No votes",
        "No annotator that votes has a label for it. Retry it in their runs, then here.",
    ),
    "no_answer": (
        "No answer",
        "The agent that a plan gave it to has no answer. Retry it in the agent's run first, then here.",
    ),
    "to_person": ("Given to a person", "The router gave it to people: it waits in their round of review."),
    "unreachable": ("Unreachable", "The provider did not answer at this address. Check the connection."),
}


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job at a moment. `rate` is subjects a second; `eta` seconds, None while unknown.

    Of a job by batch, `handed_in` calls wait at the provider, which has `answered` of them so far.
    """

    state: str
    failure: str
    reason: str
    total: int
    done: int
    failed: int
    share: float
    rate: float
    eta: float | None
    input_tokens: int
    output_tokens: int
    cost: float
    spend_limit: float | None
    started_at: datetime | None
    finished_at: datetime | None
    by_batch: bool = False
    handed_in: int = 0
    answered: int = 0


def job_progress(job: Job) -> JobProgress:
    rate = _rate(job)
    batches = _open_batches(job) if job.by_batch else []
    left = max(0, job.total - job.done)
    return JobProgress(
        state=job.state,
        failure=job.failure,
        reason=job.reason,
        total=job.total,
        done=job.done,
        failed=job.failed,
        share=job.share_done,
        rate=rate,
        eta=left / rate if rate and job.is_active and not job.by_batch else None,
        input_tokens=job.input_tokens,
        output_tokens=job.output_tokens,
        cost=float(job.cost),
        spend_limit=None if job.spend_limit is None else float(job.spend_limit),
        started_at=job.started_at,
        finished_at=job.finished_at,
        by_batch=job.by_batch,
        handed_in=sum(len(batch.subjects) for batch in batches),
        answered=sum(batch.answered for batch in batches),
    )


def _open_batches(job: Job) -> list[ProviderBatch]:
    return list(ProviderBatch.objects.filter(chunk__job=job, state=ProviderBatch.State.WAITING))


def _rate(job: Job) -> float:
    if job.pace_since is None:
        return 0.0
    seconds = ((job.finished_at or timezone.now()) - job.pace_since).total_seconds()
    return (job.done - job.pace_done) / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many results failed in one way: its name, the people's word for it, and what they can do."""

    name: str
    label: str
    advice: str
    count: int


def failures_by_name(rows: "QuerySet[ModelCall]") -> list[FailureCount]:
    """The failures among result rows, most frequent first."""
    counts = rows.exclude(failure="").values("failure").annotate(count=Count("pk")).order_by("-count")
    return [
        FailureCount(row["failure"], *FAILURE_NAMES.get(row["failure"], (row["failure"], "")), row["count"])
        for row in counts
    ]
