"""Certificates on pages: accuracies as whiskers on one axis, and the part of a round's page that is about its audit."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from django import template

from annotate.models import Project
from review.certificate import AuditSize
from review.certification import Certificate, certification
from review.models import ReviewRound

register = template.Library()

_WIDTH = 1000.0
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)


class Bounded(Protocol):
    """Anything with an interval of accuracies in [0, 1]."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


@register.inclusion_tag("charts/whiskers.html")
def before_and_after(certificate: Certificate, noun: str) -> dict[str, Any]:
    """The machine's accuracy and that of the final labels or answers, by `noun`, one above the other."""
    rows = [
        ("Machine alone", certificate.before, "machine", certificate.before.share),
        (f"Final {noun}s", certificate.after, "human", certificate.after.share),
    ]
    return _drawn(rows, "Accuracy, with its 95% interval")


@register.inclusion_tag("charts/whiskers.html")
def audit_size_whiskers(sizes: Sequence[AuditSize], noun: str) -> dict[str, Any]:
    """How narrow the interval gets with the size of the audit."""
    rows = [(f"{size.audited:,} items", size, "accent", None) for size in sizes]
    return _drawn(rows, f"Interval of the final {noun}s' accuracy")


def _drawn(rows: Sequence[tuple[str, Bounded, str, float | None]], label: str) -> dict[str, Any]:
    """Rows (name, interval, tone, estimate) on an axis that ends at 100% and begins below the lowest bound."""
    lowest = min((interval.low for _, interval, _, _ in rows), default=0.0)
    step = next(step for step in _STEPS if 5 * step >= 1 - lowest)
    start = max(0.0, math.floor(lowest / step + 1e-9) * step)
    start = min(start, 1.0 - step)
    count = round((1.0 - start) / step)

    def x(accuracy: float) -> str:
        return f"{_WIDTH * (accuracy - start) / (1.0 - start):.2f}"

    return {
        "label": label,
        "has_share": any(share is not None for _, _, _, share in rows),
        "ticks": [f"{100 * (start + number * step):.0f}%" for number in range(count + 1)],
        "grid": [x(start + number * step) for number in range(count + 1)],
        "rows": [
            {
                "name": name,
                "tone": tone,
                "low": x(interval.low),
                "high": x(interval.high),
                "share": None if share is None else x(share),
                "low_percent": f"{100 * interval.low:.1f}%",
                "high_percent": f"{100 * interval.high:.1f}%",
                "share_percent": None if share is None else f"{100 * share:.1f}%",
            }
            for name, interval, tone, share in rows
        ],
    }


@register.inclusion_tag("review/round_audit.html")
def round_audit(project: Project, round: ReviewRound) -> dict[str, Any]:
    """A review round's certificate or what is missing for one; an audit round's way back to what it audits."""
    if round.kind == ReviewRound.Kind.REVIEW:
        return {"project": project, "round": round, "certification": certification(round)}
    return {"project": project, "round": round}
