"""Tells running chunks that their worker is to stop: they start no new calls and write what is in flight."""

import multiprocessing
from typing import Any

from celery.signals import worker_shutting_down

# Made before the pool forks: the main process sets it, the children read it.
_requested = multiprocessing.Event()


@worker_shutting_down.connect
def _on_shutting_down(**_: Any) -> None:
    _requested.set()


def requested() -> bool:
    return _requested.is_set()
