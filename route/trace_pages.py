"""What the pages of routers that read along show."""

from typing import Any

from route.models import Router
from route.trace_forms import TracedRunForm


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
