"""What orders a round: criticism, criticism with confidence, and the CDI detector; what they learn from."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project
from criticize.models import CriticismRun
from jobs.models import Job
from review.drawing import population
from review.models import ReviewRound
from review.priorities import is_training, known_of, prioritized
from review.services.raising import round_raise
from review.services.rounds import round_create, round_preview
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_project,
)
from tests.review.judging import answer_all, answer_task

pytestmark = pytest.mark.django_db

CRITICISM, COMBINED, CDI = ReviewRound.Priority.values
LEARNED = [COMBINED, CDI]


def make_sure(run: AnnotationRun, confidences: list[float | None] | None = None) -> None:
    """Say how sure the annotator was, by default in three levels that take turns."""
    for number, annotation in enumerate(run.annotations.order_by("item_id")):
        annotation.confidence = [0.9, 0.6, 0.3][number % 3] if confidences is None else confidences[number]
        annotation.save(update_fields=["confidence"])


def make_run(items: int = 60, **fields: Any) -> CriticismRun:
    """A criticized run of `items` items whose annotator says how sure it was."""
    project = make_project()
    make_items(project, items)
    annotations = make_annotation_run(project)
    make_sure(annotations)
    return make_criticism_run(annotations, **fields)


def make_candidate(run: CriticismRun, judged: int = 30, **fields: Any) -> AnnotationRun:
    """The same annotator on calibration items: wrong on every third, of which it was least sure."""
    project = run.annotation_run.project
    items = make_items(project, judged)
    for item in items:
        make_calibration_label(item, "negative")
    candidate = make_annotation_run(
        project,
        {item: "positive" if n % 3 == 2 else "negative" for n, item in enumerate(items)},
        scope=AnnotationRun.Scope.CALIBRATION,
        **fields,
    )
    make_sure(candidate)
    return candidate


def review_least_sure_as_wrong(round: ReviewRound) -> None:
    project = round.project
    for task in round.tasks.select_related("annotation"):
        assert task.annotation is not None
        is_wrong = task.annotation.confidence == 0.3
        answer_task(task, label_named(project, "positive" if is_wrong else "negative"))


def test_criticism_is_taken_as_it_is() -> None:
    run = make_run(5)

    items, learned = prioritized(run, CRITICISM)

    assert learned == {}
    assert items.priorities.tolist() == population(run).priorities.tolist()


def test_an_unknown_priority_is_refused() -> None:
    with pytest.raises(Refusal, match="criticism, combined, cdi"):
        prioritized(make_run(2), "astrology")


@pytest.mark.parametrize("priority", LEARNED)
def test_what_people_reviewed_is_learned_from(priority: str) -> None:
    run = make_run()
    review_least_sure_as_wrong(round_create(run=run, user=run.created_by, count=30))

    items, parameters = prioritized(run, priority)

    learned = parameters["learned"]
    assert (learned["known"], learned["errors"]) == (30, 10)
    assert (learned["from_reviews"], learned["from_calibration"]) == (30, 0)
    least_sure = np.arange(60) % 3 == 2
    assert items.priorities[least_sure].min() > items.priorities[~least_sure].max()
    assert np.array_equal(items.priorities, items.error_probs)
    assert items.has_probabilities
    assert np.array_equal(items.criticism_ids, population(run).criticism_ids)


def test_a_detector_learns_from_the_same_annotators_candidate() -> None:
    run = make_run()
    candidate = make_candidate(run)
    make_candidate(run, model="another")
    make_candidate(run, state=Job.State.RUNNING)

    items, parameters = prioritized(run, CDI)

    learned = parameters["learned"]
    assert candidate.annotations.count() == 30
    assert (learned["known"], learned["errors"], learned["from_calibration"]) == (30, 10, 30)
    assert learned["seed"] == run.annotation_run.project.seed
    assert sum(learned["importances"].values()) == pytest.approx(1)
    least_sure = np.arange(60) % 3 == 2
    assert items.priorities[least_sure].min() > items.priorities[~least_sure].max()


def test_a_combination_needs_a_candidate_that_the_same_criticizer_read() -> None:
    run = make_run()
    candidate = make_candidate(run)
    make_criticism_run(candidate, model="another")

    with pytest.raises(Refusal, match=r"Of 0 annotations .* let the same criticizer read that"):
        prioritized(run, COMBINED)

    make_criticism_run(candidate)
    _, parameters = prioritized(run, COMBINED)
    assert parameters["learned"]["from_calibration"] == 30
    assert parameters["learned"]["coefficients"]["confidence"] < 0


def test_reviews_and_calibration_add_up() -> None:
    run = make_run()
    make_criticism_run(make_candidate(run))
    answer_all(run, 20, wrong=4)

    _, parameters = prioritized(run, COMBINED)

    assert parameters["learned"]["known"] == 50
    assert parameters["learned"]["errors"] == 14


def test_the_last_correction_of_an_item_counts() -> None:
    run = make_run()
    first = answer_all(run, 20, wrong=20)
    assert known_of(run).is_error.sum() == 20
    answer_all(run, 20, wrong=0)

    known = known_of(run)

    assert first.tasks.count() == 20
    assert (len(known.is_error), known.is_error.sum()) == (20, 0)


def test_skipped_items_teach_nothing() -> None:
    run = make_run()
    round = answer_all(run, 12, wrong=6)
    round.tasks.update(state="skipped")

    assert len(known_of(run).is_error) == 0


@pytest.mark.parametrize("priority", LEARNED)
def test_without_confidences_there_is_nothing_to_learn(priority: str) -> None:
    run = make_run()
    make_sure(run.annotation_run, [None] * 60)

    with pytest.raises(Refusal, match="how sure it is") as caught:
        prioritized(run, priority, training_share=0.5)
    assert caught.value.field == "priority"


@pytest.mark.parametrize("priority", LEARNED)
@pytest.mark.parametrize(("wrong", "sentence"), [(0, "None of the 20"), (20, "All of the 20")])
def test_one_kind_of_outcome_is_too_little(priority: str, wrong: int, sentence: str) -> None:
    run = make_run()
    answer_all(run, 20, wrong=wrong)

    with pytest.raises(Refusal, match=sentence) as caught:
        prioritized(run, priority)
    assert "Review some items first" in caught.value.sentence


@pytest.mark.parametrize("priority", LEARNED)
def test_items_without_an_answer_stay_most_suspicious(priority: str) -> None:
    project = make_project()
    items = make_items(project, 40)
    answers = dict.fromkeys(items, "negative") | {items[5]: ""}
    annotations = make_annotation_run(project, answers)
    make_sure(annotations, [0.9 - 0.02 * n for n in range(40)])
    error_probs: list[float | None] = [0.9 - 0.02 * n for n in range(39)]
    error_probs[10] = None
    run = make_criticism_run(annotations, error_probs)
    answer_all(run, 20, wrong=7)

    drawn_from, _ = prioritized(run, priority)

    missing = np.flatnonzero(np.isnan(drawn_from.priorities)).tolist()
    # The detector asks for no criticism, so it judges the item whose criticism failed.
    assert missing == ([5, 11] if priority == COMBINED else [5])
    assert np.all(drawn_from.suspicion[missing] == 1)


def test_ranks_become_probabilities_that_every_rule_can_use() -> None:
    run = make_run(strategy="mc")
    run.criticisms.update(error_prob=None)
    for criticism in run.criticisms.all():
        criticism.priority = 1 + criticism.pk % 5
        criticism.save(update_fields=["priority"])
    answer_all(run, 30, wrong=10)

    items, _ = prioritized(run, COMBINED)
    preview = round_preview(run=run, count=10, rule="exponential", priority=COMBINED)

    assert population(run).ranks_only
    assert not items.ranks_only
    assert np.all((items.priorities > 0) & (items.priorities < 1))
    assert preview.expected_found is not None
    with pytest.raises(Refusal, match="only ranks"):
        round_preview(run=run, count=10, rule="exponential")


def test_the_same_data_give_the_same_priorities() -> None:
    run = make_run()
    answer_all(run, 30, wrong=10)

    for priority in LEARNED:
        assert np.array_equal(
            prioritized(run, priority)[0].priorities, prioritized(run, priority)[0].priorities
        )


def test_confidence_of_another_projects_annotator_is_not_mixed_in() -> None:
    make_candidate(make_run())
    run = make_run()

    with pytest.raises(Refusal, match="Of 0 annotations"):
        prioritized(run, CDI)


# --- Rounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", LEARNED)
@pytest.mark.parametrize("rule", ["threshold", "normalize", "exponential"])
def test_a_round_is_drawn_by_what_was_learned_and_says_so(priority: str, rule: str) -> None:
    run = make_run()
    answer_all(run, 30, wrong=10)

    preview = round_preview(run=run, count=12, rule=rule, priority=priority, seed=7)
    round = round_create(run=run, user=run.created_by, count=12, rule=rule, priority=priority, seed=7)

    assert (round.priority, round.rule, round.seed, round.budget) == (priority, rule, 7, 12)
    assert round.parameters == preview.parameters
    assert round.parameters["learned"]["known"] == 30
    [arrays] = [block.arrays() for block in round.current_blocks]
    items, _ = prioritized(run, priority)
    assert arrays.priorities.tolist() == items.priorities.tolist()
    assert arrays.inclusion_probs.sum() == pytest.approx(12)
    assert arrays.selected.sum() == round.tasks.count() == preview.selected == 12


def test_a_detector_that_knows_too_little_spends_a_part_of_the_budget_on_training() -> None:
    run = make_run()
    plan: dict[str, Any] = {"run": run, "count": 30, "rule": "exponential", "beta": 5.0, "priority": CDI}

    with pytest.raises(Refusal, match="part of the budget on training"):
        round_create(**plan, user=run.created_by)
    preview = round_preview(**plan, training_share=0.4)
    round = round_create(**plan, user=run.created_by, training_share=0.4)

    assert is_training(round)
    assert (round.budget, round.tasks.count(), round.rule) == (12, 12, "exponential")
    assert round.parameters == {
        "phase": "training",
        "training_share": 0.4,
        "planned_budget": 30,
        "beta": 5.0,
    }
    assert (preview.budget, preview.planned_budget, preview.selected) == (12, 30, 12)
    assert preview.expected_found is None
    [arrays] = [block.arrays() for block in round.current_blocks]
    assert np.allclose(arrays.inclusion_probs, 12 / 60)  # a simple random sample

    review_least_sure_as_wrong(round)
    raised = round_raise(round=round, user=run.created_by, count=30)

    assert not is_training(raised)
    assert raised.tasks.count() == 30
    assert raised.parameters["beta"] == 5.0
    assert raised.parameters["learned"]["known"] == 12
    assert raised.current_blocks.get().arrays().inclusion_probs.sum() == pytest.approx(30)


def test_different_seeds_train_on_different_items() -> None:
    run = make_run()

    def drawn(seed: int) -> set[int]:
        round = round_create(
            run=run, user=run.created_by, count=50, priority=CDI, training_share=0.2, seed=seed
        )
        return set(round.tasks.values_list("item_id", flat=True))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize(
    ("count", "share", "sentence"),
    [
        (30, 0.2, "20% of a budget of 30 are 6 reviews"),
        (30, 0.0, "above 0 and below 1"),
        (30, 1.0, "above 0 and below 1"),
        (30, float("nan"), "above 0 and below 1"),
    ],
)
def test_a_training_part_that_cannot_be_is_refused(count: int, share: float, sentence: str) -> None:
    run = make_run()

    plan: dict[str, Any] = {"run": run, "count": count, "priority": CDI, "training_share": share}
    for act in (round_preview, partial(round_create, user=run.created_by)):
        with pytest.raises(Refusal, match=sentence) as caught:
            act(**plan)
        assert caught.value.field == "training_share"
    assert not ReviewRound.objects.exists()


def test_where_enough_is_known_nothing_is_spent_on_training() -> None:
    run = make_run()
    make_candidate(run)

    round = round_create(run=run, user=run.created_by, count=30, priority=CDI, training_share=0.4)

    assert not is_training(round)
    assert round.budget == 30
    assert Project.objects.count() == 1
