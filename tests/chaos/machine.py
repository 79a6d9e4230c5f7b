"""A data folder with the programs that work on it: broker, web, worker and beat, each started and killed at will."""

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as BrokerGone

ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """Use as a context manager; leaving it kills everything and deletes the folder.

    It runs on SQLite and the embedded broker; where the tests are given PostgreSQL and Redis, on a PostgreSQL database
    and a Redis server of its own.
    """

    _runtime = Path("nowhere")

    def __init__(self, *, lease_seconds: int = 3, worker_processes: int = 4) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ovk-"))
        self.log_path = self.folder / "log"
        self.port = free_port()
        self.running: dict[str, int] = {}
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "OVERREAD_LOCAL": "true",
            "OVERREAD_DATA_DIR": str(self.folder),
            "DATABASE_URL": f"sqlite:///{self.folder}/overread.sqlite3",
            "REDIS_URL": "",
            "OVERREAD_LEASE_SECONDS": str(lease_seconds),
            "OVERREAD_SWEEP_SECONDS": "1",
            "OVERREAD_WORKER_PROCESSES": str(worker_processes),
            "OVERREAD_LOG_LEVEL": "WARNING",
        }
        self.on_services = bool(os.environ["REDIS_URL"]) and not os.environ["DATABASE_URL"].startswith(
            "sqlite"
        )
        self._redis_port = free_port()
        self._redis: subprocess.Popen[bytes] | None = None
        if self.on_services:
            self._database = f"chaos_{os.getpid()}_{self.port}"
            self.environment["DATABASE_URL"] = _on(os.environ["DATABASE_URL"], self._database)
            self.environment["REDIS_URL"] = f"redis://127.0.0.1:{self._redis_port}/0"

    def __enter__(self) -> "Machine":
        try:
            if self.on_services:
                self._ask_services(f'create database "{self._database}"')
            self._log = self.log_path.open("wb")
            self._programs = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.programs", str(self.port)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
            self._runtime = Path(self._read()["runtime"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._programs.stdin is not None
        self._programs.stdin.close()
        self._programs.wait(120)
        if self._redis is not None:
            self._redis.kill()
            self._redis.wait(10)
        self._log.close()
        if self.on_services:
            self._ask_services(f'drop database if exists "{self._database}" with (force)')
        shutil.rmtree(self._runtime, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- Programs ----------------------------------------------------------------------------------------------------

    def start(self, name: str, *, as_name: str = "") -> None:
        """Start `broker`, `web`, `worker` or `beat`. Of some, several can run, under names of their own."""
        if name == "broker" and self.on_services:
            self._start_redis()
        else:
            self.running[as_name or name] = self._order(start=name)["pid"]

    def kill(self, name: str) -> None:
        """kill -9 of the program and its children, as when a machine loses power."""
        if name == "broker" and self._redis is not None:
            self._redis.kill()
            self._redis.wait(10)
        else:
            self._order(kill=self.running.pop(name))

    def kill_child(self, name: str, choose: Callable[[list[int]], int]) -> bool:
        """kill -9 of one of the program's own processes, as when memory runs out. False where it has none yet."""
        children = children_of(self.running[name])
        if not children:
            return False
        self._order(kill=choose(children), alone=True)
        return True

    def flush(self) -> None:
        """Let the broker forget everything."""
        with contextlib.suppress(BrokerGone):  # one that was killed just now has forgotten it already
            redis = (
                Redis(port=self._redis_port)
                if self.on_services
                else Redis(unix_socket_path=str(self._runtime / "broker.sock"))
            )
            redis.flushall()
            redis.close()

    def call(self, name: str, **given: Any) -> Any:
        """What a function `module:name` gives in a process of this machine."""
        result = self._order(**{"call": name, "with": given})
        assert "error" not in result, f"{result}\n{self.log()[-6000:]}"
        return result

    def wait_for_broker(self) -> None:
        """The embedded one is known by its socket, which it makes when it is ready."""
        if self.on_services:
            self.wait("the broker listens", lambda: listens(self._redis_port))
        else:
            self.wait("the broker listens", (self._runtime / "broker.sock").exists)

    def _start_redis(self) -> None:
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self._redis = subprocess.Popen(
            ["redis-server", "--port", str(self._redis_port), "--dir", str(self.folder), *options],
            stdout=self._log,
            stderr=self._log,
        )

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._programs.stdin is not None
        self._programs.stdin.write(json.dumps(order) + "\n")
        self._programs.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._programs.stdout is not None
        line = self._programs.stdout.readline()
        assert line, f"the programs' parent has ended\n{self.log()[-6000:]}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    # --- Looking at it -----------------------------------------------------------------------------------------------

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the machine's database, read past its programs."""
        with self._connection() as connection:
            return [tuple(row) for row in connection.execute(query).fetchall()]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        if self.on_services:
            import psycopg

            with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as connection:
                yield connection
        else:
            path = self.environment["DATABASE_URL"].removeprefix("sqlite:///")
            with contextlib.closing(
                sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)
            ) as database:
                yield database

    def _ask_services(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(statement)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait(self, what: str, done: Callable[[], bool], seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not within {seconds} s\n{self.log()[-6000:]}")
            time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _on(url: str, database: str) -> str:
    """The address of another database on the same server."""
    return re.sub(r"/[^/?]*(\?.*)?$", rf"/{database}\1", url)
