"""Comments: kept once, resolved and opened again, shown as plain text."""

import uuid

import pytest
from django.template import Context, Template

from annotate.errors import Refusal
from annotate.models import Change, Comment
from annotate.services.comments import comment_add, comment_reopen, comment_resolve
from tests.factories import make_item, make_project, make_user

pytestmark = pytest.mark.django_db


def test_a_comment_sent_twice_is_kept_once() -> None:
    item, author, key = make_item(make_project()), make_user(), uuid.uuid4()
    first = comment_add(item=item, user=author, text=" Why?\r\nIndeed. ", key=key)
    again = comment_add(item=item, user=author, text="Why?", key=key)
    assert first == again
    assert Comment.objects.get().text == "Why?\nIndeed."
    comment_add(item=item, user=author, text="Why?")
    comment_add(item=item, user=author, text="Why?")
    assert Comment.objects.count() == 3


def test_a_key_is_of_one_comment() -> None:
    item, key = make_item(make_project()), uuid.uuid4()
    comment_add(item=item, user=make_user(), text="Why?", key=key)
    with pytest.raises(Refusal, match="belongs to another comment"):
        comment_add(item=item, user=make_user(), text="Why?", key=key)


@pytest.mark.parametrize(("text", "sentence"), [(" \n ", "Write what"), ("a" * 5_001, "this one has 5,001")])
def test_what_is_no_comment_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        comment_add(item=make_item(make_project()), user=make_user(), text=text)
    assert not Comment.objects.exists()


def test_whoever_resolved_it_first_is_named() -> None:
    item, first, second = make_item(make_project()), make_user(), make_user()
    comment = comment_add(item=item, user=first, text="Why?")
    comment_resolve(comment=comment, user=first)
    comment_resolve(comment=comment, user=second)
    assert Comment.objects.get().resolved_by == first
    comment_reopen(comment=comment, user=second)
    comment_reopen(comment=comment, user=second)
    assert Comment.objects.get().resolved_at is None
    actions = Change.objects.order_by("pk").values_list("action", "actor")
    assert list(actions) == [("comment resolved", first.pk), ("comment reopened", second.pk)]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<b>&", "&lt;b&gt;&amp;"),
        ("see /projects/1/items/5/.", 'see <a href="/projects/1/items/5/">/projects/1/items/5/</a>.'),
        (
            "https://evil.example/projects/1/item/a%20b?y=2 ok",
            '<a href="/projects/1/item/a%20b?y=2">https://evil.example/projects/1/item/a%20b?y=2</a> ok',
        ),
        ('/projects/1/item/"onclick="alert(1)', "/projects/1/item/&quot;onclick=&quot;alert(1)"),
        ("javascript:/projects/x", "javascript:/projects/x"),
        ("https://example.org/other", "https://example.org/other"),
    ],
)
def test_addresses_of_items_are_links_within_the_site(text: str, html: str) -> None:
    template = Template("{% load prose %}{{ text|item_links }}")
    assert template.render(Context({"text": text})) == html
