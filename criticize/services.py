"""Starting criticism runs."""

from decimal import Decimal
from typing import Any

from django.db import transaction

from annotate.contents import label_specs
from annotate.errors import Refusal
from annotate.models import AnnotationRun, User
from annotate.services.runs import (
    Estimate,
    ModelChoice,
    check_choice,
    check_limit,
    prompted_estimate,
    run_fields,
    trained_estimate,
    training_parameters,
)
from criticize.criticizers import request_for
from criticize.models import Criticism, CriticismRun
from criticize.prompts import PROMPT_VERSIONS
from criticize.selectors import annotations_in_order
from jobs.models import Job
from jobs.services import job_create, job_retry


def annotations_to_criticize(annotation_run: AnnotationRun) -> list[int]:
    """Ids of the run's annotations that have a label, in order of their items."""
    return list(
        annotation_run.annotations.filter(failure="").order_by("item_id").values_list("pk", flat=True)
    )


def criticism_estimate(*, annotation_run: AnnotationRun, choice: ModelChoice) -> Estimate:
    """What criticizing the run's annotations would take."""
    check_choice(choice)
    ids = annotations_to_criticize(annotation_run)
    if choice.is_trained:
        return trained_estimate(len(ids))
    project = annotation_run.project
    _, specs = label_specs(project)
    run = CriticismRun(annotation_run=annotation_run, **run_fields(choice, PROMPT_VERSIONS))
    return prompted_estimate(
        choice,
        calls=len(ids),
        subjects=ids,
        request=lambda sampled: [
            request_for(run, project, specs, each) for each in annotations_in_order(sampled)
        ],
        earlier=Criticism.objects.filter(
            run__provider=run.provider,
            run__model=run.model,
            run__strategy=run.strategy,
            run__annotation_run__project=project,
        ),
    )


@transaction.atomic
def criticism_run_create(
    *, annotation_run: AnnotationRun, user: User, choice: ModelChoice, spend_limit: Decimal | None = None
) -> CriticismRun:
    """Start criticizing every annotation of a finished run."""
    check_choice(choice)
    check_limit(choice, spend_limit)
    if not annotation_run.job.is_finished:
        raise Refusal(
            "The annotation run is not finished yet. Wait for it, or cancel it to criticize what is there."
        )
    annotations = annotations_to_criticize(annotation_run)
    if not annotations:
        raise Refusal("The annotation run has no labels that could be criticized.")
    fields: dict[str, Any] = run_fields(choice, PROMPT_VERSIONS)
    if choice.is_trained:
        fields["parameters"] = training_parameters(annotation_run.project)
        job: Job = job_create(kind="trained_criticism", subjects=annotations, in_flight=1)
    else:
        assert choice.connection is not None  # noqa: S101 (check_choice was here)
        estimate = criticism_estimate(annotation_run=annotation_run, choice=choice)
        job = job_create(
            kind="criticism",
            subjects=annotations,
            in_flight=choice.connection.in_flight,
            connection_key=choice.connection.key_of_jobs,
            spend_limit=spend_limit,
            expected_call_cost=estimate.cost_per_call,
        )
    return CriticismRun.objects.create(
        annotation_run=annotation_run, job=job, seed=annotation_run.project.seed, created_by=user, **fields
    )


def criticism_run_retry(*, run: CriticismRun) -> None:
    """Ask again for the annotations whose criticism failed, and for no other."""
    failed = (
        run.criticisms.exclude(failure="").order_by("annotation_id").values_list("annotation_id", flat=True)
    )
    job_retry(run.job, list(failed))
