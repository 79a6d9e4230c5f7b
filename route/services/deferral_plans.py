"""The plan of a rejector: which agent gets each item that is left, within what people can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from annotate.errors import Refusal
from annotate.models import User
from route.allocation import within_capacity
from route.deferral_report import accuracy_by_agent
from route.evidence import open_items
from route.models import Agent, Plan, Router
from route.services.plans import Allocation, Share, plan_start, shares_of
from route.training import kept_arrays


@dataclass(frozen=True)
class PlanPreview:
    """What a plan would do. Accuracies are expected shares of right answers, costs US$, None without a price.

    `default_accuracy` and `default_cost` are those of the default agent answering everything; `added` items came after
    the router was trained, and are in no plan of it.
    """

    allocation: Allocation
    shares: list[Share]
    accuracy: float
    default_accuracy: float
    default_cost: Decimal | None
    added: int

    @property
    def items(self) -> int:
        return len(self.allocation.item_ids)

    @property
    def cost(self) -> Decimal | None:
        costs = [share.cost for share in self.shares]
        return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))

    @property
    def seconds(self) -> float:
        """Until the models are done, one after the other."""
        return sum(share.seconds or 0.0 for share in self.shares)

    def as_dict(self) -> dict[str, Any]:
        """As a plan keeps it."""
        return {
            "items": self.items,
            "accuracy": self.accuracy,
            "default_accuracy": self.default_accuracy,
            "cost": None if self.cost is None else float(self.cost),
            "shares": [
                {
                    "agent": share.agent.name,
                    "items": share.items,
                    "answered": share.answered,
                    "cost": None if share.cost is None else float(share.cost),
                }
                for share in self.shares
            ],
        }


def deferral_preview(*, router: Router, user: User, people: int | None = None) -> PlanPreview:
    """Hand the items out with at most `people` items for people. Commits nothing. Raises Refusal."""
    if not router.is_trained or router.kind != Router.Kind.DEFERRAL:
        raise Refusal("The router is not trained yet. Wait until it is.")
    if people is not None and people < 0:
        raise Refusal("People can get 0 items or more.", field="people")
    agents = list(router.agents.all())
    kept = kept_arrays(router)
    item_ids, scores = kept["item_ids"].astype(np.int64), kept["scores"].astype(np.float64)
    left = np.array(open_items(router.project), dtype=np.int64)
    rows = np.isin(item_ids, left)
    item_ids, scores = item_ids[rows], scores[rows]
    chosen = _chosen(agents, scores, people)
    allocation = Allocation(item_ids, chosen.astype(np.int64))
    overall = [row["accuracy"] for row in router.metrics["table"] if row["kind"] == "agent"]
    shares = shares_of(router, allocation, user)
    everything = Allocation(item_ids, np.zeros(len(item_ids), dtype=np.int64))
    return PlanPreview(
        allocation=allocation,
        shares=shares,
        accuracy=_expected_accuracy(agents, kept, chosen, people),
        default_accuracy=overall[0],
        default_cost=shares_of(router, everything, user)[0].cost,
        added=int((~np.isin(left, item_ids)).sum()),
    )


def _expected_accuracy(
    agents: Sequence[Agent], kept: Mapping[str, np.ndarray], chosen: np.ndarray, people: int | None
) -> float:
    """The share of right answers, by the known items handed out in the same way: as many of them to people."""
    if not len(chosen):
        return 0.0
    wrong = kept["held_out_wrong"]
    most = None if people is None else round(people * len(wrong) / len(chosen))
    known = _chosen(agents, kept["held_out_scores"], most)
    counts = np.bincount(chosen, minlength=len(agents))
    return float(counts @ accuracy_by_agent(wrong, known) / len(chosen))


def _chosen(agents: Sequence[Agent], scores: np.ndarray, people: int | None) -> np.ndarray:
    human = next((agent.position for agent in agents if agent.is_people), None)
    if human is None or people is None:
        return scores.argmax(axis=1) if len(scores) else np.zeros(0, dtype=np.intp)
    return within_capacity(scores, human, people)


def deferral_plan_start(
    *, router: Router, user: User, people: int | None = None, spend_limit: Decimal | None = None
) -> Plan:
    """Start the plan that `deferral_preview` shows. Raises Refusal."""
    preview = deferral_preview(router=router, user=user, people=people)
    return plan_start(
        router=router,
        user=user,
        allocation=preview.allocation,
        setting={"people": people},
        expected=preview.as_dict(),
        spend_limit=spend_limit,
    )
