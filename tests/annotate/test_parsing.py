import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.parsing import (
    parse_label,
    parse_label_and_confidence,
    parse_structured,
    structured_confidence,
)


@pytest.mark.parametrize(
    ("text", "index", "reasoning"),
    [
        ("[1]", 1, ""),
        ("  [ 2 ]\n", 2, ""),
        ("[It has four legs.][0]", 0, "It has four legs."),
        ("[Legs.]\n\n[0].", 0, "Legs."),
        ("**[1]**", 1, "**"),
        ("The answer is `[1]`.", 1, "The answer is `"),
        ("[02]", 2, ""),
        # Brackets within the reasoning.
        ("[The text says [2], which it would like to be; it is a complaint.][0]", 0, None),
        ("[First [0], then [1], at last [[2]].][1]", 1, None),
        ("[He is sad :[ and more][1]", 1, None),
        ("[He is glad :] and more][1]", 1, None),
        ("[So the label is [1]]", 1, "So the label is"),
        ("[[2]]", 2, ""),
        # Several answers: the last one counts.
        ("[0] or [1]", 1, None),
        ("[0][1][2]", 2, None),
        ("[1] (see [a note])", 1, ""),
        ("[1] as in the study [2024] of it", 1, ""),
    ],
)
def test_the_last_valid_group_is_the_answer(text, index, reasoning):
    found, found_reasoning = parse_label(text, 3)

    assert found == index
    if reasoning is not None:
        assert found_reasoning == reasoning


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "I cannot help with that.",
        "1",
        "(1)",
        "[one]",
        "[label_index]",
        "[reasoning][label_index]",
        "[]",
        "[ ]",
        "[1.0]",
        "[0, 1]",
        "[0/1]",
        # Outside the label set: never clamped, and nothing earlier takes its place.
        "[3]",
        "[-1]",
        "[+1]",
        "[99999999999999999999]",
        "[" + "9" * 5000 + "]",
        "[It says [1].][3]",
        "[1][3]",
        "[2][-1]",
        "[2][50%]",
        # Digits of other scripts are no indices, also where Python would read them as such.
        "[１]",
        "[٢]",
        "[²]",
        "[Ⅱ]",
        "[1][２]",
        "【1】",
        # A quotation inside the reasoning, and no answer after it.
        "[The text says '[2]' and nothing else.]",
        "[Item: [0] spam [1] ham. I would say spam.]",
    ],
)
def test_without_a_valid_answer_the_reply_is_unparseable(text):
    assert parse_label(text, 3) == (None, text.strip())


def test_an_empty_label_set_is_refused():
    with pytest.raises(ValueError, match="at least one label"):
        parse_label("[0]", 0)


@given(st.text(), st.integers(1, 12))
def test_any_reply_gives_a_valid_index_or_none(text, n_labels):
    index, reasoning = parse_label(text, n_labels)

    assert index is None or 0 <= index < n_labels
    assert isinstance(reasoning, str)


@given(st.text(alphabet="ab []0123456789.\n%-", max_size=60), st.integers(0, 4))
def test_a_final_answer_wins_over_whatever_the_reasoning_contains(reasoning, index):
    assert parse_label(f"[{reasoning}][{index}]", 5)[0] == index
    assert parse_label(f"[{reasoning}][{index + 5}]", 5)[0] is None


def test_long_replies_take_no_long_time():
    # Patterns that backtrack would not end on these.
    for text in ("[" * 100_000, "[0" + " " * 100_000, "[ [" * 30_000 + "]" * 30_000, "[7]" * 30_000):
        parse_label(text, 5)


LABELS = ["neutral", "[1]", "2", "très positif", "否定", "a, b", 'say "no"']


@pytest.mark.parametrize("index", range(len(LABELS)))
def test_structured_answers_name_the_label_exactly(index):
    reply = json.dumps({"reasoning": " It says [0]. ", "label": LABELS[index]}, ensure_ascii=False)

    assert parse_structured(reply, LABELS) == (index, "It says [0].")
    assert parse_structured(f"```json\n{reply}\n```", LABELS) == (index, "It says [0].")
    assert parse_structured(f"\n```\n{reply}```\n", LABELS) == (index, "It says [0].")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "neutral",
        '"neutral"',
        "[1]",
        '{"label": "Neutral"}',
        '{"label": "neutral "}',
        '{"label": 2}',
        '{"label": ["neutral"]}',
        '{"label": null}',
        '{"reasoning": "The label is neutral."}',
        '{"label": "neutral"',
        'Here you are: {"label": "neutral"}',
        "[" * 100_000,
        '{"label": ' + "9" * 5000 + "}",
    ],
)
def test_other_replies_are_not_structured_answers(reply):
    assert parse_structured(reply, LABELS)[0] is None


