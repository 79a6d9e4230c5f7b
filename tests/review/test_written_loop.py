"""Written answers through the whole loop: annotate, criticize, draw, answer, edit, undo, export; and their pages."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from annotate.models import Project
from annotate.services.projects import project_create
from annotate.task_types import WRITTEN_TASKS
from criticize.models import CriticismRun
from jobs.running import run_to_end
from mllm.messages import Request
from review.models import Correction, Export, ReviewRound
from review.sampling import RULES
from review.selectors import round_progress
from review.services.exports import export_create
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.services.rounds import round_create, round_preview
from review.standing import standing_of
from tests.api.caller import call
from tests.conftest import Provider
from tests.factories import make_connection, make_item, make_items, make_round, make_user
from tests.written_answers import (
    answer_of,
    criticism_of,
    make_checks,
    make_ratings,
    make_written_project,
    make_written_run,
)

pytestmark = pytest.mark.django_db

# What a spreadsheet would run, and what a careless CSV writer would break on.
HOSTILE = '=HYPERLINK("http://x"), "quoted", [1][0.5]\n\nand a line; 今日は 😀'


def model(request: Request) -> str:
    """An annotator and a criticizer in one: the first answer is hostile, and the worse the later they are."""
    if len(request.parts) == 1:
        number = int(re.findall(r"number (\d+)", str(request.parts[0]))[0])
        return HOSTILE if number == 0 else f"A day passed. It had the number {number}."
    answer = str(request.parts[1])
    found = re.search(r"number (\d+)", answer)
    doubt = int(found.group(1)) / 10 if found else 0.05
    if "<fact" not in answer:
        return f"[It reads so.][{1 - doubt:.3f}]"
    facts = answer.count("<fact ")
    return "So it is.\n" + "\n".join(f"[{number}][{doubt / number:.3f}]" for number in range(1, facts + 1))


def work_on(run: Any) -> None:
    run_to_end(run.job_id)
    run.job.refresh_from_db()
    assert run.job.state == "done", run.job.reason
    assert run.job.failed == 0


@pytest.fixture(params=WRITTEN_TASKS)
def project(request: pytest.FixtureRequest) -> Project:
    project = project_create(
        user=make_user("olga"), name="Days", task_type=request.param, instructions="Sum up."
    )
    for number in range(8):
        make_item(project, text=f"What a day, number {number}", external_id=f"day-{number}")
    return project


def annotated_and_criticized(project: Project, provider: Provider) -> CriticismRun:
    """Through the API, as a script would."""
    provider(model)
    user = project.created_by
    connection = make_connection(user)
    body = {"kind": "prompted", "connection": connection.pk, "model": "small", "strategy": "naive"}
    body |= {"answer_format": "bracket"}
    annotations = call(user, "post", f"projects/{project.pk}/annotation-runs/", body, status=201)
    work_on(project.annotation_runs.get())
    body |= {"annotation_run": annotations["id"], "strategy": "cot"}
    call(user, "post", f"projects/{project.pk}/criticism-runs/", body, status=201)
    run = CriticismRun.objects.get()
    work_on(run)
    return run


def exported(round: ReviewRound, format: str, layout: str = "wide", **options: Any) -> bytes:
    export = export_create(
        round=round, user=round.created_by, layout=layout, format=Export.Format(format), **options
    )
    run_to_end(export.job_id)
    export.refresh_from_db()
    return bytes(export.file.read())


def test_the_whole_loop(project: Project, provider: Provider):
    user = project.created_by
    run = annotated_and_criticized(project, provider)
    round = round_create(run=run, user=user, count=4)
    assert standing_of(project).next.title == "Review 4 items"

    first, second, third, fourth = tasks_claim(round=round, user=user, count=4)
    assert first.item.external_id == "day-7"
    task_submit(task=first, user=user, answer=Answer(action="label", text=answer_of(first)))
    task_submit(task=second, user=user, answer=Answer(action="label", text="It was another day."))
    task_submit(task=third, user=user, answer=Answer(action="skip"))
    task_submit(task=fourth, user=user, answer=Answer(action="label", text="Not this."))
    undone = answer_undo(round=round, user=user)
    assert undone.pk == fourth.pk
    task_submit(task=undone, user=user, answer=Answer(action="label", text=HOSTILE))
    progress = round_progress(round)
    assert (progress.answered, progress.corrected, progress.skipped) == (3, 2, 1)

    rows = {
        row["external_id"]: row for row in map(json.loads, exported(round, "jsonl").decode().splitlines())
    }
    assert rows["day-7"]["final_label"] == rows["day-7"]["machine_label"] == answer_of(first)
    assert (rows["day-7"]["label_source"], rows["day-7"]["human_weight"]) == ("human", 1.0)
    assert rows["day-6"]["human_label"] == rows["day-6"]["final_label"] == "It was another day."
    assert rows["day-6"]["machine_label"] == "A day passed. It had the number 6."
    assert (rows["day-5"]["status"], rows["day-5"]["human_label"]) == ("unanswered", None)
    assert rows["day-4"]["final_label"] == HOSTILE
    assert (rows["day-0"]["final_label"], rows["day-0"]["status"]) == (HOSTILE, "machine")
    assert (rows["day-0"]["machine_weight"], rows["day-0"]["human_weight"]) == (1.0, 0.0)
    assert (rows["day-0"]["error_prob"] is None) is project.task.is_rated


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_draws_within_the_budget(rule: str, project: Project, provider: Provider):
    run = annotated_and_criticized(project, provider)
    preview = round_preview(run=run, count=3, rule=rule)
    round = round_create(run=run, user=project.created_by, count=3, rule=rule)

    assert round.tasks.count() == preview.selected == 3
    assert preview.scale == ("1 − quality" if project.task.is_rated else "Error probability ε̂")
    assert (preview.expected_found is None) is project.task.is_rated
    assert sum(preview.counts) == 8


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_csv_keeps_texts_whole_and_runs_nothing(layout: str, project: Project, provider: Provider):
    run = annotated_and_criticized(project, provider)
    round = round_create(run=run, user=project.created_by, count=1)
    column = "machine_label" if layout == "wide" else "label"

    def texts(escape: bool) -> dict[str, str]:
        data = exported(round, "csv", layout, escape_formulas=escape).decode()
        return {row["external_id"]: row[column] for row in csv.DictReader(io.StringIO(data, newline=""))}

    assert texts(False)["day-0"] == HOSTILE
    assert texts(True)["day-0"] == f"'{HOSTILE}"
    assert texts(True)["day-3"] == "A day passed. It had the number 3."


# --- Pages -----------------------------------------------------------------------------------------------------------


def pages_of(round: ReviewRound) -> dict[str, str]:
    project, run = round.project, criticism_of(round)
    client = Client()
    client.force_login(project.created_by)
    task = round.tasks.earliest("rank")
    addresses = {
        "project": [],
        "items": [],
        "item": [task.item_id],
        "annotation_runs": [],
        "annotation_run": [run.annotation_run_id],
        "criticism_runs": [],
        "criticism_run": [run.pk],
        "review_rounds": [],
        "review_round": [round.pk],
        "review": [round.pk],
        "exports": [],
        "project_settings": [],
    }
    pages = {}
    for name, args in addresses.items():
        response = client.get(reverse(name, args=[project.pk, *args]))
        assert response.status_code == 200, name
        pages[name] = response.content.decode()
    query = {
        "criticism_run": str(run.pk),
        "budget": "1",
        "unit": "count",
        "rule": "threshold",
        "priority": "criticism",
    }
    pages["preview"] = client.get(reverse("review_round_preview", args=[project.pk]), query).content.decode()
    return pages


@pytest.fixture
def rated() -> ReviewRound:
    project = make_written_project()
    make_items(project, 3)
    round = make_round(make_ratings(make_written_run(project), [0.125, 0.5, 0.9]), 2)
    task = tasks_claim(round=round, user=round.created_by)[0]
    task_submit(task=task, user=round.created_by, answer=Answer(action="label", text="<b>Mine</b>, instead."))
    return round


@pytest.fixture
def checked() -> ReviewRound:
    project = make_written_project("written_facts")
    run = make_written_run(project, {make_items(project, 1)[0]: "It rained. It was Monday."})
    return make_round(make_checks(run, [[("It rained.", 0.02), ("It was Monday.", 0.874)]]), 1)


def test_pages_of_rated_answers_speak_of_quality_and_of_no_error_probability(rated: ReviewRound):
    pages = pages_of(rated)

    for name, page in pages.items():
        assert "rror probabilit" not in page, name
        assert "ε̂" not in page, name
        assert "None" not in page, name
    for name in ("item", "review_round", "criticism_run"):
        assert "0.125" in pages[name], name
        assert "uality" in pages[name], name
    for name in ("item", "review_round", "annotation_run", "criticism_run"):
        assert "is short. It says what day it is." in pages[name], name
    for name in ("item", "review_round"):
        assert "&lt;b&gt;Mine&lt;/b&gt;, instead." in pages[name], name
    assert "corrected" in pages["review_round"]
    assert "Trained classifier" not in pages["annotation_runs"] or "no label set" in pages["annotation_runs"]
    assert 'value="devil"' not in pages["criticism_runs"]


def test_pages_of_checked_answers_list_the_facts(checked: ReviewRound):
    pages = pages_of(checked)

    assert "Its 2 facts" in pages["item"]
    assert "It was Monday." in pages["item"]
    assert "0.874" in pages["item"]
    assert "2 facts" in pages["criticism_run"]
    assert "most doubtful fact" in pages["criticism_run"]
    assert '"written": "' in pages["review"]


def test_an_accepted_answer_is_not_called_corrected(checked: ReviewRound):
    task = tasks_claim(round=checked, user=checked.created_by)[0]
    task_submit(task=task, user=checked.created_by, answer=Answer(action="label", text=answer_of(task)))

    assert "corrected" not in pages_of(checked)["review_round"].split('id="answers-title"')[1]


def test_the_api_tells_texts_and_facts(checked: ReviewRound):
    user, run = checked.created_by, criticism_of(checked)
    annotation = call(user, "get", f"annotation-runs/{run.annotation_run_id}/annotations/")["results"][0]
    criticism = call(user, "get", f"criticism-runs/{run.pk}/criticisms/")["results"][0]

    assert (annotation["label"], annotation["answer"]) == (None, "It rained. It was Monday.")
    assert [fact["error_prob"] for fact in criticism["facts"]] == [0.02, 0.874]
    assert criticism["error_prob"] == criticism["priority"] == 0.874


@pytest.mark.parametrize("priority", ["combined", "cdi"])
def test_priorities_that_are_learned_from_confidence_are_refused(priority: str, rated: ReviewRound):
    run = criticism_of(rated)
    body = {"criticism_run": run.pk, "budget": 1, "priority": priority}

    problem = call(rated.created_by, "post", f"projects/{rated.project_id}/review-rounds/", body, status=400)
    assert "Written answers have no label set, so annotators state no confidence" in str(problem)


@pytest.mark.parametrize("name", ["budget_planner", "candidates"])
def test_pages_about_calibration_are_no_dead_ends(name: str, rated: ReviewRound):
    client = Client()
    client.force_login(rated.created_by)

    assert client.get(reverse(name, args=[rated.project_id])).status_code == 200


def test_the_next_steps_ask_for_no_labels_and_no_calibration():
    project = make_written_project()
    assert standing_of(project).next.title == "Upload your data"
    make_items(project, 2)
    standing = standing_of(project)
    assert standing.next.title == "Annotate the items"
    assert [step.key for step in standing.steps] == ["upload", "annotate", "criticize", "review", "export"]
    assert [step.state for step in standing.steps][:2] == ["done", "now"]

    run = make_written_run(project)
    assert standing_of(project).next.why == "A criticizer rates the quality of each answer."
    round = make_round(make_ratings(run, [0.2, 0.3]), 2)
    assert "E edits" in standing_of(project).next.why
    for task in tasks_claim(round=round, user=round.created_by, count=2):
        task_submit(task=task, user=round.created_by, answer=Answer(action="skip"))
    assert standing_of(project).next.title == "Export the answers"


def test_the_calibration_page_says_that_there_is_nothing_to_calibrate():
    project = make_written_project()
    make_items(project, 2)
    client = Client()
    client.force_login(project.created_by)
    address = reverse("calibration", args=[project.pk])

    page = client.get(address).content.decode()
    assert "no label set" in page
    response = client.post(address, {"from": "person", "count": 1})
    assert response.status_code == 422
    assert not ReviewRound.objects.exists()


# --- The command line ------------------------------------------------------------------------------------------------


def pipeline(data: Path, **options: Any) -> str:
    output = io.StringIO()
    user = make_user("pia")
    make_connection(user, name="models", base_url="http://localhost:9/v1")
    arguments = {
        "data": data,
        "task": "rated_answer",
        "annotator": "models/small:naive",
        "criticizer": "models/other:cot",
        "budget": "2",
        "user": user.username,
        **options,
    }
    call_command("pipeline", **arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "days.csv"
    path.write_text("id,text\n" + "".join(f"{number},What a day number {number}\n" for number in range(6)))
    return path


@pytest.mark.parametrize("task", WRITTEN_TASKS)
def test_the_pipeline_stops_with_reviews_waiting(task: str, data: Path, provider: Provider):
    provider(model)

    assert "2 reviews wait in the browser" in pipeline(data, task=task)
    assert ReviewRound.objects.get().project.task_type == task


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gold": "text"}, "leave --gold and --labels out"),
        ({"labels": "good,bad"}, "leave --gold and --labels out"),
        ({"annotator": "trained"}, "no classifier can be trained on them"),
        ({"criticizer": "trained"}, "no classifier can be trained on them"),
        ({"criticizer": "models/other:mc"}, "mc cannot judge them: choose naive or cot"),
    ],
)
def test_the_pipeline_refuses_what_needs_labels_before_it_pays(
    options: dict[str, str], sentence: str, data: Path, provider: Provider
):
    adapter = provider(model)

    with pytest.raises(CommandError, match=sentence):
        pipeline(data, **options)
    assert adapter.requests == []
    assert not Project.objects.exists()
    assert not Correction.objects.exists()
