"""A POST that is sent again with the key of the first time: done once, and answered as then."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.http import StreamingHttpResponse
from django.utils import timezone
from knox.models import AuthToken
from pytest_django.fixtures import Settings
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from annotate import sent_again
from annotate.api import projects as projects_api
from annotate.models import AnnotationRun, Project, SentRequest, Upload, User
from annotate.services.projects import project_create
from annotate.tasks import forget_sent_requests
from config.settings import CELERY_BEAT_SCHEDULE
from jobs.models import Job
from tests.api.caller import Caller
from tests.factories import make_connection, make_items, make_project, make_user
from tests.waiting import Meanwhile, needs_row_locks

pytestmark = pytest.mark.django_db

TWEETS = {"name": "Tweets", "task_type": "text_classification", "labels": ["a", "b"]}


def post(user: User, path: str, body: Any, key: str | None = "one", **options: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return Caller(user).post(path, body, headers=headers, **options)


def age(by: timedelta) -> None:
    SentRequest.objects.update(sent_at=timezone.now() - by - timedelta(seconds=1))


def test_a_run_that_is_started_twice_with_a_key_is_one_run() -> None:
    project = make_project()
    make_items(project, 2)
    body = {
        "kind": "prompted",
        "connection": make_connection(project.created_by).pk,
        "model": "small",
        "strategy": "naive",
    }

    first, second = (post(project.created_by, f"projects/{project.pk}/annotation-runs/", body) for _ in "ab")

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert AnnotationRun.objects.count() == Job.objects.count() == 1


def test_without_a_key_everything_is_done_again() -> None:
    user = make_user()

    post(user, "projects/", TWEETS, key=None)
    post(user, "projects/", TWEETS, key=None)

    assert Project.objects.count() == 2
    assert not SentRequest.objects.exists()


def test_the_same_values_are_the_same_request_however_they_are_written() -> None:
    user = make_user()
    post(user, "projects/", '{"name": "A", "task_type": "rated_answer"}', content_type="application/json")

    again = post(
        user, "projects/", '{"task_type":"rated_answer","name":"\\u0041"}', content_type="application/json"
    )

    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("change", ["body", "address", "parameters"])
def test_a_key_stays_with_its_address_and_body(change: str) -> None:
    user = make_user()
    project = post(user, "projects/", TWEETS).json()["id"]
    path = {"address": f"projects/{project}/labels/", "parameters": "projects/?x=1"}.get(change, "projects/")
    body = TWEETS | {"name": "Others"} if change == "body" else TWEETS

    answer = post(user, path, body)

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "sent before with another address or body" in answer.json()["detail"]
    assert Project.objects.count() == 1


def test_keys_of_two_people_have_nothing_to_do_with_each_other() -> None:
    for user in (make_user(), make_user()):
        assert "Idempotent-Replayed" not in post(user, "projects/", TWEETS).headers

    assert Project.objects.count() == 2


def test_a_request_that_was_refused_can_be_mended_and_sent_again() -> None:
    user = make_user()
    refused = [post(user, "projects/", TWEETS | {"name": " "}) for _ in "ab"]
    made = post(user, "projects/", TWEETS)

    assert [answer.status_code for answer in refused] == [400, 400]
    assert made.status_code == 201
    assert "Idempotent-Replayed" not in made.headers


def test_a_request_that_ends_in_a_fault_frees_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user()

    def fail(**_: Any) -> Project:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(projects_api, "project_create", fail)
        with pytest.raises(ZeroDivisionError):
            post(user, "projects/", TWEETS)

    assert post(user, "projects/", TWEETS).status_code == 201


def test_while_the_first_is_at_work_the_second_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user()
    told: list[Any] = []

    def create_slowly(**values: Any) -> Project:
        told.append(post(user, "projects/", TWEETS))
        return project_create(**values)

    monkeypatch.setattr(projects_api, "project_create", create_slowly)
    first = post(user, "projects/", TWEETS)

    assert first.status_code == 201
    assert [answer.status_code for answer in told] == [409]
    assert "still at work" in told[0].json()["detail"]
    assert told[0].headers["Retry-After"] == "2"
    assert Project.objects.count() == 1


def test_a_request_that_never_ended_blocks_its_key_for_minutes_only() -> None:
    user = make_user()
    SentRequest.objects.create(user=user, key="one", fingerprint="of a request that crashed")

    assert post(user, "projects/", TWEETS).status_code == 422
    age(sent_again.LONGEST_WORK)
    assert post(user, "projects/", TWEETS).status_code == 201


def test_one_that_ends_after_its_key_was_freed_leaves_the_other_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = make_user()
    others: list[Any] = []

    def create_very_slowly(**values: Any) -> Project:
        age(sent_again.LONGEST_WORK)
        monkeypatch.setattr(projects_api, "project_create", project_create)
        others.append(post(user, "projects/", TWEETS))
        return project_create(**values)

    monkeypatch.setattr(projects_api, "project_create", create_very_slowly)
    post(user, "projects/", TWEETS)

    assert post(user, "projects/", TWEETS).json() == others[0].json()


def test_after_a_day_a_key_can_be_used_anew_and_what_was_kept_is_removed() -> None:
    user = make_user()
    for key in ("one", "two"):
        post(user, "projects/", TWEETS, key)
    forget_sent_requests()
    assert SentRequest.objects.count() == 2
    age(sent_again.KEPT_FOR)

    assert "Idempotent-Replayed" not in post(user, "projects/", TWEETS).headers
    forget_sent_requests()

    assert [sent.key for sent in SentRequest.objects.all()] == ["one"]
    assert "annotate.tasks.forget_sent_requests" in [each["task"] for each in CELERY_BEAT_SCHEDULE.values()]


def test_a_file_that_is_sent_again_is_one_upload() -> None:
    project = make_project()

    def send(name: str, data: bytes) -> Any:
        body = {"file": SimpleUploadedFile(name, data)}
        return post(project.created_by, f"projects/{project.pk}/uploads/", body, format="multipart")

    first, again = (send("tweets.csv", b"text\nso good\n") for _ in "ab")
    others = [send("other.csv", b"text\nso good\n"), send("tweets.csv", b"text\nso very good\n")]

    assert first.status_code == 201
    assert again.json() == first.json()
    assert Upload.objects.count() == 1
    assert [other.status_code for other in others] == [422, 422]


def test_a_token_is_made_once_and_is_not_readable_in_the_database(settings: Settings) -> None:
    user = make_user()

    first, again = (post(user, "tokens/", None) for _ in "ab")

    assert again.json() == first.json()
    assert AuthToken.objects.count() == 1
    assert first.json()["token"] not in SentRequest.objects.get().answer
    settings.ENCRYPTION_KEYS = ["another"]
    lost = post(user, "tokens/", None)
    assert lost.status_code == 409
    assert "encryption key" in lost.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256, "zwölf", "a\tb"])
def test_a_key_that_cannot_be_kept_is_refused(key: str) -> None:
    answer = post(make_user(), "projects/", TWEETS, key)

    assert answer.status_code == 400
    assert "1 to 255 characters" in answer.json()["detail"]
    assert not Project.objects.exists()


def test_who_is_not_signed_in_leaves_nothing() -> None:
    answer = Caller().post("projects/", TWEETS, headers={"Idempotency-Key": "one"})

    assert answer.status_code == 401
    assert not SentRequest.objects.exists()


def test_other_verbs_take_no_key() -> None:
    user = make_user()
    project = post(user, "projects/", TWEETS).json()["id"]

    for name in ("Once", "Twice"):
        answer = Caller(user).patch(
            f"projects/{project}/", {"name": name}, headers={"Idempotency-Key": "one"}
        )
        assert answer.json()["name"] == name


def test_an_answer_that_streams_is_passed_on_and_not_kept() -> None:
    request = Request(APIRequestFactory().post("/", {}, format="json"), parsers=[JSONParser()])
    request.user = make_user()
    stream = StreamingHttpResponse(iter([b"a", b"b"]))

    assert sent_again.done_once("one", lambda _: stream, request) is stream
    assert not SentRequest.objects.exists()


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_two_at_once_make_one() -> None:
    user = make_user()

    with transaction.atomic():
        first = post(user, "projects/", TWEETS)
        other = Meanwhile(lambda: post(user, "projects/", TWEETS))
    second = other.end()

    assert second.json() == first.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert Project.objects.count() == 1


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_the_second_waits_for_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user()
    others: list[Any] = []

    def create_while_another_comes(**values: Any) -> Project:
        with transaction.atomic():
            project = project_create(**values)
            others.append(Meanwhile(lambda: post(user, "projects/", TWEETS)).end())
        return project

    monkeypatch.setattr(projects_api, "project_create", create_while_another_comes)
    first = post(user, "projects/", TWEETS)

    assert (first.status_code, others[0].status_code) == (201, 409)
    assert Project.objects.count() == 1
