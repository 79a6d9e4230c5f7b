import codecs
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from annotate.uploads.errors import UploadError
from annotate.uploads.limits import GIB, format_bytes
from annotate.uploads.reading import ENCODINGS, RowError, open_upload
from tests.annotate.uploads.factories import LIMITS, good, image_bytes, open_bytes, open_text, zip_bytes

TABLE = "id,text\n1,Grüße – 你好\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_byte_order_marks_are_honoured_and_left_out(tmp_path, mark, encoding):
    reader = open_bytes(tmp_path, "t.csv", mark + TABLE.encode(encoding))
    assert reader.columns == ["id", "text"]
    assert good(reader) == [{"id": "1", "text": "Grüße – 你好"}]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Grüße – €"),
        ("latin-1", "Grüße"),
        ("shift_jis", "こんにちは"),
        ("gb18030", "你好"),
        ("utf-16", "你好"),
    ],
)
def test_an_encoding_can_be_chosen(tmp_path, encoding, text):
    assert encoding in ENCODINGS
    reader = open_bytes(tmp_path, "t.csv", f"id,text\n1,{text}\n".encode(encoding), encoding=encoding)
    assert good(reader) == [{"id": "1", "text": text}]


def test_json_in_a_chosen_encoding(tmp_path):
    reader = open_bytes(tmp_path, "t.json", '[{"a": "Grüße"}]'.encode("cp1252"), encoding="cp1252")
    assert good(reader) == [{"a": "Grüße"}]


def test_an_encoding_that_is_not_offered_is_refused(tmp_path):
    with pytest.raises(UploadError, match="“rot13” is not offered"):
        open_text(tmp_path, "t.csv", TABLE, encoding="rot13")


def test_a_wrong_encoding_names_the_byte_the_line_and_the_choices(tmp_path):
    data = "id,text\n1,fine\n2,Grüße\n".encode("cp1252")
    with pytest.raises(UploadError) as caught:
        open_bytes(tmp_path, "t.csv", data)
    assert caught.value.sentence == (
        "The file is not valid UTF-8: byte 20 (0xFC, on line 3) cannot be read."
        " Choose the encoding it was saved in (utf-16, cp1252, latin-1, shift_jis, gb18030),"
        " or save it as UTF-8."
    )
    assert data[19] == 0xFC


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_bad_byte_far_into_the_file_is_found_in_its_place(tmp_path, mark):
    before = mark + b"id,text\n" + "1,grüß\n".encode() * 30_000
    reader = open_bytes(tmp_path, "t.csv", before + b"2,\xff\n")
    with pytest.raises(UploadError) as caught:
        list(reader.rows())
    assert f"byte {len(before) + 3:,} (0xFF, on line 30,002)" in caught.value.sentence


def test_a_cut_off_character_at_the_end_is_found(tmp_path):
    with pytest.raises(UploadError, match=r"byte 11 \(0xC3, on line 2\)"):
        open_bytes(tmp_path, "t.csv", b"id,text\n1,\xc3")


@pytest.mark.parametrize("data", [b"id,text\n1,a\x00b\n", "id,text\n1,a\n".encode("utf-16-le"), bytes(1000)])
def test_binary_content_under_a_tables_name_is_refused(tmp_path, data):
    with pytest.raises(UploadError, match="holds NUL bytes, so it is not plain text"):
        open_bytes(tmp_path, "t.csv", data)


def test_a_nul_byte_far_into_the_file_is_an_error_of_its_row(tmp_path):
    from tests.annotate.uploads.factories import errors

    reader = open_bytes(tmp_path, "t.csv", b"id,text\n" + b"1,fine\n" * 20_000 + b"2,a\x00b\n3,c\n")
    assert errors(reader) == [(20_001, "Line 20,002: Column “text” holds a NUL character.")]


def test_a_file_above_the_limit_is_refused_by_its_size_alone(tmp_path):
    path = tmp_path / "huge.csv"
    with path.open("wb") as stream:
        stream.truncate(2 * GIB + 1)  # sparse: takes no room
    os.chmod(path, 0)
    with pytest.raises(UploadError, match=r"“huge.csv” has 2 GiB; at most 2 GiB are accepted. Split it"):
        open_upload(path, "huge.csv", limits=LIMITS)


def test_a_file_at_the_limit_is_read(tmp_path):
    data = TABLE.encode()
    assert good(open_bytes(tmp_path, "t.csv", data, limits=replace(LIMITS, max_bytes=len(data))))
    with pytest.raises(UploadError, match="at most"):
        open_bytes(tmp_path, "t.csv", data, limits=replace(LIMITS, max_bytes=len(data) - 1))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet", "t.zip", "t.txt"])
