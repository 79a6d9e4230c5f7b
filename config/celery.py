import os
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.signals import worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("overread")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect  # type: ignore[untyped-decorator]
def name_closed_connections(**_: Any) -> None:
    """Say of a channel whose connection is gone what it is.

    A worker that loses its broker closes channels and acknowledges messages over connections that are closed already.
    kombu ends there with an AttributeError, which ends the worker; a connection error is what celery expects, and goes
    on after.
    """
    from kombu.transport.redis import Channel  # only a worker needs it
    from redis.exceptions import ConnectionError as BrokerGone

    parameters: Callable[..., Any] = Channel._connparams

    def connection_parameters(channel: Any, *args: Any, **options: Any) -> Any:
        if channel.connection is None or channel.connection.client is None:
            raise BrokerGone("This channel's connection is closed.")
        return parameters(channel, *args, **options)

    setattr(Channel, "_connparams", connection_parameters)  # noqa: B010 (kombu's types know no such change)
