"""What people answered to the same items, as arrays, and how far they agree with each other and with the machine."""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
from django.db.models import Count, F, Q, QuerySet

from annotate.models import Project, User
from annotate.spans import answer_f1
from review.agreement import (
    MISSING,
    UNDEFINED,
    Agreement,
    Figure,
    LabelAgreement,
    PairAgreement,
    agreement,
    confusion_agreement,
    label_pairs,
    mean_figure,
    pair_agreements,
)
from review.answers import answer_key, as_gold
from review.models import ReviewRound, ReviewTask

_ROWS_AT_ONCE = 5000
F1_BINS = 10
MOST_APART = 10


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
    """A reviewer's answers beside the machine's of the same item; rows of the confusion are the reviewer's labels.

    `reviewer` is None where all reviewers are counted together. Where answers are spans there is no confusion; then
    `f1_bins` counts the answers by their token F1, and `apart` are those that differ most.
    """

    reviewer: Reviewer | None
    answers: int
    agreement: PairAgreement
    f1_bins: list[int] = field(default_factory=list)
    apart: "list[Apart]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SaidSpan:
    """An answer and the character of the item's text at which it begins; "" at 0 is "no answer"."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Apart:
    """Two answers to an item that differ, by their token F1 in [0, 1]. `second` is the machine's where
    `reviewer_of_second` is None."""

    f1: float
    item_id: int
    first: "SaidSpan"
    second: "SaidSpan"
    reviewer_of_first: Reviewer
    reviewer_of_second: Reviewer | None


@dataclass(frozen=True)
class SharedAnswers:
    """Items that at least two people answered. `answers` (N, R): positions in the label set, −1 where missing.

    Someone who answered an item in two rounds counts with the later answer. Where answers are written, equal texts
    of an item have equal numbers and `labels` is empty. `blind` and `shown` count answers by what people saw. `spans`
    are the words by the places of the item and of the reviewer, where answers are spans of a text; else None.
    """

    item_ids: npt.NDArray[np.int64]
    reviewers: list[Reviewer]
    labels: list[str]
    answers: npt.NDArray[np.int64]
    codes: int
    blind: int
    shown: int
    seed: int
    spans: dict[tuple[int, int], SaidSpan] | None = None

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
        """Without labels κ and α mean nothing: chance never gives the same words twice. Spans have an F1."""
        found = self._figures[0]
        if not self.is_written:
            return found
        return Agreement(found.items, found.answers, found.percent, UNDEFINED, UNDEFINED, self._f1)

    @property
    def _f1(self) -> Figure:
        return mean_figure(self.f1_by_item, seed=self.seed) if self.spans is not None else UNDEFINED

    @cached_property
    def span_pairs(self) -> list[tuple[int, int, int, float]]:
        """(place of the item, of the first and of the second reviewer, token F1) of every two answers to an item."""
        if self.spans is None:
            return []
        return [
            (item, first, second, self._f1_of(item, first, second))
            for item, first, second in _pairs_of_answers(self.answers)
        ]

    def _f1_of(self, item: int, first: int, second: int) -> float:
        assert self.spans is not None  # noqa: S101 (the caller looked)
        if self.answers[item, first] == self.answers[item, second]:
            return 1.0
        return answer_f1(self.spans[item, first].text, as_gold(self.spans[item, second].text))

    @cached_property
    def f1_by_item(self) -> npt.NDArray[np.float64]:
        """Of each item the mean token F1 of every two answers, in [0, 1]; empty where answers are no spans."""
        if not self.span_pairs:
            return np.empty(0)
        places = np.array([pair[0] for pair in self.span_pairs])
        values = np.array([pair[3] for pair in self.span_pairs])
        means: npt.NDArray[np.float64] = np.bincount(places, values) / np.bincount(places)
        return means

    @property
    def f1_bins(self) -> list[int]:
        """Items in ten equal bins of their F1, the last with 1."""
        return f1_bins(self.f1_by_item)

    @property
    def apart(self) -> list[Apart]:
        """The answers to an item that differ most, the worst first; empty where answers are no spans."""
        spans = self.spans or {}
        return most_apart(
            Apart(
                f1,
                int(self.item_ids[item]),
                spans[item, first],
                spans[item, second],
                self.reviewers[first],
                self.reviewers[second],
            )
            for item, first, second, f1 in self.span_pairs
            if self.answers[item, first] != self.answers[item, second]
        )

    @property
    def by_label(self) -> list[LabelAgreement]:
        return [] if self.is_written else self._figures[1]

    @cached_property
    def pairs(self) -> list[PairAgreement]:
        """Of every two reviewers with an item in common, most items first; `first` and `second` as in `reviewers`."""
        if not self.is_written:
            return pair_agreements(self.answers, self.codes, seed=self.seed)
        by_pair: dict[tuple[int, int], list[float]] = {}
        for _, first, second, f1_of_both in self.span_pairs:
            by_pair.setdefault((first, second), []).append(f1_of_both)
        found = []
        for first in range(len(self.reviewers)):
            for second in range(first + 1, len(self.reviewers)):
                both = self.answers[:, [first, second]]
                both = both[(both != MISSING).all(axis=1)]
                if not len(both):
                    continue
                equal = int(np.count_nonzero(both[:, 0] == both[:, 1]))
                pair = _equal_or_not(equal, len(both), seed=self.seed, first=first, second=second)
                f1 = mean_figure(by_pair.get((first, second), []), seed=[self.seed, first, second])
                found.append(replace(pair, f1=f1))
        return sorted(found, key=lambda pair: (-pair.items, pair.first, pair.second))

    @cached_property
    def confused(self) -> npt.NDArray[np.int64]:
        """(K, K): pairs of answers to the same item by their two labels; what is off the diagonal differs."""
        if self.is_written:
            return np.zeros((0, 0), np.int64)
        return label_pairs(self.answers, self.codes)


def _pairs_of_answers(answers: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """(item, first, second): the places of every two answers to an item."""
    for item, row in enumerate(answers):
        given = np.flatnonzero(row != MISSING).tolist()
        yield from ((item, one, other) for place, one in enumerate(given) for other in given[place + 1 :])


def _equal_or_not(equal: int, items: int, *, seed: int, first: int = 0, second: int = 1) -> PairAgreement:
    """Agreement where equal or not is all there is: two cells have the same percent agreement, and no κ."""
    table = np.array([[equal, items - equal], [0, 0]])
    found = confusion_agreement(table, seed=seed, first=first, second=second)
    return replace(found, kappa=UNDEFINED, alpha=UNDEFINED, confusion=np.zeros((0, 0), np.int64))


def f1_bins(values: npt.ArrayLike) -> list[int]:
    """How many of these values, in [0, 1], lie in each of ten equal bins, the last with 1."""
    # Divided, not added up: 3/10 is the very 0.3 of three words in ten.
    edges = np.arange(F1_BINS + 1) / F1_BINS
    counts: list[int] = np.histogram(np.asarray(values, dtype=np.float64), edges)[0].tolist()
    return counts


def most_apart(given: Iterator[Apart]) -> list[Apart]:
    """Those with the lowest F1, the worst first, and of equally bad ones the first items."""
    return heapq.nsmallest(MOST_APART, given, key=lambda each: (each.f1, each.item_id))


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
        .values_list("item_id", "holder_id", answer, "correction__start", "is_blind")
    )
    words: dict[tuple[int, int], SaidSpan] = {}
    found = []
    for item, holder, said, start, is_blind in rows.iterator(chunk_size=_ROWS_AT_ONCE):
        found.append((item, holder, code(item, said), is_blind))
        if start is not None:
            words[item, holder] = SaidSpan(said, start)
    items, holders, codes, blinds = (np.array(column, dtype=np.int64) for column in _columns(found))
    item_ids, item_places = np.unique(items, return_inverse=True)
    holder_ids, holder_places = np.unique(holders, return_inverse=True)
    answers = np.full((len(item_ids), len(holder_ids)), MISSING, dtype=np.int64)
    blind = np.zeros_like(answers)
    answers[item_places, holder_places] = codes
    blind[item_places, holder_places] = blinds
    given = int(np.count_nonzero(answers != MISSING))
    spans = None
    if project.task.is_span:
        places = zip(
            items.tolist(), holders.tolist(), item_places.tolist(), holder_places.tolist(), strict=True
        )
        spans = {(row, column): words[item, holder] for item, holder, row, column in places}
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
        spans=spans,
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
    """Reviewers against the machine's answer to the items they answered: all together first, then each by name.

    Empty where nobody answered an item that has a machine's answer, and where answers are composed.
    """
    if project.task.is_span:
        return _spans_against_machine(project, round, seen)
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


def _spans_against_machine(project: Project, round: ReviewRound | None, seen: str) -> list[MachineAgreement]:
    rows = (
        answered_turns(project, round, seen)
        .filter(annotation__start__isnull=False)
        .order_by("item_id", "correction_id")
        .values_list(
            "holder_id",
            "holder__username",
            "item_id",
            "correction__answer",
            "correction__start",
            "annotation__answer",
            "annotation__start",
        )
    )
    given: dict[Reviewer, list[Apart]] = {}
    for holder, name, item, said, start, machine, machine_start in rows.iterator(chunk_size=_ROWS_AT_ONCE):
        reviewer = Reviewer(holder, name)
        both = SaidSpan(said, start or 0), SaidSpan(machine, machine_start or 0)
        f1 = answer_f1(machine, as_gold(said))
        given.setdefault(reviewer, []).append(Apart(f1, item, *both, reviewer, None))
    if not given:
        return []
    by_name = sorted(given.items(), key=lambda each: (each[0].name, each[0].id))
    everything = [each for _, answers in by_name for each in answers]
    together = _matches_of_machine(None, everything, project.seed)
    return [
        together,
        *(_matches_of_machine(reviewer, answers, project.seed) for reviewer, answers in by_name),
    ]


def _matches_of_machine(reviewer: Reviewer | None, given: Sequence[Apart], seed: int) -> MachineAgreement:
    apart = [each for each in given if _span_key(each.first.text) != _span_key(each.second.text)]
    first = reviewer.id if reviewer else 0
    values = [each.f1 for each in given]
    equal = _equal_or_not(len(given) - len(apart), len(given), seed=seed, first=first)
    return MachineAgreement(
        reviewer,
        len(given),
        replace(equal, f1=mean_figure(values, seed=[seed, first])),
        f1_bins(values),
        most_apart(iter(apart)),
    )