def test_a_structured_answer_needs_no_reasoning():
    assert parse_structured('{"label": "2"}', LABELS) == (2, "")
    assert parse_structured('{"label": "2", "reasoning": 7}', LABELS) == (2, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0][0.93]", (0, 0.93, "")),
        ("[It has legs.][1][0.5]", (1, 0.5, "It has legs.")),
        (" [ 2 ] [ .25 ] \n", (2, 0.25, "")),
        ("[1][0]", (1, 0.0, "")),
        ("[1][1.000]", (1, 1.0, "")),
        ("**[1][0.25]**", (1, 0.25, "**")),
        ("[The text says [0][0.1].][1][0.5]", (1, 0.5, "The text says [0][0.1].")),
        ("[1][0.9] I am sure.", (1, 0.9, "")),
        # Two numbers: the first is the label, the second the confidence, also where the second could be a label.
        ("[0][1]", (0, 1.0, "")),
        # The label stays where its confidence is missing or cannot be read.
        ("[2]", (2, None, "")),
        ("[Legs.][2]", (2, None, "Legs.")),
        ("[0][high]", (0, None, "")),
        ("[0][1.5]", (0, None, "")),
        ("[0][-0.5]", (0, None, "")),
        ("[0][93%]", (0, None, "")),
        ("[0][0,9]", (0, None, "")),
        ("[0][９]", (0, None, "")),
        ("[0][1e-1]", (0, None, "")),
        ("[0][0.123456789012345678901234567890]", (0, None, "")),
        ("[The text says '[1][0.9]'.][2]", (2, None, "The text says '[1][0.9]'.")),
    ],
)
def test_a_confidence_follows_the_label_and_never_costs_it(text, expected):
    assert parse_label_and_confidence(text, 3) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[0.9]",
        "[3][0.9]",
        "[-1][0.9]",
        "[0][0.9][0.8]",
        "[The text says [1][0.9], but I cannot tell.]",
        "[1.0][0.9]",
        "0.9",
    ],
)
def test_a_confidence_without_a_label_is_no_answer(text):
    assert parse_label_and_confidence(text, 3) == (None, None, text.strip())


@given(st.text(alphabet="ab []0123456789.\n%-", max_size=60), st.integers(0, 4), st.integers(0, 100))
def test_label_and_confidence_at_the_end_win_over_whatever_the_reasoning_contains(reasoning, index, percent):
    found, confidence, _ = parse_label_and_confidence(f"[{reasoning}][{index}][{percent / 100:.2f}]", 5)

    assert (found, confidence) == (index, percent / 100)


@given(st.text(), st.integers(1, 12))
def test_any_reply_gives_a_confidence_within_bounds_or_none(text, n_labels):
    index, confidence, _ = parse_label_and_confidence(text, n_labels)

    assert index is None or 0 <= index < n_labels
    assert confidence is None or (index is not None and 0 <= confidence <= 1)


def test_long_replies_with_confidence_take_no_long_time():
    for text in (
        "[" * 100_000,
        "[0]" + " " * 100_000 + "[0.5]",
        "[ [" * 30_000 + "]" * 30_000,
        "[7]" * 30_000,
    ):
        parse_label_and_confidence(text, 5)


@pytest.mark.parametrize(
    ("value", "confidence"),
    [
        ("0.25", 0.25),
        ("1", 1.0),
        ("0", 0.0),
        ("1.01", None),
        ("-0.1", None),
        ("NaN", None),
        ("Infinity", None),
        ('"0.9"', None),
        ("true", None),
        ("null", None),
        ("[0.9]", None),
    ],
)
def test_a_structured_confidence_is_a_number_between_0_and_1(value, confidence):
    assert structured_confidence(f'{{"label": "2", "confidence": {value}}}') == confidence


@pytest.mark.parametrize("reply", ["", "[0.5]", '{"label": "2"}', "0.5"])
def test_other_replies_state_no_confidence(reply):
    assert structured_confidence(reply) is None
