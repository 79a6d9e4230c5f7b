"""From the rows of a review round to its advice: what the answers so far say about the items to come."""

import math
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from django.db.models import QuerySet

from annotate.rightness import Truth, judgments
from annotate.task_types import TaskType
from criticize.combination import rank_shares
from review.advice import (
    EARLY,
    GO_ON,
    GROUP,
    RAISE,
    Bin,
    Calibration,
    Expected,
    Group,
    Step,
    TooFew,
    Verdict,
    errors_by_group,
    expected_errors,
    isotonic,
    reliability,
    verdict,
)
from review.answers import judged_by_people
from review.drawing import BETA, Population, select
from review.models import DrawArrays, ReviewRound, ReviewTask
from review.priorities import criticisms_like, is_training

AHEAD = 100
_MOST_GROUPS = 60
# Where more of the unreviewed items lie below all that was reviewed, what random review would find is not known.
_MOST_BELOW = 0.05


@dataclass(frozen=True)
class RoundAdvice:
    """Advice on a review round at a moment.

    `answered` in the round, `errors` of them answered otherwise than the machine. Where the priorities were learned
    from answers, only later ones make up `bins` and the calibration: those would flatter them. `evidence` counts blind
    answers from calibration items and audits that the calibration uses too. `axis` names what the items are ordered
    by; only where `is_probability` can it be compared with the share wrong. `ahead`: the next reviews in the budget, at
    most `AHEAD`; `rest`: all that are left in it; `beyond`: up to `AHEAD` that a larger budget would add. These three
    are None where there is no calibration yet.
    """

    answered: int
    errors: int
    evidence: int
    left: int
    axis: str
    is_probability: bool
    group_size: int
    groups: list[Group]
    bins: list[Bin]
    calibration: Calibration | None
    ahead: Expected | None
    rest: Expected | None
    beyond: Expected | None
    verdict: Verdict

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those of the calibration, lowest scores first."""
        return self.calibration.steps if self.calibration is not None else ()

    @property
    def sentences(self) -> list[str]:
        """What to expect, in words."""
        said = []
        if self.ahead is not None and self.ahead.reviews:
            said.append(self.ahead.sentence(_reviews("The next", self.ahead.reviews)))
        if self.rest is not None and self.ahead is not None and self.rest.reviews > self.ahead.reviews:
            said.append(self.rest.sentence(f"All {self.rest.reviews:,} reviews left in the budget"))
        if self.beyond is not None and self.beyond.reviews:
            said.append(
                self.beyond.sentence(f"{_reviews('The next', self.beyond.reviews)} beyond the budget")
            )
        return said


def _reviews(start: str, count: int) -> str:
    return f"{start} review" if count == 1 else f"{start} {count:,} reviews"


def round_advice(round: ReviewRound) -> RoundAdvice:
    """The advice on a review round. Raises ValueError for a round of another kind."""
    if round.kind != ReviewRound.Kind.REVIEW or round.criticism_run is None:
        raise ValueError("There is advice on review rounds alone.")
    draw = _current_draw(round)
    scores = _scores(round, draw)
    tasks = _drawn_tasks(round)
    task = round.project.task
    answered = _answered(tasks, task, by_time=True)
    queue = np.array(
        tasks.filter(state__in=[ReviewTask.State.WAITING, ReviewTask.State.LEASED])
        .order_by("rank")
        .values_list("item_id", flat=True),
        dtype=np.int64,
    )
    since = _learned_at(round)
    unlearned = answered if since is None else _answered(_answered_since(tasks, since), task, by_time=True)
    seen = _with_scores(draw, scores, unlearned)
    blind = [_with_scores(draw, scores, _audit_answers(round, answered[0], since))]
    if round.priority == ReviewRound.Priority.CRITICISM and not round.criticism_run.ranks_only:
        blind.append(_calibration_answers(round))
    known = [np.concatenate(parts) for parts in zip(seen, *blind, strict=True)]
    wrong = answered[1]
    size = GROUP * max(1, math.ceil(len(wrong) / (GROUP * _MOST_GROUPS)))
    advice = RoundAdvice(
        answered=len(wrong),
        errors=int(wrong.sum()),
        evidence=len(known[0]) - len(seen[0]),
        left=len(queue),
        axis=_axis(round),
        is_probability=_is_probability(round),
        group_size=size,
        groups=errors_by_group(wrong, size=size),
        bins=[] if is_training(round) else reliability(*seen),
        calibration=None,
        ahead=None,
        rest=None,
        beyond=None,
        verdict=Verdict(EARLY, ""),
    )
    if is_training(round):
        return replace(advice, verdict=_while_training(round, len(queue)))
    try:
        calibration = isotonic(*known)
    except TooFew as few:
        learned = "" if since is None else " Those that its priorities were learned from do not count."
        return replace(advice, verdict=Verdict(EARLY, f"{few}{learned}"))
    return _look_ahead(round, advice, calibration, draw, scores, answered[0], queue)


def _while_training(round: ReviewRound, left: int) -> Verdict:
    """Of a round that holds only the random items which a detector learns from, all alike in priority."""
    planned = round.parameters.get("planned_budget", round.budget)
    then = f"raise the budget to {planned:,}: the rest is drawn by what was learned from them."
    if left:
        return Verdict(
            GO_ON, f"These items are drawn at random, to learn from. When they are reviewed, {then}"
        )
    return Verdict(RAISE, f"The random items to learn from are reviewed. Now {then}")


def _look_ahead(
    round: ReviewRound,
    advice: RoundAdvice,
    calibration: Calibration,
    draw: DrawArrays,
    scores: np.ndarray,
    answered: np.ndarray,
    queue: np.ndarray,
) -> RoundAdvice:
    """The advice with what the calibration says about the items that nobody has answered."""
    queued = scores[np.searchsorted(draw.item_ids, queue)]
    ahead, rest = expected_errors(calibration, queued[:AHEAD]), expected_errors(calibration, queued)
    beyond = expected_errors(calibration, scores[_beyond(round, draw)])
    left = scores[~np.isin(draw.item_ids, answered)]
    is_known = len(left) > 0 and float(calibration.is_below(left).mean()) <= _MOST_BELOW
    return replace(
        advice,
        calibration=calibration,
        ahead=ahead,
        rest=rest,
        beyond=beyond,
        verdict=verdict(
            left=len(queue),
            ahead=ahead,
            beyond=beyond,
            at_random=float(calibration.error_probs(left).mean()) if is_known else None,
            review_price=float(round.project.review_price),
        ),
    )


# --- Rows ------------------------------------------------------------------------------------------------------------


def _drawn_tasks(round: ReviewRound) -> QuerySet[ReviewTask]:
    """One task of each item that the draw put there: those picked by hand say nothing of what the budget finds."""
    return round.counted_tasks.exclude(purpose=ReviewTask.Purpose.PICKED)


def _current_draw(round: ReviewRound) -> DrawArrays:
    parts = [block.arrays() for block in round.current_blocks.order_by("number")]
    return DrawArrays(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _population(round: ReviewRound, draw: DrawArrays, chosen: np.ndarray) -> Population:
    """Those items of the draw at the indices `chosen`."""
    nobody = np.zeros(len(chosen), dtype=np.int64)
    return Population(
        draw.item_ids[chosen],
        nobody,
        nobody,
        draw.error_probs[chosen],
        draw.priorities[chosen],
        round.criticism_run is not None and round.criticism_run.ranks_only,
    )


def _scores(round: ReviewRound, draw: DrawArrays) -> np.ndarray:
    """What the calibration orders items by, shape (N,): their priority, or their place where there is only an order.

    Items without a usable answer are as suspicious as can be, as in the draw.
    """
    suspicion = _population(round, draw, np.arange(len(draw.item_ids))).suspicion
    return suspicion if not _only_ranks(round) else rank_shares(suspicion)


def _only_ranks(round: ReviewRound) -> bool:
    run = round.criticism_run
    return round.priority == ReviewRound.Priority.CRITICISM and run is not None and run.ranks_only


def _is_probability(round: ReviewRound) -> bool:
    return not _only_ranks(round) and not _is_quality(round)


def _is_quality(round: ReviewRound) -> bool:
    return round.priority == ReviewRound.Priority.CRITICISM and round.project.task.is_rated


def _axis(round: ReviewRound) -> str:
    if _only_ranks(round):
        return "Place in the order, 1 the most suspicious"
    if _is_quality(round):
        return "1 − quality"
    if round.priority == ReviewRound.Priority.CRITICISM:
        return "Error probability ε̂"
    return "Error probability, as the round's priority has it"


def _answered(tasks: QuerySet[ReviewTask], task: TaskType, *, by_time: bool) -> tuple[np.ndarray, np.ndarray]:
    """Item ids, and whether the machine was wrong, of the tasks that are answered; in order of time or of item."""
    rows = tasks.filter(state=ReviewTask.State.ANSWERED).order_by("correction_id" if by_time else "item_id")
    found = np.array(list(judged_by_people(rows, task)), dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1] == 0


def _with_scores(
    draw: DrawArrays, scores: np.ndarray, answered: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(score, is_error) of answered items; of those alone that have a priority, since the others stand for none."""
    at = np.searchsorted(draw.item_ids, answered[0])
    known = ~np.isnan(draw.priorities[at])
    return scores[at[known]], answered[1][known]


