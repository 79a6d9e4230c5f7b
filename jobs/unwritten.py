"""Answers that have arrived and are not in the database yet. They are paid for, so they are kept in a file beside it at
once: a worker that is killed, or a database that is gone for a while, loses none of them.

Each chunk has a file of its own, with a line for each answer. Whoever takes the chunk next reads it. On a machine with
another data folder there is nothing to read, and what was not written is asked for again.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from io import FileIO
from pathlib import Path

from django.conf import settings

from jobs.answers import reply_of
from jobs.models import Chunk
from mllm.messages import Reply

_FORGET_AFTER_SECONDS = 7 * 24 * 3600.0
_FIELDS = tuple(field.name for field in fields(Reply))


class Unwritten:
    """The file of one chunk. `keep` may be called from another thread than the rest."""

    def __init__(self, chunk: Chunk) -> None:
        # Numbers of chunks that were deleted may come again; with the time they do not.
        self._path = _folder() / f"{chunk.pk}-{chunk.created_at:%Y%m%d%H%M%S%f}.jsonl"
        self._file: FileIO | None = None

    def read(self) -> dict[tuple[int, str], Reply]:
        """What arrived before, by subject and request key. A line that was cut off when its writer died is left out."""
        found: dict[tuple[int, str], Reply] = {}
        for line in self._lines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                subject, key, reply = json.loads(line)
                found[subject, key] = reply_of(reply)
        return found

    def _lines(self) -> Iterator[bytes]:
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            yield from file

    def keep(self, subject: int, key: str, reply: Reply) -> None:
        """Keep an answer. One write call, so that a kill comes before or after it; a full disk is no reason to stop."""
        said = {name: getattr(reply, name) for name in _FIELDS}
        line = json.dumps([subject, key, said], default=asdict).encode() + b"\n"
        with contextlib.suppress(OSError):
            if self._file is None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = FileIO(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")
            self._file.write(line)

    def forget(self) -> None:
        """The database has everything."""
        self._path.unlink(missing_ok=True)


def forget_old() -> None:
    """Delete what nobody came back for."""
    oldest = time.time() - _FORGET_AFTER_SECONDS
    for path in _folder().glob("*.jsonl"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _folder() -> Path:
    folder: Path = settings.DATA_DIR / "unwritten"
    return folder
