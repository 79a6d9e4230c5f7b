"""From nothing to a training-ready file with a token and the API alone."""

import base64
import csv
import io
import itertools
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.api.caller import Caller, content_of, work
from tests.factories import make_user

_GOOD = ("lovely", "sunny", "sweet", "great", "happy")
_BAD = ("awful", "rainy", "bitter", "poor", "sad")
_THINGS = ("morning", "dinner", "film", "train", "letter", "garden", "song", "game")


def tweets(count: int) -> bytes:
    """A table of short texts with their feeling; one row in ten says it with words of both kinds."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["id", "tweet", "feeling", "source"])
    pairs = itertools.cycle(itertools.product(_THINGS, zip(_GOOD, _BAD, strict=True)))
    for number, (thing, (good, bad)) in zip(range(count), pairs, strict=False):
        word, feeling = (good, "positive") if number % 3 else (bad, "negative")
        beside = (bad if feeling == "positive" else good) if number % 10 == 9 else "quite"
        writer.writerow([f"t{number}", f"a {word} {thing}, {beside}", feeling, "made up"])
    writer.writerow(["t-empty", "", "positive", "made up"])
    return stream.getvalue().encode()


class Person:
    """Somebody with a token who calls the API and expects it to work."""

    def __init__(self, name: str, password: str) -> None:
        make_user(name, password=password)
        self.client = Caller()
        basic = base64.b64encode(f"{name}:{password}".encode()).decode()
        made = self.client.post("tokens/", headers={"Authorization": f"Basic {basic}"})
        assert made.status_code == 201, made.content
        self.client.credentials(HTTP_AUTHORIZATION=f"Token {made.json()['token']}")

    def get(self, address: str) -> Any:
        response = self.client.get(address)
        assert response.status_code == 200, response.content
        return response.json()

    def post(self, address: str, body: Any = None, **options: Any) -> Any:
        response = self.client.post(address, body, **options)
        assert response.status_code in (200, 201, 202), response.content
        return response.json()

    def download(self, address: str) -> bytes:
        response = self.client.get(address)
        assert response.status_code == 200
        return content_of(response)


@pytest.mark.django_db
def test_a_data_set_goes_from_upload_to_export_by_api_alone() -> None:
    olga, rita = Person("olga", "correct horse"), Person("rita", "battery staple")

    project = olga.post(
        "projects/",
        {"name": "Tweets", "task_type": "text_classification", "labels": ["negative", "positive"]},
    )["id"]
    olga.post(f"projects/{project}/members/", {"username": "rita", "role": "reviewer"})

    upload = _upload(olga, project)
    assert upload["imported"] == 120
    assert olga.get(f"uploads/{upload['id']}/rejected-rows/")["results"] == [
        {"row": 121, "message": "Row 121 has no text in column “tweet”."}
    ]

    calibration = olga.post(f"projects/{project}/calibration/from-gold/", {"count": 20})
    assert calibration["items"] == calibration["from_gold"] == 20

    annotation_run = _annotate(olga, project)
    criticism_run = _criticize(olga, project, annotation_run)
    round = _review(olga, rita, project, criticism_run)

    _check_wide_export(olga, project, round)
    _check_long_export(olga, project, round)


def _upload(olga: Person, project: int) -> Any:
    file = SimpleUploadedFile("tweets.csv", tweets(120), content_type="text/csv")
    upload = olga.post(f"projects/{project}/uploads/", {"file": file}, format="multipart")
    preview = upload["preview"]
    assert preview["columns"] == ["id", "tweet", "feeling", "source"]
    assert preview["rows"][0]["values"]["tweet"] == "a awful morning, quite"
    assert preview["mapping"]["text"] == "tweet"

    mapping = {**preview["mapping"], "gold": "feeling"}
    started = olga.post(f"uploads/{upload['id']}/import/", {"mapping": mapping})
    assert started["state"] == "importing"
    assert started["progress"]["state"] == "queued"
    work()
    done = olga.get(f"uploads/{upload['id']}/")
    assert done["state"] == "done"
    assert olga.get(f"projects/{project}/items/?search=t-empty")["results"] == []
    return done


def _annotate(olga: Person, project: int) -> int:
    estimate = olga.post(f"projects/{project}/annotation-runs/estimate/", {"kind": "trained"})
    assert (estimate["calls"], estimate["cost"]) == (100, 0)
    run = olga.post(f"projects/{project}/annotation-runs/", {"kind": "trained"})["id"]
    work()
    done = olga.get(f"annotation-runs/{run}/")
    assert (done["progress"]["state"], done["progress"]["done"]) == ("done", 100)
    assert done["who"] == "trained on your 20 labels, no language model"
    assert sum(label["count"] for label in done["labels"]) == done["accuracy"]["judged"] == 100
    return int(run)


def _criticize(olga: Person, project: int, annotation_run: int) -> int:
    body = {"kind": "trained", "annotation_run": annotation_run}
    run = olga.post(f"projects/{project}/criticism-runs/", body)["id"]
    work()
    done = olga.get(f"criticism-runs/{run}/")
    assert done["progress"]["state"] == "done"
    assert sum(done["histogram"]) == 100
    quality = olga.get(f"criticism-runs/{run}/quality/?budget=30")
    accuracy = olga.get(f"annotation-runs/{annotation_run}/")["accuracy"]
    assert quality["errors"] == accuracy["judged"] - accuracy["right"]
    return int(run)


def _review(olga: Person, rita: Person, project: int, criticism_run: int) -> int:
    asked = {"criticism_run": criticism_run, "share": 0.1}
    preview = olga.post(f"projects/{project}/review-rounds/preview/", asked)
    assert preview["selected"] == 10
    round = olga.post(f"projects/{project}/review-rounds/", asked)["id"]
    positive = next(
        label["id"]
        for label in rita.get(f"projects/{project}/labels/")["results"]
        if label["name"] == "positive"
    )

    seen: list[float] = []
    while tasks := rita.post(f"review-rounds/{round}/next/", {"count": 3})["tasks"]:
        for task in tasks:
            seen.append(task["criticism"]["error_prob"])
            answer = {"action": "label", "label": positive, "seconds": 1.5, "version": task["version"]}
            reply = rita.post(f"review-tasks/{task['id']}/submit/", answer)
            assert reply["task"]["state"] == "answered"

    assert len(seen) == 10
    assert seen == sorted(seen, reverse=True)
    progress = rita.get(f"review-rounds/{round}/")["progress"]
    assert (progress["answered"], progress["mine"], progress["waiting"]) == (10, 10, 0)
    return int(round)


def _export(olga: Person, project: int, body: dict[str, Any]) -> list[dict[str, str]]:
    export = olga.post(f"projects/{project}/exports/", body)
    work()
    done = olga.get(f"exports/{export['id']}/")
    content = olga.download(f"exports/{export['id']}/download/")
    assert done["progress"]["state"] == "done"
    assert done["size"] == len(content)
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert done["rows"] == len(rows)
    return rows


def _check_wide_export(olga: Person, project: int, round: int) -> None:
    rows = _export(olga, project, {"round": round})
    by_status = {
        status: [row for row in rows if row["status"] == status]
        for status in ("reviewed", "machine", "calibration")
    }
    assert {status: len(found) for status, found in by_status.items()} == {
        "reviewed": 10,
        "machine": 90,
        "calibration": 20,
    }
    assert {row["final_label"] for row in by_status["reviewed"]} == {"positive"}
    assert {row["reviewer"] for row in by_status["reviewed"]} == {"rita"}
    assert {(row["machine_weight"], row["human_weight"]) for row in by_status["reviewed"]} == {("0.0", "1.0")}
    assert {(row["machine_weight"], row["human_weight"]) for row in by_status["machine"]} == {("1.0", "0.0")}


def _check_long_export(olga: Person, project: int, round: int) -> None:
    rows = _export(olga, project, {"round": round, "layout": "long", "lam": 0.5})
    # What people reviewed was selected for certain (π = 1), so no weight is left for the machine's label there.
    assert {row["source"] for row in rows} == {"machine", "human"}
    assert {row["weight"] for row in rows if row["source"] == "machine"} == {"0.5"}
    assert sum(row["source"] == "human" for row in rows) == 30
