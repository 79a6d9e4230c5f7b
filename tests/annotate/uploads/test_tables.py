import json
import tracemalloc
from dataclasses import replace

import pytest

from annotate.uploads.errors import UploadError
from annotate.uploads.limits import UploadLimits
from annotate.uploads.reading import Row, RowError, open_upload
from tests.annotate.uploads.factories import LIMITS, errors, good, open_bytes, open_text


def test_csv_keeps_every_cell_as_it_is_written(tmp_path):
    text = 'id,text\r\n1,"a, ""b""\nc"\r\n2,=1+1\r\n3,<script>alert(1)</script>\r\n4,  NULL \r\n'
    reader = open_text(tmp_path, "t.csv", text)
    assert (reader.kind, reader.columns, reader.notes) == ("csv", ["id", "text"], [])
    assert [row["text"] for row in good(reader)] == [
        'a, "b"\nc',
        "=1+1",
        "<script>alert(1)</script>",
        "  NULL ",
    ]
    assert errors(reader) == []
    assert reader.total_hint == 4


@pytest.mark.parametrize(
    ("delimiter", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_another_delimiter_is_found_and_reported(tmp_path, delimiter, words):
    lines = [["id", "text"], ["1", "one, two"], ["2", "three, four, five"]]
    reader = open_text(tmp_path, "t.csv", "\n".join(delimiter.join(line) for line in lines))
    assert reader.notes == [f"Columns are separated by {words}."]
    assert good(reader)[1] == {"id": "2", "text": "three, four, five"}


def test_commas_stay_the_delimiter_where_texts_hold_semicolons(tmp_path):
    reader = open_text(tmp_path, "t.csv", "id,text\n1,a; b\n2,c; d; e\n")
    assert reader.notes == []
    assert good(reader)[0] == {"id": "1", "text": "a; b"}


def test_one_column_of_texts_with_semicolons_is_not_split(tmp_path):
    reader = open_text(tmp_path, "t.csv", "text; or so\nhello\nyou; there; now\nbye\n")
    assert reader.columns == ["text; or so"]
    assert len(good(reader)) == 3


def test_tsv_is_always_split_at_tabs(tmp_path):
    reader = open_text(tmp_path, "t.tsv", "a,b\tc\n1,2\t3\n")
    assert (reader.kind, reader.columns) == ("tsv", ["a,b", "c"])


def test_ragged_rows_are_errors_with_their_line_and_the_rest_is_read(tmp_path):
    reader = open_text(tmp_path, "t.csv", 'id,text\n1,"two\nlines"\n2\n3,ok\n4,a,b\n')
    assert errors(reader) == [
        (2, "Line 4 has 1 cell, but the header names 2 columns."),
        (4, "Line 6 has 3 cells, but the header names 2 columns."),
    ]
    assert [row["id"] for row in good(reader)] == ["1", "3"]


def test_an_unclosed_quote_costs_one_line_and_not_the_file(tmp_path):
    rows = "".join(f"{number},fine\n" for number in range(2, 500))
    reader = open_text(tmp_path, "t.csv", f'id,text\n1,"never closed\n{rows}')
    assert errors(reader) == [(1, 'Line 2: a quote (") is opened on this line and never closed.')]
    assert len(good(reader)) == 498


def test_an_unclosed_quote_before_a_quoted_cell_costs_one_line(tmp_path):
    reader = open_text(tmp_path, "t.csv", 'id,text\n1,"open\n2,"closed"\n3,"closed, too"\n')
    assert errors(reader) == [(1, 'Line 2: a quote (") is opened on this line and not closed properly.')]
    assert [row["text"] for row in good(reader)] == ["closed", "closed, too"]


def test_an_unclosed_quote_takes_no_more_than_one_record_into_memory(tmp_path):
    limits = replace(LIMITS, max_cell_chars=100, max_row_chars=200)
    rows = "".join(f"{number},fine\n" for number in range(2, 500))
    reader = open_text(tmp_path, "t.csv", f'id,text\n1,"never closed\n{rows}', limits=limits)
    assert errors(reader) == [
        (1, 'Line 2: a quote (") is opened on this line and not closed within 200 characters.')
    ]
    assert len(good(reader)) == 498


def test_a_file_of_unclosed_quotes_is_given_up_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr("annotate.uploads.delimited._MAX_REREAD_CHARS", 100_000)
    limits = replace(LIMITS, max_cell_chars=1_000, max_row_chars=1_000)
    reader = open_text(
        tmp_path, "t.csv", "id,text\n" + "1,fine\n" * 20_000 + 'b","c\n' * 5_000, limits=limits
    )
    with pytest.raises(UploadError, match="Too many quotes are opened and never closed"):
        list(reader.rows())


def test_a_line_that_never_ends_is_skipped(tmp_path):
    limits = replace(LIMITS, max_cell_chars=100, max_row_chars=1_000)
    reader = open_text(tmp_path, "t.csv", "id,text\n1," + "x" * 50_000 + "\n2,fine\n", limits=limits)
    assert errors(reader) == [(1, "Line 2: the line is longer than 1,000 characters.")]
    assert good(reader) == [{"id": "2", "text": "fine"}]


def test_a_cell_above_the_limit_is_an_error(tmp_path):
    limits = replace(LIMITS, max_cell_chars=10)
    reader = open_text(tmp_path, "t.csv", "id,text\n1,12345678901\n2,1234567890\n", limits=limits)
    assert errors(reader) == [(1, "Line 2: Column “text” holds 11 characters; at most 10 are accepted.")]


def test_a_cell_longer_than_the_csv_module_allows_is_read(tmp_path):
    reader = open_text(tmp_path, "t.csv", "id,text\n1," + "x" * 150_000 + "\n")
    assert len(good(reader)[0]["text"]) == 150_000


def test_text_after_a_closing_quote_is_an_error(tmp_path):
    reader = open_text(tmp_path, "t.csv", 'id,text\n1,"a"b\n2,c\n')
    assert errors(reader)[0][1].startswith("Line 2: a quoted cell goes on after its closing quote")
    assert len(good(reader)) == 1


def test_blank_lines_are_not_counted(tmp_path):
    reader = open_text(tmp_path, "t.csv", "id,text\n\n1,a\n\n\n2,b\n\n")
    assert [record.number for record in reader.rows()] == [1, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "“t.csv” is empty."),
        (" \n\n ", "“t.csv” is empty."),
        ("id,text\n", "“t.csv” has a header but no rows below it."),
        ("id,text", "“t.csv” has a header but no rows below it."),
        (",,\n1,2,3\n", "The first line must name the columns, but all its cells are blank."),
        ("id,text,id\n1,2,3\n", "Two columns are called “id”. Rename one of them"),
        ('id,"text\n1,2\n', "The header cannot be read. Line 1: a quote"),
        ("x" * 300 + ",text\n1,2\n", "is longer than 200 characters"),
    ],
)
def test_csv_without_usable_header_or_rows_is_refused(tmp_path, text, sentence):
    with pytest.raises(UploadError) as caught:
        open_text(tmp_path, "t.csv", text)
    assert sentence in caught.value.sentence


