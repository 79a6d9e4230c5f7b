"""What a dashboard is of: a project, and one of its review rounds with the runs behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import Http404

from annotate.models import AnnotationRun, Project
from criticize.models import CriticismRun
from review.models import ReviewRound
from review.standing import standing_of

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a chart as they are, for the page's table, the CSV file and the API."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]


@dataclass(frozen=True, slots=True)
class Scope:
    """A project with a review round and its runs; each None while there is none.

    `read` are rows that several parts of one answer count: read once.
    """

    project: Project
    round: ReviewRound | None
    annotation: AnnotationRun | None
    criticism: CriticismRun | None
    read: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Names the scope among all others."""
        return f"{self.project.pk}-{self.round.pk if self.round else 0}"


def rounds_to_choose(project: Project) -> list[ReviewRound]:
    """The project's review rounds, newest first."""
    rounds = project.review_rounds.filter(kind=ReviewRound.Kind.REVIEW).order_by("-pk")
    return list(rounds.select_related("criticism_run__annotation_run__job", "criticism_run__job"))


def scope_of(project: Project, round_id: int | None = None) -> Scope:
    """The round with this id, by default the newest; without any, the project's latest runs. Raises Http404."""
    rounds = project.review_rounds.filter(kind=ReviewRound.Kind.REVIEW).select_related(
        "criticism_run__annotation_run__job", "criticism_run__job"
    )
    if round_id is None:
        round = rounds.order_by("-pk").first()
    else:
        round = rounds.filter(pk=round_id).first()
        if round is None:
            raise Http404("There is no such review round in this project.")
    if round is not None and round.criticism_run is not None:
        round.project = project
        run = round.criticism_run
        run.annotation_run.project = project
        return Scope(project, round, run.annotation_run, run)
    standing = standing_of(project)
    return Scope(project, None, standing.annotation, standing.criticism)
