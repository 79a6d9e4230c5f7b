"""Answers are found in their context, and matched as SQuAD's evaluation does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.spans import Excerpt, exact_match, excerpt, locate, normalized, token_f1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Cat!", "cat"),
        ("a U.S. theme", "us theme"),
        ("an-other", "another"),
        ("Åse’s 1,000", "åse’s 1000"),
        ("the", ""),
        (" \n", ""),
    ],
)
def test_normalization(answer, expected):
    assert normalized(answer) == expected


def test_the_best_gold_answer_counts():
    assert exact_match("The cat.", ["dog", "cat"])
    assert not exact_match("cats", ["dog", "cat"])
    assert token_f1("the black cat", ["cat", "a black dog"]) == pytest.approx(2 * 1 / (2 + 1))
    assert token_f1("black black cat", ["black cat cat"]) == pytest.approx(2 * 2 / 6)
    assert token_f1("dog", ["cat"]) == 0


def test_no_answer_matches_only_no_answer():
    assert exact_match("", [""])
    assert (token_f1("", [""]), token_f1("", ["cat"]), token_f1("cat", [""])) == (1, 0, 0)


@pytest.mark.parametrize("golds", [[], "cat"])
def test_gold_answers_are_needed_in_a_list(golds):
    with pytest.raises(ValueError, match="gold answer"):
        exact_match("cat", golds)


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_f1_is_symmetric_and_one_for_an_exact_match(answer, gold):
    assert token_f1(answer, [gold]) == token_f1(gold, [answer])
    assert 0 <= token_f1(answer, [gold]) <= 1
    assert token_f1(answer, [answer]) == 1


@pytest.mark.parametrize(
    ("answer", "context", "found"),
    [
        ("cat", "A cat and a cat.", ["cat", "cat"]),
        ("art", "The part of art", ["art"]),
        ("art", "The part", ["art"]),
        (" cat ", "A cat.", ["cat"]),
        ('"cat"', "A cat.", ["cat"]),
        ('"cat"', 'A "cat" and a cat.', ['"cat"']),
        ("black cat", "a black\n  cat", ["black\n  cat"]),
        ("Cat", "a cat", ["cat"]),
        ("Cat", "a cat, a Cat", ["Cat"]),
        ("aba", "ababa", ["aba", "aba"]),
        ("3.5 (a+b)", "is 3.5 (a+b)?", ["3.5 (a+b)"]),
        ("猫", "黑猫和白猫", ["猫", "猫"]),
        ("🐈", "a 🐈!", ["🐈"]),
        ("dog", "a cat", []),
        ("", "a cat", []),
        ('""', "a cat", []),
    ],
)
def test_answers_are_located(answer, context, found):
    spans = locate(answer, context)

    assert [context[start:end] for start, end in spans] == found
    assert spans == sorted(set(spans))


@settings(deadline=None)
@given(st.text(max_size=30), st.data())
def test_every_part_of_a_context_is_found_where_it_stands(context, data):
    start = data.draw(st.integers(0, len(context)))
    answer = context[start : data.draw(st.integers(start, len(context)))].strip()

    spans = locate(answer, context)

    assert all(context[first:last] == answer for first, last in spans)
    assert bool(spans) == bool(answer)


class TestExcerpt:
    def test_words_around_the_answer_are_whole(self):
        text = "word " * 30 + "Seehausen" + " word" * 30
        found = excerpt(text, 150, 159)

        assert found.answer == "Seehausen"
        assert found.before == "… word word word word word word "
        assert found.after.startswith(" word word")
        assert found.after.endswith(" word …")

    def test_a_short_text_is_whole(self):
        assert excerpt("By the Aller.", 7, 12) == Excerpt("By the ", "Aller", ".")

    def test_of_a_long_answer_the_middle_is_left_out(self):
        found = excerpt("ab " * 200, 0, 599)

        assert " … " in found.answer
        assert len(found.answer) < 260

    def test_no_sign_is_cut(self):
        text = "e\u0301" * 100 + "x" + "e\u0301" * 100
        found = excerpt(text, 200, 201)

        assert found.before.startswith("…e")
        assert found.after.endswith("\u0301…")

    def test_a_place_outside_is_refused(self):
        with pytest.raises(ValueError, match="not in a text of 3"):
            excerpt("abc", 2, 4)
