"""Signing in by name and password, slowed down for whoever guesses."""

import hashlib
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from annotate.models import User

MOST_FAILURES = 10
FORGET_AFTER_SECONDS = 5 * 60


class SlowingBackend(ModelBackend):
    """Refuses a name from an address for some minutes after ten wrong passwords in a row, on pages and in the API."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> User | None:
        key = _key(request, username or "")
        if cache.get(key, 0) >= MOST_FAILURES:
            raise PermissionDenied
        user = super().authenticate(request, username=username, password=password)
        if user is None:
            cache.add(key, 0, FORGET_AFTER_SECONDS)
            cache.incr(key)
        else:
            cache.delete(key)
        return user


def is_slowed_down(request: HttpRequest, username: str) -> bool:
    """Whether the name may not be tried from this address just now."""
    return bool(cache.get(_key(request, username), 0) >= MOST_FAILURES)


def _key(request: HttpRequest | None, username: str) -> str:
    address = request.META.get("REMOTE_ADDR", "") if request is not None else ""
    return "sign-in:" + hashlib.sha256(f"{address} {username.lower()}".encode()).hexdigest()
