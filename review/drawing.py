"""Drawing a round: from a run's criticisms to π and δ of every item, and the tasks of those selected."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from annotate.models import Annotation
from criticize.models import Criticism, CriticismRun
from review.models import DrawBlock, ReviewRound, ReviewTask
from review.sampling import RULES, draw, inclusion_probabilities


@dataclass(frozen=True)
class Population:
    """What a round draws from, as arrays of length N in order of item id.

    `error_probs` is NaN where the annotator or the criticizer gave no usable answer.
    """

    item_ids: np.ndarray
    annotation_ids: np.ndarray
    criticism_ids: np.ndarray  # 0 where there is none
    error_probs: np.ndarray

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def suspicion(self) -> np.ndarray:
        """ε̂, with 1 for items without one: a missing answer is never right, so a person should give it."""
        return np.where(np.isnan(self.error_probs), 1.0, self.error_probs)


def population(run: CriticismRun) -> Population:
    """Every item that the run's annotator was asked about."""
    annotations = np.array(
        list(
            Annotation.objects.filter(run=run.annotation_run_id)
            .order_by("item_id")
            .values_list("item_id", "pk")
        ),
        dtype=np.int64,
    ).reshape(-1, 2)
    criticisms = list(
        Criticism.objects.filter(run=run, failure="")
        .order_by("annotation_id")
        .values_list("annotation_id", "pk", "error_prob")
    )
    error_probs = np.full(len(annotations), np.nan)
    criticism_ids = np.zeros(len(annotations), dtype=np.int64)
    if criticisms:
        of = np.array([row[0] for row in criticisms], dtype=np.int64)
        by_annotation = np.argsort(annotations[:, 1], kind="stable")
        at = by_annotation[np.searchsorted(annotations[by_annotation, 1], of)]
        criticism_ids[at] = [row[1] for row in criticisms]
        error_probs[at] = [row[2] for row in criticisms]
    return Population(annotations[:, 0], annotations[:, 1], criticism_ids, error_probs)


@dataclass(frozen=True)
class Selection:
    """π and δ of every item of a population, and the rule's parameters."""

    inclusion_probs: np.ndarray
    selected: np.ndarray
    parameters: dict[str, Any]


def select(items: Population, *, rule: str, budget: int, seed: int) -> Selection:
    """Apply the rule. The same population, budget and seed give the same selection. Raises ValueError."""
    if rule not in RULES:
        raise ValueError(f"Unknown rule {rule!r}; known are {', '.join(RULES)}.")
    rng = np.random.default_rng(seed)
    inclusion_probs, parameters = inclusion_probabilities(items.suspicion, budget, rule, rng=rng)
    return Selection(inclusion_probs, draw(inclusion_probs, rng=rng), parameters)


def ranks(suspicion: np.ndarray, selected: np.ndarray, *, seed: int) -> np.ndarray:
    """Indices of the selected items, most suspicious first; ties in a seeded random order."""
    indices = np.flatnonzero(selected)
    tie_break = np.random.default_rng([seed, 1]).permutation(len(indices))
    order = np.lexsort((tie_break, -suspicion[indices]))
    return indices[order]


def store(round: ReviewRound, items: Population, selection: Selection) -> None:
    """Keep the whole draw, and make a task of each selected item."""
    for number, start in enumerate(range(0, len(items), DrawBlock.SIZE)):
        part = slice(start, start + DrawBlock.SIZE)
        DrawBlock.objects.create(
            round=round,
            number=number,
            item_ids=items.item_ids[part].astype("<i8").tobytes(),
            error_probs=items.error_probs[part].astype("<f8").tobytes(),
            inclusion_probs=selection.inclusion_probs[part].astype("<f8").tobytes(),
            selected=selection.selected[part].astype(np.bool_).tobytes(),
        )
    order = ranks(items.suspicion, selection.selected, seed=round.seed)
    ReviewTask.objects.bulk_create(
        (
            ReviewTask(
                round=round,
                item_id=int(items.item_ids[index]),
                annotation_id=int(items.annotation_ids[index]),
                criticism_id=int(items.criticism_ids[index]) or None,
                rank=rank,
            )
            for rank, index in enumerate(order)
        ),
        batch_size=500,
    )
