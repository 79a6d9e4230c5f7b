"""Chunks whose calls are handed in together: submit, look again later, write what was answered.

A batch's row is written before the batch is handed in and carries a token, so that after a crash in between the batch
is found at the provider instead of being paid for twice. While a batch waits, its chunk is nobody's: it can be taken
again at its `not_before`. A cancelled job's batches are cancelled at the provider, and what they answered is written.
"""

import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from jobs import answers
from jobs.calling import Outcome, batches_now, call_now
from jobs.leases import Lease, Progress
from jobs.models import Job, ProviderBatch
from jobs.work import CannotGoOn
from mllm.adapters.batches import (
    LARGEST_BATCH_BYTES,
    PRICE_SHARE,
    BatchAdapter,
    BatchState,
    BatchStatus,
    unanswered,
)
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import Price, token_cost
from mllm.registry import ConnectionSettings
from mllm.tokens import estimate_tokens

if TYPE_CHECKING:
    from jobs.call_work import CallWork

log = logging.getLogger(__name__)

State = ProviderBatch.State
# A batch is looked at often at first and then every few minutes.
FIRST_LOOK = timedelta(seconds=20)
LONGEST_LOOK = timedelta(minutes=5)
_SHARE = Decimal(str(PRICE_SHARE))


def run_by_batch(work: "CallWork", lease: Lease) -> bool:
    """Take the chunk as far as it goes now. True when all of it is written."""
    connection = work.connection(lease.job)
    batches = list(lease.chunk.batches.filter(state__in=ProviderBatch.OPEN))
    try:
        for batch in batches:
            lease.renew()
            _go_on(work, lease, connection, batch)
        if not lease.chunk.batches.filter(state__in=ProviderBatch.OPEN).exists():
            _submit_what_is_open(work, lease, connection)
    except CallError as error:
        if not error.retryable:
            raise CannotGoOn(error.message, failure=error.failure) from error
        log.warning("A batch of %s waits: %s", lease.chunk, error.message)
    waiting = lease.chunk.batches.filter(state__in=ProviderBatch.OPEN).order_by("created_at").first()
    todo = work.open_subjects(lease.job, lease.chunk.subjects, since=lease.chunk.created_at)
    if not todo and waiting is None:
        return True
    lease.release(until=timezone.now() + (_next_look(waiting) if waiting else FIRST_LOOK))
    return False


def _next_look(batch: ProviderBatch) -> timedelta:
    """A tenth of the time that it waits already, within limits."""
    return min(max((timezone.now() - batch.created_at) / 10, FIRST_LOOK), LONGEST_LOOK)


# --- Handing in ------------------------------------------------------------------------------------------------------


def _submit_what_is_open(work: "CallWork", lease: Lease, connection: ConnectionSettings) -> None:
    """Write what is known without a call, ask about one subject at once, and hand in the rest.

    The one call tells a wrong key, a model that is gone, and what the model wants asked otherwise, before thousands of
    requests fail on it together.
    """
    job = lease.job
    todo = work.open_subjects(job, lease.chunk.subjects, since=lease.chunk.created_at)
    requests = _requests_to_make(work, lease, connection, todo)
    first = next(requests, None)
    if first is None:
        return
    _check_room(work, job, [first[1]], share=Decimal(1))
    _write(work, lease, [_called(connection, *first[:2])], {first[0]: first[2]})
    while part := _part(work, lease, requests):
        if not lease.may_go_on():
            return
        _submit(work, lease, connection, part)


_Wanted = tuple[int, Request, str]  # a subject, what to ask, and the key of its answer


def _requests_to_make(
    work: "CallWork", lease: Lease, connection: ConnectionSettings, todo: Sequence[int]
) -> Iterator[_Wanted]:
    """What has to be asked; what is known without asking is written on the way."""
    requests = work.requests(lease.job, todo)
    while block := list(islice(requests, settings.WRITE_BATCH)):
        keys = {
            subject: answers.request_key(connection, request)
            for subject, request in block
            if isinstance(request, Request)
        }
        kept = answers.find(list(keys.values()))
        known: list[Outcome] = []
        wanted: list[_Wanted] = []
        for subject, request in block:
            if isinstance(request, CallError):
                known.append(Outcome(subject, error=request))
            elif keys[subject] in kept:
                known.append(Outcome(subject, reply=kept[keys[subject]], reused=True))
            else:
                wanted.append((subject, request, keys[subject]))
        if known:
            _write(work, lease, known, {})
        yield from wanted


def _called(connection: ConnectionSettings, subject: int, request: Request) -> Outcome:
    """One call made at once. Raises CallError where every other would fail in the same way."""
    try:
        return Outcome(subject, reply=call_now(connection, request))
    except CallError as error:
        if error.fatal or error.retryable:
            raise
        return Outcome(subject, error=error)


