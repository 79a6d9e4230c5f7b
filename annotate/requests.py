"""Requests as views see them, once the middleware has been through."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from annotate.models import User


class PageRequest(HttpRequest):
    """A request of somebody who is signed in: LoginRequiredMiddleware turns all others away."""

    user: User
    htmx: HtmxDetails
