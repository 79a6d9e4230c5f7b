"""Spans marked in a text, and the pages that show them so."""

import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from annotate.models import Annotation, Item
from review.models import ReviewRound, ReviewTask
from review.services.queue import task_submit, tasks_claim
from review.services.rounds import round_create
from review.setup import RoundSetup
from review.span_marks import Piece, SpanMark, marked
from tests.factories import make_criticism_run, make_membership, make_user
from tests.span_answers import (
    TEXT,
    make_calibration_answer,
    make_span_item,
    make_span_project,
    make_span_round,
    make_span_run,
    span_answer,
)


def test_pieces_are_cut_where_marks_begin_and_end() -> None:
    marks = [
        SpanMark(2, 5, "machine", "small"),
        SpanMark(4, 7, "human", "ann"),
        SpanMark(2, 5, "machine", "big"),
    ]

    assert marked("0123456789", marks) == [
        Piece("01"),
        Piece("23", "machine", "small, big"),
        Piece("4", "machine human", "small, ann, big"),
        Piece("56", "human", "ann"),
        Piece("789"),
    ]


def test_no_answer_and_what_is_not_in_the_text_mark_nothing() -> None:
    assert marked("😀ab", [SpanMark(0, 0, "human", "ann"), SpanMark(2, 9, "ok", "gold")]) == [Piece("😀ab")]
    assert marked("😀ab", [SpanMark(1, 2, "ok", "gold")])[1] == Piece("a", "ok", "gold")
    assert marked("", []) == []


@given(st.text(max_size=20), st.lists(st.tuples(st.integers(-3, 25), st.integers(-3, 25)), max_size=6))
def test_the_pieces_are_the_text(text: str, spans: list[tuple[int, int]]) -> None:
    pieces = marked(text, [SpanMark(start, end, "human", "ann") for start, end in spans])

    assert "".join(piece.text for piece in pieces) == text


def item_page(client: Client, item: Item) -> str:
    response = client.get(reverse("item", args=[item.project_id, item.pk]))
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.django_db
class TestItemPage:
    def test_what_was_said_is_marked_in_the_text(self, client: Client):
        round = make_span_round(("Seehausen", "", None), 3)
        user = round.created_by
        client.force_login(user)
        first, second, third = Item.objects.order_by("pk")
        for task in tasks_claim(round=round, user=user, count=3):
            if task.item_id != third.pk:
                said = "the Weser" if task.item_id == first.pk else ""
                task_submit(task=task, user=user, answer=span_answer(task, said))

        page = item_page(client, first)
        assert '<mark class="span" data-tone="machine ok" title="small · cot, gold">Seehausen</mark>' in page
        assert f'data-tone="human" title="{user.username}">the Weser</mark>' in page
        assert "“the Weser”" in page
        page = item_page(client, second)
        assert page.count(">no answer</span>") == 2  # the machine's, and the person's
        assert "“no answer”" in page
        assert '<mark class="span" data-tone="ok" title="gold">Seehausen</mark>' in page
        page = item_page(client, third)
        assert ">no answer</span>" not in page
        assert 'data-tone="machine"' not in page.split("What machines said")[0]

    def test_gold_and_calibration_answers(self, client: Client):
        project = make_span_project()
        client.force_login(project.created_by)
        item, none = make_span_item(project, "Seehausen", "near Seehausen"), make_span_item(project)
        make_calibration_answer(item, "the Weser")
        make_calibration_answer(none)

        page = item_page(client, item)
        assert 'data-tone="ok" title="calibration">the Weser</mark>' in page
        assert 'data-tone="ok" title="gold">near </mark>' in page
        assert '<div dir="auto">near Seehausen</div>' in page
        assert item_page(client, none).count(">no answer</span>") == 2

    def test_to_a_viewer_the_gold_answers_are_not_shown(self, client: Client):
        round = make_span_round(("the Weser",), 1)
        viewer = make_user()
        make_membership(round.project, viewer, "viewer")
        client.force_login(viewer)
        page = item_page(client, Item.objects.get())

        assert 'data-tone="machine" title="small · cot">the Weser</mark>' in page
        assert 'data-tone="ok"' not in page

    def test_a_text_is_never_markup(self, client: Client):
        project = make_span_project()
        client.force_login(project.created_by)
        item = make_span_item(project, known=False, text="<b>x</b> & y")
        make_span_run(project, {item: "<b>x</b>"})

        page = item_page(client, item)
        assert ">&lt;b&gt;x&lt;/b&gt;</mark> &amp; y</div>" in page


def conflict() -> ReviewRound:
    """An item to which two people gave different answers."""
    ann, bob = make_user("ann"), make_user("bob")
    project = make_span_project(reviewers=(ann, bob))
    run = make_span_run(project, {make_span_item(project): "Seehausen"})
    setup = RoundSetup(overlap=2, overlap_share=1.0)
    round = round_create(run=make_criticism_run(run), user=project.created_by, count=1, setup=setup)
    for user, said in ((ann, "the Weser"), (bob, "")):
        (task,) = tasks_claim(round=round, user=user)
        task_submit(task=task, user=user, answer=span_answer(task, said))
    return round


@pytest.mark.django_db
def test_the_adjudication_page_shows_them_in_place(client: Client) -> None:
    round = conflict()
    client.force_login(round.created_by)
    task = ReviewTask.objects.get(purpose=ReviewTask.Purpose.ADJUDICATION)
    address = reverse("adjudicate", args=[round.project_id, task.pk])
    page = client.get(address).content.decode()

    assert '<mark class="span" data-tone="machine" title="small · cot">Seehausen</mark>' in page
    assert '<mark class="span" data-tone="human" title="ann">the Weser</mark>' in page
    assert page.count(">no answer</span>") == 1
    at = TEXT.index("the Weser")
    assert f'value="{at}-{at + 9}"' in page

    Annotation.objects.update(answer="", start=0, end=0)
    assert client.get(address).content.decode().count(">no answer</span>") == 2
