"""The job that makes vectors of items: here, or by a provider's embeddings model with many texts a call."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial

from django.conf import settings

from annotate.connections import ConnectionProblem, price_of, settings_of
from annotate.contents import BLOCK
from annotate.full_disk import pausing_on_full_disk
from annotate.models import ItemVector, VectorVersion
from annotate.vectors import (
    Kind,
    Seen,
    fit_version,
    items_seen,
    unsettled_items,
    vector_rows,
    write_rows,
    written_text,
)
from jobs import shutdown
from jobs.call_work import CallWork
from jobs.calling import Outcome
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.recording import call_fields
from jobs.work import CannotGoOn, Work
from mllm.errors import CallError, Failure
from mllm.messages import EmbeddingRequest, Embeddings, Request
from mllm.prices import Price
from mllm.registry import ConnectionSettings

TEXTS_A_CALL = 32
# What may be one text's fault: the others of its call are asked again without it.
_ONE_TEXTS_FAULT = frozenset(
    {Failure.BAD_REQUEST, Failure.TOO_LARGE, Failure.CONTENT_FILTERED, Failure.REFUSED}
)


class VectorWork(Work):
    kind = "vectors"

    def run(self, lease: Lease) -> bool:
        version = (
            VectorVersion.objects.defer("fitted").select_related("project", "connection").get(job=lease.job)
        )
        with pausing_on_full_disk():
            try:
                fit_version(version, lease.renew_if_due)
            except ValueError as error:
                raise CannotGoOn(str(error), failure=Failure.BAD_REQUEST) from error
            if version.kind == Kind.EMBEDDINGS:
                return self._embed(version, lease)
            return self._make(version, lease)

    def _embed(self, version: VectorVersion, lease: Lease) -> bool:
        together = _Embedding(version, TEXTS_A_CALL)
        if not together.run(lease):
            return False
        # The items of calls that were refused have no row yet.
        return not together.refused or _Embedding(version, 1).run(lease)

    def _make(self, version: VectorVersion, lease: Lease) -> bool:
        fitted = fit_version(version)
        todo = unsettled_items(version, lease.chunk.subjects, lease.chunk.created_at)
        for start in range(0, len(todo), settings.WRITE_BATCH):
            if not lease.may_go_on() or shutdown.requested():
                return False
            seen = items_seen(version, todo[start : start + settings.WRITE_BATCH])
            rows = vector_rows(version, fitted, seen)
            lease.write(partial(write_rows, version, rows))
        return True


class _Embedding(CallWork):
    """The calls of one chunk: each asks for the vectors of `size` items' texts and is known by the first item's id."""

    kind = VectorWork.kind

    def __init__(self, version: VectorVersion, size: int) -> None:
        self.refused = False
        self._version = version
        self._size = size
        self._fitted = fit_version(version)
        self._price = price_of(version.provider, version.model)
        self._asked: dict[int, list[Seen]] = {}

    def connection(self, job: Job) -> ConnectionSettings:
        if self._version.connection is None:
            raise CannotGoOn(
                "The connection of these vectors was deleted. Start them again with another one.",
                failure=Failure.AUTHENTICATION,
            )
        try:
            return settings_of(self._version.connection)
        except ConnectionProblem as error:
            raise CannotGoOn(str(error), failure=Failure.AUTHENTICATION) from error

    def price(self, job: Job) -> Price | None:
        return self._price

    def open_subjects(self, job: Job, subjects: Sequence[int], *, since: datetime) -> list[int]:
        return unsettled_items(self._version, subjects, since)

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        # Images are looked at here, where nothing waits for the database.
        together: list[Seen] = []
        for start in range(0, len(subjects), BLOCK):
            for one in items_seen(self._version, subjects[start : start + BLOCK]):
                item, image = one
                unusable = image if isinstance(image, str) else ""
                if not unusable and not written_text(item):
                    unusable = "The item has no text to make a vector of."
                if unusable:
                    self._asked[item.pk] = [one]
                    yield item.pk, CallError(Failure.BAD_REQUEST, unusable)
                    continue
                together.append(one)
                if len(together) == self._size:
                    yield self._request(together)
                    together = []
        if together:
            yield self._request(together)

    def _request(self, together: list[Seen]) -> tuple[int, EmbeddingRequest]:
        first = together[0][0].pk
        self._asked[first] = together
        texts = tuple(written_text(item) for item, _ in together)
        return first, EmbeddingRequest(model=self._version.model, system="", parts=texts, max_tokens=0)

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        written = [self._write(outcome) for outcome in outcomes]
        return Progress(
            done=sum(one.done for one in written),
            failed=sum(one.failed for one in written),
            input_tokens=sum(one.input_tokens for one in written),
            cost=sum((one.cost for one in written), Progress().cost),
        )

    def _write(self, outcome: Outcome) -> Progress:
        seen = self._asked.pop(outcome.subject)
        error = outcome.error
        if error is not None and len(seen) > 1 and error.failure in _ONE_TEXTS_FAULT:
            self.refused = True
            rows = []
        elif error is not None:
            rows = [
                ItemVector(version=self._version, item=item, failure=error.failure, message=error.message)
                for item, _ in seen
            ]
        else:
            reply = outcome.reply
            assert isinstance(reply, Embeddings)  # noqa: S101 (nothing else answers such a request)
            rows = vector_rows(self._version, self._fitted, seen, reply.vectors)
        counted = write_rows(self._version, rows)
        fields = call_fields(outcome, self._price)
        return Progress(
            done=counted.done,
            failed=counted.failed,
            input_tokens=fields["input_tokens"],
            cost=fields["cost"] or Progress().cost,
        )
