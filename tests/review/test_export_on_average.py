"""Exports of whole rounds drawn by chance, with items picked by hand, several readers, adjudication and an audit: the
weighted losses are on average those on the labels that people give."""

import numpy as np
import pytest

from annotate.models import User
from review.export_rows import own_columns, rows
from review.models import Export, ReviewRound, ReviewTask
from review.services.audits import audit_round_create
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_create
from review.setup import RoundSetup
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_project,
)
from tests.review.turns import make_people

ROUNDS = 25
ITEMS = 10
Purpose, State = ReviewTask.Purpose, ReviewTask.State


def answer_all(
    round: ReviewRound, people: list[User], truth: dict[int, str], slips: np.random.Generator
) -> None:
    """Readers err now and then, and who adjudicates does not, nor does who answers an item alone."""
    several = {task.item_id for task in round.tasks.filter(copy__gt=0)}
    for person in people:
        while tasks := tasks_claim(round=round, user=person, count=5):
            for task in tasks:
                said = truth.get(task.item_id, "negative")
                if task.item_id in several and slips.random() < 0.4:
                    said = "positive" if said == "negative" else "negative"
                task_submit(task=task, user=person, answer=Answer("label", label_named(round.project, said)))
    for task in round.tasks.filter(item__in=several, is_counted=True).select_related("round__project"):
        said = truth[task.item_id]
        label, manager = label_named(round.project, said), round.project.created_by
        if task.purpose == Purpose.ADJUDICATION:
            task_submit(task=task, user=manager, answer=Answer("label", label))


@pytest.mark.computed
@pytest.mark.django_db
@pytest.mark.parametrize("rule", ["normalize", "exponential"])
@pytest.mark.parametrize("audited", [3])
def test_the_weighted_losses_are_on_average_those_on_peoples_labels(rule: str, audited: int) -> None:
    project = make_project()
    items = make_items(project, ITEMS)
    for item in make_items(project, 3):
        make_calibration_label(item, "negative")
    run = make_criticism_run(make_annotation_run(project), list(np.linspace(0.9, 0.1, ITEMS)))
    people = make_people(project, "ann", "bob")
    truth = {item.pk: "negative" if place % 3 else "positive" for place, item in enumerate(items)}
    picked = {item.pk for item in items[::3]}
    losses = np.random.default_rng(1).exponential(1, (ITEMS, 2))
    on_machine = dict(zip(truth, losses[:, 0], strict=True))
    on_human = dict(zip(truth, losses[:, 1], strict=True))
    found = []

    for seed in range(ROUNDS):
        setup = RoundSetup(display="blind", overlap=2, overlap_share=0.5, gold_rate=0.2)
        round = round_create(run=run, user=project.created_by, count=3, rule=rule, seed=seed, setup=setup)
        slips = np.random.default_rng(seed)
        drawn = set(round.counted_tasks.values_list("item_id", flat=True))
        for rank, item_id in enumerate(sorted(picked - drawn), start=100):
            ReviewTask.objects.create(
                round=round, item_id=item_id, rank=rank, purpose=Purpose.PICKED, arm="blind"
            )
        assert len(drawn) <= round.budget
        answer_all(round, people, truth, slips)
        if audited:
            audit = audit_round_create(round=round, user=project.created_by, count=audited, seed=seed)
            answer_all(audit, people, truth, slips)
        export = Export(project=project, round=round, lam=0.7)
        loss = [
            row["machine_weight"] * on_machine[row["item_id"]]
            + row["human_weight"] * on_human[row["item_id"]]
            for row in rows(export, own_columns(export))
            if row["item_id"] in truth
        ]
        assert len(loss) == ITEMS
        found.append(np.mean(loss))

    expected = np.mean(list(on_human.values()))
    assert np.std(found) > 0.01
    assert abs(np.mean(found) - expected) < 4 * np.std(found, ddof=1) / np.sqrt(ROUNDS)
