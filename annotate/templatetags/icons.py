"""Our own few icons, drawn on a 20×20 grid with strokes."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_PATHS = {
    "check": "M4 10.5 8.2 15 16 5.8",
    "cross": "M5 5l10 10M15 5 5 15",
    "plus": "M10 4v12M4 10h12",
    "arrow": "M4 10h12M11 5l5 5-5 5",
    "back": "M16 10H4M9 5l-5 5 5 5",
    "up": "M10 16V4M5 9l5-5 5 5",
    "down": "M10 4v12M5 11l5 5 5-5",
    "warning": "M10 3 18 17H2L10 3ZM10 8v4M10 14.6v.1",
    "info": "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15ZM10 9v5M10 6.2v.1",
    "person": "M10 10a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM3.5 17c.6-3.4 3.2-5 6.5-5s5.9 1.6 6.5 5",
    "upload": "M10 13V3M6 7l4-4 4 4M3 13v4h14v-4",
    "download": "M10 3v10M6 9l4 4 4-4M3 13v4h14v-4",
    "search": "M9 3a6 6 0 1 0 0 12A6 6 0 0 0 9 3ZM13.5 13.5 17 17",
    "image": "M3 4h14v12H3ZM3 13l4-4 4 4 2.5-2.5L17 14M13 7.5v.1",
    "text": "M4 5h12M4 9h12M4 13h8",
    "question": "M7 7.5C7 5.5 8.3 4.5 10 4.5s3 1.1 3 2.7c0 2.3-3 2.3-3 4.8M10 15.4v.1",
    "agree": "M3 4h7v7H3ZM13 5h4M13 9h4M3 15h14",
    "plug": "M7 3v4M13 3v4M5 7h10v3a5 5 0 0 1-10 0V7ZM10 15v3",
    "pause": "M7 4v12M13 4v12",
    "play": "M6 4l10 6-10 6V4Z",
    "undo": "M7 4 3 8l4 4M3 8h8a5 5 0 0 1 0 10H8",
    "key": "M6.5 9.5a3 3 0 1 0 0 6 3 3 0 0 0 0-6ZM8.7 10.4 16 3M13 6l2.5 2.5",
    "more": "M4 10h.1M10 10h.1M16 10h.1",
    "turn_left": "M4.2 11.5A6 6 0 1 0 5.5 6L4 7.8M4 3.5v4.3h4.3",
    "turn_right": "M15.8 11.5A6 6 0 1 1 14.5 6L16 7.8M16 3.5v4.3h-4.3",
    "contrast": "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM10 3v14M12.5 5v10M15 7v6",
    "trash": "M3.5 5.5h13M8 5V3h4v2M5 5.5 6 17h8l1-11.5",
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """The icon as SVG, hidden from screen readers: the words beside it say the same. Raises KeyError."""
    return format_html(
        '<svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><path d="{}"/></svg>',
        mark_safe(_PATHS[name]),  # noqa: S308 (our own constants)
    )
