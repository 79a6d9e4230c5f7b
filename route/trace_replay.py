"""The work that trains a trace-aware router: its model is asked about every prefix of the development traces, then it
is chosen how it is asked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max, Q
from django.utils import timezone

from annotate.contents import BLOCK, items_in_order
from annotate.errors import Refusal
from annotate.full_disk import pausing_on_full_disk
from jobs.call_work import CallWork
from jobs.calling import Outcome
from jobs.leases import Lease, Progress
from jobs.models import Chunk, Job
from jobs.recording import record
from jobs.services import chunk_size
from jobs.work import CannotGoOn
from mllm.errors import CallError, Failure
from mllm.messages import Request
from mllm.prices import Price
from mllm.registry import ConnectionSettings
from route.models import Router, RouterQuery, parts_of_prefix, prefix_of
from route.trace_data import DEV, KnownTraces, Trace, known_traces, store_known, traces_of
from route.trace_queries import (
    UNREAD,
    Asking,
    annotator_of,
    nothing_read,
    query_row,
    router_connection,
    router_price,
    variants_of,
)

_LOOK_AGAIN = timedelta(seconds=2)
# How often it is looked whether anything of what the model answers can be read, in questions.
_LOOK_EVERY = 20
# The subjects of the job's last chunk, and of its first where topics are held out: no item has these numbers.
TRAINING, SPLITTING = 0, -1


def prefixes_of(
    known: KnownTraces, traces: Mapping[int, Trace], n_variants: int, *, no_trace: bool
) -> list[int]:
    """What the router's model is asked: each prefix of the development traces by each variant; prefix 0 is no trace."""
    return [
        prefix_of(pk, variant, step)
        for pk in known.of(DEV)[0]
        if pk in traces and traces[pk].steps
        for variant in range(n_variants)
        for step in range(0 if no_trace else 1, len(traces[pk].steps) + 1)
    ]


def add_chunks(job: Job, subjects: Sequence[int]) -> None:
    """Chunks that ask about these prefixes, and the last one, which trains."""
    processes = 1 if job.spend_limit is not None else settings.WORKER_PROCESSES
    parallel = max(1, min(processes, job.in_flight))
    size = chunk_size(len(subjects), in_flight=job.in_flight, parallel=parallel)
    blocks = [list(subjects[start : start + size]) for start in range(0, len(subjects), size)]
    last = job.chunks.aggregate(last=Max("number"))["last"]
    first = 0 if last is None else last + 1
    Chunk.objects.bulk_create(
        Chunk(job=job, number=first + place, subjects=block)
        for place, block in enumerate([*blocks, [TRAINING]])
    )
    Job.objects.filter(pk=job.pk).update(total=len(subjects), parallel=max(1, min(parallel, len(blocks))))


def _only_unread(router: Router, *, since: datetime) -> int:
    """How many answers the model has given since then, where none of them could be read; else 0."""
    rows = RouterQuery.objects.filter(router=router, traced_run=None, recorded_at__gte=since)
    return 0 if rows.filter(failure="").exists() else rows.filter(failure=Failure.UNPARSEABLE).count()


