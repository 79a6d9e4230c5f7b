"""Known items: whose label is known beforehand, and how reviewers do on those that they are handed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from annotate.models import Item, Label, LabelExample, Project, User
from annotate.rightness import Truth, is_known
from annotate.spans import is_right
from annotate.task_types import TaskType
from criticize.leaderboard import wilson_interval
from review.blindness import BLIND_KINDS, open_tasks
from review.models import ReviewPause, ReviewRound, ReviewTask

# Of a task: the label that is known, or the answers, the upload's where there are any, else the calibration's.
EXPECTED = Coalesce(F("item__gold"), F("item__calibration_label__label"))
EXPECTED_ANSWERS = Coalesce(F("item__gold_answers"), F("item__calibration_label__answers"))
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
    """A known item's task whose answer is not what is known: another label than `expected`, or none of the `answers`,
    each `{text, start}` of a text and none where it holds no answer."""

    task: ReviewTask
    expected: Label | None
    answers: list[dict[str, Any]] | None = None


def has_known(project: Project, prefix: str = "") -> Q:
    """Of rows from which `prefix` leads to the item: those whose item has a gold or calibration label, or answers."""
    return is_known(project.task, Truth.GOLD, prefix) | Q(**{f"{prefix}calibration_label__isnull": False})


def known_count(project: Project) -> int:
    """Items of the project with a gold or calibration label, or such answers."""
    return project.items.filter(has_known(project)).count()


def known_items(round: ReviewRound) -> QuerySet[Item]:
    """The project's items with a gold or calibration label that are none of the round's own, wait blind in none, and
    are no examples of a label, which the guidelines show with it."""
    own = ReviewTask.counted.filter(round=round, item=OuterRef("pk"))
    example = LabelExample.objects.filter(item=OuterRef("pk"))
    known = round.project.items.filter(has_known(round.project)).exclude(Exists(own)).exclude(Exists(example))
    rounds = round.project.review_rounds.filter(kind__in=BLIND_KINDS, state=ReviewRound.State.OPEN)
    # Asked for by themselves: they are few, mostly none, and a database that has to join them takes long.
    blind_rounds = list(rounds.order_by().values_list("pk", flat=True))
    if blind_rounds:
        blind = open_tasks().filter(round__in=blind_rounds, item=OuterRef("pk"))
        known = known.exclude(Exists(blind))
    return known


def known_answers(round: ReviewRound) -> QuerySet[ReviewTask]:
    """Known items that a reviewer answered, each with what is `expected`; skips and undone answers are none."""
    return with_expected(round.tasks.all(), round.project.task)


def with_expected(tasks: QuerySet[ReviewTask], task: TaskType) -> QuerySet[ReviewTask]:
    """Of these tasks the known items that are answered, each with what is `expected`: a label's id, or answers."""
    answered = tasks.filter(purpose=ReviewTask.Purpose.GOLD, state=ReviewTask.State.ANSWERED)
    expected = EXPECTED_ANSWERS if task.is_span else EXPECTED
    return answered.annotate(expected=expected).filter(expected__isnull=False)


def rights(answers: QuerySet[ReviewTask], task: TaskType) -> Iterator[tuple[int, int, bool]]:
    """(task, author of its answer, whether it is right) of tasks `with_expected`, in their order."""
    fields = ("pk", "correction__author", "expected")
    if not task.is_span:
        for pk, author, expected, label in answers.values_list(*fields, "correction__label"):
            yield pk, author, label == expected
        return
    for pk, author, expected, answer in answers.values_list(*fields, "correction__answer"):
        yield pk, author, is_right(answer, expected)


def counts_since(round: ReviewRound, user: User) -> tuple[int, int]:
    """(answered, right) of the reviewer's known items since their latest pause was lifted, or from the start."""
    answers = known_answers(round).filter(holder=user)
    lifted = _lifted_at(round, user)
    if lifted is not None:
        answers = answers.filter(correction__created_at__gt=lifted)
    if round.project.task.is_span:
        found = [right for _, _, right in rights(answers, round.project.task)]
        return len(found), sum(found)
    counts = answers.aggregate(answered=Count("pk"), right=Count("pk", filter=_RIGHT))
    return counts["answered"], counts["right"]


def _lifted_at(round: ReviewRound, user: User) -> datetime | None:
    lifted = ReviewPause.objects.filter(round=round, user=user, lifted_at__isnull=False)
    return lifted.order_by("-lifted_at").values_list("lifted_at", flat=True).first()


def figures_by_reviewer(round: ReviewRound) -> dict[int, KnownFigures]:
    """By user id: everybody who answered a known item of the round, over the whole of it."""
    if round.project.task.is_span:
        return _span_figures(round)
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


def _span_figures(round: ReviewRound) -> dict[int, KnownFigures]:
    """The same where answers are spans, which a database cannot compare."""
    answers = known_answers(round)
    names = dict(answers.order_by().values_list("correction__author", "correction__author__username"))
    counts = {author: [0, 0] for author in names}
    for _, author, right in rights(answers, round.project.task):
        counts[author][0] += 1
        counts[author][1] += right
    return {author: KnownFigures(author, names[author], *counts[author]) for author in names}


def wrong_answers(round: ReviewRound, most: int | None = None) -> list[WrongAnswer]:
    """Known items that were answered otherwise than expected, newest first, for managers."""
    if round.project.task.is_span:
        answers = known_answers(round).order_by("-correction_id")
        wrong = [pk for pk, _, right in rights(answers, round.project.task) if not right][:most]
        tasks = answers.filter(pk__in=wrong).select_related("item", "correction", "holder")
        return [WrongAnswer(task, None, getattr(task, "expected", [])) for task in tasks]
    rows = (
        known_answers(round)
        .exclude(_RIGHT)
        .select_related("item__gold", "item__calibration_label__label", "correction__label", "holder")
        .order_by("-correction_id")
    )
    return [WrongAnswer(task, task.item.gold or task.item.calibration_label.label) for task in rows[:most]]
