"""Routers are asked about texts: those of uploaded comparisons, and those of a project's texts."""

import io
from typing import Any

import numpy as np
import pytest

from annotate.errors import Refusal
from annotate.services.projects import project_delete
from jobs.services import JobStateError
from route import serving
from route.meta import choose_w
from route.models import ComparisonSet, Router
from route.saving import load
from route.services.meta_plans import MetaLimit
from route.services.meta_routers import MetaChoice, meta_create
from route.serving import MOST_QUERIES, expected_gains, route_texts
from route.training import kept_scores
from tests.factories import make_job, make_project
from tests.route.two_annotators import (
    CHEAP_PRICE,
    METAL,
    PREMIUM_PRICE,
    make_judge_run,
    make_metal_project,
    make_two,
)
from tests.route.uploaded import (
    GOLD,
    MAPPING,
    PREFERRED,
    comparison_rows,
    is_metal,
    make_comparisons,
    train_from,
    work,
)

pytestmark = [pytest.mark.django_db, pytest.mark.computed]

QUERIES = ["iron zinc tin", "sweet banana", "copper bronze number 7", "ripe pear", "nothing it knows"]


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("route.meta._TREES", 8)


@pytest.fixture
def router() -> Router:
    return train_from(make_comparisons())


def content_of(router: Router) -> bytes:
    with router.file.open("rb") as file:
        return bytes(file.read())


def test_the_downloaded_router_says_what_the_served_one_does(router: Router) -> None:
    routed = route_texts(router, QUERIES, MetaLimit(premium_share=0.5))

    again, about = load(io.BytesIO(content_of(router)))

    assert again.predict(QUERIES).tolist() == routed.gains.tolist()
    assert again.route(QUERIES, routed.w, routed.cost_gap).tolist() == routed.is_premium.tolist()
    held_out = about["metrics"]["held_out"]
    assert choose_w(held_out["predicted"], held_out["gains"], max_share=0.5).w == routed.w
    assert routed.is_premium.tolist()[:4] == [True, False, True, False]
    assert [again.predict([query]).tolist()[0] for query in QUERIES] == routed.gains.tolist()


def test_trained_twice_it_is_the_same_file() -> None:
    comparisons = make_comparisons()

    first, second = train_from(comparisons), train_from(comparisons)

    assert first.pk != second.pk
    assert content_of(first) == content_of(second)
    assert first.data_digest == second.data_digest
    assert content_of(train_from(comparisons, seed=7)) != content_of(first)


@pytest.mark.parametrize("choice", [{"learner": "r"}, {"regressor": "boosting", "scaling": None}])
def test_every_way_of_learning_finds_where_the_premium_response_is_better(choice: dict[str, Any]) -> None:
    router = train_from(make_comparisons(), **choice)

    gains = route_texts(router, QUERIES, MetaLimit()).gains

    assert min(gains[0], gains[2]) > max(gains[1], gains[3])
    best = {line["name"]: line["area"] for line in router.metrics["table"]}
    assert best["Oracle"] >= router.metrics["table"][0]["area"] > 0.5 * best["Oracle"]


def test_prices_make_w_the_gain_of_a_dollar() -> None:
    mapping = MAPPING.as_dict() | {"price_a": 0.001, "price_b": 0.011}
    router = train_from(make_comparisons(mapping=type(MAPPING)(**mapping)))

    cheap = route_texts(router, QUERIES, MetaLimit(w=0.0))
    dear = route_texts(router, QUERIES, MetaLimit(w=10.0))
    never = route_texts(router, QUERIES, MetaLimit(w=1000.0))
    limited = route_texts(router, QUERIES, MetaLimit(extra_cost=0.005))

    assert cheap.cost_gap == pytest.approx(0.01)
    assert cheap.is_premium.tolist() == (cheap.gains > 0).tolist()
    assert dear.is_premium.tolist() == (dear.gains > 0.1).tolist()
    assert not never.is_premium.any()
    held_out = np.array(router.metrics["held_out"]["predicted"])
    assert (held_out > limited.threshold).mean() <= 0.5


def test_costs_of_columns_are_averaged() -> None:
    rows = [
        row | {"cost_a": "0.01", "cost_b": "0.03" if number % 2 else "0.05"}
        for number, row in enumerate(comparison_rows())
    ]
    mapping = MAPPING.as_dict() | {"cost_a": "cost_a", "cost_b": "cost_b"}

    router = train_from(make_comparisons(rows, type(MAPPING)(**mapping)))

    assert router.parameters["cheap_price"] == pytest.approx(0.01)
    assert router.parameters["premium_price"] == pytest.approx(0.04)


def test_without_prices_an_extra_cost_is_no_limit(router: Router) -> None:
    with pytest.raises(Refusal, match="Limit its share instead"):
        route_texts(router, QUERIES, MetaLimit(extra_cost=0.1))


