"""What one person is to do in a project and how they do: the reviewers' own overview."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
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
    return _left(user).filter(round=round).order_by().values("item").distinct().count()


def left_by_project(projects: Iterable[Project], user: User) -> dict[int, int]:
    """By project id: how many items of its open rounds the user may still answer; none of rounds that they pause in."""
    paused = ReviewPause.objects.filter(round=OuterRef("round"), user=user, lifted_at=None)
    rows = (
        _left(user)
        .filter(round__project__in=projects, round__state=ReviewRound.State.OPEN)
        .exclude(Exists(paused))
        .order_by()
        .values("round__project", "round")
        .annotate(left=Count("item", distinct=True))
    )
    left: Counter[int] = Counter()
    for row in rows:
        left[row["round__project"]] += row["left"]
    return dict(left)


def _left(user: User) -> QuerySet[ReviewTask]:
    """The turns that the user may still be handed, of any round; an item may have several."""
    is_free = (
        Q(state=State.WAITING)
        | Q(state=State.LEASED, holder=user)
        | Q(state=State.LEASED, lease_until__lte=timezone.now())
    )
    is_theirs = Q(purpose__in=[Purpose.REVIEW, Purpose.PICKED]) & (Q(assigned_to=None) | Q(assigned_to=user))
    is_known = Q(purpose=Purpose.GOLD, assigned_to=user)
    had = ReviewTask.objects.filter(
        round=OuterRef("round"), item=OuterRef("item"), holder=user, state__in=DONE
    )
    return ReviewTask.objects.filter(is_free, is_theirs | is_known).exclude(Exists(had))


def _done_by(round: ReviewRound, user: User) -> int:
    return ReviewTask.objects.filter(round=round, holder=user, state__in=DONE).count()
