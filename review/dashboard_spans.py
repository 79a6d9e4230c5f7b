"""The machine's answers beside people's where answers are spans of a text: how far their words match."""

from dataclasses import dataclass

from annotate.spans import answer_f1, is_right
from review.agreeing import F1_BINS, Apart, Reviewer, SaidSpan, f1_bins, most_apart
from review.agreement import Figure, mean_figure
from review.answers import as_gold
from review.dashboard_scope import Scope, Table
from review.models import ReviewTask


@dataclass(frozen=True, slots=True)
class SpanMatches:
    """Of the round's items that people answered: how well the machine's answers match theirs.

    `reviewed` is the sum of the five counts. `exact` matches exactly, also in that there is no answer; `other` are
    other words; `found` the answers of the machine where people say that there is none, `missed` the other way
    around; `failed` the items of which the machine gave no answer, whose F1 is 0. `f1` is the mean token F1, in [0, 1],
    of all of them, `bins` counts them in ten equal bins of it, and `apart` are the worst.
    """

    exact: int
    other: int
    found: int
    missed: int
    failed: int
    f1: Figure
    bins: list[int]
    apart: list[Apart]

    @property
    def reviewed(self) -> int:
        return self.exact + self.other + self.found + self.missed + self.failed

    @property
    def exact_share(self) -> float | None:
        return self.exact / self.reviewed if self.reviewed else None

    @property
    def kinds(self) -> list[tuple[str, int, str]]:
        """(what it is called, how many, its tone) of the five counts."""
        return [
            ("the same answer", self.exact, "ok"),
            ("other words", self.other, "human"),
            ("the machine finds an answer, people none", self.found, "machine"),
            ("people find an answer, the machine none", self.missed, "warn"),
            ("the machine failed", self.failed, "quiet"),
        ]

    @property
    def table(self) -> Table:
        """By F1."""
        rows = [(place / F1_BINS, (place + 1) / F1_BINS, count) for place, count in enumerate(self.bins)]
        return Table(("f1_from", "f1_to", "items"), rows)

    @property
    def kind_table(self) -> Table:
        return Table(("machine_and_person", "items"), [(name, count) for name, count, _ in self.kinds])


def span_matches(scope: Scope) -> SpanMatches | None:
    """None without a round, and where answers are no spans."""
    round = scope.round
    if round is None or not scope.project.task.is_span:
        return None
    rows = (
        round.counted_tasks.filter(state=ReviewTask.State.ANSWERED)
        .order_by("item_id")
        .values_list(
            "item_id",
            "correction__author_id",
            "correction__author__username",
            "correction__answer",
            "correction__start",
            "annotation__answer",
            "annotation__start",
        )
    )
    counts = {"exact": 0, "other": 0, "found": 0, "missed": 0, "failed": 0}
    values: list[float] = []
    apart: list[Apart] = []
    for item, author, name, answer, start, machine, machine_start in rows.iterator():
        said = None if machine_start is None else machine
        kind = _kind(said, answer)
        counts[kind] += 1
        values.append(answer_f1(said, as_gold(answer)))
        if kind not in ("exact", "failed"):
            both = SaidSpan(answer, start or 0), SaidSpan(machine, machine_start or 0)
            apart.append(Apart(values[-1], item, *both, Reviewer(author, name), None))
    return SpanMatches(
        **counts,
        f1=mean_figure(values, seed=round.seed),
        bins=f1_bins(values),
        apart=most_apart(iter(apart)),
    )


def _kind(machine: str | None, person: str) -> str:
    if machine is None:
        return "failed"
    if is_right(machine, as_gold(person)):
        return "exact"
    if machine and person:
        return "other"
    return "found" if machine else "missed"
