"""Raising a round's budget: what people did stays, and the rest of the larger budget is drawn anew among the others."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet

from annotate.errors import Refusal
from annotate.models import User
from review.drawing import BETA, Population, Selection, enqueue, ranks, store_draw, turns
from review.models import BudgetRaise, Correction, ReviewRound, ReviewTask
from review.priorities import prioritized
from review.round_history import record_change
from review.sampling import draw, inclusion_probabilities
from review.services.deadlocks import again_after_deadlock
from review.services.rounds import budget_of
from review.services.settling import lock_in_order

THRESHOLD = "threshold"
DONE = (ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)
# Beside the seed's other streams: a later draw must not follow the first one, its queue's order, or an audit.
_STREAM = 3


@dataclass(frozen=True)
class RaisePreview:
    """What raising to `budget` would do: `more` reviews than now, `cost` US$ for these.

    Of the drawn items there are now `kept` stay. `waiting` is how many would wait to be reviewed then.
    """

    old_budget: int
    budget: int
    more: int
    cost: Decimal
    kept: int
    waiting: int
    reopens: bool


@dataclass(frozen=True)
class _Redraw:
    """A draw that starts from what is there: π and δ of all items, and which of them are to be queued.

    Of the drawn items there are `kept` stay. Those of `added` that somebody picked by hand have a task already.
    `waiting` of both are not reviewed yet.
    """

    items: Population
    selection: Selection
    added: np.ndarray
    kept: np.ndarray
    waiting: int


def raise_preview(
    *, round: ReviewRound, count: int | None = None, share: float | None = None
) -> RaisePreview:
    """What `round_raise` would do now. Raises Refusal."""
    budget = _new_budget(round, count=count, share=share)
    redraw = _redraw(round, round.tasks.all(), budget)
    return RaisePreview(
        old_budget=round.budget,
        budget=budget,
        more=budget - round.budget,
        cost=(budget - round.budget) * round.project.review_price,
        kept=int(redraw.kept.sum()),
        waiting=redraw.waiting,
        reopens=round.state == ReviewRound.State.CLOSED,
    )


@again_after_deadlock
@transaction.atomic
def round_raise(
    *, round: ReviewRound, user: User, count: int | None = None, share: float | None = None
) -> ReviewRound:
    """Give a review round a larger budget, as a number of reviews or a share of the items. A closed one opens again.

    Items stay where somebody answered, skipped, holds or has once held one of their tasks and said something: π = δ =
    1. They count against the budget, the skipped ones too, which are not drawn again and count as not reviewed. What is
    left of the budget is drawn by the round's own rule and priority among all other items, also those that only waited,
    which may so leave the queue with all their tasks. Given what people did, every other item's π is known again: the
    ACT loss stays unbiased. With the threshold rule waiting items stay too, since the most suspicious items of a larger
    budget include them; so ties go to those queued. Items of an audit are its own: they are not drawn, and its answers
    count as reviewed with π = 1. Items picked by hand are drawn like all others; where one is selected, what people
    said of it counts as the round's own. Of the added items the round's share is answered by several people.

    The round's blocks of the new `draw_number` hold π and δ; the earlier ones stay as they were. Raises Refusal for
    blind rounds, and for budgets that are no larger or above the number of items.
    """
    # Not the key: a conflict that comes up now refers to the round with a task of its own, and must not wait for this.
    rounds = ReviewRound.objects.select_for_update(of=("self",), no_key=True)
    round = rounds.select_related("project").get(pk=round.pk)
    budget = _new_budget(round, count=count, share=share)
    # Answers and claims that come now wait here for the end of the draw, and find their task as it is then. Known items
    # are no part of it: who answers one may hold its task and wait for others.
    drawn = round.tasks.exclude(purpose=ReviewTask.Purpose.GOLD)
    # Read afterwards: what people said while this waits for the locks is not seen by the statement that takes them.
    lock_in_order(drawn)
    redraw = _redraw(round, drawn, budget)
    BudgetRaise.objects.create(
        round=round,
        draw_number=round.draw_number + 1,
        old_budget=round.budget,
        new_budget=budget,
        reviewed=round.counted_tasks.filter(state=ReviewTask.State.ANSWERED)
        .exclude(purpose=ReviewTask.Purpose.PICKED)
        .count(),
        parameters=round.parameters,
        created_by=user,
    )
    record_change(round, user, "raised", old={"budget": round.budget}, new={"budget": budget})
    round.draw_number += 1
    round.budget = budget
    round.parameters = redraw.selection.parameters
    round.population = len(redraw.items)
    round.state = ReviewRound.State.OPEN
    round.save(update_fields=["draw_number", "budget", "parameters", "population", "state"])
    store_draw(round, redraw.items, redraw.selection)
    if round.rule != THRESHOLD:
        _take_out(round, redraw)
    _queue_added(round, redraw)
    return round


def _take_out(round: ReviewRound, redraw: _Redraw) -> None:
    """Delete the tasks of items that do not stay: nobody has done anything with them."""
    queued = round.tasks.filter(purpose=ReviewTask.Purpose.REVIEW)
    kept = set(redraw.items.item_ids[redraw.kept].tolist())
    gone = [pk for pk, item_id in queued.values_list("pk", "item_id") if item_id not in kept]
    for start in range(0, len(gone), 500):
        ReviewTask.objects.filter(pk__in=gone[start : start + 500]).delete()


def _queue_added(round: ReviewRound, redraw: _Redraw) -> None:
    """Queue what the draw added, after all that is there. A picked item's task becomes the draw's, answered or not."""
    items = redraw.items
    order = ranks(items.suspicion, redraw.added, seed=round.seed)
    picked = dict(
        round.tasks.filter(purpose=ReviewTask.Purpose.PICKED).order_by("pk").values_list("item_id", "pk")
    )
    selected = set(items.item_ids[order].tolist())
    for item_id in sorted(selected & set(picked)):
        ReviewTask.objects.filter(pk=picked[item_id]).update(purpose=ReviewTask.Purpose.REVIEW)
    last = round.tasks.aggregate(last=Max("rank"))["last"]
    new = [index for index in order if int(items.item_ids[index]) not in picked]
    enqueue(round, turns(items, new), first_rank=0 if last is None else last + 1)


def _new_budget(round: ReviewRound, *, count: int | None, share: float | None) -> int:
    if round.kind != ReviewRound.Kind.REVIEW or round.criticism_run is None:
        raise Refusal("Only a review round's budget can be raised.", field="budget")
    if not round.criticism_run.job.is_finished:
        raise Refusal("The criticism run works again on failed items. Wait until it is finished.")
    budget = budget_of(round.population, count=count, share=share)
    if budget <= round.budget:
        raise Refusal(
            f"The budget is {round.budget:,} reviews, and it can only be raised: what is reviewed stays reviewed. "
            "To spend less, close the round.",
            field="budget",
        )
    return budget


def _redraw(round: ReviewRound, tasks: QuerySet[ReviewTask], budget: int) -> _Redraw:
    """Draw what `budget` leaves after the tasks that stay. The same tasks, budget and draw number give the same."""
    assert round.criticism_run is not None  # noqa: S101 (a review round's constraint)
    stays, waiting = _staying(round, tasks)
    audited = ReviewTask.counted.filter(round__audited=round).values_list("item_id", flat=True)
    items, learned = prioritized(round.criticism_run, round.priority)
    kept = np.isin(items.item_ids, np.array(sorted(stays), dtype=np.int64))
    is_open = ~kept & ~np.isin(items.item_ids, np.array(list(audited), dtype=np.int64))
    if not is_open.any():
        raise Refusal(
            "There is nothing to add: every item is reviewed, queued or in an audit already.", field="budget"
        )
    stream = [round.seed, _STREAM, round.draw_number + 1]
    inclusion_probs, selected, parameters = draw_again(
        items.suspicion,
        kept,
        is_open,
        budget - len(stays),
        round.rule,
        beta=round.parameters.get("beta") or BETA,
        rng=np.random.default_rng(stream),
        rank_only=items.ranks_only,
    )
    added = selected & ~kept
    answered = round.tasks.filter(purpose=ReviewTask.Purpose.PICKED, state__in=DONE)
    picked = np.array(list(answered.values_list("item_id", flat=True)), dtype=np.int64)
    return _Redraw(
        items=items,
        selection=Selection(
            inclusion_probs, selected, learned | parameters | {"kept": len(stays), "seed": stream}
        ),
        added=added,
        kept=kept,
        waiting=len(stays & waiting) + int(np.sum(added & ~np.isin(items.item_ids, picked))),
    )


def _staying(round: ReviewRound, tasks: QuerySet[ReviewTask]) -> tuple[set[int], set[int]]:
    """Ids of the drawn items that stay, and of those whose answer is waited for."""
    # An answer that was taken back is history too, and history is never deleted.
    has_history = Exists(Correction.objects.filter(task=OuterRef("pk")))
    stays, waiting = set(), set()
    rows = tasks.order_by("pk").values_list("item_id", "purpose", "state", "is_counted", has_history)
    for item_id, purpose, state, is_counted, is_known in rows:
        if purpose not in (ReviewTask.Purpose.REVIEW, ReviewTask.Purpose.ADJUDICATION):
            continue
        if round.rule == THRESHOLD or state != ReviewTask.State.WAITING or is_known:
            stays.add(item_id)
        if is_counted and state == ReviewTask.State.WAITING:
            waiting.add(item_id)
    return stays, waiting


def draw_again(
    suspicion: np.ndarray,
    kept: np.ndarray,
    is_open: np.ndarray,
    left: int,
    rule: str,
    *,
    beta: float,
    rng: np.random.Generator,
    rank_only: bool = False,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """π and δ of each item, shape (N,), and the rule's parameters: `left` reviews drawn among the items `is_open`.

    π = δ = 1 where `kept`, and 0 where neither. All arrays have shape (N,).
    """
    inclusion_probs = kept.astype(np.float64)
    selected = kept.copy()
    drawn, parameters = inclusion_probabilities(
        suspicion[is_open], left, rule, beta=beta, rng=rng, rank_only=rank_only
    )
    inclusion_probs[is_open] = drawn
    selected[is_open] = draw(drawn, rng=rng)
    return inclusion_probs, selected, parameters
