"""Plans: who gets which items, what that costs, and setting them to work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import transaction

from annotate.access import connections_of
from annotate.errors import Refusal
from annotate.history import record
from annotate.locks import keep_project
from annotate.models import Annotation, AnnotationRun, ModelRun, Project, User
from annotate.services.combining import choice_of_run
from annotate.services.runs import TRAINED, ModelChoice, annotation_estimate, annotation_run_create
from jobs.models import Job
from jobs.services import JobStateError, job_cancel, job_create, job_pause, job_resume
from review.services.routed import give_to_people, routed_round_create
from route.agents import COMPOSED, answered_items
from route.models import Agent, Plan, PlanBlock, Router

IntArray = npt.NDArray[np.int64]

_DONE = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}
TO_PERSON_MESSAGE = "The plan gives it to people: it waits in their round of review."


@dataclass(frozen=True)
class Allocation:
    """The agent of each of n items: ids in rising order, and positions among the router's agents."""

    item_ids: IntArray
    agents: IntArray

    def of(self, position: int) -> list[int]:
        """The items of one agent, in order."""
        found: list[int] = self.item_ids[self.agents == position].tolist()
        return found


@dataclass(frozen=True, slots=True)
class Share:
    """What one agent gets: `items`, of which it has answered `answered` already, and what the others take.

    `cost` is US$, None without a price; `seconds` None for people.
    """

    agent: Agent
    items: int
    answered: int
    cost: Decimal | None
    seconds: float | None


def choice_of(agent: Agent, user: User) -> ModelChoice:
    """How the agent's annotator is asked again. Raises Refusal where it cannot be."""
    run = agent.run
    if run is None or run.kind in COMPOSED:
        raise Refusal(
            f"{agent.name} has not answered all of its items, and cannot be asked about the others."
        )
    if run.kind == ModelRun.Kind.TRAINED:
        return TRAINED
    if run.connection is None or not connections_of(user).filter(pk=run.connection.pk).exists():
        raise Refusal(
            f"The connection of {agent.name} was deleted or belongs to somebody else, so it cannot be asked."
        )
    return choice_of_run(run)


def shares_of(router: Router, allocation: Allocation, user: User) -> list[Share]:
    """What each agent gets and what it costs. Raises Refusal where an agent cannot be asked about its items."""
    project = router.project
    shares = []
    for agent in router.agents.select_related("run__project", "run__connection"):
        items = allocation.of(agent.position)
        if agent.is_people:
            shares.append(Share(agent, len(items), 0, project.review_price * len(items), None))
            continue
        there = answered_items(agent)
        missing = [pk for pk in items if pk not in there]
        if not missing:
            shares.append(Share(agent, len(items), len(items), Decimal(0), 0.0))
            continue
        estimate = annotation_estimate(
            project=project,
            choice=choice_of(agent, user),
            scope=AnnotationRun.Scope.PART,
            items=missing,
        )
        shares.append(Share(agent, len(items), len(items) - len(missing), estimate.cost, estimate.seconds))
    return shares


@transaction.atomic
def plan_start(
    *,
    router: Router,
    user: User,
    allocation: Allocation,
    setting: dict[str, Any],
    expected: dict[str, Any],
    spend_limit: Decimal | None = None,
) -> Plan:
    """Ask every agent about its items, and queue those of people. `spend_limit` is US$ for each agent's run.

    What an agent has answered before is taken as it is. Raises Refusal.
    """
    project = router.project
    keep_project(project.pk)
    if not len(allocation.item_ids):
        raise Refusal("There are no items left to hand out: people have answered all of them.")
    agents = list(router.agents.select_related("run__project", "run__connection"))
    people = next((agent for agent in agents if agent.is_people), None)
    for_people = [] if people is None else allocation.of(people.position)
    asked = np.setdiff1d(allocation.item_ids, np.array(for_people, dtype=np.int64))
    run = AnnotationRun.objects.create(
        project=project,
        kind=ModelRun.Kind.ROUTED,
        job=job_create(kind="routing", subjects=asked.tolist(), in_flight=1),
        seed=router.seed,
        created_by=user,
        parameters={"agents": [agent.name for agent in agents], "router": router.pk},
    )
    plan = Plan.objects.create(router=router, setting=setting, expected=expected, run=run, created_by=user)
    _store(plan, allocation)
    sources: dict[int, None] = {}
    for agent in agents:
        if not agent.is_people:
            sources |= dict.fromkeys(_put_to_work(project, agent, user, allocation, spend_limit))
    run.sources.set(list(sources))
    _queue(run, user, for_people, len(allocation.item_ids))
    record(
        project,
        user,
        "plan started",
        subject=f"plan {plan.pk} of {router.name}",
        subject_id=plan.pk,
        new={"items": len(allocation.item_ids), "setting": setting},
    )
    return plan


