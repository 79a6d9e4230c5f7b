import uuid
from typing import Any

import pytest

from annotate.models import User
from review.models import Correction, ReviewRound
from review.services.queue import Busy
from tests.api.caller import Caller, call, content_of, work
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_round,
    make_criticism_run,
    make_export,
    make_item,
    make_items,
    make_project,
    make_reviewable_round,
    make_round,
    make_user,
)

pytestmark = pytest.mark.django_db


def take(round: ReviewRound, user: User, count: int = 1) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = call(user, "post", f"review-rounds/{round.pk}/next/", {"count": count})[
        "tasks"
    ]
    return tasks


def answer(round: ReviewRound, label: str = "positive", **values: Any) -> dict[str, Any]:
    return {"action": "label", "label": label_named(round.project, label).pk, **values}


def test_a_round_is_drawn_within_its_budget() -> None:
    project = make_project()
    make_items(project, 10)
    run = make_criticism_run(make_annotation_run(project))
    body = {"criticism_run": run.pk, "share": 0.35}

    preview = call(project.created_by, "post", f"projects/{project.pk}/review-rounds/preview/", body)
    made = call(project.created_by, "post", f"projects/{project.pk}/review-rounds/", body, status=201)

    assert (preview["budget"], preview["selected"], preview["unanswered"]) == (3, 3, 0)
    assert sum(preview["selected_counts"]) == 3
    assert (made["rule"], made["budget"], made["population"]) == ("threshold", 3, 10)
    assert made["progress"]["waiting"] == 3


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"budget": 1, "share": 0.5},
        {"budget": 0},
        {"budget": 99},
        {"share": 1.5},
        {"budget": 1, "rule": "by the stars"},
        {"budget": 1, "criticism_run": None},
        {"budget": 1, "criticism_run": 10**6},
        {"kind": "calibration"},
        {"kind": "calibration", "budget": 99},
    ],
)
def test_a_round_that_cannot_be_drawn_is_refused(values: dict[str, Any]) -> None:
    project = make_project()
    make_items(project, 3)
    run = make_criticism_run(make_annotation_run(project))

    body = {"criticism_run": run.pk, **values}
    call(project.created_by, "post", f"projects/{project.pk}/review-rounds/", body, status=400)

    assert not ReviewRound.objects.exists()


def test_the_most_suspicious_comes_first_with_what_the_machine_said() -> None:
    reviewer = make_user()
    round = make_reviewable_round(reviewers=[reviewer])

    (task,) = take(round, reviewer)

    assert (task["rank"], task["state"], task["blind"]) == (0, "leased", False)
    assert (task["machine"]["label"], task["criticism"]["error_prob"]) == ("negative", 0.9)


def test_two_people_never_get_the_same_item() -> None:
    reviewer = make_user()
    round = make_reviewable_round(items=6, budget=4, reviewers=[reviewer])

    mine, theirs = take(round, reviewer, 3), take(round, round.created_by, 3)

    assert (len(mine), len(theirs)) == (3, 1)
    assert {task["id"] for task in mine}.isdisjoint(task["id"] for task in theirs)
    assert call(reviewer, "post", f"review-rounds/{round.pk}/release/") == {"released": 3}


def test_only_the_tasks_that_are_named_are_handed_back() -> None:
    round = make_reviewable_round(items=6, budget=4)
    user = round.created_by
    first, second, _third = take(round, user, 3)
    path = f"review-rounds/{round.pk}/release/"

    assert call(user, "post", path, {"tasks": []}) == {"released": 0}
    assert call(user, "post", path, {"tasks": [second["id"], 10**6]}) == {"released": 1}
    assert call(user, "get", f"review-tasks/{first['id']}/")["state"] == "leased"
    assert call(user, "get", f"review-tasks/{second['id']}/")["state"] == "waiting"
    assert call(user, "post", path, {}) == {"released": 2}


@pytest.mark.parametrize("tasks", [None, 1, "all", ["one"], [0], [2**63], [1] * 1001])
def test_what_names_no_tasks_hands_nothing_back(tasks: object) -> None:
    round = make_reviewable_round()
    take(round, round.created_by)

    problem = call(
        round.created_by, "post", f"review-rounds/{round.pk}/release/", {"tasks": tasks}, status=400
    )

    assert set(problem["errors"]) == {"tasks"}
    assert round.tasks.filter(state="leased").count() == 1


