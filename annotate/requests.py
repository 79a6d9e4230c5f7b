"""Requests as views see them, once the middleware has been through."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from annotate.models import User


class PageRequest(HttpRequest):
    """A request of somebody who is signed in: LoginRequiredMiddleware turns all others away."""

    user: User
    htmx: HtmxDetails


def asked_text(request: HttpRequest, name: str) -> str:
    """A text that the address asks for, "" without one. No row holds NUL, and PostgreSQL refuses to look for it."""
    return without_nul(request.GET.get(name, ""))


def without_nul(text: str) -> str:
    """The text with a replacement character for each NUL."""
    return text.replace("\0", "\ufffd")
