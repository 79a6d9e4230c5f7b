"""The CDI baseline (the paper's appendices G.1 and G.3.1): an error detector that knows no item, only how sure its
annotator was of which label.

N is the number of annotations. Confidences lie in [0, 1], NaN where the annotator gave none.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingClassifier

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

MIN_KNOWN = 10

# Among 20 to 100 trees, depths 1 and 2, rates 0.05 and 0.1 and leaves of a twentieth and a tenth, tried on simulated
# annotators with 20 to 1,000 rows: depth 1 was as good by 0.01 of ABS, but cannot know that one label's confidence
# means something else than another's.
_TREES = 50
_DEPTH = 2
_LEARNING_RATE = 0.05
_LEAF_SHARE = 0.1
_MIN_LEAF = 5


class CdiDetector:
    """Gradient-boosted trees on the confidence, whether there is one, and the label one-hot.

    The paper uses XGBoost on verbalized confidences; these are scikit-learn's trees. The same rows and seed give the
    same detector, in whatever order the rows come.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self,
        confidence: npt.ArrayLike,
        label_index: npt.ArrayLike,
        is_error: npt.ArrayLike,
        *,
        n_labels: int,
    ) -> "CdiDetector":
        """Learn from annotations of which it is known whether they are wrong.

        `confidence` (N,) in [0, 1] or NaN, `label_index` (N,) in 0 … n_labels − 1, `is_error` (N,) boolean or 0/1.
        Raises ValueError when they don't fit each other, when fewer than `MIN_KNOWN` are known, and when all of
        them are right or all are wrong.
        """
        outcomes = checked_outcomes(is_error)
        confidences, labels = _checked(confidence, label_index, n_labels)
        if len(confidences) != len(outcomes):
            raise ValueError("Each annotation needs a confidence, a label and whether it is wrong.")
        return self._fit(confidences, labels, outcomes, n_labels)

    def error_probabilities(self, confidence: npt.ArrayLike, label_index: npt.ArrayLike) -> FloatArray:
        """P(the annotation is wrong), shape (N,), in [0, 1]. Raises ValueError before `fit` and as it does."""
        if not hasattr(self, "_trees"):
            raise ValueError("The error detector has to be fitted first.")
        confidences, labels = _checked(confidence, label_index, self.n_labels)
        if not len(confidences):
            return np.zeros(0)
        probabilities: FloatArray = self._trees.predict_proba(self._features(confidences, labels))[:, 1]
        return probabilities

    @property
    def importances(self) -> dict[str, float]:
        """How much the fitted trees rely on the confidence, on its being missing, and on the label; sums to 1, or to
        0 where they found nothing to ask about.
        """
        of_features = self._trees.feature_importances_
        return {
            "confidence": float(of_features[0]),
            "confidence_missing": float(of_features[1]),
            "label": float(of_features[2:].sum()),
        }

    def _fit(
        self, confidence: FloatArray, labels: IntArray, is_error: BoolArray, n_labels: int
    ) -> "CdiDetector":
        self.n_labels = n_labels
        given = confidence[~np.isnan(confidence)]
        self._typical = float(np.median(given)) if len(given) else 0.5
        order = np.lexsort((is_error, confidence, labels))  # sums must not depend on the order of rows
        leaf = max(_MIN_LEAF, int(_LEAF_SHARE * len(order)))
        self._trees: Any = GradientBoostingClassifier(
            n_estimators=_TREES,
            max_depth=_DEPTH,
            learning_rate=_LEARNING_RATE,
            min_samples_leaf=leaf,
            random_state=self.seed % 2**32,
        ).fit(self._features(confidence[order], labels[order]), is_error[order])
        return self

    def _features(self, confidence: FloatArray, labels: IntArray) -> npt.NDArray[np.float32]:
        features = np.zeros((len(confidence), 2 + self.n_labels), dtype=np.float32)
        missing = np.isnan(confidence)
        features[:, 0] = np.where(missing, self._typical, confidence)
        features[:, 1] = missing
        features[np.arange(len(labels)), 2 + labels] = 1
        return features


