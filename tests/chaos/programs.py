"""Starts the product's programs for tests that kill them, by forking a process that has imported everything already.

python -m tests.chaos.programs PORT

Reads one JSON object a line and answers with one: `{"start": "worker"}` → `{"pid": …}`, `{"kill": pid}` (SIGKILL for
the whole process group, or for one process with `"alone": true`), `{"call": "module:function", "with": {…}}` → its
result, from a process of its own. What runs is what `jobs.processes` says; only the seconds that importing takes are
saved. When the input ends, everything that was started is killed.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import django

HOST = "127.0.0.1"


def main(port: int) -> None:
    django.setup()
    for module in (
        "config.celery",
        "config.urls",
        "celery.bin.worker",
        "celery.apps.worker",
        "gunicorn.app.wsgiapp",
    ):
        importlib.import_module(module)
    for module in (
        "billiard.pool",
        "celery.concurrency.prefork",
        "kombu.transport.redis",
        "mllm.adapters.openai",
    ):
        importlib.import_module(module)
    for module in ("aiohttp", "openai", "httpx2", "gunicorn.workers.gthread"):
        importlib.import_module(module)
    programs = _Programs(port)
    try:
        print(json.dumps({"runtime": str(programs.runtime)}), flush=True)
        for line in sys.stdin:
            print(json.dumps(programs.answer(json.loads(line))), flush=True)
    finally:
        programs.kill_all()


class _Programs:
    def __init__(self, port: int) -> None:
        from django.conf import settings

        self.runtime = settings.RUNTIME_DIR
        self._port = port
        self._groups: set[int] = set()

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        if "start" in order:
            return {"pid": self._start(order["start"])}
        if "kill" in order:
            self._kill(order["kill"], alone=order.get("alone", False))
            return {}
        return self._call(order["call"], order.get("with", {}))

    def kill_all(self) -> None:
        for group in list(self._groups):
            self._kill(group, alone=False)

    def _start(self, name: str) -> int:
        from jobs import processes

        child = processes.web(HOST, self._port) if name == "web" else getattr(processes, name)()
        command, environment = list(child.command), dict(child.environment)

        def run() -> None:
            os.environ.update(environment)
            if command[:2] != [sys.executable, "-m"]:
                os.execv(command[0], command)
            sys.argv = ["", *command[3:]]
            runpy.run_module(command[2], run_name="__main__", alter_sys=True)

        pid = _forked(run)
        self._groups.add(pid)
        return pid

    def _kill(self, pid: int, *, alone: bool) -> None:
        if alone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._groups.discard(pid)

    def _call(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        module, _, function = name.partition(":")
        reading, writing = os.pipe()

        def run() -> None:
            result = getattr(importlib.import_module(module), function)(**given)
            with os.fdopen(writing, "w") as stream:
                json.dump(result, stream)

        pid = _forked(run)
        os.close(writing)
        with os.fdopen(reading) as stream:
            text = stream.read()
        os.waitpid(pid, 0)
        return json.loads(text) if text else {"error": f"{name} failed; the log says why"}


def _forked(run: Callable[[], None]) -> int:
    """The id of a process that does this and ends, the leader of a group of its own."""
    pid = os.fork()
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # here too: whoever kills the group must find it
        return pid
    code = 1
    try:
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)  # the log; the answers are the parent's
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
