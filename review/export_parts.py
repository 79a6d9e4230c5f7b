"""The parts of an export's file that are written already: an heir of a dead worker goes on after the last of them."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from review.models import Export


@dataclass(slots=True)
class Parts:
    """Which parts there are, and how far they reach: up to `last`, a cursor of whoever makes the rows.

    `made_of` is a digest of everything that rows depend on beside their items: parts of another are not gone on with.
    """

    made_of: str
    names: list[str] = field(default_factory=list)
    rows: int = 0
    last: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {"made_of": self.made_of, "names": self.names, "rows": self.rows, "last": self.last}

    def with_part(self, name: str, *, rows: int, last: int) -> "Parts":
        return Parts(self.made_of, [*self.names, name], self.rows + rows, last)


def folder_of(export: Export) -> Path:
    return Path(settings.MEDIA_ROOT) / "exports" / str(export.project_id) / f"{export.pk}.parts"


def digest_of(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def parts_of(export: Export, made_of: str) -> Parts:
    """The parts to go on with; none, where there are none or one is not as it was written."""
    kept = export.written
    names = list(kept.get("names", []))
    folder = folder_of(export)
    if kept.get("made_of") != made_of or not all((folder / name).is_file() for name in names):
        return Parts(made_of)
    return Parts(made_of, names, int(kept["rows"]), int(kept["last"]))


def keep_only(export: Export, names: Iterable[str]) -> None:
    """Delete what is not among these parts: half of one, left by a process that died."""
    folder, kept = folder_of(export), set(names)
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)


def forget_parts(export: Export) -> None:
    shutil.rmtree(folder_of(export), ignore_errors=True)


def concatenate(parts: Iterable[Path], path: Path, *, goes_on: Callable[[], bool]) -> bool:
    """Join files; False, and not all of it is there, when it was stopped before the end."""
    with path.open("ab") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
            if not goes_on():
                return False
    return True
