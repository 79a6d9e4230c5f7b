"""Runs a few programs as one: started in order, stopped in reverse order, and none of them left behind.

Everything happens in one thread. While the supervisor waits for anything, `_pump` passes on what the children
print, and the wait ends when a child dies or a stop is asked for. Three things make sure that no process
outlives the supervisor: each child leads a process group, which is killed whole when its leader ends; on
Linux the kernel kills the leaders when the supervisor dies (PR_SET_PDEATHSIG); and `jobs.watchdog` kills the
groups then, on any POSIX system.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Protocol

from jobs import watchdog

_POLL_SECONDS = 0.1
_LOCK_SECONDS = 10.0  # the watchdog of a killed supervisor needs a fraction of this
_READS_AT_ONCE = 16  # more than a pipe holds; one child that never stops printing must not take all the time
_NAME_WIDTH = 6
_COLORS = ("\033[36m", "\033[32m", "\033[33m", "\033[35m")
_RESET = "\033[0m"
_PR_SET_PDEATHSIG = 1
# Loaded here and not between fork and exec, where as little as possible should happen.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Console(Protocol):
    """Where the supervisor prints: a text stream, or a Django command's."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


class AlreadyRunning(Exception):
    """Another supervisor holds the lock; the message is for the user."""


class ChildFailed(Exception):
    """A child ended by itself, or did not become ready; the message is for the user."""


class StopRequested(Exception):
    """The user pressed Ctrl-C, or the system asked the supervisor to end."""


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run.

    `ready` is asked until it says yes, for at most `ready_seconds`. `stop_seconds` is the time between
    SIGTERM and SIGKILL. What the child prints gets its name in front unless `prefixed` is false.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    ready_seconds: float = 60.0
    stop_seconds: float = 10.0
    prefixed: bool = True


class _Running:
    """A child that was started, and the end of the pipe that its output comes from."""

    def __init__(self, child: Child, process: subprocess.Popen[bytes], color: str) -> None:
        self.child = child
        self.process = process
        self.output: IO[bytes] = process.stdout  # type: ignore[assignment]  # Popen was asked for a pipe
        self.color = color
        self.unfinished_line = b""
        self.at_end = False
        os.set_blocking(self.output.fileno(), False)

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def ending(self) -> str:
        code = self.process.returncode
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def read_lines(self) -> list[bytes]:
        """The lines that are complete by now, and at the end of the output the unfinished one too."""
        lines: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(_READS_AT_ONCE):
                chunk = os.read(self.output.fileno(), 65536)
                if not chunk:
                    self.at_end = True
                    break
                *complete, self.unfinished_line = (self.unfinished_line + chunk).split(b"\n")
                lines += complete
        if self.unfinished_line and (self.at_end or self.has_ended):
            lines.append(self.unfinished_line)
            self.unfinished_line = b""
        return lines


