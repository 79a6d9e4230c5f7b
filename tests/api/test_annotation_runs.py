from decimal import Decimal
from typing import Any

import pytest

from annotate.models import AnnotationRun, ModelPrice, Project
from jobs.models import Job
from mllm.errors import CallError, Failure
from tests.api.caller import call, work
from tests.conftest import Provider
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_item,
    make_items,
    make_project,
    make_user,
)

pytestmark = pytest.mark.django_db


def prompted(project: Project, **values: Any) -> dict[str, Any]:
    connection = make_connection(project.created_by)
    return {"kind": "prompted", "connection": connection.pk, "model": "small", "strategy": "naive", **values}


def runs_address(project: Project) -> str:
    return f"projects/{project.pk}/annotation-runs/"


def test_a_model_annotates_and_what_it_said_is_kept(provider: Provider, wake_ups: list[int]) -> None:
    project = make_project()
    first, second = make_items(project, 2)
    provider(["[1]", "I would rather not say."])

    body = prompted(project, answer_format="bracket", max_tokens=50)
    made = call(project.created_by, "post", runs_address(project), body, status=201)
    work()

    run = call(project.created_by, "get", f"annotation-runs/{made['id']}/")
    assert (run["model"], run["answer_format"], run["max_tokens"]) == ("small", "bracket", 50)
    assert run["progress"]["state"] == "done"
    assert [(failure["name"], failure["count"]) for failure in run["failures"]] == [("unparseable", 1)]
    rows = call(project.created_by, "get", f"annotation-runs/{made['id']}/annotations/")["results"]
    assert [row["item"] for row in rows] == [first.pk, second.pk]
    assert sorted((row["label"] or {}).get("name", row["failure"]) for row in rows) == [
        "positive",
        "unparseable",
    ]


def test_failed_annotations_are_listed_and_asked_again_alone(provider: Provider) -> None:
    project = make_project()
    good, bad = make_items(project, 2)
    run = make_annotation_run(
        project,
        {good: "positive", bad: ""},
        connection=make_connection(project.created_by),
        strategy="naive",
        answer_format="bracket",
    )
    owner = project.created_by

    failed = call(owner, "get", f"annotation-runs/{run.pk}/annotations/?failed=true")["results"]
    fine = call(owner, "get", f"annotation-runs/{run.pk}/annotations/?failed=false")["results"]
    refused = call(owner, "get", f"annotation-runs/{run.pk}/annotations/?failure=refused")["results"]
    adapter = provider(["[0]"])
    retried = call(owner, "post", f"annotation-runs/{run.pk}/retry/")
    work()
    answer = call(owner, "get", f"annotations/{failed[0]['id']}/")

    assert [row["item"] for row in failed] == [row["item"] for row in refused] == [bad.pk]
    assert [row["item"] for row in fine] == [good.pk]
    assert retried["progress"]["state"] == "queued"
    assert len(adapter.requests) == 1
    assert answer["label"]["name"] == "negative"
    assert answer["earlier"][0]["failure"] == "refused"
    call(owner, "get", f"annotation-runs/{run.pk}/annotations/?failure=tired", status=400)


def test_a_run_is_paused_resumed_and_cancelled() -> None:
    project = make_project()
    make_items(project, 2)
    owner = project.created_by
    run = call(owner, "post", runs_address(project), prompted(project), status=201)["id"]

    states = [
        call(owner, "post", f"annotation-runs/{run}/{action}/")["progress"]["state"]
        for action in ("pause", "resume", "pause", "cancel")
    ]
    problem = call(owner, "post", f"annotation-runs/{run}/resume/", status=409)

    assert states == ["paused", "queued", "paused", "cancelled"]
    assert problem["detail"] == "Only a job that is paused can become queued; this one is cancelled."


def test_a_run_that_its_limit_paused_needs_a_higher_one(provider: Provider) -> None:
    project = make_project()
    make_items(project, 2)
    owner = project.created_by
    run = make_annotation_run(project, state=Job.State.PAUSED)
    Job.objects.filter(pk=run.job_id).update(
        failure="spend_limit", cost=Decimal("1.5"), spend_limit=Decimal("1.5")
    )

    call(owner, "post", f"annotation-runs/{run.pk}/resume/", status=409)
    call(owner, "post", f"annotation-runs/{run.pk}/resume/", {"spend_limit": "1.5"}, status=409)
    resumed = call(owner, "post", f"annotation-runs/{run.pk}/resume/", {"spend_limit": "2"})

    assert (resumed["progress"]["state"], resumed["progress"]["spend_limit"]) == ("queued", 2.0)


