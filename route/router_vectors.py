"""The embeddings that routers wait for: asking for them, waiting, and going on after a pause."""

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from annotate.errors import Refusal
from annotate.models import Connection, ItemVector, VectorVersion
from annotate.vectors import (
    PLAIN,
    VectorChoice,
    ensure_vectors,
    is_stopping,
    missing_items,
    newest_version,
)
from jobs.models import Job
from jobs.services import JobStateError, job_cancel, job_pause, job_resume
from jobs.work import CannotGoOn
from route.models import Router

# Why a router's job paused: the job that buys its items' embeddings did.
VECTORS_PAUSED = "vectors_paused"
_ACTIVE = (Job.State.QUEUED, Job.State.RUNNING)


class VectorsMissing(Exception):
    """The items have no vectors yet; the job that makes them goes on."""


def vectors_said(choice: VectorChoice) -> dict[str, Any]:
    """What a router keeps of the choice."""
    said: dict[str, Any] = {
        "kind": str(choice.kind),
        "model": choice.model.strip(),
        "connection": choice.connection.pk if choice.connection else None,
    }
    return said if choice.spend_limit is None else said | {"spend_limit": str(choice.spend_limit)}


def vector_choice(router: Router) -> VectorChoice:
    """Which vectors of the items the router sees. Raises ValueError where its connection was deleted."""
    said = router.vectors
    kind = said.get("kind", PLAIN.kind)
    connection = Connection.objects.filter(pk=said.get("connection")).first()
    if kind == VectorVersion.Kind.EMBEDDINGS and connection is None:
        raise ValueError("The connection whose embeddings the router sees was deleted.")
    limit = said.get("spend_limit")
    return VectorChoice(
        kind=kind,
        connection=connection,
        model=said.get("model", ""),
        spend_limit=None if limit is None else Decimal(limit),
    )


def check_vectors(router: Router) -> None:
    """Let a provider make the embeddings that are missing, and raise VectorsMissing until it has.

    A job that had paused before the router came goes on. Raises CannotGoOn, which pauses the router too, where it
    pauses while the router waits, or cannot go on as it is; Refusal or ValueError where there is no way to go on.
    """
    if not _buys(router):
        return
    choice = vector_choice(router)
    version = newest_version(router.project, choice)
    said = router.vectors
    if version is not None and (version.job.is_active or is_stopping(version)):
        _remember(router, "waited")
        raise VectorsMissing
    is_paused = version is not None and not version.job.is_finished
    if version is not None and is_paused and (said.get("asked") or said.get("waited")):
        raise _paused(version.job)
    if said.get("asked"):
        # Once: items that a provider refuses would be asked about, and paid for, again and again.
        return
    ids = list(router.project.items.order_by("pk").values_list("pk", flat=True))
    if version is None or is_paused or missing_items(version, ids):
        try:
            ensure_vectors(router.project, choice, user=router.created_by)
        except Refusal as refusal:
            if version is not None and is_paused:
                raise _paused(version.job) from refusal
            raise
        _remember(router, "asked")
        raise VectorsMissing


def _buys(router: Router) -> bool:
    is_embedded = router.vectors.get("kind") == VectorVersion.Kind.EMBEDDINGS
    return is_embedded and router.comparison_set_id is None


def _remember(router: Router, name: str) -> None:
    if not router.vectors.get(name):
        router.vectors[name] = True
        router.save(update_fields=["vectors"])


def _paused(job: Job) -> CannotGoOn:
    return CannotGoOn(
        f"The embeddings of the items are not complete: buying them paused. {job.reason}".strip(),
        failure=VECTORS_PAUSED,
    )


def vectors_job(router: Router) -> Job | None:
    """The job that buys the embeddings that the router sees; None where there is none, or none is needed."""
    if not _buys(router):
        return None
    try:
        version = newest_version(router.project, vector_choice(router))
    except ValueError:
        return None
    return None if version is None else version.job


def zeros_of(router: Router) -> dict[str, Any]:
    """How many items of the project have no vector, and why one of them has none: a router sees zeros for them."""
    if router.comparison_set_id is not None:
        return {}
    version = newest_version(router.project, vector_choice(router))
    failed = ItemVector.objects.filter(version=version).exclude(failure="")
    first = failed.order_by("pk").first() if version is not None else None
    return {} if first is None else {"zeros": failed.count(), "zeros_why": first.message}


def resume_vectors(router: Router, *, spend_limit: Decimal | None = None) -> None:
    """Let the job that the router waits for go on, with a higher limit where its own has stopped it.

    Raises JobStateError, in sentences for people.
    """
    job = vectors_job(router)
    if job is None or job.state != Job.State.PAUSED:
        return
    job_resume(job, spend_limit=spend_limit)


def pause_vectors(router: Router) -> None:
    """Buy no more embeddings while the router is paused, unless another one waits for them."""
    job = vectors_job(router)
    if job is None or not job.is_active or _is_waited_for(job, router, _ACTIVE):
        return
    with suppress(JobStateError):  # it ended this moment
        job_pause(job)


def cancel_vectors(router: Router) -> None:
    """Buy no more embeddings for a router that is no longer trained, unless another one waits for them."""
    job = vectors_job(router)
    if job is None or job.is_finished or _is_waited_for(job, router, Job.UNFINISHED):
        return
    with suppress(JobStateError):  # it ended this moment
        job_cancel(job)


def _is_waited_for(job: Job, router: Router, states: Sequence[str]) -> bool:
    """Whether another router than this one, in one of these states, sees the embeddings that the job buys."""
    others = Router.objects.filter(project=router.project_id, job__state__in=states).exclude(pk=router.pk)
    return any(vectors_job(other) == job for other in others)
