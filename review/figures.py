"""What people did in a project, and how fast: counts of answers as they count now, each person by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Count, F, Max, Q, QuerySet, Sum, Value, Window
from django.db.models.functions import Least, RowNumber, TruncDate
from django.utils import timezone

from annotate.models import Project, User
from review.answers import AGREED
from review.known import rights, with_expected
from review.models import Correction, ReviewRound, ReviewTask

DONE = (ReviewTask.State.ANSWERED, ReviewTask.State.SKIPPED)
# Longer looks count as this many seconds of work: nobody reads one item through a lunch break.
LONGEST_LOOK = 600.0
# Own accuracy on known items is told of this many at a time, so that no single item is given away.
KNOWN_AT_A_TIME = 5
DAYS = 14
# Where the answer was given with the machine's in view. Elsewhere a difference says something about the machine alone.
_SHOWN = (
    Q(round__kind=ReviewRound.Kind.REVIEW, annotation__failure="")
    & ~Q(arm=ReviewTask.Arm.BLIND)
    & Q(state=ReviewTask.State.ANSWERED)
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one person did. `changed` of `compared` answers differ from a machine's answer that was in view.

    `seconds` is the time spent on the `timed` reviews whose time is known, `median_seconds` that of one of them.
    """

    answered: int = 0
    skipped: int = 0
    compared: int = 0
    changed: int = 0
    timed: int = 0
    seconds: float = 0.0
    median_seconds: float | None = None
    last_at: datetime | None = None

    @property
    def reviewed(self) -> int:
        return self.answered + self.skipped

    @property
    def changed_share(self) -> float | None:
        return self.changed / self.compared if self.compared else None

    @property
    def per_hour(self) -> float | None:
        """Reviews, skips too, in an hour of work."""
        return 3600 * self.timed / self.seconds if self.seconds else None


@dataclass(frozen=True, slots=True)
class KnownShare:
    """Of `answered` known items, how many were given the label that is known."""

    answered: int
    right: int

    @property
    def share(self) -> float | None:
        return self.right / self.answered if self.answered else None


def figures_by_person(
    project: Project, *, user: User | None = None, since: datetime | None = None
) -> dict[int, Figures]:
    """By user id: everybody who answered or skipped something in the project, or `user` alone; from `since` on."""
    tasks = _done(project, user, since)
    rows = (
        tasks.order_by()
        .values(person=F("correction__author"))
        .annotate(
            answered=Count("pk", filter=Q(state=ReviewTask.State.ANSWERED)),
            skipped=Count("pk", filter=Q(state=ReviewTask.State.SKIPPED)),
            compared=Count("pk", filter=_SHOWN),
            agreed=Count("pk", filter=_SHOWN & AGREED),
            timed=Count("correction__seconds"),
            spent=Sum(
                Least("correction__seconds", Value(LONGEST_LOOK)),
                # The least of nothing and a number is the number in PostgreSQL.
                filter=Q(correction__seconds__isnull=False),
            ),
            last_at=Max("correction__created_at"),
        )
    )
    medians = _medians(tasks)
    return {
        row["person"]: Figures(
            answered=row["answered"],
            skipped=row["skipped"],
            compared=row["compared"],
            changed=row["compared"] - row["agreed"],
            timed=row["timed"],
            seconds=row["spent"] or 0.0,
            median_seconds=medians.get(row["person"]),
            last_at=row["last_at"],
        )
        for row in rows
    }


def figures_of(project: Project, user: User, *, since: datetime | None = None) -> Figures:
    """One person's figures."""
    return figures_by_person(project, user=user, since=since).get(user.pk, Figures())


def _done(project: Project, user: User | None, since: datetime | None = None) -> QuerySet[ReviewTask]:
    tasks = ReviewTask.objects.filter(round__project=project, state__in=DONE, correction__isnull=False)
    if user is not None:
        # Who answers a turn holds it, by which there is an index.
        tasks = tasks.filter(holder=user, correction__author=user)
    return tasks if since is None else tasks.filter(correction__created_at__gte=since)


def _medians(tasks: QuerySet[ReviewTask]) -> dict[int, float]:
    """By user id: the median of the seconds. The database orders them, so that none is read here."""
    ordered = (
        tasks.filter(correction__seconds__isnull=False)
        .order_by()
        .annotate(
            person=F("correction__author"),
            took=F("correction__seconds"),
            place=2
            * Window(RowNumber(), partition_by=[F("correction__author")], order_by="correction__seconds"),
            count=Window(Count("pk"), partition_by=[F("correction__author")]),
        )
        # The one in the middle, or the two of an even number.
        .filter(place__gte=F("count"), place__lte=F("count") + 2)
        .values_list("person", "took")
    )
    middle: dict[int, list[float]] = {}
    for person, took in ordered:
        middle.setdefault(person, []).append(took)
    return {person: sum(values) / len(values) for person, values in middle.items()}


def known_by_person(project: Project) -> dict[int, KnownShare]:
    """By user id: how everybody did on the known items of all rounds."""
    if project.task.is_span:
        counts: dict[int, list[bool]] = {}
        for _, author, right in rights(_known(project), project.task):
            counts.setdefault(author, []).append(right)
        return {author: KnownShare(len(found), sum(found)) for author, found in counts.items()}
    rows = (
        _known(project)
        .order_by()
        .values(person=F("correction__author"))
        .annotate(answered=Count("pk"), right=Count("pk", filter=Q(correction__label=F("expected"))))
    )
    return {row["person"]: KnownShare(row["answered"], row["right"]) for row in rows}


def own_known(project: Project, user: User) -> KnownShare | None:
    """How the person did on known items, as far as they may know; None before there are `KNOWN_AT_A_TIME`."""
    answers = _known(project).filter(holder=user, correction__author=user).order_by("correction_id")
    found = [right for _, _, right in rights(answers, project.task)]
    told = len(found) // KNOWN_AT_A_TIME * KNOWN_AT_A_TIME
    return KnownShare(told, sum(found[:told])) if told else None


def _known(project: Project) -> QuerySet[ReviewTask]:
    return with_expected(ReviewTask.objects.filter(round__project=project), project.task)


def reviews_by_day(project: Project, user: User, *, days: int = DAYS) -> list[tuple[date, int]]:
    """The last days, today last, with how many items the person answered or skipped on each."""
    today = timezone.localdate()
    first = today - timedelta(days=days - 1)
    counts = dict(
        _done(project, user)
        .annotate(day=TruncDate("correction__created_at"))
        .filter(day__gte=first)
        .order_by()
        .values_list("day")
        .annotate(count=Count("pk"))
    )
    every = [first + timedelta(days=number) for number in range(days)]
    return [(day, counts.get(day, 0)) for day in every]


def latest_answers(project: Project, user: User, count: int) -> Sequence[Correction]:
    """The person's latest answers and skips that count, newest first, with their items."""
    return list(
        Correction.objects.filter(author=user, task__correction_id=F("pk"), task__round__project=project)
        .select_related("label", "task__item")
        .order_by("-pk")[:count]
    )


def today() -> datetime:
    """When the day began, where the installation is."""
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
