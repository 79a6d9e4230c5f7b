import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from criticize.logprobs import (
    NEITHER,
    NO_ALTERNATIVES,
    NO_LOGPROBS,
    NO_REASONING,
    NOT_OF_THE_TEXT,
    align,
    perplexity,
    yes_share,
)
from mllm.adapters.openai import NO_LOGPROB
from mllm.messages import TokenLogprob
from tests.criticize.replies import pieces_of, tokens_of


def answer(token: str, **top: float) -> TokenLogprob:
    return TokenLogprob(token, -0.1, tuple((spelling, math.log(p)) for spelling, p in top.items()))


def alternatives(token: str, top: dict[str, float]) -> TokenLogprob:
    return TokenLogprob(token, math.log(top[token]), tuple((each, math.log(p)) for each, p in top.items()))


class TestTheShareOfYes:
    def test_all_spellings_count(self):
        top = {"yes": 0.3, "Yes": 0.1, " yes": 0.05, "YES": 0.02, '"yes"': 0.01, "[yes]": 0.02, "yes.": 0.1}
        top |= {"no": 0.2, "▁No": 0.1, "ĠNO": 0.05, "**no**": 0.05}

        assert yes_share(alternatives("yes", top)) == pytest.approx(0.6 / 1.0)

    def test_words_that_begin_or_end_like_an_answer_do_not_count(self):
        top = {"yes": 0.5, "no": 0.1, "not": 0.1, "nothing": 0.1, "yesterday": 0.1, "eyes": 0.05, "": 0.05}

        assert yes_share(alternatives("yes", top)) == pytest.approx(0.5 / 0.6)

    def test_the_beginning_of_a_word_counts_only_where_answers_come_in_pieces(self):
        top = {"Y": 0.2, "N": 0.3, "yes": 0.4, "no": 0.1}

        # The answer was a whole word, so "Y" and "N" may have begun any other.
        assert yes_share(alternatives("yes", top)) == pytest.approx(0.4 / 0.5)
        # The answer was spelled in pieces.
        assert yes_share(alternatives("N", top)) == pytest.approx(0.6 / 1.0)

    def test_the_answered_token_counts_once_listed_or_not(self):
        token = TokenLogprob("yes", math.log(0.5), (("no", math.log(0.3)), ("Yes", math.log(0.1))))
        assert yes_share(token) == pytest.approx(0.6 / 0.9)

        listed = TokenLogprob("yes", math.log(0.5), (("yes", math.log(0.5)), ("no", math.log(0.5))))
        assert yes_share(listed) == 0.5

    def test_one_of_the_two_alone_is_certain(self):
        assert yes_share(answer("yes", yes=0.9, sure=0.1)) == 1.0
        assert yes_share(answer("no", no=0.9, never=0.1)) == 0.0

    def test_neither_is_no_guess(self):
        with pytest.raises(ValueError, match=NEITHER):
            yes_share(answer("maybe", maybe=0.9, perhaps=0.1))

    def test_probabilities_too_small_to_tell_are_none(self):
        tiny = TokenLogprob("sure", -0.1, (("sure", -0.1), ("yes", NO_LOGPROB), ("no", NO_LOGPROB)))

        with pytest.raises(ValueError, match=NEITHER):
            yes_share(tiny)

    def test_an_answer_without_alternatives_is_no_certainty(self):
        for top in ((), (("yes", -0.2),)):
            with pytest.raises(ValueError, match=NO_ALTERNATIVES):
                yes_share(TokenLogprob("yes", -0.2, top))

    def test_a_logprob_rounded_above_zero_is_one(self):
        assert yes_share(TokenLogprob("yes", 1e-4, (("yes", 1e-4), ("no", math.log(0.5))))) == 1 / 1.5

    @given(
        st.dictionaries(
            st.sampled_from(["yes", "no", "Yes", " no", "Y", "n", "nope", "[", "是"]),
            st.floats(-1e4, 0),
            min_size=2,
        )
    )
    def test_it_is_a_share_unless_neither_word_is_there(self, top):
        token = TokenLogprob(next(iter(top)), next(iter(top.values())), tuple(top.items()))
        spelled_out = {"yes", "no", "Yes", " no"} | (
            {"Y", "n"} if token.token.strip().lower() not in ("yes", "no") else set()
        )
        if any(spelling in spelled_out and math.exp(logprob) > 0 for spelling, logprob in top.items()):
            assert 0 <= yes_share(token) <= 1
        else:
            with pytest.raises(ValueError, match=NEITHER):
                yes_share(token)


