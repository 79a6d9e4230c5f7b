from decimal import Decimal

import pytest

from annotate.errors import Refusal
from annotate.vectors import PLAIN, VectorChoice, ensure_vectors
from annotate.vectors_estimate import vectors_estimate
from jobs.running import run_to_end
from tests.annotate.test_vectors import by_length, embedding_choice
from tests.conftest import Provider
from tests.factories import make_item, make_items, make_project

pytestmark = pytest.mark.django_db


def test_it_counts_calls_tokens_and_the_price() -> None:
    project = make_project()
    make_items(project, 100, text="word " * 800)  # 4,000 bytes

    estimate = vectors_estimate(project, embedding_choice(project))

    assert (estimate.items, estimate.bought, estimate.calls) == (100, 0, 4)
    assert 95_000 < estimate.tokens < 106_000
    assert estimate.cost == Decimal(estimate.tokens) * Decimal("0.02") / 1_000_000


def test_what_is_bought_is_not_counted_again(provider: Provider) -> None:
    project = make_project()
    make_items(project, 5)
    provider(by_length)
    choice = embedding_choice(project)
    run_to_end(ensure_vectors(project, choice, user=project.created_by).job_id)
    make_item(project, text="new")

    estimate = vectors_estimate(project, choice)

    assert (estimate.items, estimate.bought, estimate.calls) == (1, 5, 1)


def test_an_unknown_price_is_said_and_no_limit_can_be_kept() -> None:
    project = make_project()
    make_items(project, 3)
    choice = embedding_choice(project, model="embed-house-7")

    assert vectors_estimate(project, choice).cost is None
    with pytest.raises(Refusal, match="no price"):
        vectors_estimate(project, embedding_choice(project, model="embed-house-7", spend_limit=Decimal(1)))


def test_what_this_machine_makes_costs_nothing() -> None:
    project = make_project()
    make_items(project, 3)

    estimate = vectors_estimate(project, PLAIN)

    assert (estimate.items, estimate.tokens, estimate.cost) == (3, 0, Decimal(0))


def test_nothing_is_estimated_without_a_model() -> None:
    project = make_project()
    with pytest.raises(Refusal, match="Choose the connection"):
        vectors_estimate(project, VectorChoice(kind="embeddings"))
