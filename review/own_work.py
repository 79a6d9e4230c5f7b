"""What one person is to do in a project and how they do: the reviewers' own overview."""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from annotate.models import Project, User
from review.figures import DONE
from review.models import ReviewPause, ReviewRound, ReviewTask

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


def left_for(round: ReviewRound, user: User) -> int:
    """How many items of the round the user may still answer: neither another's, nor answered by them before."""
    is_free = (
        Q(state=State.WAITING)
        | Q(state=State.LEASED, holder=user)
        | Q(state=State.LEASED, lease_until__lte=timezone.now())
    )
    is_theirs = Q(purpose__in=[Purpose.REVIEW, Purpose.PICKED]) & (Q(assigned_to=None) | Q(assigned_to=user))
    is_known = Q(purpose=Purpose.GOLD, assigned_to=user)
    had = ReviewTask.objects.filter(round=round, item=OuterRef("item"), holder=user, state__in=DONE)
    tasks = ReviewTask.objects.filter(is_free, is_theirs | is_known, round=round)
    return tasks.exclude(Exists(had)).order_by().values("item").distinct().count()


def _done_by(round: ReviewRound, user: User) -> int:
    return ReviewTask.objects.filter(round=round, holder=user, state__in=DONE).count()
