"""PostgreSQL is started anew while a worker runs a job, in order and as after a crash: nothing is lost or repeated.

The test starts a PostgreSQL of its own in a temporary folder, as `.ci/run` does: nobody else is cut off from theirs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.chaos.machine import ROOT, free_port
from tests.chaos.provider import CountingProvider

ITEMS = 480
IN_FLIGHT = 8
LATENCY = 0.05  # seconds
RESTARTS = (("fast", ITEMS // 4), ("immediate", ITEMS // 2))  # how, and after how many results

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Postgres:
    """A server with an empty cluster. Use as a context manager; leaving it stops the server and deletes the folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ovk-pg-"))
        self.port = free_port()
        self.url = f"postgres://overread@127.0.0.1:{self.port}/postgres"
        if os.geteuid() == 0:  # as which PostgreSQL refuses to run
            shutil.chown(self.folder, "postgres")

    def __enter__(self) -> "Postgres":
        try:
            self._run(
                "initdb", "--username", "overread", "--auth", "trust", "--encoding", "UTF8", "--no-sync"
            )
            self._control("start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.CalledProcessError):
            self._control("stop", "--mode", "immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self, mode: str) -> None:
        """`fast` ends all connections in order; `immediate` is a crash, after which it recovers from its log."""
        self._control("stop", "--mode", mode)
        time.sleep(1)  # so that whoever works on it finds nobody there
        self._control("start")

    def _control(self, command: str, *options: str) -> None:
        listening = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        begin = ("--options", listening, "--log", str(self.folder / "log")) if command == "start" else ()
        self._run("pg_ctl", "--wait", "--silent", *begin, command, *options)

    def _run(self, program: str, *options: str) -> None:
        command = [str(_PROGRAMS[-1].with_name(program)), "--pgdata", str(self.folder / "data"), *options]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # Nothing is piped: the server would keep the pipe open.
        subprocess.run(command, check=True, timeout=60, cwd="/", stdout=subprocess.DEVNULL)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres() as postgres:
        yield postgres


def in_process(environment: dict[str, str], source: str) -> "subprocess.Popen[str]":
    """A process of the product that runs this."""
    source = "import django, json\ndjango.setup()\n" + source
    return subprocess.Popen(
        [sys.executable, "-c", source], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


PREPARE = """
from tests.chaos.prepared import annotate, prepare
given = prepare({base_url!r}, items={items}, in_flight={in_flight}, reviewed=1)
started = annotate(given["project"], given["connection"])
print(json.dumps(started), flush=True)
"""
# As a worker does it whom beat wakes: where the database is gone between two chunks, the next wake-up finds it again.
WORK = """
import time
from django.db import InterfaceError, OperationalError, connection
from jobs.models import Job
from jobs.running import run_next_chunk
from jobs.services import sweep
while True:
    try:
        if Job.objects.get(pk=started["job"]).is_finished:
            break
        sweep()
        if not run_next_chunk(started["job"]):
            time.sleep(0.2)
    except (OperationalError, InterfaceError):
        connection.close()
        time.sleep(0.2)
"""


@pytest.mark.chaos
@pytest.mark.services
@pytest.mark.skipif(
    os.environ["DATABASE_URL"].startswith("sqlite"), reason="runs where the tests run on PostgreSQL"
)
@pytest.mark.skipif(not _PROGRAMS, reason="needs initdb and pg_ctl to start a server of its own")
@pytest.mark.timeout(240)
def test_a_job_outlives_restarts_of_its_database(postgres: Postgres, tmp_path: Path) -> None:
    provider = CountingProvider(latency=LATENCY)
    environment = os.environ | {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": "",
        "OVERREAD_DATA_DIR": str(tmp_path),
        "OVERREAD_LEASE_SECONDS": "3",
        "OVERREAD_LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    with provider.serving() as base_url:
        source = PREPARE.format(base_url=base_url, items=ITEMS, in_flight=IN_FLIGHT) + WORK
        worker = in_process(environment, source)
        assert worker.stdout is not None
        try:
            started = json.loads(worker.stdout.readline())
            written_before: list[tuple[set[int], int]] = []
            for mode, at_least in RESTARTS:
                written = wait_for_results(postgres, started["run"], at_least, worker)
                assert len(written) < ITEMS, "the restart came too late to prove anything"
                written_before.append((written, len(provider.asked)))
                postgres.restart(mode)
            assert worker.wait(60) == 0
        finally:
            worker.kill()
            worker.wait(10)

        assert Counter(results(postgres, started["run"])) == dict.fromkeys(range(ITEMS), 1)
        with psycopg.connect(postgres.url) as connection:
            query = f"select state, total, done, failed from jobs_job where id = {started['job']}"
            assert connection.execute(query).fetchall() == [("done", ITEMS, ITEMS, 0)]
        for written, asked in written_before:
            assert not written & set(provider.asked[asked:]), "a written result was asked again"
        # Nobody was killed, so what was in flight was answered, and what was answered was kept: nothing is paid twice.
        assert Counter(provider.asked) == dict.fromkeys(range(ITEMS), 1)


def results(postgres: Postgres, run: int) -> list[int]:
    """The items with a result, as often as they have one."""
    with psycopg.connect(postgres.url) as connection:
        rows = connection.execute(
            "select i.external_id from annotate_annotation a join annotate_item i on i.id = a.item_id "
            f"where a.run_id = {run} and a.failure = ''"
        ).fetchall()
    return [int(row[0]) for row in rows]


def wait_for_results(
    postgres: Postgres, run: int, at_least: int, worker: "subprocess.Popen[str]"
) -> set[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert worker.poll() is None, "the worker has ended"
        if len(written := set(results(postgres, run))) >= at_least:
            return written
        time.sleep(0.05)
    pytest.fail(f"no {at_least} results within a minute")
