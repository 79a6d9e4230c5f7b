"""CDI (appendix G.3.1): the annotator's own confidence, an error detector trained on it, and the same budget as ACT."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.downstream.data import IndexArray, LabelArray
from benchmarks.downstream.training import FloatArray, Rows, rows_of, together
from criticize.cdi import MIN_KNOWN, CdiDetector
from review.sampling import draw, inclusion_probabilities
from review.weights import act_weights

# Of the budget, spent on the random items that the detector learns from. The paper names no share.
TRAINING_SHARE = 0.5


@dataclass(frozen=True)
class Plan:
    """What people reviewed, as in a wide export with λ = 1; arrays over all of its items."""

    items: IndexArray
    machine: npt.NDArray[Any]
    human: npt.NDArray[Any]
    machine_weights: FloatArray
    human_weights: FloatArray

    def act_rows(self, lam: float) -> Rows:
        return together(
            rows_of(self.items, self.machine, lam * self.machine_weights),
            rows_of(self.items, self.human, self.human_weights),
        )

    def final_rows(self) -> Rows:
        final = np.array(
            [
                human if human is not None else machine
                for human, machine in zip(self.human, self.machine, strict=True)
            ],
            dtype=object,
        )
        return rows_of(self.items, final)


def plan(
    wide: Mapping[str, npt.NDArray[Any]],
    confidence: FloatArray,
    gold: LabelArray,
    *,
    rule: str,
    budget: int,
    seed: int,
) -> Plan:
    """Spend half the budget on random items, train the detector on them, and the rest by the rule.

    `wide` is an ACT export of the same items, of which only the machine labels and the calibration labels are used.
    `confidence` (N,) is NaN for calibration items. The random items were selected whatever their labels are, so they
    count fully (π = 1), as calibration items do, and the rule's loss is that of the others.
    """
    rng = np.random.default_rng(seed)
    is_calibration = wide["status"] == "calibration"
    human = wide["human_label"].copy()
    human[~is_calibration] = None
    machine = wide["machine_label"]
    open_items = np.flatnonzero(~is_calibration)
    training = rng.choice(open_items, max(1, int(budget * TRAINING_SHARE)), replace=False)
    human[training] = gold[training]
    rest = np.setdiff1d(open_items, training)
    error_prob = _error_probabilities(
        confidence, machine, training, machine[training] != gold[training], rest, seed
    )
    inclusion, _ = inclusion_probabilities(error_prob, budget - len(training), rule, rng=rng)
    selected = draw(inclusion, rng=rng)
    human[rest[selected]] = gold[rest[selected]]
    machine_weights, human_weights = np.zeros(len(machine)), np.ones(len(machine))
    machine_weights[rest], human_weights[rest] = act_weights(selected, inclusion)
    return Plan(np.arange(len(machine)), machine, human, machine_weights, human_weights)


def _error_probabilities(
    confidence: FloatArray,
    machine: npt.NDArray[Any],
    training: IndexArray,
    is_error: npt.NDArray[np.bool_],
    rest: IndexArray,
    seed: int,
) -> FloatArray:
    """Of the items `rest`; all the same where the random items give nothing to learn from."""
    if len(training) < MIN_KNOWN or is_error.all() or not is_error.any():
        return np.full(len(rest), float(is_error.mean()))
    names, indices = np.unique(machine.astype(str), return_inverse=True)
    detector = CdiDetector(seed)
    detector.fit(confidence[training], indices[training], is_error, n_labels=len(names))
    return detector.error_probabilities(confidence[rest], indices[rest])
