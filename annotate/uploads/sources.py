"""Where bytes come from: a file on disk, or a member of a zip."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes that can be read from the start any number of times. `name` is the name the user knows."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    @property
    def suffix(self) -> str:
        """The name's last extension in lower case with its dot, or ""."""
        return Path(self.name).suffix.lower()

    def head(self, count: int) -> bytes:
        """The first `count` bytes, or fewer where the source is shorter."""
        with self.open() as stream:
            return stream.read(count)


def file_source(path: Path, name: str) -> Source:
    """The file at `path`, called `name` by its user."""
    return Source(name=name, size=path.stat().st_size, open=lambda: path.open("rb"))
