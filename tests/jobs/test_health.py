import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery import current_app
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from jobs import health, liveness
from jobs.models import Heartbeat, Job
from jobs.services import job_create
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))


def test_ready_when_everything_is_there(client: Client):
    liveness.beat()

    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "database": "ok",
        "broker": "ok",
        "worker": "ok",
        "disk": "ok",
    }


def test_each_missing_part_is_named_and_the_web_process_lives_on(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "_look_for_broker", lambda: "The broker does not answer.")
    disk(monkeypatch, 10 * 2**20)
    Heartbeat.objects.create(seen_at=timezone.now() - timedelta(minutes=5))

    response = client.get("/readyz")

    assert response.status_code == 503
    parts = response.json()
    assert (parts["ready"], parts["database"]) == (False, "ok")
    assert parts["broker"] == "The broker does not answer."
    assert "No worker is alive" in parts["worker"]
    assert "10 MB left" in parts["disk"]
    assert client.get("/healthz").status_code == 200


def test_a_broker_that_is_not_there_is_found_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    cache.clear()
    monkeypatch.setattr(current_app.conf, "broker_url", "redis://127.0.0.1:1/0")

    assert "The broker does not answer" in health.broker_problem()


def test_pages_say_that_the_disk_is_full_and_only_to_who_is_signed_in(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    disk(monkeypatch, 0)

    assert "disk is nearly full" not in client.get("/accounts/sign-in/").content.decode()
    client.force_login(make_user())
    assert "disk is nearly full" in client.get("/").content.decode()


def samples(text: str) -> dict[str, float]:
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def test_metrics_are_those_of_the_jobs(client: Client, settings):
    settings.METRICS_TOKEN = "let-me-see"
    liveness.beat()
    for state, done in (("running", 3), ("done", 5)):
        job = job_create(kind="annotation", subjects=range(5))
        Job.objects.filter(pk=job.pk).update(state=state, done=done, failed=1, input_tokens=7, cost="0.25")

    response = client.get("/metrics", headers={"Authorization": "Bearer let-me-see"})

    assert response.status_code == 200
    values = samples(response.content.decode())
    assert values['overread_jobs{kind="annotation",state="running"}'] == 1
    assert values['overread_subjects_done{kind="annotation"}'] == 8
    assert values['overread_subjects_failed{kind="annotation"}'] == 2
    assert values['overread_input_tokens_spent{kind="annotation"}'] == 14
    assert values['overread_cost_dollars{kind="annotation"}'] == 0.5
    assert values['overread_chunks{state="waiting"}'] == 1
    assert 0 <= values["overread_worker_seen_seconds"] < 60
    assert values["overread_disk_free_bytes"] > 0


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer wrong", "Bearer ünknown"])
@pytest.mark.parametrize("token", ["", "let-me-see"])
def test_metrics_are_not_for_everybody(client: Client, settings, authorization: str, token: str):
    settings.METRICS_TOKEN = token

    assert client.get("/metrics", headers={"Authorization": authorization}).status_code == 403
    client.force_login(make_user())
    assert client.get("/metrics", headers={"Authorization": authorization}).status_code == 403


def test_administrators_see_metrics(client: Client):
    user = make_user()
    user.is_staff = True
    user.save()
    client.force_login(user)

    assert client.get("/metrics").status_code == 200


def test_nothing_of_this_needs_a_body_or_takes_one(client: Client):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.post(path).status_code == 405
    assert json.loads(client.get("/readyz").content)["database"] == "ok"
