"""Trying again where PostgreSQL ended a transaction because two waited for each other: nothing of it was kept."""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection

Asked = ParamSpec("Asked")
Given = TypeVar("Given")

_ATTEMPTS = 6
_LONGEST_WAIT = 0.05  # seconds
_DEADLOCK, _SERIALIZATION = "40P01", "40001"  # SQLSTATE


def again_after_deadlock(act: Callable[Asked, Given]) -> Callable[Asked, Given]:
    """`act`, a transaction of its own, done again when a deadlock ended it. Within another transaction it is that one's
    to be done again. Raises what `act` raises.
    """

    @wraps(act)
    def act_again(*args: Asked.args, **kwargs: Asked.kwargs) -> Given:
        for _ in range(_ATTEMPTS - 1):
            try:
                return act(*args, **kwargs)
            except OperationalError as error:
                if connection.in_atomic_block or not _is_deadlock(error):
                    raise
                time.sleep(random.uniform(0, _LONGEST_WAIT))
        return act(*args, **kwargs)

    return act_again


def _is_deadlock(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) in (_DEADLOCK, _SERIALIZATION)
