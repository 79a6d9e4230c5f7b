"""Splits are disjoint, seeded and stratified, and the measures of a shift are what their definitions say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from route.splits import (
    risk_demo_dev,
    shift_between,
    topic_shift_split,
    topics_held_out,
    unit_rows,
    word_divergence,
)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=300), st.integers(0, 5))
def test_splits_are_disjoint_whole_and_stratified(errors, seed):
    shares = (0.5, 0.2, 0.3)
    split = risk_demo_dev(errors, seed=seed, shares=shares)
    parts = (split.risk, split.demo, split.dev)

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(errors)))
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * len(errors)) <= 1
        assert abs(np.asarray(errors)[part].sum() - share * sum(errors)) <= 2
        assert part.tolist() == sorted(part.tolist())


def test_a_seed_gives_one_split():
    errors = np.arange(100) % 3 == 0

    one, same, other = (risk_demo_dev(errors, seed=seed) for seed in (1, 1, 2))

    assert one.risk.tolist() == same.risk.tolist()
    assert one.dev.tolist() == same.dev.tolist()
    assert one.dev.tolist() != other.dev.tolist()


@pytest.mark.parametrize(
    ("errors", "shares", "sentence"),
    [
        ([0, 1], (0.5, 0.25, 0.25), "too few"),
        ([], (0.5, 0.25, 0.25), "too few"),
        ([0] * 9, (0.5, 0.5, 0.0), "above 0"),
        ([0] * 9, (0.5, 0.4, 0.3), "sum to 1"),
        ([0, 2, 1], (0.5, 0.25, 0.25), "true or false"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(errors, shares, sentence):
    with pytest.raises(ValueError, match=sentence):
        risk_demo_dev(errors, seed=0, shares=shares)


def topics(sizes=(50, 40, 30, 20), spread=0.05, seed=0):
    """Items around directions of their own; the first two topics lie close to each other, the last ones far off."""
    rng = np.random.default_rng(seed)
    centers = np.array([[1, 0.2, 0, 0], [1, -0.2, 0, 0], [0.4, 0, 1, 0], [-1, 0, 0, 1]], dtype=float)
    return np.concatenate(
        [center + spread * rng.normal(size=(size, 4)) for center, size in zip(centers, sizes, strict=True)]
    )


def test_the_farthest_topics_are_held_out():
    split = topic_shift_split(topics(), seed=0, n_topics=4, test_share=0.15)

    assert split.test.tolist() == list(range(120, 140))
    assert split.train.tolist() == list(range(120))
    assert len(split.held_out) == 1

    wider = topic_shift_split(topics(), seed=0, n_topics=4, test_share=0.35)

    assert wider.test.tolist() == list(range(90, 140))
    assert wider.held_out[0] == split.held_out[0]
    assert set(wider.topics[wider.test].tolist()).isdisjoint(wider.topics[wider.train].tolist())


def test_some_topics_always_stay_for_training():
    split = topic_shift_split(topics(), seed=0, n_topics=2, test_share=0.99)

    assert len(split.train) > 0
    assert len(split.test) > 0


def test_fewer_vectors_than_topics_are_topics_themselves():
    split = topic_shift_split(np.array([[1, 0], [1, 0], [2, 0], [0, 1]]), seed=0, n_topics=20, test_share=0.2)

    assert split.test.tolist() == [3]
    assert len(set(split.topics.tolist())) == 2


@pytest.mark.parametrize(
    ("vectors", "options", "sentence"),
    [
        ([[1.0], [2.0]], {}, "same way"),
        ([[1.0], [-2.0]], {"test_share": 0}, "between 0 and 1"),
        ([[1.0], [-2.0]], {"n_topics": 1}, "two topics"),
        ([[np.nan], [-2.0]], {}, "finite"),
    ],
)
def test_topic_splits_that_cannot_be_made_are_refused(vectors, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        topic_shift_split(vectors, seed=0, **options)


def test_a_split_by_topic_shifts_more_than_one_at_random():
    vectors = topics()
    split = topic_shift_split(vectors, seed=0, n_topics=4, test_share=0.3)
    shuffled = np.random.default_rng(0).permutation(len(vectors))
    random = np.sort(shuffled[: len(split.train)]), np.sort(shuffled[len(split.train) :])

    by_topic, at_random = (
        shift_between(vectors[train], vectors[test], seed=0, topics=(split.topics[train], split.topics[test]))
        for train, test in ((split.train, split.test), random)
    )

    assert by_topic.topic_overlap == 0
    assert at_random.topic_overlap == 4
    assert by_topic.centroid_distance > at_random.centroid_distance + 0.1
    assert by_topic.nearest_distance > at_random.nearest_distance + 0.1
    assert by_topic.classifier_auc is not None
    assert by_topic.classifier_auc > 0.95
    assert at_random.classifier_auc == pytest.approx(0.5, abs=0.2)
    assert by_topic.word_divergence is None


def test_a_worked_shift():
    shift = shift_between(
        [[1.0, 0.0], [0.0, 2.0]],
        [[0.0, 3.0]],
        seed=0,
        topics=([0, 1], [1]),
        texts=(["a cat", "a dog"], ["A dog"]),
    )

    assert shift.topic_overlap == 1
    assert shift.nearest_distance == pytest.approx(0)
    assert shift.centroid_distance == pytest.approx(1 - 2 / np.sqrt(5))  # of (1/2, 1) and (0, 3)
    assert shift.classifier_auc is None
    # p = (a 1/2, cat 1/4, dog 1/4), q = (a 1/2, dog 1/2)
    assert shift.word_divergence == pytest.approx(
        (1 / 4 + 1 / 4 * np.log2((1 / 4) / (3 / 8)) + 1 / 2 * np.log2((1 / 2) / (3 / 8))) / 2
    )


def test_words_in_common_decide_the_divergence():
    assert word_divergence(["a b"], ["b a"]) == pytest.approx(0)
    assert word_divergence(["a b"], ["c d"]) == pytest.approx(1)
    assert word_divergence(["?!"], ["c"]) is None


def test_lengths_do_not_matter_and_zeros_stay():
    assert unit_rows(np.array([[3e200, 4e200], [3e-200, 4e-200], [0, 0]])) == pytest.approx(
        np.array([[0.6, 0.8], [0.6, 0.8], [0, 0]])
    )


def test_shifts_of_wrong_values_are_refused():
    with pytest.raises(ValueError, match="same length"):
        shift_between([[1.0]], [[1.0, 2.0]], seed=0)
    with pytest.raises(ValueError, match="one topic"):
        shift_between([[1.0]], [[1.0]], seed=0, topics=([1], [1, 2]))
    with pytest.raises(ValueError, match="one text"):
        shift_between([[1.0]], [[1.0]], seed=0, texts=([], ["a"]))


def test_whole_topics_are_held_out_for_development_and_the_others_shared():
    vectors = topics()
    errors = np.arange(len(vectors)) % 4 == 0

    split, found = topics_held_out(vectors, errors, seed=3)
    same, _ = topics_held_out(vectors, errors, seed=3)

    parts = (split.risk, split.demo, split.dev)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(vectors)))
    assert split.dev.tolist() == found.test.tolist() == same.dev.tolist()
    assert not set(found.topics[split.dev]) & set(found.topics[[*split.risk, *split.demo]])
    assert abs(len(split.risk) - 2 * len(split.demo)) <= 2
    assert abs(errors[split.risk].sum() - 2 * errors[split.demo].sum()) <= 3
    with pytest.raises(ValueError, match="39 known items are too few"):
        topics_held_out(vectors[:39], errors[:39], seed=3)
    with pytest.raises(ValueError, match="no topics"):
        topics_held_out(np.ones((40, 3)), errors[:40], seed=3)
