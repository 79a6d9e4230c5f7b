"""Pausing a reviewer in a round, and lifting it."""

import pytest

from annotate.errors import Refusal
from annotate.models import Change, User
from review.models import ReviewRound, ReviewTask
from review.services.pauses import BY_HAND, pause, pause_lift, pause_of, require_not_paused
from review.services.queue import tasks_claim
from tests.factories import make_reviewable_round, make_round, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    return make_user("ann")


@pytest.fixture
def round(ann: User) -> ReviewRound:
    return make_reviewable_round(4, 4, reviewers=[ann])


def test_nobody_is_paused_at_first(round: ReviewRound, ann: User) -> None:
    require_not_paused(round, ann)

    assert pause_of(round, ann) is None


def test_who_is_paused_is_told_why_in_this_round_alone(round: ReviewRound, ann: User) -> None:
    other = make_round(round.criticism_run)  # type: ignore[arg-type]

    pause(round=round, user=ann, by=round.created_by, reason=" Please read the guidelines again. ")

    with pytest.raises(Refusal, match=r"^Please read the guidelines again\.$"):
        require_not_paused(round, ann)
    require_not_paused(round, round.created_by)
    require_not_paused(other, ann)


def test_a_pause_by_hand_has_a_sentence_of_its_own(round: ReviewRound, ann: User) -> None:
    assert pause(round=round, user=ann, by=round.created_by).reason == BY_HAND


def test_what_they_look_at_goes_back(round: ReviewRound, ann: User) -> None:
    tasks_claim(round=round, user=ann, count=2)

    pause(round=round, user=ann, by=round.created_by)

    assert not round.tasks.exclude(state=ReviewTask.State.WAITING, holder=None).exists()


def test_a_pause_is_lifted_once_and_can_come_again(round: ReviewRound, ann: User) -> None:
    owner = round.created_by
    first = pause(round=round, user=ann, by=owner)
    with pytest.raises(Refusal, match="paused in this round already"):
        pause(round=round, user=ann, by=owner)

    pause_lift(pause=first, by=owner)

    require_not_paused(round, ann)
    assert first.lifted_by == owner
    with pytest.raises(Refusal, match="lifted already"):
        pause_lift(pause=first, by=owner)
    assert pause(round=round, user=ann, by=owner).pk != first.pk


def test_both_are_kept_in_the_history(round: ReviewRound, ann: User) -> None:
    paused = pause(round=round, user=ann, by=round.created_by, reason="Have a break.")
    pause_lift(pause=paused, by=round.created_by)

    kept = Change.objects.filter(action__in=["reviewer paused", "pause lifted"]).order_by("pk")
    assert list(kept.values_list("action", "actor__username", "subject_id")) == [
        ("reviewer paused", round.created_by.username, round.pk),
        ("pause lifted", round.created_by.username, round.pk),
    ]
    assert kept[0].new["reason"] == "Have a break."  # type: ignore[index]


def test_a_reason_is_no_letter(round: ReviewRound, ann: User) -> None:
    with pytest.raises(Refusal, match="at most 300 characters") as refused:
        pause(round=round, user=ann, by=round.created_by, reason="a" * 301)

    assert refused.value.field == "reason"
    assert pause_of(round, ann) is None
