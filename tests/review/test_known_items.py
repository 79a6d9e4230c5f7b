"""Known items among what reviewers are handed: which, where, and what follows from the answers."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from annotate.errors import Refusal
from annotate.models import AnnotationRun, CalibrationLabel, Change, Item, LabelExample, Project, User
from jobs.models import Job
from review.known import counts_since, figures_by_reviewer, known_items, wrong_answers
from review.models import Correction, ReviewRound, ReviewTask
from review.services import known_items as known_items_service
from review.services.known_items import answered, can_be_shown, mix_in
from review.services.pauses import pause_lift, pause_of, require_not_paused
from review.services.rounds import calibration_round_create, round_create
from review.setup import RoundSetup
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_project,
    make_user,
)

pytestmark = pytest.mark.django_db

GOLD = ReviewTask.Purpose.GOLD
REVIEW = ReviewTask.Purpose.REVIEW


_BY_KEY = known_items_service._chance  # as the product draws


@pytest.fixture(autouse=True)
def _same_chances(monkeypatch: pytest.MonkeyPatch) -> None:
    """What chance decides is the same at every run: by the order in which rounds and people come, not by their keys."""
    met: list[tuple[str, int]] = []

    def chance(round: ReviewRound, user: User, *stream: object) -> np.random.Generator:
        places = []
        for one in (("round", round.pk), ("user", user.pk)):
            if one not in met:
                met.append(one)
            places.append(met.index(one))
        named = ":".join(str(part) for part in (*places, *stream))
        return np.random.default_rng(list(named.encode()))

    monkeypatch.setattr("review.services.known_items._chance", chance)


@pytest.fixture
def ann() -> User:
    return make_user("ann")


@pytest.fixture
def bob() -> User:
    return make_user("bob")


def make_gold_round(
    *, items: int = 20, known: int = 10, project: Project | None = None, **setup: Any
) -> ReviewRound:
    """A round of `items` items without gold; `known` others, less suspicious, have it."""
    project = project or make_project(reviewers=list(User.objects.filter(username__in=["ann", "bob"])))
    make_items(project, items)
    make_items(project, known, gold="positive")
    run = make_criticism_run(make_annotation_run(project))
    return round_create(
        run=run, user=project.created_by, count=items, setup=RoundSetup(**{"gold_rate": 0.5, **setup})
    )


def take(round: ReviewRound, user: User, count: int) -> list[ReviewTask]:
    """The next ordinary items, leased to the user as the queue does, with known items mixed in."""
    waiting = round.tasks.filter(state=ReviewTask.State.WAITING, purpose=REVIEW).order_by("rank", "copy")
    tasks = list(waiting[:count])
    for task in tasks:
        task.state, task.holder = ReviewTask.State.LEASED, user
        task.save()
    mixed = mix_in(round, user, [task.pk for task in tasks])
    rows = round.tasks.in_bulk(mixed)
    return [rows[pk] for pk in mixed]


def give(task: ReviewTask, label: str, user: User | None = None) -> Correction:
    """Keep an answer as the queue does."""
    author = user or task.holder
    assert author is not None
    correction = Correction.objects.create(
        task=task,
        action=Correction.Action.LABEL,
        label=label_named(task.round.project, label),
        author=author,
    )
    task.state, task.correction = ReviewTask.State.ANSWERED, correction
    task.save()
    answered(task, correction)
    return correction


def answer_all(round: ReviewRound, user: User, wrong: int = 0, limit: int = 1000) -> int:
    """Take and answer one by one; the first `wrong` known items otherwise than expected. How many known ones."""
    known = 0
    for _ in range(limit):
        tasks = take(round, user, 1)
        if not tasks:
            break
        [task] = tasks
        known += task.purpose == GOLD
        is_wrong = task.purpose == GOLD and known <= wrong
        give(task, "negative" if is_wrong else "positive")
    return known


# --- Which and where -------------------------------------------------------------------------------------------------


def test_without_a_rate_nothing_is_mixed_in(ann: User) -> None:
    round = make_gold_round(gold_rate=0.0)

    assert {task.purpose for task in take(round, ann, 10)} == {REVIEW}


def test_a_reviewer_is_handed_as_many_as_before_and_the_rest_goes_back(ann: User) -> None:
    round = make_gold_round()

    tasks = take(round, ann, 10)

    kinds = Counter(task.purpose for task in tasks)
    assert sum(kinds.values()) == 10
    assert kinds[GOLD] > 0
    assert round.tasks.filter(holder=ann, purpose=REVIEW).count() == kinds[REVIEW]
    ordinary = [task.rank for task in tasks if task.purpose == REVIEW]
    assert ordinary == list(range(len(ordinary)))


def test_the_share_is_the_rate() -> None:
    people = [make_user(f"person{number}") for number in range(8)]
    round = make_gold_round(items=200, known=60, gold_rate=0.2)

    handed = [task for person in people for task in take(round, person, 25)]

    share = sum(task.purpose == GOLD for task in handed) / 200
    assert 0.12 < share < 0.28  # 0.2 ± 2.8 standard deviations, and the same at every run


def test_where_they_are_differs_between_reviewers_and_not_between_times(ann: User, bob: User) -> None:
    round = make_gold_round(items=40, known=30)
    first = [task.purpose for task in take(round, ann, 16)]
    others = [task.purpose for task in take(round, bob, 16)]
    round.tasks.filter(holder=ann).update(state=ReviewTask.State.WAITING, holder=None)

    again = take(round, ann, 16)

    assert [task.purpose for task in again] == first != others
    assert round.tasks.filter(purpose=GOLD, assigned_to=ann).count() == first.count(GOLD)


def test_taken_one_by_one_or_many_at_once_the_places_are_the_same(ann: User) -> None:
    round = make_gold_round(items=40, known=30)
    one_by_one = [take(round, ann, 1)[0].purpose for _ in range(12)]
    round.tasks.filter(purpose=GOLD).delete()
    round.tasks.update(state=ReviewTask.State.WAITING, holder=None)

    assert [task.purpose for task in take(round, ann, 12)] == one_by_one


def test_only_who_has_the_secret_key_can_tell_where_they_are(
    ann: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("review.services.known_items._chance", _BY_KEY)
    round = make_gold_round(items=40, known=30)
    places = []
    for key in ("one", "another", "one"):
        settings.SECRET_KEY = key
        places.append([task.purpose for task in take(round, ann, 24)])
        round.tasks.filter(purpose=GOLD).delete()
        round.tasks.update(state=ReviewTask.State.WAITING, holder=None)

    assert places[0] == places[2] != places[1]


def test_examples_of_labels_are_no_known_items(ann: User) -> None:
    round = make_gold_round(items=20, known=2)
    assert round.criticism_run is not None
    shown, free = known_items(round).order_by("pk")
    LabelExample.objects.create(
        label=label_named(round.project, "positive"), item=shown, created_by=round.created_by
    )

    assert {task.item for task in take(round, ann, 20) if task.purpose == GOLD} == {free}
    assert can_be_shown(round.criticism_run)
    LabelExample.objects.update(item=free)
    LabelExample.objects.create(
        label=label_named(round.project, "negative"), item=shown, created_by=round.created_by
    )
    assert not can_be_shown(round.criticism_run)


def test_a_known_item_looks_like_its_neighbours_and_counts_for_nothing(ann: User) -> None:
    round = make_gold_round()

    task = next(task for task in take(round, ann, 10) if task.purpose == GOLD)

    assert task.item.gold is not None
    assert task.annotation is not None
    assert task.annotation.item == task.item
    assert task.criticism is not None
    assert task.criticism.annotation == task.annotation
    assert (task.arm, task.is_counted, task.assigned_to, task.holder) == ("criticism", False, ann, ann)
    assert task.state == ReviewTask.State.LEASED
    assert round.counted_tasks.count() == 20


def test_each_known_item_comes_once_a_reviewer_and_then_no_more(ann: User, bob: User) -> None:
    round = make_gold_round(items=40, known=3)

    for person in (ann, bob):
        handed = [task.item_id for task in take(round, person, 20) if task.purpose == GOLD]
        assert len(handed) == len(set(handed)) == 3


def test_the_rounds_own_items_are_not_known_ones(ann: User) -> None:
    project = make_project()
    own = make_items(project, 6, gold="positive")
    run = make_criticism_run(make_annotation_run(project))
    round = round_create(run=run, user=project.created_by, count=6, setup=RoundSetup(gold_rate=0.5))

    assert not known_items(round).exists()
    assert {task.item for task in take(round, ann, 6)} == set(own)


def test_what_is_about_as_suspicious_as_its_neighbour_is_preferred(ann: User) -> None:
    project = make_project()
    ordinary = make_items(
        project, 24
    )  # so many that one place or another holds a known item, whatever is drawn
    known = make_items(project, 30, gold="positive")
    run = make_criticism_run(
        make_annotation_run(project), [*[0.99] * 24, *[0.9 if n < 10 else 0.05 for n in range(30)]]
    )
    round = round_create(run=run, user=project.created_by, count=24, setup=RoundSetup(gold_rate=0.5))

    handed = [task for _ in range(6) for task in take(round, make_user(), 4)]
    chosen = [task.item for task in handed if task.purpose == GOLD]

    assert chosen
    assert set(chosen) <= set(known[:10])
    assert not set(chosen) & set(ordinary)


# --- Calibration items -----------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated() -> list[Item]:
    """Three calibration items of a project, which no run over the project's items sees."""
    project = make_project()
    items = make_items(project, 3)
    for item in items:
        make_calibration_label(item, "positive")
    return items


