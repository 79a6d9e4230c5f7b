"""Audits and certificates: what is drawn, when there is a figure, and whether it is the right one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.errors import Refusal
from annotate.models import Annotation, Item, Project
from review.audits import audit_plan
from review.blindness import waits_blind
from review.certificate import (
    accuracy_interval,
    audit_size,
    audit_sizes,
    inclusion_with_audits,
)
from review.certification import Certificate, certification, certification_now
from review.models import ReviewRound, ReviewTask
from review.sampling import draw, inclusion_probabilities
from review.selectors import final_accuracy, round_progress, task_for_reviewer
from review.services.audits import audit_round_create
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.services.rounds import calibration_round_create, round_close, round_create, round_reopen
from review.standing import counts_of_rounds, standing_of
from review.weights import act_weights
from tests.factories import (
    label_named,
    make_annotation_run,
    make_audit_round,
    make_calibration_label,
    make_criticism_run,
    make_item,
    make_items,
    make_project,
)

Labels = Callable[[Item], str]


class TestSizes:
    def test_they_say_what_accuracy_interval_says(self):
        size = audit_size(200, 12_300, reviewed=1_000)

        assert (size.low, size.high) == accuracy_interval(10, 200, 12_300, reviewed=1_000)
        assert size.half_width == pytest.approx(0.03, abs=0.001)

    def test_they_end_with_everything_and_get_narrower(self):
        sizes = audit_sizes(500)

        assert [size.audited for size in sizes] == [50, 100, 200, 400, 500]
        widths = [size.half_width for size in sizes]
        assert widths == sorted(widths, reverse=True)
        assert widths[-1] == 0
        assert audit_sizes(0) == []
        assert [size.audited for size in audit_sizes(3)] == [3]

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="share of wrong labels"):
            audit_size(1, 2, error_share=1.5)
        with pytest.raises(ValueError, match="wrong ≤ audited"):
            audit_size(3, 2)


class TestInclusion:
    @given(
        st.lists(st.floats(0, 1), max_size=8),
        st.lists(st.floats(0, 1), max_size=3),
    )
    def test_it_is_the_chance_of_being_taken_at_least_once(self, probabilities, shares):
        found = inclusion_with_audits(probabilities, shares)

        expected = 1 - (1 - np.array(probabilities)) * np.prod([1 - share for share in shares])
        assert found == pytest.approx(expected, abs=1e-12)
        assert np.all((found >= 0) & (found <= 1))

    def test_without_an_audit_nothing_changes_to_the_last_bit(self):
        probabilities = np.random.default_rng(0).random(100)
        assert inclusion_with_audits(probabilities, []).tolist() == probabilities.tolist()

    def test_a_share_out_of_range_is_refused(self):
        with pytest.raises(ValueError, match="audited share"):
            inclusion_with_audits([0.5], [1.2])

    @pytest.mark.parametrize("rule", ["normalize", "exponential"])
    @pytest.mark.parametrize("lam", [0.6, 1.0])
    def test_the_act_loss_over_draw_and_audit_is_that_of_human_labels_on_average(self, rule, lam):
        """And giving audited items weight 1 while all others keep theirs is not: they were already accounted for."""
        rng = np.random.default_rng(7)
        items, budget, audited = 24, 8, 6
        error_probs = rng.random(items)
        machine_loss, human_loss = rng.random(items), rng.random(items) + 0.5
        inclusion, _ = inclusion_probabilities(error_probs, budget, rule)
        together, naive = [], []
        for _ in range(2000):
            selected = draw(inclusion, rng=rng)
            rest = np.flatnonzero(~selected)
            is_audited = np.isin(np.arange(items), rng.choice(rest, audited, replace=False))
            machine, human = act_weights(
                selected | is_audited, inclusion_with_audits(inclusion, [audited / len(rest)]), lam
            )
            together.append(np.mean(machine * machine_loss + human * human_loss))
            machine, human = act_weights(selected, inclusion, lam)
            machine, human = np.where(is_audited, 0, machine), np.where(is_audited, 1, human)
            naive.append(np.mean(machine * machine_loss + human * human_loss))

        def errors_away(losses: list[Any]) -> float:
            standard_error = np.std(losses) / np.sqrt(len(losses))
            return float(abs(np.mean(losses) - human_loss.mean()) / standard_error)

        assert errors_away(together) < 4
        assert errors_away(naive) > 4


# --- Rounds ----------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.django_db


def wrong_every(number: int, project: Project) -> dict[Item, str]:
    """A run's answers: the items' gold is positive, and every so many-th answer is not."""
    return {
        item: "negative" if place % number == 0 else "positive"
        for place, item in enumerate(project.items.order_by("pk"))
    }


def reviewed_round(
    items: int = 40, budget: int = 10, *, wrong: int = 5, rule: str = "threshold"
) -> ReviewRound:
    """A round whose reviews are all done, by gold: one machine label in `wrong` is wrong."""
    project = make_project()
    make_items(project, items, gold="positive")
    run = make_criticism_run(make_annotation_run(project, wrong_every(wrong, project)))
    round = round_create(run=run, user=project.created_by, count=budget, rule=rule)
    answer_all(round)
    return round


def gold(item: Item) -> str:
    assert item.gold is not None
    return item.gold.name


def answer_all(round: ReviewRound, label: Labels = gold, *, skip: int = 0, most: int = 10_000) -> None:
    """Answer everything in the round's order, the first `skip` with a skip."""
    user, given = round.created_by, 0
    while given < most and (tasks := tasks_claim(round=round, user=user, count=min(10, most - given))):
        for task in tasks:
            answer = (
                Answer("skip")
                if given < skip
                else Answer("label", label_named(round.project, label(task.item)))
            )
            task_submit(task=task, user=user, answer=answer)
            given += 1


