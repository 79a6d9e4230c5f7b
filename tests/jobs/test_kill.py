"""A real worker on a real broker is killed with SIGKILL, several times in the middle of its calls."""

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from benchmarks import mock_provider
from jobs import call_work, processes

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 300
IN_FLIGHT = 4
LATENCY = 0.05
KILLS = 3


class Provider(mock_provider.Provider):
    """The mock provider in a thread of its own, which lists the items that it was asked about."""

    def __init__(self) -> None:
        super().__init__(labels=2, latency=LATENCY)
        self.asked: list[int] = []

    async def complete(self, request: web.Request) -> web.StreamResponse:
        number = re.search(r"&lt;(\d+)>|<(\d+)>", mock_provider.user_text(await request.json()))
        assert number is not None
        self.asked.append(int(number[1] or number[2]))
        return await super().complete(request)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        async def start() -> web.AppRunner:
            runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)


class Machine:
    """A data folder with the programs that work on it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ovk-"))  # short: it holds a socket
        self.database = self.folder / "overread.sqlite3"
        self.log = (self.folder / "log").open("wb")
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "OVERREAD_LOCAL": "true",
            "OVERREAD_DATA_DIR": str(self.folder),
            "DATABASE_URL": f"sqlite:///{self.database}",
            "REDIS_URL": f"redis+socket://{self.folder}/broker.sock",
            "OVERREAD_LEASE_SECONDS": "2",
            "OVERREAD_SWEEP_SECONDS": "1",
            "OVERREAD_WORKER_PROCESSES": "2",
            "OVERREAD_LOG_LEVEL": "INFO",
        }

    def __enter__(self) -> "Machine":
        broker = [processes._valkey_program(), "--port", "0", "--unixsocket", f"{self.folder}/broker.sock"]
        self.start([*broker, "--dir", str(self.folder), "--save", "", "--loglevel", "warning"])
        self.wait("the broker listens", (self.folder / "broker.sock").exists)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            kill(process)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, command: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            list(command),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def written(self) -> list[int]:
        """The items with a result."""
        return [
            int(row[0])
            for row in self.ask(
                "select i.external_id from annotate_annotation a join annotate_item i on i.id = a.item_id"
            )
        ]

    def has_written(self, at_least: int) -> bool:
        return len(self.written()) >= at_least

    def wait(self, what: str, done: Callable[[], bool], seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not within {seconds} s\n{(self.folder / 'log').read_text()[-4000:]}")
            time.sleep(0.02)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the process and its children, as when a machine loses power."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
@pytest.mark.timeout(300)  # it starts four workers, each of which imports everything
@pytest.mark.parametrize("seed", [2026])
def test_every_item_has_one_result_and_no_written_one_is_asked_again(seed):
    rng = random.Random(seed)
    provider = Provider()
    with provider.serving() as base_url, Machine() as machine:
        prepare = [sys.executable, "-m", "tests.jobs.prepared_run", base_url, str(ITEMS), str(IN_FLIGHT)]
        prepared = machine.start(prepare)
        machine.wait("the run is prepared", lambda: prepared.poll() is not None)
        assert prepared.returncode == 0, (machine.folder / "log").read_text()
        machine.start(processes.beat().command)

        lost = []
        for at_least in sorted(rng.sample(range(10, ITEMS - 60), KILLS)):
            worker = machine.start(processes.worker().command)
            machine.wait("the worker writes", partial(machine.has_written, at_least))
            time.sleep(rng.uniform(0, 0.3))
            kill(worker)
            written, asked_before = machine.written(), len(provider.asked)
            lost.append((set(written), asked_before))
            assert len(written) < ITEMS, "the kill came too late to prove anything"
        machine.start(processes.worker().command)
        machine.wait("the job is done", lambda: machine.ask("select state from jobs_job") == [("done",)])

        assert sorted(machine.written()) == list(range(ITEMS))
        assert machine.ask("select total, done, failed from jobs_job") == [(ITEMS, ITEMS, 0)]
        assert machine.ask("select count(*) from jobs_chunk where state <> 'done'") == [(0,)]

    for written_then, asked_before in lost:
        assert not written_then & set(provider.asked[asked_before:]), "a written result was asked again"
    times_asked = Counter(provider.asked)
    assert set(times_asked) == set(range(ITEMS))
    # A kill loses the calls in flight, and the answers that had not been written since the last batch.
    rounds = 1 + (call_work.WRITE_EVERY_SECONDS + 0.1) / LATENCY
    assert len(provider.asked) - ITEMS <= KILLS * IN_FLIGHT * rounds
    assert max(times_asked.values()) <= 1 + KILLS
