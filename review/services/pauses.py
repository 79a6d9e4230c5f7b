"""Pausing a reviewer in a round: nothing more of it is handed to them until a manager lifts the pause."""

from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.errors import Refusal
from annotate.history import record
from annotate.locks import lock_person
from annotate.models import User
from review.models import ReviewPause, ReviewRound, ReviewTask
from review.services.deadlocks import again_after_deadlock
from review.services.settling import lock_in_order

BY_HAND = "A manager of the project paused you in this round. Ask them when you can go on."
_MOST_CHARACTERS = 300


def pause_of(round: ReviewRound, user: User) -> ReviewPause | None:
    """The pause that holds now."""
    return ReviewPause.objects.filter(round=round, user=user, lifted_at=None).first()


def require_not_paused(round: ReviewRound, user: User) -> None:
    """Raises Refusal with the pause's reason, which is written to the reviewer."""
    pause = pause_of(round, user)
    if pause is not None:
        raise Refusal(pause.reason)


@again_after_deadlock
@transaction.atomic
def pause(
    *,
    round: ReviewRound,
    user: User,
    by: User | None,
    reason: str = "",
    gold_answered: int = 0,
    gold_right: int = 0,
) -> ReviewPause:
    """Hand the user nothing more of the round; what they look at goes back. `by` None: the product itself did it.

    `reason` is a sentence to the reviewer. Raises Refusal where they are paused already.
    """
    reason = reason.strip() or BY_HAND
    if len(reason) > _MOST_CHARACTERS:
        raise Refusal(f"The reason has at most {_MOST_CHARACTERS} characters.", field="reason")
    # Whose answer may pause them this moment: first the person, then their turns, as where they answer.
    lock_person(user)
    try:
        with transaction.atomic():
            paused = ReviewPause.objects.create(
                round=round, user=user, reason=reason, gold_answered=gold_answered, gold_right=gold_right
            )
    except IntegrityError as error:
        raise Refusal(f"{user} is paused in this round already.", field="user") from error
    held = ReviewTask.objects.filter(round=round, holder=user, state=ReviewTask.State.LEASED)
    held.filter(pk__in=lock_in_order(held)).update(
        state=ReviewTask.State.WAITING, holder=None, lease_until=None
    )
    record(
        round.project,
        by,
        "reviewer paused",
        subject=f"{user} in {round}",
        subject_id=round.pk,
        new={"reason": reason, "known_items": gold_answered, "as_expected": gold_right},
    )
    return paused


@again_after_deadlock
@transaction.atomic
def pause_lift(*, pause: ReviewPause, by: User) -> None:
    """Let the reviewer go on. Known items answered so far are not held against them any more. Raises Refusal."""
    lifted = ReviewPause.objects.filter(pk=pause.pk, lifted_at=None).update(
        lifted_at=timezone.now(), lifted_by=by
    )
    if not lifted:
        raise Refusal("This pause was lifted already.")
    record(
        pause.round.project,
        by,
        "pause lifted",
        subject=f"{pause.user} in {pause.round}",
        subject_id=pause.round_id,
        old={"reason": pause.reason},
    )
    pause.refresh_from_db(fields=["lifted_at", "lifted_by"])
