"""Agreement figures against independent libraries, their intervals, and every case in which they are not defined."""

import time
import warnings

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa as independent_fleiss_kappa

from review.agreement import (
    MISSING,
    Figure,
    agreement,
    cohen_kappa,
    confusion,
    confusion_agreement,
    count_table,
    fleiss_kappa,
    krippendorff_alpha,
    label_pairs,
    pair_agreements,
    percent_agreement,
)
from tests.present import present

SHAPES = [(2, 2, 2), (7, 3, 2), (40, 3, 10), (300, 5, 4), (60, 9, 3), (500, 2, 196)]
EXACT = 1e-9


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def random_answers(
    items: int, raters: int, labels: int, *, seed: int = 0, missing: float = 0.0
) -> np.ndarray:
    """Answers that agree more often than chance, with a share missing."""
    rng = np.random.default_rng([seed, items, raters, labels])
    truth = rng.integers(0, labels, size=(items, 1))
    noise = rng.integers(0, labels, size=(items, raters))
    answers = np.where(rng.random((items, raters)) < 0.3, noise, truth)
    return np.where(rng.random((items, raters)) < missing, MISSING, answers)


def independent_alpha(answers: np.ndarray) -> float:
    data = np.where(answers == MISSING, np.nan, answers).T
    domain = list(range(int(answers.max()) + 1))
    return float(
        krippendorff.alpha(reliability_data=data, level_of_measurement="nominal", value_domain=domain)
    )


def is_defined(answers: np.ndarray) -> bool:
    """Whether the answers that can be paired have at least two labels."""
    paired = answers[(answers != MISSING).sum(axis=1) >= 2]
    return len(set(paired[paired != MISSING].tolist())) > 1


answer_tables = st.builds(
    random_answers,
    items=st.integers(1, 60),
    raters=st.integers(2, 6),
    labels=st.integers(2, 12),
    seed=st.integers(0, 10_000),
    missing=st.sampled_from([0.0, 0.2, 0.6]),
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_cohens_kappa_is_that_of_scikit_learn(shape, seed):
    items, _, labels = shape
    answers = random_answers(items + 5, 2, labels, seed=seed)

    ours = cohen_kappa(confusion(answers[:, 0], answers[:, 1], labels))

    assert ours == pytest.approx(cohen_kappa_score(answers[:, 0], answers[:, 1]), abs=EXACT)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_fleiss_kappa_is_that_of_statsmodels(shape, seed):
    items, raters, labels = shape
    answers = random_answers(items + 5, raters, labels, seed=seed)
    counts = count_table(answers, labels)
    independent = independent_fleiss_kappa(counts)

    overall, _ = agreement(answers, labels, seed=1, replicates=10)

    assert fleiss_kappa(counts) == pytest.approx(independent, abs=EXACT)
    assert overall.kappa.value == pytest.approx(independent, abs=EXACT)


@settings(max_examples=80, deadline=None)
@given(answer_tables)
def test_alpha_is_that_of_krippendorff_with_missing_answers(answers):
    labels = int(max(answers.max(), 1)) + 1
    counts = count_table(answers, labels)
    overall, _ = agreement(answers, labels, seed=1, replicates=10)

    if not is_defined(answers):
        assert krippendorff_alpha(counts) is None
        assert overall.alpha.value is None
        return
    independent = independent_alpha(answers)

    assert krippendorff_alpha(counts) == pytest.approx(independent, abs=EXACT)
    assert overall.alpha.value == pytest.approx(independent, abs=EXACT)


@settings(max_examples=60, deadline=None)
@given(answer_tables)
def test_figures_of_a_label_are_those_of_answers_that_are_it_or_not(answers):
    labels = int(max(answers.max(), 1)) + 1
    _, by_label = agreement(answers, labels, seed=1, replicates=10)

    for each in by_label:
        binary = np.where(answers == MISSING, MISSING, (answers == each.label).astype(int))
        counts = count_table(binary, 2)
        for ours, whole in (
            (each.alpha, krippendorff_alpha(counts)),
            (each.kappa, fleiss_kappa(counts)),
            (each.percent, percent_agreement(counts)),
        ):
            assert (ours.value is None) == (whole is None)
            if whole is not None:
                assert ours.value == pytest.approx(whole, abs=EXACT)
        pairable = counts[counts.sum(axis=1) >= 2]
        assert each.answers == pairable[:, 1].sum()
        assert each.items == np.count_nonzero(pairable[:, 1])


@settings(max_examples=60, deadline=None)
@given(answer_tables)
def test_figures_of_pairs_are_those_of_the_libraries(answers):
    labels = int(max(answers.max(), 1)) + 1
    for pair in pair_agreements(answers, labels, seed=1, replicates=10):
        both = answers[:, [pair.first, pair.second]]
        both = both[(both != MISSING).all(axis=1)]
        assert pair.items == len(both)
        assert pair.percent.value == pytest.approx(np.mean(both[:, 0] == both[:, 1]), abs=EXACT)
        if len(np.unique(both)) < 2:
            assert (pair.kappa, pair.alpha) == (Figure(None), Figure(None))
            continue
        assert pair.kappa.value == pytest.approx(cohen_kappa_score(both[:, 0], both[:, 1]), abs=EXACT)
        assert pair.alpha.value == pytest.approx(independent_alpha(both), abs=EXACT)


def test_percent_agreement_counts_each_item_once():
    # Three of three pairs agree, one of three, and one of one; a single answer says nothing.
    answers = [[0, 0, 0], [0, 0, 1], [1, 1, MISSING], [1, MISSING, MISSING]]

    assert percent_agreement(count_table(answers, 2)) == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert agreement(answers, 2, seed=1)[0].items == 3


def test_fleiss_kappa_with_a_varying_number_of_raters_counts_each_item_once():
    counts = np.array([[2, 0], [1, 3], [0, 5]])
    observed = (1 + (3 * 2) / (4 * 3) + 1) / 3
    shares = np.array([(1 + 1 / 4 + 0) / 3, (0 + 3 / 4 + 1) / 3])

    assert fleiss_kappa(counts) == pytest.approx((observed - np.sum(shares**2)) / (1 - np.sum(shares**2)))


def test_the_largest_figures_are_1_and_opposite_raters_are_below_chance():
    same = np.repeat(np.arange(4), 5)[:, np.newaxis].repeat(3, axis=1)
    opposite = np.column_stack([np.arange(40) % 2, 1 - np.arange(40) % 2])

    overall, by_label = agreement(same, 4, seed=1)

    assert (overall.percent.value, overall.kappa.value, overall.alpha.value) == (1.0, 1.0, 1.0)
    assert [each.alpha.value for each in by_label] == [1.0] * 4
    assert cohen_kappa(confusion(opposite[:, 0], opposite[:, 1], 2)) == pytest.approx(-1.0)


# --- Where nothing can be said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        np.empty((0, 3), dtype=int),
        np.full((4, 3), MISSING),
        np.array([[0, MISSING], [MISSING, 1]]),
        np.array([[0], [1]]),
        np.empty((3, 0), dtype=int),
    ],
)
def test_without_two_answers_to_an_item_nothing_is_said(answers):
    overall, by_label = agreement(answers, 2, seed=1)

    assert (overall.items, overall.percent, overall.kappa, overall.alpha) == (0, *[Figure(None)] * 3)
    assert by_label == []
    assert pair_agreements(answers, 2, seed=1) == []
    assert label_pairs(answers, 2).sum() == 0
    counts = count_table(answers, 2)
    assert (fleiss_kappa(counts), krippendorff_alpha(counts), percent_agreement(counts)) == (None, None, None)