def test_an_estimate_names_calls_tokens_and_price() -> None:
    project = make_project()
    make_items(project, 3)
    ModelPrice.objects.create(provider="openai", model="small", input=1, output=2)

    estimate = call(project.created_by, "post", runs_address(project) + "estimate/", prompted(project))

    assert estimate["calls"] == 3
    assert estimate["measured"] is False
    assert estimate["cost"] == pytest.approx(
        (estimate["input_tokens"] * 1 + estimate["output_tokens"] * 2) / 1_000_000
    )
    assert not AnnotationRun.objects.exists()


def test_a_model_without_a_price_has_no_cost_and_takes_no_limit() -> None:
    project = make_project()
    make_item(project)
    body = prompted(project, model="nobody-priced-this")

    estimate = call(project.created_by, "post", runs_address(project) + "estimate/", body)
    problem = call(project.created_by, "post", runs_address(project), body | {"spend_limit": "5"}, status=400)

    assert estimate["cost"] is None
    assert "spend_limit" in problem["errors"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "psychic"}, "kind"),
        ({"connection": None}, "connection"),
        ({"connection": 10**30}, "connection"),
        ({"model": " "}, "model"),
        ({"strategy": "guess"}, "strategy"),
        ({"answer_format": "poem"}, "answer_format"),
        ({"top_logprobs": 99}, "top_logprobs"),
        ({"spend_limit": "-1"}, "spend_limit"),
        ({"spend_limit": "a lot"}, "spend_limit"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict[str, Any], field: str) -> None:
    project = make_project()
    make_item(project)

    problem = call(project.created_by, "post", runs_address(project), prompted(project) | change, status=400)

    assert list(problem["errors"]) == [field]
    assert not AnnotationRun.objects.exists()


def test_somebody_elses_connection_cannot_be_used() -> None:
    project = make_project()
    make_item(project)
    body = prompted(project) | {"connection": make_connection(make_user(), key="sk-theirs").pk}

    problem = call(project.created_by, "post", runs_address(project), body, status=400)

    assert "connection" in problem["errors"]


@pytest.mark.parametrize(("labels", "items"), [((), 1), (("only",), 1), (("a", "b"), 0)])
def test_labels_and_items_come_first(labels: tuple[str, ...], items: int) -> None:
    project = make_project(labels=labels)
    make_items(project, items)

    call(project.created_by, "post", runs_address(project), prompted(project), status=400)


def test_the_trained_annotator_needs_a_calibration_set() -> None:
    project = make_project()
    make_item(project)

    problem = call(project.created_by, "post", runs_address(project), {"kind": "trained"}, status=400)

    assert "Make a calibration set first." in problem["detail"]


def test_a_wrong_key_pauses_the_run_and_says_so(provider: Provider) -> None:
    project = make_project()
    make_item(project)
    provider(lambda request: CallError(Failure.AUTHENTICATION, "The key was not accepted."))

    run = call(project.created_by, "post", runs_address(project), prompted(project), status=201)["id"]
    work()
    progress = call(project.created_by, "get", f"annotation-runs/{run}/")["progress"]

    assert (progress["state"], progress["failure"]) == ("paused", "authentication")
    assert progress["reason"]


def test_options_and_scope_are_chosen_listed_and_filtered(provider: Provider) -> None:
    project = make_project()
    make_items(project, 2)
    make_calibration_label(make_item(project), "positive")
    owner = project.created_by
    provider(lambda request: "[1][0.75]")

    body = prompted(project, answer_format="bracket", confidence=True, examples=1)
    made = call(owner, "post", runs_address(project), body, status=201)
    tried = call(owner, "post", runs_address(project), body | {"scope": "calibration"}, status=201)
    work()

    assert (made["confidence"], made["examples"], made["example_items"]) == (True, 1, 1)
    assert (made["scope"], tried["scope"]) == ("project", "calibration")
    assert made["prompt_version"] == "annotate-naive-1+conf-1+ex-1"
    assert (made["sources"], made["precedence"], made["discussion"]) == ([], [], "")
    rows = call(owner, "get", f"annotation-runs/{made['id']}/annotations/")["results"]
    assert {(row["label"]["name"], row["confidence"]) for row in rows} == {("positive", 0.75)}

    def listed(query: str) -> list[int]:
        return [run["id"] for run in call(owner, "get", runs_address(project) + query)["results"]]

    assert listed("") == [tried["id"], made["id"]]
    assert listed("?scope=project") == [made["id"]]
    assert listed("?scope=calibration") == [tried["id"]]
    call(owner, "get", runs_address(project) + "?scope=everything", status=400)


