"""The annotator's confidence combined with what the criticizer says (appendix G.2): one error probability of both.

N is the number of annotations. Confidences lie in [0, 1], NaN where the annotator gave none.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from criticize.cdi import (
    BoolArray,
    FloatArray,
    checked_confidences,
    checked_outcomes,
    folds_of,
)

# Models state probabilities with three decimals at most: beyond these ends a log-odds would be made up.
_CLOSEST = 0.001
_INVERSE_REGULARIZATION = 1.0


def rank_shares(priority: npt.ArrayLike) -> FloatArray:
    """Each item's place in the order as a share, shape (N,), in (0, 1): the higher the more suspicious.

    For criticizers that only rank. Equal priorities share the mean of their places. Take them over all items of a
    criticism run, not over the reviewed ones, whose places would say less. Raises ValueError for NaN or infinity.
    """
    priorities = np.asarray(priority, dtype=np.float64)
    if priorities.ndim != 1 or not np.all(np.isfinite(priorities)):
        raise ValueError("Priorities must be a one-dimensional array of finite numbers.")
    shares: FloatArray = (rankdata(priorities) - 0.5) / max(1, len(priorities))
    return shares


class Combination:
    """Logistic regression on the log-odds of the priority, those of the confidence, and whether there is one.

    Both are standardized by what it learned from, and coefficients are kept small (ridge), so that twenty reviews
    do no harm. There is no randomness; the same rows give the same combination in whatever order they come.
    """

    def fit(
        self, priority: npt.ArrayLike, confidence: npt.ArrayLike, is_error: npt.ArrayLike
    ) -> "Combination":
        """Learn from reviewed annotations.

        `priority` (N,) in [0, 1]: ε̂, or `rank_shares` where there is only an order; `confidence` (N,) in [0, 1] or
        NaN; `is_error` (N,) boolean or 0/1. Raises ValueError when they don't fit each other, when fewer than
        `criticize.cdi.MIN_KNOWN` are known, and when all of them are right or all are wrong.
        """
        outcomes = checked_outcomes(is_error)
        priorities, confidences = _checked(priority, confidence)
        if len(priorities) != len(outcomes):
            raise ValueError("Each annotation needs a priority, a confidence and whether it is wrong.")
        return self._fit(priorities, confidences, outcomes)

    def combine(self, priority: npt.ArrayLike, confidence: npt.ArrayLike) -> FloatArray:
        """P(the annotation is wrong), shape (N,), in [0, 1]. Raises ValueError before `fit` and as it does."""
        if not hasattr(self, "intercept"):
            raise ValueError("The combination has to be fitted first.")
        doubt, sureness, missing = self._features(*_checked(priority, confidence))
        of_priority, of_confidence, of_missing = self._weights
        # A sum item by item, not a matrix product, whose rounding depends on how many items there are.
        odds = self.intercept + of_priority * doubt + of_confidence * sureness + of_missing * missing
        probabilities: FloatArray = expit(odds)
        return probabilities

    @property
    def coefficients(self) -> dict[str, float]:
        """What the log-odds of an error grow by: for a standard deviation more of the priority's and of the
        confidence's log-odds, and where there is no confidence.
        """
        names = ("priority", "confidence", "confidence_missing")
        return {"intercept": self.intercept} | dict(zip(names, self._weights, strict=True))

    def _fit(self, priority: FloatArray, confidence: FloatArray, is_error: BoolArray) -> "Combination":
        order = np.lexsort((is_error, confidence, priority))  # sums must not depend on the order of rows
        priority, confidence = priority[order], confidence[order]
        self._priority_scale = _scale(_log_odds(priority))
        self._confidence_scale = _scale(_log_odds(confidence[~np.isnan(confidence)]))
        model = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=1000)
        model.fit(np.column_stack(self._features(priority, confidence)), is_error[order])
        self.intercept = float(model.intercept_[0])
        self._weights = tuple(float(weight) for weight in model.coef_[0])
        return self

    def _features(
        self, priority: FloatArray, confidence: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        missing = np.isnan(confidence)
        doubt = _standardized(_log_odds(priority), self._priority_scale)
        sureness = _standardized(_log_odds(confidence), self._confidence_scale)
        return doubt, np.where(missing, 0.0, sureness), missing.astype(np.float64)


def out_of_fold(
    priority: npt.ArrayLike,
    confidence: npt.ArrayLike,
    is_error: npt.ArrayLike,
    folds: int = 5,
    seed: int = 0,
) -> FloatArray:
    """P(the annotation is wrong) of each annotation by a combination that has not seen it, shape (N,), in [0, 1].

    Raises ValueError as `fit` does, and where the rarer of right and wrong occurs only once.
    """
    outcomes = checked_outcomes(is_error)
    priorities, confidences = _checked(priority, confidence)
    if len(priorities) != len(outcomes):
        raise ValueError("Each annotation needs a priority, a confidence and whether it is wrong.")
    order = np.lexsort((outcomes, confidences, priorities))
    probabilities = np.empty(len(outcomes))
    for rest, held_out in folds_of(outcomes, order, folds, seed):
        combination = Combination()._fit(priorities[rest], confidences[rest], outcomes[rest])
        probabilities[held_out] = combination.combine(priorities[held_out], confidences[held_out])
    return probabilities


def _log_odds(probability: FloatArray) -> FloatArray:
    odds: FloatArray = logit(np.clip(probability, _CLOSEST, 1 - _CLOSEST))
    return odds


def _scale(values: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation; (0, 1) for nothing, and a deviation of 1 where all are equal."""
    if not len(values):
        return 0.0, 1.0
    spread = float(values.std())
    return float(values.mean()), spread if spread > 1e-9 else 1.0


def _standardized(values: FloatArray, scale: tuple[float, float]) -> FloatArray:
    return (values - scale[0]) / scale[1]


def _checked(priority: npt.ArrayLike, confidence: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    priorities, confidences = np.asarray(priority, dtype=np.float64), checked_confidences(confidence)
    if priorities.shape != confidences.shape:
        raise ValueError("Each annotation needs one priority and one confidence.")
    if not np.all((priorities >= 0) & (priorities <= 1)):
        raise ValueError("Priorities must lie between 0 and 1; NaN is none. Make shares of an order first.")
    return priorities, confidences