def test_one_label_alone_has_no_kappa_and_no_alpha():
    answers = np.zeros((5, 3), dtype=int)

    overall, by_label = agreement(answers, 2, seed=1)
    [pair, *_] = pair_agreements(answers, 2, seed=1)

    assert overall.percent == Figure(1.0)
    assert (overall.kappa, overall.alpha) == (Figure(None), Figure(None))
    assert [(each.label, each.kappa, each.alpha) for each in by_label] == [(0, Figure(None), Figure(None))]
    assert (pair.percent, pair.kappa, pair.alpha) == (Figure(1.0), Figure(None), Figure(None))
    assert cohen_kappa([[5, 0], [0, 0]]) is None
    assert cohen_kappa([[0, 0], [0, 0]]) is None


def test_a_single_item_has_no_interval():
    overall, _ = agreement([[0, 1, 1]], 2, seed=1)

    assert overall.percent.value == pytest.approx(1 / 3)
    assert overall.percent.low is None
    assert overall.alpha.low is None


def test_a_label_that_resamples_often_lack_has_no_interval():
    answers = np.zeros((50, 2), dtype=int)
    answers[0, 0] = 1  # more than a third of the resamples have nothing but 0

    overall, _ = agreement(answers, 2, seed=1)

    assert overall.alpha.value is not None
    assert overall.alpha.low is None
    assert overall.percent.low is not None


def test_answers_that_are_none_of_the_labels_are_refused():
    with pytest.raises(ValueError, match="between -1"):
        agreement([[0, 2]], 2, seed=1)
    with pytest.raises(ValueError, match="between -1"):
        count_table([[0, -2]], 2)
    with pytest.raises(ValueError, match="a row an item"):
        agreement([0, 1], 2, seed=1)
    with pytest.raises(ValueError, match="none is negative"):
        krippendorff_alpha([[-1, 3]])


