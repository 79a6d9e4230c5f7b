"""How well answers match that are spans: the machine's, people's with each other, and final ones with gold."""

import csv
import io

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Item, User
from criticize.leaderboard import wilson_interval
from review.accuracy import measured_final, measured_machine
from review.agreeing import machine_agreements, shared_answers
from review.dashboard import part_of, parts_shown
from review.dashboard_scope import scope_of
from review.dashboard_spans import span_matches
from review.models import ReviewRound, ReviewTask
from review.services.queue import task_submit, tasks_claim
from tests.api.caller import call
from tests.factories import make_criticism_run, make_project, make_round, make_user
from tests.span_answers import (
    make_span_item,
    make_span_project,
    make_span_round,
    make_span_run,
    span_answer,
)

pytestmark = pytest.mark.django_db

# What the machine and the person say: the same but for the article, other words, none in one of them, a failure.
MACHINE = ("the Weser", "near Seehausen", "Seehausen", "", None, "")
PERSON = ("Weser", "Seehausen", "", "Seehausen", "Seehausen", "")
F1 = (1.0, 2 / 3, 0.0, 0.0, 0.0, 1.0)


def answer_in_order(round: ReviewRound, user: User, answers: tuple[str, ...]) -> None:
    for answer in answers:
        (task,) = tasks_claim(round=round, user=user)
        task_submit(task=task, user=user, answer=span_answer(task, answer))


@pytest.fixture
def reviewed() -> ReviewRound:
    round = make_span_round(MACHINE, len(MACHINE))
    by_item = dict(zip(Item.objects.order_by("pk"), PERSON, strict=True))
    for task in tasks_claim(round=round, user=round.created_by, count=10):
        task_submit(task=task, user=round.created_by, answer=span_answer(task, by_item[task.item]))
    return round


@pytest.fixture
def doubled() -> ReviewRound:
    """Three items, each answered by anna and ben: the same, a word more, and one says that there is none."""
    anna, ben = make_user("anna"), make_user("ben")
    round = make_span_round(("Seehausen",) * 3, 3, reviewers=[anna, ben])
    for task in list(round.tasks.all()):
        ReviewTask.objects.create(
            round=round,
            item=task.item,
            annotation=task.annotation,
            criticism=task.criticism,
            rank=task.rank,
            copy=1,
            is_counted=False,
        )
    answer_in_order(round, anna, ("Seehausen", "Seehausen", "Seehausen"))
    answer_in_order(round, ben, ("Seehausen", "near Seehausen", ""))
    return round


class TestMachineAgainstPeople:
    def test_matches_are_counted_by_kind_and_by_f1(self, reviewed: ReviewRound):
        found = span_matches(scope_of(reviewed.project))

        assert found is not None
        assert (found.exact, found.other, found.found, found.missed, found.failed) == (2, 1, 1, 1, 1)
        assert found.reviewed == 6
        assert found.exact_share == pytest.approx(1 / 3)
        assert found.f1.value == pytest.approx(sum(F1) / 6)
        assert (found.f1.low or 0) < sum(F1) / 6 < (found.f1.high or 0)
        assert found.bins == [3, 0, 0, 0, 0, 0, 1, 0, 0, 2]
        assert [each.f1 for each in found.apart] == pytest.approx([0.0, 0.0, 2 / 3])

    def test_only_spans_have_them(self):
        project = make_project()
        assert span_matches(scope_of(project)) is None
        assert "matches" not in parts_shown(project.task)
        span_project = make_span_project()
        assert span_matches(scope_of(span_project)) is None  # no round
        assert "confusion" not in parts_shown(span_project.task)

    def test_the_dashboard_shows_them_with_the_worst_in_place(self, reviewed: ReviewRound, client: Client):
        client.force_login(reviewed.created_by)
        page = client.get(reverse("dashboard", args=[reviewed.project_id])).content.decode()

        assert "2 of 6" in page
        assert 'id="dash-confusion"' not in page
        assert '<mark class="span" data-tone="machine">near Seehausen</mark>' in page
        assert "no answer" in page
        assert "no labels to confuse" not in page

    def test_the_tables_and_the_api_have_the_same_numbers(self, reviewed: ReviewRound, client: Client):
        client.force_login(reviewed.created_by)
        url = reverse("dashboard", args=[reviewed.project_id])

        def rows(name: str) -> list[list[str]]:
            body = b"".join(client.get(url, {"csv": name}).streaming_content)  # type: ignore[attr-defined]
            return list(csv.reader(io.StringIO(body.decode("utf-8-sig"))))[1:]

        assert [int(count) for *_, count in rows("matches")] == [3, 0, 0, 0, 0, 0, 1, 0, 0, 2]
        assert rows("match_kinds")[0] == ["the same answer", "2"]
        found = call(reviewed.created_by, "get", f"projects/{reviewed.project_id}/dashboard/")
        assert found["confusion"] is None
        assert (found["matches"]["reviewed"], found["matches"]["exact"]) == (6, 2)
        assert found["matches"]["f1"] == pytest.approx(sum(F1) / 6)

    def test_agreement_leaves_out_what_the_machine_did_not_answer(self, reviewed: ReviewRound):
        together, one = machine_agreements(reviewed.project)

        assert (together.reviewer, one.reviewer and one.reviewer.name) == (None, reviewed.created_by.username)
        assert together.answers == 5
        assert together.agreement.percent.value == pytest.approx(2 / 5)
        assert together.agreement.f1.value == pytest.approx(sum(F1) / 5)
        assert together.agreement.kappa.value is None
        assert together.f1_bins == [2, 0, 0, 0, 0, 0, 1, 0, 0, 2]
        assert together.apart[0].f1 == 0.0

    def test_nothing_reviewed_is_said(self, client: Client):
        round = make_span_round()
        client.force_login(round.created_by)
        page = client.get(reverse("dashboard", args=[round.project_id])).content.decode()

        assert part_of(scope_of(round.project), "matches").reviewed == 0
        assert "Shown once people have reviewed some answers" in page


