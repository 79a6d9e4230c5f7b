"""What reviewers see, measured: in each arm, what becomes of machine's labels that are known to be wrong or right.

Where answers are spans, the same of answers, by exact match.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import Count, F, Q, QuerySet

from annotate.models import Project
from annotate.spans import is_right
from review.acceptance import (
    ArmFigures,
    Difference,
    Share,
    difference,
    in_a_sentence,
    items_needed,
    median_interval,
    pooled,
)
from review.answers import as_gold
from review.dashboard_scope import Table
from review.known import EXPECTED, EXPECTED_ANSWERS
from review.models import ReviewRound, ReviewTask

Arm = ReviewTask.Arm

_GIVEN_AGAIN = Q(correction__label=F("annotation__label"))
_IS_WRONG = ~Q(annotation__label=F("expected"))


@dataclass(frozen=True, slots=True)
class DisplayArms:
    """All arms, those that show more first. `is_randomised`: chance decided for each item what its reviewers saw.

    `noun` is what an item is given: a label, or an answer.
    """

    arms: list[ArmFigures]
    is_randomised: bool
    noun: str = "label"

    @property
    def answers(self) -> int:
        return sum(arm.answers for arm in self.arms)

    @property
    def shown(self) -> Share:
        """Wrong labels or answers given again by those who saw them."""
        return pooled([arm for arm in self.arms if arm.arm != Arm.BLIND])

    @property
    def blind(self) -> Share:
        return pooled([arm for arm in self.arms if arm.arm == Arm.BLIND])

    @property
    def difference(self) -> Difference | None:
        """How much more often those who see a wrong label or answer give it again."""
        return difference(self.shown, self.blind)

    @property
    def known_wrong(self) -> int:
        return self.shown.total + self.blind.total

    @property
    def needed(self) -> int:
        return items_needed()

    @property
    def sentence(self) -> str:
        return in_a_sentence(self.shown, self.blind, self.noun)


def display_arms(project: Project, round: ReviewRound | None = None) -> DisplayArms:
    """Of one review round or all of the project's; known items and those picked by hand included.

    The truth is an item's gold or calibration label, or such answers. Calibration rounds are left out, since their
    answers are the truth, and so are adjudications, in which people see each other's answers. Skips count nowhere, and
    neither do items that the machine failed on.
    """
    is_span = project.task.is_span
    said = "start" if is_span else "label"
    turns = ReviewTask.objects.filter(
        **{f"annotation__{said}__isnull": False, f"correction__{said}__isnull": False},
        round__project=project,
        round__kind=ReviewRound.Kind.REVIEW,
        state=ReviewTask.State.ANSWERED,
    ).exclude(purpose=ReviewTask.Purpose.ADJUDICATION)
    if round is not None:
        turns = turns.filter(round=round)
    counts = _span_counts(turns) if is_span else _counts(turns)
    displays = set(turns.order_by().values_list("round__display", flat=True).distinct())
    return DisplayArms(
        arms=[_arm(arm, counts.get(arm, {}), turns) for arm in Arm.values],
        is_randomised=displays == {ReviewRound.Display.RANDOM},
        noun=project.task.answer_noun,
    )


def _counts(turns: QuerySet[ReviewTask]) -> dict[str, Mapping[str, Any]]:
    known = Q(expected__isnull=False)
    wrong, right = known & _IS_WRONG, Q(annotation__label=F("expected"))
    rows = (
        turns.annotate(expected=EXPECTED)
        .order_by()
        .values("arm")
        .annotate(
            answers=Count("pk"),
            wrong=Count("pk", filter=wrong),
            accepted=Count("pk", filter=wrong & _GIVEN_AGAIN),
            right=Count("pk", filter=right),
            kept=Count("pk", filter=right & _GIVEN_AGAIN),
        )
    )
    return {row["arm"]: row for row in rows}


def _span_counts(turns: QuerySet[ReviewTask]) -> dict[str, Mapping[str, Any]]:
    """The same where answers are spans, which a database cannot compare.

    A wrong answer is given again where the person's matches it exactly; a right one is kept by every answer that is
    right, since several may be.
    """
    answers = turns.order_by().values("arm").annotate(answers=Count("pk"))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in answers:
        counts[row["arm"]]["answers"] = row["answers"]
    known = turns.annotate(expected=EXPECTED_ANSWERS).filter(expected__isnull=False).order_by()
    rows = known.values_list("arm", "expected", "annotation__answer", "correction__answer")
    for arm, expected, machine, person in rows.iterator():
        if is_right(machine, expected):
            counts[arm].update(right=1, kept=int(is_right(person, expected)))
        else:
            counts[arm].update(wrong=1, accepted=int(is_right(person, as_gold(machine))))
    return dict(counts)


def _arm(arm: str, counts: Mapping[str, Any], turns: QuerySet[ReviewTask]) -> ArmFigures:
    seconds = turns.filter(arm=arm, correction__seconds__isnull=False).order_by()
    values = np.fromiter(seconds.values_list("correction__seconds", flat=True).iterator(), dtype=np.float64)
    right = counts.get("right", 0)
    return ArmFigures(
        arm=arm,
        answers=counts.get("answers", 0),
        accepted=Share(counts.get("accepted", 0), counts.get("wrong", 0)),
        changed=Share(right - counts.get("kept", 0), right),
        seconds=median_interval(values),
    )


_WHAT_IS_SEEN = {
    Arm.CRITICISM: "The machine's {noun} and the criticism",
    Arm.LABEL: "The machine's {noun}",
    Arm.BLIND: "Neither",
}


def display_table(found: DisplayArms) -> Table:
    """The figures of all arms as numbers."""
    columns = ("arm", "answers", "wrong_known", "wrong_given_again", "share", "share_low", "share_high")
    more = ("right_known", "right_changed", "changed_share", "changed_low", "changed_high")
    seconds = ("median_seconds", "median_low", "median_high")
    return Table(
        columns + more + seconds,
        [
            (
                arm.arm,
                arm.answers,
                *(arm.accepted.total, arm.accepted.count),
                *(arm.accepted.value, arm.accepted.low, arm.accepted.high),
                *(arm.changed.total, arm.changed.count),
                *(arm.changed.value, arm.changed.low, arm.changed.high),
                *((arm.seconds[1], arm.seconds[0], arm.seconds[2]) if arm.seconds else (None, None, None)),
            )
            for arm in found.arms
        ],
    )


def display_context(project: Project, round: ReviewRound | None = None) -> dict[str, Any]:
    """What `review/display_arms.html` needs; nothing, so that it draws nothing, where answers are composed."""
    if not project.task.is_checkable:
        return {}
    found = display_arms(project, round)
    return {
        "display_arms": found,
        "display_rows": [(_WHAT_IS_SEEN[Arm(arm.arm)].format(noun=found.noun), arm) for arm in found.arms],
    }
