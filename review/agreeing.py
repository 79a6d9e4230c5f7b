"""What people answered to the same items, as arrays, and how far they agree with each other and with the machine."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
from django.db.models import Count, F, Q, QuerySet

from annotate.models import Project, User
from review.agreement import (
    MISSING,
    UNDEFINED,
    Agreement,
    LabelAgreement,
    PairAgreement,
    agreement,
    confusion_agreement,
    label_pairs,
    pair_agreements,
)
from review.answers import answer_key
from review.models import ReviewRound, ReviewTask

_ROWS_AT_ONCE = 5000


class Seen(StrEnum):
    """Which answers count, by what whoever gave them saw of the machine's."""

    ALL = "all"
    SHOWN = "shown"
    BLIND = "blind"


# Of `ReviewTask`: who answered saw nothing of the machine's. Calibration and audit rounds are always blind.
BLIND = Q(arm=ReviewTask.Arm.BLIND) | ~Q(round__kind=ReviewRound.Kind.REVIEW)
_ORDINARY = (ReviewTask.Purpose.REVIEW, ReviewTask.Purpose.PICKED)


def answered_turns(
    project: Project, round: ReviewRound | None = None, seen: str = Seen.ALL
) -> QuerySet[ReviewTask]:
    """Turns that people answered, of one round or of all: no skips, no known items, no adjudications."""
    turns = ReviewTask.objects.filter(
        round__project=project, purpose__in=_ORDINARY, state=ReviewTask.State.ANSWERED, holder__isnull=False
    )
    if round is not None:
        turns = turns.filter(round=round)
    if seen == Seen.BLIND:
        return turns.filter(BLIND)
    return turns.exclude(BLIND) if seen == Seen.SHOWN else turns


@dataclass(frozen=True, slots=True)
class Reviewer:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class MachineAgreement:
    """A reviewer's answers beside the machine's label of the same item; rows of the confusion are the reviewer's.

    `reviewer` is None where all reviewers are counted together.
    """

    reviewer: Reviewer | None
    answers: int
    agreement: PairAgreement


@dataclass(frozen=True)
class SharedAnswers:
    """Items that at least two people answered. `answers` (N, R): positions in the label set, −1 where missing.

    Someone who answered an item in two rounds counts with the later answer. Where answers are written, equal texts
    of an item have equal numbers and `labels` is empty. `blind` and `shown` count answers by what people saw.
    """

    item_ids: npt.NDArray[np.int64]
    reviewers: list[Reviewer]
    labels: list[str]
    answers: npt.NDArray[np.int64]
    codes: int
    blind: int
    shown: int
    seed: int

    @property
    def is_mixed(self) -> bool:
        """Whether some saw the machine's label and others did not."""
        return bool(self.blind and self.shown)

    @property
    def is_written(self) -> bool:
        return not self.labels

    @cached_property
    def _figures(self) -> tuple[Agreement, list[LabelAgreement]]:
        return agreement(self.answers, self.codes, seed=self.seed)

    @property
    def overall(self) -> Agreement:
        """Of written answers only the percent agreement means anything: chance would never write the same twice."""
        found = self._figures[0]
        if not self.is_written:
            return found
        return Agreement(found.items, found.answers, found.percent, UNDEFINED, UNDEFINED)

    @property
    def by_label(self) -> list[LabelAgreement]:
        return [] if self.is_written else self._figures[1]

    @cached_property
    def pairs(self) -> list[PairAgreement]:
        """Of every two reviewers with an item in common, most items first; `first` and `second` as in `reviewers`."""
        if not self.is_written:
            return pair_agreements(self.answers, self.codes, seed=self.seed)
        found = []
        for first in range(len(self.reviewers)):
            for second in range(first + 1, len(self.reviewers)):
                both = self.answers[:, [first, second]]
                both = both[(both != MISSING).all(axis=1)]
                if not len(both):
                    continue
                equal = int(np.count_nonzero(both[:, 0] == both[:, 1]))
                # Equal or not is all there is: two cells have the same percent agreement.
                table = np.array([[equal, len(both) - equal], [0, 0]])
                pair = confusion_agreement(table, seed=self.seed, first=first, second=second)
                found.append(
                    PairAgreement(
                        first,
                        second,
                        len(both),
                        pair.percent,
                        UNDEFINED,
                        UNDEFINED,
                        np.zeros((0, 0), np.int64),
                    )
                )
        return sorted(found, key=lambda pair: (-pair.items, pair.first, pair.second))

    @cached_property
    def confused(self) -> npt.NDArray[np.int64]:
        """(K, K): pairs of answers to the same item by their two labels; what is off the diagonal differs."""
        if self.is_written:
            return np.zeros((0, 0), np.int64)
        return label_pairs(self.answers, self.codes)