def test_an_empty_file_is_refused(tmp_path, name):
    with pytest.raises(UploadError, match=rf"“{name}” is empty."):
        open_bytes(tmp_path, name, b"")


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("t.csv", image_bytes(), "is a single image. Pack images into a zip."),
        ("t.csv", image_bytes("JPEG"), "is a single image"),
        ("t.csv", b"\x1f\x8b\x08\x00rest", "is a gzip archive. Unpack it"),
        ("t.pdf", b"%PDF-1.7", "is a PDF document"),
        ("t.csv", b"<!DOCTYPE html><html>", "is a web page, not a table"),
        ("t.xls", b"\xd0\xcf\x11\xe0rest", "is an old Excel or Word file"),
        ("t.parquet", b"id,text\n1,a\n", "is not a parquet file"),
        ("t.zip", b"id,text\n1,a\n", "is not a zip file"),
        ("t.docx", b"id,text\n1,a\n", "is not of an accepted kind. Accepted are CSV"),
        ("noname", b"id,text\n1,a\n", "is not of an accepted kind"),
    ],
)
def test_other_kinds_of_files_are_refused_by_name(tmp_path, name, data, sentence):
    with pytest.raises(UploadError) as caught:
        open_bytes(tmp_path, name, data)
    assert sentence in caught.value.sentence


def test_content_decides_over_the_name(tmp_path):
    reader = open_bytes(tmp_path, "photos.csv", zip_bytes({"a.png": image_bytes()}))
    assert reader.kind == "images"


def test_an_excel_workbook_is_named(tmp_path):
    data = zip_bytes({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"})
    with pytest.raises(UploadError, match=r"is an Excel workbook. Save the sheet as CSV"):
        open_bytes(tmp_path, "t.xlsx", data)


def test_folders_in_the_users_file_name_are_left_out(tmp_path):
    with pytest.raises(UploadError, match=r"^“t.csv” is empty"):
        open_bytes(tmp_path, "C:\\data\\..\\t.csv", b"")


def test_a_txt_file_is_read_by_its_content(tmp_path):
    assert open_text(tmp_path, "t.txt", TABLE).kind == "csv"
    assert open_text(tmp_path, "t.txt", '[{"a": 1}]').kind == "json"


@pytest.mark.parametrize(
    "lines",
    [
        ["Great phone, and cheap.", "Broke after a week", "OK; not more, not less"],
        ["One line alone"],
        ["Great phone, and cheap.", "Awful phone, and dear."],
        ["Nothing, but", "a comma, each", "of three, and", "one, two, three, four", "none"],
    ],
)
def test_a_txt_file_without_a_table_has_an_item_a_line_and_loses_none(tmp_path, lines):
    reader = open_text(tmp_path, "t.txt", "\n\n".join(lines) + "\r\n")
    assert reader.kind == "txt"
    assert good(reader) == [{"text": line} for line in lines]
    assert reader.columns == ["text"]
    assert reader.total_hint == len(lines)
    assert [row.number for row in reader.rows(1)] == list(range(2, len(lines) + 1))


def test_a_txt_file_with_the_name_of_its_column_is_a_table(tmp_path):
    reader = open_text(tmp_path, "t.txt", "Review\nGreat phone\n")
    assert (reader.kind, good(reader)) == ("csv", [{"Review": "Great phone"}])


def test_a_line_that_cannot_be_stored_is_rejected_with_its_number(tmp_path):
    reader = open_text(tmp_path, "t.txt", "fine\n\n" + "x" * (LIMITS.max_cell_chars + 1) + "\nfine too\n")
    (bad,) = (row for row in reader.rows() if isinstance(row, RowError))
    assert bad.message.startswith("Line 3: ")
    assert good(reader) == [{"text": "fine"}, {"text": "fine too"}]


def test_sizes_for_people():
    assert [format_bytes(n) for n in (0, 812, 1024, 1_572_864, 2 * GIB)] == [
        "0 bytes",
        "812 bytes",
        "1 KiB",
        "1.5 MiB",
        "2 GiB",
    ]


def test_reading_needs_no_django():
    code = (
        "import sys, annotate.uploads.reading, annotate.uploads.archives, annotate.uploads.columnar,"
        " annotate.uploads.images, annotate.uploads.mapping, annotate.uploads.duplicates;"
        "sys.exit('django' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
