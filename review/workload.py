"""How many reviews a round asks for in all: its items, further readings of some, and known items among them."""

from dataclasses import dataclass
from decimal import Decimal

from annotate.models import Project
from criticize.models import CriticismRun
from review.known import known_count
from review.models import ReviewRound
from review.previews import seconds_per_review
from review.services.known_items import can_be_shown
from review.setup import RoundSetup

# What needs no model's answer to show a known item.
SHOWS_BLIND = (ReviewRound.Display.BLIND, ReviewRound.Display.RANDOM)


@dataclass(frozen=True, slots=True)
class Workload:
    """Reviews by what they are for; `known` is expected, as far as there are known items. Cost in US$ of them all.

    `seconds` of people's time, None where nobody knows what a review takes.
    """

    items: int
    further: int
    known: int
    cost: Decimal
    seconds: float | None

    @property
    def total(self) -> int:
        return self.items + self.further + self.known


def workload(
    project: Project, setup: RoundSetup, items: int, *, seconds_each: float | None, is_known: bool = True
) -> Workload:
    """What a round of so many items comes to. `is_known`: there are known items to mix in.

    Of what reviewers are handed the share `gold_rate` are known items, so for n others they are handed
    n · rate / (1 − rate).
    """
    further = setup.further_readings(items)
    known = round((items + further) * setup.gold_rate / (1 - setup.gold_rate)) if is_known else 0
    total = items + further + known
    return Workload(
        items=items,
        further=further,
        known=known,
        cost=total * project.review_price,
        seconds=None if seconds_each is None else total * seconds_each,
    )


@dataclass(frozen=True, slots=True)
class RoundWorkload:
    """What a draw with a setup asks for. `known_items` are the project's, `can_mix` says whether any can be shown."""

    setup: RoundSetup
    workload: Workload
    known_items: int
    can_mix: bool


def round_workload(run: CriticismRun, setup: RoundSetup, items: int) -> RoundWorkload:
    """What a review round of so many items drawn from the run comes to. Raises Refusal for a setup that cannot be."""
    project = run.annotation_run.project
    setup = setup.checked(ReviewRound.Kind.REVIEW, is_written=not project.task.is_checkable)
    known = known_count(project) if setup.gold_rate else 0
    can_mix = known > 0 and (setup.display in SHOWS_BLIND or can_be_shown(run))
    seconds = seconds_per_review(project)
    return RoundWorkload(
        setup, workload(project, setup, items, seconds_each=seconds, is_known=can_mix), known, can_mix
    )
