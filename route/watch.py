"""The watch over a plan at work: shares and cost so far, and how right its answers are by what people said since."""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from annotate.models import Annotation
from criticize.leaderboard import wilson_interval
from review.answers import answer_key
from route.evidence import known_answers
from route.models import Agent, Plan
from route.services.plans import asking_runs


@dataclass(frozen=True, slots=True)
class Watched:
    """One agent's part: `items` of the plan, and of those that people answered since, how many it has right.

    `low` and `high` bound the share of right answers by Wilson's 95% interval; None where `judged` is 0.
    """

    name: str
    items: int
    share: float
    judged: int
    right: int

    @property
    def accuracy(self) -> float | None:
        return self.right / self.judged if self.judged else None

    @property
    def low(self) -> float | None:
        return wilson_interval(self.right, self.judged)[0] if self.judged else None

    @property
    def high(self) -> float | None:
        return wilson_interval(self.right, self.judged)[1] if self.judged else None


@dataclass(frozen=True, slots=True)
class Watch:
    """The whole plan's figures, and each agent's but people's. `cost` is US$ spent on its answers so far."""

    whole: Watched
    agents: list[Watched]
    cost: Decimal


def watch_of(plan: Plan) -> Watch:
    """How the plan does. Its items had no answer of a person when it was started: what is known now came since."""
    position_of: dict[int, int] = {}
    for block in plan.blocks.order_by("number").iterator(chunk_size=1):
        ids, positions = block.arrays()
        position_of |= dict(zip(ids.tolist(), positions.tolist(), strict=True))
    known = known_answers(plan.router.project).answers
    since = [pk for pk in position_of if pk in known]
    judged: dict[int, list[bool]] = {}
    for start in range(0, len(since), 500):
        rows = Annotation.objects.filter(run=plan.run, item__in=since[start : start + 500], failure="")
        for item_id, label, answer, place in rows.values_list("item_id", "label_id", "answer", "start"):
            is_right = answer_key(label, answer, place) in known[item_id]
            judged.setdefault(position_of[item_id], []).append(is_right)
    counts = np.bincount(list(position_of.values()), minlength=1) if position_of else np.zeros(1, dtype=int)
    agents = [agent for agent in plan.router.agents.all() if not agent.is_people]
    parts = [_watched(agent, counts, judged.get(agent.position, [])) for agent in agents]
    everything = [each for of_agent in judged.values() for each in of_agent]
    whole = Watched("All", len(position_of), 1.0, len(everything), sum(everything))
    return Watch(whole, parts, sum((run.job.cost for run in asking_runs(plan)), Decimal(0)))


def _watched(
    agent: Agent, counts: "np.ndarray[tuple[int], np.dtype[np.int64]]", judged: list[bool]
) -> Watched:
    items = int(counts[agent.position]) if agent.position < len(counts) else 0
    return Watched(agent.name, items, items / max(1, int(counts.sum())), len(judged), sum(judged))
