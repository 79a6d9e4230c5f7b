from pathlib import Path

import pytest

from annotate.uploads.errors import UploadError
from annotate.uploads.headers import looks_like_a_row
from tests.annotate.uploads.factories import errors, good, open_text

LONG = "This is what somebody wrote about a hotel in the mountains and it is no name"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7,so good\n8,not bad\n", True),  # a number
        ("so good,praise\nnot bad,praise\n", True),  # what stands below, too
        (f"{LONG},praise\nnot bad,blame\n", True),  # a long text
        ("remark,mood\nso good,praise\n", False),
        ("id,2019\n1,2019\n", False),  # a name that columns usually have
        ("0,1\nso good,praise\n", False),  # what programs write that number columns
    ],
)
def test_a_header_that_looks_like_a_row(tmp_path: Path, text: str, expected: bool) -> None:
    reader = open_text(tmp_path, "table.csv", text)
    assert looks_like_a_row(reader.columns, reader.preview()) is expected


def test_without_a_header_the_first_line_is_a_row(tmp_path: Path) -> None:
    reader = open_text(tmp_path, "table.csv", "7,so good\n8,not bad\n9\n", has_header=False)
    assert reader.columns == ["column 1", "column 2"]
    assert good(reader) == [
        {"column 1": "7", "column 2": "so good"},
        {"column 1": "8", "column 2": "not bad"},
    ]
    assert [row.number for row in reader.rows(start=1)] == [2, 3]
    assert errors(reader) == [(3, "Line 3 has 1 cell, but the first line has 2 columns.")]
    assert reader.total_hint == 3


def test_cells_of_a_first_row_may_be_the_same_and_long(tmp_path: Path) -> None:
    text = f"{LONG * 4},x,x\nshort,y,\n"
    with pytest.raises(UploadError, match="Is the first line a header"):
        open_text(tmp_path, "table.csv", text)
    assert len(good(open_text(tmp_path, "table.csv", text, has_header=False))) == 2
