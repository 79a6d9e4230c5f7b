"""What is said when the disk is full: which errors mean it, and the sentence that stops a job until there is room."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError

from jobs.work import CannotGoOn

SENTENCE = "The disk of the server is full. Free some space there, then go on."
FAILURE = "disk_full"
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# As SQLite, and as PostgreSQL, say it.
_WORDS = ("disk is full", "no space left on device")


def is_full_disk(error: BaseException) -> bool:
    """Whether the file system, or the database, had no room for what was written."""
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
