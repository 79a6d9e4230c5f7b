"""The work that trains a trace-aware router: its model is asked about every prefix of the development traces, then it
is chosen how it is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from annotate.contents import BLOCK, items_in_order
from annotate.errors import Refusal
from jobs.call_work import CallWork
from jobs.calling import Outcome
from jobs.leases import Lease, Progress
from jobs.models import Chunk, Job
from jobs.recording import record
from jobs.work import CannotGoOn
from mllm.errors import CallError
from mllm.messages import Request
from mllm.prices import Price
from mllm.registry import ConnectionSettings
from route.models import RouterQuery, parts_of_prefix, prefix_of
from route.trace_data import traces_of
from route.trace_queries import (
    Asking,
    annotator_of,
    query_row,
    router_connection,
    router_price,
    variants_of,
)

_LOOK_AGAIN = timedelta(seconds=2)
# The subject of the job's last chunk: no item has the number 0.
TRAINING = 0


class TraceReplay(CallWork):
    """Asks about each prefix once a variant, which answers for every interval; its last chunk trains."""

    kind = "trace_replay"

    def run(self, lease: Lease) -> bool:
        # scikit-learn takes a second to import: only a process that needs it pays.
        from route.training import VectorsMissing, check_vectors

        router = lease.job.router
        if router.is_trained:
            return True
        try:
            check_vectors(router)
            return self._train(lease) if lease.chunk.subjects == [TRAINING] else super().run(lease)
        except VectorsMissing:
            lease.release(until=timezone.now() + _LOOK_AGAIN)
            return False
        except (ValueError, Refusal) as error:
            raise CannotGoOn(str(error), failure="bad_request", pause=False) from error

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
        asking, variants, annotator = Asking(router), variants_of(router), annotator_of(router)
        for start in range(0, len(subjects), BLOCK):
            block = [(subject, *parts_of_prefix(subject)) for subject in subjects[start : start + BLOCK]]
            ids = sorted({item_id for _, item_id, _, _ in block})
            items = {item.pk: item for item in items_in_order(ids)}
            traces = traces_of(annotator, ids)
            vectors = asking.vectors(
                max((variants[v] for _, _, v, _ in block), key=lambda v: v.m), list(items)
            )
            for subject, item_id, variant, step in block:
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
