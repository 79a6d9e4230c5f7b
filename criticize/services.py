"""Starting criticism runs."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from annotate.contents import label_specs
from annotate.errors import Refusal
from annotate.locks import keep_project
from annotate.models import Annotation, AnnotationRun, Project, User
from annotate.services.runs import (
    Estimate,
    ModelChoice,
    check_choice,
    check_limit,
    prompted_estimate,
    record_run,
    run_fields,
    trained_estimate,
    training_parameters,
)
from criticize import methods
from criticize.criticizers import request_for
from criticize.judging import check_judge, judge_versions, judging_request_for
from criticize.models import Criticism, CriticismRun
from criticize.selectors import annotations_in_order
from criticize.strategies import STRATEGIES, get_strategy
from jobs.models import Job
from jobs.services import job_create, job_retry
from mllm.registry import PROVIDERS


def annotations_to_criticize(annotation_run: AnnotationRun) -> list[int]:
    """Ids of the run's annotations that have a label, in order of their items."""
    return list(
        annotation_run.annotations.filter(failure="").order_by("item_id").values_list("pk", flat=True)
    )


def check_criticizer(annotation_run: AnnotationRun, choice: ModelChoice) -> None:
    """Raise Refusal unless this choice can criticize the run's annotations."""
    if annotation_run.scope == AnnotationRun.Scope.PART:
        raise Refusal(
            "This run answered a part of a plan's items. Criticize the plan's own run, which holds all of them.",
            field="annotation_run",
        )
    check_choice(choice, STRATEGIES)
    if choice.is_trained or annotation_run.project.task.answers == "text":
        check_judge(annotation_run.project, strategy=choice.strategy, is_trained=choice.is_trained)
    if choice.is_trained:
        return
    assert choice.connection is not None  # noqa: S101 (check_choice was here)
    strategy = get_strategy(choice.strategy)
    things = "answers" if annotation_run.project.task.is_written else "labels"
    provider = PROVIDERS[choice.connection.provider]
    if strategy.needs_logprobs and not provider.capabilities.logprobs:
        others = ", ".join(name for name, other in STRATEGIES.items() if not other.needs_logprobs)
        raise Refusal(
            f"{provider.label} gives no log-probabilities, and {strategy.name} is computed from them. "
            f"Choose another connection, or one of: {others}.",
            field="strategy",
        )
    if (
        strategy.needs_reasoning
        and annotation_run.job.is_finished
        and not _with_reasoning(annotation_run).exists()
    ):
        raise Refusal(
            f"{strategy.name} argues against the annotator's reasoning, and these {things} were made without any. "
            f"Choose another strategy, or {things} made with cot.",
            field="strategy",
        )


def prompt_versions(project: Project) -> Mapping[str, str]:
    """Version by strategy of what criticizers of the project are asked."""
    task = project.task
    return judge_versions(task) if task.answers == "text" else methods.prompt_versions(task)


def _with_reasoning(annotation_run: AnnotationRun) -> QuerySet[Annotation]:
    return annotation_run.annotations.filter(failure="").exclude(reasoning="")


def criticism_estimate(*, annotation_run: AnnotationRun, choice: ModelChoice) -> Estimate:
    """What criticizing the run's annotations would take."""
    check_criticizer(annotation_run, choice)
    ids = annotations_to_criticize(annotation_run)
    if choice.is_trained:
        return trained_estimate(len(ids))
    project = annotation_run.project
    _, specs = label_specs(project)
    strategy = get_strategy(choice.strategy)
    run = CriticismRun(annotation_run=annotation_run, **run_fields(choice, prompt_versions(project)))
    return prompted_estimate(
        choice,
        calls=len(ids),
        subjects=ids,
        request=lambda sampled: [
            judging_request_for(run, project, each)
            if project.task.answers == "text"
            else request_for(run, project, specs, each)
            for each in annotations_in_order(sampled)
        ],
        earlier=Criticism.objects.filter(
            run__provider=run.provider,
            run__model=run.model,
            run__strategy=run.strategy,
            run__annotation_run__project=project,
        ),
        usual=(strategy.usual_tokens, strategy.usual_seconds),
    )


@transaction.atomic
def criticism_run_create(
    *, annotation_run: AnnotationRun, user: User, choice: ModelChoice, spend_limit: Decimal | None = None
) -> CriticismRun:
    """Start criticizing every annotation of a finished run."""
    keep_project(annotation_run.project_id)
    check_criticizer(annotation_run, choice)
    check_limit(choice, spend_limit)
    if not annotation_run.job.is_finished:
        raise Refusal(
            "The annotation run is not finished yet. Wait for it, or cancel it to criticize what is there."
        )
    annotations = annotations_to_criticize(annotation_run)
    if not annotations:
        things = "answers" if annotation_run.project.task.is_written else "labels"
        raise Refusal(f"The annotation run has no {things} that could be criticized.")
    if not choice.is_trained:
        needed = get_strategy(choice.strategy).top_logprobs
        choice = replace(choice, top_logprobs=max(choice.top_logprobs, needed))
    project = annotation_run.project
    fields: dict[str, Any] = run_fields(choice, prompt_versions(project))
    if choice.is_trained:
        fields["parameters"] = training_parameters(annotation_run.project)
        job: Job = job_create(kind="trained_criticism", subjects=annotations, in_flight=1)
    else:
        assert choice.connection is not None  # noqa: S101 (check_choice was here)
        estimate = criticism_estimate(annotation_run=annotation_run, choice=choice)
        job = job_create(
            kind="written_criticism" if project.task.answers == "text" else "criticism",
            subjects=annotations,
            in_flight=choice.connection.in_flight,
            connection_key=choice.connection.key_of_jobs,
            spend_limit=spend_limit,
            expected_call_cost=estimate.cost_per_call,
            by_batch=choice.by_batch,
        )
    run = CriticismRun.objects.create(
        annotation_run=annotation_run, job=job, seed=annotation_run.project.seed, created_by=user, **fields
    )
    record_run(
        project,
        run,
        user,
        "started",
        new={"annotations": len(annotations), "spend_limit": f"${spend_limit}" if spend_limit else None},
    )
    return run


def criticism_run_retry(*, run: CriticismRun) -> None:
    """Ask again for the annotations whose criticism failed, and for no other."""
    failed = (
        run.criticisms.exclude(failure="").order_by("annotation_id").values_list("annotation_id", flat=True)
    )
    job_retry(run.job, list(failed))