def test_a_blank_column_name_is_replaced_and_reported(tmp_path):
    reader = open_text(tmp_path, "t.csv", ",text\n0,a\n")
    assert reader.columns == ["column 1", "text"]
    assert reader.notes == ["Column 1 has no name in the header; it is called “column 1” here."]


def test_too_many_columns_are_refused(tmp_path):
    with pytest.raises(UploadError, match="3 columns; at most 2 are accepted"):
        open_text(tmp_path, "t.csv", "a,b,c\n1,2,3\n", limits=replace(LIMITS, max_columns=2))


def test_too_many_rows_end_the_reading_after_the_last_accepted_one(tmp_path):
    reader = open_text(tmp_path, "t.csv", "a,b\n" + "1,2\n" * 5, limits=replace(LIMITS, max_rows=3))
    seen: list[object] = []
    with pytest.raises(UploadError, match="more than 3 rows"):
        seen.extend(reader.rows())
    assert len(seen) == 3


TABLES = {
    "t.csv": 'id,text\n1,a\n2\n3,"c\nd"\n4,"open\n5,e\n6,f\n',
    "t.jsonl": '{"id":1}\n{"id":2\n\n[3]\n{"id":4}\n{"id":5}\n{"id":6}\n',
    "t.json": '[{"id":1},2,{"id":3},null,{"id":5},{"id":6}]',
}


@pytest.mark.parametrize("name", TABLES)
def test_reading_goes_on_where_it_stopped_with_the_same_numbers(tmp_path, name):
    reader = open_text(tmp_path, name, TABLES[name])
    everything = list(reader.rows())
    assert [record.number for record in everything] == [1, 2, 3, 4, 5, 6]
    assert any(isinstance(record, RowError) for record in everything)
    for start in range(8):
        assert list(reader.rows(start)) == everything[start:]


