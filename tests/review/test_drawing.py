from collections import Counter

import numpy as np
import pytest

from annotate.models import Annotation
from criticize.models import Criticism
from review.drawing import arm_of, population, ranks, select
from review.models import DrawBlock, ReviewRound
from review.services.audits import audit_round_create
from review.services.rounds import calibration_round_create, round_close, round_create
from review.setup import RoundSetup
from tests.factories import (
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_project,
)

pytestmark = pytest.mark.django_db

RULES = ("threshold", "normalize", "exponential")


def criticized(error_probs, failed=()):
    """A criticism run over as many items; items at `failed` places have no label."""
    project = make_project()
    items = make_items(project, len(error_probs) + len(failed))
    answers = {item: "" if place in failed else "positive" for place, item in enumerate(items)}
    return make_criticism_run(make_annotation_run(project, answers), error_probs)


def drawn(round: ReviewRound) -> dict[int, tuple[float, float, bool]]:
    """What was stored: item id → (ε̂, π, δ)."""
    stored = {}
    for block in round.draw_blocks.all():
        for item_id, error_prob, _, inclusion_prob, selected in zip(*block.arrays(), strict=True):
            stored[int(item_id)] = (float(error_prob), float(inclusion_prob), bool(selected))
    return stored


class TestPopulation:
    def test_it_pairs_each_item_with_its_own_criticism_whatever_the_order_of_rows(self):
        run = criticized([0.1, 0.7, 0.3])
        Criticism.objects.all().delete()
        annotations = list(run.annotation_run.annotations.order_by("-item_id"))
        expected = {}
        for place, annotation in enumerate(annotations):
            criticism = Criticism.objects.create(
                run=run, annotation=annotation, error_prob=place / 10, priority=place / 10
            )
            expected[annotation.item_id] = (annotation.pk, criticism.pk, place / 10)

        items = population(run)

        columns = (items.item_ids, items.annotation_ids, items.criticism_ids, items.error_probs)
        assert {row[0]: row[1:] for row in zip(*(c.tolist() for c in columns), strict=True)} == expected
        assert items.item_ids.tolist() == sorted(items.item_ids.tolist())

    def test_annotations_whose_ids_do_not_rise_with_their_items_are_paired_too(self):
        project = make_project()
        items = make_items(project, 5)
        annotation_run = make_annotation_run(project, dict.fromkeys(reversed(items), "positive"))
        run = make_criticism_run(annotation_run, [0.0, 0.1, 0.2, 0.3, 0.4])

        pairs = dict(
            zip(population(run).item_ids.tolist(), population(run).error_probs.tolist(), strict=True)
        )

        assert pairs == {item.pk: place / 10 for place, item in enumerate(items)}

    def test_what_failed_counts_as_suspicious_as_can_be(self):
        run = criticized([0.2, 0.99, 0.5], failed={1})
        Criticism.objects.filter(error_prob=0.5).update(error_prob=None, priority=None, failure="refused")

        items = population(run)

        assert np.isnan(items.error_probs).tolist() == [False, True, False, True]
        assert items.suspicion.tolist() == [0.2, 1.0, 0.99, 1.0]
        assert (items.criticism_ids == 0).tolist() == [False, True, False, True]

    def test_another_runs_criticisms_are_left_out(self):
        run = criticized([0.2, 0.4])
        make_criticism_run(run.annotation_run, [0.9, 0.8])

        assert population(run).error_probs.tolist() == [0.2, 0.4]

    def test_without_criticisms_all_are_suspicious(self):
        run = criticized([0.2, 0.4])
        Criticism.objects.all().delete()

        assert population(run).suspicion.tolist() == [1.0, 1.0]

    def test_without_annotations_there_is_nothing(self):
        run = criticized([0.2])
        Annotation.objects.all().delete()

        assert len(population(run)) == 0


class TestSelect:
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("budget", [1, 7, 20])
    def test_the_same_seed_selects_the_same_within_the_budget(self, rule, budget):
        items = population(criticized(np.linspace(0, 1, 20).round(2).tolist()))

        first, second = (select(items, rule=rule, budget=budget, seed=5) for _ in range(2))

        assert first.selected.tolist() == second.selected.tolist()
        assert first.inclusion_probs.tolist() == second.inclusion_probs.tolist()
        assert first.selected.sum() == budget
        assert first.inclusion_probs.sum() == pytest.approx(budget)

    @pytest.mark.parametrize("rule", RULES)
    def test_another_seed_selects_other_ties(self, rule):
        items = population(criticized([0.5] * 40))

        chosen = {select(items, rule=rule, budget=10, seed=seed).selected.tobytes() for seed in range(5)}

        assert len(chosen) == 5

    @pytest.mark.parametrize("rule", RULES)
    def test_changed_scores_change_the_choice(self, rule):
        scores = [0.9] * 5 + [0.001] * 15
        before = select(population(criticized(scores)), rule=rule, budget=5, seed=1)
        after = select(population(criticized(scores[::-1])), rule=rule, budget=5, seed=1)

        assert before.selected[:5].sum() > before.selected[15:].sum()
        assert after.selected[15:].sum() > after.selected[:5].sum()

    def test_an_unknown_rule_is_named(self):
        with pytest.raises(ValueError, match="Unknown rule 'best'"):
            select(population(criticized([0.5])), rule="best", budget=1, seed=1)

    def test_the_failed_come_first(self):
        run = criticized([0.9, 0.99, 0.8], failed={0})

        assert select(population(run), rule="threshold", budget=1, seed=1).selected.tolist() == [
            True,
            False,
            False,
            False,
        ]