class Supervisor:
    """Use as a context manager: leaving it, for whatever reason, stops every child in reverse order.

    From entering to leaving, SIGINT, SIGTERM and SIGHUP ask for a stop: the wait under way raises
    `StopRequested`. A second signal kills everything at once. `lock` is what `exclusive` gave: the watchdog
    shares it, so that it stays taken until the last child of a killed supervisor is gone.
    """

    def __init__(self, output: Console, *, lock: int | None = None, folder: Path | None = None) -> None:
        self._output = output
        self._colored = output.isatty() and "NO_COLOR" not in os.environ
        self._lock = lock
        self._folder = folder
        self._running: list[_Running] = []
        self._selector = selectors.DefaultSelector()
        self._stop_signals = 0
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> "Supervisor":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._previous_handlers[number] = signal.signal(number, self._on_signal)
        self._watchdog = _start_watchdog(self._lock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._selector.close()
        self._watchdog.communicate()
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def start(self, child: Child) -> None:
        """Start a child, wait until it is ready. Raises `ChildFailed` (for any child) or `StopRequested`."""
        self._check()
        self._spawn(child)
        deadline = time.monotonic() + child.ready_seconds
        while child.ready is not None and not child.ready():
            self._pump()
            self._check()
            if time.monotonic() > deadline:
                raise ChildFailed(f"{child.name} was not ready within {child.ready_seconds:.0f} seconds.")

    def run(self, child: Child) -> None:
        """Run a child to its end. Raises as `start` does, and `ChildFailed` when its exit code is not 0."""
        self._check()
        running = self._spawn(child)
        while not running.has_ended:
            self._pump()
            self._check(may_end=running)
        self._forget(running)
        if running.process.returncode != 0:
            raise ChildFailed(f"{child.name} failed ({running.ending}).")

    def watch(self) -> None:
        """Wait until a child ends or a stop is asked for. Always raises `ChildFailed` or `StopRequested`."""
        while True:
            self._pump()
            self._check()

    def stop(self) -> None:
        """Stop the children, the last one first, and kill what takes longer than its `stop_seconds`."""
        for running in reversed(self._running.copy()):
            running.process.terminate()
            deadline = time.monotonic() + running.child.stop_seconds
            while not running.has_ended and time.monotonic() < deadline:
                self._pump()
            if not running.has_ended:
                self.say(f"{running.child.name} is still busy and is killed.")
            watchdog.kill_groups([running.process.pid])
            running.process.wait()
            self._forget(running)

    def say(self, line: str) -> None:
        """Print a line."""
        # A terminal that is gone must not keep the children from being stopped.
        with contextlib.suppress(OSError):
            self._output.write(f"{line}\n")
            self._output.flush()

    def _spawn(self, child: Child) -> _Running:
        supervisor = os.getpid()
        process = subprocess.Popen(  # noqa: S603  # the commands are ours, no part of them comes from a request
            child.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env={**os.environ, **child.environment},
            start_new_session=True,
            preexec_fn=lambda: _die_with(supervisor),
        )
        running = _Running(child, process, _COLORS[len(self._running) % len(_COLORS)])
        self._running.append(running)
        self._tell_watchdog(f"+{process.pid}")
        self._selector.register(running.output, selectors.EVENT_READ, running)
        return running

    def _forget(self, running: _Running) -> None:
        self._pass_on(running)
        if running.output in self._selector.get_map():
            self._selector.unregister(running.output)
        running.output.close()
        self._running.remove(running)
        self._tell_watchdog(f"-{running.process.pid}")

    def _tell_watchdog(self, line: str) -> None:
        # Should the watchdog be gone, the supervisor still stops its children itself.
        with contextlib.suppress(BrokenPipeError):
            self._watchdog.stdin.write(f"{line}\n")  # type: ignore[union-attr]  # Popen was asked for a pipe
            self._watchdog.stdin.flush()  # type: ignore[union-attr]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1
        if self._stop_signals > 1:
            watchdog.kill_groups(running.process.pid for running in self._running)
            os._exit(128 + number)

    def _check(self, *, may_end: _Running | None = None) -> None:
        if self._stop_signals:
            raise StopRequested
        for running in self._running:
            if running is not may_end and running.has_ended:
                self._pass_on(running)
                raise ChildFailed(f"{running.child.name} stopped by itself ({running.ending}).")

    def _pump(self) -> None:
        """Pass on what the children print, waiting for it at most a moment."""
        if not self._selector.get_map():
            time.sleep(_POLL_SECONDS)
        for key, _ in self._selector.select(_POLL_SECONDS):
            self._pass_on(key.data)

    def _pass_on(self, running: _Running) -> None:
        for line in running.read_lines():
            self.say(self._prefix(running) + line.decode(errors="replace"))
        if running.at_end and running.output in self._selector.get_map():
            self._selector.unregister(running.output)

    def _prefix(self, running: _Running) -> str:
        if not running.child.prefixed:
            return ""
        name = f"{running.child.name:<{_NAME_WIDTH}} | "
        return f"{running.color}{name}{_RESET}" if self._colored else name


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the lock file at `path`. Raises `AlreadyRunning` when another process, which it names, holds it.

    The kernel drops the lock with its last holder, so one can't be left behind. The watchdog of a supervisor
    that was killed holds it a moment longer than its supervisor lived: that is waited for.
    """
    import fcntl  # not on Windows, where this module must still be importable

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
                if _is_alive(holder) or time.monotonic() > deadline:
                    raise AlreadyRunning(
                        f"Overread is already running on the data folder {path.parent} (process {holder}). "
                        "Press Ctrl-C in its window, or set OVERREAD_DATA_DIR to use another folder."
                    ) from None
                time.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def private_folder(path: Path) -> None:
    """Make a folder that only this user can enter. Raises PermissionError when someone else made it before.

    The folder has a name that others can guess, in a place where everyone may make folders.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if path.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(
            f"{path} is not a folder that only you can enter. Remove it, or set TMPDIR to another place."
        )


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _start_watchdog(lock: int | None) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-S", watchdog.__file__],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=[] if lock is None else [lock],
    )


def _die_with(supervisor: int) -> None:
    """Runs in the child between fork and exec."""
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:  # it died before the line above
        os._exit(1)
