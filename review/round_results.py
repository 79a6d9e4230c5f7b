"""What pages list of review rounds."""

from dataclasses import dataclass

from django.db.models import Count, F, Prefetch, Q, QuerySet

from annotate.models import Project
from criticize.models import CriticismRun
from jobs.models import Job
from review.models import Correction, ReviewRound, ReviewTask

DONE = (ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)


@dataclass(frozen=True, slots=True)
class ReviewerCount:
    """What one person did in a round, as it counts now. `corrected`: answers that differ from the machine's label."""

    reviewer: str
    answered: int
    skipped: int
    corrected: int


def rounds_of(project: Project) -> QuerySet[ReviewRound]:
    """The project's review rounds with how many of their items are answered and how many were selected."""
    return (
        project.review_rounds.filter(kind=ReviewRound.Kind.REVIEW)
        .select_related("criticism_run__annotation_run", "created_by")
        .annotate(
            selected=Count("tasks"),
            answered=Count("tasks", filter=Q(tasks__state=ReviewTask.State.ANSWERED)),
            reviewed=Count("tasks", filter=Q(tasks__state__in=DONE)),
        )
    )


def drawable_runs(project: Project) -> QuerySet[CriticismRun]:
    """The project's criticism runs that a round can be drawn from: finished ones."""
    return (
        CriticismRun.objects.filter(annotation_run__project=project)
        .exclude(job__state__in=Job.UNFINISHED)
        .select_related("job", "annotation_run")
    )


def counts_by_reviewer(round: ReviewRound) -> list[ReviewerCount]:
    """Who answered how much, most first."""
    rows = (
        round.tasks.filter(state__in=DONE)
        .values(reviewer=F("correction__author__username"))
        .annotate(
            answered=Count("pk", filter=Q(state=ReviewTask.State.ANSWERED)),
            skipped=Count("pk", filter=Q(state=ReviewTask.State.SKIPPED)),
            agreed=Count("pk", filter=Q(correction__label=F("annotation__label"))),
        )
        .order_by("-answered", "reviewer")
    )
    return [
        ReviewerCount(row["reviewer"], row["answered"], row["skipped"], row["answered"] - row["agreed"])
        for row in rows
    ]


def reviewed_tasks(round: ReviewRound) -> QuerySet[ReviewTask]:
    """Tasks that somebody answered or skipped, most suspicious first, each with everything people did with it."""
    everything = Correction.objects.select_related("author", "label").order_by("pk")
    return (
        round.tasks.filter(state__in=DONE)
        .select_related("item", "annotation__label", "criticism", "correction__label", "correction__author")
        .prefetch_related(Prefetch("corrections", queryset=everything))
        .order_by("rank")
    )
