import io
import stat
import struct
import zipfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.reading import Row, RowError
from tests.annotate.uploads.factories import LIMITS, errors, good, image_bytes, open_bytes, zip_bytes

PNG = image_bytes()


def files_of(reader):
    return [(row["file"], row["folder"]) for row in good(reader)]


def test_images_with_their_top_folders_in_the_archives_order(tmp_path):
    data = zip_bytes({"dogs/b.png": PNG, "cats/deep/a.jpg": PNG, "loose.gif": PNG, "noname": PNG})
    reader = open_bytes(tmp_path, "t.zip", data)
    assert (reader.kind, reader.columns, reader.total_hint) == ("images", ["file", "folder"], 4)
    assert files_of(reader) == [
        ("dogs/b.png", "dogs"),
        ("cats/deep/a.jpg", "cats"),
        ("loose.gif", ""),
        ("noname", ""),
    ]
    assert reader.notes == ["Folders: (none) (2), dogs (1), cats (1)."]
    assert reader.open_image("cats/deep/a.jpg") == PNG


def test_a_folder_around_everything_is_no_label(tmp_path):
    reader = open_bytes(tmp_path, "t.zip", zip_bytes({"set/v1/cats/a.png": PNG, "set/v1/dogs/b.png": PNG}))
    assert [folder for _, folder in files_of(reader)] == ["cats", "dogs"]
    reader = open_bytes(tmp_path, "t.zip", zip_bytes({"cats/a.png": PNG, "cats/b.png": PNG}))
    assert [folder for _, folder in files_of(reader)] == ["cats", "cats"]


