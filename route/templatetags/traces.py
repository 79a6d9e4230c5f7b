"""The picture of what a router that reads along finds, for how many items it gives to people."""

from collections.abc import Mapping
from typing import Any

from django import template

from annotate.templatetags.charts import HEIGHT, WIDTH

register = template.Library()

_TICKS = ("0%", "25%", "50%", "75%", "100%")


def _dot(name: str, rate: float, recall: float) -> dict[str, Any]:
    x, y = f"{WIDTH * rate:.2f}", f"{HEIGHT * (1 - recall):.2f}"
    return {"name": name, "rate": rate, "recall": recall, "x": x, "y": y}


@register.inclusion_tag("route/escalation_plot.html")
def escalation_plot(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Errors found against items given to people, both in [0, 1]: the router, all settings, and the simpler ways.

    `metrics` are those of a trained router. Nothing is drawn where the annotator errs on no development item.
    """
    share = metrics["dev_error_share"]
    if not share:
        return {}
    measured = [row for row in metrics["table"] if row.get("recall") is not None]
    dots = [_dot(row["name"], row["escalation_rate"], row["recall"]) for row in measured]
    is_router = [bool(row.get("is_router")) for row in measured]
    return {
        "settings": [
            _dot("A setting", row["escalation_rate"], max(0.0, 1 - row["missed_errors"] / share))
            for row in metrics["settings"]
        ],
        "simpler": [dot for dot, mine in zip(dots, is_router, strict=True) if not mine],
        "router": next((dot for dot, mine in zip(dots, is_router, strict=True) if mine), None),
        "limit": metrics["limit"],
        "limit_x": f"{WIDTH * metrics['limit']:.2f}",
        "ticks": _TICKS,
    }
