"""Known items: whose label is known beforehand, and how reviewers do on those that they are handed."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from annotate.models import Item, Label, LabelExample, Project, User
from criticize.leaderboard import wilson_interval
from review.blindness import BLIND_KINDS, open_tasks
from review.models import ReviewPause, ReviewRound, ReviewTask

# Of a task: the label that is known, the upload's where there is one, else the calibration's.
EXPECTED = Coalesce(F("item__gold"), F("item__calibration_label__label"))
_HAS_LABEL = Q(gold__isnull=False) | Q(calibration_label__isnull=False)
_RIGHT = Q(correction__label=F("expected"))


@dataclass(frozen=True, slots=True)
class KnownFigures:
    """How one reviewer does on a round's known items. The share right has a 95% Wilson interval, `low` to `high`."""

    user_id: int
    reviewer: str
    answered: int
    right: int

    @property
    def accuracy(self) -> float | None:
        return self.right / self.answered if self.answered else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson_interval(self.right, self.answered) if self.answered else None


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """A known item's task whose answer is another label than the one that is known."""

    task: ReviewTask
    expected: Label


def known_count(project: Project) -> int:
    """Items of the project with a gold or calibration label."""
    return project.items.filter(_HAS_LABEL).count()


def known_items(round: ReviewRound) -> QuerySet[Item]:
    """The project's items with a gold or calibration label that are none of the round's own, wait blind in none, and
    are no examples of a label, which the guidelines show with it."""
    own = ReviewTask.counted.filter(round=round, item=OuterRef("pk"))
    example = LabelExample.objects.filter(item=OuterRef("pk"))
    known = round.project.items.filter(_HAS_LABEL).exclude(Exists(own)).exclude(Exists(example))
    rounds = round.project.review_rounds.filter(kind__in=BLIND_KINDS, state=ReviewRound.State.OPEN)
    # Asked for by themselves: they are few, mostly none, and a database that has to join them takes long.
    blind_rounds = list(rounds.order_by().values_list("pk", flat=True))
    if blind_rounds:
        blind = open_tasks().filter(round__in=blind_rounds, item=OuterRef("pk"))
        known = known.exclude(Exists(blind))
    return known


def known_answers(round: ReviewRound) -> QuerySet[ReviewTask]:
    """Known items that a reviewer gave a label, each with the label `expected`; skips and undone answers are none."""
    answered = round.tasks.filter(purpose=ReviewTask.Purpose.GOLD, state=ReviewTask.State.ANSWERED)
    return answered.annotate(expected=EXPECTED).filter(expected__isnull=False)


def counts_since(round: ReviewRound, user: User) -> tuple[int, int]:
    """(answered, right) of the reviewer's known items since their latest pause was lifted, or from the start."""
    answers = known_answers(round).filter(holder=user)
    lifted = _lifted_at(round, user)
    if lifted is not None:
        answers = answers.filter(correction__created_at__gt=lifted)
    counts = answers.aggregate(answered=Count("pk"), right=Count("pk", filter=_RIGHT))
    return counts["answered"], counts["right"]


def _lifted_at(round: ReviewRound, user: User) -> datetime | None:
    lifted = ReviewPause.objects.filter(round=round, user=user, lifted_at__isnull=False)
    return lifted.order_by("-lifted_at").values_list("lifted_at", flat=True).first()


def figures_by_reviewer(round: ReviewRound) -> dict[int, KnownFigures]:
    """By user id: everybody who answered a known item of the round, over the whole of it."""
    rows = (
        known_answers(round)
        .order_by()
        .values("holder", "holder__username")
        .annotate(answered=Count("pk"), right=Count("pk", filter=_RIGHT))
    )
    return {
        row["holder"]: KnownFigures(row["holder"], row["holder__username"], row["answered"], row["right"])
        for row in rows
        if row["holder"] is not None
    }


def wrong_answers(round: ReviewRound, most: int | None = None) -> list[WrongAnswer]:
    """Known items that were answered otherwise than expected, newest first, for managers."""
    rows = (
        known_answers(round)
        .exclude(_RIGHT)
        .select_related("item__gold", "item__calibration_label__label", "correction__label", "holder")
        .order_by("-correction_id")
    )
    return [WrongAnswer(task, task.item.gold or task.item.calibration_label.label) for task in rows[:most]]