def test_calibration_items_are_shown_as_a_candidate_of_the_same_model_answered_them(
    ann: User, calibrated: list[Item]
) -> None:
    project = calibrated[0].project
    candidate = make_annotation_run(
        project, dict.fromkeys(calibrated, "negative"), scope=AnnotationRun.Scope.CALIBRATION
    )
    criticism = make_criticism_run(candidate)
    round = make_gold_round(project=project, known=0)
    assert round.criticism_run is not None

    golds = [task for task in take(round, ann, 12) if task.purpose == GOLD]

    assert {task.item for task in golds} == set(calibrated)
    assert {task.annotation.run for task in golds if task.annotation} == {candidate}
    assert {task.criticism.run for task in golds if task.criticism} == {criticism}
    assert can_be_shown(round.criticism_run)


@pytest.mark.parametrize(
    "fields", [{"model": "another"}, {"state": Job.State.CANCELLED}, {"strategy": "naive"}]
)
def test_other_candidates_would_not_look_alike(
    ann: User, calibrated: list[Item], fields: dict[str, str]
) -> None:
    project = calibrated[0].project
    answers = dict.fromkeys(calibrated, "negative")
    scope = AnnotationRun.Scope.CALIBRATION
    make_criticism_run(make_annotation_run(project, answers, scope=scope, **fields))
    round = make_gold_round(project=project, known=0)
    assert round.criticism_run is not None

    assert {task.purpose for task in take(round, ann, 12)} == {REVIEW}
    assert not can_be_shown(round.criticism_run)


