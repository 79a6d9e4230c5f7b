import pytest

from criticize.models import CriticismRun
from jobs.models import Job
from tests.api.caller import call, work
from tests.conftest import Provider
from tests.factories import (
    make_annotation_run,
    make_connection,
    make_criticism_run,
    make_item,
    make_items,
    make_project,
)

pytestmark = pytest.mark.django_db


def test_a_model_criticizes_and_its_probabilities_are_kept(provider: Provider) -> None:
    project = make_project()
    make_items(project, 2)
    annotations = make_annotation_run(project)
    connection = make_connection(project.created_by)
    provider(["[0.125]", "no idea"])

    body = {
        "annotation_run": annotations.pk,
        "kind": "prompted",
        "connection": connection.pk,
        "model": "small",
        "strategy": "naive",
        "answer_format": "bracket",
    }
    made = call(project.created_by, "post", f"projects/{project.pk}/criticism-runs/", body, status=201)
    work()

    run = call(project.created_by, "get", f"criticism-runs/{made['id']}/")
    assert run["is_self_criticism"] is True
    assert (run["progress"]["done"], run["progress"]["failed"]) == (2, 1)
    assert run["histogram"][2] == sum(run["histogram"]) == 1
    rows = call(project.created_by, "get", f"criticism-runs/{made['id']}/criticisms/?failed=false")["results"]
    assert [row["error_prob"] for row in rows] == [0.125]
    one = call(project.created_by, "get", f"criticisms/{rows[0]['id']}/")
    assert (one["raw_text"], one["label"]["name"]) == ("[0.125]", "negative")


def test_an_unfinished_run_is_not_criticized() -> None:
    project = make_project()
    make_item(project)
    annotations = make_annotation_run(project, state=Job.State.RUNNING)

    body = {"annotation_run": annotations.pk, "kind": "trained"}
    problem = call(project.created_by, "post", f"projects/{project.pk}/criticism-runs/", body, status=400)

    assert "not finished" in problem["detail"]


def test_a_run_of_another_project_is_not_criticized() -> None:
    project, other = make_project(), make_project()
    make_item(other)
    body = {"annotation_run": make_annotation_run(other).pk, "kind": "trained"}

    for address in ("criticism-runs/", "criticism-runs/estimate/"):
        problem = call(project.created_by, "post", f"projects/{project.pk}/{address}", body, status=400)
        assert "annotation_run" in problem["errors"]
    assert not CriticismRun.objects.exists()


def test_quality_is_measured_where_gold_says() -> None:
    project = make_project()
    items = [make_item(project, gold=gold) for gold in ("positive", "negative", "negative")]
    run = make_criticism_run(make_annotation_run(project, dict.fromkeys(items, "negative")), [0.9, 0.5, 0.1])

    quality = call(project.created_by, "get", f"criticism-runs/{run.pk}/quality/?budget=1")

    # The one error of three is the most suspicious: found at every budget but 0, so ABS is (0 + 1 + 1 + 1) / 3.
    assert (quality["items"], quality["errors"], quality["aqg"], quality["abs"]) == (3, 1, 1.0, 1.0)
    assert quality["curve"][0] == {"budget_share": 0.0, "aqg": 0.0}


def test_quality_without_gold_is_not_made_up() -> None:
    project = make_project()
    make_items(project, 3)
    run = make_criticism_run(make_annotation_run(project))

    quality = call(project.created_by, "get", f"criticism-runs/{run.pk}/quality/?budget=2")

    assert quality == {"items": 0, "errors": 0, "abs": None, "aqg": None, "curve": []}
    call(project.created_by, "get", f"criticism-runs/{run.pk}/quality/?budget=-1", status=400)


