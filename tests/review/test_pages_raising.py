"""The advice on a round's page, and raising its budget there: who sees it, what it says, what it changes."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from review.models import ReviewRound
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_close
from tests.factories import (
    label_named,
    make_calibration_round,
    make_items,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def page_of(round: ReviewRound, part: str = "", **query: str) -> str:
    address = reverse("review_round", args=[round.project_id, round.pk])
    parts = {"part": part, **query} if part else query
    return address + ("?" + "&".join(f"{name}={value}" for name, value in parts.items()) if parts else "")


def action(round: ReviewRound) -> str:
    return reverse("review_round_action", args=[round.project_id, round.pk, "raise"])


def text_of(client: Client, address: str, **options: dict[str, str]) -> str:
    response = client.get(address, headers=options.get("headers"))
    assert response.status_code == 200
    return response.content.decode()


def answer(round: ReviewRound, count: int, label: str = "positive") -> None:
    for _ in range(count):
        (task,) = tasks_claim(round=round, user=round.created_by)
        task_submit(
            task=task, user=round.created_by, answer=Answer("label", label_named(round.project, label))
        )


@pytest.fixture
def round(client: Client) -> ReviewRound:
    """A round of 40 of 100 items; its owner is signed in."""
    round = make_reviewable_round(100, 40)
    client.force_login(round.created_by)
    return round


class TestAdvice:
    def test_before_enough_answers_it_says_so(self, client: Client, round: ReviewRound) -> None:
        page = text_of(client, page_of(round))

        assert "Too early to say" in page
        assert "0 answers so far: advice needs at least 20" in page
        assert "Errors found in each" not in page

    def test_it_shows_charts_with_their_numbers_a_sentence_and_a_verdict(
        self, client: Client, round: ReviewRound
    ) -> None:
        answer(round, 25)

        page = text_of(client, page_of(round))

        assert "The next 15 reviews should find at most about 15 errors (between 0 and 15)." in page
        assert "Raise the budget</span>" in page
        assert "<td>1–25</td>" in page
        assert "Share wrong against Error probability ε̂, 25 reviewed items in 5 bins" in page
        assert page.count("chart-point") == 6  # five bins and the legend
        assert "chart-chance" in page
        assert "style=" not in page

    def test_ranks_have_no_diagonal_and_the_page_says_so(self, client: Client, round: ReviewRound) -> None:
        assert round.criticism_run is not None
        round.criticism_run.strategy = "mc"
        round.criticism_run.save()
        answer(round, 25)

        page = text_of(client, page_of(round))

        assert "There is no diagonal" in page
        assert "chart-chance" not in page

    def test_the_part_is_sent_alone_and_only_when_something_changed(
        self, client: Client, round: ReviewRound
    ) -> None:
        answer(round, 21)
        before = text_of(client, page_of(round, "advice"), headers=HTMX)
        seen = re.search(r"seen=([\d-]+)", before)
        assert seen is not None
        unchanged = client.get(page_of(round, "advice", seen=seen[1]), headers=HTMX)
        answer(round, 1)

        after = text_of(client, page_of(round, "advice", seen=seen[1]), headers=HTMX)

        assert "<html" not in before
        assert unchanged.status_code == 204
        assert "The next 18 reviews" in after
        answer(round, 18)
        assert "every 5s" not in text_of(client, page_of(round, "advice"), headers=HTMX)

    def test_reviewers_see_nothing_of_it(self, client: Client, round: ReviewRound) -> None:
        reviewer = make_user()
        round.project.memberships.create(user=reviewer, role="reviewer")
        client.force_login(reviewer)
        answer(round, 25)

        for part in ("", "advice", "raise"):
            assert client.get(page_of(round, part), headers=HTMX).status_code == 403
        assert client.post(action(round), {"budget": "50", "unit": "count"}).status_code == 403

    def test_blind_rounds_have_none(self, client: Client) -> None:
        project = make_project()
        client.force_login(project.created_by)
        make_items(project, 4)
        blind = make_calibration_round(project, 2)

        assert "round-advice" not in text_of(client, page_of(blind))
        assert client.get(page_of(blind, "advice"), headers=HTMX).status_code == 404
        assert client.get(page_of(blind, "raise"), headers=HTMX).status_code == 404


class TestRaising:
    def test_the_preview_says_how_many_more_and_what_they_cost(
        self, client: Client, round: ReviewRound
    ) -> None:
        part = text_of(client, page_of(round, "raise", budget="60", unit="count"), headers=HTMX)

        assert "<html" not in part
        assert "<dd>20<small>60 instead of 40</small>" in part
        assert "<dd>$1.60<" in part

    @pytest.mark.parametrize(
        ("budget", "unit", "sentence"),
        [
            ("40", "count", "can only be raised"),
            ("10", "share", "can only be raised"),
            ("101", "count", "more than the 100 items"),
            ("50.5", "count", "whole number"),
            ("", "count", "Enter the budget"),
        ],
    )
    def test_what_is_no_raise_is_answered_with_a_sentence(
        self, client: Client, round: ReviewRound, budget: str, unit: str, sentence: str
    ) -> None:
        part = text_of(client, page_of(round, "raise", budget=budget, unit=unit), headers=HTMX)
        response = client.post(action(round), {"budget": budget, "unit": unit})

        errors = re.findall(r'class="errorlist"[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)
        round.refresh_from_db()
        assert response.status_code == 200
        assert sentence in part
        assert sentence in "".join(errors)
        assert round.budget == 40

    def test_a_raise_is_done_and_listed_with_who_and_when(self, client: Client, round: ReviewRound) -> None:
        answer(round, 3)
        round_close(round=round, user=round.created_by)

        response = client.post(action(round), {"budget": "70", "unit": "share"})

        assert response.headers["Location"] == page_of(round)
        page = text_of(client, page_of(round))
        round.refresh_from_db()
        assert (round.budget, round.state, round.tasks.count()) == (70, "open", 70)
        assert "The budget is 70 now" in page
        assert "The budget was raised" in page
        row = re.search(r"<tr><td class=\"fit\">[^<]*</td><td>([^<]*)</td>(.*?)</tr>", page)
        assert row is not None
        assert row[1] == round.created_by.username
        assert re.findall(r">(\d+)<", row[2]) == ["40", "70", "3"]

    def test_where_all_items_are_in_there_is_no_form(self, client: Client, round: ReviewRound) -> None:
        client.post(action(round), {"budget": "100", "unit": "count"})

        page = text_of(client, page_of(round))

        assert "there is nothing to add" in page
        assert "raise-form" not in page

    def test_for_strangers_there_is_no_such_round(self, client: Client, round: ReviewRound) -> None:
        client.force_login(make_user())

        assert client.get(page_of(round, "advice"), headers=HTMX).status_code == 404
        assert client.post(action(round), {"budget": "50", "unit": "count"}).status_code == 404
