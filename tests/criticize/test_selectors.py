import random

import numpy as np
import pytest

from annotate import columns
from annotate.selectors import machine_accuracy
from criticize.metrics import annotation_quality_gain, area_under_budget_sensitivity
from criticize.models import Criticism, CriticismRun
from criticize.selectors import (
    aqg_at,
    criticism_quality,
    error_prob_histogram,
    gold_arrays,
    rank_counts,
    suspicion,
)
from tests.factories import make_annotation_run, make_criticism_run, make_item, make_project

pytestmark = pytest.mark.django_db

GOLD = ["positive", "positive", "negative", "positive", ""]
SAID = ["positive", "negative", "negative", "", "positive"]
PROBS = [0.2, 0.9, 0.4, 0.6]  # of those with a label


@pytest.fixture
def run():
    project = make_project()
    items = [make_item(project, gold=gold) for gold in GOLD]
    return make_criticism_run(make_annotation_run(project, dict(zip(items, SAID, strict=True))), PROBS)


def test_a_failed_annotation_is_wrong_and_one_without_gold_is_not_judged(run):
    assert machine_accuracy(run.annotation_run) == (2, 4)


def test_errors_and_suspicions_are_those_of_a_draw(run):
    error_probs, is_error = gold_arrays(run)

    assert error_probs.tolist() == [0.2, 0.9, 0.4, 1.0]
    assert is_error.tolist() == [False, True, False, True]


def test_a_failed_criticism_is_a_suspicion_of_one(run):
    Criticism.objects.filter(error_prob=0.2).update(error_prob=None, priority=None, failure="refused")

    assert gold_arrays(run)[0].tolist() == [1.0, 0.9, 0.4, 1.0]


def test_quality_is_the_papers(run):
    quality = criticism_quality(run)

    arrays = gold_arrays(run)
    assert (quality.items, quality.errors) == (4, 2)
    assert quality.abs == area_under_budget_sensitivity(*arrays) == pytest.approx((0 + 0.5 + 1 + 1 + 1) / 4)
    assert quality.curve == [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 1.0), (1.0, 1.0)]
    for budget in range(5):
        assert aqg_at(run, budget) == annotation_quality_gain(*arrays, budget)
    assert aqg_at(run, 99) == 1.0


def test_without_errors_or_gold_there_is_no_figure(run):
    run.annotation_run.annotations.exclude(item__gold=None).filter(label=None).delete()
    run.annotation_run.annotations.filter(item__gold__name="positive", label__name="negative").delete()
    quality = criticism_quality(run)
    assert (quality.errors, quality.abs, quality.curve, aqg_at(run, 1)) == (0, None, [], None)

    run.annotation_run.annotations.all().delete()
    assert (criticism_quality(run).items, aqg_at(run, 1)) == (0, None)


def test_the_histogram_counts_each_probability_once(run):
    Criticism.objects.filter(error_prob=0.9).update(error_prob=1.0, priority=1.0)
    Criticism.objects.filter(error_prob=0.2).update(error_prob=0.0, priority=0.0)

    counts = error_prob_histogram(run, bins=5)

    assert counts is not None
    assert (sum(counts), counts[0], counts[-1]) == (4, 1, 1)


def ranked(strategy: str, priorities: list[float | None]) -> CriticismRun:
    project = make_project()
    items = [make_item(project, gold="positive") for _ in priorities]
    answers = dict.fromkeys(items, "positive") | {items[0]: "negative"}
    run = make_criticism_run(make_annotation_run(project, answers), [None] * len(items), strategy=strategy)
    for row, priority in zip(run.criticisms.order_by("annotation__item_id"), priorities, strict=True):
        if priority is not None:
            run.criticisms.filter(pk=row.pk).update(priority=priority, failure="")
    return run


def test_a_missing_answer_is_above_every_rank():
    assert gold_arrays(ranked("mc", [1.0, 1.0, None]))[0].tolist() == [1.0, 1.0, 2.0]
    assert gold_arrays(ranked("cot_ppl", [-0.5, -0.25, None]))[0].tolist() == [-0.5, -0.25, 0.75]
    assert gold_arrays(ranked("mc", [None, None]))[0].tolist() == [1.0, 1.0]


def test_ranks_are_counted_by_their_answers():
    levels = ranked("mc", [5.0, 4.0, 5.0, 1.0, None])
    answers = ranked("cot_ppl", [0.5, -0.5, -0.25])

    assert (error_prob_histogram(levels), error_prob_histogram(answers)) == (None, None)
    assert rank_counts(levels) == [
        ("certainly wrong", 2),
        ("probably wrong", 1),
        ("as likely right as wrong", 0),
        ("probably right", 0),
        ("certainly right", 1),
    ]
    assert rank_counts(answers) == [("yes, it is wrong", 1), ("no, it is right", 2)]


def test_ranks_have_a_quality(run):
    assert rank_counts(run) is None
    # The one error is the most suspicious of three.
    quality = criticism_quality(ranked("mc", [5.0, 4.0, 1.0]))
    assert (quality.errors, quality.abs) == (1, 1.0)


def by_rows(run: CriticismRun) -> tuple[list[float], list[bool]]:
    """What the arrays say, an annotation at a time."""
    rows = run.annotation_run.annotations.exclude(item__gold=None).order_by("item_id")
    given = [run.criticisms.filter(annotation=row, failure="").first() for row in rows]
    priorities = np.array([np.nan if each is None else each.priority for each in given], dtype=float)
    return suspicion(priorities).tolist(), [row.label_id != row.item.gold_id for row in rows]


@pytest.mark.parametrize("most_values", [0, 1_000])
@pytest.mark.parametrize("seed", range(3))
def test_the_arrays_are_what_the_rows_say_whatever_their_order(seed, most_values, monkeypatch):
    monkeypatch.setattr(columns, "_MOST_VALUES", most_values)
    chance = random.Random(seed)
    project = make_project()
    items = [make_item(project, gold=chance.choice(["positive", "negative", ""])) for _ in range(40)]
    answers = {item: chance.choice(["positive", "negative", ""]) for item in items}
    chance.shuffle(items)
    annotation_run = make_annotation_run(project, {item: answers[item] for item in items})
    make_criticism_run(annotation_run, [0.5] * sum(bool(label) for label in answers.values()))
    labelled = annotation_run.annotations.exclude(label=None).count()
    probs = [chance.choice([None, round(chance.random(), 2)]) for _ in range(labelled)]
    run = make_criticism_run(annotation_run, probs)

    priorities, is_error = gold_arrays(run)

    assert (priorities.tolist(), is_error.tolist()) == by_rows(run)
