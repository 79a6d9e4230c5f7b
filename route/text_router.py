"""A router between a cheap and a premium annotator with what turns a text into what it sees: whole in one file."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from annotate.vectors_plain import PlainVectors
from route.meta import BoolArray, FloatArray, MetaRouter, premium_items

PLAIN, LOCAL = "plain", "local"
SEES = (PLAIN, LOCAL)
COMPONENTS = 50
ENCODER_WIDTH = 384


class TextVectors:
    """Texts as vectors: by their words, as learned from many of them, or by the text encoder on this machine.

    After `fit`: `words_`, what was learned, as the bytes that `PlainVectors` reads: (n,) of uint8, empty for the
    encoder.
    """

    def __init__(self, sees: str = PLAIN, components: int = COMPONENTS, random_state: int = 0) -> None:
        """`sees` is "plain" or "local". Raises ValueError for anything else."""
        if sees not in SEES:
            raise ValueError(f"A router of texts sees one of {', '.join(SEES)}, not {sees!r}.")
        self.sees = sees
        self.components = components
        self.random_state = random_state

    def fit(self, texts: Sequence[str]) -> "TextVectors":
        """Raises ValueError where nothing tells the texts apart."""
        content = b""
        if self.sees == PLAIN:
            try:
                fitted = PlainVectors(self.components, self.random_state).fit({"text": texts})
            except ValueError:
                raise ValueError(
                    "The queries hold nothing that would tell them apart: no words, or all the same ones."
                ) from None
            content = fitted.to_bytes()
        return self.taking(content)

    def taking(self, content: bytes) -> "TextVectors":
        """The same with what was learned elsewhere, as `PlainVectors.to_bytes` says it."""
        self.words_ = np.frombuffer(content, dtype=np.uint8).copy()
        return self

    @property
    def width(self) -> int:
        """The numbers of a vector."""
        return ENCODER_WIDTH if self.sees == LOCAL else self._plain().width

    def transform(self, texts: Sequence[str]) -> FloatArray:
        """A vector for each text, (n, d). Raises ValueError before `fit`, and where the encoder is not installed."""
        if not hasattr(self, "words_"):
            raise ValueError("The vectors have to be fitted first.")
        if self.sees == LOCAL:
            # Its weights take a moment to read: only those who use it pay.
            from annotate.text_encoder import encode

            return encode(texts).astype(np.float64)
        return self._plain().transform({"text": texts}).astype(np.float64)

    def _plain(self) -> PlainVectors:
        # Read once. Without an underscore at its end the name is none of what is saved.
        if not hasattr(self, "_read"):
            self._read = PlainVectors.from_bytes(self.words_.tobytes())
        return self._read


class TextRouter:
    """A `MetaRouter` that is asked about texts: `vectors` says how they become what `router` sees. Both are fitted."""

    def __init__(self, vectors: TextVectors, router: MetaRouter) -> None:
        self.vectors = vectors
        self.router = router

    @property
    def seed_(self) -> int:
        """The seed that it was trained with."""
        return self.router.seed_

    def predict(self, queries: Sequence[str]) -> FloatArray:
        """ψ̂ of each text on the scale of the gold outcomes, (n,): what the premium annotator would gain."""
        if not len(queries):
            return np.zeros(0)
        return self.router.predict(self.vectors.transform(queries))

    def route(self, queries: Sequence[str], w: float, cost_gap: npt.ArrayLike = 1.0) -> BoolArray:
        """Which texts go to the premium annotator, (n,): those with ψ̂ > `w` · `cost_gap` (Eq. 4).

        As `MetaRouter.route`.
        """
        return premium_items(self.predict(queries), w, cost_gap)
