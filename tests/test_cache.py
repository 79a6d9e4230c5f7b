"""The cache with Redis gone: what needs it works on, and comes back to Redis when Redis does."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisGone

from config import cache as module
from config.cache import ForgivingRedisCache
from jobs import processes


@pytest.fixture
def socket_path(settings, tmp_path_factory) -> Path:
    settings.RUNTIME_DIR = tmp_path_factory.mktemp("r", numbered=True) / "r"
    settings.BROKER_SOCKET = settings.RUNTIME_DIR / "broker.sock"
    return Path(settings.BROKER_SOCKET)


@pytest.fixture
def server(socket_path: Path) -> Iterator["Server"]:
    with Server(socket_path) as running:
        yield running


class Server:
    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self) -> None:
        self.process = subprocess.Popen(processes.broker().command, stdout=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as connection:
                if connection.connect_ex(str(self.path)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("the server does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@pytest.fixture
def cache(socket_path: Path) -> ForgivingRedisCache:
    cache = ForgivingRedisCache(f"unix://{socket_path}", {})
    cache._own.clear()
    return cache


@pytest.mark.skipif(sys.platform == "win32", reason="unix sockets")
def test_it_outlives_its_server(server: Server, cache: ForgivingRedisCache, monkeypatch: pytest.MonkeyPatch):
    cache.set("known", "before")
    assert cache.get("known") == "before"
    server.kill()

    assert cache.get("known") is None
    assert cache.add("tries", 0)
    assert [cache.incr("tries"), cache.incr("tries")] == [1, 2]
    assert cache.incr("counted-in-redis") == 1
    cache.set_many({"a": 1, "b": 2})
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    assert cache.has_key("a")
    assert cache.touch("a")
    assert cache.delete("a")
    assert cache.get("a", "gone") == "gone"

    server.start()
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + module.LEFT_ALONE_SECONDS)
    cache.set("known", "after")
    assert ForgivingRedisCache(f"unix://{server.path}", {}).get("known") == "after"


def test_a_server_that_is_gone_is_not_waited_for_again_and_again(
    cache: ForgivingRedisCache, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def gone(self: object, key: str) -> None:
        asked.append(key)
        raise RedisGone

    monkeypatch.setattr("config.cache.RedisCache.get", gone)

    assert [cache.get("a"), cache.get("b"), cache.get("c")] == [None, None, None]
    assert asked == ["a"]
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + module.LEFT_ALONE_SECONDS)
    cache.get("d")
    assert asked == ["a", "d"]
