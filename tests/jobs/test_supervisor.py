import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import watchdog
from jobs.supervisor import (
    AlreadyRunning,
    Child,
    ChildFailed,
    Supervisor,
    exclusive,
    private_folder,
)

ROOT = Path(__file__).resolve().parent.parent.parent

# A supervisor in a process of its own: two children leave their process ids, and a grandchild's, in a folder.
SUPERVISE = """
import sys
from pathlib import Path
from jobs.supervisor import Child, StopRequested, Supervisor, exclusive

folder, preparation = Path(sys.argv[1]), sys.argv[2]

def child(name):
    script = f"{preparation} sleep 60 & echo $! > {name}.grandchild; echo $$ > {name}.child; wait; wait"
    ready = lambda: (folder / f"{name}.child").exists()
    return Child(name, ["sh", "-c", script], ready=ready, stop_seconds=50)

try:
    with exclusive(folder / "up.lock") as lock, Supervisor(sys.stdout, lock=lock, folder=folder) as parent:
        parent.start(child("first"))
        parent.start(child("second"))
        (folder / "up").touch()
        parent.watch()
except StopRequested:
    sys.exit(7)
"""


def shell(name: str, script: str, **options) -> Child:
    return Child(name, ["sh", "-c", script], **options)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        # In a container nobody may collect orphans: a zombie is as dead as it gets.
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # macOS has no such folder


def supervise(folder: Path, *, preparation: str = "") -> subprocess.Popen[bytes]:
    """Start SUPERVISE and wait until its children run."""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(folder), preparation],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    assert eventually((folder / "up").exists)
    return supervisor


def descendants(folder: Path) -> list[int]:
    names = ("first.child", "first.grandchild", "second.child", "second.grandchild")
    return [int((folder / name).read_text()) for name in names]


def test_children_stop_in_reverse_order(tmp_path):
    log = tmp_path / "log"
    script = "trap 'echo {0} >> {1}; exit 0' TERM; touch {1}.{0}; while :; do sleep 0.05; done"
    with Supervisor(io.StringIO()) as supervisor:
        for name in ("broker", "web", "worker"):
            started = tmp_path / f"log.{name}"
            supervisor.start(shell(name, script.format(name, log), ready=started.exists))

    assert log.read_text().split() == ["worker", "web", "broker"]


def test_the_first_death_ends_the_watch_and_the_others(tmp_path):
    pid = tmp_path / "pid"
    with Supervisor(io.StringIO()) as supervisor:
        supervisor.start(shell("web", f"echo $$ > {pid}; exec sleep 60", ready=pid.exists))
        supervisor.start(shell("worker", "exit 3"))
        with pytest.raises(ChildFailed, match=r"worker stopped by itself \(exit code 3\)"):
            supervisor.watch()

    assert not is_alive(int(pid.read_text()))


def test_a_child_killed_by_a_signal_is_named_with_it():
    with Supervisor(io.StringIO()) as supervisor:
        supervisor.start(shell("web", "kill -9 $$"))
        with pytest.raises(ChildFailed, match=r"killed by SIGKILL"):
            supervisor.watch()


def test_grandchildren_of_a_child_that_ended_are_killed(tmp_path):
    pid = tmp_path / "pid"
    with Supervisor(io.StringIO()) as supervisor:
        supervisor.start(shell("worker", f"sleep 60 & echo $! > {pid}; exit 1"))
        with pytest.raises(ChildFailed):
            supervisor.watch()

    assert eventually(lambda: not is_alive(int(pid.read_text())))


def test_a_child_that_ignores_sigterm_is_killed_after_its_time(tmp_path):
    started = tmp_path / "started"
    output = io.StringIO()
    begin = time.monotonic()
    with Supervisor(output) as supervisor:
        script = f"trap '' TERM; touch {started}; while :; do sleep 0.05; done"
        supervisor.start(shell("worker", script, ready=started.exists, stop_seconds=0.3))

    assert "worker is still busy and is killed." in output.getvalue()
    assert time.monotonic() - begin < 5


def test_start_waits_until_the_child_is_ready(tmp_path):
    ready = tmp_path / "ready"
    with Supervisor(io.StringIO()) as supervisor:
        supervisor.start(shell("web", f"sleep 0.3; touch {ready}; exec sleep 60", ready=ready.exists))

        assert ready.exists()