def test_an_estimate_is_of_the_scope_and_the_options_asked_for() -> None:
    project = make_project()
    make_items(project, 3)
    make_calibration_label(make_item(project, text="a long day " * 100), "positive")
    address = runs_address(project) + "estimate/"

    plain = call(project.created_by, "post", address, prompted(project))
    examples = call(project.created_by, "post", address, prompted(project, examples=1))
    tried = call(project.created_by, "post", address, prompted(project, scope="calibration"))

    assert (plain["calls"], tried["calls"]) == (3, 1)
    assert examples["input_tokens"] > plain["input_tokens"] + 3 * 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"examples": 17}, "examples"),
        ({"examples": -1}, "examples"),
        ({"examples": 2}, "examples"),  # nothing is labelled
        ({"confidence": "perhaps"}, "confidence"),
        ({"scope": "everything"}, "scope"),
        ({"kind": "voted"}, "kind"),
    ],
)
def test_options_that_cannot_be_used_are_named(change: dict[str, Any], field: str) -> None:
    project = make_project()
    make_item(project)

    problem = call(project.created_by, "post", runs_address(project), prompted(project) | change, status=400)

    assert list(problem["errors"]) == [field]


@pytest.mark.parametrize(
    ("provider_key", "task", "change", "field"),
    [
        ("anthropic", "text_classification", {"top_logprobs": 5}, "top_logprobs"),
        ("gguf", "image_classification", {}, "connection"),
    ],
)
def test_what_a_provider_cannot_do_is_refused_when_it_is_chosen(
    provider_key: str, task: str, change: dict[str, Any], field: str
) -> None:
    project = make_project(task, ["a", "b"])
    make_item(project)
    connection = make_connection(project.created_by, provider=provider_key, key="sk-x")
    body = prompted(project, connection=connection.pk, **change)

    problem = call(project.created_by, "post", runs_address(project), body, status=400)

    assert list(problem["errors"]) == [field]


def test_runs_vote_and_discuss(provider: Provider) -> None:
    project = make_project()
    agreed, disputed = make_items(project, 2)
    owner = project.created_by
    connection = make_connection(owner)
    runs = [
        make_annotation_run(
            project,
            {agreed: "positive", disputed: label},
            model=f"m-{label}",
            connection=connection,
            strategy="naive",
            answer_format="bracket",
        ).pk
        for label in ("positive", "negative")
    ]
    adapter = provider(lambda request: "[0]")
    address = runs_address(project)

    estimate = call(owner, "post", address + "discussion/estimate/", {"sources": runs})
    vote = call(owner, "post", address + "vote/", {"sources": runs}, status=201)
    discussing = call(owner, "post", address + "discussion/", {"sources": runs}, status=201)["runs"]
    work()
    work()

    assert estimate["calls"] == 2
    assert (vote["kind"], vote["sources"], vote["precedence"]) == ("voted", runs, runs)
    assert [run["sources"] for run in discussing] == [runs, runs]
    assert len({run["discussion"] for run in discussing}) == 1
    assert len(adapter.requests) == 2
    last = call(owner, "get", address)["results"][0]
    assert (last["kind"], last["sources"]) == ("voted", [run["id"] for run in discussing])
    assert last["discussion"] == discussing[0]["discussion"]
    rows = call(owner, "get", f"annotation-runs/{last['id']}/annotations/")["results"]
    assert [(row["label"]["name"], row["confidence"]) for row in rows] == [
        ("positive", 1.0),
        ("negative", 1.0),
    ]


@pytest.mark.parametrize("how", ["vote/", "discussion/", "discussion/estimate/"])
def test_what_cannot_be_combined_is_named(how: str) -> None:
    project = make_project()
    make_item(project)
    run = make_annotation_run(project).pk
    foreign = make_annotation_run(make_project()).pk
    address = runs_address(project) + how

    for sources in ([], [run], [run, run], [run, foreign], [run, "x"], [run, 10**30], "all"):
        problem = call(project.created_by, "post", address, {"sources": sources}, status=400)
        assert list(problem["errors"]) == ["sources"], sources
    call(project.created_by, "post", address, {}, status=400)