@pytest.mark.parametrize(
    ("queries", "limit", "sentence"),
    [
        ([], MetaLimit(), "at least one"),
        (["a"] * (MOST_QUERIES + 1), MetaLimit(), "at most 1,000"),
        (["why", " \n"], MetaLimit(), "Query 2 is empty"),
        (["x" * 20_001], MetaLimit(), "at most 20,000"),
        (["why"], MetaLimit(w=1, premium_share=0.5), "one of the three"),
        (["why"], MetaLimit(w=-1), "at least 0"),
        (["why"], MetaLimit(w=float("nan")), "at least 0"),
        (["why"], MetaLimit(premium_share=2), "between 0 and 1"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    router: Router, queries: list[str], limit: MetaLimit, sentence: str
) -> None:
    with pytest.raises(Refusal, match=sentence):
        route_texts(router, queries, limit)


def test_every_row_has_an_expected_gain_and_the_unlabelled_ones_too(router: Router) -> None:
    columns, rows = expected_gains(router)
    table = list(rows)

    assert columns == ["row", "query", "gold_gain", "preference", "expected_gain"]
    assert len(table) == len(comparison_rows())
    left = table[GOLD + PREFERRED :]
    assert all(row[2] is None and row[3] is None for row in left)
    for row in left:
        assert (row[4] > 0.15) == is_metal(row[1])
    held_out = router.metrics["held_out"]["predicted"]
    assert [row[4] for row in table[:GOLD]] == pytest.approx(held_out, abs=1e-6)


def test_it_is_read_from_its_file_once(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    route_texts(router, QUERIES, MetaLimit())
    monkeypatch.setattr("route.serving.load", None)

    assert len(route_texts(router, QUERIES, MetaLimit()).gains) == len(QUERIES)
    serving._loaded.cache_clear()
    with pytest.raises(TypeError):
        route_texts(router, QUERIES, MetaLimit())


def test_a_router_that_is_not_trained_or_hands_out_items_says_so() -> None:
    comparisons = make_comparisons()
    about = {
        "project": comparisons.project,
        "name": "One",
        "created_by": comparisons.created_by,
        "comparison_set": comparisons,
    }
    untrained = Router.objects.create(kind="meta", job=make_job("router_training"), **about)
    other = Router.objects.create(kind="deferral", job=make_job("router_training"), **about)

    with pytest.raises(JobStateError, match="once it is trained"):
        route_texts(untrained, QUERIES, MetaLimit())
    with pytest.raises(JobStateError):
        expected_gains(untrained)
    with pytest.raises(Refusal, match="Learning to defer"):
        route_texts(other, QUERIES, MetaLimit())


def one_class(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row | ({"gold_b": "1", "gold_a": "0"} if row["gold_a"] else {}) for row in rows]


def one_preference(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row | ({"preference": "b"} if row["preference"] else {}) for row in rows]


def both_everywhere(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [
        row | {"gold_a": "0", "gold_b": str(number % 3), "preference": "a"} for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (comparison_rows(gold=0), "0 rows have gold"),
        (comparison_rows(gold=3), "3 rows have gold; at least 20"),  # fewer than folds
        (comparison_rows(preferred=0), "0 rows have a preference and no gold"),
        (one_class(comparison_rows()), "the same on all but 0 of 40"),
        (one_preference(comparison_rows()), "The preference is 1 on every row"),
        (both_everywhere(comparison_rows()), "110 more rows have gold as well"),
    ],
)
def test_too_little_to_learn_from_is_refused_before_training(
    rows: list[dict[str, str]], sentence: str
) -> None:
    comparisons = make_comparisons(rows)

    with pytest.raises(Refusal, match=sentence):
        train_from(comparisons)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda row: "the same words", "nothing that would tell them apart"),
        (lambda row: "? !", "nothing that would tell them apart"),
        (
            lambda row: row["query"] if row["gold_a"] else "entirely other things " + row["query"][-3:],
            "of the items that a judge compared are like those with gold",
        ),
    ],
)
def test_what_shows_only_while_it_learns_fails_the_training_with_why(change: Any, sentence: str) -> None:
    rows = [row | {"query": change(row)} for row in comparison_rows()]

    router = train_from(make_comparisons(rows))

    assert not router.is_trained
    assert router.job.state == "failed"
    assert sentence in router.job.reason


def test_a_router_of_a_projects_texts_says_the_same_of_their_texts_as_of_them() -> None:
    project = make_metal_project()
    judge_run = make_judge_run(project, *make_two(project))
    router = meta_create(project=project, user=project.created_by, choice=MetaChoice([judge_run]))
    work(router.job_id)
    router.refresh_from_db()
    assert router.is_trained, router.job.reason
    ids, scores = kept_scores(router)
    texts = dict(project.items.values_list("pk", "text"))

    routed = route_texts(router, [texts[item_id] for item_id in ids.tolist()], MetaLimit(premium_share=0.5))

    assert routed.gains.tolist() == pytest.approx(scores[:, 0].tolist(), abs=1e-6)
    assert routed.cost_gap == pytest.approx(float(PREMIUM_PRICE - CHEAP_PRICE))
    assert [METAL in texts[item_id] for item_id in ids.tolist()] == routed.is_premium.tolist()
    with pytest.raises(Refusal, match="hand out items by their plans"):
        expected_gains(router)

    router.vectors = router.vectors | {"version": "another"}
    with pytest.raises(Refusal, match="vectors that the router was trained on are gone"):
        route_texts(router, QUERIES, MetaLimit())
    router.vectors = router.vectors | {"kind": "embeddings"}
    with pytest.raises(Refusal, match="a call for every text"):
        route_texts(router, QUERIES, MetaLimit())


def test_a_router_of_items_that_are_more_than_texts_is_not_asked() -> None:
    project = make_project(task_type="image_text_agreement")
    job = make_job("router_training")
    router = Router.objects.create(
        project=project, kind="meta", name="One", job=job, created_by=project.created_by
    )

    with pytest.raises(Refusal, match="more than a text"):
        route_texts(router, QUERIES, MetaLimit())


def test_embeddings_of_a_provider_are_refused_with_why() -> None:
    from annotate.vectors import VectorChoice

    with pytest.raises(Refusal, match="without a call to a provider"):
        train_from(make_comparisons(), vectors=VectorChoice(kind="embeddings"))


def test_a_project_is_deleted_with_its_comparisons_and_routers(router: Router) -> None:
    project = router.project

    project_delete(project=project, confirm_name=project.name)

    assert not ComparisonSet.objects.exists()
    assert not Router.objects.exists()
