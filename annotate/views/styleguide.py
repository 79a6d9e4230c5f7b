"""The components on one page, for those who write pages. Only there while DEBUG is on."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET


@require_GET
def styleguide(request: HttpRequest) -> HttpResponse:
    if not settings.DEBUG:
        raise Http404
    counts = [310, 260, 180, 140, 90, 70, 60, 44, 40, 31, 25, 22, 20, 17, 15, 14, 12, 11, 9, 6]
    return render(
        request,
        "styleguide.html",
        {
            "counts": counts,
            "selected": [0] * 12 + counts[12:],
            "points": [(i / 20, 1 - (1 - i / 20) ** 2.4) for i in range(21)],
            "parts": [
                {"label": "Answered", "value": 120, "tone": "human"},
                {"label": "Being looked at", "value": 4, "tone": "accent"},
                {"label": "Waiting", "value": 76, "tone": "quiet"},
            ],
            "values": [3, 4, 4, 6, 9, 7, 8, 12, 13],
            "tones": ["quiet", "ok", "warn", "bad", "busy", "machine", "human"],
        },
    )
