"""What a worker does when its broker goes away under it."""

import io
import logging
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


def test_what_a_worker_does_over_a_closed_connection_is_a_connection_error(
    broker: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Channel, "_connparams", Channel._connparams)  # put back afterwards
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

            connection.maybe_close_channel(channel)
            taken.ack_log_error(logging.getLogger(__name__), connection.connection_errors)
