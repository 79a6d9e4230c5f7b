import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.leases import Lease, claim
from jobs.models import Chunk, Job
from jobs.running import run_to_end
from jobs.tasks import forget_old_answers
from jobs.unwritten import Unwritten
from mllm.messages import Reply, TokenLogprob
from tests.conftest import Provider
from tests.jobs.counting_work import CountingWork, make_counting_job, numbers_asked

pytestmark = pytest.mark.django_db

REPLY = Reply(
    text="[1] \ud800 ü\n",
    reasoning="because",
    model="m",
    finish_reason="stop",
    input_tokens=20,
    output_tokens=3,
    cached_tokens=5,
    logprobs=(TokenLogprob("[", -0.1, (("[", -0.1), ("1", -2.5))),),
    latency=0.4,
    attempts=2,
)


@pytest.fixture
def folder(settings, tmp_path) -> Path:
    settings.DATA_DIR = tmp_path
    return Path(tmp_path) / "unwritten"


@pytest.fixture
def chunk(folder: Path, counting: CountingWork) -> Chunk:
    return make_counting_job().chunks.get()


def test_an_answer_comes_back_whole(chunk: Chunk):
    Unwritten(chunk).keep(7, "a" * 64, REPLY)
    Unwritten(chunk).keep(8, "b" * 64, REPLY)

    assert Unwritten(chunk).read() == {(7, "a" * 64): REPLY, (8, "b" * 64): REPLY}


def test_nobody_else_can_read_it(chunk: Chunk, folder: Path):
    Unwritten(chunk).keep(7, "a", REPLY)

    assert (folder.stat().st_mode & 0o777, next(folder.iterdir()).stat().st_mode & 0o777) == (0o700, 0o600)


def test_what_was_cut_off_is_left_out(chunk: Chunk, folder: Path):
    Unwritten(chunk).keep(7, "a", REPLY)
    path = next(folder.iterdir())
    path.write_bytes(path.read_bytes() * 2 + b'[8, "b", {"text"')

    assert list(Unwritten(chunk).read()) == [(7, "a")]


def test_a_later_chunk_of_the_same_number_has_a_file_of_its_own(chunk: Chunk):
    Unwritten(chunk).keep(7, "a", REPLY)
    chunk.created_at += timedelta(microseconds=1)

    assert Unwritten(chunk).read() == {}


def test_a_full_disk_stops_nothing(chunk: Chunk, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.unwritten.os.open", full)

    Unwritten(chunk).keep(7, "a", REPLY)

    assert Unwritten(chunk).read() == {}


def test_what_nobody_came_back_for_is_forgotten(chunk: Chunk, folder: Path):
    Unwritten(chunk).keep(7, "a", REPLY)
    forget_old_answers()
    assert Unwritten(chunk).read()
    old = time.time() - 8 * 24 * 3600
    os.utime(next(folder.iterdir()), (old, old))

    forget_old_answers()

    assert list(folder.iterdir()) == []


def test_a_job_that_is_done_leaves_nothing_behind(folder: Path, counting: CountingWork, provider: Provider):
    provider(lambda request: "yes")

    run_to_end(make_counting_job(120).pk)

    assert list(folder.iterdir()) == []


def test_answers_that_a_dead_process_could_not_write_are_not_asked_for_again(
    folder: Path, counting: CountingWork, provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    class Died(BaseException):
        pass

    write = Lease.write
    written: list[int] = []

    def die_at_the_third(lease: Lease, rows, **options) -> None:
        written.append(1)
        if len(written) == 3:
            raise Died
        write(lease, rows, **options)

    adapter = provider(lambda request: "yes")
    monkeypatch.setattr(Lease, "write", die_at_the_third)
    job = make_counting_job(400, in_flight=4)
    lease = claim(job.pk)
    assert lease is not None
    with pytest.raises(Died):
        counting.run(lease)
    before = set(counting.rows)
    asked = set(numbers_asked(adapter.requests))
    assert asked - before, "something was not written"
    monkeypatch.setattr(Lease, "write", write)
    _let_the_rest_arrive(adapter, asked)
    lease.release()

    run_to_end(job.pk)

    job.refresh_from_db()
    assert (job.state, job.done, job.failed) == (Job.State.DONE, 400, 0)
    assert sorted(numbers_asked(adapter.requests)) == list(range(1, 401)), "each was asked for once"
    assert not any(outcome.reused for outcome in counting.rows.values()), "they are paid by this job"


def _let_the_rest_arrive(adapter, asked: set[int]) -> None:
    """Calls that were in flight when their process stopped looking."""
    from jobs.calling import loop_thread

    async def nothing() -> None: ...

    for _ in range(5):
        loop_thread().run(nothing())
