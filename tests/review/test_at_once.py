"""Reviewers and managers who do everything to one round at the same moment: nothing breaks, and all stays in order."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection

from annotate.errors import Refusal
from annotate.models import Label, User
from review.browsing import chain_of
from review.models import ReviewRound, ReviewTask
from review.services.assignment import Anybody, ByShares, assign, tasks_hand_back
from review.services.pauses import pause, pause_lift
from review.services.picking import RELABEL, Action, pick, pick_undo
from review.services.queue import (
    Answer,
    adjudication_undo,
    answer_undo,
    task_submit,
    tasks_claim,
    tasks_release,
)
from review.services.raising import round_raise
from review.services.rounds import round_create
from review.services.setups import round_setup_change
from review.setup import RoundSetup
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_project,
)
from tests.review.turns import make_people

SECONDS = 4.0
SETUP = RoundSetup(display="blind", overlap=3, overlap_share=1.0, gold_rate=0.3)
State, Purpose = ReviewTask.State, ReviewTask.Purpose


def make_busy_round() -> tuple[ReviewRound, list[User]]:
    """A round drawn by chance, that three people answer each item of, and known items; with its reviewers."""
    project = make_project()
    make_items(project, 60)
    for item in make_items(project, 20):
        make_calibration_label(item, "negative")
    run = make_criticism_run(make_annotation_run(project))
    round = round_create(run=run, user=project.created_by, count=30, rule="normalize", setup=SETUP)
    return round, make_people(project, *(f"person {number}" for number in range(5)))


class Storm:
    """People who act at random, and what went wrong. Refusals are no mistakes: they are what people are told."""

    def __init__(self, round: ReviewRound, people: list[User]) -> None:
        self.round, self.people = round, people
        self.manager = round.project.created_by
        self.labels = list(round.project.labels.all())
        self.errors: list[Exception] = []
        self.answers = 0

    def run(self) -> None:
        acts: list[Callable[[random.Random], None]] = [
            *(lambda rng, person=person: self.review(person, rng) for person in self.people * 2),
            self.manage,
            self.manage,
            self.adjudicate,
        ]
        until = time.monotonic() + SECONDS
        threads = [
            threading.Thread(target=self._repeat, args=(act, random.Random(seed), until))
            for seed, act in enumerate(acts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS + 60)

    def _repeat(self, act: Callable[[random.Random], None], rng: random.Random, until: float) -> None:
        try:
            while time.monotonic() < until:
                with contextlib.suppress(Refusal, ReviewTask.DoesNotExist):
                    act(rng)
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.close()

    def now(self) -> ReviewRound:
        return ReviewRound.objects.select_related("project").get(pk=self.round.pk)

    def _said(self, rng: random.Random, version: int) -> Answer:
        label: Label = rng.choice(self.labels)
        return (
            Answer("label", label, version=version) if rng.random() < 0.9 else Answer("skip", version=version)
        )

    def review(self, person: User, rng: random.Random) -> None:
        tasks = tasks_claim(round=self.now(), user=person, count=rng.choice([1, 2, 3]))
        for task in tasks:
            task_submit(task=task, user=person, answer=self._said(rng, task.version))
            self.answers += 1
            if rng.random() < 0.3:
                answer_undo(round=self.round, user=person)
        if not tasks or rng.random() < 0.1:
            tasks_release(round=self.round, user=person)
            answer_undo(round=self.round, user=person)

    def adjudicate(self, rng: random.Random) -> None:
        conflicts = ReviewTask.objects.filter(round=self.round, purpose=Purpose.ADJUDICATION)
        for task in conflicts.select_related("round__project").filter(state=State.WAITING)[:5]:
            task_submit(task=task, user=self.manager, answer=self._said(rng, task.version))
            if rng.random() < 0.5:
                adjudication_undo(round=self.round, user=self.manager)

    def manage(self, rng: random.Random) -> None:
        round, person = self.now(), rng.choice(self.people)
        match rng.randrange(7):
            case 0:
                shares = ByShares({each.pk: 0.15 for each in self.people})
                assign(round=round, user=self.manager, assignment=shares)
            case 1:
                assign(round=round, user=self.manager, assignment=Anybody())
            case 2:
                display, rate = rng.choice(["blind", "random", "label"]), rng.choice([0.1, 0.3])
                setup = RoundSetup(display=display, overlap=3, overlap_share=1.0, gold_rate=rate)
                round_setup_change(round=round, user=self.manager, setup=setup)
            case 3:
                round_raise(round=round, user=self.manager, count=min(58, round.budget + 2))
            case 4:
                tasks_hand_back(project=round.project, user=person, round=round)
            case 5:
                pause_lift(pause=pause(round=round, user=person, by=self.manager), by=self.manager)
            case 6:
                self.relabel(round, rng)

    def relabel(self, round: ReviewRound, rng: random.Random) -> None:
        ids = list(round.counted_tasks.values_list("item_id", flat=True))
        chain, action = chain_of(round.project, round.pk), Action(RELABEL, rng.choice(self.labels))
        project, user = round.project, self.manager
        done = pick(project=project, chain=chain, action=action, ids=rng.sample(ids, 3), user=user)
        if done.change is not None:
            pick_undo(project=project, user=user, change_id=done.change.pk)


@pytest.mark.django_db(transaction=True)
def test_everything_at_once_leaves_the_round_in_order():
    round, people = make_busy_round()
    storm = Storm(round, people)

    storm.run()

    assert not storm.errors
    assert storm.answers > 20
    round = storm.now()
    # What left the draw before it was relabeled was picked.
    assert round.counted_tasks.exclude(purpose=Purpose.PICKED).count() <= round.budget
    assert not ReviewTask.counted.filter(round=round, purpose=Purpose.GOLD).exists()
    for task in round.tasks.all():
        assert (task.state in (State.ANSWERED, State.SKIPPED)) == (task.correction_id is not None)
        assert (task.state == State.WAITING) == (task.holder_id is None)
    turns = round.tasks.exclude(purpose=Purpose.GOLD).select_related("correction").order_by("item_id", "pk")
    for _, group in itertools.groupby(turns, key=lambda turn: turn.item_id):
        check_item(list(group))


def check_item(turns: list[ReviewTask]) -> None:
    """One turn counts, nobody has two, and the one that counts is the one that the answers say."""
    (counted,) = [turn for turn in turns if turn.is_counted]
    readers = [turn for turn in turns if turn.purpose != Purpose.ADJUDICATION]
    holders = [turn.holder_id for turn in readers if turn.holder_id is not None]
    assert len(holders) == len(set(holders))
    said = {turn.correction.label_id for turn in readers if turn.correction and turn.state == State.ANSWERED}
    decided = [
        turn for turn in turns if turn.purpose == Purpose.ADJUDICATION and turn.correction_id is not None
    ]
    if decided or len(said) > 1:
        assert counted.purpose == Purpose.ADJUDICATION
    else:
        assert counted.purpose != Purpose.ADJUDICATION
        assert counted.state == State.ANSWERED or not said