def certificate_of(round: ReviewRound) -> Certificate:
    said = certification_now(ReviewRound.objects.get(pk=round.pk))
    assert said.certificate is not None, said.missing
    assert not said.missing
    return said.certificate


def missing_for(round: ReviewRound) -> str:
    said = certification_now(ReviewRound.objects.get(pk=round.pk))
    assert said.certificate is None
    assert said.missing
    return said.missing


class TestDrawing:
    def test_it_takes_random_items_that_nobody_reviewed(self):
        round = reviewed_round(40, 10)
        make_calibration_label(make_item(round.project), "positive")
        reviewed = set(round.tasks.values_list("item_id", flat=True))

        audit = audit_round_create(round=round, user=round.created_by, count=8)

        tasks = list(audit.tasks.order_by("rank"))
        drawn = [task.item_id for task in tasks]
        assert len(set(drawn)) == 8
        assert not reviewed & set(drawn)
        assert set(drawn) <= set(Annotation.objects.values_list("item_id", flat=True))
        assert drawn != sorted(drawn)
        assert all(task.annotation is not None and task.annotation.item_id == task.item_id for task in tasks)
        assert (audit.kind, audit.audited, audit.budget, audit.population) == ("audit", round, 8, 30)
        assert audit.criticism_run == round.criticism_run
        block = audit.current_blocks.get().arrays()
        assert len(block.item_ids) == 30
        assert set(block.item_ids[block.selected].tolist()) == set(drawn)
        assert block.inclusion_probs == pytest.approx(8 / 30)

    def test_the_same_seed_gives_the_same_audit_and_another_one_another(self):
        rounds = [reviewed_round(40, 10) for _ in range(3)]
        samples = []
        for round, seed in zip(rounds, (5, 5, 6), strict=True):
            first = round.project.items.order_by("pk")[0].pk
            audit = make_audit_round(round, 10, seed=seed)
            assert audit.seed == seed
            samples.append([task.item_id - first for task in audit.tasks.order_by("rank")])

        assert samples[0] == samples[1] != samples[2]

    def test_every_set_is_as_likely_as_any_other(self):
        round = reviewed_round(8, 2)
        plan = audit_plan(round)
        counts = np.zeros((6, 6))
        for seed in range(300):
            order = np.random.default_rng([seed, 2]).permutation(6)[:2]
            counts[np.ix_(order, order)] += 1
            if seed < 3:
                audit = audit_round_create(round=round, user=round.created_by, count=2, seed=seed)
                drawn = list(audit.tasks.order_by("rank").values_list("item_id", flat=True))
                assert drawn == plan.population[order].tolist()
                audit.delete()

        pairs = counts[np.triu_indices(6, 1)]
        assert np.all(np.abs(pairs - 20) < 4 * np.sqrt(20))

    @pytest.mark.parametrize("how", ["open", "closed"])
    def test_only_a_finished_or_closed_round_is_audited(self, how):
        project = make_project()
        make_items(project, 6)
        round = round_create(
            run=make_criticism_run(make_annotation_run(project)), user=project.created_by, count=2
        )
        if how == "open":
            with pytest.raises(Refusal, match="Finish or close the round first"):
                audit_round_create(round=round, user=round.created_by, count=2)
            assert "Finish or close the review (2 items are left)" in missing_for(round)
            return
        round_close(round=round, user=round.created_by)
        # Selected items without an answer are as unreviewed as the others.
        assert audit_round_create(round=round, user=round.created_by, count=6).population == 6

    def test_what_cannot_be_drawn_is_refused(self):
        round = reviewed_round(12, 4)
        user = round.created_by
        for count, sentence in ((0, "at least one item"), (9, "At most 8 items")):
            with pytest.raises(Refusal, match=sentence) as refusal:
                audit_round_create(round=round, user=user, count=count)
            assert refusal.value.field == "count"
        make_item(round.project)
        blind = calibration_round_create(project=round.project, user=user, count=1)
        with pytest.raises(Refusal, match="Only a review round"):
            audit_round_create(round=blind, user=user, count=1)
        assert not ReviewRound.objects.filter(kind="audit").exists()

    def test_another_one_waits_until_the_one_before_is_answered(self):
        round = reviewed_round(12, 4)
        audit = make_audit_round(round, 2)

        with pytest.raises(Refusal, match=f"Audit round {audit.pk} has 2 items left"):
            audit_round_create(round=round, user=round.created_by, count=2)

    def test_a_further_audit_extends_the_one_before(self):
        round, twin = reviewed_round(30, 6), reviewed_round(30, 6)
        whole = make_audit_round(twin, 12)
        first = make_audit_round(round, 5)
        answer_all(first)
        second = make_audit_round(round, 7)

        offset = twin.project.items.earliest("pk").pk - round.project.items.earliest("pk").pk
        parts = [task.item_id + offset for audit in (first, second) for task in audit.tasks.order_by("rank")]
        assert parts == [task.item_id for task in whole.tasks.order_by("rank")]
        assert second.parameters["extends"] == first.pk
        assert second.population == first.population == 24
        with pytest.raises(Refusal, match="items left"):
            audit_round_create(round=round, user=round.created_by, count=1)
        answer_all(second)
        assert certificate_of(round).audited == 12
        with pytest.raises(Refusal, match="goes on with its seed"):
            audit_round_create(round=round, user=round.created_by, count=1, seed=999)
        answer_all(make_audit_round(round, 12))
        with pytest.raises(Refusal, match="nothing is left"):
            audit_round_create(round=round, user=round.created_by, count=1)

    def test_after_other_changes_it_begins_anew_among_what_no_person_labelled(self):
        project = make_project()
        make_items(project, 20, gold="positive")
        run = make_criticism_run(make_annotation_run(project, wrong_every(4, project)))
        round = round_create(run=run, user=project.created_by, count=8)
        answer_all(round, most=3)
        first = make_audit_round(round, 6)
        answer_all(first)
        round_reopen(round=round, user=round.created_by)
        round.refresh_from_db()
        answer_all(round)
        people = set(ReviewTask.objects.filter(state="answered").values_list("item_id", flat=True))

        second = make_audit_round(ReviewRound.objects.get(pk=round.pk), 4)

        assert second.parameters["extends"] is None
        assert second.population == 20 - len(people)
        assert not people & set(second.tasks.values_list("item_id", flat=True))
        answer_all(second)
        certificate = certificate_of(round)
        assert certificate.audits == [second.pk]
        assert (certificate.reviewed, certificate.population, certificate.items) == (
            len(people),
            20 - len(people),
            20,
        )