def test_without_a_criticism_they_are_shown_where_only_labels_are(ann: User, calibrated: list[Item]) -> None:
    project = calibrated[0].project
    make_annotation_run(project, dict.fromkeys(calibrated, "negative"), scope=AnnotationRun.Scope.CALIBRATION)
    with_criticism = make_gold_round(project=project, known=0)
    with_label = make_gold_round(project=project, known=0, display="label")

    assert {task.purpose for task in take(with_criticism, ann, 12)} == {REVIEW}
    golds = [task for task in take(with_label, ann, 12) if task.purpose == GOLD]
    assert {task.item for task in golds} == set(calibrated)
    assert {task.arm for task in golds} == {"label"}


def test_blind_rounds_need_nothing_to_show(ann: User, calibrated: list[Item]) -> None:
    project = calibrated[0].project
    blind = make_gold_round(project=project, known=0, display="blind")
    calibration = calibration_round_create(
        project=project, user=project.created_by, count=12, setup=RoundSetup(gold_rate=0.5)
    )

    for round in (blind, calibration):
        golds = [task for task in take(round, ann, 12) if task.purpose == GOLD]
        assert {task.item for task in golds} == set(calibrated)
        assert {(task.arm, task.annotation) for task in golds} == {("blind", None)}


def test_arms_by_chance_hold_for_known_items_too(ann: User) -> None:
    round = make_gold_round(items=60, known=60, display="random")

    golds = [task for task in take(round, ann, 60) if task.purpose == GOLD]

    assert {task.arm for task in golds} == {"criticism", "label", "blind"}


def test_nobody_is_measured_by_their_own_word(ann: User, bob: User, calibrated: list[Item]) -> None:
    CalibrationLabel.objects.update(author=ann)
    blind = make_gold_round(project=calibrated[0].project, known=0, display="blind")

    assert {task.purpose for task in take(blind, ann, 10)} == {REVIEW}
    assert GOLD in {task.purpose for task in take(blind, bob, 10)}


# --- What follows from the answers -----------------------------------------------------------------------------------


