import numpy as np
import pytest

from review.advice import (
    ENOUGH,
    GO_ON,
    LEAST_AT_THE_ENDS,
    LEAST_REVIEWED,
    RAISE,
    Expected,
    TooFew,
    errors_by_group,
    expected_errors,
    isotonic,
    reliability,
    verdict,
)


def reviewed(n: int = 400, seed: int = 0, power: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and errors where the true error probability is score ** power."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return scores, rng.random(n) < scores**power


class TestIsotonic:
    def test_it_rises_stays_in_range_and_has_steps(self):
        scores, wrong = reviewed()

        probs = isotonic(scores, wrong).error_probs(np.linspace(-1, 2, 500))

        assert np.all(np.diff(probs) >= 0)
        assert probs.min() >= 0
        assert probs.max() <= 1
        assert 2 < len(np.unique(probs)) < 100

    def test_it_finds_the_true_probabilities(self):
        scores, wrong = reviewed(20_000)
        at = np.linspace(0.1, 0.9, 9)

        assert np.abs(isotonic(scores, wrong).error_probs(at) - at**2).mean() < 0.03

    def test_it_holds_where_only_the_most_suspicious_were_reviewed(self):
        scores, wrong = reviewed(40_000)
        top = scores > 0.6
        at = np.linspace(0.65, 0.95, 7)

        assert np.abs(isotonic(scores[top], wrong[top]).error_probs(at) - at**2).mean() < 0.03

    def test_it_adds_up_to_the_errors_that_were_found(self):
        scores, wrong = reviewed()

        calibration = isotonic(scores, wrong)

        assert calibration.error_probs(scores).sum() == pytest.approx(wrong.sum())
        assert sum(step.errors for step in calibration.steps) == wrong.sum()
        assert calibration.reviewed == len(wrong)

    def test_only_the_order_of_scores_counts(self):
        scores, wrong = reviewed()

        plain = isotonic(scores, wrong).error_probs(scores)

        assert np.array_equal(
            plain, isotonic(np.exp(9 * scores) - 40, wrong).error_probs(np.exp(9 * scores) - 40)
        )

    def test_the_order_of_rows_does_not_matter(self):
        scores, wrong = reviewed()
        order = np.random.default_rng(1).permutation(len(scores))

        assert isotonic(scores, wrong) == isotonic(scores[order], wrong[order])

    def test_below_all_reviewed_it_is_the_lowest_step_and_says_that_it_is_a_bound(self):
        scores, wrong = reviewed()
        scores = 0.5 + scores / 2

        calibration = isotonic(scores, wrong)

        assert calibration.is_below([0.1, 0.4999, scores.min(), 0.8]).tolist() == [True, True, False, False]
        assert calibration.error_probs([0.0])[0] == calibration.steps[0].error_prob
        assert calibration.error_probs([9.0])[0] == calibration.steps[-1].error_prob

    def test_between_two_steps_it_is_the_higher(self):
        calibration = isotonic([0.2] * 20 + [0.8] * 20, [False] * 20 + [True] * 20)

        assert calibration.error_probs([0.2, 0.21, 0.5, 0.8]).tolist() == [0, 1, 1, 1]

    def test_the_ends_rest_on_enough_answers(self):
        # The lowest three were right and the highest three wrong, by luck; those between are half and half.
        wrong = [False] * 3 + [True, False] * 40 + [True] * 3

        steps = isotonic(np.arange(len(wrong)), wrong).steps

        assert steps[0].reviewed >= LEAST_AT_THE_ENDS
        assert steps[-1].reviewed >= LEAST_AT_THE_ENDS
        assert steps[0].error_prob > 0
        assert steps[-1].error_prob < 1

    @pytest.mark.parametrize(("wrong", "prob"), [(True, 1.0), (False, 0.0)])
    def test_all_wrong_or_all_right_is_one_step(self, wrong, prob):
        calibration = isotonic(np.linspace(0, 1, 60), [wrong] * 60)

        assert [(step.reviewed, step.error_prob) for step in calibration.steps] == [(60, prob)]

    def test_equal_scores_are_one_step(self):
        calibration = isotonic([0.3] * 40, [True] * 10 + [False] * 30)

        assert calibration.error_probs([0.1, 0.3, 0.9]).tolist() == [0.25] * 3

    @pytest.mark.parametrize("n", [0, 1, LEAST_REVIEWED - 1])
    def test_too_few_answers_are_said_to_be_too_few(self, n):
        with pytest.raises(TooFew, match=f"{n} answer.* at least 20"):
            isotonic([0.5] * n, [True] * n)

    @pytest.mark.parametrize(
        ("scores", "wrong"),
        [
            ([np.nan] * 30, [True] * 30),
            ([np.inf] * 30, [True] * 30),
            ([0.5] * 30, [True] * 29),
            ([[0.5] * 30], [[True] * 30]),
            ([0.5] * 30, [2] * 30),
        ],
    )
    def test_what_is_no_data_is_refused(self, scores, wrong):
        for act in (isotonic, reliability):
            with pytest.raises(ValueError, match=r"Scores (must|and errors must)|true or false"):
                act(scores, wrong)


class TestExpectedErrors:
    def test_the_interval_holds_as_often_as_it_says(self):
        """Fitted on 200 random items, tried on 100 others, 400 times."""
        held = 0
        for seed in range(400):
            scores, wrong = reviewed(300, seed)
            expected = expected_errors(
                isotonic(scores[:200], wrong[:200]), np.maximum(scores[200:], scores[:200].min())
            )
            assert not expected.is_bound
            held += expected.low <= wrong[200:].sum() <= expected.high
        assert held / 400 > 0.92

    def test_below_all_reviewed_it_is_an_upper_bound(self):
        """The 100 after the 200 most suspicious: never above the interval much oftener than in one of 40 cases."""
        above = over = 0
        for seed in range(400):
            scores, wrong = reviewed(1000, seed)
            order = np.argsort(-scores)
            expected = expected_errors(
                isotonic(scores[order[:200]], wrong[order[:200]]), scores[order[200:300]]
            )
            assert expected.is_bound
            assert expected.low == 0
            above += wrong[order[200:300]].sum() > expected.high
            over += expected.errors > wrong[order[200:300]].sum()
        assert above / 400 < 0.025 + 0.02
        assert over / 400 > 0.6

    def test_no_error_among_many_leaves_room_for_some(self):
        expected = expected_errors(isotonic([0.5] * 30, [False] * 30), [0.5] * 100)

        assert (expected.errors, expected.low) == (0, 0)
        assert 3 < expected.high < 15

    def test_many_items_are_counted_like_few(self):
        calibration = isotonic(*reviewed())
        scores = reviewed(1000, 1)[0]
        few, many = expected_errors(calibration, scores), expected_errors(calibration, np.append(scores, 1.0))

        assert many.errors == pytest.approx(few.errors + calibration.steps[-1].error_prob)
        assert abs(many.low - few.low) < 8
        assert abs(many.high - few.high) < 8

    def test_a_million_items_are_no_trouble(self):
        expected = expected_errors(isotonic(*reviewed()), np.random.default_rng(1).random(1_000_000))

        assert 0 < expected.low < expected.errors < expected.high < 1_000_000

    def test_no_items_find_nothing(self):
        assert expected_errors(isotonic(*reviewed()), []) == Expected(0, 0.0, 0, 0, is_bound=False)

    def test_nan_is_refused(self):
        with pytest.raises(ValueError, match="finite"):
            expected_errors(isotonic(*reviewed()), [0.5, np.nan])

    def test_it_is_said_in_words(self):
        assert Expected(100, 23.4, 15, 32, is_bound=False).sentence("The next 100 reviews") == (
            "The next 100 reviews should find about 23 errors (between 15 and 32)."
        )
        assert "at most about 1 error (" in Expected(100, 1.2, 0, 3, is_bound=True).sentence("They")


class TestReliability:
    def test_bins_hold_as_many_each_and_cover_all(self):
        scores, wrong = reviewed(503)

        bins = reliability(scores, wrong)

        assert [each.reviewed for each in bins] == [50, 50, 50, 51, 50, 50, 51, 50, 50, 51]
        assert sum(each.errors for each in bins) == wrong.sum()
        assert all(each.low <= each.mean <= each.high for each in bins)
        assert all(each.share_low <= each.share <= each.share_high for each in bins)
        assert [each.mean for each in bins] == sorted(each.mean for each in bins)

    def test_equal_scores_are_never_parted(self):
        scores = np.repeat([0.1, 0.2, 0.9], [40, 5, 55])

        bins = reliability(scores, scores > 0.5)

        assert [(each.low, each.high, each.reviewed) for each in bins] == [(0.1, 0.1, 40), (0.2, 0.9, 60)]

    def test_one_score_is_one_bin(self):
        (only,) = reliability([0.3] * 100, [True] * 30 + [False] * 70)

        assert (only.mean, only.share, only.reviewed) == (0.3, 0.3, 100)

    @pytest.mark.parametrize(("n", "bins"), [(0, 0), (1, 1), (9, 1), (10, 2), (49, 9), (50, 10), (1000, 10)])
    def test_few_items_make_few_bins(self, n, bins):
        assert len(reliability(np.arange(n), [False] * n)) == bins


class TestErrorsByGroup:
    def test_the_last_group_may_be_shorter(self):
        groups = errors_by_group([True] * 60 + [False] * 60)

        assert [(g.first, g.last, g.errors, g.reviewed, g.is_whole) for g in groups] == [
            (1, 50, 50, 50, True),
            (51, 100, 10, 50, True),
            (101, 120, 0, 20, False),
        ]

    def test_nothing_makes_no_group(self):
        assert errors_by_group([]) == []


def found(errors: float, reviews: int = 100, *, is_bound: bool = False) -> Expected:
    return Expected(reviews, errors, 0, reviews, is_bound)


class TestVerdict:
    @pytest.mark.parametrize(
        ("left", "ahead", "beyond", "advice"),
        [
            (300, found(30), found(20), GO_ON),
            (300, found(4), found(3), ENOUGH),
            (300, found(5), found(0), GO_ON),
            (40, found(10, 40), found(20), RAISE),
            (40, found(10, 40), found(2), GO_ON),
            (40, found(10, 40), found(0, 0), GO_ON),
            (0, found(0, 0), found(20), RAISE),
            (0, found(0, 0), found(4.9), ENOUGH),
            (0, found(0, 0), found(0, 0), ENOUGH),
        ],
    )
    def test_what_is_worth_its_while(self, left, ahead, beyond, advice):
        assert (
            verdict(left=left, ahead=ahead, beyond=beyond, at_random=None, review_price=0.08).advice == advice
        )

    def test_the_reason_says_what_an_error_costs(self):
        reason = verdict(
            left=0, ahead=found(0, 0), beyond=found(20), at_random=0.02, review_price=0.08
        ).reason

        assert "About 20 in 100 reviews beyond the budget find an error: $0.40 for each." in reason
        assert "Random review of what is left would find about 2 in 100" in reason

    def test_an_upper_bound_is_said_to_be_one(self):
        reason = verdict(
            left=0, ahead=found(0, 0), beyond=found(20, is_bound=True), at_random=None, review_price=0.08
        ).reason

        assert "At most about 20 in 100" in reason
        assert "at least $0.40" in reason
        assert "small steps" in reason

    def test_an_order_that_is_no_better_than_chance_is_said_to_be_so(self):
        reason = verdict(left=300, ahead=found(20), beyond=found(20), at_random=0.19, review_price=0).reason

        assert "hardly helps" in reason
        assert "$" not in reason
