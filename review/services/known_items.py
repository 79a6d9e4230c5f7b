"""Known items among those that a reviewer is handed: which, when, and what follows from the answers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.crypto import salted_hmac

from annotate.models import Annotation, AnnotationRun, Item, LabelExample, User
from annotate.rightness import Truth, is_known
from criticize.models import Criticism, CriticismRun
from jobs.models import Job
from review.drawing import arm_of
from review.known import counts_since, has_known, known_items
from review.models import Correction, ReviewRound, ReviewTask
from review.services.pauses import pause, pause_of

_POSITIONS, _CHOICE = "positions", "choice"  # streams of chance
# Known items looked at for one that is as suspicious as its neighbour; among the nearest, chance decides.
_LOOKED_AT, _NEAREST = 200, 5
_POOL = 1000  # known items that they are looked for among
_HANDED = (ReviewTask.State.LEASED, ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A known item as it would be shown; without an annotation only to who sees nothing of the machine's."""

    item_id: int
    annotation_id: int | None = None
    criticism_id: int | None = None
    priority: float | None = None

    def can_be_shown(self, arm: str) -> bool:
        """Whether it looks like every other item to who sees the arm."""
        return arm != ReviewTask.Arm.CRITICISM or self.criticism_id is not None


def mix_in(round: ReviewRound, user: User, task_ids: list[int]) -> list[int]:
    """The tasks that the user was handed just now, with known items among them, as many as before.

    Each place in what a reviewer is handed holds a known item with the probability `round.gold_rate`, drawn with a
    secret of the round and the reviewer: nothing about a place tells, nor can it be computed from what they may read.
    For each known item the last of the tasks goes back to the queue. Where no item is left that can be shown like its
    neighbours, there is none. The tasks are leased to the user, in order; those that the user held before are not
    among them.
    """
    if round.gold_rate <= 0 or not task_ids or not round.project.task.is_checkable:
        return task_ids
    handed = round.tasks.filter(holder=user, state__in=_HANDED).count()
    before = max(0, handed - len(task_ids))
    rng = _chance(round, user, _POSITIONS)
    is_known = rng.random(before + len(task_ids))[before:] < round.gold_rate
    neighbours = ReviewTask.objects.select_related("criticism").in_bulk(task_ids)
    mixed: list[int] = []
    left = list(task_ids)
    for known_next in is_known:
        known = _known_task(round, user, neighbours[left[0]]) if known_next else None
        mixed.append(left.pop(0) if known is None else known)
    if left:
        ReviewTask.objects.filter(pk__in=left, holder=user).update(
            state=ReviewTask.State.WAITING, holder=None, lease_until=None
        )
    return mixed


def _chance(round: ReviewRound, user: User, *stream: object) -> np.random.Generator:
    """The same at every time; without the installation's secret key nobody can tell what it draws."""
    named = ":".join(str(part) for part in (round.seed, round.pk, user.pk, *stream))
    return np.random.default_rng(list(salted_hmac("review.known-items", named, algorithm="sha256").digest()))


def _known_task(round: ReviewRound, user: User, neighbour: ReviewTask) -> int | None:
    """The key of a known item's turn, leased to the user, who handed it back before or has never had it."""
    mine = round.tasks.filter(purpose=ReviewTask.Purpose.GOLD, assigned_to=user)
    handed_back = mine.filter(state=ReviewTask.State.WAITING).order_by("pk")
    # Never wait here, holding what was chosen already: who has it locked may be waiting for that.
    waiting = handed_back.select_for_update(of=("self",), skip_locked=True).first()
    if waiting is None and not handed_back.exists():
        waiting = _new_task(round, user, neighbour, mine.count())
    if waiting is None:
        return None
    ReviewTask.objects.filter(pk=waiting.pk).update(
        state=ReviewTask.State.LEASED,
        holder=user,
        lease_until=neighbour.lease_until,
        rank=neighbour.rank,
    )
    return waiting.pk


def _new_task(round: ReviewRound, user: User, neighbour: ReviewTask, number: int) -> ReviewTask | None:
    rng = _chance(round, user, _CHOICE, number)
    chosen = _choose(round, user, neighbour, rng)
    if chosen is None:
        return None
    try:
        with transaction.atomic():
            return ReviewTask.objects.create(
                round=round,
                item_id=chosen.item_id,
                annotation_id=chosen.annotation_id,
                criticism_id=chosen.criticism_id,
                rank=neighbour.rank,
                purpose=ReviewTask.Purpose.GOLD,
                is_counted=False,
                arm=arm_of(round, chosen.item_id),
                assigned_to=user,
            )
    except IntegrityError:
        return None  # another tab of theirs was handed the same item at this moment


