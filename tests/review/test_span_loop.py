"""Answers that are spans of a text through the whole loop, by the API: upload, annotate, criticize, answer, export."""

import csv
import io
import json
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import Item, Project
from annotate.services.calibration import calibration_from_gold
from criticize.leaderboard import wilson_interval
from criticize.models import CriticismRun
from criticize.selectors import criticism_quality
from mllm.messages import Request
from review.certification import certification_now
from review.models import Correction, ReviewRound, ReviewTask
from review.selectors import final_accuracy, round_progress
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from review.standing import standing_of
from tests.api.caller import Caller, call, content_of, work
from tests.conftest import Provider
from tests.factories import make_audit_round, make_calibration_round, make_connection, make_user
from tests.span_answers import TEXT, make_span_round, span_answer

pytestmark = pytest.mark.django_db

RIVERS = ("Aller", "Elbe", "Havel", "Ilse", "Oker", "Saale")


def context(river: str) -> str:
    return f"😀 The {river} is a river. People call it the old {river}."


def squad() -> bytes:
    """A question about each river; of the last one the text says nothing."""
    paragraphs = []
    for place, river in enumerate(RIVERS):
        is_impossible = river == RIVERS[-1]
        answers = [] if is_impossible else [{"text": river, "answer_start": context(river).index(river)}]
        question = {"id": river, "question": f"Which river, {place}?", "answers": answers}
        paragraphs.append({"context": context(river), "qas": [question | {"is_impossible": is_impossible}]})
    return json.dumps(
        {"version": "v2.0", "data": [{"title": "Rivers", "paragraphs": paragraphs}]}, ensure_ascii=False
    ).encode()


def model(request: Request) -> str:
    """An annotator and a criticizer in one: it is wrong about the first and the last, and doubts the first most."""
    place = int(re.findall(r"Which river, (\d+)", str(request.parts))[0])
    if len(request.parts) == 2:  # the text and the question
        answer = "a river" if place == 0 else RIVERS[place]
        structured = json.dumps({"has_answer": True, "answer": answer})
        return structured if request.schema else f"<answer>{answer}</answer>"
    doubt = round(0.9 - place / 10, 2)
    return json.dumps({"error_probability": doubt}) if request.schema else f"[{doubt}]"


@pytest.fixture
def project(provider: Provider) -> Project:
    """Uploaded, annotated and criticized through the API."""
    provider(model)
    user = make_user("olga")
    made = call(user, "post", "projects/", {"name": "Rivers", "task_type": "extractive_qa"}, status=201)
    project = Project.objects.get(pk=made["id"])
    file = SimpleUploadedFile("dev-v2.0.json", squad())
    upload = Caller(user).post(f"projects/{project.pk}/uploads/", {"file": file}, format="multipart").json()
    mapping = upload["preview"]["mapping"]
    assert (mapping["text"], mapping["question"], mapping["gold"]) == ("context", "question", "answers")
    call(user, "post", f"uploads/{upload['id']}/import/", {"mapping": mapping}, status=202)
    work()
    connection = make_connection(user)
    body = {"kind": "prompted", "connection": connection.pk, "model": "small", "strategy": "naive"}
    body |= {"answer_format": "bracket"}
    run = call(user, "post", f"projects/{project.pk}/annotation-runs/", body, status=201)
    work()
    body |= {"annotation_run": run["id"], "model": "other"}
    call(user, "post", f"projects/{project.pk}/criticism-runs/", body, status=201)
    work()
    return project


def exported(user: Any, round: int, format: str, layout: str) -> bytes:
    body = {"round": round, "format": format, "layout": layout}
    project = ReviewRound.objects.get(pk=round).project_id
    export = call(user, "post", f"projects/{project}/exports/", body, status=202)
    work()
    response = Caller(user).get(f"exports/{export['id']}/download/")
    return content_of(response)