class TestRanks:
    def test_the_most_suspicious_comes_first(self):
        suspicion = np.array([0.1, 0.9, 0.5, 0.7])

        assert ranks(suspicion, np.array([True, True, False, True]), seed=1).tolist() == [1, 3, 0]

    def test_ties_are_in_a_random_order_of_the_seed(self):
        suspicion, selected = np.full(30, 0.5), np.ones(30, dtype=bool)

        first = ranks(suspicion, selected, seed=1).tolist()

        assert (
            first
            == ranks(suspicion, selected, seed=1).tolist()
            != ranks(suspicion, selected, seed=2).tolist()
        )
        assert first != sorted(first)
        assert sorted(first) == list(range(30))

    def test_nothing_selected_gives_nothing(self):
        assert ranks(np.array([0.5]), np.array([False]), seed=1).tolist() == []


class TestStore:
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("size", [3, 7, 50_000])
    def test_what_is_stored_is_what_was_drawn_to_the_last_bit(self, rule, size, monkeypatch):
        monkeypatch.setattr(DrawBlock, "SIZE", size)
        run = criticized(np.random.default_rng(3).random(20).tolist(), failed={4})

        round = round_create(run=run, user=run.created_by, count=6, rule=rule, seed=11)

        items = population(run)
        selection = select(items, rule=rule, budget=6, seed=11)
        stored = drawn(round)
        assert list(stored) == items.item_ids.tolist()
        for place, (error_prob, inclusion_prob, selected) in enumerate(stored.values()):
            assert np.array_equal(error_prob, items.error_probs[place], equal_nan=True)
            assert inclusion_prob == selection.inclusion_probs[place]
            assert selected == selection.selected[place]
        assert set(round.tasks.values_list("item_id", flat=True)) == {
            item_id for item_id, (_, _, selected) in stored.items() if selected
        }
        assert round.draw_blocks.count() == -(-21 // size)

    def test_tasks_are_queued_most_suspicious_first_with_what_was_said(self):
        run = criticized([0.2, 0.9, 0.4, 0.7], failed={2})

        round = round_create(run=run, user=run.created_by, count=4)

        tasks = list(round.tasks.select_related("annotation", "criticism").order_by("rank"))
        assert [task.rank for task in tasks] == [0, 1, 2, 3]
        assert [task.criticism and task.criticism.error_prob for task in tasks] == [None, 0.9, 0.7, 0.4]
        assert tasks[0].annotation is not None
        assert tasks[0].annotation.failure == "refused"
        for task in tasks:
            assert task.annotation is not None
            assert task.annotation.item_id == task.item_id


def drawn_with(setup: RoundSetup, *, items: int = 40, budget: int = 20, seed: int = 5) -> ReviewRound:
    project = make_project()
    make_items(project, items)
    run = make_criticism_run(make_annotation_run(project))
    return round_create(run=run, user=run.created_by, count=budget, seed=seed, setup=setup)


class TestTurns:
    def test_a_share_of_the_items_has_several_turns_on_top_of_the_budget(self):
        round = drawn_with(RoundSetup(overlap=3, overlap_share=0.25))

        copies = Counter(round.tasks.values_list("item_id", flat=True))

        assert Counter(copies.values()) == {1: 15, 3: 5}
        assert round.counted_tasks.count() == round.budget == 20
        assert round.current_blocks.get().arrays().selected.sum() == 20
        for item_id, count in copies.items():
            turns = round.tasks.filter(item_id=item_id).order_by("copy")
            assert [turn.copy for turn in turns] == list(range(count))
            assert [turn.is_counted for turn in turns] == [True] + [False] * (count - 1)
            assert len({(turn.rank, turn.arm, turn.annotation_id, turn.criticism_id) for turn in turns}) == 1

    def test_which_items_are_read_again_is_drawn_by_the_seed(self):
        def ranks_read_again(seed: int) -> list[int]:
            round = drawn_with(RoundSetup(overlap=2, overlap_share=0.3), seed=seed)
            return list(round.tasks.filter(copy=1).order_by("rank").values_list("rank", flat=True))

        assert ranks_read_again(5) == ranks_read_again(5)
        assert len({tuple(ranks_read_again(seed)) for seed in range(4)}) > 1

    @pytest.mark.parametrize("display", ["criticism", "label", "blind"])
    def test_all_turns_have_the_arm_of_the_display(self, display):
        round = drawn_with(RoundSetup(display=display))

        assert set(round.tasks.values_list("arm", flat=True)) == {display}

    def test_by_chance_items_have_each_of_the_arms(self):
        round = drawn_with(RoundSetup(display="random", overlap=2, overlap_share=1.0), items=300, budget=300)

        arms = Counter(round.tasks.values_list("arm", flat=True))

        assert sum(arms.values()) == 600
        assert all(140 < arms[arm] < 260 for arm in ("criticism", "label", "blind"))
        for task in round.tasks.filter(copy=1)[:50]:
            assert round.tasks.get(item=task.item_id, copy=0).arm == task.arm == arm_of(round, task.item_id)

    def test_blind_rounds_have_blind_turns(self):
        round = drawn_with(RoundSetup())
        user = round.created_by
        setup = RoundSetup(overlap=2, overlap_share=1.0)
        round_close(round=round, user=user)
        audit = audit_round_create(round=round, user=user, count=3, setup=setup)
        calibration = calibration_round_create(project=round.project, user=user, count=3, setup=setup)

        for blind in (audit, calibration):
            assert set(blind.tasks.values_list("arm", flat=True)) == {"blind"}
            assert (blind.tasks.count(), blind.counted_tasks.count()) == (6, 3)