def test_an_answer_sent_twice_counts_once() -> None:
    round = make_reviewable_round()
    user = round.created_by
    (task,) = take(round, user)
    body = answer(round, key=str(uuid.uuid4()), version=task["version"], seconds=2.5)

    replies = [call(user, "post", f"review-tasks/{task['id']}/submit/", body) for _ in range(2)]

    assert replies[0] == replies[1]
    assert replies[0]["task"] == {"id": task["id"], "state": "answered", "version": 1}
    assert (replies[0]["progress"]["answered"], replies[0]["progress"]["corrected"]) == (1, 1)
    assert Correction.objects.count() == 1


def test_an_answer_to_an_old_version_conflicts() -> None:
    round = make_reviewable_round()
    user = round.created_by
    (task,) = take(round, user)
    call(user, "post", f"review-tasks/{task['id']}/submit/", answer(round, version=0))

    problem = call(user, "post", f"review-tasks/{task['id']}/submit/", answer(round, version=0), status=409)

    assert "another tab" in problem["detail"]


def test_an_answer_to_somebody_elses_item_is_kept_and_does_not_count() -> None:
    reviewer = make_user()
    round = make_reviewable_round(reviewers=[reviewer])
    (task,) = take(round, reviewer)

    late = call(round.created_by, "post", f"review-tasks/{task['id']}/submit/", answer(round))

    assert late["correction"]["late"] is True
    assert late["task"]["state"] == "leased"


def test_an_undone_answer_comes_back_and_stays_in_the_history() -> None:
    round = make_reviewable_round()
    user = round.created_by
    (task,) = take(round, user)
    call(user, "post", f"review-tasks/{task['id']}/submit/", answer(round, seconds=1.0))

    undone = call(user, "post", f"review-rounds/{round.pk}/undo/")
    call(user, "post", f"review-tasks/{task['id']}/submit/", {"action": "skip", "reason": "unreadable"})
    shown = call(user, "get", f"review-tasks/{task['id']}/")

    assert (undone["task"]["id"], undone["task"]["state"]) == (task["id"], "leased")
    assert [(row["action"], row["reason"]) for row in shown["history"]] == [
        ("label", ""),
        ("undo", ""),
        ("skip", "unreadable"),
    ]
    assert shown["state"] == "skipped"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "undo"},
        {"action": "label"},
        {"action": "label", "label": 10**6},
        {"action": "label", "label": "positive"},
        {"action": "skip", "seconds": -1},
        {"action": "skip", "seconds": "NaN"},
        {"action": "skip", "key": "not a uuid"},
        {"action": "skip", "reason": "r" * 201},
    ],
)
def test_what_is_no_answer_is_refused(body: dict[str, Any]) -> None:
    round = make_reviewable_round()
    (task,) = take(round, round.created_by)

    call(round.created_by, "post", f"review-tasks/{task['id']}/submit/", body, status=400)

    assert not Correction.objects.exists()


def test_a_label_of_another_project_is_no_answer() -> None:
    round = make_reviewable_round()
    (task,) = take(round, round.created_by)
    body = {"action": "label", "label": make_project().labels.earliest("pk").pk}

    problem = call(round.created_by, "post", f"review-tasks/{task['id']}/submit/", body, status=400)

    assert "label" in problem["errors"]


def test_a_closed_round_hands_out_nothing_until_it_is_opened_again() -> None:
    round = make_reviewable_round()
    owner = round.created_by

    closed = call(owner, "post", f"review-rounds/{round.pk}/close/")
    none = take(round, owner)
    opened = call(owner, "post", f"review-rounds/{round.pk}/reopen/")

    assert (closed["state"], none, opened["state"]) == ("closed", [], "open")
    assert len(take(round, owner)) == 1


def test_what_is_not_there_at_the_moment_may_be_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(**_: Any) -> None:
        raise Busy("A larger budget is being drawn. Ask again in a moment.")

    monkeypatch.setattr("review.api.queue.tasks_claim", wait)
    project = make_project()
    make_items(project, 2)
    round = make_round(make_criticism_run(make_annotation_run(project)))

    response = Caller(project.created_by).post(f"review-rounds/{round.pk}/next/", {})

    assert response.status_code == 503
    assert "Ask again in a moment" in response.json()["detail"]