def test_preview_gives_good_rows_only(tmp_path):
    reader = open_text(tmp_path, "t.csv", "id,text\n1\n2,b\n3,c\n4,d\n")
    assert [row.number for row in reader.preview(2)] == [2, 3]


def test_a_large_csv_is_never_held_in_memory(tmp_path):
    path = tmp_path / "large"
    line = "some text that people wrote, " * 8
    with path.open("w") as stream:
        stream.write("id,text\n")
        stream.writelines(f'{number},"{line}"\n' for number in range(125_000))
    size = path.stat().st_size
    assert size > 28_000_000
    tracemalloc.start()
    try:
        reader = open_upload(path, "large.csv", limits=LIMITS)
        count = sum(1 for _ in reader.rows())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 125_000
    assert peak < 5_000_000
    assert reader.total_hint == pytest.approx(count, rel=0.02)


def test_a_large_json_list_is_never_held_in_memory(tmp_path):
    path = tmp_path / "large"
    item = json.dumps({"text": "some text that people wrote, " * 50})
    with path.open("w") as stream:
        stream.write("[" + item)
        stream.writelines(f",\n{item}" for _ in range(9_999))
        stream.write("]")
    assert path.stat().st_size > 14_000_000
    tracemalloc.start()
    try:
        count = sum(1 for _ in open_upload(path, "large.json", limits=LIMITS).rows())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 10_000
    assert peak < 5_000_000


def test_a_file_of_one_endless_line_is_refused_without_reading_it_into_memory(tmp_path):
    path = tmp_path / "endless"
    path.write_bytes(b"a" * 20_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UploadError, match="the line is longer than 1,000,000 characters"):
            open_upload(path, "endless.csv", limits=LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_json_lines(tmp_path):
    lines = [
        '{"id": 7, "text": "a", "tags": ["x", {"y": "ü"}], "ok": true, "score": 0.5}',
        "",
        '{"text": "b", "extra": null}',
    ]
    reader = open_text(tmp_path, "t.jsonl", "\n".join(lines))
    assert (reader.kind, reader.columns) == ("jsonl", ["id", "text", "tags", "ok", "score", "extra"])
    first, second = good(reader)
    assert first == {
        "id": 7,
        "text": "a",
        "tags": '["x", {"y": "ü"}]',
        "ok": True,
        "score": 0.5,
        "extra": None,
    }
    assert second == {"id": None, "text": "b", "tags": None, "ok": None, "score": None, "extra": None}
    assert reader.total_hint == 2


def test_bad_json_lines_are_errors_with_their_line(tmp_path):
    lines = ['{"a": 1}', '{"a": 1', "[1]", "7", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", '{"a": 2}']
    reader = open_text(tmp_path, "t.jsonl", "\n".join(lines))
    assert [message.split(":")[0] for _, message in errors(reader)] == [
        "Line 2",
        "Line 3",
        "Line 4",
        "Line 5",
    ]
    messages = [message for _, message in errors(reader)]
    assert "not valid JSON" in messages[0]
    assert "found a list" in messages[1]
    assert "found a number" in messages[2]
    assert "nested too deeply" in messages[3]
    assert [row["a"] for row in good(reader)] == [1, 2]


def test_a_json_line_above_the_limit_is_skipped(tmp_path):
    limits = UploadLimits(max_row_chars=100)
    reader = open_text(tmp_path, "t.jsonl", '{"a": "' + "x" * 1_000 + '"}\n{"a": "b"}\n', limits=limits)
    assert errors(reader) == [(1, "Line 1: the line is longer than 100 characters.")]
    assert good(reader) == [{"a": "b"}]


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_numbers_that_json_or_a_database_cannot_hold(tmp_path, name):
    record = (
        '{"id": 1234567890123456789, "large": 123456789012345678901234567890, "endless": ' + "9" * 5_000 + ","
        ' "nan": NaN, "infinite": -Infinity, "overflow": 1e999}'
    )
    text = f"[{record}]" if name == "t.json" else record
    (row,) = good(open_text(tmp_path, name, text))
    assert row["id"] == 1234567890123456789
    assert row["large"] == "123456789012345678901234567890"
    assert row["endless"] == "9" * 5_000
    assert row["nan"] is None
    assert (row["infinite"], row["overflow"]) == ("-Infinity", "Infinity")
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_texts_that_a_database_cannot_hold_are_errors(tmp_path, name):
    records = ['{"a": "x\\u0000y"}', '{"a": "\\ud800"}', '{"a\\u0000": 1}', '{"a": "fine \\ud83d\\ude00"}']
    text = "[" + ",".join(records) + "]" if name == "t.json" else "\n".join(records)
    reader = open_text(tmp_path, name, text)
    messages = [message for _, message in errors(reader)]
    assert "holds a NUL character" in messages[0]
    assert "half a character" in messages[1]
    assert "holds a NUL character" in messages[2]
    assert good(reader) == [{"a": "fine 😀"}]


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": 2}]',
        '\n {"data": [{"a": 1}, {"a": 2}]}',
        '{"version": [1, {"x": 2}], "data":\n[{"a": 1},\n{"a": 2}], "more": 3}',
    ],
)
def test_json_lists(tmp_path, text):
    reader = open_text(tmp_path, "t.json", text)
    assert (reader.kind, reader.columns, reader.total_hint) == ("json", ["a"], 2)
    assert good(reader) == [{"a": 1}, {"a": 2}]


