from typing import Any

import pytest

from review.models import ReviewRound
from review.services.queue import Answer, task_submit, tasks_claim
from tests.api.caller import call
from tests.factories import (
    label_named,
    make_calibration_round,
    make_items,
    make_project,
    make_reviewable_round,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def round() -> ReviewRound:
    return make_reviewable_round(100, 40)


def answer(round: ReviewRound, count: int) -> None:
    for _ in range(count):
        (task,) = tasks_claim(round=round, user=round.created_by)
        label = label_named(round.project, "positive")
        task_submit(task=task, user=round.created_by, answer=Answer("label", label))


def test_advice_is_everything_that_the_page_says(round: ReviewRound) -> None:
    answer(round, 25)

    advice = call(round.created_by, "get", f"review-rounds/{round.pk}/advice/")

    assert (advice["answered"], advice["errors"], advice["left"]) == (25, 25, 15)
    assert advice["groups"] == [{"first": 1, "last": 25, "errors": 25, "is_whole": False}]
    assert [each["reviewed"] for each in advice["bins"]] == [5] * 5
    assert [each["error_prob"] for each in advice["steps"]] == [1.0]
    assert advice["ahead"] == {"reviews": 15, "errors": 15.0, "low": 0, "high": 15, "is_bound": True}
    assert advice["beyond"]["reviews"] == 60
    assert advice["verdict"]["advice"] == "raise"
    assert "small steps" in advice["verdict"]["reason"]


def test_advice_that_is_too_early_says_so(round: ReviewRound) -> None:
    advice = call(round.created_by, "get", f"review-rounds/{round.pk}/advice/")

    assert (advice["verdict"]["advice"], advice["ahead"], advice["steps"]) == ("early", None, [])


def test_blind_rounds_have_no_advice_and_no_budget_to_raise() -> None:
    project = make_project()
    make_items(project, 4)
    blind = make_calibration_round(project, 2)

    for verb, name, body in (("get", "advice", None), ("post", "raise", {"budget": 3})):
        problem = call(project.created_by, verb, f"review-rounds/{blind.pk}/{name}/", body, status=400)
        assert "review round" in problem["detail"] + str(problem.get("errors"))


def test_a_budget_is_raised_and_what_was_answered_stays(round: ReviewRound) -> None:
    answer(round, 3)
    path = f"review-rounds/{round.pk}"

    preview = call(round.created_by, "post", f"{path}/raise-preview/", {"share": 0.5})
    raised = call(round.created_by, "post", f"{path}/raise/", {"share": 0.5})

    assert (preview["old_budget"], preview["budget"], preview["more"]) == (40, 50, 10)
    assert (preview["kept"], preview["waiting"], float(preview["cost"])) == (40, 47, 0.8)
    assert (raised["budget"], raised["progress"]["answered"], raised["progress"]["waiting"]) == (50, 3, 47)
    (row,) = call(round.created_by, "get", f"{path}/advice/")["raises"]
    assert (row["old_budget"], row["new_budget"], row["reviewed"]) == (40, 50, 3)
    assert row["created_by"] == round.created_by.username


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"budget": 40},
        {"budget": 101},
        {"budget": 0},
        {"share": 0.2},
        {"budget": 50, "share": 0.5},
        {"to": 5},
    ],
)
def test_what_is_no_raise_is_refused(round: ReviewRound, body: dict[str, Any]) -> None:
    for name in ("raise", "raise-preview"):
        call(round.created_by, "post", f"review-rounds/{round.pk}/{name}/", body, status=400)

    round.refresh_from_db()
    assert (round.budget, round.draw_number) == (40, 0)
