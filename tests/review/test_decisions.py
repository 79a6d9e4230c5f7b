"""Corrections as examples: those that count now, the latest of an item, and nothing of calibration rounds."""

import pytest

from annotate.examples import labelled_items
from annotate.models import Item
from review.decisions import corrected_labels
from review.models import Correction, ReviewRound, ReviewTask
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_items,
    make_project,
    make_round,
)

pytestmark = pytest.mark.django_db


def answer(round: ReviewRound, item: Item, label: str) -> Correction:
    task = round.tasks.get(item=item)
    task.correction = task.corrections.create(
        action="label", label=label_named(item.project, label), author=round.created_by
    )
    task.state = ReviewTask.State.ANSWERED
    task.save()
    return task.correction


def test_answers_that_count_are_given_and_of_two_rounds_the_later():
    project = make_project()
    one, two, three = make_items(project, 3)
    annotations = make_annotation_run(project)
    first = make_round(make_criticism_run(annotations), budget=3)
    second = make_round(make_criticism_run(annotations), budget=3)
    answer(second, one, "positive")
    answer(first, one, "negative")  # said later
    answer(first, two, "positive")
    undone = answer(first, three, "positive").task_id
    ReviewTask.objects.filter(pk=undone).update(state="waiting", correction=None)

    assert dict(corrected_labels(project)) == {
        one.pk: label_named(project, "negative").pk,
        two.pk: label_named(project, "positive").pk,
    }
    assert labelled_items(project) == dict(corrected_labels(project))


def test_calibration_rounds_give_none_and_a_calibration_label_counts_before_a_correction():
    project = make_project()
    items = make_items(project, 3)
    answer(make_calibration_round(project, 3), items[0], "positive")
    assert dict(corrected_labels(project)) == {}

    answer(make_round(make_criticism_run(make_annotation_run(project)), budget=3), items[1], "positive")
    make_calibration_label(items[1], "negative")

    assert labelled_items(project) == {items[1].pk: label_named(project, "negative").pk}


def test_other_projects_corrections_are_theirs():
    project, other = make_project(), make_project()
    make_items(project, 2)
    round = make_round(make_criticism_run(make_annotation_run(project)), budget=2)
    answer(round, project.items.earliest("pk"), "positive")

    assert dict(corrected_labels(other)) == {}
