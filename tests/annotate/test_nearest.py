"""The nearest labelled items: by words, by looks, by both; never a copy of the item; the same every time."""

import numpy as np
import pytest
from PIL import Image

from annotate.features import image_features
from annotate.nearest import NearestItems
from tests.labelled_items import digits

TEXTS = ["a lovely day", "a lovely sunny day", "rude crew, late plane", "the plane was late", "否定 的 话"]
NAMES = list("abcde")


def of_texts(texts=TEXTS, names=NAMES):
    return NearestItems(names, texts, None)


def test_texts_are_near_that_share_rare_words():
    pool = of_texts()

    assert pool.nearest(2, "x", "What a sunny day") == [1, 0]
    assert pool.nearest(2, "x", "the late plane") == [3, 2]
    assert pool.nearest(1, "x", "这 是 否 定") == [4]


def test_of_equally_near_ones_the_first_in_the_pool_comes_first():
    assert of_texts().nearest(5, "x", "nothing in common") == [0, 1, 2, 3, 4]
    assert NearestItems(NAMES, ["!", "?", "…", "", " "], None).nearest(3, "x", "a lovely day") == [0, 1, 2]


def test_items_of_the_same_content_are_never_shown_and_copies_stand_for_one():
    pool = of_texts(["a lovely day"] * 3 + ["rude crew", "late"], ["day", "day", "day", "rude", "late"])

    assert pool.nearest(5, "day", "a lovely day") == [3, 4]
    assert pool.nearest(5, "x", "a lovely day") == [0, 3, 4]


def test_the_pool_may_be_empty_or_smaller_than_asked_for():
    assert NearestItems([], [], None).nearest(3, "x", "a day") == []
    assert NearestItems([], None, image_features([])).nearest(3, "x", "", Image.new("RGB", (4, 4))) == []
    assert of_texts().nearest(99, "a", "a lovely day") == [1, 2, 3, 4]
    assert of_texts().nearest(0, "x", "a lovely day") == []


def test_images_are_near_that_look_alike():
    items, labels = digits()
    images = [item.image for item in items[:400] if item.image is not None]
    pool = NearestItems([str(i) for i in range(300)], None, image_features(images[:300]))

    found = [pool.nearest(1, "x", "", image)[0] for image in images[300:]]

    assert np.mean(labels[found] == labels[300:400]) > 0.9
    assert pool.nearest(1, "x", "", images[7]) == [7]
    assert pool.nearest(1, "7", "", images[7]) != [7]


def test_words_and_looks_count_the_same():
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    pool = NearestItems(
        list("abcd"),
        ["is it red", "how many are there", "is it red", "how many are there"],
        image_features([red, red, blue, blue]),
    )

    assert pool.nearest(1, "x", "is it red", red) == [0]
    assert pool.nearest(1, "x", "how many are there", blue) == [3]
    assert set(pool.nearest(3, "x", "is it red", red)[1:]) == {1, 2}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="Each item of the pool needs"):
        NearestItems(["a"], None, None)
    with pytest.raises(ValueError, match="Each item of the pool needs"):
        NearestItems(["a"], ["x", "y"], None)
    with pytest.raises(ValueError, match="cannot be negative"):
        of_texts().nearest(-1, "x", "a")
    with pytest.raises(ValueError, match="has no image"):
        NearestItems(["a"], None, image_features([Image.new("RGB", (4, 4))])).nearest(1, "x")
