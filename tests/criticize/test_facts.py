"""Expected statements are written as lists of texts; that each is a slice at its place is tested for all texts."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from criticize.facts import facts_of

SIGNS = st.sampled_from("aB7é中か \n\t.!?…。！？「」“”\"'()[]-*#•:;,1️😀\u2028\x85") | st.characters(
    codec="utf-8"
)
TEXTS = st.text(SIGNS, max_size=120) | st.lists(
    st.sampled_from(
        [
            "Dr. ",
            "It rains. ",
            "- point",
            "1. ",
            "\n",
            "\n\n",
            "e.g. ",
            "“No.” ",
            "(see p. 3.) ",
            "行く。",
            "# H",
            " ",
            "3.14 ",
        ]
    ),
    max_size=30,
).map("".join)


def statements(text):
    return [text[start:end] for start, end in facts_of(text)]


@given(TEXTS)
@example("...")
@example("# Only a heading")
@example("-")
@example("((((]]]]))")
def test_facts_are_slices_in_order_that_cover_everything_but_white_space(text):
    facts = facts_of(text)

    covered: set[int] = set()
    position = 0
    for start, end in facts:
        assert position <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        covered.update(range(start, end))
        position = end
    assert all(sign.isspace() for place, sign in enumerate(text) if place not in covered)


@given(TEXTS)
def test_the_same_text_is_always_cut_alike_and_each_fact_states_something(text):
    facts = facts_of(text)

    assert facts_of(text) == facts
    if any(sign.isalpha() for sign in text):
        assert all(any(sign.isalnum() for sign in text[start:end]) for start, end in facts)


@pytest.mark.parametrize("text", ["", " ", "\n\n \t"])
def test_a_blank_text_states_nothing(text):
    assert facts_of(text) == []


@pytest.mark.parametrize(
    ("expected"),
    [
        ["It rains.", "It pours!", "Does it?", "Yes…", "It does."],
        ["Really?!", "No!!!", "Yes."],
        ["A last sentence needs no sign.", "Like this one"],
        ["it rains.", "it pours."],
        ["Is it 3.14 or 2,718.28?", "It costs $4.50.", "Version 2.0.1 is out."],
        ["See example.org or www.example.com/a.b?c=d for more.", "It is there."],
    ],
)
def test_sentences_end_with_their_signs(expected):
    assert statements(" ".join(expected)) == expected


@pytest.mark.parametrize(
    ("expected"),
    [
        ["Dr. Smith met Mrs. Jones, e.g. on Monday.", "They spoke."],
        ["J. K. Rowling and George W. Bush came.", "Others did not."],
        ["It happened in the U.S. Senate.", "It was in the U.S.", "The Senate met."],
        ["He sold cars, boats, etc. and was rich.", "He sold cars, boats, etc.", "He was rich."],
        ["At 5 p.m. on 3 Jan. 2020 it rained.", "At 6 p.m.", "It stopped."],
        ["See Fig. 2 and No. 5 for it.", "No.", "That is all."],
        ["Am 3. Oktober war z.B. nichts.", "Es war der 12.", "Dann kam er."],
        ["Plan B.", "It failed."],
    ],
)
def test_a_full_stop_within_a_sentence_ends_nothing(expected):
    assert statements(" ".join(expected)) == expected


@pytest.mark.parametrize(
    ("expected"),
    [
        ['He said, "I am here. You go."', "Then he left."],
        ["“Stop!” she said.", "“Why?”", "“No reason.”"],
        ["It grew (see p. 3. Also p. 4.) and shrank.", "(It was small.)", "It ended."],
        ["« Non. Oui. » dit-il.", "Il part."],
        ["**It is bold.**", "*So is this.*"],
    ],
)
def test_quotations_and_brackets_stay_whole(expected):
    assert statements(" ".join(expected)) == expected


def test_a_quotation_without_end_or_too_long_is_cut_like_any_text():
    assert statements('He said, "I am here. You go. Then') == ['He said, "I am here.', "You go.", "Then"]
    long = "It goes on. " * 40
    assert len(statements(f"“{long}” he said.")) > 30


@pytest.mark.parametrize(
    ("expected"),
    [
        ["今日は雨です。", "明日は晴れる！", "本当？"],
        ["「行く。今すぐ。」と彼は言った。", "そして行った。"],
        ["「来る。」", "「帰る。」"],
        ["他去了。", "“她没有回答。”", "“为什么？”"],
        ["यह पहला है।", "यह दूसरा है।"],
        ["هل تمطر؟", "نعم۔", "لا"],
    ],
)
def test_other_scripts_have_their_own_signs_with_or_without_spaces(expected):
    assert statements("".join(expected)) == expected
    assert statements(" ".join(expected)) == expected


def test_points_of_lists_and_paragraphs_are_facts_with_their_marks():
    text = "Three things:\n- It rains. It pours.\n* no full stop\n1. First\n2) Second\n(b) third\n• fourth\n\nThe end"

    assert statements(text) == [
        "Three things:",
        "- It rains.",
        "It pours.",
        "* no full stop",
        "1. First",
        "2) Second",
        "(b) third",
        "• fourth",
        "The end",
    ]


def test_a_wrapped_line_goes_on_and_a_short_one_ends():
    wrapped = "A line of prose that an editor wrapped at about sixty signs of\nWidth goes on. It ends."

    assert statements(wrapped) == [wrapped[: wrapped.index(" It ends")], "It ends."]
    assert statements("Roses are red\nviolets are blue\nSugar is sweet") == [
        "Roses are red\nviolets are blue",
        "Sugar is sweet",
    ]


def test_what_states_nothing_goes_with_its_neighbour():
    assert statements("# Weather\n\nIt rains.\n\n---\n\nIt pours.\n\n***") == [
        "# Weather\n\nIt rains.",
        "---\n\nIt pours.\n\n***",
    ]


def test_places_count_characters_and_not_bytes():
    text = "😀 Yes. Ünï no."

    assert [tuple(fact) for fact in facts_of(text)] == [(0, 6), (7, 14)]


@pytest.mark.parametrize(
    "piece", ["(", "(]", "e.g. ", '"a. ', "a.", "1. ", "\n- ", ". ", "「", "Dr. X. ", " "]
)
def test_hostile_texts_are_cut_in_linear_time(piece):
    started = time.process_time()
    facts_of(piece * (100_000 // len(piece)))

    assert time.process_time() - started < 5
