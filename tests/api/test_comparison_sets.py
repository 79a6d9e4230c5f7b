"""Comparisons from a file to a router that answers, through the API and in plain Python."""

import io
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from annotate.models import Membership
from route.saving import load
from tests.api.caller import Caller, call, work
from tests.factories import make_membership, make_project, make_user
from tests.route.uploaded import as_json_lines, comparison_rows, streamed

pytestmark = pytest.mark.django_db

QUERIES = ["iron zinc tin", "sweet banana", "copper bronze", "ripe pear"]


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("route.meta._TREES", 8)


def upload(user: Any, project_id: int, content: bytes, name: str = "rows.jsonl") -> Any:
    return Caller(user).post(
        f"projects/{project_id}/comparison-sets/",
        {"file": SimpleUploadedFile(name, content)},
        format="multipart",
    )


def test_from_a_file_to_answers_here_and_in_plain_python() -> None:
    project = make_project(owner=make_user())
    user = project.created_by
    rows = [*comparison_rows(), comparison_rows()[0] | {"query": ""}]
    made = upload(user, project.pk, as_json_lines(rows))
    assert made.status_code == 201
    said = made.json()
    suggested = said["preview"]["mapping"]
    assert (suggested["query"], suggested["gold_a"], suggested["premium"]) == ("query", "gold_a", "b")
    assert said["mapping"] is None
    address = f"comparison-sets/{said['id']}/"
    assert call(user, "get", f"{address}preview/")["rows"][0]["number"] == 1

    mapping = suggested | {"price_a": 0.001, "price_b": 0.011}
    call(user, "post", f"{address}import/", {"mapping": mapping}, status=202)
    work()
    read = call(user, "get", address)
    assert (read["imported"], read["rejected"], read["is_ready"]) == (110, 1, True)
    assert read["problems"] == [{"row": 111, "message": "Row 111 has no query in column “query”."}]
    rejected = Caller(user).get(f"{address}rejected-rows/file/")
    assert "Row 111 has no query" in streamed(rejected)

    router = call(user, "post", f"{address}routers/", {"seed": 3}, status=202)
    call(user, "post", f"routers/{router['id']}/route/", {"queries": QUERIES}, status=409)
    work()
    assert call(user, "get", f"routers/{router['id']}/")["is_trained"]
    routed = call(user, "post", f"routers/{router['id']}/route/", {"queries": QUERIES, "premium_share": 0.5})
    assert [answer["premium"] for answer in routed["answers"]] == [True, False, True, False]
    file: Any = Caller(user).get(f"routers/{router['id']}/file/")
    again, about = load(io.BytesIO(b"".join(file.streaming_content)))
    assert again.predict(QUERIES).tolist() == [answer["gain"] for answer in routed["answers"]]
    premium = again.route(QUERIES, routed["w"], routed["cost_gap"])
    assert premium.tolist() == [answer["premium"] for answer in routed["answers"]]
    assert about["parameters"]["premium"] == "response_b"
    gains = streamed(Caller(user).get(f"routers/{router['id']}/expected-gains/file/"))
    assert len(gains.splitlines()) == 111

    kept = call(user, "delete", address, status=400)
    assert "A router learned from" in kept["detail"]


def test_viewers_ask_a_router_too() -> None:
    project = make_project(owner=make_user())
    made = upload(project.created_by, project.pk, as_json_lines(comparison_rows())).json()
    mapping = {"mapping": made["preview"]["mapping"]}
    call(project.created_by, "post", f"comparison-sets/{made['id']}/import/", mapping, status=202)
    work()
    router = call(project.created_by, "post", f"comparison-sets/{made['id']}/routers/", {}, status=202)
    work()
    viewer = make_user("vera")
    make_membership(project, viewer, Membership.Role.VIEWER)

    assert len(call(viewer, "post", f"routers/{router['id']}/route/", {"queries": QUERIES})["answers"]) == 4


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({"queries": []}, "queries", "at least one"),
        ({"queries": ["why", ""]}, "queries", "Query 2 is empty"),
        ({"queries": ["x"] * 1001}, "queries", "at most 1,000"),
        ({"queries": "why"}, "queries", "list"),
        ({"queries": ["why"], "w": -1}, "w", "0"),
        ({"queries": ["why"], "premium_share": 2}, "premium_share", "1"),
        ({"queries": ["why"], "w": 1, "premium_share": 0.2}, "w", "one of the three"),
        ({"queries": ["why"], "share": 0.2}, "share", "no value of this name"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_of_its_value(
    body: dict[str, Any], field: str, sentence: str
) -> None:
    project = make_project(owner=make_user())
    made = upload(project.created_by, project.pk, as_json_lines(comparison_rows())).json()
    mapping = {"mapping": made["preview"]["mapping"]}
    call(project.created_by, "post", f"comparison-sets/{made['id']}/import/", mapping, status=202)
    work()
    router = call(project.created_by, "post", f"comparison-sets/{made['id']}/routers/", {}, status=202)
    work()

    problem = call(project.created_by, "post", f"routers/{router['id']}/route/", body, status=400)

    assert sentence in str(problem["errors"][field])


def test_a_file_or_mapping_that_cannot_be_used_is_a_problem() -> None:
    project = make_project(owner=make_user())
    user = project.created_by
    assert "is empty" in upload(user, project.pk, b"").json()["detail"]
    latin = upload(user, project.pk, "query,gold\ncafé,a\n".encode("latin-1"), "latin.csv").json()
    assert "Choose the encoding" in latin["detail"]
    made = upload(user, project.pk, b"query,verdict\nwhy,a\n", "rows.csv").json()
    address = f"comparison-sets/{made['id']}/"
    problem = call(user, "post", f"{address}import/", {"mapping": made["preview"]["mapping"]}, status=400)
    assert "Say where gold is" in problem["detail"]
    call(user, "post", f"{address}resume/", status=400)
    call(user, "delete", address, status=204)
