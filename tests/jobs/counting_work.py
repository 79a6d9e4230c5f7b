"""A kind of work for tests: it asks about numbers, and keeps the answers in memory with the job's counters."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from jobs.call_work import CallWork
from jobs.calling import Outcome
from jobs.leases import Progress
from jobs.models import Job
from jobs.services import job_create
from mllm.errors import CallError
from mllm.messages import Request
from mllm.prices import Price
from mllm.registry import ConnectionSettings


class CountingWork(CallWork):
    kind = "counting"

    def __init__(self, price: Price | None = None) -> None:
        self.rows: dict[int, Outcome] = {}
        self.in_rows = 0
        self.finished_jobs: list[int] = []
        self._price = price

    def connection(self, job: Job) -> ConnectionSettings:
        return ConnectionSettings(provider="scripted", max_in_flight=job.in_flight)

    def price(self, job: Job) -> Price | None:
        return self._price

    def open_subjects(self, job: Job, subjects: Sequence[int], *, since: datetime) -> list[int]:
        return [subject for subject in subjects if subject not in self.rows]

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        for subject in subjects:
            yield subject, Request(model="counter", system="", parts=(str(subject),), max_tokens=10)

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        failed = 0
        cost = Decimal(0)
        for outcome in outcomes:
            assert outcome.subject not in self.rows
            self.rows[outcome.subject] = outcome
            failed += outcome.error is not None
            if outcome.reply is not None and self._price is not None:
                cost += self._price.output * outcome.reply.output_tokens / 1_000_000
        return Progress(done=len(outcomes), failed=failed, cost=cost)

    def finished(self, job: Job) -> None:
        self.finished_jobs.append(job.pk)


def make_counting_job(count: int = 20, **options: object) -> Job:
    return job_create(kind="counting", subjects=range(1, count + 1), **options)  # type: ignore[arg-type]


def numbers_asked(requests: Sequence[Request]) -> list[int]:
    """The subjects of what an adapter was asked."""
    return [int(str(request.parts[0])) for request in requests]
