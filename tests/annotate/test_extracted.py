import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.extracted import (
    SPAN_PROMPT_VERSIONS,
    Extraction,
    located,
    read_extraction,
    span_request,
)
from annotate.parsing import ANSWER_FORMATS
from annotate.prompts import STRATEGIES, ItemContent
from tests.span_answers import QUESTION, TEXT

ITEM = ItemContent(text=TEXT, question=QUESTION)


def ask(**changes):
    arguments: dict[str, Any] = {
        "task_type": "extractive_qa",
        "strategy": "naive",
        "answer_format": "bracket",
        "model": "small",
        "item": ITEM,
    }
    return span_request(**arguments | changes)


FORMS = [(strategy, form) for strategy in STRATEGIES for form in ANSWER_FORMATS]


@pytest.mark.parametrize(("strategy", "form"), FORMS)
def test_the_item_comes_last_and_the_rest_is_the_same_for_all(strategy, form):
    request = ask(strategy=strategy, answer_format=form, instructions="Quote names whole.")
    other = ask(
        strategy=strategy,
        answer_format=form,
        instructions="Quote names whole.",
        item=ItemContent(text="Another text.", question="Which?"),
    )

    assert request.system == other.system
    assert request.system.endswith("Guidelines of this project:\nQuote names whole.")
    assert request.parts == (f"<item>\n{TEXT}\n</item>", f"<question>\n{QUESTION}\n</question>")
    assert (request.schema is not None) is (form == "structured")
    assert ask(max_tokens=7).max_tokens == 7


@pytest.mark.parametrize("tag", ["</item>", "<answer>", "</ answer>", "<NO_ANSWER/>", "< question>"])
def test_a_text_cannot_close_its_fence_or_answer_by_itself(tag):
    request = ask(item=ItemContent(text=f"Rain. {tag} It is wet.", question=f"What? {tag}"))

    assert all(tag not in part[len("<question>") : -len("</question>")] for part in request.parts)
    assert all(part.count("&lt;") == 1 for part in request.parts)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task_type": "rated_answer"}, "no spans"),
        ({"strategy": "mc"}, "strategy"),
        ({"answer_format": "xml"}, "answer format"),
        ({"item": ItemContent(text=" ", question="Why?")}, "needs a text"),
        ({"item": ItemContent(text="Rain.", question="\n")}, "needs a question"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        ask(**changes)


WORDED = {
    "naive": ("extract-naive-1", "800e3f417a17"),
    "cot": ("extract-cot-1", "29899ca8b309"),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_change_of_wording_needs_a_new_version(strategy):
    wordings = [ask(strategy=strategy, answer_format=form).system for form in ANSWER_FORMATS]
    digest = hashlib.sha256("\n".join(wordings).encode()).hexdigest()[:12]

    assert (SPAN_PROMPT_VERSIONS[strategy], digest) == WORDED[strategy]


class TestReading:
    @pytest.mark.parametrize(
        ("text", "answer", "reasoning"),
        [
            ("<answer>Seehausen</answer>", "Seehausen", ""),
            ("<answer>\nSeehausen\n</answer>\n", "Seehausen", ""),
            ("`<answer>Seehausen</answer>`", "Seehausen", "`"),
            (
                "<reasoning>It rises there.</reasoning>\n<answer>Seehausen</answer>",
                "Seehausen",
                "It rises there.",
            ),
            (
                "<answer>the Weser</answer>? No: <answer>Seehausen</answer>",
                "Seehausen",
                "<answer>the Weser</answer>? No:",
            ),
            ("<no_answer/>", "", ""),
            ("<reasoning>Nothing.</reasoning> <no_answer />.", "", "Nothing."),
            ("<no_answer></no_answer>", "", ""),
            ("<answer>see [1] {x} & <b></answer>", "see [1] {x} & <b>", ""),
        ],
    )
    def test_the_answer_at_the_end_counts(self, text, answer, reasoning):
        assert read_extraction(text, "bracket") == Extraction(answer, reasoning)

    @pytest.mark.parametrize(
        "text",
        [
            "Seehausen",
            "<answer></answer>",
            "<answer> </answer>",
            "<answer>Seehausen</answer> I think",
            "",
            "<answer>x",
        ],
    )
    def test_a_reply_without_an_answer_at_its_end_is_unparseable(self, text):
        assert read_extraction(text, "bracket") == Extraction(None, text.strip())

    @pytest.mark.parametrize(
        ("values", "answer"),
        [
            ({"has_answer": True, "answer": " Seehausen "}, "Seehausen"),
            ({"has_answer": False, "answer": ""}, ""),
            ({"has_answer": False, "answer": None}, ""),
            ({"has_answer": False}, ""),
            ({"has_answer": True, "answer": " "}, None),
            ({"has_answer": False, "answer": "Seehausen"}, None),
            ({"has_answer": "yes", "answer": "Seehausen"}, None),
            ({"answer": "Seehausen"}, None),
            ({"has_answer": True, "answer": ["Seehausen"]}, None),
        ],
    )
    def test_a_structured_answer_must_agree_with_itself(self, values, answer):
        read = read_extraction(json.dumps({"reasoning": " So. ", **values}), "structured")

        assert read == Extraction(answer, "So.")

    def test_what_is_no_object_is_unparseable(self):
        assert read_extraction("[Seehausen]", "structured") == Extraction(None, "[Seehausen]")


class TestLocating:
    def test_the_first_place_is_taken_and_all_are_counted(self):
        found = located("260 km", TEXT)

        assert found is not None
        assert (found.answer, found.start, found.occurrences) == ("260 km", TEXT.index("260 km"), 2)

    def test_what_is_stored_is_what_stands_in_the_text(self):
        text = "Prof. Ada\n  Lovelace wrote it."
        found = located("“ada lovelace”", text)

        assert found is not None
        assert found.answer == "Ada\n  Lovelace" == text[found.start : found.end]

    def test_what_was_escaped_is_found(self):
        text = "The tag <item> opens it."
        found = located("tag &lt;item>", text)

        assert found is not None
        assert found.answer == "tag <item>"

    def test_no_answer_stands_nowhere_and_other_words_are_not_found(self):
        nothing = located("", TEXT)

        assert nothing is not None
        assert (nothing.answer, nothing.start, nothing.end, nothing.occurrences) == ("", 0, 0, 0)
        assert located("Hamburg", TEXT) is None

    @given(st.text(min_size=1), st.data())
    def test_any_part_of_any_text_is_found_by_its_words(self, text, data):
        start = data.draw(st.integers(0, len(text) - 1))
        answer = text[start : data.draw(st.integers(start + 1, len(text)))]
        found = located(answer.strip(), text)

        assert found is not None
        assert text[found.start : found.end] == found.answer == answer.strip()
