"""Rows of an uploaded table as comparisons: which column is what, a suggestion, its check, and the reading of a row."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.rows import ImageCell, Row

A, B = "a", "b"
PREMIUM, CHEAP = "premium", "cheap"
MOST_QUERY_CHARACTERS = 20_000
LARGEST_GAIN = 1e6

# Names that say what a column is, in order of preference, without case and without signs between words.
_NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "prompt", "question", "input", "instruction", "text", "request"),
    "response_a": ("responsea", "answera", "outputa", "completiona", "response1", "answer1", "cheapresponse"),
    "response_b": (
        "responseb",
        "answerb",
        "outputb",
        "completionb",
        "response2",
        "answer2",
        "premiumresponse",
    ),
    "gold_a": ("golda", "goldscorea", "scorea", "ratinga", "gold1", "score1", "goldcheap", "cheapgold"),
    "gold_b": ("goldb", "goldscoreb", "scoreb", "ratingb", "gold2", "score2", "goldpremium", "premiumgold"),
    "gold": ("goldgain", "gold", "goldwinner", "humanwinner", "goldpreference", "humanpreference", "gain"),
    "preference": ("preference", "judge", "judgepreference", "judgewinner", "winner", "preferred", "verdict"),
    "cost_a": ("costa", "pricea", "cost1", "cheapcost", "costcheap"),
    "cost_b": ("costb", "priceb", "cost2", "premiumcost", "costpremium"),
}
COLUMNS = tuple(_NAMES)

_LABELS = {
    "query": "the query",
    "response_a": "response A",
    "response_b": "response B",
    "gold_a": "the gold score of A",
    "gold_b": "the gold score of B",
    "gold": "the gold gain or winner",
    "preference": "the preference",
    "cost_a": "what A costs",
    "cost_b": "what B costs",
}
_WORDS = {
    A: ("a", "responsea", "modela", "answera", "outputa"),
    B: ("b", "responseb", "modelb", "answerb", "outputb"),
    PREMIUM: ("premium",),
    CHEAP: ("cheap",),
}
_TIES = ("tie", "equal", "draw", "same", "neither", "both", "tiebothbad", "bothbad")


@dataclass(frozen=True, slots=True)
class ComparisonMapping:
    """The column for each part of a comparison, or None, and how its values are meant.

    Gold is either a score for each response (`gold_a`, `gold_b`), or one column: a winner, or a number, the gain.
    `premium` is "a" or "b". `positive` says for whom a number above 0 speaks in the columns `gold` and `preference`:
    "premium", "cheap", "a" or "b". `price_a` and `price_b` are US$ a response where no columns say it.
    """

    query: str | None = None
    response_a: str | None = None
    response_b: str | None = None
    gold_a: str | None = None
    gold_b: str | None = None
    gold: str | None = None
    preference: str | None = None
    cost_a: str | None = None
    cost_b: str | None = None
    premium: str = B
    positive: str = PREMIUM
    price_a: float | None = None
    price_b: float | None = None

    @property
    def cheap(self) -> str:
        """Which of "a" and "b" is the cheap response."""
        return A if self.premium == B else B

    def names(self) -> tuple[str, str]:
        """What the cheap and the premium response are called: as their columns are, if they have any."""
        called = {A: self.response_a or "Response A", B: self.response_b or "Response B"}
        return called[self.cheap], called[self.premium]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ComparisonRecord:
    """A row as a comparison. Gain and preference are premium minus cheap; None where the row does not say."""

    query: str
    cheap_response: str
    premium_response: str
    gold_gain: float | None
    preference: float | None
    cheap_cost: float | None
    premium_cost: float | None


def suggest_columns(columns: Sequence[str]) -> ComparisonMapping:
    """A mapping by the columns' names, with case and signs between words left out."""
    free = {_plain(column): column for column in reversed(columns)}
    found: dict[str, Any] = {}
    for part, names in _NAMES.items():
        name = next((name for name in names if name in free), None)
        found[part] = None if name is None else free.pop(name)
    if found["gold_a"] and found["gold_b"]:
        found["gold"] = None
    else:
        found["gold_a"] = found["gold_b"] = None
    if not (found["cost_a"] and found["cost_b"]):
        found["cost_a"] = found["cost_b"] = None
    is_named = found["response_a"] is not None and "premium" in _plain(found["response_a"])
    return ComparisonMapping(**found, premium=A if is_named else B)