def test_a_criticism_run_is_cancelled_and_its_failures_retried(provider: Provider) -> None:
    project = make_project()
    make_item(project)
    owner = project.created_by
    connection = make_connection(owner)
    run = make_criticism_run(
        make_annotation_run(project),
        [None],
        state=Job.State.PAUSED,
        connection=connection,
        strategy="naive",
        answer_format="bracket",
    )

    call(owner, "post", f"criticism-runs/{run.pk}/retry/", status=409)
    call(owner, "post", f"criticism-runs/{run.pk}/cancel/")
    call(owner, "post", f"criticism-runs/{run.pk}/retry/")
    provider(["[0.75]"])
    work()

    rows = call(owner, "get", f"criticism-runs/{run.pk}/criticisms/")["results"]
    assert [row["error_prob"] for row in rows] == [0.75]


def test_a_criticizer_that_only_ranks_gives_priorities_and_answers(provider: Provider) -> None:
    project = make_project()
    make_items(project, 3)
    annotations = make_annotation_run(project)
    provider(["[Plain.][5]", "[Plain.][2]", "[Plain.][9]"])
    body = {
        "annotation_run": annotations.pk,
        "kind": "prompted",
        "connection": make_connection(project.created_by, in_flight=1).pk,
        "model": "small",
        "strategy": "mc",
        "answer_format": "bracket",
    }
    made = call(project.created_by, "post", f"projects/{project.pk}/criticism-runs/", body, status=201)
    work()

    run = call(project.created_by, "get", f"criticism-runs/{made['id']}/")
    assert (run["ranks_only"], run["histogram"]) == (True, None)
    assert [(row["answer"], row["count"]) for row in run["answers"] if row["count"]] == [
        ("certainly wrong", 1),
        ("probably right", 1),
    ]
    rows = call(project.created_by, "get", f"criticism-runs/{made['id']}/criticisms/")["results"]
    assert [(row["error_prob"], row["priority"], row["answer"]) for row in rows] == [
        (None, 5.0, "certainly wrong"),
        (None, 2.0, "probably right"),
        (None, None, None),
    ]
    assert rows[2]["failure"] == "unparseable"


def test_perplexities_are_told() -> None:
    project = make_project()
    make_item(project)
    run = make_criticism_run(make_annotation_run(project), [None], strategy="cot_ppl")
    run.criticisms.update(priority=-0.25, failure="")

    (row,) = call(project.created_by, "get", f"criticism-runs/{run.pk}/criticisms/")["results"]

    assert (row["answer"], row["perplexity"], row["error_prob"]) == ("no, it is right", 4.0, None)


def test_a_probability_has_neither_answer_nor_perplexity() -> None:
    project = make_project()
    make_item(project)
    run = make_criticism_run(make_annotation_run(project), [0.5])

    detail = call(project.created_by, "get", f"criticism-runs/{run.pk}/")
    (row,) = call(project.created_by, "get", f"criticism-runs/{run.pk}/criticisms/")["results"]

    assert (detail["ranks_only"], detail["answers"], sum(detail["histogram"])) == (False, None, 1)
    assert (row["priority"], row["answer"], row["perplexity"]) == (0.5, None, None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strategy": "naive_logit"}, "Anthropic gives no log-probabilities"),
        ({"strategy": "devil"}, "made without any"),
        ({"strategy": "guess"}, "not a valid choice"),
    ],
)
def test_what_cannot_be_done_is_refused_at_the_strategy(changes: dict[str, str], sentence: str) -> None:
    project = make_project()
    make_item(project)
    annotations = make_annotation_run(project)
    annotations.annotations.update(reasoning="")
    connection = make_connection(project.created_by, provider="anthropic")
    body = {
        "annotation_run": annotations.pk,
        "kind": "prompted",
        "connection": connection.pk,
        "model": "m",
        **changes,
    }

    for address in ("criticism-runs/", "criticism-runs/estimate/"):
        problem = call(project.created_by, "post", f"projects/{project.pk}/{address}", body, status=400)
        assert sentence in str(problem["errors"]["strategy"])
    assert not CriticismRun.objects.exists()
