"""Requests as views see them, once the middleware has been through."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from annotate.models import User

_MOST_DIGITS = 18  # of a number that is surely less than 2**63


class PageRequest(HttpRequest):
    """A request of somebody who is signed in: LoginRequiredMiddleware turns all others away."""

    user: User
    htmx: HtmxDetails


def asked_text(request: HttpRequest, name: str) -> str:
    """A text that the address asks for, "" without one. No row holds NUL, and PostgreSQL refuses to look for it."""
    return without_nul(request.GET.get(name, ""))


def number_of(text: str) -> int | None:
    """The id or place that a text in an address or a form names, from 0; None where it is no number, or one that no
    database holds.
    """
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def without_nul(text: str) -> str:
    """The text with a replacement character for each NUL."""
    return text.replace("\0", "\ufffd")
