"""What fits on parts of the same comparisons have in common, so that measuring a router does not learn it anew."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]


class SharedFits:
    """What was learned, by what it was learned from: the same is made once. Several threads may use it.

    `folds` (n,) are the numbers of the folds that a router that was told none dealt the comparisons it used into.
    """

    def __init__(self) -> None:
        self.folds: IntArray = np.zeros(0, dtype=np.intp)
        self._lock = Lock()
        self._locks: dict[bytes, Lock] = {}
        self._made: dict[bytes, Any] = {}

    def fitted(self, regression: Any, features: FloatArray, outcomes: FloatArray) -> Any:
        """The seeded regression, fitted; one that was fitted to the same before."""
        about = repr((type(regression), sorted(regression.get_params().items())))
        return self.once(lambda: regression.fit(features, outcomes), about, features, outcomes)

    def once(self, make: Callable[[], Any], *about: str | npt.NDArray[Any]) -> Any:
        """What `make` gives, which depends on nothing but `about`."""
        key = _key(about)
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]


@dataclass(frozen=True)
class Dealt:
    """How comparisons were dealt into folds, and which overlap, when they and others were learned from together.

    `folds` (n,) are the numbers of theirs.
    """

    folds: IntArray
    fits: SharedFits = field(default_factory=SharedFits)

    def part(self, rows: BoolArray) -> "Dealt":
        """The same of some of them, `rows` (n,)."""
        return Dealt(self.folds[rows], self.fits)

    def splits(self) -> list[tuple[IntArray, IntArray]]:
        """Places to learn from and places held out, by fold."""
        return [
            (np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold))
            for fold in np.unique(self.folds)
        ]


def _key(about: tuple[str | npt.NDArray[Any], ...]) -> bytes:
    digest = hashlib.sha256()
    for each in about:
        if isinstance(each, str):
            digest.update(f"{len(each)} {each}".encode())
        else:
            digest.update(f"{each.dtype} {each.shape}".encode())
            digest.update(np.ascontiguousarray(each).data)
    return digest.digest()
