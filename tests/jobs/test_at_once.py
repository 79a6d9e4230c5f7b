"""A job that several processes and people change at the same moment: on PostgreSQL, where all of them get to write."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from jobs.leases import Progress, claim
from jobs.models import Chunk, Job
from jobs.services import JobStateError, finish_if_complete, job_cancel, job_extend, job_retry
from tests.factories import make_job
from tests.jobs.counting_work import CountingWork, make_counting_job
from tests.waiting import Meanwhile, needs_row_locks

pytestmark = [pytest.mark.django_db(transaction=True), needs_row_locks]


def test_a_job_that_is_asked_again_before_it_is_marked_as_done_goes_on(counting: CountingWork):
    job = make_job("counting", Job.State.RUNNING, total=1, done=1)
    Chunk.objects.create(job=job, number=0, subjects=[1], state=Chunk.State.DONE)

    with transaction.atomic():
        job_cancel(job)
        job_retry(job, [1])
        finishing = Meanwhile(lambda: finish_if_complete(job.pk))
    finishing.end()

    job.refresh_from_db()
    assert job.state == Job.State.QUEUED
    assert counting.finished_jobs == []


@pytest.mark.parametrize("again", [job_retry, job_extend])
def test_a_job_is_not_asked_again_while_a_worker_that_seemed_dead_writes(counting: CountingWork, again):
    job = make_counting_job(20)
    lease = claim(job.pk)
    assert lease is not None
    job_cancel(job)
    Chunk.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    asking: list[Meanwhile[None]] = []

    def rows() -> Progress:
        asking.append(Meanwhile(lambda: again(Job.objects.get(pk=job.pk), [3])))
        return Progress(done=1)

    lease.write(rows)

    with pytest.raises(JobStateError, match="still stopping"):
        asking[0].end()
    job.refresh_from_db()
    assert (job.state, job.done) == (Job.State.CANCELLED, 1)
