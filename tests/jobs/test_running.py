import pytest

from jobs.leases import Lease, Progress, claim
from jobs.models import Chunk, Job
from jobs.running import MOST_LEASES, run_next_chunk, run_to_end
from jobs.services import job_cancel, job_resume
from jobs.tasks import run_chunk, sweep
from jobs.work import CannotGoOn
from tests.conftest import Provider
from tests.jobs.counting_work import CountingWork, make_counting_job

pytestmark = pytest.mark.django_db


def failing(work: CountingWork, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(lease: Lease) -> bool:
        lease.write(lambda: Progress(done=1))
        raise error

    monkeypatch.setattr(work, "run", fail)


def test_a_chunk_done_wakes_the_job_for_the_next(counting: CountingWork, provider: Provider, wake_ups):
    provider(lambda request: "yes")
    job = make_counting_job(2500)

    assert run_next_chunk(job.pk) is True

    assert wake_ups == [job.pk]


def test_the_last_chunk_wakes_nobody(counting: CountingWork, provider: Provider, wake_ups):
    provider(lambda request: "yes")
    job = make_counting_job(20)

    assert run_next_chunk(job.pk) is True
    assert run_next_chunk(job.pk) is False

    assert wake_ups == []


def test_the_tasks_take_an_id_and_find_the_rest_in_the_database(
    counting: CountingWork, provider: Provider, wake_ups
):
    provider(lambda request: "yes")
    job = make_counting_job(20)

    sweep()
    for job_id in wake_ups:
        run_chunk(job_id)
        run_chunk(job_id)  # the same message again changes nothing

    job.refresh_from_db()
    assert (job.state, job.done) == ("done", 20)


def test_what_stops_the_job_is_said_and_the_chunk_is_handed_back(counting: CountingWork, monkeypatch):
    failing(counting, monkeypatch, CannotGoOn("The key is gone.", failure="authentication"))
    job = make_counting_job()

    assert run_next_chunk(job.pk) is True

    job.refresh_from_db()
    assert (job.state, job.failure, job.reason) == ("paused", "authentication", "The key is gone.")
    assert job.chunks.get().state == Chunk.State.WAITING
    assert job.done == 1


def test_what_nobody_can_mend_fails_the_job(counting: CountingWork, monkeypatch):
    failing(counting, monkeypatch, CannotGoOn("The file is damaged.", pause=False))
    job = make_counting_job()

    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.reason) == ("failed", "The file is damaged.")
    assert job.finished_at is not None


def test_an_unforeseen_error_is_logged_and_tells_the_page_nothing_else(
    counting: CountingWork, monkeypatch, caplog
):
    failing(counting, monkeypatch, ZeroDivisionError("in /srv/secret/place"))
    job = make_counting_job()

    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.failure) == ("paused", "server_error")
    assert "secret" not in job.reason
    assert "in /srv/secret/place" in caplog.text
    assert job.chunks.get().state == Chunk.State.WAITING


def test_a_job_that_was_cancelled_meanwhile_stays_cancelled(counting: CountingWork, monkeypatch):
    def fail(lease: Lease) -> bool:
        job_cancel(lease.job)
        raise CannotGoOn("The provider is gone.", failure="unreachable")

    monkeypatch.setattr(counting, "run", fail)
    job = make_counting_job()

    run_to_end(job.pk)

    assert Job.objects.get().state == "cancelled"


def test_a_lost_lease_leaves_the_job_to_its_heir(counting: CountingWork, monkeypatch, caplog):
    job = make_counting_job()

    def be_taken_over(lease: Lease) -> bool:
        Chunk.objects.update(lease_until="2000-01-01T00:00Z")
        assert claim(job.pk) is not None
        lease.renew()
        return True

    monkeypatch.setattr(counting, "run", be_taken_over)

    assert run_next_chunk(job.pk) is True

    job.refresh_from_db()
    assert (job.state, job.chunks.get().state) == ("running", Chunk.State.RUNNING)
    assert "taken over" in caplog.text


def test_a_chunk_that_kills_its_process_again_and_again_pauses_the_job(
    counting: CountingWork, provider: Provider
):
    provider(lambda request: "yes")
    job = make_counting_job()
    job.chunks.update(leases=MOST_LEASES)

    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.failure) == ("paused", "server_error")
    assert "100 times" in job.reason
    # Somebody who mended the cause can go on.
    job_resume(job)
    run_to_end(job.pk)
    job.refresh_from_db()
    assert job.state == "done"


@pytest.mark.parametrize("stage", ["pause", "leave"])
def test_a_job_whose_last_chunk_ended_while_it_was_paused_is_finished_on_resume(
    stage, counting: CountingWork, provider: Provider
):
    provider(lambda request: "yes")
    job = make_counting_job()
    lease = claim(job.pk)
    assert lease is not None
    Job.objects.update(state=Job.State.PAUSED)
    lease.complete()

    job.refresh_from_db()
    job_resume(job)
    if stage == "pause":
        sweep()
    else:
        run_to_end(job.pk)

    assert Job.objects.get().state == "done"