def test_folders_and_what_systems_leave_behind_are_skipped(tmp_path):
    data = zip_bytes(
        {
            "a/": b"",
            "a/1.png": PNG,
            "__MACOSX/a/._1.png": b"x",
            "a/.DS_Store": b"x",
            ".git/config": b"x",
            "a/Thumbs.db": b"x",
            "desktop.ini": b"x",
        }
    )
    reader = open_bytes(tmp_path, "t.zip", data)
    assert [record.number for record in reader.rows()] == [1]
    assert files_of(reader) == [("a/1.png", "a")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", "its path leads out of the zip"),
        ("a/../../evil.png", "its path leads out of the zip"),
        ("/etc/evil.png", "its path is absolute"),
        ("C:/evil.png", "its path is absolute"),
        ("a\\evil.png", "its path has backslashes"),
        ("..\\evil.png", "its path has backslashes"),
        ("evil\n.png", "its path holds control characters"),
        ("x" * 600 + ".png", "longer than 500 characters"),
    ],
)
def test_hostile_paths_are_errors_and_cannot_be_opened(tmp_path, name, reason):
    reader = open_bytes(tmp_path, "t.zip", zip_bytes({"good.png": PNG, name: PNG}))
    records = list(reader.rows())
    assert isinstance(records[0], Row)
    assert isinstance(records[1], RowError)
    assert reason in records[1].message
    with pytest.raises(RowProblem):
        reader.open_image(name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stored"]


def test_a_nul_in_a_path_is_not_cut_off(tmp_path):
    data = zip_bytes({"good.png": PNG, "evil.pngX.exe": PNG}).replace(b"evil.pngX.exe", b"evil.png\0.exe")
    reader = open_bytes(tmp_path, "t.zip", data)
    assert "control characters" in errors(reader)[0][1]


def test_links_are_errors(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("good.png", PNG)
        link = zipfile.ZipInfo("link.png")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    reader = open_bytes(tmp_path, "t.zip", stream.getvalue())
    assert errors(reader) == [(2, "“link.png” is not read: it is a link, not a file.")]
    with pytest.raises(RowProblem, match="it is a link"):
        reader.open_image("link.png")


def test_names_that_occur_twice(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", PNG)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", b"other")
    reader = open_bytes(tmp_path, "t.zip", stream.getvalue())
    assert errors(reader) == [(2, "“a.png” is not read: it is in the zip twice; only the first is used.")]
    assert reader.open_image("a.png") == PNG


def test_files_that_are_no_images_are_errors(tmp_path):
    data = zip_bytes(
        {"a.png": PNG, "notes.txt": b"x", "drawing.svg": b"<svg/>", "inner.zip": zip_bytes({"b.png": PNG})}
    )
    reader = open_bytes(tmp_path, "t.zip", data)
    messages = [message for _, message in errors(reader)]
    assert messages[0] == "“notes.txt” is not an image in PNG, JPEG, WebP, GIF, BMP or TIFF format."
    assert "drawing.svg" in messages[1]
    assert "an archive inside the zip; it is not opened" in messages[2]
    with pytest.raises(RowProblem, match="is not opened"):
        reader.open_image("inner.zip")


def test_a_password_is_told_as_such(tmp_path):
    data = bytearray(zip_bytes({"a.png": PNG}))
    central = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    with pytest.raises(UploadError, match=r"protected by a password. Pack it again without one"):
        open_bytes(tmp_path, "t.zip", bytes(data))


def test_unusual_compression_is_an_error(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", PNG)
        archive.writestr("b.png", PNG, zipfile.ZIP_LZMA)
    reader = open_bytes(tmp_path, "t.zip", stream.getvalue())
    assert "unusual method" in errors(reader)[0][1]


def test_a_bomb_by_ratio_is_an_error_and_not_unpacked(tmp_path):
    reader = open_bytes(tmp_path, "t.zip", zip_bytes({"a.png": PNG, "bomb.png": bytes(5_000_000)}))
    assert errors(reader) == [
        (2, "“bomb.png” is not read: it unpacks to more than 200 times its packed size, as in a zip bomb.")
    ]
    with pytest.raises(RowProblem, match="zip bomb"):
        reader.open_image("bomb.png")


def test_a_bomb_by_total_is_refused(tmp_path):
    data = zip_bytes({f"{n}.png": bytes(range(256)) * 40 for n in range(10)}, zipfile.ZIP_STORED)
    with pytest.raises(UploadError, match=r"The zip unpacks to 100 KiB; at most 50 KiB are accepted"):
        open_bytes(tmp_path, "t.zip", data, limits=replace(LIMITS, max_zip_total_bytes=50 * 1024))


def test_the_total_is_counted_again_while_reading_each_image_once(tmp_path):
    data = zip_bytes({"a.png": b"a" * 600, "b.png": b"b" * 600}, zipfile.ZIP_STORED)
    reader = open_bytes(tmp_path, "t.zip", data, limits=replace(LIMITS, max_zip_total_bytes=1_200))
    reader.limits = replace(LIMITS, max_zip_total_bytes=1_000)  # as if the directory had lied
    for _ in range(5):
        reader.open_image("a.png")
    with pytest.raises(UploadError, match="unpacks to more than 1000 bytes"):
        reader.open_image("b.png")


def test_overlapping_files_are_refused(tmp_path):
    data = bytearray(zip_bytes({"a.png": b"a" * 5_000, "b.png": b"b" * 5_000}, zipfile.ZIP_STORED))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    for record in (first, second):
        data[record + 20 : record + 28] = struct.pack("<2L", 9_000, 9_000)
    with pytest.raises(UploadError, match="overlap, as in a zip bomb"):
        open_bytes(tmp_path, "t.zip", bytes(data))


def test_a_directory_that_lies_about_a_size_gives_an_error_for_that_image(tmp_path):
    data = bytearray(zip_bytes({"a.png": b"a" * 5_000, "b.png": PNG}))
    record = data.index(b"PK\x01\x02")
    data[record + 24 : record + 28] = struct.pack("<L", 100)
    reader = open_bytes(tmp_path, "t.zip", bytes(data))
    with pytest.raises(RowProblem, match=r"“a.png” is damaged in the zip"):
        reader.open_image("a.png")
    assert reader.open_image("b.png") == PNG


def test_an_image_above_the_limit_is_an_error(tmp_path):
    data = zip_bytes({"a.png": b"a" * 101, "b.png": b"b" * 100})
    reader = open_bytes(tmp_path, "t.zip", data, limits=replace(LIMITS, max_image_bytes=100))
    with pytest.raises(RowProblem, match=r"“a.png” is larger than 100 bytes, the limit of one image"):
        reader.open_image("a.png")
    assert reader.open_image("b.png") == b"b" * 100


def test_too_many_entries_are_refused_whatever_count_the_archive_states(tmp_path):
    data = bytearray(zip_bytes({f"{n}.png": b"" for n in range(20)}))
    end = data.rindex(b"PK\x05\x06")
    data[end + 8 : end + 12] = struct.pack("<2H", 1, 1)
    limits = replace(LIMITS, max_zip_entries=19)
    with pytest.raises(UploadError, match="more than 19 files, which is the limit"):
        open_bytes(tmp_path, "t.zip", bytes(data), limits=limits)
    assert (
        open_bytes(tmp_path, "t.zip", bytes(data), limits=replace(limits, max_zip_entries=20)).total_hint
        == 20
    )


def test_entries_of_a_zip64_archive_are_counted(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(66_000):
            archive.writestr(f"{number}.png", b"")
    data = stream.getvalue()
    assert b"PK\x06\x06" in data
    with pytest.raises(UploadError, match="more than 65,999 files"):
        open_bytes(tmp_path, "t.zip", data, limits=replace(LIMITS, max_zip_entries=65_999))


@pytest.mark.parametrize("damage", ["cut", "directory", "mark only"])
def test_a_damaged_zip_is_refused(tmp_path, damage):
    data = zip_bytes({"a.png": PNG * 100})
    damaged = {
        "cut": data[:-30],
        "directory": data.replace(b"PK\x01\x02", b"PK\x01\x03"),
        "mark only": b"PK\x03\x04",
    }[damage]
    with pytest.raises(UploadError, match=r"“t.zip” is damaged or not a zip file"):
        open_bytes(tmp_path, "t.zip", damaged)


def test_a_damaged_image_is_an_error_of_its_own(tmp_path):
    data = bytearray(zip_bytes({"a.png": bytes(range(256)) * 20, "b.png": PNG}))
    data[60:80] = b"\xff" * 20
    reader = open_bytes(tmp_path, "t.zip", bytes(data))
    with pytest.raises(RowProblem, match="is damaged in the zip"):
        reader.open_image("a.png")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "“t.zip” is empty: it holds no images."),
        ({"a/": b""}, "“t.zip” is empty: it holds no images."),
        (
            {"table.csv": b"id,text\n1,a\n"},
            "holds no images. A table alone is uploaded as it is, without a zip.",
        ),
        ({"../a.png": PNG}, "its path leads out of the zip"),
    ],
)
def test_a_zip_without_images_is_refused(tmp_path, files, sentence):
    with pytest.raises(UploadError) as caught:
        open_bytes(tmp_path, "t.zip", zip_bytes(files))
    assert sentence in caught.value.sentence


def test_closing_lets_go_of_the_file(tmp_path):
    with open_bytes(tmp_path, "t.zip", zip_bytes({"a.png": PNG})) as reader:
        assert reader.open_image("a.png") == PNG
    with pytest.raises((ValueError, RowProblem)):
        reader.open_image("a.png")


def parquet_manifest() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"file_name": ["a.png", "b.png"], "label": ["cat", "dog"]}), sink)
    return sink.getvalue()


