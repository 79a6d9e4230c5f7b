"""What reviewers see, measured: counts by arm, intervals, and what is said with few known items."""

import numpy as np
import pytest
from django.urls import reverse
from statsmodels.stats.proportion import confint_proportions_2indep

from review.acceptance import Share, difference, in_a_sentence, items_needed, median_interval
from review.display_arms import display_arms, display_context
from review.models import ReviewRound, ReviewTask
from tests.api.caller import call
from tests.factories import (
    label_named,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_items,
    make_reviewable_round,
    make_round,
)
from tests.present import present
from tests.review.turns import items_of, make_adjudication, make_labeled_round, make_people, make_turn
from tests.span_answers import make_span_item, make_span_project, make_span_run, span_of
from tests.written_answers import make_written_round

Arm = ReviewTask.Arm
Purpose = ReviewTask.Purpose


# --- Figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [((30, 100), (10, 90)), ((1, 5), (0, 9)), ((7, 7), (0, 3))])
def test_the_difference_is_that_of_statsmodels(one, other):
    ours = present(difference(Share(*one), Share(*other)))
    low, high = confint_proportions_2indep(*one, *other, method="newcomb", compare="diff")

    assert ours.value == pytest.approx(one[0] / one[1] - other[0] / other[1])
    assert ours.low == pytest.approx(low, abs=1e-6)
    assert ours.high == pytest.approx(high, abs=1e-6)


def test_nothing_is_compared_with_an_empty_group():
    assert difference(Share(1, 2), Share(0, 0)) is None
    assert (Share(0, 0).value, Share(0, 0).low, Share(0, 0).high) == (None, None, None)


