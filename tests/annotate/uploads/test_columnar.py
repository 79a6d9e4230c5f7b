import datetime as dt
import json
import tracemalloc
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.uploads.errors import UploadError
from annotate.uploads.reading import ImageCell, Row, RowError
from tests.annotate.uploads.factories import LIMITS, errors, good, image_bytes, open_bytes


def parquet_bytes(table: pa.Table, **options) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def test_values_become_what_json_can_hold(tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, None], pa.int64()),
            "large": pa.array([2**64 - 1, 1], pa.uint64()),
            "text": ["ü", None],
            "score": [float("nan"), float("inf")],
            "ok": [True, None],
            "when": pa.array([1_600_000_000_123_456_789, None], pa.timestamp("ns")),
            "day": pa.array([dt.date(2024, 1, 2), None]),
            "price": pa.array([Decimal("1.50"), None]),
            "place": [{"town": "x", "floor": 1}, None],
            "none": pa.nulls(2),
            "category": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    reader = open_bytes(tmp_path, "t.parquet", parquet_bytes(table))
    assert (reader.kind, reader.columns, reader.total_hint) == ("parquet", table.column_names, 2)
    first, second = good(reader)
    assert first == {
        "id": 1,
        "large": "18446744073709551615",
        "text": "ü",
        "score": None,
        "ok": True,
        "when": "2020-09-13T12:26:40.123456",
        "day": "2024-01-02",
        "price": 1.5,
        "place": '{"town": "x", "floor": 1}',
        "none": None,
        "category": "x",
    }
    assert second["score"] == "Infinity"
    json.dumps([first, second], allow_nan=False)


def test_images_in_cells_as_bytes_and_as_hugging_face_writes_them(tmp_path):
    png = image_bytes()
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "photo": pa.array(
                [{"bytes": png, "path": "train/cat.png"}, {"bytes": None, "path": None}, None], image_type
            ),
            "raw": pa.array([png, b"", None]),
        }
    )
    rows = good(open_bytes(tmp_path, "t.parquet", parquet_bytes(table)))
    assert rows[0] == {"photo": ImageCell(png, "cat.png"), "raw": ImageCell(png)}
    assert rows[1] == {"photo": None, "raw": ImageCell(b"")}
    assert rows[2] == {"photo": None, "raw": None}


def test_class_names_replace_numbers(tmp_path):
    features = {
        "label": {"names": ["negative", "positive"], "_type": "ClassLabel"},
        "text": {"_type": "Value"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, 7]}).replace_schema_metadata(metadata)
    reader = open_bytes(tmp_path, "t.parquet", parquet_bytes(table))
    assert [row["label"] for row in good(reader)] == ["positive", "negative", 7]
    assert reader.notes == ["The numbers in “label” are shown as the class names that the file gives them."]


@pytest.mark.parametrize(
    "metadata", ["[]", "{", '{"info": {"features": []}}', '{"info": {"features": {"label": 1}}}']
)
def test_odd_metadata_is_left_alone(tmp_path, metadata):
    table = pa.table({"label": [1]}).replace_schema_metadata({"huggingface": metadata})
    assert good(open_bytes(tmp_path, "t.parquet", parquet_bytes(table))) == [{"label": 1}]


def test_reading_goes_on_where_it_stopped_across_row_groups(tmp_path):
    table = pa.table({"n": list(range(1000)), "text": ["x"] * 1000})
    reader = open_bytes(tmp_path, "t.parquet", parquet_bytes(table, row_group_size=300))
    everything = list(reader.rows())
    assert [row["n"] for row in good(reader)] == list(range(1000))
    assert [row.number for row in everything] == list(range(1, 1001))
    for start in (0, 1, 127, 128, 299, 300, 301, 650, 999, 1000, 2000):
        assert list(reader.rows(start)) == everything[start:]


