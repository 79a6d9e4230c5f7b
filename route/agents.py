"""The agents of a router: which runs hold their answers, and which of a plan's items each one has."""

from collections.abc import Sequence

import numpy as np

from annotate.models import Annotation, AnnotationRun, ModelRun
from review.priorities import candidates_like
from route.models import Agent, Plan

# What no annotator can be asked for anew: they are made of others' answers.
COMPOSED = (ModelRun.Kind.VOTED, ModelRun.Kind.ROUTED)


def answering_runs(run: AnnotationRun) -> list[AnnotationRun]:
    """The run, and those over the calibration items by the same annotator asked in the same way."""
    found = {run.pk: run}
    for candidate in candidates_like(run):
        found.setdefault(candidate.pk, candidate)
    return list(found.values())


def runs_by(agent: Agent) -> list[AnnotationRun]:
    """The project's runs by the agent's annotator, asked in the same way, but the candidates; its own first."""
    run = agent.run
    if run is None:
        return []
    others = run.project.annotation_runs.filter(
        kind=run.kind, provider=run.provider, model=run.model, strategy=run.strategy
    ).exclude(scope=AnnotationRun.Scope.CALIBRATION)
    like = [other for other in others.order_by("-pk") if _asked(other) == _asked(run)]
    if run.kind in COMPOSED or run.parameters.get("sources"):
        like = [run]
    return sorted(like, key=lambda each: each.pk != run.pk)


def _asked(run: AnnotationRun) -> tuple[bool, int, bool]:
    asked = run.parameters
    return bool(asked.get("confidence")), int(asked.get("examples") or 0), bool(asked.get("sources"))


def runs_of_annotator(run: AnnotationRun) -> list[int]:
    """Ids of the runs by the run's annotator, its own first."""
    found = [run, *runs_by(Agent(run=run)), *answering_runs(run)]
    return list(dict.fromkeys(each.pk for each in found))


def answered_items(agent: Agent) -> dict[int, int]:
    """By item that the agent's annotator has answered: the run that holds the answer."""
    found: dict[int, int] = {}
    for run in reversed(runs_by(agent)):
        items = Annotation.objects.filter(run=run, failure="").values_list("item_id", flat=True)
        found |= dict.fromkeys(items.iterator(chunk_size=10_000), run.pk)
    return found


def agents_of_items(plan: Plan, item_ids: Sequence[int]) -> dict[int, int]:
    """The position of the agent of each of these items."""
    found: dict[int, int] = {}
    for block in plan.blocks.order_by("number").iterator(chunk_size=1):
        ids, agents = block.arrays()
        wanted = np.isin(ids, item_ids)
        found |= dict(zip(ids[wanted].tolist(), agents[wanted].tolist(), strict=True))
    return found