def test_so_many_items_are_needed_that_the_interval_is_narrow_enough():
    needed = items_needed(0.1)

    found = present(difference(Share(needed // 2, needed), Share(needed // 2, needed)))

    assert needed == 193
    assert found.high <= 0.1 < present(difference(Share(45, 90), Share(45, 90))).high
    with pytest.raises(ValueError, match="between 0 and 1"):
        items_needed(0)


def test_the_interval_of_the_median_covers_it():
    rng = np.random.default_rng(4)
    found = [present(median_interval(rng.exponential(size=60))) for _ in range(400)]
    covered = sum(low <= np.log(2) <= high for low, _, high in found)

    assert covered >= 380
    assert median_interval([]) is None
    assert median_interval([3.0]) == (3.0, 3.0, 3.0)
    assert median_interval([1.0, 2.0, 9.0]) == (1.0, 2.0, 9.0)


def test_with_few_known_items_the_sentence_says_how_many_are_missing():
    sentence = in_a_sentence(Share(3, 9), Share(1, 3))

    assert sentence.startswith("Too early to say: 9 answers")
    assert "About 190 of each" in sentence
    assert "one of the two is still empty" in in_a_sentence(Share(3, 9), Share(0, 0))


@pytest.mark.parametrize(
    ("shown", "blind", "said"),
    [
        ((150, 300), (60, 300), "30 points more often (between +23 and +37)"),
        ((60, 300), (150, 300), "makes people look twice"),
        ((100, 300), (98, 300), "no clear difference"),
        ((40, 50), (5, 50), "it sways people"),  # clear although few
    ],
)
def test_the_sentence_says_what_the_interval_says(shown, blind, said):
    assert said in in_a_sentence(Share(*shown), Share(*blind))


# --- What is counted -------------------------------------------------------------------------------------------------


@pytest.fixture
def round(db) -> ReviewRound:
    """Eight items that the machine calls negative: four are positive, two negative, of two nothing is known."""
    round = make_labeled_round(items=8, display="random")
    for item, gold in zip(items_of(round), ["positive"] * 4 + ["negative"] * 2, strict=False):
        item.gold = label_named(round.project, gold)
        item.save()
    return round


def test_answers_are_counted_by_arm(round):
    ann, bob = make_people(round.project, "ann", "bob")
    items = items_of(round)
    make_turn(round, items[0], ann, "negative", arm=Arm.LABEL, seconds=2.0)
    make_turn(round, items[1], ann, "positive", arm=Arm.LABEL, seconds=6.0)
    make_turn(round, items[2], ann, "positive", arm=Arm.BLIND, seconds=None)
    make_turn(round, items[4], ann, "positive", arm=Arm.BLIND, seconds=5.0)
    make_turn(round, items[5], bob, "negative", arm=Arm.CRITICISM)
    make_turn(round, items[6], bob, "positive", arm=Arm.CRITICISM)  # nobody knows
    make_turn(round, items[3], bob, "", arm=Arm.CRITICISM)

    found = display_arms(round.project, round)

    criticism, label, blind = found.arms
    assert [arm.arm for arm in found.arms] == ["criticism", "label", "blind"]
    assert (criticism.answers, criticism.accepted, criticism.changed) == (2, Share(0, 0), Share(0, 1))
    assert (label.answers, label.accepted, label.changed) == (2, Share(1, 2), Share(0, 0))
    assert (blind.answers, blind.accepted, blind.changed) == (2, Share(0, 1), Share(1, 1))
    assert label.seconds == (2.0, 4.0, 6.0)
    assert blind.seconds == (5.0, 5.0, 5.0)
    assert (found.shown, found.blind, found.known_wrong) == (Share(1, 2), Share(0, 1), 3)
    assert found.is_randomised
    assert found.sentence.startswith("Too early to say")


def test_known_items_count_and_adjudications_do_not(round):
    ann, bob, mona = make_people(round.project, "ann", "bob", "mona")
    first, second, *_ = items_of(round)
    make_turn(round, first, ann, "negative", purpose=Purpose.GOLD)
    make_turn(round, second, ann, "negative")
    make_turn(round, second, bob, "positive")
    decision = make_adjudication(round, second)
    task = make_turn(round, items_of(round)[2], mona, "negative")
    ReviewTask.objects.filter(pk=decision.pk).update(state="answered", correction=task.correction_id)

    assert display_arms(round.project).shown == Share(3, 4)


def test_calibration_labels_are_the_truth_and_calibration_rounds_are_left_out(round):
    ann, *_ = make_people(round.project, "ann")
    unknown = items_of(round)[7]
    make_calibration_label(unknown, "positive")
    make_turn(round, unknown, ann, "negative")
    fresh = make_items(round.project, 1)
    calibration = make_calibration_round(round.project, 1)
    make_turn(calibration, fresh[0], ann, "negative")

    found = display_arms(round.project)

    assert (found.answers, found.shown) == (1, Share(1, 1))


def test_rounds_whose_arms_hold_different_items_are_not_randomised(round):
    ann, *_ = make_people(round.project, "ann")
    make_turn(round, items_of(round)[0], ann, "negative")
    ReviewRound.objects.update(display="label")

    assert not display_arms(round.project).is_randomised


def test_without_answers_everything_is_empty(round):
    found = display_arms(round.project)

    assert (found.answers, found.known_wrong, found.difference) == (0, 0, None)
    assert all(arm.seconds is None for arm in found.arms)
    assert "one of the two is still empty" in found.sentence


# --- Spans ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def span_round(db) -> ReviewRound:
    """What the machine says of items whose answer is Seehausen, or the Weser; then of one without an answer in its text
    and of one of which nothing is known."""
    project = make_span_project()
    answers = {
        make_span_item(project, "Seehausen"): "the Weser",
        make_span_item(project, "Seehausen", "the Weser"): "Seehausen",
        make_span_item(project): "",
        make_span_item(project, "Seehausen"): "",
        make_span_item(project, "Seehausen"): None,
        make_span_item(project, known=False): "Seehausen",
    }
    round = make_round(make_criticism_run(make_span_run(project, answers)), 6)
    ReviewRound.objects.filter(pk=round.pk).update(display="random")
    round.refresh_from_db()
    return round


def answer_span(round: ReviewRound, number: int, answer: str, arm: str) -> None:
    """An answer to the project's item with this number, by somebody who saw what `arm` shows."""
    item = round.project.items.order_by("pk")[number]
    task = round.tasks.get(item=item)
    span = span_of(item.text, answer)
    correction = task.corrections.create(author=round.created_by, action="label", seconds=3.0, **span)
    ReviewTask.objects.filter(pk=task.pk).update(
        state="answered", arm=arm, correction=correction, holder=round.created_by
    )


@pytest.mark.parametrize(
    ("number", "answer", "accepted", "changed"),
    [
        (0, "Weser", Share(1, 1), Share(0, 0)),  # the same but for its article
        (0, "Seehausen", Share(0, 1), Share(0, 0)),
        (0, "", Share(0, 1), Share(0, 0)),
        (1, "Seehausen", Share(0, 0), Share(0, 1)),
        (1, "the Weser", Share(0, 0), Share(0, 1)),  # another one, and right too
        (1, "260 km", Share(0, 0), Share(1, 1)),
        (2, "", Share(0, 0), Share(0, 1)),
        (2, "Seehausen", Share(0, 0), Share(1, 1)),
        (3, "", Share(1, 1), Share(0, 0)),  # that there is none was wrong, and is said again
        (5, "Seehausen", Share(0, 0), Share(0, 0)),
    ],
)
def test_spans_are_the_same_by_exact_match(span_round, number, answer, accepted, changed):
    answer_span(span_round, number, answer, Arm.CRITICISM)

    arm, _, blind = display_arms(span_round.project, span_round).arms

    assert (arm.answers, arm.accepted, arm.changed) == (1, accepted, changed)
    assert (blind.answers, arm.seconds) == (0, (3.0, 3.0, 3.0))


def test_spans_of_which_the_machine_gave_none_count_nowhere(span_round):
    answer_span(span_round, 4, "Seehausen", Arm.LABEL)

    assert display_arms(span_round.project).answers == 0


def test_a_round_of_spans_says_answer_where_it_shows_what_seeing_does(span_round, client):
    answer_span(span_round, 0, "the Weser", Arm.LABEL)
    answer_span(span_round, 1, "Seehausen", Arm.BLIND)
    user = span_round.created_by
    client.force_login(user)

    for address in (
        reverse("review_round", args=[span_round.project_id, span_round.pk]),
        reverse("agreement", args=[span_round.project_id]),
    ):
        page = client.get(address).content.decode()
        shown = page[page.index('id="display-title"') :]
        shown = shown[: shown.index("</section>")]
        assert "Wrong answers given again" in shown
        assert "The machine&#x27;s answer" in shown
        assert "label" not in shown.replace("aria-label", "").replace("labelledby", "")

    told = call(user, "get", f"review-rounds/{span_round.pk}/display/")
    assert [arm["answers"] for arm in told["arms"]] == [0, 1, 1]
    assert told["arms"][1]["accepted"]["count"] == told["known_wrong"] == 1
    assert told["is_randomised"] is True
    assert "whose machine answer is known to be wrong" in told["sentence"]


@pytest.mark.django_db
def test_written_answers_have_no_arms_to_compare():
    assert display_context(make_written_round().project) == {}


@pytest.mark.django_db
def test_a_round_that_decides_by_chance_shows_what_that_does(client):
    round = make_reviewable_round(4, 2)
    client.force_login(round.created_by)
    address = reverse("review_round", args=[round.project_id, round.pk])
    assert "What reviewers see, and what it does" not in client.get(address).content.decode()

    ReviewRound.objects.filter(pk=round.pk).update(display=ReviewRound.Display.RANDOM)
    assert "What reviewers see, and what it does" in client.get(address).content.decode()
