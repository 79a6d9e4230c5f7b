"""What is said when the disk is full: which errors mean it, and the sentences for senders and for jobs."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError

from annotate.errors import Refusal
from jobs.work import CannotGoOn

SENTENCE = "The disk of the server is full. Free some space there, then go on."
NOTHING_KEPT = (
    "The disk of the server is full, so nothing of this was kept. Whoever looks after the server has to free some "
    "space; then send it again."
)
FAILURE = "disk_full"
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# As SQLite, and as PostgreSQL, say it.
_WORDS = ("disk is full", "no space left on device")


class FullDisk(Refusal):
    """What was sent could not be kept. Nothing of it is left, and it can be sent again once there is room."""


def is_full_disk(error: BaseException) -> bool:
    """Whether the file system, or the database, had no room for what was written."""
    if isinstance(error, FullDisk):
        return True
    if isinstance(error, OSError):
        return error.errno in _NUMBERS
    return isinstance(error, DatabaseError) and any(words in str(error).lower() for words in _WORDS)


@contextmanager
def pausing_on_full_disk() -> Iterator[None]:
    """Raise CannotGoOn, which pauses the job, where the disk has no room."""
    try:
        yield
    except (OSError, DatabaseError) as error:
        if is_full_disk(error):
            raise CannotGoOn(SENTENCE, failure=FAILURE) from error
        raise