def test_the_whole_loop(project: Project):
    user = project.created_by
    items = {item.external_id: item for item in project.items.all()}
    assert items["Aller"].gold_answers == [{"text": "Aller", "start": 6}]
    assert items["Saale"].gold_answers == []
    assert items["Aller"].columns == {"title": "Rivers"}
    detail = call(user, "get", f"items/{items['Aller'].pk}/")
    assert detail["gold_answers"] == [{"text": "Aller", "start": 6}]

    run = project.annotation_runs.get()
    accuracy = call(user, "get", f"annotation-runs/{run.pk}/")["accuracy"]
    assert (accuracy["right"], accuracy["judged"]) == (4, 6)
    assert accuracy["f1"] == pytest.approx(4 / 6)
    criticism = CriticismRun.objects.get()
    assert criticism.prompt_version == "criticize-span-naive-1"
    quality = criticism_quality(criticism)
    assert (quality.items, quality.errors) == (6, 2)

    body = {"criticism_run": criticism.pk, "budget": 3}
    round = call(user, "post", f"projects/{project.pk}/review-rounds/", body, status=201)
    assert standing_of(project).next.title == "Review 3 items"
    claimed = call(user, "post", f"review-rounds/{round['id']}/next/", {"count": 3})["tasks"]
    first, second, third = claimed
    assert first["item"]["external_id"] == "Aller"
    machine = second["machine"]
    at = context("Elbe").index("Elbe")
    assert (machine["answer"], machine["start"], machine["end"]) == ("Elbe", at, at + 4)
    last = context("Elbe").rindex("Elbe")
    assert machine["occurrences"] == [{"start": at, "end": at + 4}, {"start": last, "end": last + 4}]
    assert second["criticism"]["error_prob"] == 0.8

    def submit(task: dict[str, Any], status: int = 200, **answer: Any) -> Any:
        body = {"action": "label", "version": task["version"]} | answer
        return call(user, "post", f"review-tasks/{task['id']}/submit/", body, status=status)

    wrong = submit(first, 400, answer="Aller", start=7, end=12)
    assert "not what stands at these characters" in json.dumps(wrong)
    corrected = submit(first, answer="Aller", start=6, end=11)["correction"]
    assert (corrected["answer"], corrected["start"], corrected["end"]) == ("Aller", 6, 11)
    submit(second, answer="Elbe", start=last, end=last + 4)
    undone = call(user, "post", f"review-rounds/{round['id']}/undo/")
    assert (undone["answer"], undone["start"], undone["end"]) == ("Elbe", last, last + 4)
    submit(undone["task"], answer="Elbe", start=last, end=last + 4)
    none = submit(third, no_answer=True)["correction"]
    assert (none["answer"], none["start"], none["end"]) == ("", 0, 0)

    progress = round_progress(ReviewRound.objects.get(pk=round["id"]))
    assert (progress.answered, progress.corrected) == (3, 2)
    assert final_accuracy(ReviewRound.objects.get(pk=round["id"])) == (4, 6)
    found = call(user, "get", f"review-rounds/{round['id']}/accuracy/")
    assert (found["right"], found["judged"], found["f1"]) == (4, 6, pytest.approx(4 / 6))
    assert (found["low"], found["high"]) == pytest.approx(wilson_interval(4, 6))
    assert found["f1_low"] < found["f1"] < found["f1_high"]
    assert found["machine"]["f1"] == pytest.approx(4 / 6)

    rows = {
        row["external_id"]: row
        for row in map(json.loads, exported(user, round["id"], "jsonl", "wide").decode().splitlines())
    }
    wide = rows["Aller"]
    assert (wide["machine_label"], wide["machine_start"]) == ("a river", context("Aller").index("a river"))
    assert (wide["final_label"], wide["final_start"], wide["human_start"]) == ("Aller", 6, 6)
    assert (rows["Havel"]["final_label"], rows["Havel"]["final_start"]) == ("", 0)
    assert rows["Havel"]["label_source"] == "human"
    assert (rows["Ilse"]["human_label"], rows["Ilse"]["human_start"]) == (None, None)
    assert (rows["Ilse"]["final_label"], rows["Ilse"]["final_start"]) == ("Ilse", 6)
    long = list(csv.DictReader(io.StringIO(exported(user, round["id"], "csv", "long").decode("utf-8-sig"))))
    assert [(row["external_id"], row["label"], row["start"], row["source"]) for row in long][:3] == [
        ("Aller", "Aller", "6", "human"),
        ("Elbe", "Elbe", str(last), "human"),
        ("Havel", "", "0", "human"),
    ]
    answers = list(
        csv.DictReader(io.StringIO(exported(user, round["id"], "csv", "answers").decode("utf-8-sig")))
    )
    assert [(row["answer"], row["start"], row["stands"].lower()) for row in answers] == [
        ("Aller", "6", "true"),
        ("Elbe", str(last), "false"),
        ("Elbe", str(last), "true"),
        ("", "0", "true"),
    ]
    assert exported(user, round["id"], "parquet", "wide")[:4] == b"PAR1"


PAGES = (
    "project",
    "items",
    "annotation_runs",
    "criticism_runs",
    "calibration",
    "candidates",
    "budget_planner",
)
MORE_PAGES = (
    "review_rounds",
    "agreement",
    "dashboard",
    "exports",
    "people",
    "uploads",
    "guidelines",
    "adjudication",
)


def test_every_page_of_the_project_opens(project: Project, client: Client):
    user = project.created_by
    calibration_from_gold(project=project, count=2)
    run = CriticismRun.objects.get()
    made = call(
        user,
        "post",
        f"projects/{project.pk}/review-rounds/",
        {"criticism_run": run.pk, "budget": 2},
        status=201,
    )
    round = ReviewRound.objects.get(pk=made["id"])
    (task,) = tasks_claim(round=round, user=user)
    task_submit(task=task, user=user, answer=span_answer(task, ""))
    client.force_login(user)
    addresses = [reverse(name, args=[project.pk]) for name in PAGES + MORE_PAGES]
    addresses += [
        reverse("annotation_run", args=[project.pk, run.annotation_run_id]),
        reverse("criticism_run", args=[project.pk, run.pk]),
        reverse("review_round", args=[project.pk, round.pk]),
        *(reverse("item", args=[project.pk, pk]) for pk in project.items.values_list("pk", flat=True)),
    ]
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200, address
        assert ">None<" not in response.content.decode(), address
    assert "Exact match" in client.get(addresses[len(PAGES + MORE_PAGES)]).content.decode()