class TestPerplexity:
    def test_it_is_the_exponential_of_the_mean(self):
        tokens = [TokenLogprob("a", -1.0, ()), TokenLogprob("b", -3.0, ())]

        assert perplexity(tokens) == pytest.approx(math.exp(2.0))

    def test_certain_tokens_have_one(self):
        assert perplexity([TokenLogprob("a", 0.0, ()), TokenLogprob("b", 1e-5, ())]) == 1.0

    def test_a_token_too_improbable_to_tell_leaves_it_finite(self):
        assert math.isfinite(perplexity([TokenLogprob("a", NO_LOGPROB, ())] * 3))

    def test_no_token_has_none(self):
        with pytest.raises(ValueError, match=NO_REASONING):
            perplexity([])


def spelled(tokens) -> str:
    return "".join(token.token for token in tokens)


class TestPlaces:
    def test_each_character_is_in_its_token(self):
        text = "[It may be irony.][yes]"
        found = align(tokens_of(pieces_of(text)), text)

        assert found.tokens[found.token_at(text.rindex("y"))].token == "yes"
        assert spelled(found.tokens_within(1, text.index("]"))) == "It may be irony."

    def test_what_stands_before_and_after_the_text_is_no_part_of_it(self):
        text = "[yes]"
        tokens = tokens_of(["I think ", "[", "no", "]", "\n", "[", "yes", "]", "<|im_end|>"])
        found = align(tokens, text)

        assert found.token_at(1) == 6
        assert spelled(found.tokens_within(0, len(text))) == "[yes]"

    def test_of_equal_texts_the_last_counts(self):
        found = align(tokens_of(["[", "yes", "]", "[", "yes", "]"]), "[yes]")

        assert found.token_at(1) == 4

    def test_a_token_across_the_border_is_outside(self):
        pieces = ['{"', "reasoning", '":"', "Hmm", " odd", '.","', "answer", '":"', "yes", '"}']
        text = "".join(pieces)
        found = align(tokens_of(pieces), text)

        within = found.tokens_within(text.index("Hmm"), text.index('","'))
        assert [token.token for token in within] == ["Hmm", " odd"]

    def test_white_space_around_a_token_does_not_put_it_outside(self):
        pieces = ["[", " Fine", " \n", "]", "[", "no", "]"]
        text = "".join(pieces)
        found = align(tokens_of(pieces), text)

        assert [token.token for token in found.tokens_within(2, 6)] == [" Fine"]

    def test_empty_tokens_belong_to_the_character_that_follows(self):
        pieces = ["[", "", "", "", "😀", " ja", "]", "[", "no", "]", ""]
        found = align(tokens_of(pieces), "".join(pieces))

        assert len(found.tokens_within(1, 5)) == 5

    @pytest.mark.parametrize(
        ("text", "pieces", "inside"),
        [
            ("[Sehr schön 😀.][yes]", ["[", "Sehr", " sch�", "�n", " �", "��", ".", "]", "[", "yes", "]"], 6),
            ("[好的。][yes]", ["[", "�", "�", "的", "�", "][", "yes", "]"], 4),
        ],
    )
    def test_servers_that_cannot_tell_parts_of_characters_are_matched_by_the_rest(self, text, pieces, inside):
        found = align(tokens_of(pieces), text)

        assert found.tokens[found.token_at(text.rindex("y"))].token == "yes"
        assert len(found.tokens_within(1, text.index("]"))) == inside

    def test_no_tokens_and_others_tokens_are_told_apart(self):
        with pytest.raises(ValueError, match=NO_LOGPROBS):
            align((), "[yes]")
        with pytest.raises(ValueError, match=NOT_OF_THE_TEXT):
            align(tokens_of(["[", "no", "]"]), "[yes]")
        with pytest.raises(ValueError, match=NOT_OF_THE_TEXT):
            align(tokens_of(["[", "no", "]"]), "是")

    @given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=30), st.data())
    def test_any_cut_of_any_text_is_found(self, pieces, data):
        text = "".join(pieces)
        index = data.draw(st.integers(0, len(text) - 1))
        found = align(tokens_of(pieces), text)

        number = found.token_at(index)
        before = sum(len(piece) for piece in pieces[:number])
        assert before <= index < before + len(pieces[number])
