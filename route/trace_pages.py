"""What the pages of routers that read along show."""

from typing import Any

from annotate.access import permissions
from annotate.requests import PageRequest
from jobs.selectors import job_progress
from review.models import ReviewRound, ReviewTask
from review.services.routed import answered_by_people
from route.models import Router, TracedRun
from route.services.traced_runs import TracedFigures, traced_figures
from route.trace_forms import TracedRunForm

_BARS = 12  # steps with a bar of their own


def trace_context(router: Router, form: TracedRunForm | None = None) -> dict[str, Any]:
    """Of a trained router's page: the chosen setting, the settings by their place in Eq. 2, and its runs."""
    metrics = router.metrics
    chosen = metrics.get("chosen")
    settings = [row | {"is_chosen": place == chosen} for place, row in enumerate(metrics.get("settings", []))]
    limit = float(router.parameters["limit"])
    settings.sort(
        key=lambda row: (
            row["escalation_rate"] > limit + 1e-9,
            row["missed_errors"],
            row["effort"],
            not row["is_chosen"],
        )
    )
    return {
        "settings": settings,
        "chosen": next((row for row in settings if row["is_chosen"]), None),
        "trace_form": form or TracedRunForm(initial={"limit": f"{100 * limit:g}"}),
        "traced_runs": router.traced_runs.select_related("run__job").order_by("-pk"),
    }


def traced_context(request: PageRequest, traced: TracedRun) -> dict[str, Any]:
    """Of a traced run's page: how far it is, what it saved, where the annotator was stopped, and what comes next."""
    figures = traced_figures(traced)
    round = ReviewRound.objects.filter(routed_run=traced.run).first()
    return {
        "project": traced.router.project,
        "can": permissions(request.user, traced.router.project),
        "traced": traced,
        "router": traced.router,
        "run": traced.run,
        "job": traced.run.job,
        "progress": job_progress(traced.run.job),
        "figures": figures,
        "stops": stop_bars(figures),
        "round": round,
        "answered": answered_by_people(traced.run),
        "waiting": unanswered(round),
    }


def unanswered(round: ReviewRound | None) -> int:
    """How many items of an open round nobody has answered or skipped."""
    if round is None or round.state != ReviewRound.State.OPEN:
        return 0
    unanswered = (ReviewTask.State.WAITING, ReviewTask.State.LEASED)
    return round.counted_tasks.filter(state__in=unanswered).count()


def stop_bars(figures: TracedFigures) -> list[dict[str, Any]]:
    """A bar for each step after which the annotator was stopped, those far behind in one, and one for the others.

    `width` is of the longest bar's 1000.
    """
    near = {stop["step"]: stop["items"] for stop in figures.stops if stop["step"] < _BARS}
    far = sum(stop["items"] for stop in figures.stops if stop["step"] >= _BARS)
    bars = [(f"After step {step}", near.get(step, 0), "human") for step in range(1, max(near, default=0) + 1)]
    if far:
        bars.append((f"After step {_BARS} or later", far, "human"))
    bars.append(("Written to its end", figures.finished, "machine"))
    most = max(items for _, items, _ in bars) or 1
    return [
        {"name": name, "items": items, "tone": tone, "width": f"{1000 * items / most:.1f}"}
        for name, items, tone in bars
    ]