def _choose(
    round: ReviewRound, user: User, neighbour: ReviewTask, rng: np.random.Generator
) -> _Candidate | None:
    """An unused known item that is about as suspicious as the neighbour, where both have a priority."""
    # Keys, not a subquery: PostgreSQL takes seconds to join the three tables anew for each question.
    unused = _unused(round, user).order_by("pk").values_list("pk", flat=True)
    pool: list[int] = _some(unused, "pk", rng, most=_POOL)
    found = [each for each in _annotated(round, pool, rng) if each.can_be_shown(arm_of(round, each.item_id))]
    if not found:
        found = [_Candidate(pk) for pk in pool if arm_of(round, pk) == ReviewTask.Arm.BLIND]
    if not found:
        return None
    suspicion = neighbour.criticism.priority if neighbour.criticism else None
    if suspicion is not None:
        known = [each for each in found if each.priority is not None]
        nearest = sorted(known, key=lambda each: abs((each.priority or 0.0) - suspicion))
        found = nearest[:_NEAREST] or found
    return found[int(rng.integers(len(found)))]


def _unused(round: ReviewRound, user: User) -> QuerySet[Item]:
    """Known items that the user was not handed yet in this round, and whose label is not their own word."""
    had = ReviewTask.objects.filter(
        round=round, purpose=ReviewTask.Purpose.GOLD, assigned_to=user, item=OuterRef("pk")
    )
    has_gold = is_known(round.project.task, Truth.GOLD, prefix="")
    own_word = ~has_gold & Q(calibration_label__author=user)
    return known_items(round).exclude(Exists(had)).exclude(own_word)


def shown_runs(criticism: CriticismRun | None) -> list[tuple[AnnotationRun, CriticismRun | None]]:
    """Runs whose answers look like those of a round drawn from `criticism`: its own, then candidates of the model."""
    if criticism is None:
        return []
    own = criticism.annotation_run
    runs: list[tuple[AnnotationRun, CriticismRun | None]] = [(own, criticism)]
    candidates = AnnotationRun.objects.filter(
        project=own.project_id,
        scope=AnnotationRun.Scope.CALIBRATION,
        kind=own.kind,
        provider=own.provider,
        model=own.model,
        strategy=own.strategy,
        job__state=Job.State.DONE,
    )
    for candidate in candidates.order_by("-pk"):
        judged = candidate.criticism_runs.filter(
            kind=criticism.kind,
            provider=criticism.provider,
            model=criticism.model,
            strategy=criticism.strategy,
            job__state=Job.State.DONE,
        )
        runs.append((candidate, judged.order_by("-pk").first()))
    return runs


def _annotated(round: ReviewRound, pool: list[int], rng: np.random.Generator) -> Iterator[_Candidate]:
    """Known items with something to show, each once."""
    seen: set[int] = set()
    for run, criticism_run in shown_runs(round.criticism_run):
        annotations = Annotation.objects.filter(run=run, failure="", item__in=pool).order_by("item_id")
        usable = Criticism.objects.filter(run=criticism_run, failure="")
        if round.display == ReviewRound.Display.CRITICISM and not round.is_blind:
            annotations = annotations.filter(Exists(usable.filter(annotation=OuterRef("pk"))))
        some = dict(_some(annotations.values_list("item_id", "pk"), "item_id", rng))
        criticisms = {
            annotation_id: (pk, priority)
            for annotation_id, pk, priority in usable.filter(annotation__in=list(some.values())).values_list(
                "annotation_id", "pk", "priority"
            )
        }
        for item_id in [item_id for item_id in some if item_id not in seen]:
            criticism_id, priority = criticisms.get(some[item_id], (None, None))
            yield _Candidate(item_id, some[item_id], criticism_id, priority)
        seen |= some.keys()


def can_be_shown(criticism: CriticismRun) -> bool:
    """Whether the project has a known item with an answer to show that looks like those that `criticism` judged."""
    runs = [run for run, judged in shown_runs(criticism) if judged is not None]
    known = has_known(criticism.annotation_run.project, prefix="item__")
    shown = Annotation.objects.filter(known, run__in=runs, failure="")
    return shown.exclude(Exists(LabelExample.objects.filter(item=OuterRef("item")))).exists()


def _some(rows: QuerySet, by: str, rng: np.random.Generator, most: int = _LOOKED_AT) -> list:  # type: ignore[type-arg]
    """Up to `most` of the rows: those after a random one, in their order, and from the first on."""
    first = rows.values_list(by, flat=True).first()
    if first is None:
        return []
    last = rows.reverse().values_list(by, flat=True)[0]
    start = int(rng.integers(first, last + 1))
    some = list(rows.filter(**{f"{by}__gte": start})[:most])
    if len(some) < most:
        some += list(rows.filter(**{f"{by}__lt": start})[: most - len(some)])
    return some


def answered(task: ReviewTask, correction: Correction) -> None:
    """Called with each answer of a known item, once it is kept: pauses a reviewer who is too often wrong."""
    round = task.round
    if task.purpose != ReviewTask.Purpose.GOLD or correction.action != Correction.Action.LABEL:
        return
    if round.gold_threshold is None or pause_of(round, correction.author) is not None:
        return
    count, right = counts_since(round, correction.author)
    if count < round.gold_minimum or right >= round.gold_threshold * count:
        return
    pause(
        round=round,
        user=correction.author,
        by=None,
        reason=f"You answered {right} of {count} known items as expected, below {round.gold_threshold:.0%}. "
        "Nothing more of this round is handed to you until a manager of the project lifts the pause.",
        gold_answered=count,
        gold_right=right,
    )
