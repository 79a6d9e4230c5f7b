"""The work of traced runs: annotators write, a router reads along, and some of the items go to people (algorithm 1)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from annotate.annotators import annotation_of, examples_for, open_items, record_annotations, request_for
from annotate.connections import connection_settings, run_price
from annotate.contents import BLOCK, items_in_order, label_specs
from annotate.errors import Refusal
from annotate.models import Annotation
from jobs import shutdown
from jobs.call_work import OUTAGE_STREAK, OUTAGES, SHARED_EVERY_SECONDS, WRITE_EVERY_SECONDS
from jobs.calling import Outcome as CallOutcome
from jobs.leases import Lease, Progress, chunks_on_connection, leased_at
from jobs.models import Job
from jobs.recording import storable
from jobs.work import CannotGoOn, Work
from mllm.errors import CallError, Failure
from mllm.messages import Reply, Request
from mllm.prices import Price
from mllm.tokens import usage_of
from review.models import ReviewRound
from review.services.routed import give_to_people, settle_routed_round
from route.escalation import End
from route.models import RouterQuery, TracedRun
from route.router_prompts import read_verdict
from route.trace_queries import (
    UNREAD,
    Asking,
    nothing_read,
    query_row,
    router_connection,
    router_price,
    variants_of,
)
from route.trace_streams import Broken, Finished, Reading, Spending, Streams, Wanted, most_cost, paid_cost

_STORED_COST = Decimal("1e-8")  # as rows store it


class TracedAnnotation(Work):
    """One chunk at a time, as a budget that is shared wants its items in their order."""

    kind = "traced_annotation"

    def run(self, lease: Lease) -> bool:
        Job.objects.filter(pk=lease.job.pk).update(parallel=1)
        if lease.job.chunks.filter(leased_at(timezone.now())).exclude(pk=lease.chunk.pk).exists():
            return False  # another chunk is still being written: its slots are not counted yet
        try:
            return _Chunk(lease).run()
        except Refusal as error:
            raise CannotGoOn(str(error), failure=Failure.BAD_REQUEST) from error

    def finished(self, job: Job) -> None:
        settle_routed_round(ReviewRound.objects.get(routed_run=job.annotationrun))


class _Chunk:
    """A chunk while it is worked on."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._run = lease.job.annotationrun
        self._traced: TracedRun = self._run.traced
        router = self._traced.router
        self._router = router
        setting = self._run.parameters["setting"]
        self._variant_number = int(setting["variant"])
        self._variant = variants_of(router)[self._variant_number]
        self._round = ReviewRound.objects.get(routed_run=self._run)
        self._labels, self._specs = label_specs(self._run.project)
        self._price, self._router_price = run_price(self._run), router_price(router)
        self._spending = Spending(lease.job.spend_limit, lease.job.cost)
        self._streams = Streams(
            connection_settings(self._run),
            router_connection(router),
            interval=int(setting["interval"]),
            spending=self._spending,
            price=self._price,
            router_price=self._router_price,
        )
        self._reserved: dict[int, Decimal] = {}
        self._ready: list[Finished] = []
        self._streak: list[Finished] = []
        self._unwritten: list[Reading] = []  # asked again later; what they took is counted all the same
        self._router_streak = 0
        self._unread: int | None = 0  # None once the router has given an answer that can be read
        self._stop: CannotGoOn | None = None
        self._shared = float("-inf")

    def run(self) -> bool:
        self._count_slots()
        lease, streams = self._lease, self._streams
        upcoming = self._readings(open_items(self._run, lease.chunk.subjects, lease.chunk.created_at))
        reading = next(upcoming, None)
        going = True
        looked = time.monotonic()
        try:
            while reading is not None or streams.outstanding:
                self._share_if_due()
                while going and reading is not None and streams.outstanding < max(1, streams.limit):
                    if not isinstance(reading, Reading):
                        self._ready.append(reading)
                    elif self._reserve(reading):
                        streams.start(reading)
                    else:
                        break
                    reading = next(upcoming, None)
                self._handle(WRITE_EVERY_SECONDS if streams.outstanding else 0.0)
                self._write()
                lease.renew_if_due()
                if time.monotonic() - looked > WRITE_EVERY_SECONDS or not streams.outstanding:
                    looked = time.monotonic()
                    going = going and lease.may_go_on()
                going = going and self._stop is None and not shutdown.requested()
                if not streams.outstanding:
                    if not going:
                        break
                    if isinstance(reading, Reading) and not self._has_room(reading):
                        break
        finally:
            streams.close()
        if self._stop is not None:
            self._unwritten += [finished.reading for finished in self._streak]
            self._write()
            raise self._stop
        complete = reading is None and going
        if complete:
            # Too few failures in a row for an outage are failures of their items.
            self._ready, self._streak = self._streak, []
            self._write()
        return complete

    def _count_slots(self) -> None:
        """A slot taken by a stream whose annotation was never written is free again: its process died."""

        def count() -> Progress:
            written = self._run.annotations.filter(failure=Annotation.TO_PERSON).count()
            TracedRun.objects.filter(pk=self._traced.pk).update(taken=written)
            self._streams.is_spent = written >= self._traced.budget
            return Progress()

        self._lease.write(count)

    def _readings(self, item_ids: Sequence[int]) -> Iterator[Reading | Finished]:
        """What is to be read, in order; an item that cannot be asked about has ended already."""
        asking = Asking(self._router, self._lease.renew_if_due)
        for start in range(0, len(item_ids), BLOCK):
            items = list(items_in_order(item_ids[start : start + BLOCK]))
            vectors = asking.vectors(self._variant, [item.pk for item in items])
            for item in items:
                try:
                    examples = examples_for(self._run, item)
                    request = request_for(self._run, self._run.project, self._specs, item, examples=examples)
                    about = asking.about(self._variant, item, vectors.get(item.pk))
                    yield Reading(item.pk, request, about, most=self._most(request))
                except CallError as error:
                    yield Finished(_unasked(item.pk, error), None)

    def _share_if_due(self) -> None:
        if time.monotonic() - self._shared < SHARED_EVERY_SECONDS:
            return
        self._shared = time.monotonic()
        users = chunks_on_connection(self._lease.job)
        if self._lease.chunk.pk in users:
            self._streams.share(users.index(self._lease.chunk.pk), len(users))

    # --- Money ---------------------------------------------------------------------------------------------------

    def _most(self, request: Request) -> Decimal:
        return max(most_cost(self._price, request), self._lease.job.expected_call_cost)

    def _reserve(self, reading: Reading) -> bool:
        if not self._spending.reserve(reading.most):
            return False
        self._reserved[reading.item_id] = reading.most
        return True

    def _has_room(self, reading: Reading) -> bool:
        """Whether this one item fits into the limit; where it does not, the job pauses and says so."""
        job, most = self._lease.job, reading.most
        if self._spending.reserve(most):
            self._spending.settle(most, Decimal(0))
            return True
        self._stop = CannotGoOn(
            f"The spend limit of US$ {job.spend_limit:.4f} is reached: US$ {job.cost:.4f} is spent, "
            f"and the next item may cost up to US$ {most:.4f}.",
            failure=Failure.SPEND_LIMIT,
        )
        return False

    # --- What happens --------------------------------------------------------------------------------------------

    def _handle(self, wait: float) -> None:
        """Answer who wants a slot, and take what has finished: the first within `wait` seconds, then all there is."""
        event = self._streams.next_event(wait)
        while event is not None:
            if isinstance(event, Wanted):
                self._streams.answer(event, self._give_back() if event.gives_back else self._take())
            else:
                self._add(event)
            event = self._streams.next_event(0.0)

    def _take(self) -> bool:
        """Take a slot; whoever lost the lease takes none. Raises LeaseLost."""
        with transaction.atomic():
            self._lease.renew()
            free = TracedRun.objects.filter(pk=self._traced.pk, taken__lt=F("budget"))
            is_taken = bool(free.update(taken=F("taken") + 1))
        self._look_at_budget()
        return is_taken

    def _give_back(self) -> bool:
        with transaction.atomic():
            self._lease.renew()
            TracedRun.objects.filter(pk=self._traced.pk, taken__gt=0).update(taken=F("taken") - 1)
        self._look_at_budget()
        return True

    def _look_at_budget(self) -> None:
        self._traced.refresh_from_db(fields=["taken"])
        self._streams.is_spent = self._traced.taken >= self._traced.budget

    def _add(self, finished: Finished) -> None:
        reading, outcome = finished.reading, finished.outcome
        self._look_at_router(reading)
        error = reading.error
        is_kept = outcome is not None and outcome.end is not End.BROKEN
        if is_kept and self._stop is None:
            self._ready += [*self._streak, finished]
            self._streak = []
        elif is_kept:
            self._ready.append(finished)
        elif error is None:
            self._unwritten.append(reading)  # broken off: it is asked again
        elif error.fatal:
            self._stop = self._stop or CannotGoOn(error.message, failure=error.failure)
            self._unwritten.append(reading)
        elif error.failure in OUTAGES:
            self._streak.append(finished)
            self._settle(reading, paid_cost(self._price, error))  # it waits, and needs no room meanwhile
            if len(self._streak) >= OUTAGE_STREAK and self._stop is None:
                self._stop = CannotGoOn(
                    f"{OUTAGE_STREAK} calls in a row failed. The last one said: {error.message}",
                    failure=error.failure,
                )
        else:
            self._ready += [*self._streak, finished]
            self._streak = []

    def _look_at_router(self, reading: Reading) -> None:
        """A router that cannot be reached, or not be read, must not look like one that lets every item pass."""
        for asked in reading.asked.values():
            error = asked.error
            if self._unread is not None and asked.reply is not None:
                self._unread = None if read_verdict(asked.reply.text).is_readable else self._unread + 1
                if self._unread == UNREAD:
                    self._stop = self._stop or CannotGoOn(
                        nothing_read(self._router, UNREAD), failure=Failure.UNPARSEABLE
                    )
            if error is not None and error.fatal:
                self._stop = self._stop or CannotGoOn(error.message, failure=error.failure)
            is_outage = error is not None and error.failure in OUTAGES
            self._router_streak = self._router_streak + 1 if is_outage else 0
            if error is not None and self._router_streak >= OUTAGE_STREAK:
                self._stop = self._stop or CannotGoOn(
                    f"The router's model failed {OUTAGE_STREAK} times in a row. The last time: {error.message}",
                    failure=error.failure,
                )

    def _settle(self, reading: Reading, cost: Decimal) -> None:
        """What was set aside for a reading came to this; only the first time counts."""
        if reading.item_id in self._reserved:
            self._spending.settle(self._reserved.pop(reading.item_id), cost)

    # --- Writing -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while self._ready:
            block = self._ready[: settings.WRITE_BATCH]
            self._ready = self._ready[settings.WRITE_BATCH :]
            self._lease.write(lambda block=block: self._written(block))  # type: ignore[misc]
            self._lease.job.refresh_from_db(fields=["cost"])
        if self._unwritten:
            unwritten, self._unwritten = self._unwritten, []
            self._lease.write(lambda: self._counted(unwritten))
            self._lease.job.refresh_from_db(fields=["cost"])

    def _counted(self, readings: Sequence[Reading]) -> Progress:
        """What readings took of which no row is written: their items are asked again."""
        annotator = [broken.error for reading in readings for broken in reading.broken]
        annotator += [reading.error for reading in readings if reading.error is not None]
        for reading in readings:
            last = Decimal(0) if reading.error is None else paid_cost(self._price, reading.error)
            self._settle(reading, last)
        asked = [
            outcome for reading in readings for outcome in (*reading.asked.values(), *reading.asked_before)
        ]
        return _sum(_spent(annotator, self._price), _spent(_paid(asked), self._router_price))

    def _written(self, block: Sequence[Finished]) -> Progress:
        rows = [self._annotation(finished) for finished in block]
        progress = record_annotations(self._run, rows)
        people = [row for row in rows if row.failure == Annotation.TO_PERSON]
        if people:
            found = Annotation.objects.in_bulk([row.pk for row in people if row.pk])
            if len(found) < len(people):  # a database that does not tell the keys of rows made together
                ids = [row.item_id for row in people]
                found = {row.pk: row for row in self._run.annotations.filter(item__in=ids)}
            order = {row.item_id: place for place, row in enumerate(people)}
            give_to_people(self._round, sorted(found.values(), key=lambda row: order[row.item_id]))
        queries = self._queries([finished.reading for finished in block])
        for finished, row in zip(block, rows, strict=True):
            self._settle(finished.reading, row.cost or Decimal(0))
        broken = [each.error for finished in block for each in finished.reading.broken]
        asked_before = [outcome for finished in block for outcome in finished.reading.asked_before]
        return _sum(
            replace(progress, failed=progress.failed - len(people)),  # they are no failures
            Progress(
                input_tokens=sum(query.input_tokens for query in queries),
                output_tokens=sum(query.output_tokens for query in queries),
                cost=sum((query.cost or Decimal(0) for query in queries), Decimal(0)),
            ),
            _spent(broken, self._price),
            _spent(_paid(asked_before), self._router_price),
        )

    def _queries(self, readings: Sequence[Reading]) -> list[RouterQuery]:
        rows = []
        for reading in readings:
            for step, asked in reading.asked.items():
                row, _ = query_row(
                    self._router,
                    asked,
                    item_id=reading.item_id,
                    step=step,
                    variant=self._variant_number,
                    price=self._router_price,
                    traced_run=self._traced,
                )
                rows.append(row)
        # An item whose stream failed before has answers of then: the new ones stand for it.
        ids = [reading.item_id for reading in readings]
        RouterQuery.objects.filter(traced_run=self._traced, item__in=ids).delete()
        return RouterQuery.objects.bulk_create(rows)

    def _annotation(self, finished: Finished) -> Annotation:
        row = self._row(finished)
        row.earlier = [self._as_earlier(broken) for broken in finished.reading.broken]
        return row

    def _row(self, finished: Finished) -> Annotation:
        reading, outcome = finished.reading, finished.outcome
        reply = reading.reply
        if outcome is None or outcome.end is End.BROKEN or (reply is None and outcome.end is End.COMPLETED):
            error = reading.error or CallError(Failure.SERVER_ERROR, "The stream ended without an answer.")
            error.attempts = reading.attempts
            row = self._annotation_of(CallOutcome(reading.item_id, error=error))
            if outcome is not None:
                row.raw_text = storable(outcome.text) or row.raw_text
                row.steps = [storable(step) for step in outcome.steps]
            return _with_estimate(row) if error.is_estimated else row
        answer = replace(reply or _stopped(reading, outcome.text), attempts=reading.attempts)
        row = self._annotation_of(CallOutcome(reading.item_id, reply=answer))
        row.steps = [storable(step) for step in outcome.steps]
        if outcome.end is End.ESCALATED:
            row.label, row.confidence = None, None
            row.failure, row.stopped_at = Annotation.TO_PERSON, outcome.stopped_at
            row.message = f"The router gave it to people after step {outcome.stopped_at}."
        return _with_estimate(row) if answer.is_estimated else row

    def _annotation_of(self, outcome: CallOutcome) -> Annotation:
        return annotation_of(self._run, self._labels, self._specs, outcome, self._price)

    def _as_earlier(self, broken: Broken) -> dict[str, Any]:
        """A stream that died before the one whose row this is, as earlier answers are kept."""
        row = self._annotation_of(CallOutcome(0, error=broken.error))
        row.raw_text = storable(broken.text) or row.raw_text
        return (_with_estimate(row) if broken.error.is_estimated else row).as_earlier()


