"""What a worker does when its broker goes away under it."""

import io
from pathlib import Path

import pytest
from celery import current_app
from celery.signals import worker_init
from kombu.simple import SimpleQueue
from kombu.transport.redis import Channel
from redis import Redis

from jobs import processes
from jobs.supervisor import Supervisor


@pytest.fixture
def broker(settings, tmp_path_factory) -> Path:
    settings.RUNTIME_DIR = tmp_path_factory.mktemp("r") / "r"
    settings.BROKER_SOCKET = settings.RUNTIME_DIR / "broker.sock"
    return Path(settings.BROKER_SOCKET)


def test_a_worker_that_took_a_message_closes_a_broken_connection_without_an_error(
    broker: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Channel, "do_restore", True)
    worker_init.send(sender=current_app)
    with Supervisor(io.StringIO()) as supervisor:
        supervisor.start(processes.broker())
        with current_app.connection(f"redis+socket://{broker}") as connection:
            queue = SimpleQueue(connection.default_channel, "wake-ups")
            queue.put({"job": 1})
            taken = queue.get(timeout=5)
            assert taken.payload == {"job": 1}
            Redis(unix_socket_path=str(broker)).shutdown(nosave=True)
            channel = connection.default_channel
            connection.transport.client = None  # celery's first try to close it ended half way

            channel.close()
