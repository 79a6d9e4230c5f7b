"""Rows of projects whose answers are written, each made whole with one call; see also `tests.factories`."""

from collections.abc import Mapping, Sequence
from typing import Any

from annotate.models import Annotation, AnnotationRun, Item, ModelRun, Project, User
from annotate.services.projects import project_create
from criticize.models import Criticism, CriticismRun
from jobs.models import Job
from review.models import ReviewRound, ReviewTask
from tests.factories import make_items, make_job, make_membership, make_round, make_user

GUIDELINES = "Sum the text up in two or three sentences."


def make_written_project(
    task_type: str = "rated_answer", *, owner: User | None = None, reviewers: Sequence[User] = ()
) -> Project:
    project = project_create(
        user=owner or make_user(), name="Summaries", task_type=task_type, instructions=GUIDELINES
    )
    for reviewer in reviewers:
        make_membership(project, reviewer)
    return project


def make_written_run(
    project: Project, answers: Mapping[Item, str] | None = None, **fields: Any
) -> AnnotationRun:
    """A run with a written answer of each item; "" is a refusal."""
    if answers is None:
        answers = {
            item: f"Item {item.external_id} is short. It says what day it is."
            for item in project.items.order_by("id")
        }
    failed = sum(not answer for answer in answers.values())
    run = AnnotationRun.objects.create(
        project=project,
        job=make_job("annotation", Job.State.DONE, total=len(answers), done=len(answers), failed=failed),
        created_by=project.created_by,
        **{
            "kind": ModelRun.Kind.PROMPTED,
            "provider": "openai",
            "model": "small",
            "strategy": "naive",
            **fields,
        },
    )
    Annotation.objects.bulk_create(
        Annotation(
            run=run,
            item=item,
            answer=answer,
            failure="" if answer else "refused",
            message="" if answer else "The model declined to answer.",
        )
        for item, answer in answers.items()
    )
    return run


def _criticism_run(annotation_run: AnnotationRun, criticized: int) -> CriticismRun:
    return CriticismRun.objects.create(
        annotation_run=annotation_run,
        job=make_job("criticism", Job.State.DONE, total=criticized, done=criticized),
        created_by=annotation_run.created_by,
        kind=ModelRun.Kind.PROMPTED,
        provider="openai",
        model="other",
        strategy="cot",
    )


def make_ratings(annotation_run: AnnotationRun, qualities: Sequence[float]) -> CriticismRun:
    """A run that rates each written answer, in order of item."""
    annotations = list(annotation_run.annotations.filter(failure="").order_by("item_id"))
    run = _criticism_run(annotation_run, len(annotations))
    Criticism.objects.bulk_create(
        Criticism(run=run, annotation=annotation, priority=1 - quality, reasoning="It reads well enough.")
        for annotation, quality in zip(annotations, qualities, strict=True)
    )
    return run


def make_checks(annotation_run: AnnotationRun, facts: Sequence[Sequence[tuple[str, float]]]) -> CriticismRun:
    """A run that checks each written answer: of each, in order of item, its statements with their probabilities."""
    annotations = list(annotation_run.annotations.filter(failure="").order_by("item_id"))
    run = _criticism_run(annotation_run, len(annotations))
    for annotation, statements in zip(annotations, facts, strict=True):
        highest = max(error_prob for _, error_prob in statements)
        Criticism.objects.create(
            run=run,
            annotation=annotation,
            error_prob=highest,
            priority=highest,
            reasoning="One of them is not in the source.",
            facts=[
                {
                    "start": annotation.answer.index(statement),
                    "end": annotation.answer.index(statement) + len(statement),
                    "error_prob": error_prob,
                }
                for statement, error_prob in statements
            ],
        )
    return run


def answer_of(task: ReviewTask) -> str:
    """What the machine wrote."""
    assert task.annotation is not None
    return task.annotation.answer


def criticism_of(round: ReviewRound) -> CriticismRun:
    assert round.criticism_run is not None
    return round.criticism_run


def make_written_round(
    items: int = 3, budget: int = 2, *, owner: User | None = None, reviewers: Sequence[User] = ()
) -> ReviewRound:
    """A project whose written answers are rated, and a round ready to review."""
    project = make_written_project(owner=owner, reviewers=reviewers)
    make_items(project, items)
    ratings = make_ratings(make_written_run(project), [0.1 * (place + 1) for place in range(items)])
    return make_round(ratings, budget)
