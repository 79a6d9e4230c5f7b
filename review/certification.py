"""From the rows of a round and its audits to the certificate: how accurate the labels were, and are now."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from django.core.cache import cache
from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet

from annotate.task_types import TaskType
from review.answers import judged_by_people
from review.certificate import accuracy_interval
from review.models import Correction, ReviewRound, ReviewTask

LEVEL = 0.95
_KEPT = 600  # seconds

OPEN = (ReviewTask.State.WAITING, ReviewTask.State.LEASED)


@dataclass(frozen=True)
class Audit:
    """An audit round as the certificate reads it."""

    round: ReviewRound

    @property
    def root(self) -> int:
        """The audit round that this one extends, or itself: those with the same root are one sample."""
        return int(self.round.parameters.get("extends") or self.round.pk)

    @property
    def draw_number(self) -> int:
        """Of the draw of the audited round that it was taken after."""
        return int(self.round.parameters.get("draw_number", 0))

    @cached_property
    def item_ids(self) -> np.ndarray:
        """The ids of its sample, in order."""
        return _ids(self.round.counted_tasks.order_by("item_id").values_list("item_id", flat=True))

    def population(self) -> np.ndarray:
        """Ids, in order, of the items that it was drawn from: those that nobody had reviewed then."""
        return drawn_items(self.round)


@dataclass(frozen=True, slots=True)
class Interval:
    """An accuracy in [0, 1] with its 95% interval."""

    share: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"share": self.share, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Certificate:
    """How many of `items` labels are right: the machine's `before` anybody reviewed, and the final ones `after`.

    `reviewed` items had a person's answer when the audit was drawn, `corrected` of them another one than the
    machine's. Of the `population` others `audited` were labelled blind, and `wrong` of those labels were not the
    machine's; `skipped` ones count among the wrong, and so do items without a machine's label.
    """

    round_id: int
    audits: list[int]
    items: int
    reviewed: int
    corrected: int
    population: int
    audited: int
    wrong: int
    skipped: int
    before: Interval
    after: Interval
    made_at: datetime | None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As the API and the data card say it."""
        return {
            "level": LEVEL,
            "machine_accuracy": self.before.as_dict(),
            "final_accuracy": self.after.as_dict(),
            "items": self.items,
            "reviewed": self.reviewed,
            "corrected": self.corrected,
            "unreviewed": self.population,
            "audited": self.audited,
            "wrong": self.wrong,
            "skipped": self.skipped,
            "audits": self.audits,
            "made_at": self.made_at.isoformat() if self.made_at else None,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Certification:
    """A certificate, or the sentence that says what is missing for one. Never a number that nobody measured."""

    certificate: Certificate | None
    missing: str = ""


# --- Rows ------------------------------------------------------------------------------------------------------------


def _ids(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


def drawn_items(round: ReviewRound) -> np.ndarray:
    """Ids, in order, of the items in the draw that counts."""
    blocks = [block.arrays().item_ids for block in round.current_blocks.order_by("number").iterator()]
    return np.concatenate(blocks) if blocks else np.array([], dtype=np.int64)


def reviewed_items(round: ReviewRound) -> np.ndarray:
    """Ids, in order, of the items that have an answer in the round."""
    answered = round.counted_tasks.filter(state=ReviewTask.State.ANSWERED)
    return _ids(answered.order_by("item_id").values_list("item_id", flat=True).iterator())


def audits_of(round: ReviewRound) -> list[Audit]:
    """The round's audits, oldest first."""
    return [Audit(each) for each in round.audits.order_by("pk")]


def audited_by_people(audits: Sequence[Audit]) -> np.ndarray:
    """Ids, in order, of the items that have an answer in one of these audits."""
    answered = ReviewTask.counted.filter(
        round__in=[audit.round.pk for audit in audits], state=ReviewTask.State.ANSWERED
    )
    return np.unique(_ids(answered.values_list("item_id", flat=True)))


def is_settled(round: ReviewRound) -> bool:
    """Whether no answer is awaited: the round is closed, or nothing of it is left."""
    return (
        round.state == ReviewRound.State.CLOSED
        or not ReviewTask.counted.filter(round=round, state__in=OPEN).exists()
    )


# --- The certificate -------------------------------------------------------------------------------------------------


def certification(round: ReviewRound) -> Certification:
    """The round's certificate, kept for some minutes while none of its answers change."""
    # An audit that is drawn, or an item that is picked, adds to what is left.
    left = ReviewTask.counted.filter(round__in=_with_audits(round), state__in=OPEN).count()
    seen = (round.pk, round.state, round.draw_number, left, _latest_answer(round))
    state = "-".join(str(value) for value in seen)
    key = f"certificate-{state}"
    kept: Certification | None = cache.get(key)
    if kept is None:
        kept = certification_now(round)
        cache.set(key, kept, _KEPT)
    return kept


def _with_audits(round: ReviewRound) -> QuerySet[ReviewRound]:
    return ReviewRound.objects.filter(Q(pk=round.pk) | Q(audited=round.pk))


def _latest_answer(round: ReviewRound) -> int:
    """Id of a correction: the round and its audits have none that is newer. Looks only at those since the last time.

    Every answer, skip and undo adds a correction, and looking through all of a large round takes half a second.
    """
    newest = Correction.objects.aggregate(newest=Max("pk"))["newest"] or 0
    key = f"latest-answer-{round.pk}"
    seen, latest = cache.get(key) or (None, newest)
    if seen is not None and newest > seen:
        of_rounds = ReviewTask.objects.filter(pk=OuterRef("task"), round__in=_with_audits(round))
        # A join a database may begin with all tasks of the rounds.
        since = Correction.objects.filter(Exists(of_rounds), pk__gt=seen)
        latest = since.aggregate(newest=Max("pk"))["newest"] or latest
    cache.set(key, (newest, latest), _KEPT)
    return int(latest)


def certification_now(round: ReviewRound) -> Certification:
    """The certificate of a review round from its newest audit that is complete, or what is missing for one."""
    if round.kind != ReviewRound.Kind.REVIEW:
        return Certification(None, "Only a review round has a certificate.")
    audits = audits_of(round)
    if not audits:
        return _without_audit(round)
    chains = [
        [audit for audit in audits if audit.root == root]
        for root in dict.fromkeys(audit.root for audit in reversed(audits))
    ]
    waiting = open_counts(audits)
    for chain in chains:
        complete = _complete(chain, waiting)
        if complete:
            notes = []
            left = sum(waiting.values())
            if left:
                notes.append(
                    f"A further audit is under way: {left:,} of its items wait to be {_done_to(round)}."
                )
            return Certification(_certificate(round, complete, notes))
    chain = chains[0]
    left, total = waiting[chain[0].round.pk], len(chain[0].item_ids)
    closed = " It is closed: reopen it first." if chain[0].round.state == ReviewRound.State.CLOSED else ""
    return Certification(
        None,
        f"The audit is not complete: {left:,} of its {total:,} items wait to be {_done_to(round)}. "
        f"A part of it would not be a random sample.{closed}",
    )


def _done_to(round: ReviewRound) -> str:
    """What people do to an audit's items."""
    return "answered" if round.project.task.is_written else "labeled"


def _without_audit(round: ReviewRound) -> Certification:
    noun = round.project.task.answer_noun
    if not is_settled(round):
        left = ReviewTask.counted.filter(round=round, state__in=OPEN).count()
        return Certification(
            None,
            f"How accurate the final {noun}s are is not known. Finish or close the review "
            f"({left:,} items are left), then have a random sample of the other items audited.",
        )
    items, reviewed = drawn_items(round), reviewed_items(round)
    if len(items) and len(np.setdiff1d(items, reviewed)) == 0:
        return Certification(_certificate(round, [], []))
    return Certification(
        None,
        f"How accurate the final {noun}s are is not known: nobody has audited the items that were not reviewed. "
        "A blind audit of a random sample of them gives the figure and its interval.",
    )


def open_counts(audits: list[Audit]) -> dict[int, int]:
    """By the id of an audit's round: how many of its items wait."""
    counts = {audit.round.pk: 0 for audit in audits}
    rows = (
        ReviewTask.counted.filter(round__in=list(counts), state__in=OPEN)
        .order_by()
        .values_list("round")
        .annotate(Count("pk"))
    )
    return counts | dict(rows)


def _complete(chain: list[Audit], waiting: dict[int, int]) -> list[Audit]:
    """The audits before the first one with open items: the next ones go on in random order, so these are a sample."""
    complete = []
    for audit in chain:
        if waiting[audit.round.pk]:
            break
        complete.append(audit)
    return complete


def _certificate(round: ReviewRound, audits: list[Audit], notes: list[str]) -> Certificate:
    """From complete audits that are one sample; from none where people reviewed every item."""
    tasks = ReviewTask.counted.filter(round__in=[audit.round.pk for audit in audits])
    task = round.project.task
    sample = dict(_judged(tasks, task))
    audited = sum(len(audit.item_ids) for audit in audits)
    skipped = audited - len(sample)
    wrong = skipped + sum(not right for right in sample.values())
    items = drawn_items(round)
    population = audits[0].population() if audits else np.array([], dtype=np.int64)
    # What had a person's answer when the audit was drawn: in the round, or in an audit before a change of the round.
    reviewed = np.setdiff1d(items, population, assume_unique=True).tolist()
    answers = dict(_judged(ReviewTask.counted.filter(round=round), task))
    earlier = [audit.round.pk for audit in audits_of(round) if audits and audit.round.pk < audits[0].round.pk]
    judged = dict(_judged(ReviewTask.counted.filter(round__in=earlier), task)) | answers
    kept = sum(item_id in judged for item_id in reviewed)
    right = sum(judged.get(item_id, False) for item_id in reviewed)
    since = len(np.intersect1d(_ids(answers), population))
    rest, total = len(population), len(items)
    sample_share = 1.0 - wrong / audited if audited else 1.0
    low, high = accuracy_interval(wrong, audited, rest, level=LEVEL) if rest else (1.0, 1.0)
    return Certificate(
        round_id=round.pk,
        audits=[audit.round.pk for audit in audits],
        items=total,
        reviewed=kept,
        corrected=kept - right,
        population=rest,
        audited=audited,
        wrong=wrong,
        skipped=skipped,
        before=_interval(right, rest, total, sample_share, low, high),
        after=_interval(kept, rest, total, sample_share, low, high),
        made_at=tasks.aggregate(latest=Max("correction__created_at"))["latest"],
        notes=[*notes, *_notes(round, audits, skipped, len(reviewed) - kept, since)],
    )


def _interval(right: int, rest: int, total: int, share: float, low: float, high: float) -> Interval:
    """Of `total` labels `right` are known to be right, and of `rest` a share between `low` and `high` is."""
    return Interval(*((right + each * rest) / total for each in (share, low, high)))


def _notes(round: ReviewRound, audits: list[Audit], skipped: int, undone: int, since: int) -> list[str]:
    noun = round.project.task.answer_noun
    notes = []
    if skipped:
        notes.append(f"{skipped:,} audited items were skipped; they count as wrong.")
    if audits and audits[0].draw_number != round.draw_number:
        notes.append(
            f"The budget was raised after the audit: this describes the {noun}s before. Reviews since then only "
            "make them better."
        )
    if since:
        notes.append(
            f"{since:,} more items were reviewed since the audit was drawn. They are not counted, and only make "
            f"the {noun}s better."
        )
    if undone:
        notes.append(
            f"{undone:,} reviews were taken back since the audit was drawn; their items count as wrong."
        )
    return notes


def _judged(tasks: "QuerySet[ReviewTask]", task: TaskType) -> Iterator[tuple[int, bool]]:
    """(item id, whether the machine's answer is right by the person's) of those tasks that are answered."""
    yield from judged_by_people(tasks.filter(state=ReviewTask.State.ANSWERED).order_by("pk"), task)
