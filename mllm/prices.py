"""What a call costs, from a table that users check and edit."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from mllm.messages import Reply

# List prices change without notice, and discounts, regions, batch tariffs and surcharges (for long prompts,
# for writing to a prompt cache) are not here. The table is a starting point: every team checks it against its
# provider's price page and edits it.
AS_OF = "2026-10"
NOTE = (
    f"List prices as far as known in {AS_OF}, for prompts of ordinary length; some may be out of date. "
    "Check them against your provider's price page and edit them."
)

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. `cached_input` None: cached input costs as much as other input."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None


def _price(input_: str, output: str, cached_input: str | None = None) -> Price:
    return Price(Decimal(input_), Decimal(output), None if cached_input is None else Decimal(cached_input))


# provider → model name prefix → price. Gemini is reached through its OpenAI-compatible endpoint.
DEFAULT_PRICES: Mapping[str, Mapping[str, Price]] = {
    "openai": {
        "gpt-5.5": _price("5", "30", "0.50"),
        "gpt-5.5-pro": _price("30", "180"),
        "gpt-5.4": _price("2.50", "15", "0.25"),
        "gpt-5.4-mini": _price("0.75", "4.50", "0.075"),
        "gpt-5.4-pro": _price("30", "180"),
        "gpt-5.2": _price("1.75", "14", "0.175"),
        "gpt-5.2-pro": _price("21", "168"),
        "gpt-5.1": _price("1.25", "10", "0.125"),
        "gpt-5": _price("1.25", "10", "0.125"),
        "gpt-5-mini": _price("0.25", "2", "0.025"),
        "gpt-5-nano": _price("0.05", "0.40", "0.005"),
        "gpt-5-pro": _price("15", "120"),
        "gpt-4.1": _price("2", "8", "0.50"),
        "gpt-4.1-mini": _price("0.40", "1.60", "0.10"),
        "gpt-4.1-nano": _price("0.10", "0.40", "0.025"),
        "gpt-4o": _price("2.50", "10", "1.25"),
        "gpt-4o-mini": _price("0.15", "0.60", "0.075"),
        "text-embedding-3-small": _price("0.02", "0"),
        "text-embedding-3-large": _price("0.13", "0"),
        "text-embedding-ada-002": _price("0.10", "0"),
        "gemini-embedding-001": _price("0.15", "0"),
        "o3": _price("2", "8", "0.50"),
        "o3-mini": _price("1.10", "4.40", "0.55"),
        "o3-pro": _price("20", "80"),
        "o4-mini": _price("1.10", "4.40", "0.275"),
        "gemini-2.5-pro": _price("1.25", "10", "0.125"),
        "gemini-2.5-flash": _price("0.30", "2.50", "0.03"),
        "gemini-2.5-flash-lite": _price("0.10", "0.40", "0.01"),
    },
    "anthropic": {
        "claude-fable-5": _price("10", "50", "1"),
        "claude-fable-5-1": _price("10", "50", "0.25"),
        "claude-opus-5-5": _price("4", "20", "0.20"),
        "claude-opus-5": _price("5", "25", "0.50"),
        "claude-opus-4-8": _price("5", "25", "0.50"),
        "claude-opus-4-7": _price("5", "25", "0.50"),
        "claude-opus-4-6": _price("5", "25", "0.50"),
        "claude-opus-4-5": _price("5", "25", "0.50"),
        "claude-opus-4-1": _price("15", "75", "1.50"),
        "claude-sonnet-5-5": _price("2", "10", "0.10"),
        "claude-sonnet-5": _price("2", "10", "0.20"),
        "claude-sonnet-4": _price("3", "15", "0.30"),
        "claude-haiku-5-5": _price("0.10", "0.50", "0.01"),
        "claude-haiku-4-5": _price("1", "5", "0.10"),
    },
    # A model on the user's own machine costs no tokens.
    "gguf": {"": _price("0", "0", "0")},
    "scripted": {"": _price("0", "0", "0")},
}


def find_price(prices: Mapping[str, Mapping[str, Price]], provider: str, model: str) -> Price | None:
    """The price whose name is the longest prefix of the model's name; None where the model is unknown.

    A prefix ends where a part of the name ends: "gpt-4o" prices "gpt-4o-2024-11-20" but not "gpt-4omni".
    """
    table = prices.get(provider, {})
    name = model.lower().removeprefix("models/")
    matching = [prefix for prefix in table if _is_prefix(prefix.lower(), name)]
    return table[max(matching, key=len)] if matching else None


def _is_prefix(prefix: str, name: str) -> bool:
    rest = name[len(prefix) :]
    return name.startswith(prefix) and (not prefix or not rest or rest[0] in "-@:")


def cost(price: Price, reply: Reply) -> Decimal:
    """US dollars for the reply's tokens."""
    return token_cost(price, reply.input_tokens, reply.output_tokens, reply.cached_tokens)


def token_cost(price: Price, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Decimal:
    """US dollars; `cached_tokens` are among `input_tokens`."""
    cached = min(cached_tokens, input_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    return (
        (input_tokens - cached) * price.input + cached * cached_price + output_tokens * price.output
    ) / _MILLION
