"""Markdown as HTML that is safe to show to everybody: what people write about labels, for people.

HTML in it is shown as text. Links go to the web, to mail or within the site; nothing is loaded from elsewhere, so that
reading a guideline tells nobody: images are links to themselves. No style attributes: the site's policy forbids them.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

_SCHEMES = {"http", "https", "mailto"}
_BEFORE_PATH = re.compile(r"[^/?#]*")
_HEADING_LEVELS = 6
_KEPT = 512  # rendered texts: pages of long label sets show the same ones again and again


def is_safe_link(address: str) -> bool:
    """Whether a link may go there: http, https, mailto, or an address within the site."""
    authority = _BEFORE_PATH.match(address)
    before = authority.group() if authority else ""
    return ":" not in before or before.partition(":")[0].lower() in _SCHEMES


def _images_as_links(state: StateCore) -> None:
    """Put a link in the place of each image; where it already lies in a link, its words alone."""
    for block in state.tokens:
        if block.children:
            block.children = _without_images(block.children)


def _without_images(tokens: Sequence[Token]) -> list[Token]:
    kept: list[Token] = []
    links = 0
    for token in tokens:
        links += {"link_open": 1, "link_close": -1}.get(token.type, 0)
        if token.type != "image":
            kept.append(token)
            continue
        source = str(token.attrGet("src") or "")
        words = Token("text", "", 0, content=_words(token.children or []) or source)
        if links:
            kept.append(words)
        else:
            kept += [Token("link_open", "a", 1, attrs={"href": source}), words, Token("link_close", "a", -1)]
    return kept


def _words(tokens: Sequence[Token]) -> str:
    return "".join(_words(token.children) if token.children else token.content for token in tokens)


def _link_open(
    renderer: RendererHTML, tokens: Sequence[Token], position: int, options: OptionsDict, env: EnvType
) -> str:
    """Links open beside the page: whoever reviews keeps their place."""
    token = tokens[position]
    if not str(token.attrGet("href") or "").startswith("#"):
        token.attrSet("target", "_blank")
        token.attrSet("rel", "noopener")
    return renderer.renderToken(tokens, position, options, env)


def _cell_open(
    renderer: RendererHTML, tokens: Sequence[Token], position: int, options: OptionsDict, env: EnvType
) -> str:
    token = tokens[position]
    style = token.attrs.pop("style", "")
    if style == "text-align:right":
        token.attrSet("class", "num")
    return renderer.renderToken(tokens, position, options, env)


def _table_open(*_: object) -> str:
    return '<div class="prose-table" role="region" aria-label="Table" tabindex="0"><table>\n'


def _table_close(*_: object) -> str:
    return "</table></div>\n"


def _heading(
    renderer: RendererHTML, tokens: Sequence[Token], position: int, options: OptionsDict, env: EnvType
) -> str:
    token = tokens[position]
    level = int(token.tag[1:]) + env["top"] - 1
    closing = "/" if token.nesting == -1 else ""
    return f"<{closing}h{min(level, _HEADING_LEVELS)}>" + ("\n" if closing else "")


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.validateLink = is_safe_link  # type: ignore[method-assign, assignment]
    parser.core.ruler.push("images_as_links", _images_as_links)
    rules: dict[str, Callable[..., str]] = {
        "link_open": _link_open,
        "th_open": _cell_open,
        "td_open": _cell_open,
        "table_open": _table_open,
        "table_close": _table_close,
        "heading_open": _heading,
        "heading_close": _heading,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


_MARKDOWN = _parser()


@lru_cache(maxsize=_KEPT)
def markdown(text: str, top: int = 3) -> SafeString:
    """The text as HTML, "" for an empty one. Its largest headings have the level `top`, from 1 to 6."""
    html: str = _MARKDOWN.render(text, {"top": top}).strip()
    return mark_safe(html)  # noqa: S308 (HTML in the text was escaped)