def _part(work: "CallWork", lease: Lease, requests: Iterator[_Wanted]) -> list[_Wanted]:
    """As many of the requests as a batch may hold."""
    part: list[_Wanted] = []
    size = 0
    for wanted in requests:
        part.append(wanted)
        size += _bytes_of(wanted[1])
        lease.renew_if_due()
        if size >= LARGEST_BATCH_BYTES:
            break
    return part


def _bytes_of(request: Request) -> int:
    """About what it takes on the wire, where images are written in base 64."""
    texts = len(request.system) + sum(len(part) for part in request.parts if isinstance(part, str))
    return 500 + 2 * texts + sum(4 * len(image.data) // 3 for image in request.images)


def _submit(work: "CallWork", lease: Lease, connection: ConnectionSettings, part: Sequence[_Wanted]) -> None:
    most = _check_room(work, lease.job, [request for _, request, _ in part], share=_SHARE)
    batch = ProviderBatch.objects.create(
        chunk=lease.chunk,
        token=uuid.uuid4().hex,
        subjects={str(subject): key for subject, _, key in part},
        most_cost=most,
    )
    lease.renew()
    requests = {str(subject): request for subject, request, _ in part}
    try:
        batch.provider_id = batches_now(
            connection, lambda adapter: adapter.batch_submit(requests, token=batch.token)
        )
    except CallError as error:
        # An answer that says no means that nothing was taken; silence may mean anything.
        if not error.retryable:
            batch.state, batch.message = State.REFUSED, error.message
            batch.save(update_fields=["state", "message"])
        raise
    batch.state = State.WAITING
    batch.save(update_fields=["provider_id", "state"])


def _check_room(work: "CallWork", job: Job, requests: Sequence[Request], *, share: Decimal) -> Decimal:
    """The most that the requests can cost in US$. Raises CannotGoOn where the job's limit has no room for them."""
    price = work.price(job)
    most = sum((_most_cost(job, price, request) for request in requests), Decimal(0)) * share
    if job.spend_limit is not None:
        open_batches = ProviderBatch.objects.filter(chunk__job=job, state__in=ProviderBatch.OPEN)
        under_way = open_batches.aggregate(most=Sum("most_cost"))["most"] or Decimal(0)
        job.refresh_from_db(fields=["cost"])
        if job.cost + under_way + most > job.spend_limit:
            raise CannotGoOn(
                f"The spend limit of US$ {job.spend_limit:.4f} has no room for the next batch: US$ {job.cost:.4f} is "
                f"spent, batches under way may cost US$ {under_way:.4f}, and this one up to US$ {most:.4f}.",
                failure=Failure.SPEND_LIMIT,
            )
    return most


def _most_cost(job: Job, price: Price | None, request: Request) -> Decimal:
    if price is None:
        return job.expected_call_cost
    return token_cost(price, estimate_tokens(request), request.max_tokens)


# --- Looking again and writing ---------------------------------------------------------------------------------------


def _go_on(work: "CallWork", lease: Lease, connection: ConnectionSettings, batch: ProviderBatch) -> None:
    if batch.state == State.SUBMITTING and not _find_again(connection, batch):
        return
    status = _look(connection, batch)
    if status.state == BatchState.FAILED:
        batch.state, batch.message, batch.ended_at = State.REFUSED, status.message, timezone.now()
        batch.save(update_fields=["state", "message", "ended_at"])
        raise CannotGoOn(
            f"The provider refused the batch. {status.message or 'It gives no reason.'}",
            failure=Failure.BAD_REQUEST,
        )
    if status.state == BatchState.ENDED:
        _collect(work, connection, batch, partial(_write, work, lease), lease.renew_if_due)


def _find_again(connection: ConnectionSettings, batch: ProviderBatch) -> bool:
    """Whether the batch, whose handing in was cut off, is at the provider; else it is lost and asked for anew."""
    found = batches_now(
        connection,
        lambda adapter: adapter.batch_find(
            token=batch.token, since=batch.created_at, count=len(batch.subjects)
        ),
    )
    taken = found and ProviderBatch.objects.filter(provider_id=found).exists()
    batch.provider_id = "" if taken else found or ""
    batch.state = State.WAITING if batch.provider_id else State.LOST
    batch.save(update_fields=["provider_id", "state"])
    return batch.state == State.WAITING


def _look(connection: ConnectionSettings, batch: ProviderBatch) -> BatchStatus:
    status = batches_now(connection, lambda adapter: adapter.batch_status(batch.provider_id))
    batch.answered, batch.failed, batch.looked_at = status.answered, status.failed, timezone.now()
    batch.save(update_fields=["answered", "failed", "looked_at"])
    return status


_Writer = Callable[[Sequence[Outcome], dict[int, str]], None]


def _collect(
    work: "CallWork",
    connection: ConnectionSettings,
    batch: ProviderBatch,
    write: _Writer,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Write the answers of a batch that has ended, those that were written before a crash left out."""
    chunk = batch.chunk
    keys = {int(subject): key for subject, key in batch.subjects.items()}
    missing = set(work.open_subjects(chunk.job, list(keys), since=batch.created_at))
    stream = _Answers(connection, batch.provider_id)
    while block := stream.next(settings.WRITE_BATCH):
        outcomes = []
        for name, answer in block:
            subject = int(name) if name.isdecimal() else -1
            if subject in missing:
                missing.discard(subject)
                outcomes.append(_outcome(subject, answer))
        if outcomes:
            write(outcomes, keys)
        between()
    left = sorted(missing)
    for start in range(0, len(left), settings.WRITE_BATCH):
        part = left[start : start + settings.WRITE_BATCH]
        write([Outcome(subject, error=unanswered()) for subject in part], keys)
    batch.state, batch.ended_at = State.DONE, timezone.now()
    batch.save(update_fields=["state", "ended_at"])


def _outcome(subject: int, answer: Reply | CallError) -> Outcome:
    if isinstance(answer, CallError):
        return Outcome(subject, error=answer, price_share=PRICE_SHARE)
    return Outcome(subject, reply=answer, price_share=PRICE_SHARE)


class _Answers:
    """The answers of a batch, fetched piece by piece from the thread that makes the calls."""

    def __init__(self, connection: ConnectionSettings, provider_id: str) -> None:
        self._connection = connection
        self._provider_id = provider_id
        self._stream: AsyncGenerator[tuple[str, Reply | CallError], None] | None = None

    def next(self, most: int) -> list[tuple[str, Reply | CallError]]:
        async def read(adapter: BatchAdapter) -> list[tuple[str, Reply | CallError]]:
            if self._stream is None:
                self._stream = adapter.batch_answers(self._provider_id)
            block: list[tuple[str, Reply | CallError]] = []
            async for answer in self._stream:
                block.append(answer)
                if len(block) == most:
                    break
            return block

        return batches_now(self._connection, read)


def _write(work: "CallWork", lease: Lease, outcomes: Sequence[Outcome], keys: dict[int, str]) -> None:
    lease.write(partial(_rows, work, lease.job, outcomes, keys))


def _rows(work: "CallWork", job: Job, outcomes: Sequence[Outcome], keys: dict[int, str]) -> Progress:
    """Runs within a transaction. Only answers that could be used are kept for other jobs."""
    progress = work.write(job, outcomes)
    answers.keep(
        {
            keys[outcome.subject]: outcome.reply
            for outcome in outcomes
            if outcome.reply is not None and keys.get(outcome.subject) and outcome.subject in progress.usable
        }
    )
    return progress


# --- What a cancelled job leaves at the provider ---------------------------------------------------------------------


def settle_cancelled(job: Job, work: "CallWork") -> None:
    """Cancel the batches of a cancelled job at the provider, and write what they answered once they have ended."""
    batches = ProviderBatch.objects.filter(chunk__job=job, state__in=ProviderBatch.OPEN)
    for batch in batches.select_related("chunk__job"):
        try:
            _settle(job, work, batch)
        except (CallError, CannotGoOn) as error:
            log.warning("%s cannot be settled yet: %s", batch, error)


def _settle(job: Job, work: "CallWork", batch: ProviderBatch) -> None:
    connection = work.connection(job)
    if batch.state == State.SUBMITTING and not _find_again(connection, batch):
        return
    status = _look(connection, batch)
    if status.state == BatchState.WAITING:
        batches_now(connection, lambda adapter: adapter.batch_cancel(batch.provider_id))
    elif status.state == BatchState.FAILED:
        ProviderBatch.objects.filter(pk=batch.pk).update(state=State.REFUSED, message=status.message)
    else:
        _collect(work, connection, batch, partial(_write_after_the_end, work, job, batch))


def _write_after_the_end(
    work: "CallWork", job: Job, batch: ProviderBatch, outcomes: Sequence[Outcome], keys: dict[int, str]
) -> None:
    """Write what was answered; a request that was not is no failure, since nobody wants it any more."""
    with transaction.atomic():
        # Whoever settles the same batch at this moment waits here, and finds the subjects written.
        ProviderBatch.objects.select_for_update().get(pk=batch.pk)
        still_open = set(work.open_subjects(job, [each.subject for each in outcomes], since=batch.created_at))
        wanted = [each for each in outcomes if each.reply is not None and each.subject in still_open]
        if not wanted:
            return
        progress = _rows(work, job, wanted, keys)
        Job.objects.filter(pk=job.pk).update(
            done=F("done") + progress.done,
            failed=F("failed") + progress.failed,
            input_tokens=F("input_tokens") + progress.input_tokens,
            output_tokens=F("output_tokens") + progress.output_tokens,
            cost=F("cost") + progress.cost,
        )
