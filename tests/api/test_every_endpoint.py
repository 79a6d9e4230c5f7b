"""What holds for every address of the API. A new one that is not in the table fails here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from config.api_urls import urlpatterns
from tests.api.caller import Caller, content_of
from tests.api.endpoints import CASES, LISTS, ROLES, VERBS, Case, Expected, address, body_of
from tests.api.world import CSV, KEY, World, more_of_everything
from tests.conftest import Provider

NAMES = [pattern.name or "" for pattern in urlpatterns]
MOST_QUERIES = 8
# A list that says of each item what models and people said reads a table for each of these.
MORE_QUERIES = {"items": 15}
# Where nothing is read from the body.
NO_VALUES = (
    "upload_resume",
    "upload_cancel",
    "comparison_set_resume",
    "comparison_set_cancel",
    "export_resume",
    "export_cancel",
    "tokens",
    "review_round_undo",
    "item_action_undo",
    "review_round_release",
    "review_round_close",
    "review_round_reopen",
    "review_pause_lift",
    "project_hand_back",
)


def verbs_of(name: str) -> set[str]:
    view: Any = next(pattern for pattern in urlpatterns if pattern.name == name).callback
    return {verb for verb in VERBS if hasattr(view.view_class, verb)}


def send(client: Caller, case: Case, world: World, role: str = "owner") -> Any:
    body = body_of(case, world, role)
    if body == "a file":
        file = SimpleUploadedFile("tweets.csv", CSV)
        return client.post(case.address(world), {"file": file}, format="multipart")
    return getattr(client, case.verb)(case.address(world), body)


@contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_the_table_lists_every_address_and_verb() -> None:
    listed = {(case.name, case.verb) for case in CASES}

    assert listed == {(name, verb) for name in NAMES for verb in verbs_of(name)}
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_person_may_do_what_the_table_says(case: Case, world: World, provider: Provider) -> None:
    provider(lambda request: "ready")

    answers = []
    for role in ROLES:
        with rolled_back():  # the next person finds everything as it was
            answers.append(send(Caller(world.person(role)), case, world, role))

    assert Expected(*(answer.status_code for answer in answers)) == case.expected
    # Nobody is sent to the sign-in page: whoever is not signed in is asked to, and told why.
    if case.expected.anonymous == 401:
        assert answers[0].headers["WWW-Authenticate"]
        assert answers[0].json()["status"] == 401


def test_other_verbs_are_not_allowed(world: World) -> None:
    client = Caller(world.owner)

    for name in {*NAMES} - {"unknown_address"}:
        for verb in {*VERBS, "put"} - verbs_of(name):
            response = getattr(client, verb)(address(name, world))
            assert response.status_code == 405, f"{verb} {name}"
            assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("name", LISTS)
def test_a_list_takes_as_many_queries_however_long_it_is(name: str, world: World) -> None:
    client = Caller(world.owner)
    short = listed(client, name, world)
    more_of_everything(world)
    longer = listed(client, name, world)

    assert longer[0] > short[0]
    assert longer[1] == short[1] <= MORE_QUERIES.get(name, MOST_QUERIES)


def listed(client: Caller, name: str, world: World) -> tuple[int, int]:
    """(rows, queries) of a list. The lists of one run's results are those of a run with one more result."""
    ids = world.ids
    if name in ("annotations", "criticisms"):
        from annotate.models import AnnotationRun
        from criticize.models import CriticismRun

        ids |= {
            "annotation_run_id": AnnotationRun.objects.latest("pk").pk,
            "criticism_run_id": CriticismRun.objects.latest("pk").pk,
        }
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.get(address(name, world))
    return len(response.json()["results"]), len(queries)


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_paged_by_cursor_and_every_row_comes_once(name: str, world: World) -> None:
    more_of_everything(world)
    client = Caller(world.owner)
    whole = client.get(address(name, world)).json()["results"]

    paged: list[Any] = []
    following = address(name, world) + "?page_size=1"
    while following:
        page = client.get(following).json()
        assert len(page["results"]) == 1
        paged += page["results"]
        following = (page["next"] or "").removeprefix("http://testserver")

    assert paged == whole
    assert len(whole) > 1


@pytest.mark.parametrize("cursor", ["nonsense", "cD1ub25zZW5zZQ=="])  # the second says p=nonsense
def test_a_cursor_that_was_made_up_is_a_problem(cursor: str, world: World) -> None:
    client = Caller(world.owner)

    for name in LISTS:
        response = client.get(f"{address(name, world)}?cursor={cursor}")
        assert response.status_code == 404, name
        assert response.json()["detail"] == "Invalid cursor"


def test_a_name_that_is_not_known_is_refused(world: World) -> None:
    """A misspelled limit must not be no limit."""
    client = Caller(world.owner)

    for case in CASES:
        if case.verb not in ("post", "patch") or case.name in NO_VALUES:
            continue
        response = getattr(client, case.verb)(case.address(world), {"spend_limt": 1})
        if case.body == "a file":
            assert response.status_code == 415
        else:
            assert response.status_code == 400, case
            assert "spend_limt" in response.json()["errors"], case


def test_no_answer_holds_key_material(world: World, provider: Provider) -> None:
    provider(lambda request: "ready")
    client = Caller(world.owner)
    made = client.post("connections/", {"name": "Secret", "provider": "openai", "key": KEY, "base_url": ""})
    world.ids["connection_id"] = made.json()["id"]
    changed = client.patch(address("connection", world), {"key": KEY + "2"})
    from annotate.models import Connection

    stored = Connection.objects.get(pk=world.ids["connection_id"]).encrypted_key
    bodies = [made.content, changed.content]
    for case in CASES:
        if case.verb == "get" or case.name == "connection_test":
            response = send(client, case, world)
            bodies.append(content_of(response))

    assert stored
    for body in bodies:
        assert KEY.encode() not in body
        assert stored.encode() not in body
