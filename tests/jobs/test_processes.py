import io
import socket

import pytest
from redis import Redis

from jobs import processes
from jobs.processes import CannotStart
from jobs.supervisor import Supervisor


def test_the_broker_starts_over_a_socket_left_behind_and_keeps_nothing_on_disk(settings, tmp_path):
    settings.RUNTIME_DIR = tmp_path / "runtime"
    settings.BROKER_SOCKET = settings.RUNTIME_DIR / "broker.sock"
    settings.RUNTIME_DIR.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.BROKER_SOCKET))

    with Supervisor(io.StringIO()) as supervisor:
        supervisor.start(processes.broker())
        redis = Redis(unix_socket_path=str(settings.BROKER_SOCKET))
        assert redis.set("key", "value")
        assert redis.config_get("port") == {"port": "0"}
        assert redis.config_get("save") == {"save": ""}
        redis.close()

    assert [path.name for path in settings.RUNTIME_DIR.iterdir() if path.suffix in (".rdb", ".aof")] == []


def test_a_missing_broker_package_is_explained(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(CannotStart, match="set REDIS_URL"):
        processes.broker()


def test_a_runtime_folder_that_is_not_ours_is_explained(settings, tmp_path):
    settings.RUNTIME_DIR = tmp_path
    tmp_path.chmod(0o777)

    with pytest.raises(CannotStart, match="only you can enter"):
        processes.broker()


def test_a_taken_port_is_explained():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CannotStart, match=rf"Port {port} on 127\.0\.0\.1 is taken .* --port {port + 1}"):
            processes.check_port("127.0.0.1", port)

    processes.check_port("127.0.0.1", port)


def test_an_address_that_is_not_of_this_machine_is_explained():
    with pytest.raises(CannotStart, match=r"can't listen on 192\.0\.2\.1:8000"):
        processes.check_port("192.0.2.1", 8000)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:8000"), ("::1", "[::1]:8000"), ("localhost", "localhost:8000")],
)
def test_addresses(host, expected):
    assert processes.address(host, 8000) == expected
