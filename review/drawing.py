"""Drawing a round: from a run's criticisms to π and δ of every item, and the tasks of those selected."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from annotate.models import Annotation
from criticize.models import Criticism, CriticismRun
from criticize.selectors import suspicion
from review.models import DrawBlock, ReviewRound, ReviewTask
from review.sampling import RULES, draw, inclusion_probabilities
from review.setup import RoundSetup

BETA = 10.0  # the sharpness of exponential weighting, as the paper has it
# Beside the seed's other streams: who is read again must not follow the draw, its order, an audit or known items.
_OVERLAP_STREAM = 6


class Turn(NamedTuple):
    """An item to be answered, with what models said about it."""

    item_id: int
    annotation_id: int | None = None
    criticism_id: int | None = None


@dataclass(frozen=True)
class Population:
    """What a round draws from, as arrays of length N in order of item id.

    `priorities` order the items, the higher the more suspicious; `error_probs` is ε̂, the same where priorities are
    probabilities. Both are NaN where the annotator or the criticizer gave no usable answer. `ranks_only`: priorities
    are an order and no more.
    """

    item_ids: np.ndarray
    annotation_ids: np.ndarray
    criticism_ids: np.ndarray  # 0 where there is none
    error_probs: np.ndarray
    priorities: np.ndarray
    ranks_only: bool = False

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def suspicion(self) -> np.ndarray:
        """Priorities, the highest for items without one: a missing answer is never right, so a person gives it."""
        return suspicion(self.priorities, ranks_only=self.ranks_only)

    @property
    def has_probabilities(self) -> bool:
        """Whether priorities are error probabilities, whose sum is an expected number of errors."""
        known = ~np.isnan(self.priorities)
        return not self.ranks_only and bool(np.array_equal(self.priorities[known], self.error_probs[known]))


def population(run: CriticismRun) -> Population:
    """Every item that the run's annotator was asked about; those that a router gave to people are theirs already."""
    annotations = np.array(
        list(
            Annotation.objects.filter(run=run.annotation_run_id)
            .exclude(failure=Annotation.TO_PERSON)
            .order_by("item_id")
            .values_list("item_id", "pk")
        ),
        dtype=np.int64,
    ).reshape(-1, 2)
    criticisms = list(
        Criticism.objects.filter(run=run, failure="")
        .order_by("annotation_id")
        .values_list("annotation_id", "pk", "error_prob", "priority")
    )
    error_probs = np.full(len(annotations), np.nan)
    priorities = np.full(len(annotations), np.nan)
    criticism_ids = np.zeros(len(annotations), dtype=np.int64)
    if criticisms:
        of = np.array([row[0] for row in criticisms], dtype=np.int64)
        by_annotation = np.argsort(annotations[:, 1], kind="stable")
        at = by_annotation[np.searchsorted(annotations[by_annotation, 1], of)]
        criticism_ids[at] = [row[1] for row in criticisms]
        error_probs[at] = [np.nan if row[2] is None else row[2] for row in criticisms]
        priorities[at] = [row[3] for row in criticisms]
    return Population(
        annotations[:, 0], annotations[:, 1], criticism_ids, error_probs, priorities, run.ranks_only
    )


@dataclass(frozen=True)
class Selection:
    """π and δ of every item of a population, and the rule's parameters."""

    inclusion_probs: np.ndarray
    selected: np.ndarray
    parameters: dict[str, Any]


def select(items: Population, *, rule: str, budget: int, seed: int, beta: float = BETA) -> Selection:
    """Apply the rule. The same population, budget, seed and β give the same selection. Raises ValueError."""
    if rule not in RULES:
        raise ValueError(f"Unknown rule {rule!r}; known are {', '.join(RULES)}.")
    rng = np.random.default_rng(seed)
    inclusion_probs, parameters = inclusion_probabilities(
        items.suspicion, budget, rule, beta=beta, rng=rng, rank_only=items.ranks_only
    )
    return Selection(inclusion_probs, draw(inclusion_probs, rng=rng), parameters)


def ranks(suspicion: np.ndarray, selected: np.ndarray, *, seed: int) -> np.ndarray:
    """Indices of the selected items, most suspicious first; ties in a seeded random order."""
    indices = np.flatnonzero(selected)
    tie_break = np.random.default_rng([seed, 1]).permutation(len(indices))
    order = np.lexsort((tie_break, -suspicion[indices]))
    return indices[order]


def store(round: ReviewRound, items: Population, selection: Selection) -> None:
    """Keep the whole draw, and make a task of each selected item."""
    store_draw(round, items, selection)
    enqueue(round, turns(items, ranks(items.suspicion, selection.selected, seed=round.seed)))


def store_draw(round: ReviewRound, items: Population, selection: Selection) -> None:
    """Keep π and δ of every item as the blocks of the round's `draw_number`."""
    for number, start in enumerate(range(0, len(items), DrawBlock.SIZE)):
        part = slice(start, start + DrawBlock.SIZE)
        DrawBlock.objects.create(
            round=round,
            draw_number=round.draw_number,
            number=number,
            item_ids=items.item_ids[part].astype("<i8").tobytes(),
            error_probs=items.error_probs[part].astype("<f8").tobytes(),
            priorities=items.priorities[part].astype("<f8").tobytes(),
            inclusion_probs=selection.inclusion_probs[part].astype("<f8").tobytes(),
            selected=selection.selected[part].astype(np.bool_).tobytes(),
        )


def turns(items: Population, indices: Iterable[int]) -> list[Turn]:
    """The items at these indices, in this order."""
    return [
        Turn(
            int(items.item_ids[index]),
            int(items.annotation_ids[index]),
            int(items.criticism_ids[index]) or None,
        )
        for index in indices
    ]


def enqueue(round: ReviewRound, items: Sequence[Turn], *, first_rank: int = 0) -> None:
    """Waiting tasks of the items, in this order, from `first_rank` on: as many of each as people are to answer it.

    A random share of the items, by the round's setup and seed, is answered by several people.
    """
    setup = RoundSetup.of(round)
    rng = np.random.default_rng([round.seed, _OVERLAP_STREAM, round.draw_number])
    chosen = rng.permutation(len(items))[: setup.overlapping(len(items))]
    copies = np.ones(len(items), dtype=np.int64)
    copies[chosen] = setup.overlap
    ReviewTask.objects.bulk_create(_tasks(round, items, copies, first_rank), batch_size=500)


def _tasks(
    round: ReviewRound, items: Sequence[Turn], copies: np.ndarray, first_rank: int
) -> Iterator[ReviewTask]:
    for rank, (turn, count) in enumerate(zip(items, copies, strict=True), start=first_rank):
        for copy in range(count):
            yield ReviewTask(
                round=round,
                item_id=turn.item_id,
                annotation_id=turn.annotation_id,
                criticism_id=turn.criticism_id,
                rank=rank,
                copy=copy,
                is_counted=copy == 0,
                arm=arm_of(round, turn.item_id),
            )


def arm_of(round: ReviewRound, item_id: int) -> str:
    """What whoever answers the item in the round sees: for the display `random` drawn by the round's seed, and always
    the same for the same item."""
    if round.is_blind:
        return ReviewTask.Arm.BLIND
    if round.display != ReviewRound.Display.RANDOM:
        return ReviewTask.Arm(round.display)
    # A hash rather than a generator: an item's arm does not depend on which other items there are.
    digest = hashlib.blake2b(f"arm {round.seed} {item_id}".encode(), digest_size=8).digest()
    arms = ReviewTask.Arm.values
    return arms[int.from_bytes(digest, "big") % len(arms)]
