"""Vectors of items without any model: words by TF-IDF, images by their colors and gradients, reduced to a few numbers.

Once fitted, an item's vector depends on that item alone, and what was fitted can be kept as bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils import extmath

from annotate.array_files import DamagedFile, read_arrays, write_arrays
from annotate.features import N_IMAGE_FEATURES, FloatArray, word_vectorizer

Array = npt.NDArray[Any]
Vectors = npt.NDArray[np.float32]
# By part: texts or questions (n), or image features (n, `N_IMAGE_FEATURES`).
Parts = Mapping[str, "Sequence[str] | FloatArray"]

PARTS = ("text", "question", "image")
COMPONENTS = 50
MOST_WORDS = 20_000  # the most frequent ones
# Directions along which items differ less than this, beside the first, are rounding.
_SMALLEST_SPREAD = 1e-6


class PlainVectors:
    """For each part of an item up to `components` numbers: its truncated singular value decomposition, standardized.

    Written parts are weighed by TF-IDF over the words of the items that it was fitted on; what an image is, is said by
    `annotate.features`. The same items in the same order and the same `seed` give the same vectors.

    After `fit`: `width`, the numbers of a vector.
    """

    def __init__(self, components: int = COMPONENTS, seed: int = 0) -> None:
        """Raises ValueError for fewer than one component."""
        if components < 1:
            raise ValueError("A part of an item needs at least one number.")
        self.components = components
        self.seed = seed
        self._parts: dict[str, _Reduction] = {}
        self._vectorizers: dict[str, TfidfVectorizer] = {}

    @property
    def width(self) -> int:
        return sum(self.widths.values())

    @property
    def widths(self) -> dict[str, int]:
        """The numbers of each part, in the order in which they stand in a vector."""
        return {name: part.basis.shape[1] for name, part in self._parts.items()}

    def fit(self, parts: Parts) -> "PlainVectors":
        """Learn from n items, given by part. Raises ValueError without items, or where nothing tells them apart."""
        self._parts, self._vectorizers = {}, {}
        for name in sorted(parts):
            if name not in PARTS:
                raise ValueError(f"Items have no part “{name}”.")
            if not len(parts[name]):
                raise ValueError("There are no items to learn vectors from.")
            if name != "image":
                vectorizer = word_vectorizer().set_params(max_features=MOST_WORDS)
                try:
                    vectorizer.fit(parts[name])
                except ValueError:  # no word in any of them
                    continue
                self._vectorizers[name] = vectorizer
            self._parts[name] = _Reduction.learned(
                self._features(name, parts[name]), self.components, self.seed
            )
        if not self.width:
            raise ValueError(
                "The items hold nothing that would tell them apart: no words and no images that differ."
            )
        return self

    def transform(self, parts: Parts) -> Vectors:
        """The vectors of n items, (n, width). Raises ValueError before `fit`, or where a part is missing."""
        if not self._parts:
            raise ValueError("The vectors have to be fitted first.")
        if missing := [name for name in self._parts if name not in parts]:
            raise ValueError(f"The items have no {missing[0]}.")
        return np.hstack(
            [part.applied(self._features(name, parts[name])) for name, part in self._parts.items()]
        ).astype(np.float32)

    def to_bytes(self) -> bytes:
        """What was fitted, as a file that holds no code; the same for the same fit."""
        arrays: dict[str, Array] = {}
        for name, part in self._parts.items():
            arrays |= {
                f"{name}_basis": part.basis,
                f"{name}_means": part.means,
                f"{name}_scales": part.scales,
            }
        words = {}
        for name, vectorizer in self._vectorizers.items():
            words[name] = vectorizer.get_feature_names_out().tolist()
            arrays[f"{name}_weights"] = vectorizer.idf_
        return write_arrays(
            arrays,
            {"parts": list(self._parts), "words": words, "components": self.components, "seed": self.seed},
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "PlainVectors":
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        arrays, said = read_arrays(content)
        try:
            made = cls(said["components"], said["seed"])
            for name in said["parts"]:
                made._parts[name] = _Reduction(
                    *(arrays[f"{name}_{what}"] for what in ("basis", "means", "scales"))
                )
            for name, words in said["words"].items():
                made._vectorizers[name] = _vectorizer_of(words, arrays[f"{name}_weights"])
            for name, part in made._parts.items():
                part.check(len(said["words"][name]) if name != "image" else N_IMAGE_FEATURES)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedFile("it is not how items become vectors") from error
        return made

    def _features(self, name: str, part: Any) -> sparse.csr_matrix:
        # A sparse product goes row by row; a dense one adds up in an order that depends on how many items there are.
        if name == "image":
            return sparse.csr_matrix(np.asarray(part, dtype=np.float64).reshape(-1, N_IMAGE_FEATURES))
        return self._vectorizers[name].transform(part)


class _Reduction:
    """A linear map of features to a few standardized numbers."""

    def __init__(self, basis: Array, means: Array, scales: Array) -> None:
        self.basis, self.means, self.scales = basis, means, scales

    @classmethod
    def learned(cls, features: sparse.csr_matrix, components: int, seed: int) -> "_Reduction":
        n_items, n_features = features.shape
        count = min(components, n_items, n_features)
        _, spreads, directions = extmath.randomized_svd(features, count, n_iter=5, random_state=seed)
        kept = spreads > _SMALLEST_SPREAD * max(spreads.max(), _SMALLEST_SPREAD)
        basis = np.ascontiguousarray(directions[kept].T, dtype=np.float32)
        reduced = features @ basis.astype(np.float64)
        scales = reduced.std(axis=0)
        differs = scales > _SMALLEST_SPREAD
        return cls(np.ascontiguousarray(basis[:, differs]), reduced.mean(axis=0)[differs], scales[differs])

    def check(self, n_features: int) -> None:
        width = self.basis.shape[-1]
        if self.basis.shape != (n_features, width) or not self.means.shape == self.scales.shape == (width,):
            raise DamagedFile("its arrays do not fit each other")
        if not all(np.isfinite(array).all() for array in (self.basis, self.means, self.scales)):
            raise DamagedFile("it holds what is no number")

    def applied(self, features: sparse.csr_matrix) -> FloatArray:
        numbers: FloatArray = (features @ self.basis.astype(np.float64) - self.means) / self.scales
        return numbers


def _vectorizer_of(words: Sequence[str], weights: Array) -> TfidfVectorizer:
    if weights.shape != (len(words),) or len(set(words)) != len(words):
        raise DamagedFile("its words do not fit their weights")
    vectorizer = word_vectorizer().set_params(vocabulary={word: place for place, word in enumerate(words)})
    vectorizer.idf_ = weights
    return vectorizer
