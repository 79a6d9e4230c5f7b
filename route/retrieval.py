"""Which labelled items a router is shown as demonstrations: those whose vectors are most like the item's."""

import numpy as np
import numpy.typing as npt

from route.replay import RETRIEVAL_STYLES
from route.risk import checked_errors
from route.splits import unit_rows
from route.training_data import checked_features

FloatArray = npt.NDArray[np.float64]

# Similarities closer than this count as equal, so that rounding in the last digit decides nothing.
_DECIMALS = 9


class Demonstrations:
    """Finds, in a fixed pool of labelled items, those nearest to an item by the cosine of their vectors."""

    def __init__(self, vectors: npt.ArrayLike, is_error: npt.ArrayLike) -> None:
        """A pool of n items: `vectors` (n, dimensions), finite, and whether the annotator's label was wrong, (n,).

        Raises ValueError for other shapes or values, or without items.
        """
        checked = checked_features(vectors)
        self._units = unit_rows(checked)
        self._is_error = checked_errors(is_error, len(checked))

    def nearness(self, vectors: npt.ArrayLike, m: int) -> FloatArray:
        """Mean cosine of each item's vector with those of the m nearest in the pool, (n,), in [-1, 1].

        `vectors` (n, dimensions), finite; of a smaller pool all are taken. Raises ValueError for other shapes or
        values, or m below 1.
        """
        if m < 1:
            raise ValueError("An item is compared with at least one demonstration.")
        checked = checked_features(vectors)
        if checked.shape[1] != self._units.shape[1]:
            raise ValueError(
                f"The demonstrations have vectors of length {self._units.shape[1]}, the items of {checked.shape[1]}."
            )
        cosines = np.round(unit_rows(checked) @ self._units.T, _DECIMALS)
        nearest: FloatArray = -np.sort(-cosines, axis=1)[:, : min(m, len(self._units))]
        means: FloatArray = nearest.mean(axis=1)
        return means

    def retrieve(
        self, vector: npt.ArrayLike, m: int, style: str = "nearest", *, without: frozenset[int] = frozenset()
    ) -> list[int]:
        """Places in the pool of at most m demonstrations for an item, the nearest first; ties by place.

        `vector` (dimensions,). Style "nearest" takes the m nearest; "balanced" the nearest items that were labelled
        wrongly and rightly, half of each, the odd one wrong; where there are too few of one kind the other fills up.
        `without` are places never to be shown: the item itself and its copies, which would give its answer away. Raises
        ValueError for an unknown style, a negative m, or a vector of another length or that is not finite.
        """
        if style not in RETRIEVAL_STYLES:
            raise ValueError(f"Demonstrations are retrieved {' or '.join(RETRIEVAL_STYLES)}, not {style!r}.")
        if m < 0:
            raise ValueError("The number of demonstrations cannot be negative.")
        checked = checked_features(np.asarray(vector, dtype=float)[None])
        if checked.shape[1] != self._units.shape[1]:
            raise ValueError(
                f"The demonstrations have vectors of length {self._units.shape[1]}, the item one of {checked.shape[1]}."
            )
        # Row by row: a product of matrices rounds differently with the number of rows.
        similarities = np.round((self._units * unit_rows(checked)[0]).sum(axis=1), _DECIMALS)
        by_similarity = [
            place for place in np.argsort(-similarities, kind="stable").tolist() if place not in without
        ]
        if style == "nearest":
            return by_similarity[:m]
        wrong = [place for place in by_similarity if self._is_error[place]]
        right = [place for place in by_similarity if not self._is_error[place]]
        n_wrong = min(len(wrong), max((m + 1) // 2, m - len(right)))
        chosen = {*wrong[:n_wrong], *right[: m - n_wrong]}
        return [place for place in by_similarity if place in chosen]
