"""What one person is to do in a project and how they do: the reviewers' own overview."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from annotate.models import Project, User
from review.figures import DONE
from review.models import ReviewPause, ReviewRound, ReviewTask
from review.services.assignment import to_hand_back

State = ReviewTask.State
Purpose = ReviewTask.Purpose


@dataclass(frozen=True, slots=True)
class OwnRound:
    """An open round as one of its reviewers sees it: items `left` for them, and what they have `done`."""

    round: ReviewRound
    left: int
    done: int
    pause: ReviewPause | None


def own_rounds(project: Project, user: User) -> list[OwnRound]:
    """The project's open rounds where there is or was something to do for the user, latest first."""
    rounds = list(project.review_rounds.filter(state=ReviewRound.State.OPEN).order_by("-kind", "-pk"))
    pauses = {
        pause.round_id: pause
        for pause in ReviewPause.objects.filter(round__in=rounds, user=user, lifted_at=None)
    }
    own = [
        OwnRound(round, left_for(round, user), _done_by(round, user), pauses.get(round.pk))
        for round in rounds
    ]
    return [each for each in own if each.left or each.done or each.pause]


def kept_for(project: Project, user: User) -> list[tuple[ReviewRound, int]]:
    """The project's open rounds with how many turns the user looks at or is named for, where any, latest first."""
    rounds = project.review_rounds.filter(state=ReviewRound.State.OPEN).order_by("-kind", "-pk")
    turns = ReviewTask.objects.filter(to_hand_back(user), round__in=rounds).order_by()
    turns = turns.exclude(assigned_to=None, state=State.LEASED, lease_until__lte=timezone.now())
    kept = dict(turns.values_list("round").annotate(Count("pk")))
    return [(round, kept[round.pk]) for round in rounds if round.pk in kept]


def left_for(round: ReviewRound, user: User) -> int:
    """How many items of the round the user may still answer: neither another's, nor answered by them before."""
    is_free = (
        Q(state=State.WAITING)
        | Q(state=State.LEASED, holder=user)
        | Q(state=State.LEASED, lease_until__lte=timezone.now())
    )
    is_theirs = Q(purpose__in=[Purpose.REVIEW, Purpose.PICKED]) & (Q(assigned_to=None) | Q(assigned_to=user))
    is_known = Q(purpose=Purpose.GOLD, assigned_to=user)
    turns = round.tasks.filter(is_free, is_theirs | is_known).order_by()
    turns = turns.exclude(item__in=round.tasks.filter(holder=user, state__in=DONE).values("item"))
    # Sorting out an item's further turns takes as long again as finding a million.
    return turns.values("item").distinct().count() if round.overlap > 1 else turns.count()


def left_by_project(projects: Iterable[Project], user: User) -> dict[int, int]:
    """By project id: how many items of its open rounds the user may still answer; none of rounds that they pause in."""
    paused = ReviewPause.objects.filter(round=OuterRef("pk"), user=user, lifted_at=None)
    rounds = ReviewRound.objects.filter(project__in=projects, state=ReviewRound.State.OPEN)
    left: Counter[int] = Counter()
    for round in rounds.exclude(Exists(paused)):
        left[round.project_id] += left_for(round, user)
    return dict(+left)


def _done_by(round: ReviewRound, user: User) -> int:
    return ReviewTask.objects.filter(round=round, holder=user, state__in=DONE).count()
