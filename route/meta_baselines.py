"""What the meta-router is compared with: regressions that use the gold and preference comparisons more simply.

A router that sends items at random needs no model: its efficiency gain is 0 at every share. The oracle is the kind
"gold" fitted with the gold outcome of every item, those that only have preferences included.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from route.meta import (
    SCALINGS,
    BoolArray,
    FloatArray,
    checked_comparisons,
    gold_scale,
    reduced,
    reduction,
    regression,
)
from route.meta_sharing import SharedFits
from route.training_data import checked_features, recorded_seed

BASELINE_KINDS = ("gold", "preference", "pooled", "mean_shift")


class BaselineRouter:
    """Regresses outcomes on features, with the reduction, scaling, regressor and seed of `MetaRouter`.

    Kinds: "gold" uses the gold comparisons alone; "preference" the preferences alone; "pooled" both as if they were
    one; "mean_shift" both, after the difference of their means was added to the preferences.
    """

    def __init__(
        self,
        kind: str,
        regressor: Any = None,
        scaling: str | None = "variance",
        random_state: int | None = None,
    ) -> None:
        """Raises ValueError for an unknown kind or scaling."""
        if kind not in BASELINE_KINDS:
            raise ValueError(f"A baseline is one of {', '.join(BASELINE_KINDS)}, not {kind!r}.")
        if scaling is not None and scaling not in SCALINGS:
            raise ValueError(f"The scaling is one of {', '.join(SCALINGS)} or None, not {scaling!r}.")
        self.kind = kind
        self.regressor = regressor
        self.scaling = scaling
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        is_gold: npt.ArrayLike,
        outcome: npt.ArrayLike,
        *,
        fits: SharedFits | None = None,
    ) -> "BaselineRouter":
        """Learn as `MetaRouter.fit`. Raises ValueError for wrong values as it does, or without comparisons to use."""
        features = checked_features(X)
        gold, outcomes = checked_comparisons(is_gold, outcome, len(features))
        self.seed_ = recorded_seed(self.random_state)
        self.reduction_ = reduction(features, self.seed_)
        self._learn(reduced(self.reduction_, features), gold, outcomes, fits)
        return self

    def _learn(
        self, features: FloatArray, gold: BoolArray, outcomes: FloatArray, fits: SharedFits | None
    ) -> None:
        rows = {"gold": gold, "preference": ~gold}.get(self.kind, np.ones(len(gold), dtype=bool))
        if not rows.any() or (self.kind not in ("gold", "preference") and not (gold.any() and (~gold).any())):
            raise ValueError(f"The comparisons that the baseline {self.kind!r} needs are missing.")
        self.scale_ = 1.0
        if self.kind != "gold" and gold.any():
            self.scale_ = gold_scale(outcomes[gold], outcomes[~gold], self.scaling)
        values = np.where(gold, self.scale_ * outcomes, outcomes)
        if self.kind == "mean_shift":
            values = np.where(gold, values, values + values[gold].mean() - values[~gold].mean())
        model = regression(self.regressor, int(rows.sum()), self.seed_)
        self.model_ = (fits or SharedFits()).fitted(model, features[rows], values[rows])

    def predict(self, X: npt.ArrayLike) -> FloatArray:  # noqa: N803
        """The gain predicted, on the scale of the gold outcomes, (n,). Raises ValueError before `fit`."""
        if not hasattr(self, "model_"):
            raise ValueError("The router has to be fitted first.")
        features = reduced(self.reduction_, checked_features(X))
        gains: FloatArray = np.asarray(self.model_.predict(features), dtype=float) / self.scale_
        return gains
