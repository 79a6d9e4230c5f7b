"""The queue of a round of any size: what a request costs, many people at the same moment, and what locks all of it."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.utils import timezone

from annotate.models import User
from review import selectors
from review.models import ReviewRound, ReviewTask
from review.selectors import progress_on_entry, quick_progress, round_progress
from review.services import queue
from review.services.queue import Answer, Busy, task_submit, tasks_claim, tasks_release
from review.services.rounds import round_create
from review.setup import RoundSetup
from tests.api.caller import call
from tests.factories import (
    label_named,
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_project,
    make_reviewable_round,
    make_user,
)
from tests.review.turns import make_people

pytestmark = pytest.mark.django_db

State = ReviewTask.State
needs_sqlite = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="Only SQLite tells how many steps a query took."
)
needs_row_locks = pytest.mark.skipif(
    not connection.features.has_select_for_update, reason="The database is locked as a whole."
)
FEW, MANY = 60, 1800
# Steps that a longer index may take, which grow with the logarithm of the round; counting it takes MANY and more.
SLACK = 500


def make_round_of(items: int, **setup: Any) -> ReviewRound:
    project = make_project()
    make_items(project, items)
    run = make_criticism_run(make_annotation_run(project))
    return round_create(run=run, user=project.created_by, count=items, setup=RoundSetup(**setup))


def steps(work: Callable[[], Any]) -> int:
    """How many steps SQLite's machine takes: unlike seconds, the same each time."""
    taken = 0

    def tick() -> int:
        nonlocal taken
        taken += 1
        return 0

    connection.ensure_connection()
    connection.connection.set_progress_handler(tick, 10)
    try:
        work()
    finally:
        connection.connection.set_progress_handler(None, 0)
    return taken * 10


def answer_and_take_the_next(round: ReviewRound, person: User) -> int:
    """Steps of the first request, which takes several, and of one that does both, as the review screen sends them."""
    label = label_named(round.project, "positive").pk
    tasks: list[dict[str, Any]] = []

    def begin() -> None:
        nonlocal tasks
        tasks = call(person, "post", f"review-rounds/{round.pk}/next/", {"count": 4})["tasks"]

    def submit() -> None:
        nonlocal tasks
        body = {"action": "label", "label": label, "version": tasks[0]["version"], "next": 4}
        tasks = call(person, "post", f"review-tasks/{tasks[0]['id']}/submit/", body)["tasks"]

    first = steps(begin)
    submit()
    return first + steps(submit)


@needs_sqlite
@pytest.mark.parametrize("setup", [{}, {"overlap": 3, "overlap_share": 1.0}])
def test_an_answer_and_the_next_item_take_as_much_in_a_large_round(
    setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in rounds above it: others count.
    monkeypatch.setattr(selectors, "_COUNTED_EACH_TIME", 0)
    monkeypatch.setattr(selectors, "_FEW_LEFT", 0)
    count_later(monkeypatch)
    taken = []
    for items in (FEW, MANY):
        round = make_round_of(items, **setup)
        (ann,) = make_people(round.project, f"ann {items}")
        taken.append(answer_and_take_the_next(round, ann))

    few, many = taken
    assert many < few + SLACK < few + MANY


@needs_sqlite
def test_who_is_far_ahead_is_handed_the_next_item_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_FAR", 50)
    round = make_round_of(MANY, overlap=2, overlap_share=1.0)
    ann = make_user("ann")
    done = MANY - 100
    round.tasks.filter(copy=0, rank__lt=done).update(state=State.ANSWERED, holder=ann)

    first = steps(lambda: tasks_claim(round=round, user=ann, count=1))
    second = steps(lambda: tasks_claim(round=round, user=ann, count=2))

    assert [task.rank for task in tasks_claim(round=round, user=ann, count=3)] == [done, done + 1, done + 2]
    assert first > done > second


def test_what_others_hand_back_behind_who_is_ahead_comes_later_and_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "_FAR", 3)
    round = make_round_of(10, overlap=2, overlap_share=1.0)
    ann, bob, eve = (make_user(name) for name in ("ann", "bob", "eve"))
    round.tasks.filter(copy=0, rank__in=[0, 1, 2, 3, 4, 5]).update(state=State.ANSWERED, holder=ann)
    round.tasks.filter(copy=0, rank=6).update(state=State.LEASED, holder=bob, lease_until=soon())
    round.tasks.filter(copy=1, rank=6).update(state=State.LEASED, holder=eve, lease_until=soon())
    assert [task.rank for task in tasks_claim(round=round, user=ann)] == [7]

    tasks_release(round=round, user=bob)

    assert [task.rank for task in tasks_claim(round=round, user=ann, count=3)] == [7, 8, 9]
    assert [task.rank for task in tasks_claim(round=round, user=ann, count=4)] == [7, 8, 9, 6]


def soon() -> Any:
    return timezone.now() + timedelta(minutes=9)


