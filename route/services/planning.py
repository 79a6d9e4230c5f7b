"""Plans of routers of every kind, by the limits that each kind knows."""

from decimal import Decimal
from typing import Any

from annotate.errors import Refusal
from annotate.models import User
from route.models import Plan, Router
from route.services.deferral_plans import PlanPreview, deferral_plan_start, deferral_preview
from route.services.meta_plans import MetaLimit, meta_plan_start, meta_preview

_META_LIMITS = ("premium_share", "extra_cost", "w")


def plan_preview(*, router: Router, user: User, limits: dict[str, Any]) -> PlanPreview:
    """What the router's plan within these limits would do. Raises Refusal, also for limits of another kind."""
    if router.kind == Router.Kind.META:
        return meta_preview(router=router, user=user, limit=_meta_limit(limits))
    return deferral_preview(router=router, user=user, people=_people(limits))


def router_plan_start(
    *, router: Router, user: User, limits: dict[str, Any], spend_limit: Decimal | None = None
) -> Plan:
    """Start the plan that `plan_preview` shows. Raises Refusal."""
    if router.kind == Router.Kind.META:
        limit = _meta_limit(limits)
        return meta_plan_start(router=router, user=user, limit=limit, spend_limit=spend_limit)
    return deferral_plan_start(router=router, user=user, people=_people(limits), spend_limit=spend_limit)


def _meta_limit(limits: dict[str, Any]) -> MetaLimit:
    if limits.get("people") is not None:
        raise Refusal("This router gives no items to people.", field="people")
    return MetaLimit(**{name: limits.get(name) for name in _META_LIMITS})


def _people(limits: dict[str, Any]) -> int | None:
    for name in _META_LIMITS:
        if limits.get(name) is not None:
            raise Refusal("Only a router between a cheap and a premium annotator has this limit.", field=name)
    people: int | None = limits.get("people")
    return people
