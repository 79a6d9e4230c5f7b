"""What people write, on pages: Markdown of guidelines, and comments as plain text with links to items."""

import re

from django import template
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from annotate.markdown import markdown as as_html

register = template.Library()

# The address of an item, with or without the site before it; the site is left out of the link.
_ITEM = re.compile(r"(?:https?://[^\s/<>\"']+)?(?P<path>/projects/\d+/items?/[^\s<>\"']*[^\s<>\"'.,;:!?)\]])")


@register.filter
def markdown(text: str, top: int = 3) -> SafeString:
    """Markdown as safe HTML; its largest headings have the level `top`."""
    return as_html(text, top)


@register.filter
def item_links(text: str) -> SafeString:
    """Plain text in which addresses of items are links within this site."""
    parts: list[str] = []
    last = 0
    for found in _ITEM.finditer(text):
        parts.append(escape(text[last : found.start()]))
        parts.append(format_html('<a href="{}">{}</a>', found["path"], found.group()))
        last = found.end()
    parts.append(escape(text[last:]))
    return mark_safe("".join(parts))  # noqa: S308 (each part was escaped)