def test_a_reviewer_who_is_too_often_wrong_is_paused(ann: User) -> None:
    round = make_gold_round(items=60, known=30, gold_threshold=0.6, gold_minimum=5)
    take(round, ann, 20)
    golds = list(round.tasks.filter(purpose=GOLD, holder=ann)[:5])
    for task in golds[:4]:
        give(task, "negative")
    assert pause_of(round, ann) is None  # the minimum is not reached

    give(golds[4], "positive")

    with pytest.raises(Refusal, match=r"You answered 1 of 5 known items as expected, below 60%\."):
        require_not_paused(round, ann)
    assert not round.tasks.filter(holder=ann, state=ReviewTask.State.LEASED).exists()
    change = Change.objects.get(action="reviewer paused")
    assert change.actor is None
    assert change.new is not None
    assert (change.new["known_items"], change.new["as_expected"]) == (5, 1)


def test_at_the_threshold_nobody_is_paused(ann: User) -> None:
    round = make_gold_round(items=60, known=10, gold_threshold=0.6, gold_minimum=10)

    assert answer_all(round, ann, wrong=4) == 10

    assert counts_since(round, ann) == (10, 6)
    assert pause_of(round, ann) is None


def test_without_a_threshold_nobody_is_paused(ann: User) -> None:
    round = make_gold_round(items=60, known=10, gold_minimum=1)

    answer_all(round, ann, wrong=10)

    assert counts_since(round, ann) == (10, 0)
    assert pause_of(round, ann) is None


def test_after_a_pause_is_lifted_counting_starts_anew(ann: User) -> None:
    round = make_gold_round(items=60, known=30, gold_threshold=0.6, gold_minimum=5)
    take(round, ann, 20)
    golds = list(round.tasks.filter(purpose=GOLD, holder=ann)[:7])
    for task in golds[:5]:
        give(task, "negative")
    paused = pause_of(round, ann)
    assert paused is not None
    pause_lift(pause=paused, by=round.created_by)

    for task in golds[5:]:
        give(task, "negative", ann)

    assert pause_of(round, ann) is None
    ReviewTask.objects.filter(pk__in=[task.pk for task in golds]).update(holder=ann)
    assert counts_since(round, ann) == (2, 0)


def test_skips_are_no_answers(ann: User) -> None:
    round = make_gold_round(gold_threshold=1.0, gold_minimum=1)
    task = next(task for task in take(round, ann, 10) if task.purpose == GOLD)
    skip = Correction.objects.create(task=task, action=Correction.Action.SKIP, author=ann)
    task.state, task.correction = ReviewTask.State.SKIPPED, skip
    task.save()

    answered(task, skip)

    assert pause_of(round, ann) is None
    assert counts_since(round, ann) == (0, 0)


def test_known_answers_change_no_calibration_label(ann: User, calibrated: list[Item]) -> None:
    project = calibrated[0].project
    make_items(project, 12)
    round = calibration_round_create(
        project=project, user=project.created_by, count=12, setup=RoundSetup(gold_rate=0.5)
    )
    before = list(CalibrationLabel.objects.values_list("item", "label", "author").order_by("item"))

    for task in take(round, ann, 12):
        if task.purpose == GOLD:
            give(task, "negative")

    assert list(CalibrationLabel.objects.values_list("item", "label", "author").order_by("item")) == before


# --- Figures ---------------------------------------------------------------------------------------------------------


def test_figures_of_each_reviewer_with_an_interval(ann: User, bob: User) -> None:
    round = make_gold_round(items=60, known=10)
    answer_all(round, ann, wrong=4)

    figures = figures_by_reviewer(round)

    assert set(figures) == {ann.pk}
    of_ann = figures[ann.pk]
    assert (of_ann.reviewer, of_ann.answered, of_ann.right, of_ann.accuracy) == ("ann", 10, 6, 0.6)
    assert of_ann.interval == pytest.approx((0.3127, 0.8318), abs=1e-4)  # Wilson's, at 95%


def test_wrong_answers_with_both_labels(ann: User) -> None:
    round = make_gold_round(items=60, known=10)
    answer_all(round, ann, wrong=2)

    wrong = wrong_answers(round)

    given = [each.task.correction.label.name for each in wrong]  # type: ignore[union-attr]
    assert given == ["negative", "negative"]
    assert {each.expected and each.expected.name for each in wrong} == {"positive"}
    assert len(wrong_answers(round, 1)) == 1
