"""What pages and the API say about rounds, tasks and the state of a project."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Count, F, Prefetch, Q, QuerySet, Value, When

from annotate.models import Annotation, AnnotationRun, Project, User
from criticize.models import CriticismRun
from jobs.models import Job
from review.answers import AGREED
from review.models import Correction, ReviewRound, ReviewTask
from review.services.queue import what_is_shown


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """A round at a moment; `corrected` counts answers that differ from the machine's."""

    budget: int
    selected: int
    answered: int
    skipped: int
    leased: int
    waiting: int
    corrected: int
    mine: int


def round_progress(round: ReviewRound, user: User | None = None) -> RoundProgress:
    state = ReviewTask.State
    counts = round.tasks.aggregate(
        selected=Count("pk"),
        answered=Count("pk", filter=Q(state=state.ANSWERED)),
        skipped=Count("pk", filter=Q(state=state.SKIPPED)),
        leased=Count("pk", filter=Q(state=state.LEASED)),
        waiting=Count("pk", filter=Q(state=state.WAITING)),
        agreed=Count("pk", filter=Q(state=state.ANSWERED) & AGREED),
        mine=Count("pk", filter=Q(state__in=[state.ANSWERED, state.SKIPPED], correction__author=user)),
    )
    agreed = counts.pop("agreed")
    return RoundProgress(
        budget=round.budget, corrected=0 if round.is_blind else counts["answered"] - agreed, **counts
    )


def task_for_reviewer(task: ReviewTask, image_url: str | None) -> dict[str, Any]:
    """What the review screen needs of a task; nothing of the machine's in a blind round."""
    item = task.item
    shown = what_is_shown(task)
    annotation, criticism = task.annotation, task.criticism
    blind = task.round.is_blind
    machine = None
    if shown["machine_label"] is not None and annotation is not None and annotation.label is not None:
        machine = {
            "label_id": annotation.label_id,
            "label": annotation.label.name,
            "answer": "",
            "reasoning": annotation.reasoning,
            "confidence": annotation.confidence,
            "who": annotation.run.who,
        }
    elif shown.get("machine_answer") and annotation is not None:
        machine = _machine_answer(annotation, blind=blind)
    return {
        "id": task.pk,
        "version": task.version,
        "rank": task.rank,
        "state": task.state,
        "lease_until": task.lease_until.isoformat() if task.lease_until else None,
        "blind": blind,
        "item": {
            "id": item.pk,
            "external_id": item.external_id,
            "text": item.text,
            "question": item.question,
            "image_url": image_url,
            "image_width": item.image.width if item.image else None,
            "image_height": item.image.height if item.image else None,
            "columns": item.columns,
        },
        "machine": machine,
        "criticism": _criticism(task)
        if machine is not None and criticism is not None and not blind
        else None,
        "failure": {"name": annotation.failure, "message": annotation.message}
        if not blind and annotation is not None and annotation.failure
        else None,
    }


def _machine_answer(annotation: Annotation, *, blind: bool) -> dict[str, Any]:
    """A written answer; in an audit without anything that would sway who judges it."""
    return {
        "label_id": None,
        "label": "",
        "answer": annotation.answer,
        "reasoning": "" if blind else annotation.reasoning,
        "confidence": None if blind else annotation.confidence,
        "who": "" if blind else annotation.run.who,
    }


def _criticism(task: ReviewTask) -> dict[str, Any]:
    criticism = task.criticism
    assert criticism is not None  # noqa: S101 (the caller looked)
    suspicion = criticism.priority if task.round.project.task.is_rated else None
    return {
        "error_prob": criticism.error_prob,
        "quality": None if suspicion is None else 1.0 - suspicion,
        "facts": criticism.facts or [],
        "reasoning": criticism.reasoning,
        "who": criticism.run.who,
    }


def final_accuracy(round: ReviewRound) -> tuple[int, int]:
    """(right, judged) of the final labels against gold, over the round's items that have gold.

    Labels that an audit of the round corrected are final too.
    """
    run = round.criticism_run
    if run is None:
        return 0, 0
    annotations = run.annotation_run.annotations.filter(item__gold__isnull=False)
    reviewed = ReviewTask.counted.filter(round=round, state=ReviewTask.State.ANSWERED)
    audited = ReviewTask.counted.filter(round__audited=round, state=ReviewTask.State.ANSWERED)
    audited = audited.exclude(item_id__in=reviewed.values("item_id"))
    right = Q(item__gold__isnull=False, correction__label=F("item__gold"))
    right_by_people = reviewed.filter(right).count() + audited.filter(right).count()
    right_by_machine = (
        annotations.filter(label=F("item__gold"))
        .exclude(item_id__in=reviewed.values("item_id"))
        .exclude(item_id__in=audited.values("item_id"))
        .count()
    )
    return right_by_people + right_by_machine, annotations.count()


def history(task: ReviewTask) -> list[Correction]:
    """Everything people did with the task, first to last."""
    return list(task.corrections.select_related("author", "label").order_by("pk"))


def answer_taken_back(task: ReviewTask) -> str:
    """The written answer that the task's last undo took back; "" where that was none."""
    before = task.corrections.order_by("-pk").values_list("answer", flat=True)[1:2]
    return next(iter(before), "")


DONE = (ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)


@dataclass(frozen=True, slots=True)
class ReviewerCount:
    """What one person did in a round, as it counts now. `corrected`: answers that differ from the machine's."""

    reviewer: str
    answered: int
    skipped: int
    corrected: int


def rounds_of(project: Project) -> QuerySet[ReviewRound]:
    """The project's review rounds with how many of their items are answered and how many were selected."""
    counted = Q(tasks__is_counted=True)
    return (
        project.review_rounds.filter(kind=ReviewRound.Kind.REVIEW)
        .select_related("criticism_run__annotation_run", "created_by")
        .annotate(
            selected=Count("tasks", filter=counted),
            answered=Count("tasks", filter=counted & Q(tasks__state=ReviewTask.State.ANSWERED)),
            reviewed=Count("tasks", filter=counted & Q(tasks__state__in=DONE)),
        )
    )


def drawable_runs(project: Project) -> QuerySet[CriticismRun]:
    """The project's criticism runs that a round can be drawn from: finished ones, and no candidates."""
    return (
        CriticismRun.objects.filter(
            annotation_run__project=project, annotation_run__scope=AnnotationRun.Scope.PROJECT
        )
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
            agreed=Count("pk", filter=AGREED),
        )
        .order_by("-answered", "reviewer")
    )
    return [
        ReviewerCount(row["reviewer"], row["answered"], row["skipped"], row["answered"] - row["agreed"])
        for row in rows
    ]


def reviewed_tasks(round: ReviewRound) -> QuerySet[ReviewTask]:
    """Tasks that somebody answered or skipped, most suspicious first, each with everything people did with it.

    `is_agreed` says of each whether the answer is the machine's.
    """
    everything = Correction.objects.select_related("author", "label").order_by("pk")
    return (
        round.tasks.filter(state__in=DONE)
        .select_related("item", "annotation__label", "criticism", "correction__label", "correction__author")
        .prefetch_related(Prefetch("corrections", queryset=everything))
        .annotate(is_agreed=Case(When(AGREED, then=Value(True)), default=Value(False)))
        .order_by("rank")
    )
