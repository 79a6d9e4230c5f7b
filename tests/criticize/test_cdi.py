import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from criticize import combination
from criticize.cdi import MIN_KNOWN, CdiDetector, out_of_fold
from criticize.combination import Combination, rank_shares
from criticize.metrics import area_under_budget_sensitivity

N_LABELS = 3


def found_by(priority, is_error) -> float:
    """ABS, which is 0.5 for a random order."""
    found = area_under_budget_sensitivity(priority, is_error)
    assert found is not None
    return found


def annotator(n, seed=0):
    """(confidence, label, is_error) of an annotator that knows how sure it is, except of label 2."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_LABELS, n)
    confidence = rng.beta(6, 2, n).round(2)
    wrong = np.where(labels == 2, 0.6, 0.9 * (1 - confidence))
    return confidence, labels, rng.random(n) < wrong


# Rows with ties, gaps, and both kinds of outcome; few, as a first round of reviews gives.
rows = st.lists(
    st.tuples(
        st.one_of(st.just(np.nan), st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        st.integers(0, N_LABELS - 1),
        st.booleans(),
    ),
    min_size=MIN_KNOWN,
    max_size=40,
).filter(lambda drawn: 2 <= sum(row[2] for row in drawn) <= len(drawn) - 2)


def columns(drawn):
    confidence, labels, is_error = zip(*drawn, strict=True)
    return np.array(confidence, dtype=float), np.array(labels), np.array(is_error)


def detector(drawn, seed=0):
    return CdiDetector(seed).fit(*columns(drawn), n_labels=N_LABELS)


# --- CDI -------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_probabilities_lie_in_range_and_do_not_depend_on_the_order_of_rows(drawn, shuffler):
    confidence, labels, _ = columns(drawn)
    shuffled = list(drawn)
    shuffler.shuffle(shuffled)

    probabilities = detector(drawn).error_probabilities(confidence, labels)

    assert probabilities.shape == (len(drawn),)
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    assert np.array_equal(detector(shuffled).error_probabilities(confidence, labels), probabilities)
    assert np.array_equal(
        detector(drawn).error_probabilities(confidence[::-1], labels[::-1]), probabilities[::-1]
    )


def test_annotations_that_say_the_same_are_judged_the_same():
    confidence, labels, is_error = annotator(100)
    fitted = CdiDetector(1).fit(confidence, labels, is_error, n_labels=N_LABELS)

    a, b, c, d = fitted.error_probabilities([0.7, 0.7, np.nan, np.nan], [1, 1, 2, 2])

    assert (a, c) == (b, d)


@pytest.mark.parametrize("known", [30, 100, 200])
def test_errors_are_found_better_than_by_chance(known):
    found = []
    for seed in range(5):
        confidence, labels, is_error = annotator(2_000, seed)
        fitted = CdiDetector(seed).fit(
            confidence[:known], labels[:known], is_error[:known], n_labels=N_LABELS
        )
        found.append(
            found_by(fitted.error_probabilities(confidence[known:], labels[known:]), is_error[known:])
        )

    assert np.mean(found) > 0.55


def test_a_label_that_the_annotator_is_wrongly_sure_of_is_learned():
    confidence, labels, is_error = annotator(300)
    fitted = CdiDetector().fit(confidence, labels, is_error, n_labels=N_LABELS)

    sure_of_0, sure_of_2 = fitted.error_probabilities([0.95, 0.95], [0, 2])

    assert sure_of_2 > sure_of_0 + 0.2
    assert fitted.importances["label"] > fitted.importances["confidence_missing"] == 0
    assert sum(fitted.importances.values()) == pytest.approx(1)


def test_without_any_confidence_the_labels_alone_are_learned_from():
    _, labels, is_error = annotator(300)
    nothing = np.full(300, np.nan)
    fitted = CdiDetector().fit(nothing, labels, is_error, n_labels=N_LABELS)

    of_0, of_2 = fitted.error_probabilities([np.nan, np.nan], [0, 2])

    assert of_2 > of_0


def test_a_label_or_a_gap_never_met_is_judged_all_the_same():
    confidence, _, is_error = annotator(50)
    fitted = CdiDetector().fit(confidence, np.zeros(50, dtype=int), is_error, n_labels=N_LABELS)

    probabilities = fitted.error_probabilities([np.nan, 0.5], [2, 1])

    assert np.all((probabilities > 0) & (probabilities < 1))


def test_where_all_say_the_same_the_share_of_errors_is_learned():
    is_error = np.arange(40) % 4 == 0
    fitted = CdiDetector().fit(np.full(40, 0.8), np.zeros(40, dtype=int), is_error, n_labels=1)

    assert fitted.error_probabilities([0.8], [0]) == pytest.approx([0.25], abs=0.01)
    assert fitted.importances == {"confidence": 0, "confidence_missing": 0, "label": 0}
    assert len(fitted.error_probabilities([], [])) == 0


@pytest.mark.parametrize(
    ("is_error", "sentence"),
    [
        ([True, False] * 4, "at least 10"),
        ([False] * 12, "None of the 12 known annotations is wrong"),
        ([True] * 12, "All of the 12 known annotations are wrong"),
        ([0.5] * 12, "yes and no"),
    ],
)
def test_too_little_to_learn_from_is_refused(is_error, sentence):
    n = len(is_error)
    confidence, labels = np.linspace(0, 1, n), np.zeros(n, dtype=int)

    with pytest.raises(ValueError, match=sentence):
        CdiDetector().fit(confidence, labels, is_error, n_labels=2)
    with pytest.raises(ValueError, match=sentence):
        out_of_fold(confidence, labels, is_error)
    with pytest.raises(ValueError, match=sentence):
        Combination().fit(confidence, confidence, is_error)
    with pytest.raises(ValueError, match=sentence):
        combination.out_of_fold(confidence, confidence, is_error)


@pytest.mark.parametrize(
    ("confidence", "labels", "sentence"),
    [
        ([1.5] * 12, [0] * 12, "between 0 and 1"),
        ([np.inf] * 12, [0] * 12, "between 0 and 1"),
        ([0.5] * 12, [2] * 12, "between 0 and 1"),
        ([0.5] * 12, [-1] * 12, "between 0 and 1"),
        ([0.5] * 12, [0.0] * 12, "whole-number label index"),
        ([0.5] * 12, [0] * 11, "whole-number label index"),
        ([0.5] * 11, [0] * 11, "whether it is wrong"),
    ],
)
def test_rows_that_do_not_fit_are_refused(confidence, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        CdiDetector().fit(confidence, labels, [True, False] * 6, n_labels=2)


def test_a_detector_that_learned_nothing_judges_nothing():
    with pytest.raises(ValueError, match="fitted first"):
        CdiDetector().error_probabilities([0.5], [0])
    with pytest.raises(ValueError, match="fitted first"):
        Combination().combine([0.5], [0.5])


# --- Cross-fitting ---------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(rows, st.integers(2, 6), st.integers(0, 2**31 - 1))
def test_out_of_fold_probabilities_are_repeatable_and_in_range(drawn, folds, seed):
    confidence, labels, is_error = columns(drawn)

    of_cdi = out_of_fold(confidence, labels, is_error, folds, seed, n_labels=N_LABELS)
    of_both = combination.out_of_fold(labels / N_LABELS, confidence, is_error, folds, seed)

    for probabilities in (of_cdi, of_both):
        assert probabilities.shape == (len(drawn),)
        assert np.all((probabilities >= 0) & (probabilities <= 1))
    assert np.array_equal(out_of_fold(confidence, labels, is_error, folds, seed, n_labels=N_LABELS), of_cdi)
    assert np.array_equal(
        combination.out_of_fold(labels / N_LABELS, confidence, is_error, folds, seed), of_both
    )


def test_out_of_fold_probabilities_do_not_depend_on_the_order_of_rows():
    confidence = np.random.default_rng(0).random(60)  # no two alike
    _, labels, is_error = annotator(60)
    order = np.random.default_rng(1).permutation(60)

    of_cdi = out_of_fold(confidence, labels, is_error)
    of_both = combination.out_of_fold(1 - confidence, confidence, is_error)

    assert np.array_equal(out_of_fold(confidence[order], labels[order], is_error[order]), of_cdi[order])
    assert np.array_equal(
        combination.out_of_fold(1 - confidence[order], confidence[order], is_error[order]), of_both[order]
    )


def test_what_is_held_out_is_not_seen():
    # Each row can be learned by heart from its label alone: in fold order would be perfect, out of fold is chance.
    n = 60
    labels = np.arange(n)
    is_error = np.random.default_rng(3).random(n) < 0.5
    confidence = np.full(n, 0.5)

    probabilities = out_of_fold(confidence, labels, is_error)

    assert found_by(probabilities, is_error) < 0.6


def test_one_error_is_too_few_to_hold_out():
    is_error = np.arange(20) == 0

    with pytest.raises(ValueError, match="At least two wrong and two right"):
        out_of_fold(np.full(20, 0.5), np.zeros(20, dtype=int), is_error)
    with pytest.raises(ValueError, match="two folds"):
        out_of_fold(np.full(20, 0.5), np.zeros(20, dtype=int), np.arange(20) < 5, folds=1)


# --- Criticizer and confidence together ------------------------------------------------------------------------------


def two_signals(n, seed):
    """(ε̂, confidence, is_error) where both tell something of their own."""
    rng = np.random.default_rng(seed)
    doubt, sureness = rng.normal(size=n), rng.normal(size=n)
    is_error = rng.random(n) < 1 / (1 + np.exp(1.5 - 1.5 * doubt + 1.5 * sureness))
    return 1 / (1 + np.exp(-doubt)), 1 / (1 + np.exp(-sureness)), is_error


@settings(max_examples=40, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_combined_probabilities_lie_in_range_and_do_not_depend_on_the_order_of_rows(drawn, shuffler):
    def fitted(given_rows):
        confidence, labels, is_error = columns(given_rows)
        return Combination().fit(labels / (N_LABELS - 1), confidence, is_error)

    confidence, labels, _ = columns(drawn)
    priority = labels / (N_LABELS - 1)  # 0 and 1 among them, whose log-odds would be infinite
    shuffled = list(drawn)
    shuffler.shuffle(shuffled)

    combined = fitted(drawn).combine(priority, confidence)

    assert combined.shape == (len(drawn),)
    assert np.all((combined >= 0) & (combined <= 1))
    assert np.array_equal(fitted(shuffled).combine(priority, confidence), combined)
    assert fitted(drawn).combine(priority[:1], confidence[:1])[0] == combined[0]


@pytest.mark.parametrize("as_ranks", [False, True])
def test_both_together_find_more_than_either(as_ranks):
    together, by_priority, by_confidence = [], [], []
    for seed in range(5):
        priority, confidence, is_error = two_signals(3_000, seed)
        given_priority = rank_shares(7 * priority - 3) if as_ranks else priority
        known, rest = slice(0, 150), slice(150, None)
        fitted = Combination().fit(given_priority[known], confidence[known], is_error[known])
        combined = fitted.combine(given_priority[rest], confidence[rest])
        together.append(found_by(combined, is_error[rest]))
        by_priority.append(found_by(priority[rest], is_error[rest]))
        by_confidence.append(found_by(1 - confidence[rest], is_error[rest]))

    assert np.mean(together) > max(np.mean(by_priority), np.mean(by_confidence)) + 0.03


def test_coefficients_say_what_counts():
    fitted = Combination().fit(*two_signals(500, 0))

    assert set(fitted.coefficients) == {"intercept", "priority", "confidence", "confidence_missing"}
    assert fitted.coefficients["priority"] > 0 > fitted.coefficients["confidence"]
    assert fitted.coefficients["confidence_missing"] == 0


def test_without_confidence_the_priority_orders():
    priority, _, is_error = two_signals(200, 0)
    combined = Combination().fit(priority, np.full(200, np.nan), is_error).combine(priority, [np.nan] * 200)

    assert np.array_equal(np.argsort(combined, kind="stable"), np.argsort(priority, kind="stable"))


def test_where_all_say_the_same_all_are_as_suspicious():
    is_error = np.arange(40) % 4 == 0
    combined = Combination().fit([0.3] * 40, [0.8] * 40, is_error).combine([0.3] * 3, [0.8] * 3)

    assert combined == pytest.approx([0.25] * 3, abs=0.01)


@pytest.mark.parametrize(
    ("priority", "confidence", "sentence"),
    [
        ([2.0] * 12, [0.5] * 12, "shares of an order"),
        ([np.nan] * 12, [0.5] * 12, "NaN is none"),
        ([0.5] * 12, [-0.1] * 12, "between 0 and 1"),
        ([0.5] * 11, [0.5] * 12, "one priority and one confidence"),
        ([0.5] * 11, [0.5] * 11, "whether it is wrong"),
    ],
)
def test_signals_that_do_not_fit_are_refused(priority, confidence, sentence):
    with pytest.raises(ValueError, match=sentence):
        Combination().fit(priority, confidence, [True, False] * 6)


def test_an_order_as_shares():
    assert rank_shares([5, -2, 5, 80]).tolist() == [0.5, 0.125, 0.5, 0.875]
    assert len(rank_shares([])) == 0
    with pytest.raises(ValueError, match="finite"):
        rank_shares([1, np.nan])
