"""What a meta-router learns from, and why it cannot where it cannot."""

import numpy as np
import pytest

from annotate.models import Annotation, Project
from review.models import ReviewRound
from route.comparisons import comparisons_of
from route.services.judge_runs import gold_count
from tests.factories import make_calibration_label
from tests.route.two_annotators import (
    KNOWN,
    LEFT,
    METAL,
    make_judge_run,
    make_metal_project,
    make_two,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_metal_project()


def test_gold_is_where_people_said_what_is_right_and_preferences_are_elsewhere(project) -> None:
    cheap, premium = make_two(project)
    judge_run = make_judge_run(project, cheap, premium)

    found = comparisons_of(project, [cheap, premium], [judge_run], seed=1)

    metal = project.items.in_bulk(found.evidence.item_ids.tolist())
    assert [METAL in metal[pk].text for pk in found.evidence.item_ids.tolist()] == (
        found.gains[:, 1] == 1
    ).tolist()
    assert (len(found.gains), found.unlike, len(found.preferences)) == (KNOWN, KNOWN // 2, LEFT)
    assert not set(found.preferred_ids.tolist()) & set(found.evidence.item_ids.tolist())
    assert found.accuracies == (0.5, 1.0)
    assert not found.problem()
    assert not ReviewRound.objects.exists()


def test_a_preference_about_an_item_that_a_person_labels_later_is_not_used(project) -> None:
    cheap, premium = make_two(project)
    judge_run = make_judge_run(project, cheap, premium)
    item = judge_run.preferences.earliest("pk").item
    make_calibration_label(item, "positive")

    found = comparisons_of(project, [cheap, premium], [judge_run], seed=1)

    assert item.pk in found.evidence.item_ids
    assert item.pk not in found.preferred_ids


def test_failed_comparisons_are_none(project) -> None:
    cheap, premium = make_two(project)
    judge_run = make_judge_run(project, cheap, premium)
    judge_run.preferences.filter(value=0).update(value=None, failure="refused")

    found = comparisons_of(project, [cheap, premium], [judge_run], seed=1)

    assert set(found.preferences.tolist()) == {1.0}


def test_why_nothing_can_be_learned_is_said(project) -> None:
    cheap, premium = make_two(project)
    judge_run = make_judge_run(project, cheap, premium)

    def problem() -> str:
        return comparisons_of(project, [cheap, premium], [judge_run], seed=1).problem()

    assert problem() == ""
    judge_run.preferences.update(value=1)
    assert "prefers the premium annotator's answer everywhere" in problem()
    judge_run.preferences.filter(pk__gt=judge_run.preferences.order_by("pk")[9].pk).delete()
    assert "compared the answers to 10 items" in problem()
    assert (
        "compared the answers to 0 items" in comparisons_of(project, [cheap, premium], [], seed=1).problem()
    )
    metal = project.calibration_labels.filter(item__text__startswith=METAL).order_by("pk")
    metal.filter(pk__gt=metal[3].pk).delete()
    assert "Only on 4 of 24 items" in problem()
    assert "the premium one is better anyway" in problem()
    project.calibration_labels.filter(item__text__startswith=METAL).delete()
    project.calibration_labels.filter(pk__gt=project.calibration_labels.order_by("pk")[9].pk).delete()
    assert "at least 20 are needed. Label more calibration items" in problem()


def test_gains_are_in_order_of_items(project) -> None:
    found = comparisons_of(project, make_two(project), [], seed=1)

    assert (np.diff(found.evidence.item_ids) > 0).all()


@pytest.mark.parametrize(("wrong", "better"), [(0, "the premium annotator"), (1, "the cheap annotator")])
def test_where_one_is_always_wrong_and_the_other_right_there_is_nothing_to_choose(
    project, wrong, better
) -> None:
    runs = make_two(project)
    judge_run = make_judge_run(project, *runs)
    for place, run in enumerate(runs):
        name = "negative" if place == wrong else "positive"
        Annotation.objects.filter(run__model=run.model).update(label=project.labels.get(name=name))

    found = comparisons_of(project, runs, [judge_run], seed=1)

    assert f"On all {KNOWN} items whose right answer is known {better} is right" in found.problem()
    assert f"take {better}" in found.problem()
    assert gold_count(project=project, agents=runs).warning == found.problem()
