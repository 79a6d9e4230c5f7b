"""Raising a budget: what people did stays, the rest is drawn anew, and the weights stay right."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import User
from criticize.models import Criticism
from jobs.models import Job
from review.drawing import BETA
from review.export_rows import own_columns, rows
from review.models import Correction, DrawArrays, ReviewRound, ReviewTask
from review.services.queue import Answer, Conflict, answer_undo, task_submit, tasks_claim, tasks_release
from review.services.raising import draw_again, raise_preview, round_raise
from review.services.rounds import round_close, round_create
from review.setup import RoundSetup
from review.weights import act_weights
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_round,
    make_criticism_run,
    make_export,
    make_items,
    make_project,
    make_user,
)
from tests.present import present

pytestmark = pytest.mark.django_db

RULES = ["threshold", "normalize", "exponential"]
State = ReviewTask.State


def make(rule: str, budget: int = 10, items: int = 40, error_probs: Any = None, **fields: Any) -> ReviewRound:
    """A round of a rule; by default ε̂ falls from 0.9 to 0.1 in order of item. Gold is positive, the machine said no."""
    project = make_project()
    make_items(project, items, gold="positive")
    run = make_criticism_run(make_annotation_run(project), error_probs, **fields)
    return round_create(run=run, user=run.created_by, count=budget, rule=rule)


def answer_some(
    round: ReviewRound, count: int, *, user: User | None = None, skip: bool = False
) -> list[ReviewTask]:
    person = user or round.created_by
    done = []
    for _ in range(count):
        (task,) = tasks_claim(round=round, user=person)
        label = None if skip else label_named(round.project, "positive")
        task_submit(task=task, user=person, answer=Answer("skip" if skip else "label", label))
        done.append(task)
    return done


def raised(round: ReviewRound, budget: int) -> ReviewRound:
    return round_raise(round=round, user=round.created_by, count=budget)


def draw_of(round: ReviewRound, number: int | None = None) -> DrawArrays:
    blocks = round.draw_blocks.filter(draw_number=round.draw_number if number is None else number)
    parts = [block.arrays() for block in blocks.order_by("number")]
    return DrawArrays(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def drawn(round: ReviewRound, item_ids: list[int]) -> tuple[list[float], list[bool]]:
    """π and δ of these items."""
    arrays = draw_of(round)
    at = np.searchsorted(arrays.item_ids, item_ids)
    return arrays.inclusion_probs[at].tolist(), arrays.selected[at].tolist()


def everything(round: ReviewRound) -> list[dict[str, Any]]:
    return [dict(row) for row in round.tasks.order_by("pk").values()]


class TestWhatStays:
    @pytest.mark.parametrize("rule", RULES)
    def test_what_people_did_stays_as_it_is_and_the_rest_is_drawn_anew(self, rule):
        round = make(rule)
        ann, bob = make_user(), make_user()
        answered = answer_some(round, 3, user=ann)
        skipped = answer_some(round, 1, user=ann, skip=True)
        leased = tasks_claim(round=round, user=bob, count=2)
        touched = [task.pk for task in [*answered, *skipped, *leased]]
        before = list(round.tasks.filter(pk__in=touched).order_by("pk").values())

        round = raised(round, 20)

        assert list(round.tasks.filter(pk__in=touched).order_by("pk").values()) == before
        assert (round.budget, round.draw_number) == (20, 1)
        items = [row["item_id"] for row in before]
        assert drawn(round, items) == ([1.0] * 6, [True] * 6)
        arrays = draw_of(round)
        assert arrays.selected.sum() == round.tasks.count() == 20
        assert arrays.inclusion_probs.sum() == pytest.approx(20)
        assert set(arrays.item_ids[arrays.selected]) == set(round.tasks.values_list("item_id", flat=True))

    @pytest.mark.parametrize("rule", RULES)
    def test_ranks_go_on_after_those_that_stay_most_suspicious_first(self, rule):
        round = make(rule)
        done = answer_some(round, 4)

        round = raised(round, 20)

        ranks = list(round.tasks.order_by("rank").values_list("rank", flat=True))
        assert ranks == list(range(20))
        assert [round.tasks.get(pk=task.pk).rank for task in done] == [0, 1, 2, 3]
        arrays = draw_of(round)
        order = round.tasks.filter(state=State.WAITING).order_by("rank").values_list("item_id", flat=True)
        suspicions = arrays.priorities[np.searchsorted(arrays.item_ids, list(order))]
        assert list(suspicions) == sorted(suspicions, reverse=True)

    @pytest.mark.parametrize("rule", RULES)
    def test_a_skipped_item_is_a_review_that_is_spent_and_is_not_drawn_again(self, rule):
        round = make(rule)
        skipped = {task.item_id for task in answer_some(round, 5, skip=True)}

        round = raised(round, 12)

        assert round.tasks.filter(state=State.WAITING).count() == 7
        assert set(round.tasks.filter(state=State.SKIPPED).values_list("item_id", flat=True)) == skipped
        assert draw_of(round).selected.sum() == 12

    @pytest.mark.parametrize("rule", ["normalize", "exponential"])
    def test_what_only_waited_may_leave_the_queue(self, rule):
        round = make(rule, error_probs=[0.3] * 40)
        waiting = set(round.tasks.values_list("item_id", flat=True))

        round = raised(round, 11)

        assert set(round.tasks.values_list("item_id", flat=True)) != waiting
        assert round.tasks.count() == 11
        assert np.allclose(draw_of(round).inclusion_probs, 11 / 40)

    def test_under_threshold_the_old_selection_lies_in_the_new_and_ties_go_to_the_queue(self):
        round = make("threshold", 10, error_probs=[0.5] * 40)
        before = everything(round)

        round = raised(round, 15)

        after = everything(round)
        assert after[:10] == before
        assert len(after) == 15
        assert (round.parameters["tied"], round.parameters["tied_slots"]) == (30, 5)

    def test_under_threshold_it_is_what_the_larger_budget_would_have_selected(self):
        error_probs = np.random.default_rng(3).permutation(np.linspace(0, 1, 40)).tolist()
        round, other = (
            make("threshold", 10, error_probs=error_probs),
            make("threshold", 25, error_probs=error_probs),
        )
        answer_some(round, 6)

        round = raised(round, 25)

        order = [
            list(each.tasks.order_by("rank").values_list("criticism__error_prob", flat=True))
            for each in (round, other)
        ]
        assert order[0] == order[1]
        assert round.parameters["tau"] == other.parameters["tau"]

    def test_a_lease_that_ran_out_stays_since_its_answer_may_still_come(self):
        round = make("normalize")
        (task,) = tasks_claim(round=round, user=round.created_by)
        round.tasks.filter(pk=task.pk).update(lease_until=timezone.now() - timedelta(hours=1))

        raised(round, 20)
        correction = task_submit(
            task=task,
            user=round.created_by,
            answer=Answer("label", label_named(round.project, "positive"), version=0),
        )

        assert round.tasks.get(pk=task.pk).correction == correction

    def test_an_answer_that_was_taken_back_keeps_its_history(self):
        round = make("exponential", error_probs=[0.02] * 40)
        answer_some(round, 3)
        for _ in range(3):
            answer_undo(round=round, user=round.created_by)
        tasks_release(round=round, user=round.created_by)
        history = list(Correction.objects.order_by("pk").values())

        round = raised(round, 11)

        assert list(Correction.objects.order_by("pk").values()) == history
        looked_at = list(round.tasks.exclude(corrections=None).distinct().values_list("item_id", flat=True))
        assert drawn(round, looked_at) == ([1.0] * 3, [True] * 3)
        assert round.tasks.count() == 11

    def test_an_audits_items_are_not_drawn(self):
        round = make("threshold", 10)
        least = list(draw_of(round).item_ids[10:15])  # the next most suspicious
        audit = ReviewRound.objects.create(
            project=round.project,
            kind=ReviewRound.Kind.AUDIT,
            audited=round,
            criticism_run=round.criticism_run,
            budget=5,
            created_by=round.created_by,
        )
        for rank, item_id in enumerate(least):
            ReviewTask.objects.create(round=audit, item_id=item_id, rank=rank)

        round = raised(round, 20)

        assert drawn(round, least) == ([0.0] * 5, [False] * 5)
        assert round.tasks.count() == 20
        assert not round.tasks.filter(item_id__in=least).exists()


class TestRecord:
    @pytest.mark.parametrize("rule", RULES)
    def test_earlier_draws_stay_and_each_raise_is_a_row(self, rule):
        round = make(rule)
        parameters = round.parameters
        first = draw_of(round)
        answer_some(round, 4)
        round = raised(round, 15)
        second = draw_of(round)
        answer_some(round, 2)
        ann = make_user("ann")
        round = round_raise(round=round, user=ann, share=0.5)

        for before, after in ((first, draw_of(round, 0)), (second, draw_of(round, 1))):
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True))
        one, two = round.budget_raises.all()
        assert (one.draw_number, one.old_budget, one.new_budget, one.reviewed) == (1, 10, 15, 4)
        assert (two.draw_number, two.old_budget, two.new_budget, two.reviewed) == (2, 15, 20, 6)
        assert (one.parameters, two.created_by) == (parameters, ann)
        assert list(round.current_blocks) == list(round.draw_blocks.filter(draw_number=2))
        assert round.parameters["seed"] == [round.seed, 3, 2]

    @pytest.mark.parametrize("rule", RULES)
    def test_the_same_answers_and_seed_draw_the_same(self, rule):
        drawn = []
        for _ in range(2):
            round = make(rule, error_probs=[0.5] * 40)
            answer_some(round, 4)
            drawn.append(draw_of(raised(round, 20)))

        assert np.array_equal(drawn[0].selected, drawn[1].selected)
        assert np.array_equal(drawn[0].inclusion_probs, drawn[1].inclusion_probs)

    def test_the_sharpness_of_the_first_draw_is_kept(self):
        round = make("exponential")
        ReviewRound.objects.filter(pk=round.pk).update(parameters=round.parameters | {"beta": 3.0})

        assert raised(round, 20).parameters["beta"] == 3.0

    def test_items_without_a_usable_answer_come_first_still(self):
        round = make("threshold", 2, 10, error_probs=[0.9, 0.8, None, None, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])

        round = raised(round, 4)

        queue = list(round.tasks.order_by("rank").values_list("criticism__error_prob", flat=True))
        assert queue == [None, None, 0.9, 0.8]
        assert np.isnan(draw_of(round).priorities).sum() == 2

    def test_a_criticizer_that_only_ranks_is_raised_too(self):
        round = make("threshold", 5, strategy="mc")
        Criticism.objects.update(error_prob=None)
        for level, criticism in enumerate(Criticism.objects.order_by("-pk")):
            Criticism.objects.filter(pk=criticism.pk).update(priority=1 + level // 10)
        answer_some(round, 2)

        round = raised(round, 12)

        assert round.tasks.count() == 12
        assert (round.parameters["tau"], round.parameters["tied_slots"]) == (3.0, 2)

    def test_a_closed_round_opens_again(self):
        round = make("threshold")
        round_close(round=round, user=round.created_by)
        round.refresh_from_db()
        assert raise_preview(round=round, count=20).reopens

        assert raised(round, 20).state == ReviewRound.State.OPEN

    def test_up_to_all_items(self):
        round = raised(make("exponential"), 40)

        assert round.tasks.count() == 40
        assert (draw_of(round).inclusion_probs == 1).all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("amount", "sentence"),
        [
            ({"count": 9}, "The budget is 10 reviews, and it can only be raised"),
            ({"count": 10}, "close the round"),
            ({"share": 0.1}, "can only be raised"),
            ({"count": 41}, "more than the 40 items"),
            ({"count": 0}, "at least one review"),
            ({"share": 1.5}, "at most 1"),
            ({}, "either as"),
        ],
    )
    def test_a_budget_that_is_no_raise_changes_nothing(self, amount, sentence):
        round = make("threshold")
        before = everything(round)

        for act in (raise_preview, partial(round_raise, user=round.created_by)):
            with pytest.raises(Refusal, match=sentence) as refusal:
                act(round=round, **amount)
            assert refusal.value.field == "budget"

        round.refresh_from_db()
        assert (everything(round), round.budget, round.draw_number) == (before, 10, 0)
        assert not round.budget_raises.exists()

    def test_only_review_rounds_have_one_to_raise(self):
        project = make_project()
        make_items(project, 10)

        with pytest.raises(Refusal, match="Only a review round"):
            raised(make_calibration_round(project, 3), 5)

    def test_a_criticism_that_is_asked_again_is_waited_for(self):
        round = make("threshold")
        Job.objects.filter(criticismrun__isnull=False).update(state=Job.State.RUNNING)

        with pytest.raises(Refusal, match="Wait until it is finished"):
            raised(round, 20)

    def test_where_an_audit_has_the_rest_there_is_nothing_to_add(self):
        round = make("threshold", 3, 4)
        rest = set(round.project.items.values_list("pk", flat=True)) - set(
            round.tasks.values_list("item_id", flat=True)
        )
        audit = ReviewRound.objects.create(
            project=round.project,
            kind="audit",
            audited=round,
            criticism_run=round.criticism_run,
            budget=1,
            created_by=round.created_by,
        )
        ReviewTask.objects.create(round=audit, item_id=rest.pop(), rank=0)

        with pytest.raises(Refusal, match="nothing to add"):
            raised(round, 4)


class TestPreview:
    @pytest.mark.parametrize("rule", RULES)
    def test_it_says_what_raising_does(self, rule):
        round = make(rule)
        answer_some(round, 3)
        answer_some(round, 1, skip=True)
        before = everything(round)

        preview = raise_preview(round=round, share=0.5)

        assert everything(round) == before
        assert (preview.old_budget, preview.budget, preview.more) == (10, 20, 10)
        assert preview.cost == Decimal("0.80")
        assert (preview.kept, preview.reopens) == (10 if rule == "threshold" else 4, False)
        assert preview.waiting == raised(round, 20).tasks.filter(state=State.WAITING).count() == 16


class TestExport:
    @pytest.mark.parametrize("rule", RULES)
    def test_what_was_reviewed_before_has_the_human_weight_1(self, rule):
        round = make(rule)
        early = {task.item_id for task in answer_some(round, 4)}
        round = raised(round, 20)
        answer_some(round, 16)

        export = make_export(round, lam=0.7)
        written = {row["item_id"]: row for row in rows(export, own_columns(export))}

        assert len(written) == 40
        for item_id in early:
            row = written[item_id]
            assert (row["inclusion_prob"], row["human_weight"], row["machine_weight"]) == (1.0, 1.0, 0.0)
            assert (row["selected"], row["status"]) == (True, "reviewed")
        arrays = draw_of(round)
        for item_id, prob, selected in zip(
            arrays.item_ids, arrays.inclusion_probs, arrays.selected, strict=True
        ):
            assert written[item_id]["human_weight"] == pytest.approx(1 / prob if selected else 0)


class TestTheLossStaysUnbiased:
    """N small, 2,000 seeded draws, four standard errors."""

    N, FIRST, ANSWERED, RAISED = 12, 5, 3, 8

    def population(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(11)
        return rng.uniform(0.05, 0.95, self.N), rng.normal(size=self.N), rng.normal(size=self.N)

    def first_stage(self, error_prob: np.ndarray, rule: str, rng: np.random.Generator) -> np.ndarray:
        """Which items were answered: the most suspicious of those drawn, as the queue gives them out."""
        nothing = np.zeros(self.N, dtype=bool)
        _, selected, _ = draw_again(error_prob, nothing, ~nothing, self.FIRST, rule, beta=BETA, rng=rng)
        order = sorted(np.flatnonzero(selected), key=lambda index: -error_prob[index])
        kept = nothing.copy()
        kept[order[: self.ANSWERED]] = True
        return kept

    def loss(self, kept: np.ndarray, rule: str, rng: np.random.Generator) -> float:
        error_prob, machine, human = self.population()
        probs, selected, _ = draw_again(
            error_prob, kept, ~kept, self.RAISED - int(kept.sum()), rule, beta=BETA, rng=rng
        )
        assert selected.sum() == self.RAISED
        machine_weight, human_weight = act_weights(selected, probs, 0.8)
        return float((machine_weight * machine + human_weight * human).mean())

    @pytest.mark.parametrize("rule", ["normalize", "exponential"])
    def test_given_what_was_reviewed(self, rule):
        error_prob, _, human = self.population()
        rng = np.random.default_rng(1)
        kept = self.first_stage(error_prob, rule, rng)

        losses = np.array([self.loss(kept, rule, rng) for _ in range(2000)])

        assert abs(losses.mean() - human.mean()) <= 4 * losses.std() / np.sqrt(2000)
        assert losses.std() > 0

    @pytest.mark.parametrize("rule", ["normalize", "exponential"])
    def test_over_both_stages(self, rule):
        error_prob, _, human = self.population()
        rng = np.random.default_rng(2)

        losses = np.array(
            [self.loss(self.first_stage(error_prob, rule, rng), rule, rng) for _ in range(2000)]
        )

        assert abs(losses.mean() - human.mean()) <= 4 * losses.std() / np.sqrt(2000)


class TestInterleaving:
    def test_what_somebody_holds_is_answered_after_the_raise(self):
        round = make("normalize")
        held = tasks_claim(round=round, user=round.created_by, count=5)

        raised(round, 20)
        for task in held:
            task_submit(
                task=task,
                user=round.created_by,
                answer=Answer("label", label_named(round.project, "positive"), version=0),
            )

        assert round.tasks.filter(state=State.ANSWERED).count() == 5

    def test_an_item_that_left_the_queue_is_a_conflict(self):
        round = make("normalize", error_probs=[0.3] * 40)
        waiting = list(round.tasks.all())

        round = raised(round, 11)

        (gone, *_) = [task for task in waiting if not round.tasks.filter(pk=task.pk).exists()]
        with pytest.raises(Conflict, match="left the queue"):
            task_submit(task=gone, user=round.created_by, answer=Answer("skip"))


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """What each gave, or raised, all started at the same moment in a thread of its own."""
    barrier = threading.Barrier(len(work))
    results: list[Any] = [None] * len(work)

    def run(place: int) -> None:
        try:
            barrier.wait(30)
            results[place] = work[place]()
        except Exception as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.django_db(transaction=True)
class TestAtTheSameMoment:
    @pytest.mark.parametrize("rule", RULES)
    def test_people_review_while_the_budget_is_raised(self, rule):
        round = make(rule, 16, 60)
        people = [make_user() for _ in range(3)]
        label = label_named(round.project, "positive")

        def review(person: User) -> list[int]:
            done = []
            for _ in range(4):
                (task,) = tasks_claim(round=ReviewRound.objects.get(pk=round.pk), user=person)
                task_submit(task=task, user=person, answer=Answer("label", label, version=task.version))
                done.append(task.pk)
            return done

        results = at_once(
            *(lambda person=person: review(person) for person in people), lambda: raised(round, 30)
        )

        assert not [each for each in results if isinstance(each, Exception)]
        given = sorted(pk for done in results[:3] for pk in done)
        assert sorted(round.tasks.filter(state=State.ANSWERED).values_list("pk", flat=True)) == given
        assert len(set(given)) == 12
        round.refresh_from_db()
        arrays = draw_of(round)
        assert (round.budget, round.tasks.count(), arrays.selected.sum()) == (30, 30, 30)
        answered = list(round.tasks.filter(state=State.ANSWERED).values_list("item_id", flat=True))
        assert all(drawn(round, answered)[1])

    def test_of_two_raises_at_once_the_larger_counts(self):
        round = make("normalize", 5, 30)

        results = at_once(lambda: raised(round, 12), lambda: raised(round, 20))

        round.refresh_from_db()
        assert (round.budget, round.tasks.count()) == (20, 20)
        assert round.draw_number == round.budget_raises.count()
        assert sum(isinstance(each, Refusal) for each in results) == 2 - round.draw_number


class TestTurns:
    """Budgets of rounds whose items several people answer."""

    def make(self, rule: str, budget: int = 10) -> ReviewRound:
        project = make_project()
        make_items(project, 40)
        run = make_criticism_run(make_annotation_run(project))
        setup = RoundSetup(overlap=2, overlap_share=1.0)
        return round_create(run=run, user=run.created_by, count=budget, rule=rule, setup=setup)

    @pytest.mark.parametrize("rule", ["threshold", "normalize"])
    def test_added_items_have_copies_and_those_that_leave_take_theirs_along(self, rule):
        round = self.make(rule)
        ann, bob = make_user(), make_user()
        (task,) = tasks_claim(round=round, user=ann)
        task_submit(task=task, user=ann, answer=Answer("skip"))

        round = round_raise(round=round, user=round.created_by, count=20)

        copies = Counter(round.tasks.values_list("item_id", flat=True))
        assert set(copies.values()) == {2}
        assert len(copies) == round.counted_tasks.count() == 20
        arrays = round.current_blocks.get().arrays()
        assert set(copies) == set(arrays.item_ids[arrays.selected].tolist())
        assert task.corrections.count() == 1
        # The other turn of the item that somebody read waits for somebody else.
        assert tasks_claim(round=round, user=bob)[0].item_id == task.item_id

    @pytest.mark.parametrize("rule", ["threshold", "normalize"])
    def test_an_item_in_conflict_stays_with_its_adjudication(self, rule):
        round = self.make(rule)
        label = {name: label_named(round.project, name) for name in ("positive", "negative")}
        for user, name in ((make_user(), "positive"), (make_user(), "negative")):
            (task,) = tasks_claim(round=round, user=user)
            task_submit(task=task, user=user, answer=Answer("label", label[name]))

        round = round_raise(round=round, user=round.created_by, count=20)

        assert round.counted_tasks.get(item=task.item_id).purpose == "adjudication"
        assert round.counted_tasks.count() == 20
        assert round.current_blocks.get().arrays().selected.sum() == 20

    @pytest.mark.parametrize("is_answered", [True, False])
    def test_a_picked_item_that_is_drawn_becomes_the_draws_own(self, is_answered):
        round = self.make("threshold")
        item = present(round.criticism_run).criticisms.order_by("-priority")[10].annotation.item
        picked = ReviewTask.objects.create(
            round=round, item=item, annotation=item.annotations.get(), rank=99, purpose="picked"
        )
        if is_answered:
            task_submit(task=picked, user=round.created_by, answer=Answer("skip"))
        preview = raise_preview(round=round, count=20)

        round = round_raise(round=round, user=round.created_by, count=20)

        picked.refresh_from_db()
        assert (picked.purpose, picked.is_counted) == ("review", True)
        assert round.tasks.filter(item=item).count() == 1
        assert round.counted_tasks.count() == 20
        assert preview.waiting == round.counted_tasks.filter(state="waiting").count() == 20 - is_answered

    def test_a_picked_item_that_is_not_drawn_stays_picked(self):
        round = self.make("threshold")
        item = present(round.criticism_run).criticisms.order_by("priority")[0].annotation.item
        picked = ReviewTask.objects.create(round=round, item=item, rank=99, purpose="picked")

        round = round_raise(round=round, user=round.created_by, count=20)

        picked.refresh_from_db()
        assert picked.purpose == "picked"
        assert round.counted_tasks.exclude(purpose="picked").count() == 20
