"""Comparisons of two annotators and the router between them, through the API."""

import pytest

from tests.api.caller import call, work
from tests.conftest import Provider
from tests.route.two_annotators import KNOWN, LEFT, make_metal_project, make_two, prefers_positive

pytestmark = pytest.mark.django_db


def test_from_a_comparison_to_a_plan(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("route.meta._TREES", 8)
    provider(prefers_positive)
    project = make_metal_project()
    cheap, premium = make_two(project)
    user = project.created_by
    body = {
        "cheap": cheap.pk,
        "premium": premium.pk,
        "kind": "prompted",
        "connection": user.connections.get().pk,
        "model": "judge",
        "strategy": "naive",
        "answer_format": "bracket",
    }
    address = f"projects/{project.pk}/judge-runs/"
    estimate = call(user, "post", f"{address}estimate/", body)
    assert (estimate["calls"], estimate["gold"]["known"], estimate["gold"]["warning"]) == (
        LEFT // 2,
        KNOWN,
        "",
    )
    run = call(user, "post", address, body, status=201)
    work()
    assert call(user, "get", f"judge-runs/{run['id']}/")["progress"]["done"] == LEFT // 2
    rows = call(user, "get", f"judge-runs/{run['id']}/preferences/")["results"]
    assert {(row["value"], row["cheap_answer"], row["premium_answer"]) for row in rows} == {
        (0, "positive", "positive"),
        (1, "negative", "positive"),
    }
    assert call(user, "get", f"judge-runs/{run['id']}/preferences/?failed=true")["results"] == []

    made = call(user, "post", f"projects/{project.pk}/routers/meta/", {"judge_run": run["id"]}, status=202)
    work()
    router = call(user, "get", f"routers/{made['id']}/")
    assert router["is_trained"], router["progress"]
    assert [agent["run"] for agent in router["agents"]] == [cheap.pk, premium.pk]
    assert router["metrics"]["preferences"] == LEFT

    preview = call(user, "post", f"routers/{made['id']}/plan-preview/", {"premium_share": 0.5})
    assert preview["premium_share"] == 0.5
    assert preview["w"] >= 0
    assert preview["premium_accuracy"] == 1.0
    people = call(user, "post", f"routers/{made['id']}/plan-preview/", {"people": 3}, status=400)
    assert "no items to people" in str(people)
    both = {"premium_share": 0.5, "w": 1.0}
    assert "one of the three" in str(call(user, "post", f"routers/{made['id']}/plans/", both, status=400))
    plan = call(user, "post", f"routers/{made['id']}/plans/", {"premium_share": 0.5}, status=202)
    work()
    plan = call(user, "get", f"plans/{plan['id']}/")
    assert plan["setting"]["premium_share"] == 0.5
    assert plan["progress"]["state"] == "done"


def test_limits_of_the_other_kind_are_refused(world) -> None:
    answer = call(
        world.owner, "post", f"routers/{world.ids['router_id']}/plan-preview/", {"w": 1.0}, status=400
    )

    assert "Only a router between a cheap and a premium annotator" in str(answer)
