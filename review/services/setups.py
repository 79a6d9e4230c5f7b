"""Changing how an open round is worked on."""

from collections import defaultdict
from dataclasses import asdict

from django.db import transaction

from annotate.errors import Refusal
from annotate.models import User
from review.drawing import arm_of
from review.models import ReviewRound, ReviewTask
from review.round_history import record_change
from review.services.deadlocks import again_after_deadlock
from review.services.settling import lock_in_order
from review.setup import RoundSetup

_AT_ONCE = 5000  # ids in one statement


@again_after_deadlock
@transaction.atomic
def round_setup_change(*, round: ReviewRound, user: User, setup: RoundSetup) -> ReviewRound:
    """Give an open round another display, or other known items. Raises Refusal.

    What waits is shown by the new display; what somebody looks at or answered stays as it was shown. How many people
    answer an item is fixed when a round is drawn: items answered by then would have too few answers for the rest.
    """
    # Not the key: who makes a task of the round meanwhile must not wait for this while holding others.
    rounds = ReviewRound.objects.select_for_update(of=("self",), no_key=True)
    round = rounds.select_related("project").get(pk=round.pk)
    if round.state == ReviewRound.State.CLOSED:
        raise Refusal("The round is closed: nothing of it is handed out. Reopen it first.")
    before = RoundSetup.of(round)
    setup = setup.checked(round.kind, is_written=not round.project.task.is_checkable)
    if (setup.overlap, setup.overlap_share) != (before.overlap, before.overlap_share):
        raise Refusal(
            "How many people answer an item is fixed once a round is drawn. Draw another round to change it.",
            field="overlap",
        )
    old, new = asdict(before), asdict(setup)
    changed = [name for name in new if new[name] != old[name]]
    if not changed:
        return round
    for name in changed:
        setattr(round, name, new[name])
    round.save(update_fields=changed)
    if "display" in changed:
        _show_as_set(round)
    record_change(
        round,
        user,
        "settings changed",
        old={name: old[name] for name in changed},
        new={name: new[name] for name in changed},
    )
    return round


def _show_as_set(round: ReviewRound) -> None:
    """Give waiting tasks the arm of the round's display. A known item that cannot be shown so stays as it is."""
    by_arm: dict[str, list[int]] = defaultdict(list)
    waiting = round.tasks.filter(state=ReviewTask.State.WAITING)
    lock_in_order(waiting)
    for task_id, item_id, purpose, criticism_id in waiting.values_list(
        "pk", "item_id", "purpose", "criticism_id"
    ):
        arm = arm_of(round, item_id)
        is_bare = purpose == ReviewTask.Purpose.GOLD and criticism_id is None
        if not is_bare:
            by_arm[arm].append(task_id)
    for arm, task_ids in by_arm.items():
        for start in range(0, len(task_ids), _AT_ONCE):
            some = ReviewTask.objects.filter(pk__in=task_ids[start : start + _AT_ONCE])
            some.filter(state=ReviewTask.State.WAITING).update(arm=arm)
