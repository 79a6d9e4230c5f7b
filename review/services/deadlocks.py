"""Trying again where PostgreSQL ended a transaction because of another at the same time: nothing of it was kept."""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, IntegrityError, OperationalError, connection

Asked = ParamSpec("Asked")
Given = TypeVar("Given")

_ATTEMPTS = 6
_LONGEST_WAIT = 0.05  # seconds
_DEADLOCK, _SERIALIZATION, _NOT_UNIQUE = "40P01", "40001", "23505"  # SQLSTATE
# Two at once made the task of an item that counts: whoever comes second finds the first one's when it is done again.
_ONE_COUNTED = "one_counted_task_an_item"


def again_after_deadlock(act: Callable[Asked, Given]) -> Callable[Asked, Given]:
    """`act`, a transaction of its own, done again when a deadlock or a faster one ended it. Within another transaction
    it is that one's to be done again. Raises what `act` raises.
    """

    @wraps(act)
    def act_again(*args: Asked.args, **kwargs: Asked.kwargs) -> Given:
        for _ in range(_ATTEMPTS - 1):
            try:
                return act(*args, **kwargs)
            except (OperationalError, IntegrityError) as error:
                if connection.in_atomic_block or not _is_passing(error):
                    raise
                time.sleep(random.uniform(0, _LONGEST_WAIT))
        return act(*args, **kwargs)

    return act_again


def _is_passing(error: DatabaseError) -> bool:
    state = getattr(error.__cause__, "sqlstate", None)
    return state in (_DEADLOCK, _SERIALIZATION) or (state == _NOT_UNIQUE and _ONE_COUNTED in str(error))
