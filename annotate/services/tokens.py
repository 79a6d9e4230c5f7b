"""API tokens: made once, shown once, revoked."""

from datetime import timedelta

from django.db.models import QuerySet
from knox.models import AuthToken

from annotate.models import User


def tokens_of(user: User) -> "QuerySet[AuthToken]":
    """The user's tokens, newest first. Of each, only its first characters are known."""
    tokens: QuerySet[AuthToken] = AuthToken.objects.filter(user=user).order_by("-created")
    return tokens


def token_create(*, user: User, days: int) -> tuple[AuthToken, str]:
    """A new token, and its text, which is known now and never again. `days` 0: it does not expire."""
    token, text = AuthToken.objects.create(user=user, expiry=timedelta(days=days) if days else None)
    return token, text


def token_revoke(*, user: User, beginning: str) -> int:
    """Revoke the user's token that begins so; returns how many were revoked."""
    revoked, _ = AuthToken.objects.filter(user=user, token_key=beginning).delete()
    return int(revoked)
