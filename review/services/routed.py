"""Rounds of the items that a router gave to people: with a plan all at once, or one by one as streams are stopped."""

from collections.abc import Sequence

import numpy as np
from django.db import transaction
from django.db.models import Max

from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, User
from review.drawing import Population, Selection, Turn, enqueue, store_draw
from review.models import ReviewRound, ReviewTask
from review.round_history import record_created
from review.services.deadlocks import again_after_deadlock

# A person's answer is certain and the machine's stands elsewhere, which is the threshold rule's π of 0 and 1.
_RULE = "threshold"


@again_after_deadlock
@transaction.atomic
def routed_round_create(*, run: AnnotationRun, user: User, budget: int, population: int) -> ReviewRound:
    """An open round for at most `budget` of the run's `population` items; it is empty at first. Raises Refusal."""
    if ReviewRound.objects.filter(routed_run=run).exists():
        raise Refusal("The items that this run gives to people are in a round already.")
    round = ReviewRound.objects.create(
        project=run.project,
        kind=ReviewRound.Kind.ROUTED,
        routed_run=run,
        rule=_RULE,
        budget=budget,
        population=population,
        seed=run.seed,
        created_by=user,
    )
    record_created(round, user)
    return round


@again_after_deadlock
@transaction.atomic
def give_to_people(round: ReviewRound, annotations: Sequence[Annotation]) -> int:
    """Queue the items of these annotations of the run, in this order, after those that wait; how many are new.

    An item that is queued already stays as it is. Raises Refusal, and queues none, where they exceed the budget.
    """
    # Not the key: a conflict that comes up now refers to the round with a task of its own, and must not wait for this.
    ReviewRound.objects.select_for_update(no_key=True).get(pk=round.pk)
    ids = [annotation.item_id for annotation in annotations]
    tasks = round.counted_tasks
    queued = set(tasks.filter(item__in=ids).values_list("item_id", flat=True))
    turns = [Turn(each.item_id, each.pk) for each in annotations if each.item_id not in queued]
    taken = tasks.aggregate(last=Max("rank"))["last"]
    if tasks.count() + len(turns) > round.budget:
        raise Refusal(
            f"People were to get {round.budget:,} of the items at most, and {len(turns):,} more would exceed that."
        )
    enqueue(round, turns, first_rank=0 if taken is None else taken + 1)
    return len(turns)


@again_after_deadlock
@transaction.atomic
def settle_routed_round(round: ReviewRound) -> None:
    """Keep π and δ of every item of the run, once it is done: 1 for those of people, 0 for the others."""
    run = round.routed_run
    assert run is not None  # noqa: S101 (a constraint of routed rounds)
    rows = Annotation.objects.filter(run=run).order_by("item_id").values_list("item_id", "pk", "failure")
    found = list(rows)
    unknown = np.full(len(found), np.nan)
    items = Population(
        np.array([row[0] for row in found], dtype=np.int64),
        np.array([row[1] for row in found], dtype=np.int64),
        np.zeros(len(found), dtype=np.int64),
        unknown,
        unknown,
    )
    selected = np.array([failure == Annotation.TO_PERSON for _, _, failure in found], dtype=np.bool_)
    round.draw_blocks.all().delete()
    store_draw(round, items, Selection(selected.astype(np.float64), selected, {}))
    ReviewRound.objects.filter(pk=round.pk).update(population=len(found))


def answered_by_people(run: AnnotationRun) -> int:
    """How many of the run's items for people somebody answered."""
    return ReviewTask.counted.filter(round__routed_run=run, state=ReviewTask.State.ANSWERED).count()
