"""Starting to train routers: who the agents are, what their mistakes and answers cost, and what the router sees."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Avg

from annotate.access import connections_of
from annotate.errors import Refusal
from annotate.history import record
from annotate.locks import keep_project
from annotate.models import Annotation, AnnotationRun, ModelRun, Project, User
from annotate.vectors import PLAIN, VectorChoice, check_vector_choice
from annotate.vectors_estimate import VectorsEstimate, vectors_estimate
from jobs.services import job_cancel, job_create, job_pause, job_resume
from route.agents import answering_runs
from route.evidence import MIN_KNOWN, evidence_of
from route.models import Agent, Router
from route.router_vectors import (
    VECTORS_PAUSED,
    cancel_vectors,
    pause_vectors,
    resume_vectors,
    vectors_job,
    vectors_said,
)

PEOPLE = "People"
MOST_HIDDEN = 256
MOST_NU = 10.0
MOST_COST = 1e6  # of α and β: in units of a mistake, which is usually 1


@dataclass(frozen=True, slots=True)
class AgentChoice:
    """An agent and its costs: α · 1{wrong} + β. `run` is None for people; β None: by what its answer costs."""

    run: AnnotationRun | None
    alpha: float = 1.0
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class DeferralChoice:
    """How a rejector is to be trained. `mistake` is what a wrong answer costs, in US$: it turns prices into β."""

    agents: Sequence[AgentChoice]
    mistake: Decimal
    nu: float = 1.0
    hidden: tuple[int, ...] = ()
    vectors: VectorChoice = PLAIN
    name: str = ""
    seed: int | None = None


def offered_runs(project: Project) -> list[AnnotationRun]:
    """Finished runs that can be agents, the newest of each annotator: over the items, or tried on calibration items."""
    runs = project.annotation_runs.exclude(kind=ModelRun.Kind.ROUTED).exclude(scope=AnnotationRun.Scope.PART)
    found: dict[tuple[Any, ...], AnnotationRun] = {}
    for run in runs.select_related("job", "project", "connection").order_by("-scope", "-pk"):
        if run.job.is_finished and run.job.succeeded:
            parameters = run.parameters
            key = (
                (run.pk,)
                if run.kind == ModelRun.Kind.VOTED
                else (
                    run.kind,
                    run.provider,
                    run.model,
                    run.strategy,
                    bool(parameters.get("confidence")),
                    int(parameters.get("examples") or 0),
                    bool(parameters.get("sources")),
                )
            )
            found.setdefault(key, run)
    return list(found.values())


def price_of_agent(project: Project, run: AnnotationRun | None) -> Decimal | None:
    """US$ for one answer: of people the project's price of a review, else the mean of what was paid so far.

    None where no price of the model is known.
    """
    if run is None:
        return project.review_price
    if run.kind == ModelRun.Kind.TRAINED:
        return Decimal(0)
    runs = [run, *run.sources.all()] if run.kind == ModelRun.Kind.VOTED else answering_runs(run)
    paid = Annotation.objects.filter(
        run__in=runs, failure="", attempts__gt=0, reused=False, cost__isnull=False
    )
    mean: Decimal | None = paid.aggregate(mean=Avg("cost"))["mean"]
    if mean is None and run.provider == "scripted":
        return Decimal(0)
    return None if mean is None else Decimal(mean)


def check_agents(project: Project, runs: Sequence[AnnotationRun | None]) -> None:
    """Raise Refusal unless these can be agents of one router; None stands for people."""
    if len(runs) < 2:
        raise Refusal("Choose two or more agents.", field="agents")
    if len({run.pk if run else 0 for run in runs}) < len(runs):
        raise Refusal("Choose every agent once.", field="agents")
    if all(run is None for run in runs):
        raise Refusal("Choose at least one annotator.", field="agents")
    if runs[0] is None:
        raise Refusal("The default agent is an annotator, not people.", field="agents")
    for run in runs:
        if run is not None and run.project_id != project.pk:
            raise Refusal("Choose runs of this project.", field="agents")
        if run is not None and not run.job.is_finished:
            raise Refusal(f"{run.who} is not finished yet. Wait for it, or cancel it.", field="agents")


def need_known(project: Project, runs: Sequence[AnnotationRun | None]) -> int:
    """How many items there are to learn from. Raises Refusal for too few."""
    known = len(evidence_of(project, [run for run in runs if run is not None]))
    if known < MIN_KNOWN:
        raise Refusal(
            f"Of {known} items it is known what is right and every agent has answered them; at least {MIN_KNOWN} are "
            "needed. Label more calibration items, and try every agent on them on the page “Candidates”.",
            field="agents",
        )
    return known


def deferral_create(*, project: Project, user: User, choice: DeferralChoice) -> Router:
    """Start to train a rejector. Raises Refusal."""
    _check_deferral(project, user, choice)
    prices = [price_of_agent(project, agent.run) for agent in choice.agents]
    agents = [
        Agent(
            position=position,
            name=agent.run.who if agent.run else PEOPLE,
            run=agent.run,
            alpha=agent.alpha,
            beta=beta_of(agent, price, choice.mistake),
            price=price,
        )
        for position, (agent, price) in enumerate(zip(choice.agents, prices, strict=True))
    ]
    parameters = {"nu": choice.nu, "hidden": list(choice.hidden), "mistake": str(choice.mistake)}
    return router_create(
        project=project,
        user=user,
        kind=Router.Kind.DEFERRAL,
        name=choice.name or "Who answers what",
        agents=agents,
        parameters=parameters,
        vectors=choice.vectors,
        seed=project.seed if choice.seed is None else choice.seed,
    )


def beta_of(agent: AgentChoice, price: Decimal | None, mistake: Decimal) -> float:
    """β in units of a mistake: what an answer costs against what a wrong answer costs."""
    return float((price or Decimal(0)) / mistake) if agent.beta is None else agent.beta


def _check_deferral(project: Project, user: User, choice: DeferralChoice) -> None:
    runs = [agent.run for agent in choice.agents]
    check_agents(project, runs)
    if choice.mistake <= 0:
        raise Refusal("What a wrong answer costs must be more than US$ 0.", field="mistake")
    if not 0 <= choice.nu <= MOST_NU:
        raise Refusal(f"ν must be between 0 and {MOST_NU:g}; 1 is the usual loss.", field="nu")
    if len(choice.hidden) > 2 or any(not 1 <= units <= MOST_HIDDEN for units in choice.hidden):
        raise Refusal(f"At most two hidden layers, of 1 to {MOST_HIDDEN} units each.", field="hidden")
    for agent in choice.agents:
        if not all(0 <= cost <= MOST_COST for cost in (agent.alpha, agent.beta or 0.0)):
            raise Refusal(f"α and β must lie between 0 and {MOST_COST:,.0f}.", field="agents")
        price = None if agent.beta is not None else price_of_agent(project, agent.run)
        if beta_of(agent, price, choice.mistake) > MOST_COST:
            raise Refusal(
                f"An answer of {agent.run.who if agent.run else PEOPLE} costs more than {MOST_COST:,.0f} times what a "
                "wrong answer costs. Enter what a wrong answer really costs.",
                field="mistake",
            )
    check_vectors(project, user, choice.vectors)
    need_known(project, runs)


def check_vectors(project: Project, user: User, choice: VectorChoice) -> None:
    """Raise Refusal unless vectors of this choice can be made for the project."""
    try:
        check_vector_choice(project, choice)
    except Refusal as refusal:
        raise Refusal(refusal.sentence, field=f"vectors.{refusal.field}") from refusal
    if choice.connection is not None and not connections_of(user).filter(pk=choice.connection.pk).exists():
        raise Refusal("Choose one of your connections.", field="vectors.connection")


def router_vectors_estimate(*, project: Project, user: User, choice: VectorChoice) -> VectorsEstimate:
    """What the vectors that a router is to see will take. Raises Refusal."""
    check_vectors(project, user, replace(choice, spend_limit=None))
    return vectors_estimate(project, choice)


def training_cancel(router: Router) -> None:
    """Train it no further, and buy nothing more for it alone. Raises JobStateError where that is over."""
    job_cancel(router.job)
    cancel_vectors(router)


def training_pause(router: Router) -> None:
    """Start no more calls of the training, and buy nothing more for it alone. Raises JobStateError."""
    job_pause(router.job)
    pause_vectors(router)


def training_resume(router: Router, *, spend_limit: Decimal | None = None) -> None:
    """Go on with a paused training, and with buying the embeddings that it waits for where that had paused.

    `spend_limit` is that of what had paused. Raises JobStateError.
    """
    if router.job.failure == VECTORS_PAUSED:
        resume_vectors(router, spend_limit=spend_limit)
        spend_limit = None
    elif (bought := vectors_job(router)) is not None and not bought.failure:
        resume_vectors(router)  # they paused with it
    job_resume(router.job, spend_limit=spend_limit)


@transaction.atomic
def router_cancel(*, router: Router, user: User) -> None:
    """Train it no further. Raises JobStateError where that is over."""
    training_cancel(router)
    record(router.project, user, "router training cancelled", subject=router.name, subject_id=router.pk)


@transaction.atomic
def router_create(
    *,
    project: Project,
    user: User,
    kind: str,
    name: str,
    agents: Sequence[Agent],
    parameters: dict[str, Any],
    vectors: VectorChoice,
    seed: int,
    **about: Any,
) -> Router:
    """A router of any kind, with the job that trains it."""
    keep_project(project.pk)
    router = Router.objects.create(
        project=project,
        kind=kind,
        name=name.strip()[:120],
        vectors=vectors_said(vectors),
        parameters=parameters,
        seed=seed,
        job=job_create(kind="router_training", subjects=[project.pk], in_flight=1),
        created_by=user,
        **about,
    )
    for agent in agents:
        agent.router = router
    Agent.objects.bulk_create(agents)
    record(
        project,
        user,
        "router training started",
        subject=router.name,
        subject_id=router.pk,
        new={"kind": kind, "agents": [agent.name for agent in agents], **parameters},
    )
    return router
