from collections.abc import Sequence

import pytest

from criticize.leaderboard import Tally, leaderboard
from criticize.recommendation import Candidate, Pair, Recommendation, recommend


def candidates(*rows):
    """Rows are (model, strategy, right of 100) with a cost at the end where one matters."""
    tallies = {
        number: Tally(
            number, f"{model} · {strategy}" if strategy else model, 100, right, cost=next(iter(cost), None)
        )
        for number, (model, strategy, right, *cost) in enumerate(rows)
    }
    return [
        Candidate(score, rows[score.tally.key][0], rows[score.tally.key][0], rows[score.tally.key][1])
        for score in leaderboard(list(tallies.values()))
    ]


def pair(annotator, criticizer, abs, *, strategy="cot", spread=0.01, name=""):
    return Pair(
        annotator,
        f"annotator {annotator}",
        criticizer,
        strategy,
        name or criticizer,
        abs,
        abs - spread,
        abs + spread,
    )


def reasons(recommendation):
    return " ".join(recommendation.reasons)


def recommended(found: Sequence[Candidate], pairs: Sequence[Pair] = ()) -> Recommendation:
    advice = recommend(found, pairs)
    assert advice is not None
    return advice


def test_without_candidates_nothing_is_recommended():
    assert recommend([]) is None


def test_the_most_accurate_annotates_and_the_best_other_model_criticizes():
    advice = recommended(
        candidates(("large", "cot", 95), ("large", "naive", 93), ("mid", "cot", 80), ("small", "cot", 60))
    )

    assert (advice.annotator.model, advice.annotator_strategy) == ("large", "cot")
    assert advice.criticizer is not None
    assert (advice.criticizer.model, advice.criticizer_strategy) == ("mid", "cot")
    assert not advice.is_self_criticism
    assert advice.is_established
    assert "Its interval lies above those of the other models" in reasons(advice)
    assert advice.grid == ""


def test_overlapping_intervals_leave_the_order_open():
    advice = recommended(candidates(("large", "cot", 90), ("mid", "cot", 86), ("small", "cot", 40)))

    assert not advice.is_established
    assert "The interval of mid overlaps with it, so the order is not established" in reasons(advice)


def test_equal_accuracy_is_said_and_the_cheaper_one_annotates():
    advice = recommended(candidates(("dear", "cot", 90, 2.0), ("cheap", "cot", 90, 1.0)))

    assert advice.annotator.model == "cheap"
    assert advice.criticizer is not None
    assert advice.criticizer.model == "dear"
    assert not advice.is_established
    assert "dear is exactly as accurate" in reasons(advice)


def test_one_model_criticizes_itself():
    advice = recommended(candidates(("only", "naive", 80), ("only", "cot", 85)))

    assert advice.criticizer is advice.annotator
    assert advice.is_self_criticism
    assert "only is the only model that was tried" in reasons(advice)
    assert "criticizes itself" in reasons(advice)


def test_a_model_is_judged_with_cot_where_that_was_tried_and_a_better_strategy_is_mentioned():
    advice = recommended(candidates(("a", "cot", 50), ("a", "naive", 99), ("b", "cot", 80)))

    assert advice.annotator.model == "b"
    assert advice.criticizer is not None
    assert advice.criticizer.model == "a"
    assert "a · naive was more accurate than b · cot (99.0% against 80.0%" in reasons(advice)

    advice = recommended(candidates(("a", "cot", 82), ("a", "naive", 99), ("b", "cot", 80)))

    assert advice.annotator.name == "a · cot"
    assert (
        "a · naive was more accurate than a · cot (99.0% against 82.0%, and the intervals do not overlap)"
        in reasons(advice)
    )


def test_without_a_try_of_cot_it_says_to_make_one():
    advice = recommended(candidates(("a", "naive", 90)))

    assert advice.annotator_strategy == "cot"
    assert "try it with cot before you trust this" in reasons(advice)


def test_the_trained_pair_alone_is_no_self_criticism():
    advice = recommended(candidates(("trained", "", 70)))

    assert advice.criticizer is advice.annotator
    assert (advice.annotator_strategy, advice.criticizer_strategy) == ("", "")
    assert not advice.is_self_criticism
    assert "a classifier of another family" in reasons(advice)
    assert "cot" not in reasons(advice)


def test_a_vote_annotates_but_does_not_criticize():
    vote, single = candidates(("vote", "", 95), ("a", "cot", 90))
    vote = Candidate(vote.score, "vote", "vote of 3 annotators", "", can_criticize=False)

    advice = recommended([vote, single])
    assert advice.criticizer is not None
    assert (advice.annotator.model, advice.criticizer.model) == ("vote", "a")

    alone = recommended([vote])
    assert alone.criticizer is None
    assert "Nobody is left to criticize" in reasons(alone)


# --- What the grid adds ----------------------------------------------------------------------------------------------

TWO = (("a", "cot", 90), ("b", "cot", 60))


def test_the_grid_agrees_and_by_how_much():
    advice = recommended(candidates(*TWO), [pair(0, "b", 0.9), pair(0, "a", 0.8)])

    assert "The grid agrees" in advice.grid
    assert "(ABS 0.900, 0.100 ahead of the next)" in advice.grid


@pytest.mark.parametrize(
    ("spread", "sure"),
    [(0.01, "the intervals do not overlap"), (0.06, "the intervals overlap, so this may be chance")],
)
def test_the_grid_disagrees_and_says_how_surely(spread, sure):
    pairs = [
        pair(0, "b", 0.8, spread=spread),
        pair(0, "b", 0.9, strategy="devil", name="b · devil", spread=spread),
    ]

    advice = recommended(candidates(*TWO), pairs)

    assert (
        "does not agree: b · devil finds this annotator's errors sooner (ABS 0.900 against 0.800, 0.100 more)"
        in advice.grid
    )
    assert sure in advice.grid


def test_a_higher_figure_for_another_annotator_is_named_with_its_caveat():
    advice = recommended(candidates(*TWO), [pair(0, "b", 0.8), pair(1, "a", 0.95)])

    assert "The grid agrees" in advice.grid
    assert "Of all pairs the highest is a on the labels of annotator 1 (ABS 0.950)" in advice.grid


def test_an_unmeasured_pair_is_said_to_be_unmeasured():
    advice = recommended(candidates(*TWO), [pair(0, "a", 0.7)])

    assert advice.grid.startswith(
        "The recommended pair is not measured yet. Of the measured pairs the best is a on"
    )


def test_a_single_measured_pair_is_no_agreement():
    advice = recommended(candidates(*TWO), [pair(0, "b", 0.7)])

    assert advice.grid == "The recommended pair is the only one measured so far (ABS 0.700)."