def test_cells_above_a_limit_are_errors(tmp_path):
    table = pa.table({"text": ["x" * 11, "ok", "a\0b"], "image": [b"1234", b"12345", b"1"]})
    limits = replace(LIMITS, max_cell_chars=10, max_image_bytes=4)
    reader = open_bytes(tmp_path, "t.parquet", parquet_bytes(table), limits=limits)
    assert errors(reader) == [
        (1, "Row 1: Column “text” holds 11 characters; at most 10 are accepted."),
        (2, "Row 2: Column “image” holds 5 bytes; at most 4 bytes are accepted."),
        (3, "Row 3: Column “text” holds a NUL character."),
    ]


@pytest.mark.parametrize("cut", [10, -20, -4])
def test_a_cut_off_file_is_refused(tmp_path, cut):
    data = parquet_bytes(pa.table({"text": ["a"]}))
    with pytest.raises(UploadError, match=r"“t.parquet” is damaged or not a Parquet file"):
        open_bytes(tmp_path, "t.parquet", data[:cut])


def test_damaged_pages_are_told_as_such(tmp_path):
    table = pa.table({"text": [f"text number {n}" for n in range(5_000)]})
    data = bytearray(parquet_bytes(table, use_dictionary=False))
    data[1_000:20_000] = b"\xff" * 19_000
    reader = open_bytes(tmp_path, "t.parquet", bytes(data))
    with pytest.raises(UploadError, match=r"“t.parquet” is damaged"):
        list(reader.rows())


def test_text_that_is_no_utf8_is_an_error_of_its_row(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")]
    )
    records = list(open_bytes(tmp_path, "t.parquet", parquet_bytes(pa.table({"text": broken}))).rows())
    assert isinstance(records[0], RowError)
    assert records[1] == Row(2, {"text": "a"})


@pytest.mark.parametrize(
    ("table", "limits", "sentence"),
    [
        (pa.table({"a": pa.array([], pa.int64())}), LIMITS, "holds no rows"),
        (pa.table({"a": [1, 2, 3]}), replace(LIMITS, max_rows=2), "3 rows; at most 2"),
        (pa.table({"a": [1], "b": [2]}), replace(LIMITS, max_columns=1), "2 columns; at most 1"),
        (pa.table([[1], [2]], names=["a", "a"]), LIMITS, "Two columns are called “a”"),
        (
            pa.table({"a": ["x" * 100_000]}),
            replace(LIMITS, max_zip_total_bytes=50_000),
            "The file unpacks to",
        ),
    ],
)
def test_files_beyond_a_limit_are_refused(tmp_path, table, limits, sentence):
    with pytest.raises(UploadError, match=sentence):
        open_bytes(tmp_path, "t.parquet", parquet_bytes(table), limits=limits)


def test_columns_of_lists_are_left_out(tmp_path):
    table = pa.table({"text": ["a"], "embedding": [[0.5]], "deep": [{"x": [1]}], "a.b": ["c"]})
    reader = open_bytes(tmp_path, "t.parquet", parquet_bytes(table))
    assert good(reader) == [{"text": "a", "a.b": "c"}]
    assert reader.notes == ["Columns that hold lists are left out: “embedding”, “deep”."]
    with pytest.raises(UploadError, match="has only columns that hold lists"):
        open_bytes(tmp_path, "t.parquet", parquet_bytes(table.select(["embedding"])))


@pytest.mark.parametrize("large", [False, True])
def test_a_long_text_that_a_small_file_repeats_is_measured_and_not_unpacked(tmp_path, large):
    words = pa.array(["x" * 30_000_000], pa.large_string() if large else pa.string())
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), words)
    data = parquet_bytes(pa.table({"text": repeated}), compression="zstd", store_schema=large)
    assert len(data) < 10_000
    reader = open_bytes(tmp_path, "t.parquet", data)
    tracemalloc.start()
    try:
        messages = {
            record.message.partition(": ")[2] for record in reader.rows() if isinstance(record, RowError)
        }
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert messages == {"Column “text” holds 28.6 MiB; at most 781.2 KiB are accepted."}
    assert peak < 1_000_000
    assert pa.default_memory_pool().max_memory() < 500_000_000
    reader = open_bytes(tmp_path, "t.parquet", data, limits=replace(LIMITS, max_zip_total_bytes=10**9))
    with pytest.raises(UploadError, match=r"unpacks to more than 953.7 MiB"):
        list(reader.rows())
