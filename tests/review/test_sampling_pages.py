"""Choosing a sampling rule, β, seed and priority on the page and through the API; what a preview shows is drawn."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from criticize.models import CriticismRun
from review.models import ReviewRound
from review.previews import RANK
from review.services.rounds import MOST_SEED, round_create, round_preview
from tests.factories import (
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_project,
)
from tests.review.judging import answer_all

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
RULES = ["threshold", "normalize", "exponential"]
FALLING = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


def make_run(error_probs: Sequence[float | None] = FALLING, **fields: Any) -> CriticismRun:
    project = make_project()
    make_items(project, len(error_probs))
    return make_criticism_run(make_annotation_run(project), error_probs, **fields)


def make_ranks(priorities: Sequence[float]) -> CriticismRun:
    """A run of a criticizer that only ranks."""
    run = make_run([0.5] * len(priorities), strategy="mc")
    for criticism, priority in zip(run.criticisms.order_by("pk"), priorities, strict=True):
        criticism.error_prob, criticism.priority = None, priority
        criticism.save(update_fields=["error_prob", "priority"])
    return run


def signed_in(client: Client, run: CriticismRun) -> CriticismRun:
    client.force_login(run.annotation_run.project.created_by)
    return run


def page(run: CriticismRun) -> str:
    return reverse("review_rounds", args=[run.annotation_run.project_id])


def form_of(run: CriticismRun, **fields: Any) -> dict[str, Any]:
    return {"criticism_run": run.pk, "budget": 4, "unit": "count", **fields}


def preview_page(client: Client, run: CriticismRun, **fields: Any) -> str:
    address = reverse("review_round_preview", args=[run.annotation_run.project_id])
    response = client.get(address, form_of(run, **fields), headers=HTMX)
    assert response.status_code == 200
    return response.content.decode()


def post(client: Client, run: CriticismRun, name: str = "review_rounds", **values: Any) -> Any:
    return client.post(
        reverse(f"api:{name}", args=[run.annotation_run.project_id]),
        {"criticism_run": run.pk, **values},
        content_type="application/json",
    )


def selected_items(round: ReviewRound) -> list[int]:
    return sorted(round.tasks.values_list("item_id", flat=True))


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_form_offers_each_rule_with_its_sentence_and_the_projects_seed(client: Client) -> None:
    run = signed_in(client, make_run())

    html = client.get(page(run)).content.decode()

    for rule in RULES:
        assert f'name="rule" value="{rule}"' in html
    assert "in proportion to their error probabilities" in html
    assert re.search(r'value="threshold" checked', html)
    assert re.search(r'data-show-when="rule=exponential">.*?id="id_beta"', html, re.DOTALL)
    assert re.search(r'data-show-when="priority=cdi">.*?id="id_training_share"', html, re.DOTALL)
    assert re.search(r'name="seed" value="42"', html)


@pytest.mark.parametrize("rule", RULES)
def test_a_round_is_drawn_as_the_form_says(client: Client, rule: str) -> None:
    run = signed_in(client, make_run())

    client.post(page(run), form_of(run, rule=rule, beta="4", seed="7", priority="criticism"))

    round = ReviewRound.objects.get()
    assert (round.rule, round.seed, round.budget, round.tasks.count()) == (rule, 7, 4, 4)
    assert round.parameters.get("beta") == (4 if rule == "exponential" else None)
    again = round_create(run=run, user=run.created_by, count=4, rule=rule, beta=4, seed=7)
    assert selected_items(again) == selected_items(round)
    other = round_create(run=run, user=run.created_by, count=4, rule=rule, beta=4, seed=8)
    assert (selected_items(other) == selected_items(round)) == (rule == "threshold")


def test_what_is_left_empty_has_its_default(client: Client) -> None:
    run = signed_in(client, make_run())

    client.post(page(run), form_of(run, rule="exponential", beta="", seed="", priority="", training_share=""))

    round = ReviewRound.objects.get()
    assert (round.parameters["beta"], round.seed, round.priority) == (10, 42, "criticism")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("budget", [1, 3, 10])
def test_the_preview_is_what_is_then_drawn(rule: str, budget: int) -> None:
    run = make_run([0.9, 0.9, 0.9, 0.5, None, 0.2, 0.2, 0.0, 0.0, 1.0])

    preview = round_preview(run=run, count=budget, rule=rule, seed=3)
    round = round_create(run=run, user=run.created_by, count=budget, rule=rule, seed=3)

    arrays = round.current_blocks.get().arrays()
    places = arrays.error_probs[arrays.selected & ~np.isnan(arrays.error_probs)]
    assert preview.selected == arrays.selected.sum() == round.tasks.count() == budget
    assert preview.selected_counts == np.histogram(places, np.linspace(0, 1, 21))[0].tolist()
    assert preview.inclusion_sum == pytest.approx(arrays.inclusion_probs.sum())
    assert preview.inclusion_sum == pytest.approx(budget)
    suspicion = np.where(np.isnan(arrays.error_probs), 1, arrays.error_probs)
    assert preview.expected_found == pytest.approx(arrays.inclusion_probs @ suspicion)
    assert preview.expected_errors == pytest.approx(suspicion.sum())
    assert preview.unanswered == 1
    assert preview.parameters == round.parameters
    assert ReviewRound.objects.count() == 1


def test_chances_are_drawn_over_the_histogram() -> None:
    run = make_run()
    arrays_of = {}
    for rule in ("normalize", "exponential"):
        preview = round_preview(run=run, count=4, rule=rule)
        round = round_create(run=run, user=run.created_by, count=4, rule=rule)
        arrays = round.current_blocks.get().arrays()
        x, chances = np.array(preview.curve).T
        assert (x[0], x[-1]) == (0, 1)
        assert np.all(np.diff(chances) >= 0)
        # The curve goes through every item.
        assert np.interp(arrays.error_probs, x, chances) == pytest.approx(arrays.inclusion_probs, abs=2e-3)
        arrays_of[rule] = preview
    assert arrays_of["exponential"].cut == pytest.approx(arrays_of["exponential"].parameters["alpha"])
    assert arrays_of["normalize"].cut is None
    assert round_preview(run=run, count=4).curve == []


def test_where_everything_suspicious_is_certain_the_curve_says_so() -> None:
    run = make_run([0.5, 0.2, 0.0, 0.0])

    preview = round_preview(run=run, count=3, rule="normalize")

    assert preview.parameters["scale"] is None
    assert preview.curve == [(0.0, 0.5), (0.0, 1.0), (1.0, 1.0)]
    assert round_preview(run=run, count=4, rule="exponential").curve[-1] == (1.0, 1.0)


def test_the_preview_shows_the_rules_figures_and_its_picture(client: Client) -> None:
    run = signed_in(client, make_run())

    threshold = preview_page(client, run)
    normalize = preview_page(client, run, rule="normalize")
    exponential = preview_page(client, run, rule="exponential", beta="5")

    assert "Cut τ" in threshold
    assert "chart-line" not in threshold
    assert "Scale π/ε̂</dt><dd>0.889<" in normalize  # 4 / 4.5
    assert "Cut α" in exponential
    assert "β = 5" in exponential
    for html in (normalize, exponential):
        assert "Σπ = 4" in html
        assert 'class="chart-line" points="' in html
        assert "Chance π of being selected" in html
        assert '<th scope="col" class="num">π</th>' in html
    assert not ReviewRound.objects.exists()


def test_the_preview_says_what_reviews_cost_and_how_long_they_take(client: Client) -> None:
    run = signed_in(client, make_run())
    project = run.annotation_run.project
    project.review_price = Decimal("0.5")
    project.save()

    assert "Reviewers&#x27; time" not in preview_page(client, run).replace("'", "&#x27;")
    assert "$2.00<small>4 at $0.50" in preview_page(client, run)
    answer_all(run, 2, wrong=1)  # in 4 seconds each
    preview = round_preview(run=run, count=4)
    assert (preview.cost, preview.seconds) == (Decimal("2.0"), 16.0)
    assert "16 s<small>at the median" in preview_page(client, run)


@pytest.mark.parametrize("rule", ["normalize", "exponential"])
def test_rules_that_need_probabilities_are_refused_at_their_field_for_ranks(
    client: Client, rule: str
) -> None:
    run = signed_in(client, make_ranks([5, 4, 3, 2, 1]))

    html = client.post(page(run), form_of(run, rule=rule)).content.decode()
    part = preview_page(client, run, rule=rule)
    answer = post(client, run, budget=2, rule=rule)
    preview = post(client, run, "review_round_preview", budget=2, rule=rule)

    sentence = "needs error probabilities, and this criticizer only ranks items"
    assert sentence in part
    field = re.search(r"<legend>Sampling rule</legend>.*?</fieldset>", html, re.DOTALL)
    assert field
    assert sentence in field[0]
    for reply in (answer, preview):
        assert reply.status_code == 400
        assert sentence in reply.json()["errors"]["rule"][0]
    assert not ReviewRound.objects.exists()


def test_of_ranks_the_histogram_shows_places(client: Client) -> None:
    run = signed_in(client, make_ranks([5, 5, 4, 3, 2, 2, 2, 2, 1, 1]))

    preview = round_preview(run=run, count=3)
    html = preview_page(client, run, budget=3)

    assert preview.scale == RANK
    assert (preview.expected_errors, preview.expected_found) == (None, None)
    assert sum(preview.counts) == 10
    assert sum(preview.selected_counts) == 3
    # Two at 5 share the place 0.9, one at 4 has 0.75: the lowest place selected.
    assert preview.counts[18] == preview.selected_counts[18] == 2
    assert preview.cut == pytest.approx(0.75)
    assert RANK in html
    assert "Errors expected" not in html


def test_where_only_missing_answers_are_selected_ranks_have_no_cut() -> None:
    run = make_ranks([3, 2, 1])
    run.criticisms.filter(priority=2).update(priority=None, failure="timed_out")

    preview = round_preview(run=run, count=1)

    assert (preview.unanswered, preview.cut, sum(preview.selected_counts)) == (1, None, 0)


def test_qualities_are_shown_as_priorities_and_add_up_to_no_errors() -> None:
    run = make_run()
    for criticism in run.criticisms.all():
        criticism.error_prob = None
        criticism.save(update_fields=["error_prob"])

    preview = round_preview(run=run, count=3, rule="normalize")

    assert preview.scale == "Priority"
    assert preview.expected_found is None
    assert sum(preview.counts) == 10


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "error_probs",
    [[0.0] * 6, [1.0] * 6, [0.3] * 6, [None] * 6, [0.7]],
    ids=["0", "1", "equal", "none", "one"],
)
def test_flat_criticisms_draw_the_budget_through_page_and_api(
    client: Client, rule: str, error_probs: list[float | None]
) -> None:
    run = signed_in(client, make_run(error_probs))
    budget = min(4, len(error_probs))

    part = preview_page(client, run, rule=rule, budget=budget)
    client.post(page(run), form_of(run, rule=rule, budget=budget))
    answer = post(client, run, "review_round_preview", budget=budget, rule=rule)
    created = post(client, run, budget=budget, rule=rule)

    assert f"<dd>{budget}<small>of {len(error_probs)} items" in part
    assert answer.json()["selected"] == budget
    assert created.status_code == 201
    for round in ReviewRound.objects.all():
        assert round.tasks.count() == budget
        assert round.current_blocks.get().arrays().inclusion_probs.sum() == pytest.approx(budget)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rule": "guess"}, "The sampling rule is one of"),
        ({"rule": "exponential", "beta": "0"}, "must be a number above 0"),
        ({"rule": "exponential", "beta": "-3"}, "must be a number above 0"),
        ({"rule": "exponential", "beta": "nan"}, "Enter β as a number"),
        ({"rule": "exponential", "beta": "inf"}, "Enter β as a number"),
        ({"rule": "exponential", "beta": "steep"}, "Enter β as a number"),
        ({"seed": "-1"}, "whole number from 0"),
        ({"seed": str(MOST_SEED + 1)}, "whole number from 0"),
        ({"seed": "1.5"}, "Enter the seed as a whole number"),
        ({"priority": "stars"}, "The priority is one of"),
        ({"priority": "cdi", "training_share": "much"}, "part of the budget to train on"),
        ({"priority": "combined"}, "how sure it is"),
        ({"budget": "nan"}, "Enter the budget as a number"),
        ({"budget": "0"}, "at least one review"),
        ({"budget": "11"}, "more than the 10 items"),
    ],
)
def test_what_cannot_be_drawn_is_answered_with_a_sentence_on_the_page(
    client: Client, fields: dict[str, str], sentence: str
) -> None:
    run = signed_in(client, make_run())

    response = client.post(page(run), form_of(run, **fields))

    errors = re.findall(r'class="errorlist"[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)
    assert sentence in "".join(errors)
    assert sentence in preview_page(client, run, **fields)
    assert not ReviewRound.objects.exists()


def test_a_training_draw_is_previewed_as_one(client: Client) -> None:
    run = signed_in(client, make_run([0.5] * 60))
    run.annotation_run.annotations.update(confidence=0.8)

    part = preview_page(client, run, budget=50, priority="cdi", training_share="40", rule="normalize")
    client.post(page(run), form_of(run, budget=50, priority="cdi", training_share="40"))

    assert "20 random items are reviewed first" in part
    assert "Left for later</dt><dd>30<small>of a budget of 50" in part
    round = ReviewRound.objects.get()
    assert (round.budget, round.priority, round.parameters["planned_budget"]) == (20, "cdi", 50)


def test_the_page_of_a_round_says_how_it_was_drawn(client: Client) -> None:
    run = signed_in(client, make_run([0.5] * 60))
    run.annotation_run.annotations.update(confidence=0.8)
    ranks = signed_in(client, make_ranks([5, 4, 3]))

    def head(run: CriticismRun, **plan: Any) -> str:
        round = round_create(run=run, user=run.created_by, **plan)
        client.force_login(run.created_by)
        address = reverse("review_round", args=[round.project_id, round.pk])
        return client.get(address).content.decode()

    assert "most suspicious first, down to ε̂ = 0.500" in head(run, count=4)
    assert "drawn in proportion to suspicion (rule “normalize”) with seed 9" in head(
        run, count=4, rule="normalize", seed=9
    )
    training = head(run, count=50, priority="cdi", training_share=0.4)
    assert "drawn at random for a detector to learn from" in training
    assert "down to" not in head(ranks, count=2)


# --- The API ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_the_api_draws_what_it_previews(client: Client, rule: str) -> None:
    run = signed_in(client, make_run())
    plan: dict[str, Any] = {"budget": 4, "rule": rule, "beta": 4.0, "seed": 9, "priority": "criticism"}

    preview = post(client, run, "review_round_preview", **plan).json()
    created = post(client, run, **plan).json()

    round = ReviewRound.objects.get(pk=created["id"])
    read = client.get(reverse("api:review_round", args=[round.pk])).json()
    assert (read["rule"], read["seed"], read["priority"]) == (rule, 9, "criticism")
    assert read["parameters"] == preview["parameters"] == round.parameters
    assert read["parameters"].get("beta") == (4 if rule == "exponential" else None)
    assert preview["selected"] == round.tasks.count() == 4
    assert preview["inclusion_sum"] == pytest.approx(4)
    assert (preview["seed"], preview["rule"], preview["priority"]) == (9, rule, "criticism")
    assert preview["cost"] == pytest.approx(0.32)
    assert bool(preview["curve"]) == (rule != "threshold")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"rule": "guess"}, "rule"),
        ({"rule": "exponential", "beta": 0}, "beta"),
        ({"rule": "exponential", "beta": "nan"}, "beta"),
        ({"seed": -1}, "seed"),
        ({"seed": MOST_SEED + 1}, "seed"),
        ({"priority": "stars"}, "priority"),
        ({"priority": "cdi"}, "priority"),
        ({"training_share": 2}, "training_share"),
        ({"training_share": "nan"}, "training_share"),
        ({"budget": 0}, "budget"),
        ({"budget": 11}, "budget"),
        ({"budget": None, "share": "nan"}, "share"),
        ({"budget": None, "share": 1e-9}, "budget"),
        ({"kind": "audit"}, "kind"),
    ],
)
def test_the_api_refuses_with_a_sentence_at_the_value(
    client: Client, values: dict[str, Any], field: str
) -> None:
    run = signed_in(client, make_run())

    for name in ("review_rounds", "review_round_preview"):
        response = post(client, run, name, **({"budget": 4} | values))
        assert response.status_code == 400
        assert field in response.json()["errors"]
    assert not ReviewRound.objects.exists()


def test_criticisms_of_candidates_are_not_drawn_from(client: Client) -> None:
    run = signed_in(client, make_run())
    run.annotation_run.scope = "calibration"
    run.annotation_run.save()

    answer = post(client, run, budget=4)

    assert "calibration items" in answer.json()["errors"]["criticism_run"][0]
    assert "There is nothing to draw from yet" in client.get(page(run)).content.decode()
