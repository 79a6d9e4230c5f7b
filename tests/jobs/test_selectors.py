from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from jobs.models import Job
from jobs.selectors import FAILURE_NAMES, failures_by_name, job_progress
from mllm.errors import Failure
from tests.factories import make_annotation_run, make_items, make_job, make_project

pytestmark = pytest.mark.django_db


def test_rate_and_eta_count_from_when_the_job_last_began():
    began = timezone.now() - timedelta(seconds=10)
    job = make_job(state=Job.State.RUNNING, total=100, done=60, pace_since=began, pace_done=40)

    progress = job_progress(job)

    assert progress.rate == pytest.approx(2.0, rel=0.01)
    assert progress.eta == pytest.approx(20.0, rel=0.01)
    assert progress.share == 0.6


@pytest.mark.parametrize("state", [Job.State.PAUSED, Job.State.CANCELLED, Job.State.DONE])
def test_a_job_that_does_not_run_has_no_eta(state):
    began = timezone.now() - timedelta(seconds=10)

    assert job_progress(make_job(state=state, total=10, done=5, pace_since=began)).eta is None


def test_a_job_that_never_ran_has_no_rate():
    progress = job_progress(make_job(state=Job.State.QUEUED, total=10))

    assert (progress.rate, progress.eta, progress.share, progress.spend_limit) == (0.0, None, 0.0, None)


def test_a_job_without_a_known_total_is_at_zero_until_it_is_done():
    assert job_progress(make_job(state=Job.State.RUNNING, total=0, done=5)).share == 0.0
    assert job_progress(make_job(state=Job.State.DONE, total=0, done=5)).share == 1.0


def test_money_is_given_as_numbers():
    progress = job_progress(make_job(cost=Decimal("1.25"), spend_limit=Decimal(2)))

    assert (progress.cost, progress.spend_limit) == (1.25, 2.0)


def test_every_failure_has_a_word_and_advice():
    assert set(FAILURE_NAMES) == {*Failure, "no_votes", "no_answer", "to_person", "database"}
    assert all(label and advice.endswith(".") for label, advice in FAILURE_NAMES.values())


def test_failures_are_counted_by_name_most_frequent_first():
    project = make_project()
    items = make_items(project, 5)
    run = make_annotation_run(project, dict(zip(items, ["", "", "", "", "positive"], strict=True)))
    run.annotations.filter(item=items[0]).update(failure="timed_out")

    counts = failures_by_name(run.annotations.all())

    assert [(each.name, each.label, each.count) for each in counts] == [
        ("refused", "Refused", 3),
        ("timed_out", "Timed out", 1),
    ]
