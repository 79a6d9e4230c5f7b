"""Trying again where PostgreSQL ended a transaction because of another at the same time: nothing of it was kept."""

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
_PASSING = ("40P01", "40001")  # SQLSTATE: a deadlock, and a faster one


def again_after_deadlock(act: Callable[Asked, Given]) -> Callable[Asked, Given]:
    """`act`, a transaction of its own, done again when a deadlock or a faster one ended it. Within another transaction
    it is that one's to be done again. Raises what `act` raises.
    """

    @wraps(act)
    def act_again(*args: Asked.args, **kwargs: Asked.kwargs) -> Given:
        for _ in range(_ATTEMPTS - 1):
            try:
                return act(*args, **kwargs)
            except OperationalError as error:
                if connection.in_atomic_block or getattr(error.__cause__, "sqlstate", None) not in _PASSING:
                    raise
                time.sleep(random.uniform(0, _LONGEST_WAIT))
        return act(*args, **kwargs)

    return act_again
