"""Amounts as pages write them: money, shares, time spans, states of jobs."""

from decimal import Decimal

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs.models import Job
from jobs.selectors import FAILURE_NAMES

register = template.Library()

_TONES = {
    "queued": "busy",
    "running": "busy",
    "paused": "warn",
    "cancelled": "quiet",
    "done": "ok",
    "failed": "bad",
}


@register.filter
def money(amount: Decimal | float | None) -> str:
    """US dollars: cents from a dollar up, up to four decimals below, a dash without a price."""
    if amount is None:
        return "–"
    if amount == 0:
        return "$0"
    dollars = float(amount)
    if dollars < 0.0001:
        return "under $0.0001"
    if dollars >= 1:
        return f"${dollars:,.2f}"
    cents, finer = f"{dollars:.4f}"[:-2], f"{dollars:.4f}"[-2:].rstrip("0")
    return f"${cents}{finer}"


@register.filter
def percent(share: float | None, decimals: int = 1) -> str:
    """A share in [0, 1] in percent; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{decimals}f}%"


@register.filter
def decimals(value: float | None, places: int = 3) -> str:
    """A number with so many decimals; a dash where there is none."""
    return "–" if value is None else f"{value:,.{places}f}"


@register.filter
def quality(suspicion: float | None) -> str:
    """The quality, in [0, 1], of an answer whose suspicion is 1 − quality; a dash where there is none."""
    return "–" if suspicion is None else decimals(1 - suspicion)


@register.filter
def duration(seconds: float | None) -> str:
    """A time span in its two largest units: "45 s", "3 min 20 s", "2 h 5 min"."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 1 else "under 1 s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


@register.filter
def failure_name(failure: str) -> str:
    """A failure as people call it: "Timed out"."""
    return FAILURE_NAMES.get(failure, (failure, ""))[0]


@register.simple_tag
def job_badge(job: Job) -> SafeString:
    """The job's state as a badge."""
    return format_html(
        '<span class="badge" data-tone="{}">{}</span>', _TONES[job.state], Job.State(job.state).label
    )