def shared_answers(project: Project, round: ReviewRound | None = None, seen: str = Seen.ALL) -> SharedAnswers:
    """All answers to items that at least two people answered, in the project or in one round of it."""
    turns = answered_turns(project, round, seen).order_by()
    shared = turns.values("item").annotate(people=Count("holder", distinct=True)).filter(people__gte=2)
    is_written = project.task.is_written
    labels = list(project.labels.order_by("position").values_list("pk", "name"))
    alike = _span_key if project.task.is_span else str.strip
    code = _text_codes(alike) if is_written else _label_codes([pk for pk, _ in labels])
    answer = "correction__answer" if is_written else "correction__label_id"
    rows = (
        turns.filter(item__in=shared.values("item"))
        .annotate(is_blind=BLIND)
        .order_by("correction_id")  # of two answers of one person to one item the later one stays
        .values_list("item_id", "holder_id", answer, "is_blind")
    )
    found = [
        (item, holder, code(item, said), is_blind)
        for item, holder, said, is_blind in rows.iterator(chunk_size=_ROWS_AT_ONCE)
    ]
    items, holders, codes, blinds = (np.array(column, dtype=np.int64) for column in _columns(found))
    item_ids, item_places = np.unique(items, return_inverse=True)
    holder_ids, holder_places = np.unique(holders, return_inverse=True)
    answers = np.full((len(item_ids), len(holder_ids)), MISSING, dtype=np.int64)
    blind = np.zeros_like(answers)
    answers[item_places, holder_places] = codes
    blind[item_places, holder_places] = blinds
    given = int(np.count_nonzero(answers != MISSING))
    names = dict(User.objects.filter(pk__in=holder_ids.tolist()).values_list("pk", "username"))
    return SharedAnswers(
        item_ids=item_ids,
        reviewers=[Reviewer(pk, names[pk]) for pk in holder_ids.tolist()],
        labels=[] if is_written else [name for _, name in labels],
        answers=answers,
        codes=max(int(codes.max(initial=0)) + 1, 1) if is_written else len(labels),
        blind=int(blind.sum()),
        shown=given - int(blind.sum()),
        seed=project.seed,
    )


def _columns(rows: list[tuple[int, int, int, bool]]) -> list[tuple[int, ...]]:
    return list(zip(*rows, strict=True)) if rows else [(), (), (), ()]


def _label_codes(label_ids: list[int]) -> Callable[[int, int], int]:
    places = {pk: place for place, pk in enumerate(label_ids)}
    return lambda _item, label: places[label]


def _span_key(text: str) -> str:
    return answer_key(None, text, 0)[1]


def _text_codes(alike: Callable[[str], str]) -> Callable[[int, str], int]:
    """Texts of an item that are `alike` get equal numbers; of each a digest is kept: long answers fill no memory."""
    numbers: dict[int, dict[bytes, int]] = {}

    def code(item: int, text: str) -> int:
        known = numbers.setdefault(item, {})
        return known.setdefault(hashlib.sha256(alike(text).encode()).digest(), len(known))

    return code


def machine_agreements(
    project: Project, round: ReviewRound | None = None, seen: str = Seen.ALL
) -> list[MachineAgreement]:
    """Reviewers against the machine's label of the items they answered: all together first, then each by name.

    Empty where nobody answered an item that has a machine's label, and where answers are written.
    """
    if project.task.is_written:
        return []
    places = {
        pk: place for place, pk in enumerate(project.labels.order_by("position").values_list("pk", flat=True))
    }
    rows = (
        answered_turns(project, round, seen)
        .filter(annotation__label__isnull=False)
        .order_by()
        .values(
            "holder", said=F("correction__label"), machine=F("annotation__label"), name=F("holder__username")
        )
        .annotate(answers=Count("pk"))
    )
    tables: dict[Reviewer, npt.NDArray[np.int64]] = {}
    for row in rows:
        reviewer = Reviewer(row["holder"], row["name"])
        table = tables.setdefault(reviewer, np.zeros((len(places), len(places)), dtype=np.int64))
        table[places[row["said"]], places[row["machine"]]] += row["answers"]
    if not tables:
        return []
    by_name = sorted(tables.items(), key=lambda each: (each[0].name, each[0].id))
    together = _against_machine(None, np.sum(list(tables.values()), axis=0), project.seed)
    return [together, *(_against_machine(reviewer, table, project.seed) for reviewer, table in by_name)]


def _against_machine(reviewer: Reviewer | None, table: npt.NDArray[np.int64], seed: int) -> MachineAgreement:
    found = confusion_agreement(table, seed=seed, first=reviewer.id if reviewer else 0)
    return MachineAgreement(reviewer, found.items, found)