def test_json_items_that_are_no_objects_are_errors(tmp_path):
    reader = open_text(tmp_path, "t.json", '[{"a": 1}, 12, "x", null, true, [1]]')
    assert errors(reader)[0] == (2, "Item 2: expected an object with named values, found a number.")
    assert len(errors(reader)) == 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "“t.json” holds no rows."),
        ("[1, 2]", "holds no usable rows. Item 1: expected an object with named values, found a number."),
        ("{}", "“t.json” holds no rows."),
        ("{\n}", 'The JSON must be a list of objects, or an object whose "data" is such a list.'),
        ('"text"', "The JSON must be a list of objects"),
        ('{"data":\n{"a": 1}}', "The JSON must be a list of objects"),
        ('{"rows":\n[{"a": 1}]}', "The JSON must be a list of objects"),
        ("id,text\n1,2\n", "The JSON must be a list of objects"),
        ('[{"a": 1},\n{"a": 2', "The JSON cannot be read after line 2"),
        ('[{"a": 1},\n{"a": 2}', "after line 2: the file ends before the list does"),
        ('[{"a": 1}]\n[{"a": 2}]', "there is more text after the end of the list"),
        ('[{"a": 1}\n{"a": 2}]', "a comma or the end of the list was expected"),
        ("[" * 100_000, "it is nested too deeply"),
        ('[{"a": "' + "x" * 1_200_000 + '"}]', "is broken or longer than 1,000,000 characters"),
    ],
)
def test_json_that_is_no_list_of_objects_is_refused(tmp_path, text, sentence):
    with pytest.raises(UploadError) as caught:
        open_text(tmp_path, "t.json", text)
    assert sentence in caught.value.sentence


def test_broken_json_far_into_the_file_is_told_after_the_good_rows(tmp_path):
    text = "[" + '{"text": "0123456789"},\n' * 20_000 + "oops"
    reader = open_text(tmp_path, "t.json", text)
    seen: list[object] = []
    with pytest.raises(UploadError, match="after line 20,001"):
        seen.extend(reader.rows())
    assert len(seen) == 20_000
    assert all(isinstance(record, Row) for record in seen)


def test_values_at_every_place_of_a_chunk_border_are_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("annotate.uploads.json_text._CHUNK", 1)
    values = [{"a": 12345, "b": 'x\\"y'}, {"a": -1.5e3, "b": "ü"}, 123, {"a": None, "b": True}]
    reader = open_text(tmp_path, "t.json", json.dumps(values, ensure_ascii=False))
    assert good(reader) == [values[0], values[1], values[3]]


def test_json_lines_and_lists_under_each_others_names(tmp_path):
    lines = open_text(tmp_path, "t.json", '{"a": 1}\n{"a": 2}\n')
    assert (lines.kind, len(good(lines))) == ("jsonl", 2)
    assert lines.notes == ["The file is read as JSON Lines: one object a line."]
    listed = open_text(tmp_path, "t.jsonl", '[{"a": 1},\n{"a": 2}]')
    assert (listed.kind, len(good(listed))) == ("json", 2)


def test_a_json_object_with_too_many_values_is_an_error(tmp_path):
    reader = open_text(
        tmp_path, "t.jsonl", '{"a": 1}\n{"a": 1, "b": 2, "c": 3}\n', limits=replace(LIMITS, max_columns=2)
    )
    assert errors(reader) == [(2, "Line 2: 3 values; at most 2 are accepted.")]


def test_a_text_table_holds_no_images(tmp_path):
    from annotate.uploads.errors import RowProblem

    reader = open_bytes(tmp_path, "t.csv", b"id,image\n1,a.png\n")
    with pytest.raises(RowProblem, match="put them into a zip"):
        reader.open_image("a.png")
