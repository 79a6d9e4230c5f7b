"""Items whose reviewers gave different answers, with everything that was said about them, for whoever decides."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from annotate.models import Label, Project, User
from review.answers import answer_key
from review.models import Correction, ReviewTask

Purpose = ReviewTask.Purpose
State = ReviewTask.State

# One that was skipped is decided: nobody can tell, and the item keeps the machine's label.
_UNDECIDED = (State.WAITING, State.LEASED)
# The order of the queue: the most suspicious of each round first.
ORDER = ("rank", "pk")


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What one reviewer did with an item, as it counts now: an answer, or a skip with its reason."""

    task: ReviewTask
    correction: Correction

    @property
    def reviewer(self) -> str:
        return self.correction.author.username

    @property
    def is_skip(self) -> bool:
        return self.correction.action == Correction.Action.SKIP

    @property
    def arm(self) -> str:
        """What the reviewer saw, as it was kept with the answer; of older answers as the task says."""
        return str(self.correction.shown.get("arm") or self.task.arm)

    @property
    def saw(self) -> str:
        noun = self.task.round.project.task.answer_noun
        return str(ReviewTask.Arm(self.arm).label).replace("Label", noun.capitalize())


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer that was given, with who gave it. `label` is None where answers are words; then it is `text`.

    A span stands at the characters `start` up to `end` of the item's text, as who was first chose it.
    """

    label: Label | None
    text: str
    reviewers: list[str]
    start: int | None = None
    end: int | None = None

    @property
    def span(self) -> str:
        """As the page sends it: "12-34"."""
        return "" if self.start is None else f"{self.start}-{self.end}"


def adjudications(project: Project) -> QuerySet[ReviewTask]:
    """All adjudications of the project, decided or not, the most suspicious items first."""
    return (
        ReviewTask.objects.filter(round__project=project, purpose=Purpose.ADJUDICATION)
        .select_related(
            "round__project",
            "item__image",
            "annotation__label",
            "annotation__run",
            "criticism__run",
            "correction__author",
            "correction__label",
        )
        .order_by(*ORDER)
    )


def conflicts(project: Project) -> QuerySet[ReviewTask]:
    """Those that nobody has decided."""
    return adjudications(project).filter(is_counted=True, state__in=_UNDECIDED)


def next_conflict(project: Project, after: ReviewTask | None = None) -> ReviewTask | None:
    """The first undecided one behind `after` in the queue; after the last one the first that was passed over."""
    waiting = conflicts(project)
    if after is None:
        return waiting.first()
    waiting = waiting.exclude(pk=after.pk)
    behind = waiting.filter(rank__gt=after.rank) | waiting.filter(rank=after.rank, pk__gt=after.pk)
    return behind.first() or waiting.first()


def given_answers(tasks: Collection[ReviewTask]) -> dict[int, list[GivenAnswer]]:
    """By the id of each of these adjudications: what reviewers said, first to last. One query for all of them."""
    by_item = {(task.round_id, task.item_id): task.pk for task in tasks}
    turns = (
        ReviewTask.objects.filter(
            round__in={task.round_id for task in tasks},
            item__in={task.item_id for task in tasks},
            purpose__in=[Purpose.REVIEW, Purpose.PICKED],
            correction__isnull=False,
        )
        .select_related("correction__author", "correction__label", "round__project")
        .order_by("correction_id")
    )
    found: dict[int, list[GivenAnswer]] = {task.pk: [] for task in tasks}
    for turn in turns:
        adjudication = by_item.get((turn.round_id, turn.item_id))
        if adjudication is not None and turn.correction is not None:
            found[adjudication].append(GivenAnswer(turn, turn.correction))
    return found


def choices(answers: Sequence[GivenAnswer]) -> list[Choice]:
    """The different answers, the most frequent first, and of equally frequent ones the first that was given."""
    said = [answer for answer in answers if not answer.is_skip]
    counts = Counter(_key(answer) for answer in said)
    ordered = sorted(counts, key=lambda key: -counts[key])  # a Counter keeps the order in which they came
    return [next(_as_choices(key, said)) for key in ordered]


def _key(answer: GivenAnswer) -> tuple[int | None, str]:
    given = answer.correction
    return answer_key(given.label_id, given.answer, given.start)


def _as_choices(key: tuple[int | None, str], said: Sequence[GivenAnswer]) -> Iterator[Choice]:
    same = [answer for answer in said if _key(answer) == key]
    first = same[0].correction
    text = first.answer if first.start is not None else first.answer.strip()
    yield Choice(first.label, text, [answer.reviewer for answer in same], first.start, first.end)


def waiting_count(project: Project) -> int:
    return conflicts(project).select_related(None).order_by().count()


def last_decision(project: Project, user: User) -> ReviewTask | None:
    """What the user decided last and did not take back, in whatever round: an answer or a skip."""
    return adjudications(project).filter(correction__author=user).order_by("-correction_id").first()