# --- Intervals -------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_intervals_and_another_others():
    answers = random_answers(100, 3, 4)

    first, again, other = (agreement(answers, 4, seed=seed) for seed in (5, 5, 6))

    assert first == again
    assert first[0].alpha.value == other[0].alpha.value
    assert first[0].alpha.low != other[0].alpha.low


def test_intervals_hold_their_figure():
    answers = random_answers(80, 4, 5, missing=0.3)
    overall, by_label = agreement(answers, 5, seed=3)
    figures = [overall.percent, overall.kappa, overall.alpha]
    figures += [figure for each in by_label for figure in (each.percent, each.kappa, each.alpha)]
    for pair in pair_agreements(answers, 5, seed=3):
        figures += [pair.percent, pair.kappa, pair.alpha]

    for figure in figures:
        assert present(figure.low) < present(figure.value) < present(figure.high)


def test_resampling_patterns_is_resampling_items():
    answers = random_answers(150, 3, 3, missing=0.2)
    rng = np.random.default_rng(8)
    counts = count_table(answers, 3)
    drawn = [
        present(krippendorff_alpha(counts[rng.integers(0, len(counts), len(counts))])) for _ in range(2000)
    ]
    # Of the items with one answer none says anything; here they are drawn with the others.
    low, high = np.quantile(drawn, [0.025, 0.975])

    overall, _ = agreement(answers, 3, seed=1, replicates=4000)

    assert overall.alpha.low == pytest.approx(low, abs=0.02)
    assert overall.alpha.high == pytest.approx(high, abs=0.02)


def test_intervals_cover_the_truth_in_about_95_of_100_samples():
    covered = 0
    for seed in range(200):
        answers = random_answers(120, 3, 4, seed=seed)
        figure = agreement(answers, 4, seed=seed, replicates=300)[0].percent
        # Two answers agree if both are right, or if noise hits: 0.3 of each is uniform noise over four labels.
        right = 0.7 + 0.3 / 4
        truth = right**2 + 3 * (0.3 / 4) ** 2
        covered += present(figure.low) <= truth <= present(figure.high)

    assert 180 <= covered <= 199


def test_blocks_change_nothing_of_the_figures(monkeypatch):
    answers = random_answers(60, 3, 4)
    whole = agreement(answers, 4, seed=1), pair_agreements(answers, 4, seed=1)
    monkeypatch.setattr("review.agreement._AT_ONCE", 100)

    assert (agreement(answers, 4, seed=1)[0], pair_agreements(answers, 4, seed=1)[0].kappa) == (
        whole[0][0],
        whole[1][0].kappa,
    )


def test_patterns_that_do_not_fit_a_number_are_told_apart():
    answers = random_answers(40, 12, 196)  # 197 to the power of 12
    overall, _ = agreement(answers, 196, seed=1, replicates=10)

    assert overall.alpha.value == pytest.approx(krippendorff_alpha(count_table(answers, 196)), abs=EXACT)


# --- Confusion -------------------------------------------------------------------------------------------------------


def test_confusion_has_the_first_in_rows():
    counted = confusion([0, 0, 1, MISSING], [1, 0, MISSING, 1], 2)

    assert counted.tolist() == [[1, 1], [0, 0]]


def test_pairs_of_labels_count_every_two_answers_once():
    answers = [[0, 1, 1], [1, 0, MISSING], [2, 2, MISSING]]

    assert label_pairs(answers, 3).tolist() == [[0, 3, 0], [3, 1, 0], [0, 0, 1]]


def test_a_confusion_matrix_gives_the_figures_of_its_pair():
    answers = random_answers(90, 2, 4)
    [pair] = pair_agreements(answers, 4, seed=2)

    again = confusion_agreement(confusion(answers[:, 0], answers[:, 1], 4), seed=2)

    assert (again.kappa, again.alpha, again.percent) == (pair.kappa, pair.alpha, pair.percent)
    assert confusion_agreement(np.zeros((3, 3)), seed=1).kappa == Figure(None)


def test_pairs_with_most_items_come_first():
    answers = np.array([[0, 1, MISSING], [0, 1, 1], [1, 1, 1], [MISSING, 0, 0], [MISSING, 0, 1]])

    pairs = pair_agreements(answers, 2, seed=1)

    assert [(pair.first, pair.second, pair.items) for pair in pairs] == [(1, 2, 4), (0, 1, 3), (0, 2, 2)]


def test_a_hundred_thousand_items_take_a_second_or_two():
    answers = random_answers(100_000, 3, 10)
    started = time.perf_counter()

    overall, by_label = agreement(answers, 10, seed=1)
    pairs = pair_agreements(answers, 10, seed=1)

    assert time.perf_counter() - started < 4  # 0.1 s on an idle core
    assert overall.items == 100_000
    assert (len(by_label), len(pairs)) == (10, 3)
