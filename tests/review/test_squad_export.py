"""Final answers that are spans as SQuAD JSON, which our own reader of uploads reads again."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest
from django.http import StreamingHttpResponse
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import Item
from annotate.spans import gold_texts
from jobs.running import run_to_end
from review import exporting
from review.models import Export, ReviewRound
from review.services.exports import export_create
from review.services.queue import Answer, task_submit, tasks_claim
from review.squad_export import Questions, write_squad
from tests.annotate.uploads.factories import good, open_bytes
from tests.api.caller import Caller, call, work
from tests.factories import make_criticism_run, make_reviewable_round, make_round
from tests.span_answers import (
    QUESTION,
    TEXT,
    make_calibration_answer,
    make_span_item,
    make_span_project,
    make_span_round,
    make_span_run,
    span_answer,
)

pytestmark = pytest.mark.django_db

FERRY = '😀 The "Büsum" ferry\nleft\u2028 at nine, שלום. The ferry left.'


def write(round: ReviewRound, **options: Any) -> Export:
    export = export_create(round=round, user=round.created_by, format="squad", **options)
    run_to_end(export.job_id)
    export.refresh_from_db()
    assert export.job.state == "done", export.job.reason
    return export


def content(export: Export) -> Any:
    return json.loads(Path(export.file.path).read_bytes())


def harbor_round() -> ReviewRound:
    """Articles with and without titles; the last two items have no final answer."""
    project = make_span_project()
    ferry = {"text": FERRY, "question": "When did it leave?", "columns": {"title": "Harbor", "page": 4}}
    answers = {
        make_span_item(project, columns={"title": "Rivers"}, external_id="a"): "Seehausen",
        make_span_item(project, columns={"title": "Rivers"}, external_id="b"): "",
        make_span_item(project, known=False, **ferry, external_id="c"): "nine",
        make_span_item(project, known=False, external_id="d"): "the Weser",
        make_span_item(project, known=False, **ferry, external_id="e"): None,
    }
    run = make_span_run(project, answers)
    make_span_item(project, known=False, external_id="late")
    return make_round(make_criticism_run(run), 4)


def test_what_is_exported_is_read_again(tmp_path: Path) -> None:
    round = harbor_round()
    said = {"a": "Aller", "c": "The ferry"}
    for task in tasks_claim(round=round, user=round.created_by, count=10):
        if task.item.external_id in said:
            answer = span_answer(task, said[task.item.external_id])
            if task.item.external_id == "c":
                start = FERRY.index("The ferry")
                answer = Answer(action="label", text="The ferry", start=start, end=start + 9)
            task_submit(task=task, user=round.created_by, answer=answer)
    export = write(round)

    assert (export.rows, export.filename) == (
        4,
        f"overread-{round.project_id}-round-{round.pk}-squad.json",
    )
    assert export.card["export"]["left_out"] == 2
    reader = open_bytes(tmp_path, export.filename, Path(export.file.path).read_bytes())
    rows = {row["id"]: row for row in good(reader)}
    assert {name: row["title"] for name, row in rows.items()} == {
        "a": "Rivers",
        "b": "Rivers",
        "c": "Harbor",
        "d": "",
    }
    items = {item.external_id: item for item in Item.objects.all()}
    for name, row in rows.items():
        assert (row["context"], row["question"]) == (items[name].text, items[name].question)
    answers = {name: json.loads(row["answers"]) for name, row in rows.items()}
    assert answers == {
        "a": [{"text": "Aller", "answer_start": TEXT.index("Aller")}],
        "b": [],
        "c": [{"text": "The ferry", "answer_start": FERRY.index("The ferry")}],
        "d": [{"text": "the Weser", "answer_start": TEXT.index("the Weser")}],
    }
    for name, found in answers.items():
        for answer in found:
            start = answer["answer_start"]
            assert items[name].text[start : start + len(answer["text"])] == answer["text"]


def test_it_is_laid_out_as_version_2_with_neighbors_together() -> None:
    written = content(write(harbor_round()))

    assert written["version"] == "v2.0"
    assert [article["title"] for article in written["data"]] == ["Rivers", "Harbor", ""]
    (paragraph,) = written["data"][0]["paragraphs"]
    assert paragraph["context"] == TEXT
    assert paragraph["qas"] == [
        {
            "id": "a",
            "question": QUESTION,
            "is_impossible": False,
            "answers": [{"text": "Seehausen", "answer_start": TEXT.index("Seehausen")}],
        },
        {"id": "b", "question": QUESTION, "is_impossible": True, "answers": []},
    ]


def test_calibration_answers_are_final_ones() -> None:
    round = make_span_round(("Seehausen",), 1)
    known = make_span_item(round.project)
    none = make_span_item(round.project)
    make_calibration_answer(known, "near Seehausen", "Seehausen")
    make_calibration_answer(none)
    questions = [
        question
        for article in content(write(round))["data"]
        for each in article["paragraphs"]
        for question in each["qas"]
    ]

    by_id = {question["id"]: question for question in questions}
    assert gold_texts(by_id[known.external_id]["answers"]) == ["near Seehausen"]
    assert by_id[none.external_id]["is_impossible"] is True


def test_an_export_in_many_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    round = harbor_round()
    whole = Path(write(round).file.path).read_bytes()
    monkeypatch.setattr(exporting, "_ROWS_A_PART", 1)
    monkeypatch.setattr("review.export_rows.BLOCK", 1)

    assert Path(write(round).file.path).read_bytes() == whole


def test_it_stops_when_it_is_told_to(tmp_path: Path) -> None:
    part = tmp_path / "part"
    row = {"external_id": "a", "text": "x", "question": "", "final_label": "x", "final_start": 0}
    part.write_text((json.dumps(row) + "\n") * 3000, encoding="utf-8")
    columns = {("part", "text"): "text", ("part", "question"): "question"}

    assert write_squad([part], tmp_path / "out", columns, goes_on=lambda: False) is None
    asked: list[int] = []

    def goes_on() -> bool:
        asked.append(1)
        return True

    counted = write_squad([part], tmp_path / "out", columns, goes_on=goes_on)
    assert counted == Questions(written=3000)
    assert len(asked) == 4


def test_without_any_final_answer_it_is_still_squad() -> None:
    export = write(make_span_round((None,), 1))

    assert content(export) == {"version": "v2.0", "data": []}
    assert (export.rows, export.card["export"]["left_out"]) == (0, 1)


def test_it_comes_with_its_data_card() -> None:
    export = write(harbor_round(), with_card=True)
    with zipfile.ZipFile(export.file.path) as archive:
        name = export.filename.replace(".zip", ".json")
        assert archive.namelist() == ["README.md", "data_card.json", name]
        assert json.loads(archive.read(name))["version"] == "v2.0"
        readme = archive.read("README.md").decode()
    assert "Items without a final answer, which are left out: 2." in readme
    assert f'with open("{name}", encoding="utf-8") as file:' in readme
    assert "| is_impossible | boolean |" in readme


def test_only_answers_that_are_spans_have_it() -> None:
    with pytest.raises(Refusal, match="Only answers that are spans") as refused:
        write(make_reviewable_round())
    assert refused.value.field == "format"
    with pytest.raises(Refusal, match="choose the wide layout") as refused:
        write(harbor_round(), layout="answers")
    assert refused.value.field == "layout"


def test_the_page_offers_it_for_spans_alone(client: Client) -> None:
    round = harbor_round()
    client.force_login(round.created_by)
    address = reverse("exports", args=[round.project_id])
    assert 'value="squad"' in client.get(address).content.decode()
    sent = {"round": round.pk, "layout": "wide", "format": "squad", "lam": "1"}
    assert client.post(address, sent).status_code == 302
    run_to_end(Export.objects.get().job_id)
    page = client.get(address).content.decode()
    assert "SQuAD JSON" in page
    assert "2 without a final answer left out" in page
    response = client.get(reverse("export_download", args=[round.project_id, Export.objects.get().pk]))
    assert response["Content-Type"] == "application/json"
    assert json.load(io.BytesIO(b"".join(response)))["version"] == "v2.0"

    refused = client.post(address, sent | {"layout": "long"})
    assert "choose the wide layout" in refused.content.decode()
    other = make_reviewable_round(owner=round.created_by)
    assert 'value="squad"' not in client.get(reverse("exports", args=[other.project_id])).content.decode()


def test_the_api_writes_it() -> None:
    round = harbor_round()
    user = round.created_by
    body = {"round": round.pk, "format": "squad"}
    made = call(user, "post", f"projects/{round.project_id}/exports/", body, status=202)
    work()

    response = Caller(user).get(f"exports/{made['id']}/download/")
    written = json.loads(cast(StreamingHttpResponse, response).getvalue())
    assert len(written["data"]) == 3
    card = call(user, "get", f"exports/{made['id']}/card/")
    assert card["export"]["left_out"] == 2
