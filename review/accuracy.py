"""How good a round's labels or answers are by gold: the machine's alone, and the final ones, each with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from annotate.models import AnnotationRun
from annotate.rightness import Judgment, Truth, judgments
from annotate.selectors import machine_accuracy
from criticize.leaderboard import wilson_interval
from review.agreement import UNDEFINED, Figure, mean_figure
from review.final_spans import final_spans
from review.models import ReviewRound
from review.selectors import final_accuracy


@dataclass(frozen=True, slots=True)
class Measured:
    """Of `judged` items with gold, `right` have the right label, or an answer that matches exactly.

    `low` and `high` are Wilson's 95% interval of the share. `f1`, of answers that are spans, is the mean token F1 in
    [0, 1] against the best of an item's gold answers; its interval comes from drawing the items again.
    """

    right: int
    judged: int
    f1: Figure = UNDEFINED

    @property
    def share(self) -> float | None:
        return self.right / self.judged if self.judged else None

    @property
    def low(self) -> float | None:
        return wilson_interval(self.right, self.judged)[0] if self.judged else None

    @property
    def high(self) -> float | None:
        return wilson_interval(self.right, self.judged)[1] if self.judged else None


def measured_final(round: ReviewRound) -> Measured:
    """The round's final labels or answers, over the items of its annotation run that have gold."""
    run = round.criticism_run
    if run is None or not round.project.task.is_span:
        return Measured(*final_accuracy(round))
    return _measured(final_spans(round, run), round.seed)


def measured_machine(run: AnnotationRun) -> Measured:
    """The run's own."""
    if not run.project.task.is_span:
        found = machine_accuracy(run)
        return Measured(found.right, found.judged)
    given = judgments(run.annotations.order_by("item_id"), run.project.task, Truth.GOLD)
    return _measured(list(given), run.project.seed)


def _measured(found: Sequence[Judgment], seed: int) -> Measured:
    right = sum(each.is_right for each in found)
    return Measured(right, len(found), mean_figure([each.f1 or 0.0 for each in found], seed=seed))