class TestBlindness:
    def test_reviewers_see_nothing_of_the_machines(self):
        round = reviewed_round(12, 4)
        audit = make_audit_round(round, 3)
        (task,) = tasks_claim(round=audit, user=round.created_by)

        shown = task_for_reviewer(task, None)

        assert shown["blind"]
        assert (shown["machine"], shown["criticism"], shown["failure"]) == (None, None, None)
        correction = task_submit(
            task=task, user=round.created_by, answer=Answer("label", label_named(round.project, "negative"))
        )
        assert correction.shown == {"arm": "blind", "machine_label": None, "error_prob": None}
        assert round_progress(audit).corrected == 0

    def test_its_items_are_hidden_elsewhere_while_they_wait(self):
        round = reviewed_round(12, 4)
        audit = make_audit_round(round, 3)

        assert all(waits_blind(task.item) for task in audit.tasks.all())
        answer_all(audit)
        assert not any(waits_blind(task.item) for task in audit.tasks.all())

    def test_it_is_not_taken_for_the_round_to_review(self):
        round = reviewed_round(12, 4)
        audit = make_audit_round(round, 3)

        assert standing_of(round.project).round == round
        assert counts_of_rounds([audit])[audit.pk].left == 3


class TestCertificate:
    def test_without_an_audit_it_says_what_is_missing(self):
        assert "nobody has audited" in missing_for(reviewed_round(12, 4))

    def test_a_part_of_an_audit_gives_no_figure(self):
        round = reviewed_round(20, 4)
        audit = make_audit_round(round, 5)
        answer_all(audit, most=4)

        assert "1 of its 5 items wait" in missing_for(round)
        round_close(round=audit, user=audit.created_by)
        assert "reopen it first" in missing_for(round)

    def test_the_figures_are_those_of_the_sample(self):
        round = reviewed_round(40, 10, wrong=5)
        audit = make_audit_round(round, 12)
        answer_all(audit)

        certificate = certificate_of(round)

        run = round.criticism_run.annotation_run  # type: ignore[union-attr]
        labels = dict(run.annotations.values_list("item_id", "label__name"))
        wrong = sum(labels[task.item_id] == "negative" for task in audit.tasks.all())
        corrected = sum(labels[task.item_id] == "negative" for task in round.tasks.all())
        assert (certificate.items, certificate.reviewed, certificate.population) == (40, 10, 30)
        assert (certificate.audited, certificate.wrong, certificate.corrected) == (12, wrong, corrected)
        low, high = accuracy_interval(wrong, 12, 30, reviewed=10)
        assert (certificate.after.low, certificate.after.high) == pytest.approx((low, high))
        assert certificate.after.share == pytest.approx((10 + 30 * (1 - wrong / 12)) / 40)
        low, high = accuracy_interval(wrong, 12, 30)
        right = 10 - corrected
        assert certificate.before.low == pytest.approx((right + 30 * low) / 40)
        assert certificate.before.high == pytest.approx((right + 30 * high) / 40)
        assert certificate.before.low <= 32 / 40 <= certificate.before.high
        assert certificate.made_at is not None
        assert certificate.notes == []

    def test_auditing_everything_leaves_nothing_open(self):
        round = reviewed_round(20, 5, wrong=4)
        answer_all(make_audit_round(round, 15))

        certificate = certificate_of(round)

        assert certificate.before.low == certificate.before.share == certificate.before.high == 15 / 20
        assert final_accuracy(round) == (20, 20)

    def test_where_people_reviewed_everything_no_audit_is_needed(self):
        round = reviewed_round(10, 10, wrong=5)

        certificate = certificate_of(round)

        assert (certificate.audited, certificate.reviewed, certificate.corrected) == (0, 10, 2)
        assert (certificate.before.low, certificate.before.high) == (0.8, 0.8)
        assert (certificate.after.low, certificate.after.high) == (1.0, 1.0)

    def test_a_skipped_item_counts_as_wrong_and_is_said(self):
        round = reviewed_round(20, 4, wrong=100)  # only the first label is wrong
        audit = make_audit_round(round, 5)
        answer_all(audit, skip=2)

        certificate = certificate_of(round)

        assert certificate.skipped == 2
        assert certificate.wrong in (2, 3)
        assert any("2 audited items were skipped" in note for note in certificate.notes)

    def test_an_item_without_a_machines_label_counts_as_wrong(self):
        project = make_project()
        items = make_items(project, 6, gold="positive")
        run = make_annotation_run(
            project, {item: "positive" if item is not items[0] else "" for item in items}
        )
        round = round_create(run=make_criticism_run(run), user=project.created_by, count=1)
        round_close(round=round, user=round.created_by)  # nobody answers, not even the failed one
        answer_all(make_audit_round(round, 6))

        certificate = certificate_of(round)

        assert certificate.wrong == 1
        assert certificate.before.share == pytest.approx(5 / 6)

    def test_an_answer_taken_back_makes_it_incomplete_and_its_correction_counts(self):
        round = reviewed_round(20, 4, wrong=100)
        audit = make_audit_round(round, 5)
        answer_all(audit)
        before = certificate_of(round).wrong

        answer_undo(round=audit, user=round.created_by)
        assert "1 of its 5 items wait" in missing_for(round)
        answer_all(audit, lambda item: "negative")
        assert certificate_of(round).wrong == before + 1

    def test_a_review_taken_back_later_counts_as_wrong(self):
        round = reviewed_round(20, 5, wrong=100)
        answer_all(make_audit_round(round, 15))
        assert certificate_of(round).after.low == pytest.approx(certificate_of(round).after.high)
        before = certificate_of(round)

        answer_undo(round=ReviewRound.objects.get(pk=round.pk), user=round.created_by)

        certificate = certificate_of(round)
        assert certificate.after.high == pytest.approx(before.after.high - 1 / 20)
        assert any("1 reviews were taken back" in note for note in certificate.notes)

    def test_reviews_since_are_said_and_not_counted(self):
        project = make_project()
        make_items(project, 20, gold="positive")
        run = make_criticism_run(make_annotation_run(project, wrong_every(4, project)))
        round = round_create(run=run, user=project.created_by, count=6)
        answer_all(round, most=3)
        answer_all(make_audit_round(round, 6))
        before = certificate_of(round)
        round_reopen(round=round, user=round.created_by)
        round.refresh_from_db()
        answer_all(round)

        certificate = certificate_of(round)

        assert certificate.after == before.after
        assert any("3 more items were reviewed" in note for note in certificate.notes)

    def test_an_audit_before_a_raise_describes_the_labels_before(self):
        round = reviewed_round(20, 5)
        answer_all(make_audit_round(round, 6))
        for block in round.draw_blocks.all():  # a second draw of the same items, as a raise makes it
            block.pk, block.draw_number = None, 1
            block.save()
        ReviewRound.objects.filter(pk=round.pk).update(draw_number=1)

        assert any("raised after the audit" in note for note in certificate_of(round).notes)

    def test_a_further_audit_under_way_does_not_take_the_certificate_away(self):
        round = reviewed_round(30, 6)
        answer_all(make_audit_round(round, 6))
        before = certificate_of(round)
        make_audit_round(round, 4)

        certificate = certificate_of(round)

        assert (certificate.before, certificate.after) == (before.before, before.after)
        assert any("4 of its items wait" in note for note in certificate.notes)

    def test_what_is_kept_for_the_page_follows_the_answers(self):
        round = reviewed_round(20, 4, wrong=100)
        assert certification(round).missing
        audit = make_audit_round(round, 5)
        answer_all(audit)
        wrong = certification(round).certificate.wrong  # type: ignore[union-attr]

        answer_undo(round=audit, user=round.created_by)
        assert certification(round).certificate is None
        answer_all(audit, lambda item: "negative")
        assert certification(round).certificate.wrong == wrong + 1  # type: ignore[union-attr]

    def test_what_is_kept_stays_while_only_others_are_answered(self, monkeypatch):
        round, other = reviewed_round(20, 4), reviewed_round(20, 4)
        made = []

        def noted(each):
            made.append(each)
            return certification_now(each)

        monkeypatch.setattr("review.certification.certification_now", noted)
        kept = certification(round)

        answer_all(make_audit_round(other, 5))
        assert certification(round) == kept
        assert made == [round]
        audit = make_audit_round(round, 5)
        answer_all(audit)
        assert certification(round).certificate is not None
        answer_all(make_audit_round(other, 5))
        certification(round)
        assert made == [round, round]

    def test_only_review_rounds_have_one(self):
        audit = make_audit_round(reviewed_round(12, 4), 2)
        assert certification_now(audit).certificate is None
