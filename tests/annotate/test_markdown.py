"""Markdown of guidelines: what people may write comes through, and nothing else does."""

from html.parser import HTMLParser
from time import perf_counter

import pytest
from django.template import Context, Template
from hypothesis import given
from hypothesis import strategies as st

from annotate.markdown import is_safe_link, markdown

ALLOWED_TAGS = {"p", "a", "strong", "em", "s", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "br"} | {
    *("h1", "h2", "h3", "h4", "h5", "h6", "div", "table", "thead", "tbody", "tr", "th", "td")
}
ALLOWED_ATTRIBUTES = {"href", "title", "target", "rel", "class", "start", "role", "aria-label", "tabindex"}


class Seen(HTMLParser):
    """Every tag of a piece of HTML with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def links(self) -> list[str]:
        return [attributes["href"] or "" for tag, attributes in self.tags if tag == "a"]


def assert_harmless(html: str) -> None:
    for tag, attributes in Seen(html).tags:
        assert tag in ALLOWED_TAGS, html
        assert set(attributes) <= ALLOWED_ATTRIBUTES, html
        assert is_safe_link(attributes.get("href") or ""), html


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<style>*{display:none}</style>",
    "<!-- <script>alert(1)</script> -->",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;&#x61;vascript&colon;alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](<  javascript:alert(1)>)",
    "[x](\\javascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](file:///etc/passwd)",
    "[x](view-source:javascript:alert(1))",
    "<javascript:alert(1)>",
    "<data:text/html,<script>alert(1)</script>>",
    "[x]\n\n[x]: javascript:alert(1)",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,PHN2Zy8+)",
    '![x](https://example.org/a.png "\\" onerror=\\"alert(1)")',
    '![" onerror="alert(1)](https://example.org/a.png)',
    '[x](https://example.org/"onmouseover="alert(1))',
    "[x](https://example.org 'a\" onclick=\"alert(1)')",
    "[![x](https://example.org/a.png)](javascript:alert(1))",
    "[a ![b [c](javascript:alert(1))](https://example.org/b.png) d](https://example.org)",
    '```"><script>alert(1)</script>\nx\n```',
    "`<script>alert(1)</script>`",
    "| a |\n| --- |\n| <script>alert(1)</script> |",
    "| a |\n| :-: |\n| [x](javascript:alert(1)) |",
    "# <script>alert(1)</script>",
    "> <img src=x onerror=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_comes_through(text: str) -> None:
    assert_harmless(markdown(text))


@given(
    st.lists(
        st.one_of(
            st.sampled_from(HOSTILE),
            st.sampled_from(
                ["[", "]", "(", ")", "<", ">", "!", "`", "*", "|", "\n", "\t", '"', "'", "&", "#"]
            ),
            st.text(max_size=5),
        ),
        max_size=8,
    ).map("".join)
)
def test_nothing_hostile_comes_through_in_any_order(text: str) -> None:
    assert_harmless(markdown(text))


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("https://example.org/a:b", True),
        ("HTTP://example.org", True),
        ("mailto:olga@example.org", True),
        ("/projects/1/", True),
        ("guide#part", True),
        ("?q=a:b", True),
        ("#label-2", True),
        ("", True),
        ("javascript:alert(1)", False),
        ("java\nscript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("ftp://example.org", False),
        ("tel:123", False),
    ],
)
def test_where_links_may_go(address: str, safe: bool) -> None:
    assert is_safe_link(address) is safe


def test_links_open_beside_the_page_and_know_nothing_of_it() -> None:
    [(_, outside)] = [each for each in Seen(markdown("[site](https://example.org)")).tags if each[0] == "a"]
    assert outside == {"href": "https://example.org", "target": "_blank", "rel": "noopener"}
    [(_, inside)] = [each for each in Seen(markdown("[below](#label-1)")).tags if each[0] == "a"]
    assert inside == {"href": "#label-1"}


def test_an_image_is_a_link_to_itself() -> None:
    html = markdown("![a *cat*](https://example.org/cat.png)")
    assert Seen(html).links() == ["https://example.org/cat.png"]
    assert "<img" not in html
    assert "cat</a>" in html
    assert Seen(markdown("![](https://example.org/cat.png)")).links() == ["https://example.org/cat.png"]


def test_an_image_in_a_link_leaves_the_link() -> None:
    html = markdown("[![cat](https://example.org/cat.png)](https://example.org/cats)")
    assert Seen(html).links() == ["https://example.org/cats"]
    assert ">cat</a>" in html


@pytest.mark.parametrize(("top", "tags"), [(1, "h1 h2 h6"), (3, "h3 h4 h6"), (5, "h5 h6 h6")])
def test_headings_begin_at_the_level_that_fits(top: int, tags: str) -> None:
    html = markdown("# One\n\n## Two\n\n###### Six", top)
    assert [tag for tag, _ in Seen(html).tags] == tags.split()
    assert [f"</{tag}>" in html for tag in tags.split()] == [True] * 3


def test_what_guidelines_are_made_of_comes_through() -> None:
    html = markdown(
        "A **bold** _word_, ~~none~~ and `code`.\n\n1. one\n2. two\n\n- a\n- b\n\n> quoted\n\n"
        "| label | count |\n| --- | ---: |\n| a | 1 |\n\n---\n\n    block"
    )
    for part in (
        "<strong>bold",
        "<em>word",
        "<s>none",
        "<code>code",
        "<ol>",
        "<ul>",
        "<blockquote>",
        "<hr",
        "<pre>",
    ):
        assert part in html
    assert '<td class="num">1</td>' in html
    assert "style=" not in html
    assert html.count("<table>") == html.count("</table></div>") == 1


def test_nothing_written_is_nothing_shown() -> None:
    assert markdown("") == ""
    assert markdown(" \n ") == ""


def test_the_filter_renders_in_a_template() -> None:
    template = Template("{% load prose %}{{ text|markdown:4 }}|{{ text|markdown }}")
    shown = template.render(Context({"text": "# <b>Hi</b>"}))
    assert shown == "<h4>&lt;b&gt;Hi&lt;/b&gt;</h4>|<h3>&lt;b&gt;Hi&lt;/b&gt;</h3>"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "*a **b " * 2_800,
        "`" * 20_000,
        "> " * 10_000,
        "![" * 10_000,
        "- " * 10_000,
        "<" * 20_000,
    ],
)
def test_the_longest_nonsense_takes_no_minute(text: str) -> None:
    begun = perf_counter()
    assert_harmless(markdown(text))
    assert perf_counter() - begun < 5