def test_a_child_that_is_never_ready_is_reported():
    with (
        pytest.raises(ChildFailed, match="web was not ready within 0 seconds"),
        Supervisor(io.StringIO()) as supervisor,
    ):
        supervisor.start(shell("web", "exec sleep 60", ready=lambda: False, ready_seconds=0.2))


def test_a_child_that_dies_before_it_is_ready_is_reported_with_its_last_words():
    output = io.StringIO()
    with pytest.raises(ChildFailed, match="web stopped by itself"), Supervisor(output) as supervisor:
        supervisor.start(shell("web", "echo the port is taken >&2; exit 1", ready=lambda: False))

    assert "web    | the port is taken\n" in output.getvalue()


def test_output_is_prefixed_line_by_line_and_complete_at_the_end():
    output = io.StringIO()
    with Supervisor(output) as supervisor:
        supervisor.run(shell("web", "printf 'one\\ntwo\\nunfinished'"))
        supervisor.run(shell("first_run", "echo plain", prefixed=False))

    assert output.getvalue() == "web    | one\nweb    | two\nweb    | unfinished\nplain\n"


def test_run_reports_a_failing_command():
    with (
        pytest.raises(ChildFailed, match=r"first_run failed \(exit code 2\)"),
        Supervisor(io.StringIO()) as supervisor,
    ):
        supervisor.run(shell("first_run", "exit 2"))


def test_run_ends_when_another_child_dies():
    with Supervisor(io.StringIO()) as supervisor:
        supervisor.start(shell("worker", "sleep 0.2; exit 1"))
        with pytest.raises(ChildFailed, match="worker stopped by itself"):
            supervisor.run(shell("first_run", "exec sleep 60"))


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Supervisor(io.StringIO()):
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(tmp_path, number):
    supervisor = supervise(tmp_path)

    supervisor.send_signal(number)

    assert supervisor.wait(10) == 7
    assert not any(is_alive(process) for process in descendants(tmp_path))


def test_a_second_signal_kills_at_once(tmp_path):
    supervisor = supervise(tmp_path, preparation="trap '' TERM;")
    supervisor.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        supervisor.wait(0.5)  # it waits for the children, which have 50 seconds

    supervisor.send_signal(signal.SIGINT)

    assert supervisor.wait(5) == 128 + signal.SIGINT
    assert eventually(lambda: not any(is_alive(process) for process in descendants(tmp_path)))


def test_nothing_outlives_a_killed_supervisor_and_the_next_one_starts(tmp_path):
    supervisor = supervise(tmp_path, preparation="trap '' TERM HUP INT;")
    processes = descendants(tmp_path)

    supervisor.kill()
    supervisor.wait(5)

    with exclusive(tmp_path / "up.lock"):
        # The watchdog gave the lock back after it had killed them.
        assert eventually(lambda: not any(is_alive(process) for process in processes), seconds=1)


def test_a_second_supervisor_on_the_same_folder_is_refused_at_once(tmp_path):
    supervisor = supervise(tmp_path)
    begin = time.monotonic()

    with (
        pytest.raises(
            AlreadyRunning, match=f"already running on the data folder .* \\(process {supervisor.pid}\\)"
        ),
        exclusive(tmp_path / "up.lock"),
    ):
        pass

    assert time.monotonic() - begin < 2
    supervisor.terminate()
    supervisor.wait(10)


def test_a_lock_file_left_behind_is_no_lock(tmp_path):
    lock = tmp_path / "data" / "up.lock"
    lock.parent.mkdir()
    lock.write_text(str(os.getppid()))  # alive, but not a holder

    with exclusive(lock):
        assert lock.read_text() == str(os.getpid())
    with exclusive(lock):
        pass


def test_the_watchdog_kills_the_groups_that_have_not_ended():
    assert watchdog.living_groups(["+10\n", "+11\n", "-10\n", "+12\n"]) == {11, 12}
    assert watchdog.living_groups([]) == set()


def test_killing_a_group_that_is_gone_is_no_error():
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()

    watchdog.kill_groups([process.pid])


def test_a_private_folder_is_made_and_found_again(tmp_path):
    folder = tmp_path / "runtime"

    private_folder(folder)
    private_folder(folder)

    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_enter_is_refused(tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir()
    folder.chmod(0o755)

    with pytest.raises(PermissionError, match="is not a folder that only you can enter"):
        private_folder(folder)


def test_a_link_is_no_private_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "runtime").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PermissionError):
        private_folder(tmp_path / "runtime")
