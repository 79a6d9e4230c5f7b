"""The page of agreement, its CSV files and the API: figures, words, and what is said where nothing can be."""

import csv
import io
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Membership, User
from review.models import ReviewRound, ReviewTask
from tests.factories import make_items, make_membership, make_round, make_user
from tests.review.turns import items_of, make_labeled_round, make_people, make_turn
from tests.written_answers import make_ratings, make_written_project, make_written_run

pytestmark = pytest.mark.django_db

Arm = ReviewTask.Arm


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(page: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


@pytest.fixture
def round() -> ReviewRound:
    """Ten items; ann and bob answered all, cy half; they differ on two, and once cy with both."""
    round = make_labeled_round(items=10, labels=("negative", "positive", "unused"))
    ann, bob, cy = make_people(round.project, "ann", "bob", "=cy")
    for place, item in enumerate(items_of(round)):
        said = "positive" if place % 2 else "negative"
        make_turn(round, item, ann, said)
        make_turn(round, item, bob, "positive" if place in (0, 2) else said)
        if place < 5:
            make_turn(round, item, cy, said)
    return round


@pytest.fixture
def owner(round: ReviewRound) -> Client:
    return signed_in(round.project.created_by)


def page_of(client: Client, of: ReviewRound, **query: Any) -> Any:
    return client.get(reverse("agreement", args=[of.project_id]), query)


def test_the_page_says_how_far_people_agree(round, owner):
    words = text_of(page_of(owner, round))

    assert "10 items with 25 answers of 3 people, all beside the machine's label" in words.replace(
        "&#x27;", "'"
    )
    assert "said the same in 87 of 100 cases" in words
    assert "Fleiss' κ takes luck off" in words.replace("&#x27;", "'")
    assert "it is fair: enough for tentative conclusions" in words
    assert "Most confused are negative and positive : 4 pairs" in words
    assert "ann and bob" in words
    assert "with fewer than 30 items they are rough" in words
    assert "All reviewers" in words
    assert "NaN" not in words
    assert "None" not in words


def test_a_round_a_kind_of_answers_a_pair_and_a_reviewer_can_be_chosen(round, owner):
    other = make_round(round.criticism_run, 2)
    blind = items_of(other)[0]
    for name in ("ann", "bob"):
        make_turn(other, blind, User.objects.get(username=name), "positive", arm=Arm.BLIND)

    mixed = text_of(page_of(owner, round))
    alone = text_of(page_of(owner, round, round=other.pk))
    shown = text_of(page_of(owner, round, seen="shown"))
    pair = page_of(owner, round, pair="1-2", reviewer=User.objects.get(username="ann").pk)

    assert "Who sees a label agrees more easily" in mixed
    assert "1 item with 2 answers of 2 people, all blind" in alone
    assert "10 items with 25 answers" in shown
    assert '<option value="1-2" selected>bob and =cy</option>' in pair.content.decode()
    assert re.search(r"selected>ann</option>", pair.content.decode())


@pytest.mark.parametrize(
    "query", [{"round": "x"}, {"round": "99"}, {"seen": "y"}, {"pair": "8-9"}, {"reviewer": "-"}]
)
def test_choices_that_are_none_change_nothing(round, owner, query):
    assert "10 items with 25 answers" in text_of(page_of(owner, round, **query))


def test_the_empty_page_says_how_to_get_overlap():
    round = make_labeled_round(items=2)

    page = page_of(signed_in(round.project.created_by), round)

    assert "No item has two answers yet" in text_of(page)
    assert "Draw a round with overlap" in text_of(page)
    assert "Nobody has answered an item with a machine" in text_of(page)


def test_one_label_alone_is_said_in_words():
    round = make_labeled_round(items=3)
    for person in make_people(round.project, "ann", "bob"):
        for item in items_of(round):
            make_turn(round, item, person, "negative")

    words = text_of(page_of(signed_in(round.project.created_by), round))

    assert "everybody gave the same label" in words
    assert "drawing them again says nothing, so there is no interval" in words
    assert "they are the same everywhere" in words


def test_written_answers_have_percent_agreement_alone():
    project = make_written_project()
    make_items(project, 2)
    round = make_round(make_ratings(make_written_run(project), [0.2, 0.4]), 2)
    for person, text in zip(make_people(project, "ann", "bob"), ("One.", "Two."), strict=True):
        make_turn(round, items_of(round)[0], person, text)

    words = text_of(page_of(signed_in(project.created_by), round))

    assert "said the same in 0 of 100 cases" in words
    assert "the same means the same text" in words
    assert "Which labels are confused" not in words
    assert "What reviewers see" not in words


@pytest.mark.parametrize(
    ("table", "header", "first"),
    [
        ("overall", "items", "10"),
        ("labels", "label", "negative"),
        ("pairs", "first", "ann"),
        ("confused", "label", "positive"),
        ("pair_confusion", "first", "ann"),
        ("machine", "reviewer", "all reviewers"),
        ("machine_confusion", "reviewer", "all reviewers"),
        ("display", "arm", "criticism"),
    ],
)
def test_every_table_comes_as_csv(round, owner, table, header, first):
    answer = owner.get(reverse("agreement_csv", args=[round.project_id, table]), {"round": round.pk})
    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))

    assert answer["Content-Disposition"].endswith(f'-round-{round.pk}-agreement-{table}.csv"')
    assert (rows[0][0], rows[1][0]) == (header, first)
    assert {len(row) for row in rows} == {len(rows[0])}


