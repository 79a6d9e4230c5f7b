"""Numbers that take long to count: kept, shown when they are old, and counted anew by one of those who ask."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache

# From so many items on, counting takes longer than a page may.
LARGE = 10_000
# What was counted is good for so many times as long as that took, but no longer than a minute: counting never takes
# more than a hundredth of the time, or a few seconds a minute.
_KEPT_TIMES = 100
_KEPT_AT_MOST = 60  # seconds
_FORGOTTEN_AFTER = 24 * 3600
_COUNTING_AT_MOST = 60  # seconds


@dataclass(frozen=True, slots=True)
class Kept:
    """What was counted last, and until when it is good, as Unix time."""

    value: Any  # None too, which no cache tells from nothing
    until: float

    @property
    def is_old(self) -> bool:
        return time.time() >= self.until


def last_counted(key: str) -> Kept | None:
    """However old; None where it was never counted."""
    kept: Kept | None = cache.get(key)
    return kept


def counted(key: str, count: Callable[[], Any], *, at_least: float = 0.0) -> Any:
    """What `count` gives, or gave a moment ago: `at_least` so many seconds, however quick it was.

    Of all who ask when it is no longer good, one has it counted; the others get what there is.
    """
    kept = last_counted(key)
    is_counting = f"{key}-counting"
    if kept is not None and (not kept.is_old or not cache.add(is_counting, True, _COUNTING_AT_MOST)):
        return kept.value
    try:
        began = time.perf_counter()
        value = count()
        took = time.perf_counter() - began
        good_for = min(_KEPT_AT_MOST, max(at_least, _KEPT_TIMES * took))
        cache.set(key, Kept(value, time.time() + good_for), _FORGOTTEN_AFTER)
        return value
    finally:
        cache.delete(is_counting)
