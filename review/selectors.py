"""What pages and the API say about rounds, tasks and the state of a project."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.db.models import Case, Count, F, Prefetch, Q, QuerySet, Value, When

from annotate.models import Annotation, AnnotationRun, Project, User
from annotate.spans import locate
from criticize.models import CriticismRun
from jobs.models import Job
from review.answers import AGREED
from review.final_spans import final_spans
from review.models import Correction, ReviewRound, ReviewTask
from review.services.queue import arm_shown, what_is_shown
from review.services.settling import DONE

# Of `quick_progress`: reviews in rounds that are counted with every answer; how long counts are kept, in seconds and in
# times of what counting takes; how long the first count is waited for, in seconds; items that are few.
_COUNTED_EACH_TIME = 500
_KEPT_AT_LEAST = 1.0
_KEPT_TIMES = 50
_COUNTING_AT_MOST = 120
_WAITED_FOR = 0.02
_FORGOTTEN_AFTER = 24 * 3600
_FEW_LEFT = 100


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """A round at a moment; `corrected` counts answers that differ from the machine's, and `mine` the turns that one
    person answered or skipped, `mine_skipped` of them skipped."""

    budget: int
    selected: int
    answered: int
    skipped: int
    leased: int
    waiting: int
    corrected: int
    mine: int
    mine_skipped: int = 0


def round_progress(round: ReviewRound, user: User | None = None) -> RoundProgress:
    """Where the round's items stand now; `mine` counts every turn that the user answered or skipped."""
    return _progress(round, user, _item_counts(round))


def progress_on_entry(round: ReviewRound, user: User) -> RoundProgress:
    """As `quick_progress`, for who begins: the first to do so waits until the round is counted."""
    progress = quick_progress(round, user, patience=_COUNTING_AT_MOST)
    return progress or as_reviewers_see(round, round_progress(round, user))


def quick_progress(round: ReviewRound, user: User, *, patience: float = _WAITED_FOR) -> RoundProgress | None:
    """As `round_progress`, for who answers item after item: in large rounds it may be some seconds old, and is None
    where counting such a round for the first time takes longer than `patience`, in seconds.

    What the user did is always exact, and so are the items left once they are few.
    """
    if round.budget <= _COUNTED_EACH_TIME:
        return as_reviewers_see(round, round_progress(round, user))
    counts = _recent_counts(round, patience)
    if counts is None:
        return None
    if counts["waiting"] + counts["leased"] <= _FEW_LEFT:
        counts = counts | _exact_end(round, counts)
    return as_reviewers_see(round, _progress(round, user, counts))


def as_reviewers_see(round: ReviewRound, progress: RoundProgress) -> RoundProgress:
    """The progress for who is answering: where they do not always see the machine's label, how many answers differ
    from it would tell them, right after an answer of theirs, what it is. Where known items are among the others, which
    are none of the round's items, what is answered are their own turns: else it would stand still after a known one."""
    display = ReviewRound.Display
    if round.display not in (display.CRITICISM, display.LABEL):
        progress = replace(progress, corrected=0)
    if round.gold_rate:
        answered = progress.mine - progress.mine_skipped
        progress = replace(progress, answered=answered, skipped=progress.mine_skipped, corrected=0)
    return progress


def _progress(round: ReviewRound, user: User | None, counts: dict[str, int]) -> RoundProgress:
    answered, agreed = counts["answered"], counts["agreed"]
    mine = _own_counts(round, user)
    return RoundProgress(
        budget=round.budget,
        selected=counts["selected"],
        answered=answered,
        skipped=counts["skipped"],
        leased=counts["leased"],
        waiting=counts["waiting"],
        corrected=0 if round.is_blind else max(0, answered - agreed),
        mine=sum(mine.values()),
        mine_skipped=mine.get(ReviewTask.State.SKIPPED, 0),
    )


def _own_counts(round: ReviewRound, user: User | None) -> dict[str, int]:
    """By state: the turns that the user answered or skipped."""
    if user is None:
        return {}
    turns = round.tasks.filter(holder=user, state__in=DONE).order_by()
    return dict(turns.values_list("state").annotate(Count("pk")))


def _item_counts(round: ReviewRound) -> dict[str, int]:
    """How many of the round's items are in each state, and how many answers are the machine's."""
    by_state = dict(round.counted_tasks.order_by().values_list("state").annotate(Count("pk")))
    state = ReviewTask.State
    answered = by_state.get(state.ANSWERED, 0)
    agreed = 0
    if answered and not round.is_blind:
        agreed = round.counted_tasks.filter(AGREED, state=state.ANSWERED).count()
    return {
        "selected": sum(by_state.values()),
        "answered": answered,
        "skipped": by_state.get(state.SKIPPED, 0),
        "leased": by_state.get(state.LEASED, 0),
        "waiting": by_state.get(state.WAITING, 0),
        "agreed": agreed,
    }


