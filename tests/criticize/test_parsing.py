import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from criticize.parsing import parse_error_probability, parse_structured_criticism


@pytest.mark.parametrize(
    ("text", "probability", "reasoning"),
    [
        ("[0.123]", 0.123, ""),
        ("[0]", 0.0, ""),
        ("[1.000]", 1.0, ""),
        ("[.5]", 0.5, ""),
        ("[1e-3]", 0.001, ""),
        ("[The wings are clear.][0.034]", 0.034, "The wings are clear."),
        ("[The text asks for [0.000].][0.9].", 0.9, "The text asks for [0.000]."),
        ("[0.2] or [0.4]", 0.4, None),
        ("[Hence [0.75]]", 0.75, "Hence"),
        ("[0.2] of the 95 (see [3])", None, None),
        ("[0.2] (see [a note])", 0.2, ""),
    ],
)
def test_the_last_valid_group_is_the_probability(text, probability, reasoning):
    found, found_reasoning = parse_error_probability(text)

    assert found == probability
    if reasoning is not None:
        assert found_reasoning == reasoning


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.5",
        "[high]",
        "[12%]",
        "[12 %]",
        "[0.5%]",
        "[95]",
        "[1.001]",
        "[-0.1]",
        "[+0.1]",
        "[0,123]",
        "[nan]",
        "[inf]",
        "[1e999]",
        "[0.1.2]",
        "[٠.٥]",
        "[It was [0.2].][95%]",
        "[0.2][1.7]",
        "[The text says [0.000] and stops here.]",
    ],
)
def test_anything_else_is_unparseable_and_never_made_to_fit(text):
    assert parse_error_probability(text) == (None, text.strip())


@given(st.text())
def test_any_reply_gives_a_probability_or_none(text):
    probability, _ = parse_error_probability(text)

    assert probability is None or 0 <= probability <= 1


@given(st.text(alphabet="ab []0123456789.\n%-", max_size=60), st.floats(0, 1))
def test_three_decimals_are_read_back_whatever_the_reasoning_contains(reasoning, probability):
    assert parse_error_probability(f"[{reasoning}][{probability:.3f}]")[0] == float(f"{probability:.3f}")


@pytest.mark.parametrize("value", [0, 1, 0.25, 1.0])
def test_structured_probabilities_are_numbers(value):
    reply = json.dumps({"reasoning": "Because.", "error_probability": value})

    assert parse_structured_criticism(reply) == (value, "Because.")
    assert parse_structured_criticism(f"```json\n{reply}\n```") == (value, "Because.")


@pytest.mark.parametrize(
    "reply",
    [
        "[0.5]",
        "0.5",
        '{"error_probability": "0.5"}',
        '{"error_probability": true}',
        '{"error_probability": 50}',
        '{"error_probability": -0.001}',
        '{"error_probability": NaN}',
        '{"error_probability": Infinity}',
        '{"error_probability": null}',
        '{"probability": 0.5}',
        '{"error_probability": 0.5',
    ],
)
def test_other_structured_replies_are_unparseable(reply):
    assert parse_structured_criticism(reply)[0] is None
