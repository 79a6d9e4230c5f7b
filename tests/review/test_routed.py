"""Rounds of the items that a router gave to people."""

import re
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, ModelRun, Project, User
from review.drawing import population
from review.export_rows import own_columns, rows
from review.models import Export, ReviewRound
from review.selectors import task_for_reviewer
from review.services.exports import export_create
from review.services.queue import tasks_claim
from review.services.rounds import round_create
from review.services.routed import (
    answered_by_people,
    give_to_people,
    routed_round_create,
    settle_routed_round,
)
from tests.factories import make_annotation_run, make_criticism_run, make_items, make_project, make_user
from tests.review.judging import answer_task

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    return make_user("ann")


def make_routed_run(project: Project, to_people: int) -> AnnotationRun:
    """A finished run of which the first items are for people."""
    run = make_annotation_run(project)
    run.kind = ModelRun.Kind.ROUTED
    run.save(update_fields=["kind"])
    first = run.annotations.order_by("item_id")[:to_people]
    Annotation.objects.filter(pk__in=[each.pk for each in first]).update(
        failure=Annotation.TO_PERSON, label=None, message="Given to a person."
    )
    return run


def for_people(run: AnnotationRun) -> list[Annotation]:
    return list(run.annotations.filter(failure=Annotation.TO_PERSON).order_by("item_id"))


def make_routed_round(run: AnnotationRun, *, budget: int = 3) -> ReviewRound:
    user = run.project.created_by
    round = routed_round_create(run=run, user=user, budget=budget, population=run.annotations.count())
    give_to_people(round, for_people(run))
    settle_routed_round(round)
    round.refresh_from_db()
    return round


def exported(round: ReviewRound, user: User, **options: Any) -> list[dict[str, Any]]:
    export = export_create(round=round, user=user, **options)
    return list(rows(export, own_columns(export)))


def test_people_are_handed_the_items_and_nothing_of_a_machine(ann: User) -> None:
    project = make_project()
    items = make_items(project, 6)
    round = make_routed_round(make_routed_run(project, 3))

    handed = tasks_claim(round=round, user=ann, count=10)

    assert [task.item for task in handed] == items[:3]
    assert all(task.annotation is not None and task.annotation.label is None for task in handed)


def test_no_more_than_the_budget_is_given(ann: User) -> None:
    project = make_project()
    make_items(project, 6)
    run = make_routed_run(project, 3)
    round = routed_round_create(run=run, user=ann, budget=2, population=6)

    with pytest.raises(Refusal, match="at most"), transaction.atomic():
        give_to_people(round, for_people(run))

    assert round.tasks.count() == 0
    assert give_to_people(round, for_people(run)[:2]) == 2
    assert give_to_people(round, for_people(run)[:2]) == 0
    with pytest.raises(Refusal), transaction.atomic():
        give_to_people(round, for_people(run)[2:])


def test_a_run_has_one_such_round(ann: User) -> None:
    project = make_project()
    make_items(project, 2)
    run = make_routed_run(project, 1)
    routed_round_create(run=run, user=ann, budget=1, population=2)

    with pytest.raises(Refusal, match="already"):
        routed_round_create(run=run, user=ann, budget=1, population=2)


def test_its_export_holds_peoples_answers_and_the_machines_for_the_rest(ann: User) -> None:
    project = make_project()
    make_items(project, 5)
    round = make_routed_round(make_routed_run(project, 2))
    label = project.labels.get(position=0)
    for task in tasks_claim(round=round, user=ann, count=2)[:1]:
        answer_task(task, label)

    found = exported(round, ann)

    assert [row["status"] for row in found] == ["reviewed", "unanswered", "machine", "machine", "machine"]
    assert [row["human_weight"] for row in found] == [1, 0, 0, 0, 0]
    assert [row["machine_weight"] for row in found] == [0, 0, 1, 1, 1]
    assert [row["inclusion_prob"] for row in found] == [1, 1, 0, 0, 0]
    assert round.annotation_run is not None
    assert answered_by_people(round.annotation_run) == 1


def test_a_round_over_the_rest_draws_none_of_them_and_exports_their_answers(ann: User) -> None:
    project = make_project()
    items = make_items(project, 5)
    run = make_routed_run(project, 2)
    routed = make_routed_round(run)
    label = project.labels.get(position=0)
    for task in tasks_claim(round=routed, user=ann, count=2):
        answer_task(task, label)
    criticism = make_criticism_run(run)

    assert population(criticism).item_ids.tolist() == [item.pk for item in items[2:]]
    round = round_create(run=criticism, user=ann, count=1)
    found = exported(round, ann)

    assert [row["status"] for row in found][:2] == ["routed", "routed"]
    assert all(row["final_label"] == label.name and row["human_weight"] == 1 for row in found[:2])
    assert all(row["machine_weight"] == 0 for row in found[:2])


def test_every_layout_and_the_card_can_be_written(ann: User) -> None:
    from review.data_card import data_card, readme

    project = make_project()
    make_items(project, 4)
    round = make_routed_round(make_routed_run(project, 1))

    for layout in Export.Layout.values:
        export = export_create(round=round, user=ann, layout=layout)
        card = data_card(export, rows=4)
        assert card["criticizer"] is None
        assert card["items"]["given_to_people"] == 1
        assert "What ran" in readme(card)


STEPS = ["I look at it.", "I <doubt> it."]


def stop_at(run: AnnotationRun, step: int) -> Annotation:
    """The first item for people as a router leaves it that read along and stopped the annotator after this step."""
    annotation = for_people(run)[0]
    annotation.steps, annotation.stopped_at = STEPS, step
    annotation.reasoning = "\n".join(f"Step {number}: {text}" for number, text in enumerate(STEPS, start=1))
    annotation.message = f"The router gave it to people after step {step}. {Annotation.ESTIMATED}"
    annotation.model_returned = "small"
    annotation.save()
    return annotation


def test_reviewers_see_the_steps_and_nothing_of_how_tokens_were_counted(ann: User) -> None:
    project = make_project()
    make_items(project, 4)
    run = make_routed_run(project, 1)
    stop_at(run, 2)
    (task,) = tasks_claim(round=make_routed_round(run), user=ann, count=4)

    shown = task_for_reviewer(task, None)

    assert (shown["steps"], shown["stopped_at"]) == (STEPS, 2)
    assert shown["failure"]["message"] == "The router gave it to people after step 2."


def test_an_items_page_lists_the_steps_and_marks_where_it_stopped(client: Client) -> None:
    project = make_project()
    make_items(project, 4)
    annotation = stop_at(make_routed_run(project, 1), 2)
    client.force_login(project.created_by)

    page = client.get(reverse("item", args=[project.pk, annotation.item_id])).content.decode()
    told = client.get(reverse("api:annotations", args=[annotation.run_id])).json()["results"][0]

    steps = re.findall(r"<li[^>]*>(.*?)</li>", page[page.index("reasoning-steps") :], re.DOTALL)[:2]
    assert steps[0] == "I look at it."
    assert steps[1].startswith("I &lt;doubt&gt; it. <span")
    assert "stopped here" in steps[1]
    assert "Step 1:" not in page
    assert "The router gave it to people after step 2.</p>" in page
    assert "out, an estimate</dd>" in page
    assert (told["steps"], told["stopped_at"]) == (STEPS, 2)
