"""Tells running chunks that their worker is to stop: they start no new calls and write what is in flight."""

import multiprocessing.sharedctypes
from typing import Any

from celery.signals import worker_shutting_down

# Made before the pool forks: the main process sets it, the children read it. Without a lock, as a child that is killed
# while it holds one would stop all others for ever.
_requested = multiprocessing.sharedctypes.RawValue("b", 0)


@worker_shutting_down.connect
def _on_shutting_down(**_: Any) -> None:
    _requested.value = 1


def requested() -> bool:
    return bool(_requested.value)
