"""Whether two rows say the same: a digest of what an item consists of, and which contents a project has already."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from annotate.models import Item, Upload

# What a digest is of, as the values of an item's row in the database.
CONTENT = ("text", "question", "image__sha256", "columns", "gold__name", "gold_answers")
_ROWS_AT_ONCE = 5000


def content_digest(
    text: str, question: str, image: str | None, columns: Mapping[str, Any], gold: str | None, answers: Any
) -> int:
    """64 bits of a digest of an item's content, as a signed number; `image` is the SHA-256 of its bytes.

    Two different contents have the same one with a chance of less than 1 in 10 million among a million.
    """
    plain = {name: _plain(value) for name, value in columns.items()}
    content = json.dumps(
        [text, question, image or "", plain, gold or "", answers], sort_keys=True, ensure_ascii=False
    )
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little", signed=True)


def _plain(value: Any) -> Any:
    """A database may give 100000 back for 1e5."""
    return int(value) if type(value) is float and value.is_integer() else value


class KnownContents:
    """The contents of the project's items from other uploads, 8 bytes for each.

    A row without an id of its own is there already when one of them is the same.
    """

    def __init__(self, upload: Upload, *, keep_alive: Callable[[], None]) -> None:
        others = Item.objects.filter(project=upload.project_id).exclude(upload=upload.pk).order_by()
        contents = others.values_list(*CONTENT).iterator(chunk_size=_ROWS_AT_ONCE)
        self._digests = np.fromiter(_digests(contents, keep_alive), dtype=np.int64)
        self._digests.sort()

    def has(self, digest: int) -> bool:
        at = int(np.searchsorted(self._digests, digest))
        return at < len(self._digests) and int(self._digests[at]) == digest


def _digests(contents: Any, keep_alive: Callable[[], None]) -> Any:
    for number, content in enumerate(contents):
        if number % _ROWS_AT_ONCE == 0:
            keep_alive()
        yield content_digest(*content)
