"""Nothing that a reviewer is sent tells a known item, another's turn, or what the machine said where that is hidden."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import User
from review.models import Correction, ReviewRound, ReviewTask
from review.services.pauses import pause
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.services.rounds import round_create
from review.setup import RoundSetup
from tests.api.caller import call
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_calibration_round,
    make_criticism_run,
    make_image,
    make_item,
    make_items,
    make_project,
    make_round,
)
from tests.review.turns import make_people

pytestmark = pytest.mark.django_db


def make_reviewed(**setup: Any) -> tuple[ReviewRound, User]:
    project = make_project()
    make_items(project, 12)
    run = make_criticism_run(make_annotation_run(project))
    round = round_create(run=run, user=project.created_by, count=10, setup=RoundSetup(**setup))
    (ann,) = make_people(project, "ann")
    return round, ann


@pytest.mark.parametrize(
    "path", ["review-rounds/{round}/", "projects/{project}/review-rounds/", "projects/{project}/"]
)
def test_reviewers_are_not_told_what_known_items_are_mixed_in_by(path: str) -> None:
    round, ann = make_reviewed(display="blind", gold_rate=0.2, gold_threshold=0.7, gold_minimum=3)
    path = path.format(round=round.pk, project=round.project_id)

    theirs, managers = (call(person, "get", path) for person in (ann, round.created_by))

    if "results" in theirs:
        theirs, managers = theirs["results"][0], managers["results"][0]
    hidden = {name for name in theirs if theirs[name] is None and managers[name] is not None}
    names = {"parameters", "seed", "overlap_share", "gold_rate", "gold_threshold", "gold_minimum"}
    assert hidden == ({"seed"} if "labels" in theirs else names)


@pytest.mark.parametrize("display", ["blind", "random"])
def test_the_count_of_corrected_answers_does_not_tell_what_the_machine_said(display: str) -> None:
    round, ann = make_reviewed(display=display)
    (task,) = call(ann, "post", f"review-rounds/{round.pk}/next/")["tasks"]
    other = label_named(round.project, "positive")

    reply = call(ann, "post", f"review-tasks/{task['id']}/submit/", {"action": "label", "label": other.pk})

    assert (reply["progress"]["answered"], reply["progress"]["corrected"]) == (1, 0)
    assert call(ann, "get", f"review-rounds/{round.pk}/")["progress"]["corrected"] == 0
    assert call(round.created_by, "get", f"review-rounds/{round.pk}/")["progress"]["corrected"] == 1


@pytest.mark.parametrize(("display", "gold_rate", "told"), [("criticism", 0, True), ("label", 0, False)])
def test_the_rank_is_told_where_the_criticism_is(display: str, gold_rate: float, told: bool) -> None:
    round, ann = make_reviewed(display=display, gold_rate=gold_rate)

    (task,) = call(ann, "post", f"review-rounds/{round.pk}/next/")["tasks"]

    assert task["rank"] == (0 if told else None)


def test_a_known_item_is_not_told_by_its_neighbors_rank() -> None:
    round, ann = make_reviewed(display="criticism")
    known = round.project.items.filter(review_tasks=None)
    for item in known:
        make_calibration_label(item, "negative")
    ReviewRound.objects.update(gold_rate=0.5)

    handed = call(ann, "post", f"review-rounds/{round.pk}/next/", {"count": 10})["tasks"]

    assert round.tasks.filter(purpose=ReviewTask.Purpose.GOLD, holder=ann).exists()
    assert {task["rank"] for task in handed} == {None}


def test_reviewers_read_the_turns_that_are_theirs_alone() -> None:
    round, ann = make_reviewed()
    (bob,) = make_people(round.project, "bob")
    (task,) = tasks_claim(round=round, user=ann)
    path = f"review-tasks/{task.pk}/"

    assert call(ann, "get", path)["machine"]["label"] == "negative"
    assert "title" in call(bob, "get", path, status=404)
    assert call(round.created_by, "get", path)["state"] == "leased"


def make_paused_after_an_answer() -> tuple[ReviewRound, User, ReviewTask, ReviewTask]:
    """A round, a reviewer who was paused, what they answered before, and what they held."""
    round, ann = make_reviewed()
    first, second = tasks_claim(round=round, user=ann, count=2)
    task_submit(task=first, user=ann, answer=Answer("skip"))
    pause(round=round, user=ann, by=None)
    return round, ann, first, second


def test_who_is_paused_takes_no_answer_back() -> None:
    round, ann, first, _ = make_paused_after_an_answer()

    problem = call(ann, "post", f"review-rounds/{round.pk}/undo/", status=400)

    assert "paused" in problem["detail"]
    assert ReviewTask.objects.get(pk=first.pk).state == ReviewTask.State.SKIPPED


@pytest.mark.parametrize("which", [0, 1])
def test_what_a_paused_reviewer_sends_is_kept_and_counts_for_nothing(which: int) -> None:
    round, ann, *tasks = make_paused_after_an_answer()
    task = ReviewTask.objects.select_related("round__project").get(pk=tasks[which].pk)

    sent = task_submit(task=task, user=ann, answer=Answer("label", label_named(round.project, "positive")))

    assert Correction.objects.filter(pk=sent.pk).exists()
    now = ReviewTask.objects.get(pk=task.pk)
    assert (now.state, now.correction_id) == (task.state, task.correction_id)


def test_nobody_is_handed_an_item_again_that_was_a_known_one_of_theirs() -> None:
    round, ann = make_reviewed()
    item = round.project.items.filter(review_tasks=None).earliest("pk")
    shared = {"round": round, "item": item, "rank": 0}
    ReviewTask.objects.create(
        **shared, purpose="gold", is_counted=False, assigned_to=ann, holder=ann, state="leased"
    )
    picked = ReviewTask.objects.create(**shared, purpose="picked")
    gold = round.tasks.select_related("round__project").get(purpose="gold")
    task_submit(task=gold, user=ann, answer=Answer("skip"))

    handed = tasks_claim(round=round, user=ann, count=10)

    assert len(handed) == 10
    assert picked.pk not in {task.pk for task in handed}
    answer_undo(round=round, user=ann)


@pytest.mark.parametrize("kind", ["review", "calibration"])
def test_a_folder_that_is_named_like_a_label_does_not_tell_it(kind: str) -> None:
    project = make_project(labels=["cat", "dog"])
    item = make_item(project, external_id="photos/Cat/cat/1.jpg", gold="cat")
    make_items(project, 3)
    if kind == "review":
        round = make_round(make_criticism_run(make_annotation_run(project)), 4)
    else:
        round = make_calibration_round(project, 4)
    (ann,) = make_people(project, "ann")

    tasks = call(ann, "post", f"review-rounds/{round.pk}/next/", {"count": 4})["tasks"]

    (shown,) = [task["item"]["external_id"] for task in tasks if task["item"]["id"] == item.pk]
    assert shown == "photos/…/…/1.jpg"
    others = {task["item"]["external_id"] for task in tasks if task["item"]["id"] != item.pk}
    assert others == set(project.items.exclude(pk=item.pk).values_list("external_id", flat=True))


def test_a_reviewers_own_answers_do_not_tell_the_label_by_a_folder(client: Client) -> None:
    project = make_project("image_classification", ["cat", "dog"])
    make_item(project, external_id="cat/1.jpg", gold="cat", image=make_image(project), text="")
    round = make_calibration_round(project, 1)
    (ann,) = make_people(project, "ann")
    (task,) = tasks_claim(round=round, user=ann)
    task_submit(task=task, user=ann, answer=Answer("label", label_named(project, "dog")))
    client.force_login(ann)

    page = client.get(reverse("project", args=[project.pk])).content.decode()

    assert "…/1.jpg" in page
    assert "cat/1.jpg" not in page
