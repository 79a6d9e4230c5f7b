"""Who works on a round, how much, how fast, and how well on known items."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from annotate.access import May, members_who_may
from review.answers import AGREED
from review.known import KnownFigures, figures_by_reviewer
from review.models import Correction, ReviewPause, ReviewRound, ReviewTask

# The latest answers say how long one takes; more would only cost time.
_TIMED_ANSWERS = 10_000
_DONE = (ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)
_NONE = KnownFigures(0, "", 0, 0)


@dataclass(slots=True)
class Reviewer:
    """One person in a round. Counts are of turns at its items, known items apart; `seconds` is a median.

    `assigned` waits for this person alone, `held` is being looked at. `is_member`: may still review.
    """

    user_id: int
    name: str
    is_member: bool
    answered: int = 0
    skipped: int = 0
    corrected: int = 0
    held: int = 0
    assigned: int = 0
    seconds: float | None = None
    known: KnownFigures = field(default=_NONE)
    pause: ReviewPause | None = None


def reviewers_of(round: ReviewRound) -> list[Reviewer]:
    """Everybody who may answer the round's items or did, those who answered most first."""
    found = {
        pk: Reviewer(pk, name, is_member=True)
        for pk, name in members_who_may(round.project, May.REVIEW).values_list("pk", "username")
    }
    for row in _done(round):
        each = found.setdefault(row["holder"], Reviewer(row["holder"], row["name"], is_member=False))
        each.answered, each.skipped = row["answered"], row["skipped"]
        each.corrected = row["answered"] - row["agreed"]
    held, assigned, seconds = _held(round), _assigned(round), _seconds(round)
    known, pauses = figures_by_reviewer(round), _pauses(round)
    for pk, each in found.items():
        each.held, each.assigned, each.seconds = held[pk], assigned[pk], seconds.get(pk)
        each.known, each.pause = known.get(pk, _NONE), pauses.get(pk)
    return sorted(found.values(), key=lambda each: (-each.answered, each.name))


def _ordinary(round: ReviewRound) -> QuerySet[ReviewTask]:
    return round.tasks.exclude(purpose=ReviewTask.Purpose.GOLD).order_by()


def _done(round: ReviewRound) -> list[dict[str, Any]]:
    rows = (
        _ordinary(round)
        .filter(state__in=_DONE, holder__isnull=False)
        .values("holder", name=F("holder__username"))
        .annotate(
            answered=Count("pk", filter=Q(state=ReviewTask.State.ANSWERED)),
            skipped=Count("pk", filter=Q(state=ReviewTask.State.SKIPPED)),
            agreed=Count("pk", filter=Q(state=ReviewTask.State.ANSWERED) & AGREED),
        )
    )
    return [dict(row) for row in rows]


def _held(round: ReviewRound) -> Counter[int]:
    held = round.tasks.order_by().filter(state=ReviewTask.State.LEASED, lease_until__gt=timezone.now())
    return Counter(held.values_list("holder", flat=True))


def _assigned(round: ReviewRound) -> Counter[int]:
    waiting = _ordinary(round).filter(state=ReviewTask.State.WAITING, assigned_to__isnull=False)
    counts = waiting.values_list("assigned_to").annotate(Count("pk"))
    return Counter(dict(counts))


def _seconds(round: ReviewRound) -> dict[int, float]:
    timed = Correction.objects.filter(
        task__round=round, action=Correction.Action.LABEL, seconds__isnull=False
    ).order_by("-pk")
    by_author: dict[int, list[float]] = defaultdict(list)
    for author, seconds in timed.values_list("author", "seconds")[:_TIMED_ANSWERS]:
        by_author[author].append(float(seconds or 0))
    return {author: float(np.median(seconds)) for author, seconds in by_author.items()}


def _pauses(round: ReviewRound) -> dict[int, ReviewPause]:
    return {pause.user_id: pause for pause in round.pauses.filter(lifted_at=None)}