def _recent_counts(round: ReviewRound, patience: float) -> dict[str, int] | None:
    """Counts, kept the longer, the longer counting takes. Of all who ask for old ones, one has them counted anew, and
    nobody waits for it: counting a million items takes longer than answering one may.
    """
    key = _counts_key(round)
    kept: tuple[float, dict[str, int]] | None = cache.get(key)
    is_old = kept is None or time.time() >= kept[0]
    if is_old and cache.add(f"{key}-counting", True, _COUNTING_AT_MOST):
        counting = _in_background(partial(_count, round))
        if kept is None:
            counting.join(patience)
            kept = cache.get(key)
    return kept[1] if kept else None


def _counts_key(round: ReviewRound) -> str:
    return f"progress-{round.pk}-{round.draw_number}"


def _count(round: ReviewRound) -> None:
    key = _counts_key(round)
    started = time.time()
    try:
        counts = _item_counts(round)
        now = time.time()
        kept_until = now + max(_KEPT_AT_LEAST, _KEPT_TIMES * (now - started))
        cache.set(key, (kept_until, counts), _FORGOTTEN_AFTER)
    finally:
        cache.delete(f"{key}-counting")


def _in_background(count: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            count()
        finally:
            connection.close()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    return thread


def _exact_end(round: ReviewRound, counts: dict[str, int]) -> dict[str, int]:
    """The states of the items, from those that are open now: when they are few, an index finds them at once."""
    state = ReviewTask.State
    exact = {
        each: round.counted_tasks.filter(state=each).count()
        for each in (state.WAITING, state.LEASED, state.SKIPPED)
    }
    return {
        "waiting": exact[state.WAITING],
        "leased": exact[state.LEASED],
        "skipped": exact[state.SKIPPED],
        "answered": max(0, counts["selected"] - sum(exact.values())),
    }


def task_for_reviewer(task: ReviewTask, image_url: str | None) -> dict[str, Any]:
    """What the review screen needs of a task: nothing of the machine's where its arm is blind, and its label alone
    where that is the arm. Its rank too, which says how suspicious it is; none where known items are among the others,
    which have the rank of a neighbor.

    Nothing tells a known item from others, or that others answer the item too; an adjudication alone says what it is.
    """
    item = task.item
    shown = what_is_shown(task)
    annotation, criticism = task.annotation, task.criticism
    arm = arm_shown(task)
    blind = arm == ReviewTask.Arm.BLIND
    everything = arm == ReviewTask.Arm.CRITICISM
    is_adjudication = task.purpose == ReviewTask.Purpose.ADJUDICATION
    machine = None
    if shown["machine_label"] is not None and annotation is not None and annotation.label is not None:
        machine = _machine(annotation, item.text, everything=everything, who=annotation.run.who)
    elif shown.get("machine_answer") and annotation is not None:
        # Whose answer it is would sway who is blind.
        who = "" if blind else annotation.run.who
        machine = _machine(annotation, item.text, everything=everything, who=who)
    return {
        "id": task.pk,
        "version": task.version,
        "rank": task.rank if is_adjudication or (everything and not task.round.gold_rate) else None,
        "purpose": ReviewTask.Purpose.ADJUDICATION if is_adjudication else ReviewTask.Purpose.REVIEW,
        "arm": arm,
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
        if machine is not None and criticism is not None and everything
        else None,
        "failure": {"name": annotation.failure, "message": annotation.explanation}
        if not blind and annotation is not None and annotation.failure
        else None,
        "steps": annotation.steps if annotation is not None and everything else None,
        "stopped_at": annotation.stopped_at if annotation is not None and everything else None,
    }


def _machine(annotation: Annotation, text: str, *, everything: bool, who: str) -> dict[str, Any]:
    """The machine's label or answer; with what it said about it only where `everything` is shown.

    Of a span, all places where its words stand in the text: which of them is meant, the model did not say.
    """
    places = locate(annotation.answer, text) if annotation.start is not None else []
    occurrences = [{"start": start, "end": end} for start, end in places]
    return {
        "label_id": annotation.label_id,
        "label": annotation.label.name if annotation.label is not None else "",
        "answer": annotation.answer,
        "start": annotation.start,
        "end": annotation.end,
        "occurrences": occurrences,
        "reasoning": annotation.reasoning if everything else "",
        "confidence": annotation.confidence if everything else None,
        "who": who,
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
    if round.project.task.is_span:
        found = final_spans(round, run)
        return sum(each.is_right for each in found), len(found)
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
    """The answer in words that the task's last undo took back; "" where that was none."""
    return _taken_back(task).answer


def span_taken_back(task: ReviewTask) -> tuple[int | None, int | None]:
    """(start, end) of the span that the task's last undo took back; None both where that was none."""
    taken = _taken_back(task)
    return taken.start, taken.end


def _taken_back(task: ReviewTask) -> Correction:
    return next(iter(task.corrections.order_by("-pk")[1:2]), Correction())


@dataclass(frozen=True, slots=True)
class ReviewerCount:
    """What one person did in a round, as it counts now. `corrected`: answers that differ from the machine's."""

    reviewer: str
    answered: int
    skipped: int
    corrected: int


def rounds_of(project: Project) -> QuerySet[ReviewRound]:
    """The project's review rounds."""
    rounds = project.review_rounds.filter(kind__in=ReviewRound.EXPORTED)
    return rounds.select_related("criticism_run__annotation_run", "routed_run", "created_by")


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
