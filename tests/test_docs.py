"""The pages of docs/ name what there is: links lead somewhere, pictures are shown, and tables are complete."""

import re
from pathlib import Path

import pytest

from config.api_urls import urlpatterns
from review.browsing import NAMES, SORTS, STATUSES
from review.keys import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def anchors(page: Path) -> set[str]:
    """Of the page's headings, as they are made of their words."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_picture_is_shown_and_small() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "docs/images").iterdir():
        assert f"images/{picture.name}" in text
        assert picture.stat().st_size < 200_000


def test_keys_of_the_review_screen_are_all_described() -> None:
    table = "".join(
        line for line in (ROOT / "docs/reviewing.md").read_text().splitlines() if line.startswith("| `")
    )
    for command in COMMANDS:
        for key in command.keys:
            shown = " ".join(f"`{part.upper()}`" for part in (key.split("+") if len(key) > 1 else [key]))
            assert shown in table.replace("`Shift`", "`SHIFT`"), command.name


def test_filters_of_the_list_of_items_are_all_described() -> None:
    text = (ROOT / "docs/browsing.md").read_text()
    for name in [*NAMES, *STATUSES, *SORTS]:
        assert f"`{name}`" in text


def test_addresses_of_the_api_are_all_listed() -> None:
    patterns = {str(each.pattern) for each in urlpatterns if str(each.pattern)}
    served = {re.sub(r"<int:\w+>", "{id}", pattern).replace("<str:key>", "{key}") for pattern in patterns}
    listed = set()
    for row in re.findall(
        r"^\| (`.+?) \| ", (ROOT / "docs/api.md").read_text().partition("## All addresses")[2], re.M
    ):
        whole = ""
        for address in re.findall(r"`([^`]+)`", row):
            if not address.startswith("…/"):
                whole = address
            # "…" is as much of the address before it as gives one that there is.
            parts = whole.rstrip("/").split("/")
            beginnings = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
            choices = [beginning + address[1:] for beginning in beginnings] if "…" in address else [address]
            listed.add(next((choice for choice in choices if choice in served), address))
    assert listed == served - {"schema/"}  # named above the table
