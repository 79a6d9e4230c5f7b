import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from jobs import liveness
from jobs.models import Heartbeat, Job
from tests.factories import make_job, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def started_long_ago(monkeypatch):
    monkeypatch.setattr(liveness, "_started", -1000.0)


def banner(rf, user):
    request = rf.get("/")
    request.user = user
    return liveness.worker_banner(request)


def test_nobody_is_alive_before_the_first_sign():
    assert not liveness.worker_is_alive()


def test_a_sign_of_life_is_seen_and_grows_old():
    liveness.beat()
    assert liveness.worker_is_alive()

    Heartbeat.objects.update(seen_at=timezone.now() - liveness.SILENCE - timedelta(seconds=1))
    assert not liveness.worker_is_alive()


def test_signs_are_one_row_and_not_written_at_every_call(django_assert_num_queries, monkeypatch):
    liveness.beat()
    with django_assert_num_queries(0):
        liveness.beat()

    monkeypatch.setattr(liveness, "_last_beat", liveness._last_beat - 6)
    liveness.beat()
    assert Heartbeat.objects.count() == 1


def test_the_banner_counts_the_jobs_that_wait(rf):
    for state in (Job.State.QUEUED, Job.State.RUNNING, Job.State.PAUSED, Job.State.DONE):
        make_job(state=state)

    assert banner(rf, make_user()) == {"worker_missing": True, "jobs_waiting": 2}


def test_no_banner_while_somebody_works_or_nobody_is_signed_in(rf, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert banner(rf, AnonymousUser()) == {"worker_missing": False}
    liveness.beat()
    assert banner(rf, make_user()) == {"worker_missing": False}


def test_no_banner_while_a_worker_may_be_starting_with_the_pages(rf, monkeypatch):
    monkeypatch.setattr(liveness, "_started", time.monotonic() - 5)
    assert banner(rf, make_user()) == {"worker_missing": False}

    monkeypatch.setattr(liveness, "_started", time.monotonic() - 30)
    assert banner(rf, make_user())["worker_missing"]


def test_only_administrators_are_told_commands(client):
    user = make_user()
    client.force_login(user)
    page = client.get("/").content.decode()
    assert "No worker is running. Tell whoever runs this installation." in page
    assert "celery" not in page

    user.is_staff = True
    user.save()
    assert "Start one with <code>manage.py up</code>" in client.get("/").content.decode()
