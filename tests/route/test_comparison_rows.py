import pytest

from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.rows import Row
from route.comparison_rows import (
    MOST_QUERY_CHARACTERS,
    ComparisonMapping,
    comparison_of,
    suggest_columns,
    validate_columns,
)

ONE = ComparisonMapping(query="q", gold="gold", preference="judge")
TWO = ComparisonMapping(query="q", gold_a="ga", gold_b="gb", preference="judge")


def read(mapping: ComparisonMapping = ONE, **values: object):
    return comparison_of(Row(3, {"q": "why", **values}), mapping)


def test_columns_are_guessed_by_their_names() -> None:
    scores = suggest_columns(["Prompt", "Response A", "response_b", "gold-a", "GOLD_B", "winner", "cost_a"])
    assert scores == ComparisonMapping(
        query="Prompt",
        response_a="Response A",
        response_b="response_b",
        gold_a="gold-a",
        gold_b="GOLD_B",
        preference="winner",
    )
    gain = suggest_columns(["query", "premium_response", "cheap response", "gold", "judge", "gold_a"])
    assert (gain.gold, gain.gold_a, gain.preference) == ("gold", None, "judge")
    assert (gain.response_a, gain.response_b, gain.premium) == ("cheap response", "premium_response", "b")


@pytest.mark.parametrize(
    ("written", "gain"),
    [
        ("b", 1.0),
        ("A", -1.0),
        ("model_a", -1.0),
        ("tie", 0.0),
        ("tie (bothbad)", 0.0),
        ("premium", 1.0),
        ("cheap", -1.0),
        ("0.25", 0.25),
        ("-3", -3.0),
        (2, 2.0),
        (-0.5, -0.5),
        ("", None),
        (None, None),
    ],
)
def test_gold_is_a_winner_or_a_gain(written: object, gain: float | None) -> None:
    assert read(gold=written).gold_gain == gain


def test_who_is_premium_and_for_whom_numbers_speak_decides_the_sign() -> None:
    swapped = ComparisonMapping(query="q", gold="gold", preference="judge", premium="a")
    assert read(swapped, gold="b", judge="a").gold_gain == -1.0
    assert read(swapped, gold="0.5").gold_gain == 0.5
    for positive, gain in (("premium", 0.5), ("cheap", -0.5), ("a", 0.5), ("b", -0.5)):
        mapping = ComparisonMapping(
            query="q", gold="gold", preference="judge", premium="a", positive=positive
        )
        assert read(mapping, gold="0.5").gold_gain == gain
    named = ComparisonMapping(
        query="q", response_a="gpt", response_b="llama", gold="gold", preference="judge"
    )
    assert read(named, gpt="x", llama="y", gold="Llama").gold_gain == 1.0


def test_gold_scores_are_subtracted() -> None:
    assert read(TWO, ga="0.25", gb="1").gold_gain == 0.75
    assert read(TWO, ga="", gb="").gold_gain is None


@pytest.mark.parametrize(
    ("mapping", "values", "sentence"),
    [
        (ONE, {"q": "  "}, "no query in column “q”"),
        (ONE, {"q": "x" * (MOST_QUERY_CHARACTERS + 1)}, "at most 20,000"),
        (ONE, {"gold": "good"}, "holds “good”"),
        (ONE, {"gold": "NaN"}, "no number"),
        (ONE, {"gold": "inf"}, "no number"),
        (ONE, {"gold": "1e9"}, "numbers from"),
        (ONE, {"judge": "2"}, "numbers from -1 to 1"),
        (ONE, {"judge": "nan"}, "no number"),
        (TWO, {"ga": "1"}, "Only one of “ga” and “gb”"),
        (TWO, {"ga": "1", "gb": "nan"}, "no number"),
        (TWO, {"ga": "1", "gb": "much"}, "“much”, which is no number"),
    ],
)
def test_a_row_that_says_nothing_usable_says_why(
    mapping: ComparisonMapping, values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(RowProblem) as problem:
        read(mapping, **values)
    assert sentence in problem.value.sentence


def test_costs_are_of_both_responses_or_of_none() -> None:
    mapping = ComparisonMapping(
        query="q", gold="gold", preference="judge", cost_a="ca", cost_b="cb", premium="a"
    )
    record = read(mapping, ca="0.02", cb="0.001")
    assert (record.cheap_cost, record.premium_cost) == (0.001, 0.02)
    for values in ({"ca": "1"}, {"ca": "-1", "cb": "1"}, {"ca": "much", "cb": "1"}):
        with pytest.raises(RowProblem):
            read(mapping, **values)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"query": None}, "holds the query"),
        ({"query": "nowhere"}, "no column “nowhere” for the query"),
        ({"gold": None}, "Say where gold is"),
        ({"gold_a": "ga", "gold_b": "gb"}, "not in both"),
        ({"gold": None, "gold_a": "ga"}, "one for A and one for B"),
        ({"preference": None}, "Without preferences"),
        ({"preference": "gold"}, "cannot be both"),
        ({"cost_a": "ca"}, "one for A and one for B"),
        ({"cost_a": "ca", "cost_b": "cb", "price_a": 1.0, "price_b": 2.0}, "not both"),
        ({"price_a": 1.0}, "what both responses cost"),
        ({"price_a": -1.0, "price_b": 1.0}, "at least 0"),
        ({"price_a": float("nan"), "price_b": 1.0}, "at least 0"),
        ({"premium": "c"}, "a or b"),
        ({"positive": "up"}, "one of"),
    ],
)
def test_a_mapping_that_does_not_fit_says_why(changes: dict[str, object], sentence: str) -> None:
    said = ONE.as_dict() | changes

    with pytest.raises(UploadError) as error:
        validate_columns(ComparisonMapping(**said), ["q", "gold", "judge", "ga", "gb", "ca", "cb"])

    assert sentence in error.value.sentence


PAIR = ComparisonMapping(query="q", response_a="ra", response_b="rb", gold="gold", preference="judge")


@pytest.mark.parametrize("values", [{"gold": "b"}, {"judge": "a"}, {"judge": 0.0}])
def test_a_response_that_is_not_there_cannot_be_compared(values: dict[str, object]) -> None:
    with pytest.raises(RowProblem, match="Only one of “ra” and “rb” holds a response"):
        read(PAIR, ra="yes", rb="  ", **values)
    assert read(PAIR, ra="yes", rb="no", **values).query == "why"
    assert read(PAIR, **values).cheap_response == ""  # the file holds no responses


def test_of_a_query_that_nobody_compared_one_response_will_do() -> None:
    assert read(PAIR, ra="yes").cheap_response == "yes"
