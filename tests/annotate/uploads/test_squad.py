import json
import tracemalloc
from dataclasses import replace

import pytest

from annotate.uploads.errors import UploadError
from annotate.uploads.mapping import ColumnMapping, suggest_mapping
from tests.annotate.uploads.factories import LIMITS, errors, good, open_text


def question(number, **fields):
    answers = [{"text": "Seehausen", "answer_start": 12}]
    return {"id": f"q{number}", "question": f"Where, number {number}?", "answers": answers, **fields}


def paragraph(*questions, context="It rises in Seehausen."):
    return {"context": context, "qas": list(questions)}


def squad(*articles, **around):
    return json.dumps({"version": "v2.0", **around, "data": list(articles)})


def article(*paragraphs, title="Aller"):
    return {"title": title, "paragraphs": list(paragraphs)}


def test_version_1_1_is_read_as_it_is(tmp_path):
    text = squad(
        article(paragraph(question(1), question(2)), paragraph(question(3), context="Another.")),
        article(paragraph(question(4)), title="Weser"),
        version="1.1",
    )
    reader = open_text(tmp_path, "train-v1.1.json", text)
    rows = good(reader)

    assert (reader.kind, reader.columns, reader.total_hint) == (
        "json",
        ["id", "title", "context", "question", "answers"],
        4,
    )
    assert [row["id"] for row in rows] == ["q1", "q2", "q3", "q4"]
    assert [row["title"] for row in rows] == ["Aller", "Aller", "Aller", "Weser"]
    assert rows[2]["context"] == "Another."
    assert json.loads(rows[0]["answers"]) == [{"text": "Seehausen", "answer_start": 12}]
    assert suggest_mapping(reader.columns, reader.preview(), "extractive_qa") == ColumnMapping(
        id="id", text="context", question="question", gold="answers"
    )
    assert [record.number for record in reader.rows(start=2)] == [3, 4]


def test_version_2_0_says_which_questions_have_no_answer(tmp_path):
    impossible = question(
        1, answers=[], is_impossible=True, plausible_answers=[{"text": "It", "answer_start": 0}]
    )
    text = squad(article(paragraph(impossible, question(2, is_impossible=False), question(3, answers=[]))))
    rows = good(open_text(tmp_path, "dev-v2.0.json", text))

    assert [row["answers"] and json.loads(row["answers"]) for row in rows] == [
        [],
        [{"text": "Seehausen", "answer_start": 12}],
        None,
    ]


def test_a_title_behind_its_paragraphs_is_found(tmp_path):
    first, second = article(paragraph(question(1))), article(paragraph(question(2)), title="Weser")
    turned = [dict(reversed(each.items())) for each in (first, second)]
    rows = good(open_text(tmp_path, "s.json", squad(*turned)))

    assert [row["title"] for row in rows] == ["Aller", "Weser"]


def test_questions_that_cannot_be_used_are_errors_in_their_place(tmp_path):
    text = squad(
        article(
            paragraph(question(1), "what?", question(2, answers="Seehausen")),
            {"context": "No questions."},
            paragraph(question(3)),
        )
    )
    reader = open_text(tmp_path, "s.json", text)

    assert [row["id"] for row in good(reader)] == ["q1", "q3"]
    assert [(number, message[:30]) for number, message in errors(reader)] == [
        (2, "Question 2: expected an object"),
        (3, 'Question 3: its "answers" must'),
        (4, "Question 4: expected a paragra"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (squad(article()), "holds no questions"),
        (squad(article(paragraph(question(1))))[:-4], "The JSON cannot be read"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": []}, ]}]}', "cannot be read"),
    ],
)
def test_a_broken_file_says_where(text, sentence, tmp_path):
    with pytest.raises(UploadError, match=sentence):
        list(open_text(tmp_path, "s.json", text).rows())


def test_one_article_with_everything_takes_no_more_memory_than_a_paragraph(tmp_path):
    context = "It rises in Seehausen. " * 200
    many = [paragraph(*(question(20 * n + k) for k in range(20)), context=context) for n in range(800)]
    text = squad(article(*many))
    reader = open_text(tmp_path, "s.json", text, limits=replace(LIMITS, max_row_chars=100_000))
    tracemalloc.start()
    count = sum(1 for _ in reader.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 16_000
    assert len(text) > 5_000_000
    assert peak < 2_000_000


def test_other_json_with_data_is_read_as_before(tmp_path):
    reader = open_text(tmp_path, "t.json", '{"data": [{"id": 1, "text": "x"}]}')

    assert reader.columns == ["id", "text"]