class TestPeopleAgainstEachOther:
    def test_equal_answers_and_f1(self, doubled: ReviewRound):
        shared = shared_answers(doubled.project)

        assert shared.overall.percent.value == pytest.approx(1 / 3)
        assert shared.overall.f1.value == pytest.approx((1 + 2 / 3 + 0) / 3)
        assert shared.f1_bins == [1, 0, 0, 0, 0, 0, 1, 0, 0, 1]
        (pair,) = shared.pairs
        assert pair.items == 3
        assert pair.f1.value == pytest.approx(5 / 9)
        worst, other = shared.apart
        assert (worst.first.text, worst.second.text, worst.f1) == ("Seehausen", "", 0.0)
        assert other.second.text == "near Seehausen"
        assert other.f1 == pytest.approx(2 / 3)
        assert {worst.reviewer_of_first.name} == {"anna"}

    def test_three_answers_of_an_item_are_paired(self, doubled: ReviewRound):
        third = make_user("cleo")
        task = doubled.tasks.order_by("rank", "copy").first()
        assert task is not None
        doubled.project.memberships.create(user=third, role="reviewer")
        ReviewTask.objects.create(
            round=doubled,
            item=task.item,
            annotation=task.annotation,
            rank=task.rank,
            copy=2,
            is_counted=False,
        )
        answer_in_order(doubled, third, ("near Seehausen",))
        shared = shared_answers(doubled.project)

        # Seehausen, Seehausen, near Seehausen: of the three pairs one is the same.
        assert shared.f1_by_item[list(shared.item_ids).index(task.item_id)] == pytest.approx((1 + 4 / 3) / 3)
        assert len(shared.pairs) == 3

    def test_the_page_says_it(self, doubled: ReviewRound, client: Client):
        client.force_login(doubled.created_by)
        page = client.get(reverse("agreement", args=[doubled.project_id])).content.decode()

        assert "Token F1" in page
        assert "How far answers are apart" in page
        assert "Answers are written" not in page
        assert "the machine's label" not in page
        assert '<mark class="span" data-tone="human">near Seehausen</mark>' in page

    def test_the_tables_and_the_api_have_the_same_numbers(self, doubled: ReviewRound, client: Client):
        client.force_login(doubled.created_by)
        response = client.get(reverse("agreement_csv", args=[doubled.project_id, "overall"]))
        body = b"".join(response.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
        (row,) = csv.DictReader(io.StringIO(body))
        assert float(row["f1"]) == pytest.approx(5 / 9)
        assert "kappa" not in row

        found = call(doubled.created_by, "get", f"projects/{doubled.project_id}/agreement/")
        assert found["overall"]["f1"]["value"] == pytest.approx(5 / 9)
        assert found["f1_bins"] == [1, 0, 0, 0, 0, 0, 1, 0, 0, 1]
        assert found["pairs"][0]["f1"]["value"] == pytest.approx(5 / 9)
        assert found["machine"][0]["answers"] == 6
        assert sum(found["machine"][0]["f1_bins"]) == 6


class TestAgainstGold:
    def test_the_best_of_several_gold_answers_counts(self):
        project = make_span_project()
        item = make_span_item(project, "Seehausen", "near Seehausen")
        run = make_span_run(project, {item: "rises near Seehausen"})
        found = measured_machine(run)

        assert (found.right, found.judged) == (0, 1)
        assert found.f1.value == pytest.approx(0.8)  # of "near Seehausen"; of "Seehausen" it is a half
        assert found.f1.low is None  # one item has no interval

    def test_final_answers_are_better_by_what_people_corrected(self):
        round = make_span_round(("near Seehausen", "the Weser", "Seehausen", ""), 2)
        answer_in_order(round, round.created_by, ("Seehausen", "near Seehausen"))
        assert round.criticism_run is not None
        machine, final = measured_machine(round.criticism_run.annotation_run), measured_final(round)

        assert (machine.right, final.right, final.judged) == (1, 2, 4)
        assert machine.f1.value == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
        assert final.f1.value == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
        assert (final.low, final.high) == pytest.approx(wilson_interval(2, 4))

    def test_without_gold_nothing_is_measured(self):
        project = make_span_project()
        item = make_span_item(project, known=False)
        round = make_round(make_criticism_run(make_span_run(project, {item: "Seehausen"})), 1)
        found = measured_final(round)

        assert (found.judged, found.share, found.low, found.f1.value) == (0, None, None, None)

    def test_the_rounds_page_shows_exact_matches_and_f1_with_intervals(self, client: Client):
        round = make_span_round()
        answer_in_order(round, round.created_by, ("Seehausen", "Seehausen"))
        client.force_login(round.created_by)
        page = client.get(reverse("review_round", args=[round.project_id, round.pk])).content.decode()

        assert "Final answers, exact match" in page
        assert "Final labels" not in page
        assert "66.7%" in page
