"""What people write, on pages: Markdown of guidelines."""

from django import template
from django.utils.safestring import SafeString

from annotate.markdown import markdown as as_html

register = template.Library()


@register.filter
def markdown(text: str, top: int = 3) -> SafeString:
    """Markdown as safe HTML; its largest headings have the level `top`."""
    return as_html(text, top)
