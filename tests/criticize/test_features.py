import numpy as np
import pytest
from PIL import Image

from criticize.features import N_PIXEL_FEATURES, character_vectorizer, pixel_features


def noise(seed, size=(20, 31)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_pixels_are_whole_numbers_and_the_same_in_any_company():
    images = [noise(seed) for seed in range(300)]
    together = pixel_features(images)

    assert together.shape == (300, N_PIXEL_FEATURES)
    assert np.array_equal(together, np.rint(together))
    assert np.array_equal(pixel_features(images[250:270]), together[250:270])
    assert pixel_features([]).shape == (0, N_PIXEL_FEATURES)


def test_gray_images_differ_in_lightness_only():
    black, white = pixel_features([Image.new("RGB", (9, 9), "black"), Image.new("RGB", (9, 9), "white")])

    assert not black.any()
    assert np.array_equal(white, [255.0] * 144 + [0.0] * 72)


def test_equally_light_colors_differ_in_color():
    red, green = pixel_features(
        [Image.new("RGB", (9, 9), (196, 0, 0)), Image.new("RGB", (9, 9), (0, 100, 0))]
    )

    assert red[:144] == pytest.approx(green[:144])
    assert np.abs(red[144:180] - green[144:180]).min() > 100


@pytest.mark.parametrize("texts", [["a", "bb"], ["好", "坏"], ["same same"] * 100])
def test_pieces_of_words_are_found_in_few_and_in_short_texts(texts):
    features = character_vectorizer(len(texts)).fit_transform(texts)

    assert features.shape[0] == len(texts)
    assert features.nnz >= len(texts)