def count_later(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What would be counted behind the requests, for the test to do."""
    left: list[Callable[[], None]] = []

    def keep(count: Callable[[], None]) -> SimpleNamespace:
        left.append(count)
        return SimpleNamespace(join=lambda patience: None)

    monkeypatch.setattr(selectors, "_in_background", keep)
    return left


def test_nobody_waits_for_a_large_round_to_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "_COUNTED_EACH_TIME", 0)
    monkeypatch.setattr(selectors, "_FEW_LEFT", 0)
    monkeypatch.setattr(selectors, "_KEPT_AT_LEAST", 0.0)
    monkeypatch.setattr(selectors, "_KEPT_TIMES", 0)
    left = count_later(monkeypatch)
    round = make_reviewable_round()
    ann = make_user("ann")

    assert quick_progress(round, ann) is quick_progress(round, ann) is None
    left.pop()()
    before = quick_progress(round, ann)
    assert before == round_progress(round, ann)
    left.clear()
    (task,) = tasks_claim(round=round, user=ann)
    task_submit(task=task, user=ann, answer=Answer("skip"))

    first, second = quick_progress(round, ann), quick_progress(round, ann)
    assert first is not None
    assert second is not None
    assert first.skipped == second.skipped == before.skipped == 0
    assert not left  # who asked for `before` has them counted still
    cache.delete(f"progress-{round.pk}-0-counting")
    quick_progress(round, ann)
    left.pop()()
    assert quick_progress(round, ann) == round_progress(round, ann)


def test_a_round_that_is_being_counted_is_reviewed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "_COUNTED_EACH_TIME", 0)
    left = count_later(monkeypatch)
    round = make_reviewable_round()
    (ann,) = make_people(round.project, "ann")

    claimed = call(ann, "post", f"review-rounds/{round.pk}/next/", {"count": 1})
    address = f"review-tasks/{claimed['tasks'][0]['id']}/submit/"
    skipped = call(ann, "post", address, {"action": "skip"})
    assert claimed["progress"] is skipped["progress"] is None
    assert progress_on_entry(round, ann) == round_progress(round, ann)
    left.pop()()
    undone = call(ann, "post", f"review-rounds/{round.pk}/undo/")
    assert (undone["progress"]["skipped"], undone["progress"]["mine"]) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_counting_behind_a_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "_COUNTED_EACH_TIME", 0)
    monkeypatch.setattr(selectors, "_FEW_LEFT", 0)
    monkeypatch.setattr(selectors, "_KEPT_AT_LEAST", 0.0)
    monkeypatch.setattr(selectors, "_KEPT_TIMES", 0)
    round = make_reviewable_round()
    ann = make_user("ann")
    assert progress_on_entry(round, ann).leased == 0
    (task,) = tasks_claim(round=round, user=ann)

    quick_progress(round, ann)
    for thread in threading.enumerate():
        if thread.name == "progress":
            thread.join(30)

    assert cache.get(f"progress-{round.pk}-0")[1]["leased"] == 1
    assert task.state == State.LEASED


def at_once(threads: int, work: Callable[[int], Any], *, connections: int) -> list[Any]:
    """What each thread gave or raised, all started at the same moment; so many of them in the database at a time."""
    barrier, room = threading.Barrier(threads), threading.BoundedSemaphore(connections)
    results: list[Any] = [None] * threads

    def run(place: int) -> None:
        try:
            barrier.wait(60)
            with room:
                results[place] = work(place)
                connection.close()
        except Exception as error:
            results[place] = error

    started = [threading.Thread(target=run, args=(place,)) for place in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(300)
    return results


@pytest.mark.django_db(transaction=True)
def test_two_hundred_who_ask_at_the_same_moment_are_handed_different_items() -> None:
    threads = 200
    round = make_round_of(threads)
    people = User.objects.bulk_create(User(username=f"person {number}") for number in range(threads))
    # SQLite lets one of them write at a time, and PostgreSQL has a hundred connections.
    connections = 80 if connection.features.has_select_for_update else 16

    results = at_once(
        threads,
        lambda place: [task.pk for task in tasks_claim(round=round, user=people[place])],
        connections=connections,
    )

    assert [each for each in results if not isinstance(each, list)] == []
    handed = Counter(itertools.chain.from_iterable(results))
    assert len(handed) == threads
    assert set(handed.values()) == {1}
    holders = dict(round.tasks.filter(state=State.LEASED).values_list("pk", "holder"))
    assert all(holders[results[place][0]] == people[place].pk for place in range(threads))


@needs_row_locks
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_long", [False, True])
def test_who_asks_while_a_larger_budget_is_drawn_waits_or_is_told(
    is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_LONGEST_WAIT", 0.2 if is_long else 20)
    round = make_reviewable_round()
    ann = make_user("ann")
    locked, may_end = threading.Event(), threading.Event()

    def draw() -> None:
        with transaction.atomic():
            ReviewRound.objects.select_for_update(no_key=True).get(pk=round.pk)
            list(round.tasks.select_for_update())
            locked.set()
            may_end.wait(30)
        connection.close()

    drawing = threading.Thread(target=draw)
    drawing.start()
    locked.wait(10)
    try:
        if is_long:
            with pytest.raises(Busy, match="larger budget"):
                tasks_claim(round=round, user=ann)
        else:
            threading.Timer(0.5, may_end.set).start()
            started = time.monotonic()
            assert len(tasks_claim(round=round, user=ann)) == 1
            assert time.monotonic() - started > 0.3
    finally:
        may_end.set()
        drawing.join(30)
    assert len(tasks_claim(round=round, user=ann)) == 1
