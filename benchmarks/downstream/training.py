"""The small model: softmax regression with L2 on fixed features, from rows of (item, label, weight).

Weights may be negative. The cross-entropy of an item with scores z is log Σ exp z − z[label], so what its rows add to
the loss is (sum of their weights) · log Σ exp z, minus terms linear in z. In ACT data that sum is λ(1 − δ/π) + δ/π,
never negative: the loss stays convex. Alone it can fall without end (along the score of a machine label of negative
weight); with L2, which grows quadratically, it has exactly one minimum, and L-BFGS finds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from benchmarks.downstream.data import IndexArray, LabelArray

FloatArray = npt.NDArray[np.float64]

LAMBDAS = (0.6, 0.7, 0.8, 0.9, 1.0)
# Inverse strengths of L2, for every training set alike: the validation items choose among them too.
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Rows:
    """What is trained on, as in the long export: item (row of the feature matrix), label, weight other than 0."""

    items: IndexArray
    labels: LabelArray
    weights: FloatArray


@dataclass(frozen=True)
class Labeled:
    """Items with gold labels that were never uploaded."""

    features: Any
    gold: LabelArray


@dataclass(frozen=True)
class Chosen:
    """The model that did best on the validation items, and how it does on the test items."""

    accuracy: float
    lam: float
    strength: float


def rows_of(items: IndexArray, labels: npt.NDArray[Any], weights: FloatArray | float = 1.0) -> Rows:
    """Rows without those of weight 0 or without a label (None)."""
    every = np.broadcast_to(np.asarray(weights, dtype=np.float64), items.shape)
    used = (every != 0) & np.array([label is not None for label in labels], dtype=bool)
    return Rows(items[used], labels[used].astype(str), every[used])


def together(first: Rows, second: Rows) -> Rows:
    return Rows(
        np.concatenate([first.items, second.items]),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.weights, second.weights]),
    )


def act_rows(wide: Mapping[str, npt.NDArray[Any]], lam: float) -> Rows:
    """Rows of the ACT loss at λ from a wide export written with λ = 1, whose machine weights are in proportion to λ."""
    items = np.arange(len(wide["item_id"]))
    return together(
        rows_of(items, wide["machine_label"], lam * wide["machine_weight"].astype(np.float64)),
        rows_of(items, wide["human_label"], wide["human_weight"].astype(np.float64)),
    )


def fit(features: Any, rows: Rows, strength: float) -> LogisticRegression:
    """Minimize strength · Σ weight · cross-entropy + ½‖W‖²."""
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=5000)
    return model.fit(features[rows.items], rows.labels, sample_weight=rows.weights)


def choose(features: Any, by_lambda: Mapping[float, Rows], validation: Labeled, test: Labeled) -> Chosen:
    """Fit for each λ and strength; the best on the validation items by accuracy, and where equal by log-loss."""
    best: tuple[float, float] = (-1.0, 0.0)
    chosen: Chosen | None = None
    for lam, rows in by_lambda.items():
        for strength in STRENGTHS:
            model = fit(features, rows, strength)
            score = (
                float(model.score(validation.features, validation.gold)),
                -_log_loss(model, validation),
            )
            if chosen is None or score > best:
                best = score
                chosen = Chosen(float(model.score(test.features, test.gold)), lam, strength)
    if chosen is None:
        raise ValueError("There is nothing to choose from.")
    return chosen


def _log_loss(model: LogisticRegression, labeled: Labeled) -> float:
    """A label that the model has never met has probability 0 by it; the clip keeps that finite."""
    probabilities = model.predict_proba(labeled.features)
    place = {label: index for index, label in enumerate(model.classes_)}
    given = [
        probabilities[row, place[label]] if label in place else 0.0
        for row, label in enumerate(labeled.gold.tolist())
    ]
    return float(-np.log(np.clip(given, 1e-12, None)).mean())
