"""Learning a meta-router with its report: what every way of getting comparisons shares."""

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from route.meta_report import Report
from route.models import Router
from route.trained import held_out_gains

FloatArray = npt.NDArray[np.float64]


class How(TypedDict):
    learner: str
    regressor: str
    scaling: str | None
    seed: int


def how_of(router: Router) -> How:
    """How the router was asked to learn."""
    asked = router.parameters
    return How(
        learner=asked["learner"], regressor=asked["regressor"], scaling=asked["scaling"], seed=router.seed
    )


def metrics_of(report: Report, gains: FloatArray, n_preferences: int, seed: int) -> dict[str, Any]:
    """The figures that the page of every meta-router has; `gains` are the gold ones that were held out."""
    return report.as_dict() | {
        "preferences": n_preferences,
        "left_out": report.router.n_left_out_,
        "scale": report.router.scale_,
        "held_out": held_out_gains(report.predicted, gains, seed),
    }