MANIFESTS = {
    "manifest.csv": b"file_name,label\na.png,cat\nb.png,dog\n",
    "Metadata.CSV": b"\xef\xbb\xbffile;label\na.png;cat\nb.png;dog\n",
    "manifest.tsv": b"image\tlabel\na.png\tcat\nb.png\tdog\n",
    "metadata.jsonl": b'{"path": "a.png", "label": "cat"}\n{"path": "./b.png", "label": "dog"}\n',
    "manifest.json": b'[{"Image Path": "a.png", "label": "cat"}, {"Image Path": "b.png", "label": "dog"}]',
    "manifest.parquet": parquet_manifest(),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_name_the_images(tmp_path, name):
    files = {"train/" + name: MANIFESTS[name], "train/a.png": PNG, "train/b.png": PNG, "readme.txt": b"x"}
    reader = open_bytes(tmp_path, "t.zip", zip_bytes(files))
    assert (reader.kind, reader.columns, reader.total_hint) == ("images", ["file", "folder", "label"], 2)
    assert good(reader) == [
        {"file": "train/a.png", "folder": "train", "label": "cat"},
        {"file": "train/b.png", "folder": "train", "label": "dog"},
    ]
    assert next(reader.rows(1)).number == 2
    assert f"Rows come from “train/{name}”" in reader.notes[0]
    assert reader.open_image("train/b.png") == PNG
    reader.close()


def test_a_table_of_another_name_is_said_to_be_left_out(tmp_path):
    reader = open_bytes(
        tmp_path, "t.zip", zip_bytes({"labels.csv": b"file_name,label\na.png,cat\n", "a.png": PNG})
    )
    assert reader.notes == [
        "“labels.csv” was not read. Where a table in the zip says more about the images, its name is manifest.csv or "
        "metadata.csv."
    ]


def test_manifest_paths_are_found_beside_it_from_the_top_or_by_name_and_nowhere_else(tmp_path):
    manifest = (
        b"file_name,q\nimg/a.png,1\nsub\\b.png,2\nonly.png,3\ntwice.png,4\n"
        b"../../secret.png,5\n,6\nmeta.txt,7\n/etc/passwd,8\n"
    )
    files = {
        "set/manifest.csv": manifest,
        "img/a.png": PNG,
        "set/sub/b.png": PNG,
        "x/only.png": PNG,
        "x/twice.png": PNG,
        "y/twice.png": PNG,
        "meta.txt": b"x",
    }
    reader = open_bytes(tmp_path, "t.zip", zip_bytes(files))
    assert [row["file"] for row in good(reader)] == ["img/a.png", "set/sub/b.png", "x/only.png"]
    messages = dict(errors(reader))
    assert messages[4] == "set/manifest.csv, row 4: “twice.png” is not in the zip."
    assert "is not in the zip" in messages[5]
    assert messages[6] == "set/manifest.csv, row 6: column “file_name” names no image."
    assert "is not an image" in messages[7]
    assert "is not in the zip" in messages[8]


def test_an_image_may_have_many_rows(tmp_path):
    manifest = b"file_name,question\na.png,Is it red?\na.png,Is it round?\n"
    reader = open_bytes(tmp_path, "t.zip", zip_bytes({"manifest.csv": manifest, "a.png": PNG}))
    assert [row["question"] for row in good(reader)] == ["Is it red?", "Is it round?"]


def test_errors_in_a_manifest_keep_their_place(tmp_path):
    manifest = b"file_name,label\na.png\na.png,cat\n"
    reader = open_bytes(tmp_path, "t.zip", zip_bytes({"manifest.csv": manifest, "a.png": PNG}))
    assert errors(reader) == [(1, "manifest.csv: Line 2 has 1 cell, but the header names 2 columns.")]


def test_a_manifest_in_another_encoding(tmp_path):
    manifest = "file_name,label\na.png,Grün\n".encode("cp1252")
    data = zip_bytes({"manifest.csv": manifest, "a.png": PNG})
    with pytest.raises(
        UploadError, match=r"The manifest in the zip cannot be used. The file is not valid UTF-8"
    ):
        open_bytes(tmp_path, "t.zip", data)
    assert good(open_bytes(tmp_path, "t.zip", data, encoding="cp1252"))[0]["label"] == "Grün"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"manifest.csv": b"id,label\n1,cat\n"}, "no column that names the images. Call it file_name"),
        ({"manifest.csv": b"file_name\na.png\n", "metadata.json": b"[]"}, "several manifests"),
        ({"manifest.csv": b"file_name,label\n"}, "has a header but no rows"),
        ({"manifest.parquet": b"nonsense"}, "is damaged or not a Parquet file"),
        ({"manifest.csv": b"file_name\n" + b"a.png\n" * 1_000_000}, "as in a zip bomb"),
    ],
)
def test_unusable_manifests_are_refused(tmp_path, files, sentence):
    with pytest.raises(UploadError) as caught:
        open_bytes(tmp_path, "t.zip", zip_bytes({**files, "a.png": PNG}))
    assert sentence in caught.value.sentence


def test_names_in_utf8_without_the_mark_for_it(tmp_path):
    data = zip_bytes({"x-y/ab.png": PNG, "b.png": PNG}).replace(b"ab.png", "é.png".encode())
    reader = open_bytes(tmp_path, "t.zip", data)
    assert files_of(reader)[0] == ("x-y/é.png", "x-y")
    assert reader.open_image("x-y/é.png") == PNG
