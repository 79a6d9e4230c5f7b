"""A cache that is never a reason for a page to fail: while Redis is gone, each process remembers for itself."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import TimeoutError as RedisSilent
from redis.retry import Retry

# How long Redis is left alone after it failed, so that a page waits for it once and not with every look.
LEFT_ALONE_SECONDS = 5.0
# A Redis that was started anew breaks the connections that are kept: those are tried once more. It is on the same
# network or machine, so that a second is long.
CONNECTION_OPTIONS = {
    "socket_connect_timeout": 1,
    "socket_timeout": 2,
    "retry": Retry(NoBackoff(), 1),
}

Answer = TypeVar("Answer")


class ForgivingRedisCache(RedisCache):
    """Redis, or this process's own memory while Redis cannot be reached.

    What is kept here is computed again or counted anew where it is missing, so that two memories that differ are no
    harm.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = CONNECTION_OPTIONS | params.get("OPTIONS", {})
        super().__init__(server, params | {"OPTIONS": options})
        self._own = LocMemCache("while redis is gone", params)
        self._left_alone_until = float("-inf")

    def add(self, *args: Any, **options: Any) -> bool:
        return self._either(super().add, self._own.add, *args, **options)

    def get(self, *args: Any, **options: Any) -> Any:
        return self._either(super().get, self._own.get, *args, **options)

    def set(self, *args: Any, **options: Any) -> None:
        self._either(super().set, self._own.set, *args, **options)

    def touch(self, *args: Any, **options: Any) -> bool:
        return self._either(super().touch, self._own.touch, *args, **options)

    def delete(self, *args: Any, **options: Any) -> bool:
        return self._either(super().delete, self._own.delete, *args, **options)

    def get_many(self, *args: Any, **options: Any) -> dict[Any, Any]:
        return self._either(super().get_many, self._own.get_many, *args, **options)

    def has_key(self, *args: Any, **options: Any) -> bool:
        return self._either(super().has_key, self._own.has_key, *args, **options)

    def incr(self, *args: Any, **options: Any) -> int:
        return self._either(super().incr, self._counted_here, *args, **options)

    def set_many(self, *args: Any, **options: Any) -> list[Any]:
        return self._either(super().set_many, self._own.set_many, *args, **options)

    def delete_many(self, *args: Any, **options: Any) -> None:
        self._either(super().delete_many, self._own.delete_many, *args, **options)

    def clear(self) -> None:
        self._own.clear()
        self._either(super().clear, self._own.clear)

    def _counted_here(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """A count that began in Redis goes on from 0."""
        self._own.add(key, 0, version=version)
        return self._own.incr(key, delta, version=version)

    def _either(
        self, shared: Callable[..., Answer], own: Callable[..., Answer], *args: Any, **options: Any
    ) -> Answer:
        if time.monotonic() >= self._left_alone_until:
            try:
                return shared(*args, **options)
            except (RedisGone, RedisSilent):
                self._left_alone_until = time.monotonic() + LEFT_ALONE_SECONDS
        return own(*args, **options)
