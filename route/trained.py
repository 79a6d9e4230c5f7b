"""What the training of a router of any kind gives."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_HELD_OUT = 5_000  # predictions kept, by which w is chosen; of more, a seeded sample


class Between(Protocol):
    """Called every second or so while something is learned; with how many fits of how many are done, where known.

    What it raises ends the learning.
    """

    def __call__(self, done: int = 0, total: int = 0) -> object: ...


@dataclass(frozen=True)
class Trained:
    """A fitted router, what it was learned from as arrays, and the figures of its page.

    `held_out` are arrays about the known items by routers that did not learn from them: plans are judged by them.
    """

    router: Any
    learned_from: tuple[npt.NDArray[Any], ...]
    metrics: dict[str, Any]
    held_out: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def held_out_gains(predicted: FloatArray, gains: FloatArray, seed: int) -> dict[str, list[float]]:
    """Predicted and gold gains of gold comparisons, each predicted without it: by these w is chosen."""
    rows = np.arange(len(gains))
    if len(rows) > _HELD_OUT:
        rows = np.sort(np.random.default_rng([seed, 17]).choice(len(rows), _HELD_OUT, replace=False))
    return {"predicted": predicted[rows].round(6).tolist(), "gains": gains[rows].tolist()}