def _with_estimate(row: Annotation) -> Annotation:
    row.message = f"{row.message} {Annotation.ESTIMATED}".strip()
    return row


def _stopped(reading: Reading, text: str) -> Reply:
    """What was read of a stream that was stopped, with its tokens as far as they were told."""
    usage = usage_of(reading.request, text, reading.usage)
    return Reply(
        text=text,
        reasoning="",
        model=reading.request.model,
        finish_reason="stop",
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        logprobs=(),
        latency=reading.seconds,
        is_estimated=usage.is_estimated,
    )


def _paid(outcomes: Sequence[CallOutcome]) -> list[Reply | CallError]:
    return [paid for outcome in outcomes if (paid := outcome.reply or outcome.error) is not None]


def _spent(paid: Sequence[Reply | CallError], price: Price | None) -> Progress:
    return Progress(
        input_tokens=sum(each.input_tokens for each in paid),
        output_tokens=sum(each.output_tokens for each in paid),
        cost=sum((paid_cost(price, each).quantize(_STORED_COST) for each in paid), Decimal(0)),
    )


def _sum(first: Progress, *others: Progress) -> Progress:
    return replace(
        first,
        input_tokens=first.input_tokens + sum(each.input_tokens for each in others),
        output_tokens=first.output_tokens + sum(each.output_tokens for each in others),
        cost=first.cost + sum((each.cost for each in others), Decimal(0)),
    )


def _unasked(item_id: int, error: CallError) -> Reading:
    request: Any = None
    return Reading(item_id, request, lambda steps: request, error=error)