def _learned_at(round: ReviewRound) -> datetime | None:
    """When the round's priorities were learned from the answers there were; None where they rest on no answers.

    Of those answers nothing can be told about how right the priorities are: they were fitted to them.
    """
    if round.priority == ReviewRound.Priority.CRITICISM:
        return None
    drawn = round.budget_raises.filter(draw_number=round.draw_number).first()
    return round.created_at if drawn is None else drawn.created_at


def _answered_since(tasks: QuerySet[ReviewTask], since: datetime) -> QuerySet[ReviewTask]:
    return tasks.filter(correction__created_at__gt=since)


def _audit_answers(
    round: ReviewRound, answered: np.ndarray, since: datetime | None
) -> tuple[np.ndarray, np.ndarray]:
    """Item ids and whether the machine was wrong, from the round's audits; without items that the round answers."""
    tasks = ReviewTask.counted.filter(round__audited=round)
    tasks = tasks if since is None else _answered_since(tasks, since)
    item_ids, is_error = _answered(tasks, round.project.task, by_time=False)
    others = ~np.isin(item_ids, answered)
    return item_ids[others], is_error[others]


def _beyond(round: ReviewRound, draw: DrawArrays) -> np.ndarray:
    """Indices of up to `AHEAD` items that the rule would add first, of those that no task or audit has."""
    taken = ReviewTask.counted.filter(round__audited=round).values_list("item_id", flat=True)
    others = np.flatnonzero(~draw.selected & ~np.isin(draw.item_ids, np.array(list(taken), dtype=np.int64)))
    if not len(others):
        return others
    items = _population(round, draw, others)
    selection = select(
        items, rule=round.rule, budget=AHEAD, seed=round.seed, beta=round.parameters.get("beta") or BETA
    )
    added: np.ndarray = others[selection.selected]
    return added


def _calibration_answers(round: ReviewRound) -> tuple[np.ndarray, np.ndarray]:
    """(score, is_error) of calibration items as the same annotator and the same criticizer judged them, where they did.

    A random sample, labeled blind: it says something about items that nobody suspects.
    """
    run = criticisms_like(round.criticism_run).first() if round.criticism_run is not None else None
    if run is None:
        return np.array([]), np.array([], dtype=bool)
    given = dict(run.criticisms.filter(failure="").values_list("annotation_id", "priority"))
    annotations = run.annotation_run.annotations.order_by("item_id")
    judged = judgments(annotations, round.project.task, Truth.CALIBRATION)
    found = [each for each in judged if each.annotation_id in given]
    return (
        np.array([given[each.annotation_id] for each in found], dtype=np.float64),
        np.array([not each.is_right for each in found], dtype=bool),
    )
