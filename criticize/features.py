"""Plain features for the trained criticizer, other than the trained annotator's, so that errors differ."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer

from annotate.features import FloatArray, rgb_pixels

_LIGHTNESS_SIDE = 12
_COLOR_SIDE = 6
_MAX_PIECES = 100_000
_BLOCK = 256

N_PIXEL_FEATURES = _LIGHTNESS_SIDE**2 + 2 * _COLOR_SIDE**2


def character_vectorizer(n_texts: int) -> TfidfVectorizer:
    """TF-IDF of the pieces of 2 to 5 signs within words, for a vocabulary from `n_texts` texts.

    From 100 texts on a piece must occur in two of them: what occurs once tells nothing about others.
    """
    return TfidfVectorizer(
        sublinear_tf=True,
        analyzer="char_wb",
        ngram_range=(2, 5),
        min_df=2 if n_texts >= 100 else 1,
        max_features=_MAX_PIECES,
    )


def pixel_features(images: Sequence[Image.Image]) -> FloatArray:
    """The image itself, very small, shape (n, `N_PIXEL_FEATURES`): 12×12 lightness, then 6×6 of two color
    differences.

    All values are whole numbers, so that squared distances between rows are exact in floating point and
    do not depend on how many rows are compared at a time. Color counts double because its grid is coarser.
    """
    features = np.empty((len(images), N_PIXEL_FEATURES))
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        features[start : start + len(block)] = np.hstack([_lightness(block), _color_differences(block)])
    return features


def _lightness(images: Sequence[Image.Image]) -> FloatArray:
    pixels = rgb_pixels(images, _LIGHTNESS_SIDE).astype(np.int64)
    lightness: FloatArray = (pixels @ np.array([299, 587, 114]) // 1000).astype(np.float64)
    return lightness.reshape(len(images), -1)


def _color_differences(images: Sequence[Image.Image]) -> FloatArray:
    red, green, blue = np.moveaxis(rgb_pixels(images, _COLOR_SIDE).astype(np.int64), 3, 0)
    lightness = (299 * red + 587 * green + 114 * blue) // 1000
    differences = np.stack([red - lightness, blue - lightness], axis=1)
    return 2.0 * differences.reshape(len(images), -1)
