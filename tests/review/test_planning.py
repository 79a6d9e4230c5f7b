"""The budget planner: its figures, its page and its API."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project
from annotate.task_types import WRITTEN_TASKS
from criticize.models import CriticismRun
from jobs.models import Job
from review.models import ReviewRound
from review.planning import budget_plan
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_project,
    make_user,
)
from tests.review.judging import answer_all

pytestmark = pytest.mark.django_db

CALIBRATION = AnnotationRun.Scope.CALIBRATION
HTMX = {"HX-Request": "true"}


def url(project: Project, **query: Any) -> str:
    return reverse("budget_planner", args=[project.pk], query=query)


def annotated(items: int = 20, **fields: Any) -> CriticismRun:
    """A project of `items` items, all labelled negative, with falling error probabilities from 0.9 to 0.1."""
    project = make_project(**fields)
    make_items(project, items)
    return make_criticism_run(make_annotation_run(project))


def make_candidate(project: Project, right: int, judged: int, **fields: Any) -> AnnotationRun:
    """A candidate run whose annotator is right on `right` of `judged` calibration items."""
    items = make_items(project, judged)
    for item in items:
        make_calibration_label(item, "negative")
    answers = {item: "negative" if n < right else "positive" for n, item in enumerate(items)}
    return make_annotation_run(project, answers, scope=CALIBRATION, **fields)


def set_costs(run: Any, cost: str, *, done: int | None = None) -> None:
    Job.objects.filter(pk=run.job_id).update(
        cost=Decimal(cost), input_tokens=100, **({} if done is None else {"done": done})
    )
    run.job.refresh_from_db()


# --- Figures ---------------------------------------------------------------------------------------------------------


def test_the_ideal_budget_is_what_the_candidate_gets_wrong() -> None:
    run = annotated()
    project = run.annotation_run.project
    candidate = make_candidate(project, 15, 20)

    plan = budget_plan(project)

    assert plan.measured is not None
    assert (plan.measured.run, plan.measured.on_gold) == (candidate, False)
    assert plan.ideal == pytest.approx(0.25)
    # Wilson's 95% interval of 15 of 20 is 53.1% to 88.8%.
    assert plan.ideal_low == pytest.approx(1 - 0.8881, abs=1e-3)
    assert plan.ideal_high == pytest.approx(1 - 0.5313, abs=1e-3)
    assert (plan.recommended, plan.budget) == (7, 7)  # 25% and 10 points of 20 items
    assert budget_plan(project, buffer=0).recommended == 5
    assert budget_plan(project, buffer=1).recommended == 20
    assert budget_plan(project, count=3).budget == 3
    assert budget_plan(project, share=0.5).budget == 10


def test_only_the_same_annotator_counts_as_its_candidate() -> None:
    run = annotated()
    project = run.annotation_run.project
    make_candidate(project, 1, 4, model="large")
    make_candidate(project, 1, 4, strategy="naive")
    make_candidate(project, 1, 4, parameters={"confidence": True})
    make_candidate(project, 1, 4, state=Job.State.RUNNING)

    assert budget_plan(project).measured is None

    same = make_candidate(project, 3, 4)
    measured = budget_plan(project).measured
    assert measured is not None
    assert measured.run == same


def test_without_a_candidate_gold_labels_say_how_often_the_annotator_is_right() -> None:
    project = make_project()
    make_items(project, 8, gold="negative")
    make_items(project, 2, gold="positive")
    make_criticism_run(make_annotation_run(project))

    measured = budget_plan(project).measured

    assert measured is not None
    assert measured.on_gold
    assert measured.accuracy == (8, 10)


def test_before_anything_is_annotated_the_best_candidate_says_what_it_would_take() -> None:
    project = make_project()
    make_items(project, 40)
    make_candidate(project, 2, 10, model="poor")
    good = make_candidate(project, 8, 10, model="good")
    set_costs(good, "0.10")
    criticism = make_criticism_run(good)
    set_costs(criticism, "0.20")

    plan = budget_plan(project)

    assert plan.measured is not None
    assert plan.measured.run == good
    assert plan.items == 40
    assert (plan.annotation.amount, plan.annotation.is_estimate) == (Decimal("0.4"), True)
    assert (plan.criticism.amount, plan.criticism.is_estimate) == (Decimal("0.8"), True)
    assert plan.finding is None
    assert "Once a criticizer" in plan.why_no_finding


def test_no_plan_rests_on_a_few_lucky_answers() -> None:
    project = make_project()
    make_items(project, 40)
    tried = make_candidate(project, 8, 10, model="tried")
    items = [annotation.item for annotation in tried.annotations.order_by("item_id")]
    lucky = dict.fromkeys(items[:3], "negative")
    make_annotation_run(project, lucky, scope=CALIBRATION, model="lucky", state=Job.State.CANCELLED)

    measured = budget_plan(project).measured

    assert measured is not None
    assert measured.run == tried


def test_answers_that_were_kept_from_an_earlier_run_will_have_to_be_paid_for_other_items() -> None:
    project = make_project()
    make_items(project, 40)
    candidate = make_candidate(project, 8, 10)
    candidate.annotations.update(cost=Decimal("0.01"), input_tokens=50, reused=True)

    plan = budget_plan(project)

    assert (plan.annotation.amount, plan.annotation.is_estimate) == (Decimal("0.4"), True)
    candidate.annotations.update(cost=None)
    assert budget_plan(project).annotation.amount is None


def test_a_vote_costs_what_its_annotators_cost() -> None:
    project = make_project()
    make_items(project, 10)
    sources = [make_annotation_run(project, model=name) for name in ("one", "two")]
    vote = make_annotation_run(
        project, kind="voted", parameters={"sources": [source.pk for source in sources]}
    )
    make_criticism_run(vote)
    for source in sources:
        set_costs(source, "0.30")

    plan = budget_plan(project)

    assert plan.annotation_run == vote
    assert (plan.annotation.amount, plan.annotation.is_estimate) == (Decimal("0.60"), False)
    set_costs(sources[0], "0")
    assert budget_plan(project).annotation.amount is None


def test_prices_add_up() -> None:
    run = annotated(20, name="Prices")
    project = run.annotation_run.project
    Project.objects.filter(pk=project.pk).update(review_price=Decimal("0.5"))
    project.refresh_from_db()
    set_costs(run.annotation_run, "0.30")
    set_costs(run, "0.70")

    plan = budget_plan(project, count=8)

    assert (plan.models, plan.reviews, plan.total) == (Decimal("1.0"), Decimal("4.0"), Decimal("5.0"))
    assert plan.all_human == Decimal("10.0")
    assert plan.saved == pytest.approx(0.5)
    assert not plan.models_unpriced
    assert not plan.annotation.is_estimate


def test_a_plan_may_cost_more_than_people_alone() -> None:
    run = annotated(10)
    set_costs(run, "3.00")

    plan = budget_plan(run.annotation_run.project, count=10)

    assert plan.saved is not None
    assert plan.saved < 0


def test_a_model_without_a_price_is_not_counted_as_free() -> None:
    run = annotated()
    set_costs(run, "0")

    plan = budget_plan(run.annotation_run.project)

    assert plan.criticism.amount is None
    assert plan.models_unpriced
    assert plan.annotation.amount == 0  # it used no tokens


def test_reviews_that_cost_nothing_save_no_share() -> None:
    run = annotated()
    project = run.annotation_run.project
    project.review_price = Decimal(0)

    assert budget_plan(project).saved is None


def test_expected_errors_are_those_of_the_criticizer_until_people_have_judged_enough() -> None:
    run = annotated(5)  # 0.9, 0.7, 0.5, 0.3, 0.1

    finding = budget_plan(run.annotation_run.project, count=2).finding

    assert finding is not None
    assert finding.known == 0
    assert finding.errors == pytest.approx(2.5)
    assert finding.found == pytest.approx(1.6)
    assert finding.share == pytest.approx(0.64)
    assert finding.points[0] == (0.0, 0.0)
    assert finding.points[-1] == pytest.approx((1.0, 1.0))
    shares = [share for _, share in finding.points]
    assert shares == sorted(shares)


def test_expected_errors_are_calibrated_on_what_people_judged() -> None:
    run = annotated(60)
    # Of the 30 most suspicious only 10 are wrong, though the criticizer expects 21 and more.
    answer_all(run, 30, wrong=10)

    finding = budget_plan(run.annotation_run.project, count=30).finding

    assert finding is not None
    assert finding.known == 30
    assert finding.found == pytest.approx(10)


def test_ranks_alone_say_nothing_of_errors_until_people_have_judged_some() -> None:
    run = annotated(60)
    CriticismRun.objects.filter(pk=run.pk).update(strategy="mc")
    run.criticisms.update(error_prob=None)
    run.refresh_from_db()

    plan = budget_plan(run.annotation_run.project, count=30)
    assert plan.finding is None
    assert "only orders the items" in plan.why_no_finding

    answer_all(run, 30, wrong=10)
    finding = budget_plan(run.annotation_run.project, count=30).finding
    assert finding is not None
    assert finding.found == pytest.approx(10)


def test_the_calibration_items_calibrate_too() -> None:
    run = annotated(10)
    project = run.annotation_run.project
    candidate = make_candidate(project, 12, 24)
    make_criticism_run(candidate)

    finding = budget_plan(project).finding

    assert finding is not None
    assert finding.known == 24


def test_the_latest_criticism_is_planned_with_unless_another_is_chosen() -> None:
    first = annotated()
    latest = make_criticism_run(first.annotation_run, [0.5] * 20)

    project = first.annotation_run.project
    assert budget_plan(project).criticism_run == latest
    assert budget_plan(project, criticism_run=first).criticism_run == first


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"count": 0}, "at least one review"),
        ({"count": 21}, "more than the 20 items"),
        ({"share": 0.0}, "above 0"),
        ({"share": 0.01}, "less than one review"),
        ({"share": float("nan")}, "above 0"),
        ({"buffer": -0.1}, "buffer"),
        ({"buffer": float("nan")}, "buffer"),
    ],
)
def test_plans_that_cannot_be_are_refused(asked: dict[str, Any], sentence: str) -> None:
    project = annotated().annotation_run.project

    with pytest.raises(Refusal, match=sentence):
        budget_plan(project, **asked)


# --- The page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(client: Client) -> CriticismRun:
    """Twenty criticized items and a candidate that is right on 15 of 20; the owner is signed in."""
    run = annotated()
    make_candidate(run.annotation_run.project, 15, 20)
    client.force_login(run.annotation_run.project.created_by)
    return run


def text_of(client: Client, address: str, **options: Any) -> str:
    response = client.get(address, **options)
    assert response.status_code == 200
    return response.content.decode()


def test_the_page_shows_the_recommended_plan_and_starts_its_round(client: Client, run: CriticismRun) -> None:
    project = run.annotation_run.project

    page = text_of(client, url(project))

    assert "7 reviews, 35.0% of 20 items" in page
    assert "25.0%<small>between 11.2% and 46.9% (95%)" in page
    assert "is right on 15 of 20 calibration items" in page
    assert 'id="budget-slider" min="1" max="20" value="7"' in page
    assert "too few annotations were judged" in page
    form = dict(re.findall(r'type="hidden" name="(criticism_run|unit|budget)" value="(\w+)"', page))
    response = client.post(reverse("review_rounds", args=[project.pk]), form)
    round = ReviewRound.objects.get()
    assert response.headers["Location"] == reverse("review_round", args=[project.pk, round.pk])
    assert (round.budget, round.criticism_run, round.rule) == (7, run, "threshold")


def test_the_plan_follows_the_form(client: Client, run: CriticismRun) -> None:
    project = run.annotation_run.project

    part = text_of(client, url(project, budget=2, buffer=20), headers=HTMX)

    assert "<html" not in part
    assert "2 reviews, 10.0% of 20 items" in part
    assert "9<small>ideal and 20 points" in part
    assert f"{reverse('budget_planner', args=[project.pk])}?buffer=20&amp;criticism_run={run.pk}" in part
    assert "Budget (10%)" in part


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"budget": "0"}, "at least one review"),
        ({"budget": "21"}, "more than the 20 items"),
        ({"budget": "2.5"}, "whole number of reviews"),
        ({"budget": "nan"}, "whole number of reviews"),
        ({"buffer": "101"}, "between 0 and 100 points"),
        ({"buffer": "nan"}, "number of percentage points"),
        ({"criticism_run": "0"}, "finished criticism runs"),
    ],
)
def test_what_cannot_be_planned_is_answered_with_a_sentence(
    client: Client, run: CriticismRun, query: dict[str, str], sentence: str
) -> None:
    project = run.annotation_run.project

    assert sentence in text_of(client, url(project, **query), headers=HTMX)
    page = text_of(client, url(project, **query))
    assert sentence in page
    assert "Start the review round" not in page


def test_the_owner_sets_the_price_of_a_review(client: Client, run: CriticismRun) -> None:
    project = run.annotation_run.project
    address = url(project, budget=10)

    response = client.post(address, {"review_price": "0.25"})

    assert response.headers["Location"] == address
    project.refresh_from_db()
    assert project.review_price == Decimal("0.25")
    assert "$2.50" in text_of(client, address)
    for wrong, sentence in (("-1", "0 or more"), ("much", "as a number"), ("1001", "between $0 and $1,000")):
        assert sentence in client.post(address, {"review_price": wrong}).content.decode()
    project.refresh_from_db()
    assert project.review_price == Decimal("0.25")


def test_an_empty_project_says_to_upload(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)

    assert "There are no items to review yet" in text_of(client, url(project))


def test_the_page_says_what_is_missing(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    items = make_items(project, 3)

    page = text_of(client, url(project))
    assert "Label a calibration set" in page
    assert "Annotate the items" in page
    make_calibration_label(items[0], "negative")
    make_annotation_run(project)
    page = text_of(client, url(project))
    assert "Try annotators on the calibration items" in page
    assert "Criticize the labels" in page
    assert "Start the review round" not in page


def test_of_written_answers_no_accuracy_is_asked_for(client: Client) -> None:
    project = make_project(next(iter(WRITTEN_TASKS)), labels=())
    client.force_login(project.created_by)
    make_items(project, 20)

    page = text_of(client, url(project))

    assert "2 reviews, 10.0% of 20 items" in page
    assert "begin with a small round" in page
    assert "calibration set" not in page


def test_the_planner_is_for_owners(client: Client, run: CriticismRun) -> None:
    project = run.annotation_run.project
    reviewer = make_user()
    project.memberships.create(user=reviewer, role="reviewer")
    client.force_login(reviewer)
    assert client.get(url(project)).status_code == 403
    assert url(project) not in text_of(client, reverse("project", args=[project.pk]))
    client.force_login(make_user())
    assert client.get(url(project)).status_code == 404


def test_pages_lead_to_the_planner(client: Client, run: CriticismRun) -> None:
    project = run.annotation_run.project

    for page in ("project", "review_rounds", "calibration"):
        assert f'href="{url(project)}"' in text_of(client, reverse(page, args=[project.pk]))


# --- The API ---------------------------------------------------------------------------------------------------------


def api(client: Client, project: Project, **query: Any) -> Any:
    return client.get(reverse("api:budget_plan", args=[project.pk], query=query))


def test_the_api_gives_the_same_plan(client: Client, run: CriticismRun) -> None:
    project = run.annotation_run.project

    plan = api(client, project, budget=2, buffer=0.2).json()

    assert (plan["budget"], plan["recommended"], plan["items"]) == (2, 9, 20)
    assert plan["criticism_run"] == run.pk
    assert plan["measured"]["right"] == 15
    assert plan["measured"]["low"] == pytest.approx(0.531, abs=1e-3)
    assert plan["finding"]["known"] == 0
    assert plan["finding"]["points"][-1] == [1.0, pytest.approx(1.0)]
    assert plan["total"] == pytest.approx(0.16)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"budget": 0}, "budget"),
        ({"budget": 21}, "budget"),
        ({"share": "nan"}, "share"),
        ({"buffer": "nan"}, "buffer"),
        ({"budget": 1, "share": 0.5}, "budget"),
        ({"buffer": 2}, "buffer"),
        ({"criticism_run": 0}, "criticism_run"),
        ({"bugdet": 2}, "bugdet"),
    ],
)
def test_the_api_refuses_with_a_sentence_at_the_value(
    client: Client, run: CriticismRun, query: dict[str, Any], field: str
) -> None:
    response = api(client, run.annotation_run.project, **query)

    assert response.status_code == 400
    assert field in response.json()["errors"]


def test_a_failed_answer_counts_as_wrong() -> None:
    run = annotated()
    project = run.annotation_run.project
    first, second = make_items(project, 2)
    for item in (first, second):
        make_calibration_label(item, "negative")
    make_annotation_run(project, {first: "negative", second: ""}, scope=CALIBRATION)

    measured = budget_plan(project).measured

    assert measured is not None
    assert measured.accuracy == (1, 2)
    assert label_named(project, "negative") == project.labels.first()
