"""What is known of an item before its annotator runs: its vector, its lengths and sizes, and whether text and image go
together (z in section 3, step 1)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from annotate.contents import items_in_order
from annotate.models import VectorVersion
from annotate.vectors import FACTS, fit_version, item_facts, newest_version
from route.models import Router
from route.risk import TextImageSimilarity
from route.router_vectors import vector_choice
from route.trace_data import DEMO, RISK, FloatArray, KnownTraces
from route.training import features_of


class ItemFeatures:
    """Makes z of items: (n, d + 7), or (n, d + 8) where the similarity of text and image is known.

    The similarity is learned from the items that train the scorer or are shown as demonstrations, and from nothing that
    is known of their labels. `similarity` is None where items have not both; it may have a fallback.
    """

    def __init__(self, router: Router, known: KnownTraces, between: Callable[[], object]) -> None:
        self._router, self._between = router, between
        ids = [*known.of(RISK)[0], *known.of(DEMO)[0]]
        vectors = features_of(router, ids, between)
        self.width = vectors.shape[1]
        self._image = self._image_columns()
        self.similarity: TextImageSimilarity | None = None
        if self._image.any() and not self._image.all():
            texts, images = vectors[:, ~self._image], vectors[:, self._image]
            self.similarity = TextImageSimilarity(router.seed).fit(texts, images)

    def vectors(self, item_ids: Sequence[int]) -> FloatArray:
        """The vectors alone, (n, d)."""
        return features_of(self._router, item_ids, self._between)

    def of(self, item_ids: Sequence[int]) -> FloatArray:
        """z of the items, in order. Raises Refusal where one has no vector, ValueError where one is gone."""
        vectors = self.vectors(item_ids)
        items = list(items_in_order(item_ids))
        if [item.pk for item in items] != list(item_ids):
            raise ValueError(
                "Items that the router is learned from were deleted meanwhile. Train another one."
            )
        blocks = [vectors, np.log1p(item_facts(items))]
        similarity = self.similarity_of(vectors)
        if similarity is not None:
            blocks.append(similarity[:, np.newaxis])
        return np.hstack(blocks)

    def similarity_of(self, vectors: FloatArray) -> FloatArray | None:
        """How well text and image of items go together by their vectors, (n,); None where that says nothing."""
        if self.similarity is None or self.similarity.fallback_ is not None:
            return None
        return self.similarity.predict(vectors[:, ~self._image], vectors[:, self._image])

    def about(self) -> dict[str, Any]:
        """What z holds, for the router's page and file."""
        return {
            "vectors": self.width,
            "facts": list(FACTS),
            "text_image_similarity": None
            if self.similarity is None
            else {"agreement": self.similarity.agreement_, "fallback": self.similarity.fallback_},
        }

    def _image_columns(self) -> Any:
        """Which numbers of a vector are of the image, (d,) boolean."""
        is_image = np.zeros(self.width, dtype=np.bool_)
        version = newest_version(self._router.project, vector_choice(self._router))
        assert version is not None  # noqa: S101 (the items have vectors of it)
        fitted = fit_version(version, self._between)
        if fitted is None or "image" not in fitted.widths:
            return is_image
        if version.kind != VectorVersion.Kind.PLAIN:  # a model's numbers come first
            is_image[self.width - fitted.widths["image"] :] = True
            return is_image
        start = 0
        for name, width in fitted.widths.items():
            is_image[start : start + width] = name == "image"
            start += width
        return is_image
