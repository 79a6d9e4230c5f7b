"""The plan of a meta-router: which items that are left are worth the premium annotator, within a limit."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.errors import Refusal
from annotate.models import User
from route.evidence import open_items
from route.meta_allocation import allocate, choose_w_among
from route.meta_metrics import FloatArray, cost_curve
from route.meta_report import extra_costs_of
from route.models import Agent, Plan, Router
from route.services.deferral_plans import PlanPreview
from route.services.plans import Allocation, plan_start, shares_of
from route.training import kept_scores

_LIMITS = ("premium_share", "extra_cost", "w")


@dataclass(frozen=True, slots=True)
class MetaLimit:
    """How much the premium annotator may be used; one of the three, or none: wherever a gain is predicted.

    `premium_share` of the items in [0, 1]; `extra_cost`, US$ an item on average, above asking the cheap annotator about
    everything; or `w` itself, the gold gain that a unit of the premium annotator's extra cost must bring.
    """

    premium_share: float | None = None
    extra_cost: float | None = None
    w: float | None = None

    def as_dict(self) -> dict[str, float]:
        """What was chosen."""
        said = {name: getattr(self, name) for name in _LIMITS}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Alone:
    """One annotator answering everything: the share of right answers, and US$; None without a price."""

    agent: Agent
    accuracy: float
    cost: Decimal | None


@dataclass(frozen=True)
class MetaPreview(PlanPreview):
    """A plan among annotators; the default is the cheap one.

    An item goes to the annotator with the largest predicted gain − `w` · extra cost; `extra_costs` are US$ above the
    default's, or 1 where `is_unit`: no prices say that the others cost more. `gain` is what that brings an item, in
    shares of right answers, on gold that was held out. `alone` is what each annotator would do answering everything.
    """

    w: float
    extra_costs: tuple[float, ...]
    is_unit: bool
    gain: float
    alone: list[Alone]

    @property
    def is_among_several(self) -> bool:
        return len(self.alone) > 2

    @property
    def cost_gap(self) -> float:
        """What a premium answer costs more, of two annotators."""
        return self.extra_costs[1]

    @property
    def premium(self) -> Alone:
        """The premium annotator of two; of several the one that is right most often."""
        return max(self.alone[1:], key=lambda each: each.accuracy)

    @property
    def premium_accuracy(self) -> float:
        return self.premium.accuracy

    @property
    def premium_cost(self) -> Decimal | None:
        return self.premium.cost

    @property
    def premium_share(self) -> float:
        """Of the items: those that do not go to the default."""
        return sum(share.items for share in self.shares[1:]) / self.items if self.items else 0.0

    @property
    def saved(self) -> Decimal | None:
        """US$ against asking the premium annotator about everything."""
        return None if self.cost is None or self.premium_cost is None else self.premium_cost - self.cost

    def as_dict(self) -> dict[str, Any]:
        said = super().as_dict() | {
            "w": self.w,
            "premium_share": self.premium_share,
            "premium_accuracy": self.premium_accuracy,
            "premium_cost": None if self.premium_cost is None else str(self.premium_cost),
            "gain": self.gain,
        }
        if self.is_among_several:
            said["alone"] = [
                {
                    "agent": each.agent.name,
                    "accuracy": each.accuracy,
                    "cost": None if each.cost is None else float(each.cost),
                }
                for each in self.alone
            ]
        return said


def meta_preview(*, router: Router, user: User, limit: MetaLimit) -> MetaPreview:
    """Hand the items out within the limit. Commits nothing. Raises Refusal."""
    if not router.is_trained or router.kind != Router.Kind.META:
        raise Refusal("The router is not trained yet. Wait until it is.")
    if router.comparison_set_id is not None:
        raise Refusal(
            "This router was trained on uploaded comparisons, not on the project's items, so it makes no plans. Ask it "
            "about texts."
        )
    _check_limit(limit)
    agents = list(router.agents.all())
    extra_costs, is_unit = _extra_costs(agents, limit)
    item_ids, scores = kept_scores(router)
    left = np.array(open_items(router.project), dtype=np.int64)
    rows = np.isin(item_ids, left)
    item_ids, predicted = item_ids[rows], over_default(scores[rows])
    w = _chosen_w(router, predicted, extra_costs, limit)
    chosen = allocate(predicted, w, extra_costs).astype(np.int64)
    allocation = Allocation(item_ids, chosen)
    spent = float(extra_costs[chosen].mean() / extra_costs.max()) if len(chosen) else 0.0
    gain = _expected_gain(router, spent, extra_costs)
    alone = [
        Alone(agent, accuracy, _cost_of_all(router, user, item_ids, agent.position))
        for agent, accuracy in zip(agents, accuracies_of(router), strict=True)
    ]
    return MetaPreview(
        allocation=allocation,
        shares=shares_of(router, allocation, user),
        accuracy=min(1.0, max(0.0, alone[0].accuracy + gain)),
        default_accuracy=alone[0].accuracy,
        default_cost=alone[0].cost,
        added=int((~np.isin(left, item_ids)).sum()),
        w=w,
        extra_costs=tuple(extra_costs.tolist()),
        is_unit=is_unit,
        gain=gain,
        alone=alone,
    )


def over_default(gains: npt.ArrayLike) -> FloatArray:
    """Gains of all agents over the default, (n, K), of those of the others, (n, K − 1) or, of one other, (n,)."""
    others = np.asarray(gains, dtype=float)
    others = others.reshape(len(others), -1)
    return np.hstack([np.zeros((len(others), 1)), others])


def accuracies_of(router: Router) -> list[float]:
    """The share of the known items that each of its annotators has right, the default first."""
    metrics = router.metrics
    if "accuracies" in metrics:
        return [float(each) for each in metrics["accuracies"]]
    return [float(metrics["accuracy"]["cheap"]), float(metrics["accuracy"]["premium"])]


def _cost_of_all(
    router: Router, user: User, item_ids: npt.NDArray[np.int64], position: int
) -> Decimal | None:
    """US$ of one agent answering everything; None without a price, or where it cannot be asked any more."""
    everything = Allocation(item_ids, np.full(len(item_ids), position, dtype=np.int64))
    try:
        return shares_of(router, everything, user)[position].cost
    except Refusal:
        return None


def _check_limit(limit: MetaLimit) -> None:
    if len(limit.as_dict()) > 1:
        raise Refusal(
            "Limit the share, or the extra cost, or set w: one of the three.", field="premium_share"
        )
    if limit.premium_share is not None and not 0 <= limit.premium_share <= 1:
        raise Refusal("The premium annotator's share lies between 0 and 1.", field="premium_share")
    for name in ("extra_cost", "w"):
        value = getattr(limit, name)
        if value is not None and not (np.isfinite(value) and value >= 0):
            raise Refusal("Enter a number of at least 0.", field=name)


def _extra_costs(agents: list[Agent], limit: MetaLimit) -> tuple[FloatArray, bool]:
    """What each one's answer costs above the default's, and whether that is 1 for want of prices."""
    prices = [agent.price for agent in agents]
    extra_costs, is_unit = extra_costs_of(prices)
    if limit.premium_share is not None and (extra_costs[1:] == 0).any():
        # A limit on the share cannot hold where an answer that counts costs nothing extra.
        return extra_costs_of([None] * len(prices))
    if is_unit and limit.extra_cost is not None:
        raise Refusal(_no_extra_cost(agents), field="extra_cost")
    return extra_costs, is_unit


def _no_extra_cost(agents: list[Agent]) -> str:
    is_pair = len(agents) == 2
    if any(agent.price is None for agent in agents):
        what = (
            "a premium answer costs more than a cheap one"
            if is_pair
            else "the answers of each annotator cost"
        )
        models = "both models" if is_pair else "all models"
        return (
            f"It is not known what {what}. Enter the prices of {models}, and train the router again; or limit the "
            "share of items."
        )
    if is_pair:
        return "The premium annotator costs no more than the cheap one, so its extra cost is no limit."
    return (
        f"{agents[0].name}, the default, is not the cheapest annotator, so what the others cost more is no limit. "
        "Train a router whose default is the cheapest one, or limit the share of items."
    )


def _chosen_w(router: Router, predicted: FloatArray, extra_costs: FloatArray, limit: MetaLimit) -> float:
    """The smallest w that keeps to the limit on gold that was held out, and on the items, which may differ."""
    if limit.premium_share is None and limit.extra_cost is None:
        return limit.w or 0.0
    expected, gains = _held_out(router)
    limits = {"max_share": limit.premium_share, "max_cost": limit.extra_cost}
    w = choose_w_among(expected, gains, extra_costs, **limits).w
    if len(predicted):
        w = max(w, choose_w_among(predicted, np.zeros(predicted.shape), extra_costs, **limits).w)
    return w


def _expected_gain(router: Router, spent: float, extra_costs: FloatArray) -> float:
    """The mean gold gain where this share of what the dearest annotator costs more is spent, the best items first.

    By the share and not by w: a router that has seen an item's label predicts larger gains than one that has not.
    """
    expected, gains = _held_out(router)
    curve = cost_curve(expected, gains, extra_costs)
    return float(np.interp(spent, curve.cost_share, curve.mean_gain))


def _held_out(router: Router) -> tuple[FloatArray, FloatArray]:
    """Predicted and gold gains over the default of the known items, each predicted without it, (g, K)."""
    held_out = router.metrics["held_out"]
    predicted, gains = np.array(held_out["predicted"]), np.array(held_out["gains"])
    return (over_default(predicted), over_default(gains)) if predicted.ndim == 1 else (predicted, gains)


def meta_plan_start(
    *, router: Router, user: User, limit: MetaLimit, spend_limit: Decimal | None = None
) -> Plan:
    """Start the plan that `meta_preview` shows. Raises Refusal."""
    preview = meta_preview(router=router, user=user, limit=limit)
    return plan_start(
        router=router,
        user=user,
        allocation=preview.allocation,
        setting=limit.as_dict() | {"w": preview.w},
        expected=preview.as_dict(),
        spend_limit=spend_limit,
    )
