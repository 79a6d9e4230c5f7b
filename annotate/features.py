"""Plain features of texts and images for the trained annotator. No model, no download.

Features of an item depend on that item alone once a vocabulary is fitted, so items can be handled in any
chunks.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from sklearn.feature_extraction.text import TfidfVectorizer

FloatArray = npt.NDArray[np.float64]

# Words of two signs or more; Chinese, Japanese and Korean write no spaces, so there each sign is a word.
_WORD = r"[぀-ヿ㐀-鿿가-힣]|\b\w\w+\b"

IMAGE_SIDE = 32  # pixels; images are resized to a square of this side
_CELL = 4  # pixels; side of the cells whose gradients are counted together
_DIRECTIONS = 8  # bins for gradient directions, over half a turn
_COLOR_LEVELS = 4  # bins for each of red, green and blue
_BLOCK = 256  # images handled at a time, to bound memory

N_IMAGE_FEATURES = (IMAGE_SIDE // _CELL) ** 2 * _DIRECTIONS + _COLOR_LEVELS**3


def word_vectorizer() -> TfidfVectorizer:
    """TF-IDF of single words, lower-cased, with sublinear term frequency; rows have unit length."""
    return TfidfVectorizer(sublinear_tf=True, token_pattern=_WORD)


def image_features(images: Sequence[Image.Image]) -> FloatArray:
    """Gradient and color histograms, shape (n, `N_IMAGE_FEATURES`), each row's two parts of unit length at
    most.

    Gradients: in each 4×4 cell of the 32×32 image, how much the lightness changes in each of 8 directions.
    Colors: the share of the pixels in each of 4×4×4 red-green-blue boxes, square-rooted.
    """
    features = np.empty((len(images), N_IMAGE_FEATURES))
    for start in range(0, len(images), _BLOCK):
        pixels = rgb_pixels(images[start : start + _BLOCK], IMAGE_SIDE)
        features[start : start + _BLOCK] = np.hstack(
            [_gradient_histograms(pixels), _color_histograms(pixels)]
        )
    return features


def rgb_pixels(images: Iterable[Image.Image], side: int) -> npt.NDArray[np.uint8]:
    """The images as (n, side, side, 3) bytes: turned as EXIF says, on white, stretched to a square."""
    pixels = [np.asarray(_to_rgb(image).resize((side, side), Image.Resampling.BILINEAR)) for image in images]
    return np.array(pixels, dtype=np.uint8).reshape(len(pixels), side, side, 3)


def _to_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _to_eight_bits(upright)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        layers = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return upright.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Deep gray images keep their contrast: the darkest value becomes black, the lightest white."""
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(scaled.astype(np.uint8))


def _gradient_histograms(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    lightness = (pixels @ np.array([299, 587, 114])) / 255_000.0
    down, right = np.gradient(lightness, axis=(1, 2))
    direction = (np.arctan2(down, right) % np.pi) * (_DIRECTIONS / np.pi)
    direction_bin = np.minimum(direction.astype(np.intp), _DIRECTIONS - 1)
    cells_across = IMAGE_SIDE // _CELL
    cell_of = np.arange(IMAGE_SIDE) // _CELL
    cell = cell_of[:, None] * cells_across + cell_of[None, :]
    histograms = _count(
        cell * _DIRECTIONS + direction_bin, cells_across**2 * _DIRECTIONS, np.hypot(down, right)
    )
    # The root damps strong edges; without it a few of them outweigh the shape.
    return _unit_rows(np.sqrt(histograms))


def _color_histograms(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    levels = (pixels // (256 // _COLOR_LEVELS)).astype(np.intp)
    box = levels @ np.array([_COLOR_LEVELS**2, _COLOR_LEVELS, 1])
    return np.sqrt(_count(box, _COLOR_LEVELS**3, np.ones(box.shape)) / IMAGE_SIDE**2)


def _count(bins: npt.NDArray[np.intp], n_bins: int, weights: FloatArray) -> FloatArray:
    """Weighted histogram of each image's bins, shape (n, n_bins)."""
    n = len(bins)
    shifted = bins.reshape(n, -1) + n_bins * np.arange(n)[:, None]
    counts: FloatArray = np.bincount(shifted.ravel(), weights.ravel(), n * n_bins).astype(np.float64)
    return counts.reshape(n, n_bins)


def _unit_rows(rows: FloatArray) -> FloatArray:
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    unit: FloatArray = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
