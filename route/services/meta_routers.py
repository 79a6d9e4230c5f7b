"""Starting to train meta-routers: from whose comparisons, and how."""

from dataclasses import dataclass

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project, User
from annotate.vectors import PLAIN, VectorChoice
from route.comparisons import Comparisons, comparisons_of
from route.meta import LEARNERS, SCALINGS
from route.meta_report import REGRESSORS
from route.models import Agent, JudgeRun, Router
from route.services.judge_runs import check_pair
from route.services.routers import check_vectors, price_of_agent, router_create


@dataclass(frozen=True, slots=True)
class MetaChoice:
    """How a meta-router is to be trained: from the gold that there is, and from what a judge run prefers.

    The judge run says who the cheap and the premium annotator are. `scaling` None leaves gold gains as they are.
    """

    judge_run: JudgeRun
    learner: str = "dr"
    regressor: str = "forest"
    scaling: str | None = "variance"
    vectors: VectorChoice = PLAIN
    name: str = ""
    seed: int | None = None

    @property
    def runs(self) -> tuple[AnnotationRun, AnnotationRun]:
        """The cheap and the premium annotator's."""
        return self.judge_run.cheap, self.judge_run.premium


def check_meta(project: Project, user: User, choice: MetaChoice) -> Comparisons:
    """What the router would learn from. Raises Refusal where it cannot be trained."""
    if choice.judge_run.project_id != project.pk:
        raise Refusal("Choose comparisons of this project.", field="judge_run")
    if not choice.judge_run.job.is_finished:
        raise Refusal(
            "The answers are still being compared. Wait for that, or cancel it to learn from what is there.",
            field="judge_run",
        )
    check_pair(project, *choice.runs)
    if choice.learner not in LEARNERS:
        raise Refusal(f"The learner is one of: {', '.join(LEARNERS)}.", field="learner")
    if choice.regressor not in REGRESSORS:
        raise Refusal(f"The regressor is one of: {', '.join(REGRESSORS)}.", field="regressor")
    if choice.scaling is not None and choice.scaling not in SCALINGS:
        raise Refusal(f"The scaling is one of: {', '.join(SCALINGS)}.", field="scaling")
    check_vectors(project, user, choice.vectors)
    found = comparisons_of(project, *choice.runs, choice.judge_run, seed=_seed(project, choice))
    if problem := found.problem():
        raise Refusal(problem, field="judge_run")
    return found


def meta_create(*, project: Project, user: User, choice: MetaChoice) -> Router:
    """Start to train a meta-router. Agent 0 is the cheap annotator, agent 1 the premium one. Raises Refusal."""
    check_meta(project, user, choice)
    agents = [
        Agent(position=position, name=run.who, run=run, price=price_of_agent(project, run))
        for position, run in enumerate(choice.runs)
    ]
    return router_create(
        project=project,
        user=user,
        kind=Router.Kind.META,
        name=choice.name.strip() or "Premium or cheap",
        agents=agents,
        parameters={"learner": choice.learner, "regressor": choice.regressor, "scaling": choice.scaling},
        vectors=choice.vectors,
        seed=_seed(project, choice),
        judge_run=choice.judge_run,
    )


def _seed(project: Project, choice: MetaChoice) -> int:
    return project.seed if choice.seed is None else choice.seed