class TraceReplay(CallWork):
    """Asks about each prefix once a variant, which answers for every interval; its last chunk trains."""

    kind = "trace_replay"

    def run(self, lease: Lease) -> bool:
        with pausing_on_full_disk():
            return self._run(lease)

    def _run(self, lease: Lease) -> bool:
        # scikit-learn takes a second to import: only a process that needs it pays.
        from route.router_vectors import VectorsMissing, check_vectors

        router = lease.job.router
        if router.is_trained:
            return True
        try:
            check_vectors(router)
            if lease.chunk.subjects == [SPLITTING]:
                return self._split(lease)
            return self._train(lease) if lease.chunk.subjects == [TRAINING] else super().run(lease)
        except VectorsMissing:
            lease.release(until=timezone.now() + _LOOK_AGAIN)
            return False
        except (ValueError, Refusal) as error:
            raise CannotGoOn(str(error), failure="bad_request", pause=False) from error

    def _split(self, lease: Lease) -> bool:
        """Hold topics out, now that the items have vectors, and ask about what is left for development."""
        from route.training import features_of

        job, router = lease.job, lease.job.router
        known = known_traces(router)
        if known.is_split:
            return True
        vectors = features_of(router, known.item_ids.tolist(), lease.renew_if_due)
        known = known.split_by_topic(vectors, router.seed)
        annotator = annotator_of(router)
        known.check_choosable(float(router.parameters["limit"]), annotator.who)
        traces = traces_of(annotator, known.of(DEV)[0])
        subjects = prefixes_of(
            known, traces, len(variants_of(router)), no_trace=bool(router.parameters.get("no_trace"))
        )
        if not subjects:
            raise ValueError(
                "The annotator's answers to the held-out items hold no steps. Split them at random."
            )
        before = router.scores.name

        def write() -> Progress:
            store_known(router, known)
            router.save(update_fields=["scores"])
            add_chunks(job, subjects)
            return Progress()

        lease.write(write)
        router.scores.storage.delete(str(before))
        return True

    def _train(self, lease: Lease) -> bool:
        from route.trace_training import train_trace
        from route.training import keep

        router = lease.job.router
        others = lease.job.chunks.exclude(pk=lease.chunk.pk)
        if others.exclude(state=Chunk.State.DONE).exists():
            lease.release(until=timezone.now() + _LOOK_AGAIN)
            return False
        trained, scores = train_trace(router, lease.renew_if_due)
        if not lease.may_go_on():
            return False
        before = router.scores.name

        def write() -> Progress:
            keep(router, trained, scores)
            return Progress()

        lease.write(write)
        router.scores.storage.delete(str(before))
        return True

    def connection(self, job: Job) -> ConnectionSettings:
        return router_connection(job.router)

    def price(self, job: Job) -> Price | None:
        return router_price(job.router)

    def open_subjects(self, job: Job, subjects: Sequence[int], *, since: datetime) -> list[int]:
        items = {parts_of_prefix(subject)[0] for subject in subjects}
        rows = RouterQuery.objects.filter(
            Q(failure="") | Q(recorded_at__gte=since), router=job.router, traced_run=None, item_id__in=items
        )
        settled = {prefix_of(*parts) for parts in rows.values_list("item_id", "variant", "step")}
        return [subject for subject in subjects if subject not in settled]

    def requests(self, job: Job, subjects: Sequence[int]) -> Iterator[tuple[int, Request | CallError]]:
        router = job.router
        began = timezone.now()
        asking, variants, annotator = Asking(router), variants_of(router), annotator_of(router)
        for start in range(0, len(subjects), BLOCK):
            block = [(subject, *parts_of_prefix(subject)) for subject in subjects[start : start + BLOCK]]
            ids = sorted({item_id for _, item_id, _, _ in block})
            items = {item.pk: item for item in items_in_order(ids)}
            traces = traces_of(annotator, ids)
            vectors = asking.vectors(
                max((variants[v] for _, _, v, _ in block), key=lambda v: v.m), list(items)
            )
            for place, (subject, item_id, variant, step) in enumerate(block):
                if place % _LOOK_EVERY == 0 and (unread := _only_unread(router, since=began)) >= UNREAD:
                    said = nothing_read(router, unread)
                    yield subject, CallError(Failure.UNPARSEABLE, said, fatal=True)
                    return
                if item_id not in items or item_id not in traces:
                    continue  # it was deleted since
                steps = traces[item_id].steps[:step]
                try:
                    vector = vectors.get(item_id)
                    yield subject, asking.request(variants[variant], items[item_id], steps, vector)
                except CallError as error:
                    yield subject, error

    def write(self, job: Job, outcomes: Sequence[Outcome]) -> Progress:
        router = job.router
        price = router_price(router)
        rows = []
        for outcome in outcomes:
            item_id, variant, step = parts_of_prefix(outcome.subject)
            row, _ = query_row(router, outcome, item_id=item_id, step=step, variant=variant, price=price)
            rows.append(row)
        items = {row.item_id for row in rows}
        failed = RouterQuery.objects.filter(router=router, traced_run=None, item_id__in=items).exclude(
            failure=""
        )
        progress = record(rows, {row.prefix: row for row in failed}, subject="prefix")
        return replace(progress, usable=frozenset(row.prefix for row in rows if not row.failure))
