"""Agreement in a project as its page, its CSV files and the API tell it: figures, tables, and what they mean."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from annotate.models import Project
from review.agreeing import (
    MachineAgreement,
    Seen,
    SharedAnswers,
    machine_agreements,
    shared_answers,
)
from review.agreement import Agreement, Figure, PairAgreement
from review.dashboard_scope import Cell, Table
from review.models import ReviewRound

# A matrix of more labels cannot be read: those that are confused most are shown, and the table has all.
MOST_LABELS = 12
GOOD, FAIR = 0.8, 0.667
_FEW_ITEMS = 30

_INTERVALS = ("percent", "percent_low", "percent_high", "kappa", "kappa_low", "kappa_high")
_ALPHAS = ("alpha", "alpha_low", "alpha_high")
_F1 = ("f1", "f1_low", "f1_high")


@dataclass(frozen=True, slots=True)
class Crossed:
    """A cell of a matrix as the chart of matrices takes it: the column's label and the row's."""

    machine: str
    human: str
    count: int


@dataclass(frozen=True, slots=True)
class MatrixRow:
    name: str
    cells: list[Crossed]
    total: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """Labels by labels. `is_cut`: there are more labels than are shown."""

    columns: list[str]
    rows: list[MatrixRow]
    is_cut: bool


@dataclass(frozen=True)
class AgreementReport:
    """Of one round or of all; `seen` says whose answers count, by what they saw of the machine's."""

    project: Project
    round: ReviewRound | None
    seen: str
    shared: SharedAnswers
    machine: list[MachineAgreement]

    @property
    def is_empty(self) -> bool:
        return not self.shared.overall.items

    @property
    def few(self) -> bool:
        """Whether there are so few items that intervals are rough."""
        return self.shared.overall.items < _FEW_ITEMS

    def pair_name(self, pair: PairAgreement) -> str:
        return f"{self.shared.reviewers[pair.first].name} and {self.shared.reviewers[pair.second].name}"

    def label_name(self, label: int) -> str:
        return self.shared.labels[label]

    @property
    def are_spans(self) -> bool:
        return self.project.task.is_span

    @property
    def f1_in_words(self) -> str:
        value = self.shared.overall.f1.value
        if value is None:
            return ""
        return (
            f"The words of two answers overlap with a token F1 of {100 * value:.0f}% on average: 100% is the same "
            "words, 0% none in common. A high F1 beside a low share of equal answers means that people find the same "
            "place and differ in where the answer begins or ends."
        )

    @property
    def percent_in_words(self) -> str:
        value = self.shared.overall.percent.value
        if value is None:
            return ""
        if self.are_spans:
            return (
                f"Two people who answered the same item gave the same answer in {100 * value:.0f} of 100 cases; "
                "capitals, punctuation, articles and the place in the text do not count. That a text holds no answer "
                "is an answer, too."
            )
        return (
            f"Two people who answered the same item said the same in {100 * value:.0f} of 100 cases. Some of that is "
            "luck: where nearly all items have one label, people agree often without looking."
        )

    @property
    def kappa_in_words(self) -> str:
        value = self.shared.overall.kappa.value
        if value is None:
            return "Fleiss' κ is not defined: everybody gave the same label, so luck cannot be told from agreement."
        if value <= 0:
            return (
                "Fleiss' κ takes luck off: it is not above 0, so people agree no more often than by chance."
            )
        return (
            f"Fleiss' κ takes luck off: of the agreement that chance would not give, people reach {100 * value:.0f}%. "
            "1 is full agreement, 0 is chance."
        )

    @property
    def alpha_in_words(self) -> str:
        figure = self.shared.overall.alpha
        if figure.value is None:
            return "Krippendorff's α is not defined: everybody gave the same label."
        words = (
            "Krippendorff's α says how far the labels can be relied on, also where not everybody answered everything. "
            f"{_verdict(figure.value)}"
        )
        if figure.low is not None and figure.high is not None and _grade(figure.low) != _grade(figure.high):
            words += f" More items would tell better: it may lie anywhere from {figure.low:.2f} to {figure.high:.2f}."
        return words

    @cached_property
    def confused(self) -> Matrix:
        """Pairs of answers to the same item, by their labels."""
        return matrix(self.shared.confused, self.shared.labels)

    def worst_pair(self) -> tuple[str, str, int] | None:
        """The two labels that are confused most, and how often; None where nobody differs."""
        apart = np.triu(self.shared.confused, 1)
        if not apart.size or not apart.any():
            return None
        one, other = np.unravel_index(int(apart.argmax()), apart.shape)
        return self.label_name(int(one)), self.label_name(int(other)), int(apart[one, other])

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*_INTERVALS[:3], *_F1) if self.are_spans else (*_INTERVALS, *_ALPHAS)

    def _figures(self, found: Agreement | PairAgreement) -> Iterable[float | None]:
        if self.are_spans:
            return _ends(found.percent, found.f1)
        return _ends(found.percent, found.kappa, found.alpha)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """All numbers, by the name of the CSV file."""
        overall = self.shared.overall
        return {
            "overall": Table(
                ("items", "answers", "reviewers", *self._columns),
                [
                    (
                        overall.items,
                        overall.answers,
                        len(self.shared.reviewers),
                        *self._figures(overall),
                    )
                ],
            ),
            "labels": Table(
                ("label", "items", "answers", *_INTERVALS, *_ALPHAS),
                [
                    (
                        self.label_name(each.label),
                        each.items,
                        each.answers,
                        *_ends(each.percent, each.kappa, each.alpha),
                    )
                    for each in self.shared.by_label
                ],
            ),
            "pairs": Table(
                ("first", "second", "items", *self._columns),
                [
                    (
                        self.shared.reviewers[pair.first].name,
                        self.shared.reviewers[pair.second].name,
                        pair.items,
                        *self._figures(pair),
                    )
                    for pair in self.shared.pairs
                ],
            ),
            "confused": Table(
                ("label", "other_label", "pairs_of_answers"),
                _crossings(np.triu(self.shared.confused), self.shared.labels),
            ),
            "pair_confusion": Table(
                ("first", "second", "label_of_first", "label_of_second", "items"),
                [
                    (self.shared.reviewers[pair.first].name, self.shared.reviewers[pair.second].name, *row)
                    for pair in self.shared.pairs
                    for row in _crossings(pair.confusion, self.shared.labels)
                ],
            ),
            "machine": Table(
                ("reviewer", "answers", *self._columns),
                [
                    (
                        _who(each),
                        each.answers,
                        *self._figures(each.agreement),
                    )
                    for each in self.machine
                ],
            ),
            "machine_confusion": Table(
                ("reviewer", "label_of_reviewer", "label_of_machine", "answers"),
                [
                    (_who(each), *row)
                    for each in self.machine
                    for row in _crossings(each.agreement.confusion, self.shared.labels)
                ],
            ),
        }


