import io

import numpy as np
import pytest
from PIL import Image

from annotate.features import N_IMAGE_FEATURES, image_features, rgb_pixels, word_vectorizer

N_COLORS = 64


def noise(seed, size=(40, 30), mode="RGB"):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def gradients(image):
    return image_features([image])[0, :-N_COLORS].reshape(8, 8, 8)


def test_shape_and_unit_length_of_both_parts():
    features = image_features([noise(seed) for seed in range(3)])

    assert features.shape == (3, N_IMAGE_FEATURES)
    assert np.linalg.norm(features[:, :-N_COLORS], axis=1) == pytest.approx(1)
    assert np.linalg.norm(features[:, -N_COLORS:], axis=1) == pytest.approx(1)
    assert features.min() >= 0


def test_edges_are_counted_by_direction():
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    across, down = np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32))

    assert gradients(Image.fromarray(across)).sum(axis=(0, 1)).argmax() == 0
    assert gradients(Image.fromarray(down)).sum(axis=(0, 1)).argmax() == 4
    assert np.count_nonzero(gradients(Image.fromarray(across)).sum(axis=(0, 1))) == 1


def test_edges_are_counted_where_they_are():
    half = np.zeros((32, 32), dtype=np.uint8)
    half[:, 16:] = 255
    by_column = gradients(Image.fromarray(half)).sum(axis=(0, 2))

    assert np.flatnonzero(by_column).tolist() == [3, 4]


def test_colors_are_shares_of_pixels():
    image = Image.new("RGB", (32, 32), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 32, 8))
    colors = image_features([image])[0, -N_COLORS:]

    assert np.flatnonzero(colors > 0.1).tolist() == [3, 48]
    assert colors[48] ** 2 == pytest.approx(0.75, abs=0.04)


def test_a_plain_image_has_no_edges_and_no_nan():
    features = image_features([Image.new("RGB", (5, 5), "gray")])

    assert np.isfinite(features).all()
    assert not features[0, :-N_COLORS].any()


def test_an_image_has_the_same_features_in_any_company():
    images = [noise(seed, size=(20 + seed % 7, 25)) for seed in range(300)]
    together = image_features(images)

    assert np.array_equal(image_features(images[255:258]), together[255:258])
    assert np.array_equal(image_features(images[7:8]), together[7:8])
    assert image_features([]).shape == (0, N_IMAGE_FEATURES)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_every_mode_of_image_becomes_rgb_bytes(mode):
    source = noise(1, mode="L").convert(mode) if mode in ("I", "F", "LA") else noise(1, mode=mode)

    assert rgb_pixels([source], 16).shape == (1, 16, 16, 3)


def test_what_is_transparent_shows_white():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))

    assert rgb_pixels([clear], 8).min() == 255


def test_deep_gray_images_keep_their_contrast():
    deep = Image.fromarray(np.linspace(1000, 3000, 64).reshape(8, 8).astype(np.uint16))
    pixels = rgb_pixels([deep], 8)[0, :, :, 0].ravel()

    assert pixels[0] == 0
    assert pixels[-1] == 255
    assert np.all(np.diff(pixels.astype(int)) >= 0)


def test_a_photo_taken_sideways_is_turned():
    upright = Image.new("RGB", (8, 8), "white")
    upright.paste("black", (0, 0, 8, 4))
    sideways, exif, encoded = upright.rotate(90, expand=True), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    sideways.save(encoded, "PNG", exif=exif)

    pixels = rgb_pixels([Image.open(encoded)], 8)

    assert np.array_equal(pixels, rgb_pixels([upright], 8))


def test_words_of_any_script_are_words():
    vectorizer = word_vectorizer().fit(["Très bien, ok!", "まあまあ 否定的", "나쁨 I"])

    assert set(vectorizer.get_feature_names_out()) == {"très", "bien", "ok", *"まあ否定的나쁨"}
