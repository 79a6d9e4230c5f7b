"""The labelled items most like an item, by the plain features of `annotate.features`. No model, no download."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import sparse

from annotate.features import FloatArray, image_features, word_vectorizer

# Similarities closer than this count as equal, so that rounding in the last digit decides nothing.
_DECIMALS = 9


class NearestItems:
    """Finds, in a fixed pool, the items nearest to another one.

    Similarity is the cosine of the words' TF-IDF weights, of the image features, or the mean of both where items
    have both; the words' weights come from the pool alone. Whatever was learnt depends on the pool, and an item's
    neighbors on the item: never on the order or the number of those asked about.
    """

    def __init__(
        self, contents: Sequence[str], texts: Sequence[str] | None, images: FloatArray | None
    ) -> None:
        """A pool of n items: `contents` tell equal items (see `nearest`), `texts` or `images` are None where
        items have no such part, else n texts and an array of shape (n, `N_IMAGE_FEATURES`).

        Raises ValueError when their lengths differ or there is neither part.
        """
        lengths = {len(part) for part in (contents, texts, images) if part is not None}
        if len(lengths) > 1 or (texts is None and images is None):
            raise ValueError("Each item of the pool needs a content, and a text, image features or both.")
        self._contents = list(contents)
        self._images = None if images is None else _unit_rows(images)
        self._has_texts = texts is not None
        self._vectorizer = None
        if texts is not None:
            vectorizer = word_vectorizer()
            try:
                # By word, so that an item's words alone are looked at.
                self._words = sparse.csr_matrix(vectorizer.fit_transform(texts).T)
                self._vectorizer = vectorizer
            except ValueError:  # no word in any of the texts: all are equally far
                pass

    def nearest(self, k: int, content: str, text: str = "", image: Image.Image | None = None) -> list[int]:
        """Places in the pool of the k items nearest to this one, the nearest first; ties by place.

        Items with the same `content` are left out: the item itself, and copies of it, whose labels would give its
        own away. Of copies within the pool the first stands for all. Raises ValueError when k is negative or the
        image is missing where the pool has images.
        """
        if k < 0:
            raise ValueError("The number of examples cannot be negative.")
        similarity = np.zeros(len(self._contents))
        if self._vectorizer is not None:
            row = self._vectorizer.transform([text])
            similarity += (row @ self._words).toarray().ravel()
        if self._images is not None:
            if image is None:
                raise ValueError("The item has no image.")
            similarity += self._images @ _unit_rows(image_features([image]))[0]
        parts = self._has_texts + (self._images is not None)
        rounded = np.round(similarity / parts, _DECIMALS)
        order = np.argsort(-rounded, kind="stable")
        chosen: dict[str, int] = {}
        for place in order.tolist():
            if len(chosen) == k:
                break
            if self._contents[place] != content:
                chosen.setdefault(self._contents[place], place)
        return list(chosen.values())


def _unit_rows(rows: FloatArray) -> FloatArray:
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    unit: FloatArray = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
