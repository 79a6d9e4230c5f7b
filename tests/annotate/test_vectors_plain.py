import numpy as np
import pytest
from PIL import Image

from annotate.array_files import DamagedFile, read_arrays, write_arrays
from annotate.features import N_IMAGE_FEATURES, image_features
from annotate.vectors_plain import Parts, PlainVectors

WORDS = ["sun", "rain", "cloud", "wind", "storm", "snow", "fog", "hail", "frost", "heat"]
RNG = np.random.default_rng(1)
TEXTS = [" ".join(RNG.choice(WORDS, 5)) + f" day{i % 7}" for i in range(60)]
IMAGES = image_features(
    [Image.fromarray(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8), "RGB") for _ in range(20)]
)


def test_texts_become_standardized_numbers():
    plain = PlainVectors(components=8).fit({"text": TEXTS})
    vectors = plain.transform({"text": TEXTS})

    assert vectors.shape == (60, plain.width) == (60, 8)
    assert vectors.dtype == np.float32
    assert np.abs(vectors.mean(axis=0)).max() < 1e-5
    assert vectors.std(axis=0) == pytest.approx(np.ones(8), abs=1e-4)


def test_similar_texts_are_nearer_than_others():
    vectors = (
        PlainVectors(4)
        .fit({"text": TEXTS})
        .transform({"text": ["sun sun rain", "sun rain rain", "hail frost"]})
    )

    assert np.linalg.norm(vectors[0] - vectors[1]) < np.linalg.norm(vectors[0] - vectors[2])


def test_every_part_has_its_numbers():
    parts: Parts = {"text": TEXTS[:20], "question": TEXTS[20:40], "image": IMAGES}
    plain = PlainVectors(5).fit(parts)

    assert plain.width == 15
    assert plain.transform(parts).shape == (20, 15)


def test_the_same_seed_gives_the_same_bytes_and_vectors():
    first, again = (PlainVectors(6, seed=3).fit({"text": TEXTS}) for _ in range(2))

    assert first.to_bytes() == again.to_bytes()
    assert first.transform({"text": TEXTS}).tobytes() == again.transform({"text": TEXTS}).tobytes()


def test_a_vector_depends_on_its_item_alone():
    parts: Parts = {"text": TEXTS[:20], "image": IMAGES}
    plain = PlainVectors(5).fit(parts)
    together = plain.transform(parts)

    one_by_one = [plain.transform({"text": [TEXTS[i]], "image": IMAGES[i : i + 1]})[0] for i in range(20)]
    assert np.array(one_by_one).tobytes() == together.tobytes()


def test_what_was_fitted_is_kept_to_the_last_bit():
    parts: Parts = {"text": TEXTS[:20], "question": TEXTS[20:40], "image": IMAGES}
    plain = PlainVectors(5, seed=2).fit(parts)
    again = PlainVectors.from_bytes(plain.to_bytes())

    new: Parts = {"text": ["unknown words only", "rain"], "question": ["", "sun?"], "image": IMAGES[:2]}
    assert again.transform(new).tobytes() == plain.transform(new).tobytes()
    assert (again.width, again.seed, again.components) == (plain.width, 2, 5)
    assert again.to_bytes() == plain.to_bytes()


def test_fewer_words_or_items_than_components_are_enough():
    plain = PlainVectors(50).fit({"text": ["sun", "rain", "sun rain"]})

    assert 1 <= plain.width <= 2
    assert np.isfinite(plain.transform({"text": ["", "sun", "other"]})).all()


def test_a_part_without_words_or_differences_is_left_out():
    parts: Parts = {"text": ["!", "?"] * 10, "question": TEXTS[:20]}
    plain = PlainVectors(3).fit(parts)

    assert plain.transform(parts).shape == (20, 3)
    again = PlainVectors.from_bytes(plain.to_bytes())
    assert again.transform(parts).tobytes() == plain.transform(parts).tobytes()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"text": []}, "no items"),
        ({"text": ["!", ""]}, "tell them apart"),
        ({"text": ["sun", "sun"]}, "tell them apart"),
        ({"image": np.zeros((5, N_IMAGE_FEATURES))}, "tell them apart"),
        ({"sound": ["a"]}, "no part"),
        ({}, "tell them apart"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(parts, said):
    with pytest.raises(ValueError, match=said):
        PlainVectors().fit(parts)


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match="fitted first"):
        PlainVectors().transform({"text": ["a"]})
    with pytest.raises(ValueError, match="no image"):
        PlainVectors(2).fit({"image": IMAGES}).transform({"text": ["a"]})
    with pytest.raises(ValueError, match="at least one number"):
        PlainVectors(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, said: arrays.pop("text_basis"),
        lambda arrays, said: arrays.update(text_basis=arrays["text_basis"][:-1]),
        lambda arrays, said: arrays.update(text_means=arrays["text_means"][:-1]),
        lambda arrays, said: arrays.update(text_scales=np.full_like(arrays["text_scales"], np.nan)),
        lambda arrays, said: arrays.update(text_weights=arrays["text_weights"][:-1]),
        lambda arrays, said: said.pop("words"),
        lambda arrays, said: said.update(words={"text": ["sun"]}),
        lambda arrays, said: said.update(words={}),
        lambda arrays, said: said.update(components=0),
        lambda arrays, said: said.update(parts=["image"]),
    ],
)
def test_damaged_bytes_are_refused(change):
    arrays, said = read_arrays(PlainVectors(4).fit({"text": TEXTS}).to_bytes())
    change(arrays, said)

    with pytest.raises(ValueError, match=r"damaged|at least one"):
        PlainVectors.from_bytes(write_arrays(arrays, said))
    with pytest.raises(DamagedFile):
        PlainVectors.from_bytes(b"")
