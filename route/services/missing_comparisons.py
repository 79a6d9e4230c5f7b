"""Comparing several annotators at once: every two of them whose answers no model has compared yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from django.db import transaction

from annotate.errors import Refusal
from annotate.locks import lock_project
from annotate.models import AnnotationRun, Project, User
from annotate.services.runs import Estimate, ModelChoice, check_limit
from jobs.models import Job
from route.comparisons import positions_of
from route.models import JudgeRun
from route.services.judge_runs import (
    GoldCount,
    check_judge_choice,
    check_pair,
    gold_count,
    judge_run_create,
    judge_run_estimate,
)
from route.services.meta_routers import MOST_AGENTS
from route.services.routers import price_of_agent

# A comparison that ended like this may lack most of its answers.
_BROKEN_OFF = (Job.State.CANCELLED, Job.State.FAILED)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two annotators, the cheaper one first, and what comparing them takes; or why there is nothing to compare."""

    cheap: AnnotationRun
    premium: AnnotationRun
    estimate: Estimate | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MissingComparisons:
    """The pairs that lack a comparison. `there` pairs have one; `gold` is what a router among all could learn from."""

    pairs: list[Pair]
    there: int
    gold: GoldCount

    @property
    def estimate(self) -> Estimate:
        """Of all of them together, one after the other."""
        found = [pair.estimate for pair in self.pairs if pair.estimate is not None]
        costs = [each.cost for each in found]
        return Estimate(
            calls=sum(each.calls for each in found),
            input_tokens=sum(each.input_tokens for each in found),
            output_tokens=sum(each.output_tokens for each in found),
            cost=None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0)),
            seconds=sum(each.seconds for each in found),
            measured=all(each.measured for each in found),
            by_batch=any(each.by_batch for each in found),
        )


@dataclass(frozen=True, slots=True)
class StartedComparisons:
    """What was started, and the pairs that were left out because there is nothing to compare."""

    created: list[JudgeRun]
    left_out: list[Pair]


def missing_comparisons(
    *, project: Project, agents: Sequence[AnnotationRun], choice: ModelChoice
) -> MissingComparisons:
    """What comparing every two of these annotators would take, without those that are compared. Raises Refusal."""
    check_judge_choice(project, choice)
    missing, there = _missing(project, agents)
    pairs = []
    for cheap, premium in missing:
        try:
            estimate = judge_run_estimate(project=project, cheap=cheap, premium=premium, choice=choice)
        except Refusal as refusal:
            pairs.append(Pair(cheap, premium, problem=refusal.sentence))
        else:
            pairs.append(Pair(cheap, premium, estimate))
    return MissingComparisons(pairs, there, gold_count(project=project, agents=agents))


@transaction.atomic
def missing_comparisons_start(
    *,
    project: Project,
    user: User,
    agents: Sequence[AnnotationRun],
    choice: ModelChoice,
    spend_limit: Decimal | None = None,
) -> StartedComparisons:
    """Start the comparisons that `missing_comparisons` shows, each with the limit. Raises Refusal where none can be."""
    check_limit(choice, spend_limit)
    # Who asks twice at the same time pays once.
    lock_project(project.pk)
    found = missing_comparisons(project=project, agents=agents, choice=choice)
    if not found.pairs:
        raise Refusal(
            "Every two of these annotators have been compared, or are being compared.", field="agents"
        )
    left_out = [pair for pair in found.pairs if pair.estimate is None]
    if len(left_out) == len(found.pairs):
        raise Refusal(left_out[0].problem, field="agents")
    created = [
        judge_run_create(
            project=project,
            user=user,
            cheap=pair.cheap,
            premium=pair.premium,
            choice=choice,
            spend_limit=spend_limit,
        )
        for pair in found.pairs
        if pair.estimate is not None
    ]
    return StartedComparisons(created, left_out)


def _missing(
    project: Project, agents: Sequence[AnnotationRun]
) -> tuple[list[tuple[AnnotationRun, AnnotationRun]], int]:
    """Every two without a comparison, the cheaper one first (those without a price last), and how many have one."""
    if not 2 <= len(agents) <= MOST_AGENTS:
        raise Refusal(f"Choose two to {MOST_AGENTS} annotators.", field="agents")
    prices = {run.pk: price_of_agent(project, run) for run in agents}
    ordered = sorted(agents, key=lambda run: (prices[run.pk] is None, prices[run.pk] or 0, run.pk))
    for one, other in combinations(ordered, 2):
        try:
            check_pair(project, one, other)
        except Refusal as refusal:
            raise Refusal(refusal.sentence, field="agents") from None
    positions = positions_of(ordered)
    compared = {
        frozenset((positions.get(cheap), positions.get(premium)))
        for cheap, premium in project.judge_runs.exclude(job__state__in=_BROKEN_OFF).values_list(
            "cheap_id", "premium_id"
        )
    }
    pairs = list(combinations(range(len(ordered)), 2))
    missing = [pair for pair in pairs if frozenset(pair) not in compared]
    return [(ordered[one], ordered[other]) for one, other in missing], len(pairs) - len(missing)
