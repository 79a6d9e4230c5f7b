from decimal import Decimal

import pytest

from mllm.messages import Reply
from mllm.prices import AS_OF, DEFAULT_PRICES, NOTE, Price, cost, find_price, token_cost
from mllm.registry import PROVIDERS

PRICES = {"openai": {"gpt-4o": Price(Decimal(1), Decimal(2)), "gpt-4o-mini": Price(Decimal(3), Decimal(4))}}


@pytest.mark.parametrize(
    ("model", "input_price"),
    [
        ("gpt-4o", 1),
        ("gpt-4o-2024-11-20", 1),
        ("GPT-4o", 1),
        ("models/gpt-4o", 1),
        ("gpt-4o-mini", 3),
        ("gpt-4o-mini-2024-07-18", 3),
        ("gpt-4omega", None),
        ("gpt-4", None),
        ("other", None),
    ],
)
def test_the_longest_prefix_that_ends_with_a_part_of_the_name_wins(model, input_price):
    price = find_price(PRICES, "openai", model)
    assert (None if price is None else price.input) == input_price


def test_prices_of_another_provider_are_not_taken():
    assert find_price(PRICES, "anthropic", "gpt-4o") is None


def test_a_version_with_a_price_of_its_own_is_not_taken_for_its_family():
    assert find_price(DEFAULT_PRICES, "openai", "gpt-5.9") is None
    assert find_price(DEFAULT_PRICES, "anthropic", "claude-opus-4-9") is None
    for provider, model, input_price in [
        ("openai", "gpt-5", "1.25"),
        ("openai", "gpt-5-pro", "15"),
        ("anthropic", "claude-opus-4-8-20260101", "5"),
        ("anthropic", "claude-haiku-5-5", "0.10"),
        ("openai", "models/gemini-2.5-flash-lite", "0.10"),
    ]:
        price = find_price(DEFAULT_PRICES, provider, model)
        assert price is not None
        assert price.input == Decimal(input_price)


def test_a_model_on_the_own_machine_costs_nothing():
    price = find_price(DEFAULT_PRICES, "gguf", "any/file.gguf")
    assert price is not None
    assert token_cost(price, 10**9, 10**9) == 0


def test_cost_by_hand():
    price = Price(Decimal("2.50"), Decimal(10), Decimal("1.25"))
    reply = Reply("", "", "m", "stop", 1000, 200, 400, (), 0.0)
    # 600 × 2.50 + 400 × 1.25 + 200 × 10 = 1500 + 500 + 2000 millionths of a dollar
    assert cost(price, reply) == Decimal("0.004")


def test_cached_tokens_cost_as_others_where_no_price_is_given():
    price = Price(Decimal(2), Decimal(0))
    assert token_cost(price, 1_000_000, 0, 500_000) == 2


def test_more_cached_than_input_tokens_never_give_a_negative_price():
    assert token_cost(Price(Decimal(2), Decimal(0), Decimal(1)), 10, 0, 99) == Decimal("0.00001")


def test_the_table_is_dated_and_covers_the_providers():
    assert AS_OF in NOTE
    assert set(DEFAULT_PRICES) == set(PROVIDERS)
    for table in DEFAULT_PRICES.values():
        for prefix, price in table.items():
            assert 0 <= (price.cached_input or 0) <= price.input
            assert price.input <= price.output or "embedding" in prefix