def agreement_report(
    project: Project, round: ReviewRound | None = None, seen: str = Seen.ALL
) -> AgreementReport:
    return AgreementReport(
        project=project,
        round=round,
        seen=seen,
        shared=shared_answers(project, round, seen),
        machine=machine_agreements(project, round, seen),
    )


def rounds_with_answers(project: Project) -> list[ReviewRound]:
    """Rounds that somebody answered something of, newest first."""
    answered = project.review_rounds.filter(tasks__state="answered").order_by("-pk").distinct()
    return list(answered)


def matrix(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Matrix:
    """The counts (K, K) with the labels that occur; of more than a page holds those that are confused most."""
    if not counts.size:
        return Matrix([], [], False)
    totals = counts.sum(axis=0) + counts.sum(axis=1)
    apart = totals - 2 * np.diag(counts)
    given = np.flatnonzero(totals)
    ordered = given[np.lexsort((-totals[given], -apart[given]))]
    shown = sorted(ordered[:MOST_LABELS].tolist())
    rows = [
        MatrixRow(
            labels[row],
            [Crossed(labels[column], labels[row], int(counts[row, column])) for column in shown],
            int(counts[row].sum()),
        )
        for row in shown
    ]
    return Matrix([labels[column] for column in shown], rows, len(given) > len(shown))


def _crossings(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> list[tuple[Cell, ...]]:
    """(row's label, column's label, count) of the cells that hold something, the fullest first."""
    if not counts.size:
        return []
    rows, columns = np.nonzero(counts)
    found = zip(rows.tolist(), columns.tolist(), counts[rows, columns].tolist(), strict=True)
    ordered = sorted(found, key=lambda cell: (-cell[2], cell[0], cell[1]))
    return [(labels[row], labels[column], count) for row, column, count in ordered]


def _ends(*figures: Figure) -> Iterable[float | None]:
    return [end for figure in figures for end in (figure.value, figure.low, figure.high)]


def _who(each: MachineAgreement) -> str:
    return each.reviewer.name if each.reviewer else "all reviewers"


def _grade(alpha: float) -> int:
    return sum(alpha >= bound for bound in (0.0, FAIR, GOOD))


def _verdict(alpha: float) -> str:
    match _grade(alpha):
        case 3:
            return f"At {alpha:.2f} it is good: from {GOOD} on labels are commonly taken as reliable."
        case 2:
            return f"At {alpha:.2f} it is fair: enough for tentative conclusions. From {GOOD} on it is good."
        case 1:
            return (
                f"At {alpha:.2f} it is weak: below {FAIR:.2f} the labels say little by themselves. See which labels "
                "are confused, and say in their guidelines how to tell them apart."
            )
        case _:
            return (
                f"At {alpha:.2f} people differ more than chance would make them: they read the guidelines "
                "differently."
            )