class TestSubmit:
    @pytest.mark.parametrize(
        ("answer", "sentence"),
        [
            (Answer(action="label", text="Seehausen"), "at which characters"),
            (Answer(action="label", text="Seehausen", start=0, end=9), "not what stands"),
            (Answer(action="label", text="", start=5, end=5), "within the text"),
            (Answer(action="label", text="x", start=5, end=4), "within the text"),
            (Answer(action="label", text="x", start=-1, end=4), "within the text"),
            (Answer(action="label", text="Seehausen", start=21), "at which characters"),
            (Answer(action="label", text="x", start=0, end=10_000), "within the text"),
            (Answer(action="label", text=" ", start=3, end=4), "Choose words"),
            (Answer(action="label", text="The", start=0, end=0), "no words"),
            (Answer(action="skip", text="The"), "a skip"),
            (Answer(action="skip", start=0, end=0), "a skip"),
        ],
    )
    def test_an_answer_is_exactly_what_stands_there(self, answer: Answer, sentence: str):
        round = make_span_round()
        (task,) = tasks_claim(round=round, user=round.created_by)

        with pytest.raises(Refusal, match=sentence):
            task_submit(task=task, user=round.created_by, answer=answer)
        assert not Correction.objects.exists()

    def test_characters_are_code_points(self):
        round = make_span_round()
        item = Item.objects.order_by("pk")[0]
        Item.objects.filter(pk=item.pk).update(text="😀😀 Seehausen")
        (task,) = tasks_claim(round=round, user=round.created_by)
        answer = Answer(action="label", text="Seehausen", start=3, end=12)

        assert task_submit(task=task, user=round.created_by, answer=answer).start == 3

    def test_the_api_knows_no_answer_only_of_spans(self):
        round = make_span_round()
        (task,) = tasks_claim(round=round, user=round.created_by)
        body = {"action": "label", "answer": "Seehausen", "start": 21, "end": 30, "no_answer": True}
        problem = call(round.created_by, "post", f"review-tasks/{task.pk}/submit/", body, status=400)

        assert "it holds none" in json.dumps(problem)

    def test_blind_arms_show_nothing_of_the_machine(self):
        round = make_span_round()
        ReviewTask.objects.update(arm=ReviewTask.Arm.BLIND)
        shown = call(round.created_by, "post", f"review-rounds/{round.pk}/next/", {})["tasks"][0]

        assert (shown["machine"], shown["criticism"], shown["blind"]) == (None, None, True)


def answer_all(round: ReviewRound, said: dict[int, str]) -> None:
    """By item: the answer of the round's owner."""
    while tasks := tasks_claim(round=round, user=round.created_by, count=10):
        for task in tasks:
            task_submit(task=task, user=round.created_by, answer=span_answer(task, said[task.item_id]))


def test_a_certificate_counts_exact_matches():
    round = make_span_round(("Seehausen", "Seehausen", "near Seehausen", ""), budget=1)
    first, *others = Item.objects.order_by("pk")
    answer_all(round, {first.pk: "Seehausen"})
    audit = make_audit_round(round, 3)
    # Another wording of the same, other words, and that there is none.
    answer_all(audit, dict(zip([item.pk for item in others], ("Seehausen", "Seehausen", ""), strict=True)))
    made = certification_now(round).certificate

    assert made is not None
    assert (made.audited, made.wrong, made.corrected) == (3, 1, 0)
    assert made.before.share == pytest.approx(3 / 4)


def test_a_blind_round_makes_calibration_answers():
    project = make_span_round().project
    round = make_calibration_round(project, 2)
    first, second = round.counted_tasks.order_by("rank")
    answer_all(round, {first.item_id: "near Seehausen", second.item_id: ""})

    answers = dict(project.calibration_labels.values_list("item_id", "answers"))
    assert answers[first.item_id] == [{"text": "near Seehausen", "start": TEXT.index("near Seehausen")}]
    assert answers[second.item_id] == []
    answer_undo(round=round, user=round.created_by)
    assert project.calibration_labels.count() == 1


def test_the_pipeline_measures_itself_on_gold(provider: Provider, tmp_path: Any, capsys: Any):
    provider(model)
    user = make_user("admin")
    file = tmp_path / "rivers.json"
    file.write_bytes(squad())
    connection = make_connection(user, name="here")
    call_command(
        "pipeline",
        data=file,
        task="extractive_qa",
        annotator=f"{connection.name}/small:naive",
        criticizer=f"{connection.name}/other:naive",
        calibration=1,
        budget="2",
        gold="answers",
        user=user.username,
        json=True,
        out=tmp_path / "out",
    )
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])

    assert result["items"] == 5
    assert result["reviews"] == 2
    assert result["errors"] in (1, 2)
    assert result["final_accuracy"] == pytest.approx(result["machine_accuracy"] + result["errors_found"] / 5)
    assert result["final_f1"] > result["machine_f1"] or not result["errors_found"]
    assert (tmp_path / "out" / "wide.csv").exists()
