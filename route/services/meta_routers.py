"""Starting to train meta-routers: among whom, from whose comparisons, and how."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from django.db import transaction

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project, User
from annotate.vectors import PLAIN, VectorChoice
from jobs.models import Job
from route.agents import runs_of_annotator
from route.comparisons import Comparisons, comparisons_of, positions_of
from route.meta import LEARNERS, SCALINGS
from route.meta_report import REGRESSORS
from route.models import Agent, JudgeRun, Router
from route.services.judge_runs import check_pair
from route.services.routers import check_vectors, price_of_agent, router_create

MOST_AGENTS = 8


@dataclass(frozen=True, slots=True)
class MetaChoice:
    """How a meta-router is to be trained: from the gold that there is, and from what judge runs prefer.

    `agents` are runs of the annotators to choose among, the default (the cheap one) first; without any, the cheap and
    the premium one of the first judge run. Without `judge_runs`: the newest finished one of each two of the agents.
    `scaling` None leaves gold gains as they are.
    """

    judge_runs: Sequence[JudgeRun] = ()
    agents: Sequence[AnnotationRun] = ()
    learner: str = "dr"
    regressor: str = "forest"
    scaling: str | None = "variance"
    vectors: VectorChoice = PLAIN
    name: str = ""
    seed: int | None = None

    @property
    def runs(self) -> Sequence[AnnotationRun]:
        """The annotators', the default's first."""
        if self.agents or not self.judge_runs:
            return self.agents
        return self.judge_runs[0].cheap, self.judge_runs[0].premium


def annotators_of(judge_runs: Iterable[JudgeRun]) -> list[AnnotationRun]:
    """A run of every annotator whose answers were compared, in order, each annotator once."""
    found: list[AnnotationRun] = []
    known: set[int] = set()
    for judge_run in judge_runs:
        for run in (judge_run.cheap, judge_run.premium):
            if run.pk not in known:
                found.append(run)
                known |= set(runs_of_annotator(run))
    return found


def finished_judge_runs(project: Project) -> list[JudgeRun]:
    """The project's comparisons to learn from, newest first."""
    runs = project.judge_runs.exclude(job__state__in=Job.UNFINISHED)
    return list(
        runs.select_related("job", "cheap__job", "cheap__project", "premium__job", "premium__project")
    )


def check_meta(project: Project, user: User, choice: MetaChoice) -> Comparisons:
    """What the router would learn from. Raises Refusal where it cannot be trained."""
    choice = _with_judge_runs(project, choice)
    _check_agents(project, choice)
    if choice.learner not in LEARNERS:
        raise Refusal(f"The learner is one of: {', '.join(LEARNERS)}.", field="learner")
    if choice.regressor not in REGRESSORS:
        raise Refusal(f"The regressor is one of: {', '.join(REGRESSORS)}.", field="regressor")
    if choice.scaling is not None and choice.scaling not in SCALINGS:
        raise Refusal(f"The scaling is one of: {', '.join(SCALINGS)}.", field="scaling")
    check_vectors(project, user, choice.vectors)
    found = comparisons_of(project, choice.runs, choice.judge_runs, seed=_seed(project, choice))
    if problem := found.problem():
        raise Refusal(problem, field="judge_runs")
    return found


def _with_judge_runs(project: Project, choice: MetaChoice) -> MetaChoice:
    if choice.judge_runs or not choice.agents:
        return choice
    positions = positions_of(choice.agents)
    newest: dict[frozenset[int], JudgeRun] = {}
    for run in finished_judge_runs(project):
        if {run.cheap_id, run.premium_id} <= positions.keys():
            newest.setdefault(frozenset((positions[run.cheap_id], positions[run.premium_id])), run)
    return replace(choice, judge_runs=list(newest.values()))


def _check_agents(project: Project, choice: MetaChoice) -> None:
    for judge_run in choice.judge_runs:
        if judge_run.project_id != project.pk:
            raise Refusal("Choose comparisons of this project.", field="judge_runs")
        if not judge_run.job.is_finished:
            raise Refusal(
                "The answers are still being compared. Wait for that, or cancel it to learn from what is there.",
                field="judge_runs",
            )
    runs = choice.runs
    if not 2 <= len(runs) <= MOST_AGENTS:
        raise Refusal(f"Choose two to {MOST_AGENTS} annotators.", field="agents")
    for one, other in combinations(runs, 2):
        check_pair(project, one, other)
    positions = positions_of(runs)
    compared: set[int] = set()
    for judge_run in choice.judge_runs:
        if not {judge_run.cheap_id, judge_run.premium_id} <= positions.keys():
            raise Refusal(
                f"Comparison {judge_run.pk} is about an annotator that is not among those you have chosen.",
                field="judge_runs",
            )
        pair = {positions[judge_run.cheap_id], positions[judge_run.premium_id]}
        compared |= pair if 0 in pair else set()
    for position, run in enumerate(runs):
        if position and position not in compared:
            raise Refusal(
                f"{run.who} and the default, {runs[0].who}, have not been compared. Compare the two first.",
                field="agents",
            )


@transaction.atomic
def meta_create(*, project: Project, user: User, choice: MetaChoice) -> Router:
    """Start to train a meta-router. Agent 0 is the default, or the cheap one of two annotators. Raises Refusal."""
    choice = _with_judge_runs(project, choice)
    check_meta(project, user, choice)
    agents = [
        Agent(position=position, name=run.who, run=run, price=price_of_agent(project, run))
        for position, run in enumerate(choice.runs)
    ]
    router = router_create(
        project=project,
        user=user,
        kind=Router.Kind.META,
        name=choice.name.strip() or ("Premium or cheap" if len(agents) == 2 else "One of several"),
        agents=agents,
        parameters={"learner": choice.learner, "regressor": choice.regressor, "scaling": choice.scaling},
        vectors=choice.vectors,
        seed=_seed(project, choice),
    )
    router.judge_runs.set(choice.judge_runs)
    return router


def _seed(project: Project, choice: MetaChoice) -> int:
    return project.seed if choice.seed is None else choice.seed
