"""Figures about jobs and workers in Prometheus' text format, read from the database when they are asked for."""

import shutil
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.utils import timezone

from jobs.leases import leased_at
from jobs.models import Chunk, Heartbeat, Job

# Name of the figure: the field that is summed, and what it means.
_SUMS = {
    "subjects_done": ("done", "Subjects with a written result, failed ones included."),
    "subjects_failed": ("failed", "Subjects whose result is a failure."),
    "input_tokens_spent": ("input_tokens", "Tokens sent to models."),
    "output_tokens_spent": ("output_tokens", "Tokens that models answered with."),
    "cost_dollars": ("cost", "US$ spent at providers."),
}


def exposition() -> str:
    """All figures, in Prometheus' text format 0.0.4."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from _gauge("overread_jobs", "Jobs by kind and state.")
    for row in Job.objects.order_by().values("kind", "state").annotate(count=Count("pk")):
        yield _sample("overread_jobs", row["count"], kind=row["kind"], state=row["state"])
    totals = {
        kind: Job.objects.filter(kind=kind).aggregate(
            **{name: Sum(field) for name, (field, _) in _SUMS.items()}
        )
        for kind in Job.objects.order_by().values_list("kind", flat=True).distinct()
    }
    for name, (_, meaning) in _SUMS.items():
        # Gauges, as deleting a project takes its jobs' figures away.
        yield from _gauge(f"overread_{name}", meaning)
        for kind, sums in totals.items():
            yield _sample(f"overread_{name}", sums[name], kind=kind)
    now = timezone.now()
    chunks = Chunk.objects.filter(job__state__in=[Job.State.QUEUED, Job.State.RUNNING]).aggregate(
        waiting=Count("pk", filter=Q(state=Chunk.State.WAITING)),
        running=Count("pk", filter=leased_at(now)),
        expired=Count("pk", filter=Q(state=Chunk.State.RUNNING) & ~leased_at(now)),
    )
    yield from _gauge("overread_chunks", "Chunks of active jobs: waiting, running, or left by a dead worker.")
    for state, count in chunks.items():
        yield _sample("overread_chunks", count, state=state)
    seen = Heartbeat.objects.order_by("-seen_at").values_list("seen_at", flat=True).first()
    if seen is not None:
        yield from _gauge("overread_worker_seen_seconds", "Seconds since a worker gave a sign of life.")
        yield _sample("overread_worker_seen_seconds", round((now - seen).total_seconds(), 3))
    yield from _gauge("overread_disk_free_bytes", "Free space where uploads and exports are kept.")
    yield _sample("overread_disk_free_bytes", shutil.disk_usage(settings.DATA_DIR).free)


def _gauge(name: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]


def _sample(name: str, value: Any, **labels: str) -> str:
    pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