def out_of_fold(
    confidence: npt.ArrayLike,
    label_index: npt.ArrayLike,
    is_error: npt.ArrayLike,
    folds: int = 5,
    seed: int = 0,
    *,
    n_labels: int | None = None,
) -> FloatArray:
    """P(the annotation is wrong) of each annotation by a detector that has not seen it, shape (N,), in [0, 1].

    With these, a detector can be judged on the very items it learns from. `n_labels` is one more than the highest
    label index where it is not given. Raises ValueError as `fit` does, and where the rarer of right and wrong occurs
    only once.
    """
    outcomes = checked_outcomes(is_error)
    indices = np.asarray(label_index)
    n = n_labels if n_labels is not None else int(indices.max(initial=0)) + 1
    confidences, labels = _checked(confidence, indices, n)
    if len(confidences) != len(outcomes):
        raise ValueError("Each annotation needs a confidence, a label and whether it is wrong.")
    keys = np.lexsort((outcomes, confidences, labels))
    probabilities = np.empty(len(outcomes))
    for rest, held_out in folds_of(outcomes, keys, folds, seed):
        detector = CdiDetector(seed)._fit(confidences[rest], labels[rest], outcomes[rest], n)
        probabilities[held_out] = detector.error_probabilities(confidences[held_out], labels[held_out])
    return probabilities


def checked_outcomes(is_error: npt.ArrayLike) -> BoolArray:
    """Whether each annotation is wrong, shape (N,), boolean.

    Raises ValueError, in words for a project's owner, unless there is enough to tell errors from right annotations.
    """
    values = np.asarray(is_error)
    if values.ndim != 1 or not np.all((values == 0) | (values == 1)):
        raise ValueError("Whether annotations are wrong must be a one-dimensional array of yes and no.")
    outcomes = values.astype(np.bool_)
    known = len(outcomes)
    if known < MIN_KNOWN:
        raise ValueError(
            f"Of {known} annotations it is known whether they are right; at least {MIN_KNOWN} are needed to learn "
            "from, about 100 are a good start."
        )
    if not outcomes.any():
        raise ValueError(
            f"None of the {known} known annotations is wrong, so there is no error to learn from."
        )
    if outcomes.all():
        raise ValueError(
            f"All of the {known} known annotations are wrong, so there is nothing to tell apart."
        )
    return outcomes


def folds_of(
    is_error: BoolArray, order: IntArray, folds: int, seed: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """(rows to learn from, rows held out) of each fold. Errors and right annotations spread evenly over the folds.

    `order` sorts the rows by what they say, so that folds don't depend on the order in which rows come, except
    among rows that say the same. Raises ValueError for fewer than two folds, and where some rest would hold no
    error or nothing else.
    """
    if folds < 2:
        raise ValueError("Cross-fitting needs at least two folds.")
    if min(is_error.sum(), (~is_error).sum()) < 2:
        raise ValueError(
            "At least two wrong and two right annotations are needed to judge what is learned from."
        )
    rng = np.random.default_rng(seed)
    fold = np.empty(len(is_error), dtype=np.intp)
    for kind in (True, False):
        rows = order[is_error[order] == kind]
        fold[rng.permutation(rows)] = np.arange(len(rows)) % folds
    for number in range(folds):
        held_out = np.flatnonzero(fold == number)
        if len(held_out):
            yield np.flatnonzero(fold != number), held_out


def checked_confidences(confidence: npt.ArrayLike) -> FloatArray:
    """Confidences as an array, shape (N,), in [0, 1] or NaN. Raises ValueError for anything else."""
    confidences = np.asarray(confidence, dtype=np.float64)
    given = confidences[~np.isnan(confidences)]
    if confidences.ndim != 1 or not np.all((given >= 0) & (given <= 1)):
        raise ValueError("Confidences must be a one-dimensional array of numbers between 0 and 1, or NaN.")
    return confidences


def _checked(
    confidence: npt.ArrayLike, label_index: npt.ArrayLike, n_labels: int
) -> tuple[FloatArray, IntArray]:
    confidences = checked_confidences(confidence)
    labels = np.asarray(label_index)
    if labels.size == 0:
        labels = labels.astype(np.intp)
    if labels.shape != confidences.shape or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError("Each annotation needs one confidence and one whole-number label index.")
    if labels.size and (labels.min() < 0 or labels.max() >= n_labels):
        raise ValueError(f"Label indices must lie between 0 and {n_labels - 1}.")
    return confidences, labels.astype(np.intp)
