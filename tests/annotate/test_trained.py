import numpy as np
import pytest
from PIL import Image

from annotate.trained import MIN_LABELLED, TrainedAnnotator, TrainedItem
from tests.labelled_items import digits, remarks


def shape(side_by_side):
    """A wide or a tall black bar on white."""
    image = Image.new("RGB", (24, 24), "white")
    image.paste("black", (2, 9, 22, 15) if side_by_side else (9, 2, 15, 22))
    return image


def test_texts_are_labelled_far_better_than_by_chance():
    items, labels = remarks()
    annotator = TrainedAnnotator("text_classification", 3, seed=1).fit(items[:100], labels[:100])

    predicted, confidence = annotator.predict(items[100:])

    assert np.mean(predicted == labels[100:]) > 0.7
    assert predicted.shape == confidence.shape == (len(items) - 100,)
    assert 1 / 3 <= confidence.min() <= confidence.max() <= 1


def test_images_are_labelled_far_better_than_by_chance():
    items, labels = digits()
    annotator = TrainedAnnotator("image_classification", 10, seed=1).fit(items[:100], labels[:100])

    predicted, _ = annotator.predict(items[100:600])

    assert np.mean(predicted == labels[100:600]) > 0.7


def test_confident_labels_are_right_more_often():
    items, labels = remarks()
    predicted, confidence = (
        TrainedAnnotator("text_classification", 3, seed=1).fit(items[:100], labels[:100]).predict(items[100:])
    )
    right = predicted == labels[100:]

    assert (
        right[confidence > np.median(confidence)].mean()
        > right[confidence <= np.median(confidence)].mean() + 0.05
    )


@pytest.mark.parametrize("task_type", ["closed_vqa", "image_text_agreement"])
def test_words_and_image_are_used_together(task_type):
    # The label needs both: which shape it is, and which of two unrelated questions is asked.
    rng = np.random.default_rng(0)
    wide, asks_for_shape = rng.integers(0, 2, 80), rng.integers(0, 2, 80)
    words = np.where(asks_for_shape, "which shape", "any text here")
    items = [
        TrainedItem(question=text, image=shape(w))
        if task_type == "closed_vqa"
        else TrainedItem(text=text, image=shape(w))
        for text, w in zip(words.tolist(), wide.tolist(), strict=True)
    ]
    labels = np.where(asks_for_shape, wide, 2)

    predicted, _ = TrainedAnnotator(task_type, 3, seed=0).fit(items[:40], labels[:40]).predict(items[40:])

    assert np.mean(predicted == labels[40:]) > 0.9


@pytest.mark.parametrize(
    ("task_type", "data"), [("text_classification", remarks), ("image_classification", digits)]
)
def test_the_same_items_get_the_same_answers_in_any_chunks(task_type, data):
    items, labels = data()
    items, n_labels = items[:500], labels.max() + 1

    def fit():
        return TrainedAnnotator(task_type, n_labels, seed=3).fit(items[:60], labels[:60])

    whole_labels, whole_confidence = fit().predict(items[60:])
    for size in (1, 7, 100, 257):
        parts = [fit().predict(items[start : start + size]) for start in range(60, 60 + 4 * size, size)][:4]
        n = min(4 * size, len(items) - 60)
        assert np.array_equal(np.concatenate([part[0] for part in parts])[:n], whole_labels[:n])
        assert np.array_equal(np.concatenate([part[1] for part in parts])[:n], whole_confidence[:n])


def test_two_labels_of_a_larger_set_are_enough_and_keep_their_indices():
    items, labels = remarks()
    chosen = np.flatnonzero(labels != 1)[:60]
    annotator = TrainedAnnotator("text_classification", 3, seed=0)
    annotator.fit([items[i] for i in chosen], labels[chosen])

    predicted, confidence = annotator.predict([items[i] for i in chosen])

    assert set(predicted.tolist()) == {0, 2}
    assert np.mean(predicted == labels[chosen]) > 0.9
    assert confidence.min() >= 0.5


def test_nothing_to_predict_gives_nothing():
    items, labels = remarks()
    annotator = TrainedAnnotator("text_classification", 3, seed=0).fit(items[:30], labels[:30])

    predicted, confidence = annotator.predict([])

    assert len(predicted) == len(confidence) == 0


def test_texts_without_a_known_word_still_get_a_label():
    items, labels = remarks()
    annotator = TrainedAnnotator("text_classification", 3, seed=0).fit(items[:30], labels[:30])

    predicted, confidence = annotator.predict([TrainedItem(text=""), TrainedItem(text="?! 🙂")])

    assert predicted[0] == predicted[1]
    assert np.isfinite(confidence).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labelled items"),
        ([0, 1] * (MIN_LABELLED // 2 - 1), "too few"),
        ([1] * 30, "same label"),
        ([0, 3] * 10, "between 0 and 2"),
        ([0, -1] * 10, "between 0 and 2"),
        ([0.5, 1.0] * 10, "whole-number"),
    ],
)
def test_labels_to_learn_too_little_from_are_refused(labels, message):
    items, _ = remarks()
    with pytest.raises(ValueError, match=message):
        TrainedAnnotator("text_classification", 3, seed=0).fit(items[: len(labels)], labels)


def test_other_misuse_is_refused():
    items, labels = remarks()
    annotator = TrainedAnnotator("text_classification", 3, seed=0)

    with pytest.raises(ValueError, match="fitted"):
        annotator.predict(items[:2])
    with pytest.raises(ValueError, match="20 items need one"):
        annotator.fit(items[:20], labels[:19])
    with pytest.raises(ValueError, match="no words"):
        annotator.fit([TrainedItem(text="?!")] * 20, labels[:20])
    with pytest.raises(ValueError, match="Item 1 of 20 has no image"):
        TrainedAnnotator("image_classification", 3, seed=0).fit(items[:20], labels[:20])
    with pytest.raises(ValueError, match="Unknown task type"):
        TrainedAnnotator("poetry", 3, seed=0)
    with pytest.raises(ValueError, match="at least two labels"):
        TrainedAnnotator("text_classification", 1, seed=0)


def test_ten_thousand_texts_take_seconds():
    items, labels = remarks()
    annotator = TrainedAnnotator("text_classification", 3, seed=0).fit(items[:100], labels[:100])

    predicted, _ = annotator.predict((items * 12)[:10_000])

    assert len(predicted) == 10_000