def validate_columns(mapping: ComparisonMapping, columns: Sequence[str]) -> None:
    """Raise UploadError, naming the column, unless the file can be read with this mapping."""
    chosen = {part: getattr(mapping, part) for part in COLUMNS if getattr(mapping, part) is not None}
    for part, column in chosen.items():
        if column not in columns:
            raise UploadError(
                f"The file has no column “{column}” for {_LABELS[part]}. Its columns are {_listed(columns)}."
            )
    for column in chosen.values():
        parts = [part for part, other in chosen.items() if other == column]
        if len(parts) > 1:
            raise UploadError(
                f"Column “{column}” cannot be both {_LABELS[parts[0]]} and {_LABELS[parts[1]]}. Choose one of them."
            )
    if mapping.query is None:
        raise UploadError(f"Choose the column that holds the query. The file's are {_listed(columns)}.")
    if mapping.premium not in (A, B):
        raise UploadError("Say which response is the premium one: a or b.")
    if mapping.positive not in _WORDS:
        raise UploadError("Numbers above 0 speak for one of: premium, cheap, a, b.")
    _check_gold(mapping)
    if mapping.preference is None:
        raise UploadError(
            "Choose the column that holds the preference. Without preferences of a judge there is nothing to learn "
            "from beside the gold."
        )
    _check_costs(mapping)


def _check_gold(mapping: ComparisonMapping) -> None:
    if (mapping.gold_a is None) != (mapping.gold_b is None):
        raise UploadError("Gold scores come in two columns: choose one for A and one for B.")
    if (mapping.gold is None) == (mapping.gold_a is None):
        raise UploadError(
            "Say where gold is: in two columns with a score for each response, or in one with the gain or the winner; "
            "not in both, nor in neither."
        )


def _check_costs(mapping: ComparisonMapping) -> None:
    if (mapping.cost_a is None) != (mapping.cost_b is None):
        raise UploadError("Costs come in two columns: choose one for A and one for B.")
    prices = (mapping.price_a, mapping.price_b)
    if (prices[0] is None) != (prices[1] is None):
        raise UploadError("Enter what both responses cost, or neither.")
    for price in prices:
        if price is not None and not (math.isfinite(price) and price >= 0):
            raise UploadError("What a response costs is a number of at least 0.")
    if mapping.cost_a is not None and prices[0] is not None:
        raise UploadError("Costs are either in two columns or the same for all rows, not both.")


def comparison_of(row: Row, mapping: ComparisonMapping) -> ComparisonRecord:
    """The row as a comparison. Raises RowProblem with what is wrong and where."""
    query = _text(row, mapping.query).strip()
    if not query:
        raise RowProblem(f"Row {row.number:,} has no query in column “{mapping.query}”.")
    if len(query) > MOST_QUERY_CHARACTERS:
        raise RowProblem(
            f"The query has {len(query):,} characters; at most {MOST_QUERY_CHARACTERS:,} are accepted."
        )
    responses = {A: _text(row, mapping.response_a), B: _text(row, mapping.response_b)}
    gold_gain, preference = _gold_gain(row, mapping), _preference(row, mapping)
    _check_responses(mapping, responses, is_compared=gold_gain is not None or preference is not None)
    costs = {A: _cost(row, mapping.cost_a), B: _cost(row, mapping.cost_b)}
    if (costs[A] is None) != (costs[B] is None):
        raise RowProblem(
            f"Only one of “{mapping.cost_a}” and “{mapping.cost_b}” holds a cost. Give both or neither."
        )
    return ComparisonRecord(
        query=query,
        cheap_response=responses[mapping.cheap],
        premium_response=responses[mapping.premium],
        gold_gain=gold_gain,
        preference=preference,
        cheap_cost=costs[mapping.cheap],
        premium_cost=costs[mapping.premium],
    )


