"""Candidates by the API: trying annotators, measuring criticizers, and what comes of it."""

from typing import Any

import pytest

from annotate.models import AnnotationRun, Connection, Project
from tests.api.caller import call, work
from tests.conftest import Provider
from tests.factories import make_calibration_label, make_connection, make_items, make_project

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    project = make_project()
    for number, item in enumerate(make_items(project, 20)):
        make_calibration_label(item, "positive" if number % 4 else "negative")
    return project


def choice(project: Project, model: str = "a", **fields: Any) -> dict[str, Any]:
    """A model behind the owner's one connection, asked for brackets."""
    owner = project.created_by
    connection = Connection.objects.filter(owner=owner).first() or make_connection(owner)
    options = {"strategy": "naive", "answer_format": "bracket", **fields}
    return {"kind": "prompted", "connection": connection.pk, "model": model, **options}


def test_the_whole_way_from_trying_to_the_curves(project: Project, provider: Provider) -> None:
    def answer(request: Any) -> str:
        if "error" in request.system or "wrong" in request.system:
            return "[0.250]"
        return "[1]" if request.model == "good" else "[0]"

    provider(answer)
    user, address = project.created_by, f"projects/{project.pk}/candidates/"
    wish = {"choices": [choice(project, "good"), choice(project, "poor")]}

    plan = call(user, "post", address + "estimate/", wish)
    assert (plan["runs"], plan["calls"], plan["cost"], plan["tried"]) == (2, 40, None, [])
    started = call(user, "post", address, wish, status=201)
    work()
    assert len(started["created"]) == 2
    again = call(user, "post", address, wish, status=201)
    assert (again["created"], again["tried"]) == ([], ["good · naive", "poor · naive"])

    found = call(user, "get", address)
    assert found["calibration_items"] == 20
    assert [(row["name"], row["accuracy"], row["place"]) for row in found["candidates"]] == [
        ("good · naive", 0.75, 1),
        ("poor · naive", 0.25, 2),
    ]
    assert found["candidates"][0]["low"] < 0.75 < found["candidates"][0]["high"]
    assert found["recommendation"]["annotator"]["model"] == "good"
    assert found["recommendation"]["criticizer"] == {
        "annotation_run": found["candidates"][1]["annotation_run"],
        "model": "poor",
        "strategy": "cot",
    }
    assert found["grid"] == []

    cells = {
        "annotation_runs": [row["annotation_run"] for row in found["candidates"]],
        "choices": [choice(project, "poor")],
    }
    assert call(user, "post", address + "grid/estimate/", cells)["calls"] == 40
    assert len(call(user, "post", address + "grid/", cells, status=201)["created"]) == 2
    work()
    (row,) = call(user, "get", address)["grid"]
    assert row["name"] == "poor · naive"
    good = next(cell for cell in row["cells"] if not cell["is_self_criticism"])
    assert good["abs"] == pytest.approx(21 / 40)
    assert (good["errors"], good["items"]) == (5, 20)
    (curve,) = call(user, "get", f"{address}curves/?cell={good['id']},unknown")["curves"]
    assert curve["name"] == "poor · naive on good · naive"
    assert curve["error_share"] == 0.25
    assert curve["points"][-1] == [1.0, 1.0]


def test_refusals_name_what_is_to_be_mended(project: Project) -> None:
    user, address = project.created_by, f"projects/{project.pk}/candidates/"

    nothing = call(user, "post", address, {"choices": []}, status=400)
    assert "choices" in nothing["errors"]
    foreign = call(user, "post", address, {"choices": [choice(project, connection=999)]}, status=400)
    assert "There is no connection of yours 999 here." in str(foreign)
    unpriced = call(user, "post", address, {"choices": [choice(project)], "spend_limit": "1"}, status=400)
    assert "There is no price for a" in unpriced["detail"]
    typo = call(user, "post", address, {"choices": [choice(project)], "spend_limt": "1"}, status=400)
    assert "no value of this name" in str(typo)
    strange = {"annotation_runs": [999], "choices": [choice(project)]}
    assert "no candidate annotation run 999" in str(
        call(user, "post", address + "grid/", strange, status=400)
    )
    call(user, "get", address + "curves/", status=400)
    assert not AnnotationRun.objects.exists()


def test_without_calibration_labels_there_is_nothing_and_nobody_is_tried() -> None:
    project = make_project()
    user, address = project.created_by, f"projects/{project.pk}/candidates/"

    found = call(user, "get", address)
    assert found == {
        "calibration_items": 0,
        "candidates": [],
        "order": "",
        "recommendation": None,
        "grid": [],
    }
    refused = call(user, "post", address, {"choices": [{"kind": "trained"}]}, status=400)
    assert "There are no calibration items" in refused["detail"]


def test_candidates_take_the_options_that_annotators_have(project: Project, provider: Provider) -> None:
    adapter = provider(lambda request: "[1][0.800]")
    address = f"projects/{project.pk}/candidates/"
    wish = {"choices": [choice(project, confidence=True, examples=2)]}

    call(project.created_by, "post", address, wish, status=201)
    work()

    run = AnnotationRun.objects.get(project=project)
    assert (run.parameters["confidence"], run.parameters["examples"]) == (True, 2)
    assert set(run.annotations.values_list("confidence", flat=True)) == {0.8}
    assert len(adapter.requests) == 20
