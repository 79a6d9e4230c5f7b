import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.uploads.answers import gold_answers, with_no_answer
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.mapping import ColumnMapping, RowMapper, suggest_mapping, validate_mapping
from annotate.uploads.rows import Row
from tests.annotate.uploads.factories import good, open_bytes, open_text
from tests.annotate.uploads.test_columnar import parquet_bytes

TEXT = "  Rome fell. Rome [1] was rebuilt."
ROME = [{"text": "Rome", "start": 2}]
SECOND = TEXT.rindex("Rome")


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        (None, None),
        ("", []),
        (" \n", []),
        ("[]", []),
        ([], []),
        ('{"text": [], "answer_start": []}', []),
        ("Rome", ROME),
        (" Rome ", ROME),
        ("[1] was", [{"text": "[1] was", "start": TEXT.index("[1]")}]),
        ('["Rome", "was"]', [*ROME, {"text": "was", "start": TEXT.index("was")}]),
        ('[{"text": "Rome", "start": 2}]', ROME),
        ([{"text": "Rome", "answer_start": SECOND}], [{"text": "Rome", "start": SECOND}]),
        ({"text": ["Rome", "Rome"], "answer_start": [2, SECOND]}, [*ROME, {"text": "Rome", "start": SECOND}]),
        ({"text": ["Rome", "Rome"], "answer_start": [2, 2]}, ROME),
        ({"text": "Rome", "start": 2}, ROME),
        # Counted without the white space before it, or in bytes: the nearest place is meant.
        ([{"text": "Rome", "start": 0}], ROME),
        ([{"text": "Rome", "start": SECOND + 3}], [{"text": "Rome", "start": SECOND}]),
        ([{"text": "Rome", "start": -1}], ROME),
        ([{"text": "Rome"}], ROME),
    ],
)
def test_every_form_of_answers_is_understood(value, answers):
    assert gold_answers(value, TEXT) == answers


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("Carthage", "its answer “Carthage” does not stand in its text"),
        ("x" * 200, "…” does not stand"),
        ([{"start": 2}], "no “text”"),
        ([["Rome"]], "is no text"),
        ([""], "blank"),
        ({"text": ["Rome"], "answer_start": []}, "not as many places"),
        ([{"text": "Rome", "start": "2"}], "whole number"),
        ('[{"text": "Rome", "start": NaN}]', "whole number"),
        ('{"text": ["Rome"], "answer_start": [1e999]}', "whole number"),
        (r'["Rome\u0000"]', "NUL character"),
        (r'[{"text": "Rome\ud83d"}]', "half a character"),
        (["Rome"] * 1001, "at most 1,000"),
        (True, "is no text"),
    ],
)
def test_what_is_no_answer_of_the_text_is_a_problem(value, sentence):
    with pytest.raises(RowProblem, match=sentence):
        gold_answers(value, TEXT)


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60),
    st.data(),
)
def test_a_place_that_is_right_stays(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    words = text[start : data.draw(st.integers(start + 1, len(text)))]
    if words.strip():
        assert gold_answers([{"text": words, "answer_start": start}], text) == [
            {"text": words, "start": start}
        ]


@pytest.mark.parametrize("said", [10, 10.0, "10", " 10.0 ", 8])
def test_a_column_of_its_own_says_which_place_is_meant(said):
    assert gold_answers("Rome", "Rome, not Rome.", said) == [{"text": "Rome", "start": 10}]


@pytest.mark.parametrize("said", [None, "", " "])
def test_without_a_place_the_first_one_is_taken(said):
    assert gold_answers("Rome", "Rome, not Rome.", said) == [{"text": "Rome", "start": 0}]


def test_the_place_beside_is_for_one_answer_that_has_none_of_its_own():
    text = "Rome, not Rome."
    assert gold_answers([{"text": "Rome", "start": 0}], text, 10) == [{"text": "Rome", "start": 0}]
    assert gold_answers(["Rome", "not"], text, 10) == [
        {"text": "Rome", "start": 0},
        {"text": "not", "start": 6},
    ]
    assert gold_answers("", text, 0) == []
    assert gold_answers(None, text, 0) is None


@pytest.mark.parametrize("said", ["-1", "ten", "1.5", 1.5, True, "9" * 13])
def test_a_place_beside_that_is_no_whole_number_is_refused(said):
    with pytest.raises(RowProblem, match="must be a whole number"):
        gold_answers("Rome", "Rome", said)


@pytest.mark.parametrize(("place", "found"), [("12", "start"), ("", "start"), ("0:12", None)])
def test_a_column_called_start_holds_places_only_if_it_holds_whole_numbers(place, found):
    row = Row(1, {"context": "Rome fell.", "question": "What?", "answer": "Rome", "start": place})
    assert suggest_mapping(list(row.values), [row], "extractive_qa").start == found


def record(**values):
    mapping = ColumnMapping(text="context", question="question", gold="answers")
    return RowMapper(mapping, task_type="extractive_qa").record(Row(3, {"question": "What?", **values}))


def test_the_text_stays_as_it_is_so_that_places_count():
    found = record(context=TEXT, answers='[{"text": "Rome", "start": 2}]', title="T")

    assert (found.text, found.gold, found.gold_answers, found.columns) == (TEXT, None, ROME, {"title": "T"})
    assert record(context=TEXT, answers=None).gold_answers is None
    for blank in ({"context": " \n"}, {"context": TEXT, "question": " "}):
        with pytest.raises(RowProblem, match="Row 3 has no"):
            record(answers="Rome", **blank)
    with pytest.raises(RowProblem, match=r"Row 3: its answer “Carthage”"):
        record(context=TEXT, answers="Carthage")


def test_a_csv_may_hold_the_words_alone(tmp_path):
    reader = open_text(
        tmp_path, "q.csv", "id,question,context,answer\n1,What?,Rome fell.,Rome\n2,Who?,Rome fell.,\n"
    )
    mapping = suggest_mapping(reader.columns, reader.preview(), "extractive_qa")
    validate_mapping(mapping, reader.columns, "extractive_qa", reader.kind)
    mapper = RowMapper(mapping, task_type="extractive_qa")

    assert mapping == ColumnMapping(id="id", text="context", question="question", gold="answer")
    assert [mapper.record(row).gold_answers for row in reader.preview()] == [
        [{"text": "Rome", "start": 0}],
        [],
    ]


def test_answers_are_no_part_of_what_models_see():
    with pytest.raises(UploadError, match="cannot be both the text and the gold label or answers"):
        validate_mapping(ColumnMapping(text="a", question="b", gold="a"), ["a", "b"], "extractive_qa")
    with pytest.raises(UploadError, match="no column “c” for the answers"):
        validate_mapping(ColumnMapping(text="a", question="b", gold="c"), ["a", "b"], "extractive_qa")


class TestParquet:
    PLACES = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])

    def table(self, answers, kind):
        texts = ["Rome fell. Rome rose."] * len(answers)
        return pa.table({"context": texts, "answers": pa.array(answers, kind)})

    @pytest.mark.parametrize(
        ("kind", "answers"),
        [
            (PLACES, [{"text": ["Rome"], "answer_start": [11]}, {"text": [], "answer_start": []}, None]),
            (
                pa.list_(pa.struct([("text", pa.string()), ("answer_start", pa.int64())])),
                [[{"text": "Rome", "answer_start": 11}], [], None],
            ),
        ],
    )
    def test_answers_as_hugging_face_stores_them_are_kept(self, kind, answers, tmp_path):
        reader = open_bytes(tmp_path, "q.parquet", parquet_bytes(self.table(answers, kind)))
        rows = good(reader)

        assert reader.columns == ["context", "answers"]
        found = [gold_answers(row["answers"], row["context"]) for row in rows]
        assert found == [[{"text": "Rome", "start": 11}], [], None]
        assert json.loads(rows[0]["answers"]) == answers[0]

    def test_other_lists_and_long_ones_are_left_out(self, tmp_path):
        table = self.table([{"text": ["Rome"] * 500, "answer_start": [0] * 500}] * 3, self.PLACES)
        table = table.append_column("words", pa.array([["a"], ["b"], []]))
        reader = open_bytes(tmp_path, "q.parquet", parquet_bytes(table))

        assert reader.columns == ["context"]
        assert "“answers”, “words”" in reader.notes[0]

    def test_a_cell_with_too_much_in_it_is_an_error_of_its_row(self, tmp_path):
        answers = [{"text": ["x" * 900_000], "answer_start": [0]}, {"text": ["Rome"], "answer_start": [0]}]
        reader = open_bytes(tmp_path, "q.parquet", parquet_bytes(self.table(answers, self.PLACES)))

        assert len(good(reader)) == 1


@pytest.mark.parametrize(
    ("cell", "said", "found"),
    [
        ("", "true", []),
        ("", "True", []),
        (None, 1, []),
        ("", "false", None),
        ("", "", None),
        ("", None, None),
        ("Seehausen", "false", [{"text": "Seehausen", "start": 10}]),
    ],
)
def test_a_column_of_its_own_tells_no_answer_from_an_unknown_one(cell: Any, said: Any, found: Any) -> None:
    assert with_no_answer(gold_answers(cell, "The Aller Seehausen"), said) == found


@pytest.mark.parametrize(
    ("said", "problem"), [("perhaps", "by true or false"), (True, "is said to have none")]
)
def test_what_contradicts_itself_is_refused(said: Any, problem: str) -> None:
    with pytest.raises(RowProblem, match=problem):
        with_no_answer(gold_answers("Seehausen", "The Aller Seehausen"), said)