def _check_responses(mapping: ComparisonMapping, responses: Mapping[str, str], *, is_compared: bool) -> None:
    """Raise RowProblem where one response is said to be better than one that is not there."""
    if mapping.response_a is None or mapping.response_b is None or not is_compared:
        return
    is_there = {which: bool(response.strip()) for which, response in responses.items()}
    if is_there[A] != is_there[B]:
        raise RowProblem(
            f"Only one of “{mapping.response_a}” and “{mapping.response_b}” holds a response, but the row says which "
            "is better. Give both or neither; of an empty response, write that it is empty."
        )


def _gold_gain(row: Row, mapping: ComparisonMapping) -> float | None:
    if mapping.gold is not None:
        return _difference(row, mapping.gold, mapping, LARGEST_GAIN)
    scores = {A: _number(row, mapping.gold_a), B: _number(row, mapping.gold_b)}
    cheap, premium = scores[mapping.cheap], scores[mapping.premium]
    if cheap is None and premium is None:
        return None
    if cheap is None or premium is None:
        raise RowProblem(
            f"Only one of “{mapping.gold_a}” and “{mapping.gold_b}” holds a score. Give both or neither."
        )
    return _within(premium - cheap, LARGEST_GAIN, f"{mapping.gold_a}” and “{mapping.gold_b}")


def _preference(row: Row, mapping: ComparisonMapping) -> float | None:
    assert mapping.preference is not None  # noqa: S101 (validate_columns has checked)
    return _difference(row, mapping.preference, mapping, 1.0)


def _difference(row: Row, column: str, mapping: ComparisonMapping, largest: float) -> float | None:
    """Premium minus cheap, of a column that names the winner or holds a number."""
    written = _text(row, column).strip()
    if not written:
        return None
    word = _plain(written)
    if word in _TIES:
        return 0.0
    winner = next((who for who, words in _WORDS.items() if word in words), None)
    if winner is not None:
        return 1.0 if _is_premium(winner, mapping) else -1.0
    for who, response in ((A, mapping.response_a), (B, mapping.response_b)):
        if response is not None and word == _plain(response):
            return 1.0 if _is_premium(who, mapping) else -1.0
    try:
        number = float(written)
    except ValueError:
        raise RowProblem(
            f"Column “{column}” holds “{_cut(written)}”. It takes a, b, tie, premium, cheap, or a number; or nothing."
        ) from None
    _within(number, largest, column)
    return (number if _is_premium(mapping.positive, mapping) else -number) + 0.0


def _is_premium(who: str, mapping: ComparisonMapping) -> bool:
    return who in (PREMIUM, mapping.premium)


def _within(number: float, largest: float, column: str) -> float:
    if not math.isfinite(number):
        raise RowProblem(
            f"Column “{column}” holds what is no number. Leave the cell empty where nothing is known."
        )
    if abs(number) > largest:
        raise RowProblem(
            f"Column “{column}” gives {number:g}; numbers from {-largest:g} to {largest:g} are accepted."
        )
    return number


def _number(row: Row, column: str | None) -> float | None:
    written = _text(row, column).strip()
    if not written:
        return None
    try:
        number = float(written)
    except ValueError:
        raise RowProblem(f"Column “{column}” holds “{_cut(written)}”, which is no number.") from None
    return _within(number, LARGEST_GAIN, column or "")


def _cost(row: Row, column: str | None) -> float | None:
    cost = _number(row, column)
    if cost is not None and cost < 0:
        raise RowProblem(f"Column “{column}” holds {cost:g}; a cost is at least 0.")
    return cost


def _text(row: Row, column: str | None) -> str:
    value = None if column is None else row.values.get(column)
    match value:
        case None | ImageCell():
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
    return str(value)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"


def _listed(columns: Iterable[str]) -> str:
    names = [f"“{column}”" for column in columns]
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more
