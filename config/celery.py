import os
from typing import Any

from celery import Celery
from celery.signals import worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("overread")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
def put_nothing_back(**_: Any) -> None:
    """A worker that loses its broker would put what it had taken back over the connection that is broken, and end with
    an AttributeError of kombu's. Messages are only wake-ups: those that are lost are sent again by the next sweep.
    """
    from kombu.transport.redis import Channel  # only a worker needs it

    Channel.do_restore = False
