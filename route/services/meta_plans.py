"""The plan of a meta-router: which items that are left are worth the premium annotator, within a limit."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.errors import Refusal
from annotate.models import User
from route.evidence import open_items
from route.meta import choose_w, premium_items
from route.meta_metrics import FloatArray, efficiency_curve
from route.models import Plan, Router
from route.services.deferral_plans import PlanPreview
from route.services.plans import Allocation, plan_start, shares_of
from route.training import kept_scores

CHEAP, PREMIUM = 0, 1
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


@dataclass(frozen=True)
class MetaPreview(PlanPreview):
    """A plan between two annotators; the default is the cheap one.

    An item goes to the premium annotator where its predicted gain is above `w` · `cost_gap`; `cost_gap` is US$, or 1
    where `is_unit`: no price says that the premium annotator costs more. `gain` is what that brings an item, in shares
    of right answers, on gold that was held out; `premium_accuracy` and `premium_cost` are those of the premium
    annotator answering everything.
    """

    w: float
    cost_gap: float
    is_unit: bool
    gain: float
    premium_accuracy: float
    premium_cost: Decimal | None

    @property
    def premium_share(self) -> float:
        """Of the items."""
        return self.shares[PREMIUM].items / self.items if self.items else 0.0

    @property
    def saved(self) -> Decimal | None:
        """US$ against asking the premium annotator about everything."""
        return None if self.cost is None or self.premium_cost is None else self.premium_cost - self.cost

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {
            "w": self.w,
            "premium_share": self.premium_share,
            "premium_accuracy": self.premium_accuracy,
            "premium_cost": None if self.premium_cost is None else str(self.premium_cost),
            "gain": self.gain,
        }


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
    gap, is_unit = _cost_gap(router, limit)
    item_ids, scores = kept_scores(router)
    left = np.array(open_items(router.project), dtype=np.int64)
    rows = np.isin(item_ids, left)
    item_ids, predicted = item_ids[rows], scores[rows, 0]
    w = _chosen_w(router, predicted, gap, limit)
    is_premium = premium_items(predicted, w, gap)
    allocation = Allocation(item_ids, is_premium.astype(np.int64))
    gain = _expected_gain(router, float(is_premium.mean()) if len(is_premium) else 0.0)
    accuracy = router.metrics["accuracy"]
    return MetaPreview(
        allocation=allocation,
        shares=shares_of(router, allocation, user),
        accuracy=min(1.0, max(0.0, accuracy["cheap"] + gain)),
        default_accuracy=accuracy["cheap"],
        default_cost=_cost_of_all(router, user, item_ids, CHEAP),
        added=int((~np.isin(left, item_ids)).sum()),
        w=w,
        cost_gap=gap,
        is_unit=is_unit,
        gain=gain,
        premium_accuracy=accuracy["premium"],
        premium_cost=_cost_of_all(router, user, item_ids, PREMIUM),
    )


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


def _cost_gap(router: Router, limit: MetaLimit) -> tuple[float, bool]:
    """What a premium answer costs more than a cheap one, and whether that is 1 for want of prices."""
    cheap, premium = (agent.price for agent in router.agents.all())
    gap = None if cheap is None or premium is None else float(premium - cheap)
    if gap is not None and gap > 0:
        return gap, False
    if limit.extra_cost is not None:
        raise Refusal(
            "It is not known what a premium answer costs more than a cheap one. Enter the prices of both models, and "
            "train the router again; or limit the share of items."
            if gap is None
            else "The premium annotator costs no more than the cheap one, so its extra cost is no limit.",
            field="extra_cost",
        )
    return 1.0, True


def _chosen_w(router: Router, predicted: FloatArray, gap: float, limit: MetaLimit) -> float:
    """The smallest w that keeps to the limit on gold that was held out, and on the items, which may differ."""
    if limit.premium_share is None and limit.extra_cost is None:
        return limit.w or 0.0
    expected, gains = _held_out(router)
    limits = {"max_share": limit.premium_share, "max_cost": limit.extra_cost}
    w = choose_w(expected, gains, gap, **limits).w
    if len(predicted):
        w = max(w, choose_w(predicted, np.zeros(len(predicted)), gap, **limits).w)
    return w


def _expected_gain(router: Router, share: float) -> float:
    """The mean gold gain where the premium annotator answers this share of the items, the largest gains first.

    By the share and not by w: a router that has seen an item's label predicts larger gains than one that has not.
    """
    expected, gains = _held_out(router)
    curve = efficiency_curve(expected, gains)
    return float(np.interp(share, curve.premium_share, curve.total_efficiency)) / len(gains)


def _held_out(router: Router) -> tuple[FloatArray, FloatArray]:
    """Predicted and gold gains of the known items, each predicted without it."""
    held_out = router.metrics["held_out"]
    return np.array(held_out["predicted"]), np.array(held_out["gains"])


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
