"""Pages of uploaded comparisons, and of the routers trained from them."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.models import Membership
from jobs.models import Job
from route.models import ComparisonSet, Router
from tests.factories import make_membership, make_project, make_user
from tests.route.uploaded import as_csv, comparison_rows, make_comparisons, streamed, train_from, work

pytestmark = pytest.mark.django_db

COLUMNS: dict[str, Any] = {
    "query": "query",
    "response_a": "response_a",
    "response_b": "response_b",
    "gold_a": "gold_a",
    "gold_b": "gold_b",
    "preference": "preference",
    "premium": "b",
    "positive": "premium",
}
TRAINING = {"learner": "dr", "regressor": "forest", "scaling": "variance", "vectors": "plain"}


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("route.meta._TREES", 8)


def sent(client: Client, address: str, content: bytes, name: str = "comparisons.csv") -> Any:
    return client.post(address, {"file": SimpleUploadedFile(name, content)})


def test_from_a_file_to_a_decision_by_the_pages(client: Client) -> None:
    project = make_project(owner=make_user())
    client.force_login(project.created_by)
    routing = f"/projects/{project.pk}/routing/"
    assert f"{routing}uploaded/" in client.get(routing).content.decode()
    assert "A row a query" in client.get(f"{routing}uploaded/").content.decode()

    rows = [*comparison_rows(), comparison_rows()[0] | {"gold_a": "good"}]
    answer = sent(client, f"{routing}uploaded/", as_csv(rows))
    address = answer["Location"]
    page = client.get(address).content.decode()
    assert '<option value="gold_a" selected>' in page
    assert "number 0" in page
    read = client.get(f"{address}read/", COLUMNS).content.decode()
    assert 'data-title="Gold gain" class="num">0.50' in read
    swapped = client.get(f"{address}read/", COLUMNS | {"premium": "a"}).content.decode()
    assert 'data-title="Gold gain" class="num">-0.50' in swapped
    assert "holds the query" in client.get(f"{address}read/", COLUMNS | {"query": ""}).content.decode()
    refused = client.post(address, COLUMNS | {"gold_b": "gold_a"})
    assert refused.status_code == 422
    assert "cannot be both" in refused.content.decode()

    assert client.post(address, COLUMNS | {"price_a": "0.001", "price_b": "0.01"})["Location"] == address
    found = ComparisonSet.objects.get()
    assert "0 of about 111 rows" in client.get(address).content.decode()
    work(found.job_id)
    part = client.get(f"{address}?part=progress", headers={"HX-Request": "true"}).content.decode()
    assert "Train a router" in part
    assert "hx-get" not in part
    page = client.get(address).content.decode()
    assert "holds “good”, which is no number" in page
    rejected = streamed(client.get(f"{address}rejected/"))
    assert rejected.startswith("row,message,query,response_a")
    assert '111,"Column “gold_a” holds “good”, which is no number.",' in rejected

    started = client.post(address, TRAINING)
    router = Router.objects.get()
    assert started["Location"] == f"{routing}routers/{router.pk}/"
    assert "It waits for a worker" in client.get(started["Location"]).content.decode()
    work(router.job_id)
    page = client.get(started["Location"]).content.decode()
    assert "Meta-router, DR-learner" in page
    assert "chart-line" in page
    assert f"http://testserver/api/v1/routers/{router.pk}/route/" in page
    assert router.name in client.get(address).content.decode()
    asked = {"query": "iron zinc", "limit": "premium_share", "amount": "0.5"}
    assert "<dd>premium</dd>" in client.get(f"{started['Location']}texts/", asked).content.decode()
    fruit = client.get(f"{started['Location']}texts/", asked | {"query": "ripe apple"}).content.decode()
    assert "<dd>cheap</dd>" in fruit
    empty = client.get(f"{started['Location']}texts/", asked | {"query": ""}).content.decode()
    assert "Write a query" in empty
    assert "between 0 and 1" in (
        client.get(f"{started['Location']}texts/", asked | {"amount": "2"}).content.decode()
    )
    gains = streamed(client.get(f"{started['Location']}gains/"))
    assert len(gains.splitlines()) == 1 + len(comparison_rows())
    assert client.get(f"{started['Location']}file/").status_code == 200

    limit = {"limit": "premium_share", "amount": "0.5"}
    assert client.post(f"{started['Location']}plan/", limit).status_code == 404
    preview = client.get(f"{started['Location']}plan/preview/", limit).content.decode()
    assert "makes no plans" in preview


def test_a_file_that_is_no_table_is_refused_with_what_to_do(client: Client) -> None:
    project = make_project(owner=make_user())
    client.force_login(project.created_by)
    address = f"/projects/{project.pk}/routing/uploaded/"

    for content, name, sentence in (
        (b"", "empty.csv", "is empty"),
        (b"query,gold\n", "header.csv", "no rows below it"),
        ("query,gold\ncafé,a\n".encode("latin-1"), "latin.csv", "Choose the encoding"),
        (b"%PDF-1.7", "a.pdf", "PDF"),
    ):
        answer = sent(client, address, content, name)
        assert answer.status_code == 422
        assert sentence in answer.content.decode()
    assert "Choose a file" in client.post(address).content.decode()
    assert not ComparisonSet.objects.exists()


def test_too_large_a_file_is_refused_before_it_is_read(client: Client, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    project = make_project(owner=make_user())
    client.force_login(project.created_by)

    answer = sent(client, f"/projects/{project.pk}/routing/uploaded/", b"x" * 100_000)

    assert answer.status_code == 413
    assert "larger than" in answer.content.decode()


def test_what_cannot_be_learned_is_said_instead_of_a_form(client: Client) -> None:
    comparisons = make_comparisons(comparison_rows(gold=10))
    client.force_login(comparisons.created_by)
    address = f"/projects/{comparisons.project_id}/routing/uploaded/{comparisons.pk}/"

    assert "10 rows have gold; at least 20 are needed" in client.get(address).content.decode()
    assert 'id="train"' not in client.get(address).content.decode()
    refused = client.post(address, TRAINING)
    assert refused.status_code == 422
    assert not Router.objects.exists()


def test_a_viewer_sees_it_and_changes_nothing(client: Client) -> None:
    comparisons = make_comparisons()
    router = train_from(comparisons)
    viewer = make_user("vera")
    make_membership(comparisons.project, viewer, Membership.Role.VIEWER)
    client.force_login(viewer)
    routing = f"/projects/{comparisons.project_id}/routing/"
    address = f"{routing}uploaded/{comparisons.pk}/"

    for page in (f"{routing}uploaded/", address):
        assert client.get(page).status_code == 200
        assert "<form" not in client.get(page).content.decode().partition("<main")[2]
    asked = {"query": "iron", "limit": "w", "amount": "0"}
    assert "Expected gain" in client.get(f"{routing}routers/{router.pk}/texts/", asked).content.decode()
    assert client.post(address, TRAINING).status_code == 403
    assert client.post(f"{address}discard/").status_code == 403


def test_a_file_is_thrown_away_unless_a_router_learned_from_it(client: Client) -> None:
    comparisons = make_comparisons()
    client.force_login(comparisons.created_by)
    address = f"/projects/{comparisons.project_id}/routing/uploaded/{comparisons.pk}/"
    router = train_from(comparisons)

    assert "A router learned from" in client.post(f"{address}discard/", follow=True).content.decode()
    router.delete()
    answer = client.post(f"{address}discard/", follow=True)

    assert "is thrown away" in answer.content.decode()
    assert not ComparisonSet.objects.exists()
    assert client.post(f"{address}nonsense/").status_code == 404


def test_an_import_that_stands_still_goes_on_or_ends(client: Client) -> None:
    comparisons = make_comparisons()
    client.force_login(comparisons.created_by)
    address = f"/projects/{comparisons.project_id}/routing/uploaded/{comparisons.pk}/"
    assert "not paused" in client.post(f"{address}resume/", follow=True).content.decode()
    Job.objects.filter(comparison_set=comparisons).update(state=Job.State.PAUSED, reason="The disk is full.")
    assert "The disk is full." in client.get(address).content.decode()

    client.post(f"{address}resume/")
    assert Job.objects.get(comparison_set=comparisons).state == Job.State.QUEUED
    client.post(f"{address}cancel/")

    assert "nothing can be learned from this file" in client.get(address).content.decode()
    assert "not imported yet" in client.post(address, TRAINING).content.decode()