def _store(plan: Plan, allocation: Allocation) -> None:
    for number, start in enumerate(range(0, len(allocation.item_ids), PlanBlock.SIZE)):
        part = slice(start, start + PlanBlock.SIZE)
        PlanBlock.objects.create(
            plan=plan,
            number=number,
            item_ids=allocation.item_ids[part].astype("<i8").tobytes(),
            agents=allocation.agents[part].astype("<i2").tobytes(),
        )


def _put_to_work(
    project: Project, agent: Agent, user: User, allocation: Allocation, spend_limit: Decimal | None
) -> Iterator[int]:
    """Ids of the runs that hold, or will hold, the agent's answers, the one that asks now first."""
    items = allocation.of(agent.position)
    there = answered_items(agent)
    missing = [pk for pk in items if pk not in there]
    if missing:
        choice = choice_of(agent, user)
        limit = None if choice.is_trained else spend_limit
        part = annotation_run_create(
            project=project,
            user=user,
            choice=choice,
            scope=AnnotationRun.Scope.PART,
            spend_limit=limit,
            items=missing,
        )
        yield part.pk
    yield from sorted({there[pk] for pk in items if pk in there})


def _queue(run: AnnotationRun, user: User, items: Sequence[int], population: int) -> None:
    """Make the round of the items that people answer."""
    if not items:
        return
    round = routed_round_create(run=run, user=user, budget=len(items), population=population)
    Annotation.objects.bulk_create(
        [
            Annotation(
                run=run, item_id=pk, failure=Annotation.TO_PERSON, message=TO_PERSON_MESSAGE, attempts=0
            )
            for pk in items
        ],
        batch_size=500,
    )
    rows = Annotation.objects.filter(run=run, failure=Annotation.TO_PERSON).order_by("item_id")
    give_to_people(round, list(rows.only("pk", "item_id")))


def asking_runs(plan: Plan) -> list[AnnotationRun]:
    """The runs that were started for the plan."""
    parts = plan.run.sources.filter(scope=AnnotationRun.Scope.PART, created_at__gte=plan.run.created_at)
    return list(parts.select_related("job", "connection").order_by("pk"))


@transaction.atomic
def plan_act(*, plan: Plan, user: User, action: str, spend_limit: Decimal | None = None) -> None:
    """Pause, resume or cancel every run of the plan that is in a state for it. Raises JobStateError where none is."""
    if action not in _DONE:
        raise JobStateError(f"A plan cannot {action}.")
    runs = [*asking_runs(plan), plan.run]
    if not sum(_act(run.job, action, spend_limit) for run in runs):
        raise JobStateError(f"There is nothing to {action}.")
    subject = f"plan {plan.pk} of {plan.router.name}"
    record(plan.router.project, user, f"plan {_DONE[action]}", subject=subject, subject_id=plan.pk)


def _act(job: Job, action: str, spend_limit: Decimal | None) -> bool:
    """Whether the job was in a state for it."""
    if action == "pause" and job.is_active:
        job_pause(job)
    elif action == "resume" and job.state == Job.State.PAUSED:
        job_resume(job, spend_limit=spend_limit if job.spend_limit is not None else None)
    elif action == "cancel" and not job.is_finished:
        job_cancel(job)
    else:
        return False
    return True