@pytest.mark.parametrize("count", [0, 11, "all"])
def test_a_few_items_are_taken_at_a_time(count: object) -> None:
    round = make_reviewable_round()

    call(round.created_by, "post", f"review-rounds/{round.pk}/next/", {"count": count}, status=400)


def test_a_calibration_round_is_blind_and_makes_calibration_labels() -> None:
    project = make_project()
    make_items(project, 3)
    owner = project.created_by
    make_criticism_run(make_annotation_run(project))
    body = {"kind": "calibration", "budget": 2}

    round_id = call(owner, "post", f"projects/{project.pk}/review-rounds/", body, status=201)["id"]
    round = ReviewRound.objects.get(pk=round_id)
    (task,) = take(round, owner)
    call(owner, "post", f"review-tasks/{task['id']}/submit/", answer(round))
    state = call(owner, "get", f"projects/{project.pk}/calibration/")

    assert (task["blind"], task["machine"], task["criticism"], task["failure"]) == (True, None, None, None)
    assert (state["items"], state["by_people"]) == (1, 1)


def test_final_labels_are_measured_against_gold() -> None:
    round = make_reviewable_round(items=4, budget=2)  # gold is positive, the machine always said negative
    owner = round.created_by
    (task,) = take(round, owner)
    call(owner, "post", f"review-tasks/{task['id']}/submit/", answer(round))

    accuracy = call(owner, "get", f"review-rounds/{round.pk}/accuracy/")

    no_spans = {"f1": None, "f1_low": None, "f1_high": None}
    machine = accuracy.pop("machine")
    # Wilson's intervals of 1 and of 0 in 4.
    ends = {"low": pytest.approx(0.0456, abs=1e-4), "high": pytest.approx(0.6994, abs=1e-4)}
    assert accuracy == {"right": 1, "judged": 4, "share": 0.25, **ends, **no_spans}
    ends = {"low": pytest.approx(0, abs=1e-9), "high": pytest.approx(0.4899, abs=1e-4)}
    assert machine == {"right": 0, "judged": 4, "share": 0.0, **ends, **no_spans}


# --- Exports ---------------------------------------------------------------------------------------------------------


def test_an_export_is_downloaded_once_it_is_written() -> None:
    round = make_reviewable_round()
    owner, project = round.created_by, round.project

    made = call(
        owner, "post", f"projects/{project.pk}/exports/", {"round": round.pk, "format": "jsonl"}, status=202
    )
    early = call(owner, "get", f"exports/{made['id']}/download/", status=409)
    work()
    response = Caller(owner).get(f"exports/{made['id']}/download/")

    assert early["detail"] == "The export has no file: its job is queued."
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{made["filename"]}"'
    assert len(content_of(response).splitlines()) == 4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"round": 10**6}, "round"),
        ({"layout": "round"}, "layout"),
        ({"format": "xlsx"}, "format"),
        ({"lam": 1.5}, "lam"),
        ({"lam": None}, "lam"),
    ],
)
def test_an_export_that_cannot_be_made_is_refused(change: dict[str, Any], field: str) -> None:
    round = make_reviewable_round()
    body = {"round": round.pk} | change

    problem = call(round.created_by, "post", f"projects/{round.project.pk}/exports/", body, status=400)

    assert list(problem["errors"]) == [field]


def test_a_calibration_round_and_another_projects_round_are_not_exported() -> None:
    project = make_project()
    make_item(project)
    other = make_reviewable_round(owner=project.created_by)

    for round in (make_calibration_round(project, 1), other):
        body = {"round": round.pk}
        call(project.created_by, "post", f"projects/{project.pk}/exports/", body, status=400)


def test_exports_of_a_project_are_its_own() -> None:
    round = make_reviewable_round()
    make_export(make_reviewable_round(owner=round.created_by))
    own = make_export(round)

    rows = call(round.created_by, "get", f"projects/{round.project.pk}/exports/")["results"]

    assert [row["id"] for row in rows] == [own.pk]