def test_names_run_nothing_in_a_spreadsheet(round, owner):
    answer = owner.get(reverse("agreement_csv", args=[round.project_id, "pairs"]))

    assert b",'=cy," in b"".join(answer.streaming_content)


def test_there_is_no_other_table(round, owner):
    assert owner.get(reverse("agreement_csv", args=[round.project_id, "passwords"])).status_code == 404


def test_the_api_tells_the_same(round, owner):
    told = owner.get(reverse("api:agreement", args=[round.project_id]), {"round": round.pk}).json()

    assert told["labels"] == ["negative", "positive", "unused"]
    assert told["reviewers"] == ["ann", "bob", "=cy"]
    assert told["overall"]["items"] == 10
    assert told["overall"]["percent"]["value"] == pytest.approx(13 / 15)
    assert [each["label"] for each in told["by_label"]] == ["negative", "positive"]
    assert told["pairs"][0]["confusion"] == [[3, 2, 0], [0, 5, 0], [0, 0, 0]]
    assert told["machine"][0]["reviewer"] is None
    assert (told["answers_shown"], told["answers_blind"]) == (25, 0)


def test_the_api_refuses_a_round_of_another_project(round, owner):
    elsewhere = make_labeled_round(items=1)

    answer = owner.get(reverse("api:agreement", args=[round.project_id]), {"round": elsewhere.pk})

    assert answer.status_code == 400
    assert "There is no review round" in answer.json()["detail"]


def test_the_api_tells_what_seeing_the_label_does(round, owner):
    told = owner.get(reverse("api:review_round_display", args=[round.pk])).json()

    assert [arm["arm"] for arm in told["arms"]] == ["criticism", "label", "blind"]
    assert told["arms"][0]["answers"] == 25
    assert told["arms"][0]["accepted"] == {"count": 0, "total": 0, "value": None, "low": None, "high": None}
    assert told["difference"] is None
    assert told["sentence"].startswith("Too early to say")


def test_viewers_see_it_and_reviewers_do_not(round):
    vera = make_user("vera")
    make_membership(round.project, vera, Membership.Role.VIEWER)

    assert page_of(signed_in(vera), round).status_code == 200
    assert page_of(signed_in(User.objects.get(username="ann")), round).status_code == 403
    assert page_of(signed_in(make_user("sam")), round).status_code == 404
