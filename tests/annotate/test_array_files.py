import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from annotate import array_files
from annotate.array_files import DamagedFile, read_arrays, write_arrays

ARRAYS = {
    "numbers": np.array([[1.5, -0.0], [np.nan, np.inf]]),
    "small": np.arange(6, dtype=np.float32).reshape(3, 2),
    "counts": np.array([], dtype=np.int64),
    "truth": np.array([True, False]),
    "words": np.array(["", "naïve", "語"]),
    "one": np.array(3),
}


class Evil:
    """Unpickling one of these raises."""

    def __reduce__(self):
        return exec, ("raise SystemExit('something ran')",)


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_arrays_come_back_as_they_were():
    arrays, description = read_arrays(write_arrays(ARRAYS, {"of": ["ü", 1, 0.1, None]}))

    assert description == {"of": ["ü", 1, 0.1, None]}
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
        assert arrays[name].flags.writeable


def test_the_same_arrays_make_the_same_file_in_whatever_order():
    first = write_arrays(ARRAYS, {"a": 1, "b": 2})

    assert first == write_arrays(dict(reversed(ARRAYS.items())), {"b": 2, "a": 1})
    assert first != write_arrays(ARRAYS | {"one": np.array(4)}, {"a": 1, "b": 2})


def test_numpy_reads_the_arrays_too():
    with np.load(io.BytesIO(write_arrays(ARRAYS, {})), allow_pickle=False) as found:
        assert found["words"].tolist() == ARRAYS["words"].tolist()


@pytest.mark.parametrize(
    ("arrays", "description"),
    [
        ({"objects": np.array([Evil()], dtype=object)}, {}),
        ({"../name": np.zeros(1)}, {}),
        ({}, {"nan": float("nan")}),
    ],
)
def test_what_cannot_be_kept_is_refused(arrays, description):
    with pytest.raises(ValueError, match=r"array|JSON|float"):
        write_arrays(arrays, description)


def test_pickled_arrays_are_never_unpickled():
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([Evil()], dtype=object), allow_pickle=True)

    for content in (stream.getvalue(), pickle.dumps(Evil())):
        with pytest.raises(DamagedFile):
            read_arrays(packed({"description.json": b"{}", "a.npy": content}))
    with pytest.raises(DamagedFile):
        read_arrays(pickle.dumps(Evil()))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "no description"),
        ({"a.npy": header((0,))}, "no description"),
        ({"description.json": b"[]"}, "no JSON object"),
        ({"description.json": b"{"}, "unpacked"),
        ({"description.json": b'{"arrays": ["a"], "description": {}}'}, "other arrays"),
        ({"description.json": b'{"arrays": [], "description": 1}'}, "no JSON object"),
        ({"description.json": b"\xff"}, "unpacked"),
        ({"description.json": b"[" * 200_000}, "nested"),
        ({"description.json": b"{}", "run.py": b""}, "no array"),
        ({"description.json": b"{}", "../a.npy": header((0,))}, "no array"),
        ({"description.json": b"{}", "a.npy": b""}, "no header"),
        ({"description.json": b"{}", "a.npy": header((2,)) + bytes(8)}, "another size"),
        ({"description.json": b"{}", "a.npy": header((2,)) + bytes(24)}, "another size"),
        ({"description.json": b"{}", "a.npy": header((10**15,))}, "another size"),
        ({"description.json": b"{}", "a.npy": header((-1, -1)) + bytes(8)}, "another size|no header"),
        ({"description.json": b"{}", "a.npy": header((1,), "|O") + bytes(8)}, "something else"),
        ({"description.json": b"{}", "a.npy": header((1,), "<M8[s]") + bytes(8)}, "something else"),
        ({"description.json": b"{}", "a.npy": header((10**9,), "<U0")}, "something else"),
        ({"description.json": b"{}", "a.npy": b"\x93NUMPY\x03\x00" + header((0,))[8:]}, "unknown format"),
    ],
)
def test_what_another_program_wrote_is_refused(members, said):
    with pytest.raises(DamagedFile, match=said):
        read_arrays(packed(members))


@pytest.mark.parametrize("content", [b"", b"PK", b"GIF89a", b"PK\x05\x06" + bytes(18)])
def test_other_files_are_refused(content):
    with pytest.raises(DamagedFile):
        read_arrays(content)


def test_a_file_that_would_unpack_to_too_much_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(array_files, "MOST_BYTES", 1_000_000)
    bomb = packed({"description.json": b"{}", "a.npy": header((10**7,), "|i1") + bytes(10**7)})
    assert len(bomb) < 50_000
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # reading any of it would fail

    with pytest.raises(DamagedFile, match="unpack to more"):
        read_arrays(bomb)


def test_a_file_that_lies_about_its_size_is_held_to_it():
    content = header((10**6,), "|i1") + bytes(10**6)
    file = bytearray(packed({"description.json": b"{}", "a.npy": content}))
    claimed = struct.pack("<I", 200)
    true = struct.pack("<I", len(content))
    assert file.count(true) == 2
    lying = bytes(file).replace(true, claimed)

    with pytest.raises(DamagedFile):
        read_arrays(lying)


def test_too_many_arrays_a_member_twice_and_other_ways_to_pack_are_refused(monkeypatch):
    empty = {"description.json": b"{}"}
    with pytest.raises(DamagedFile, match="another way"):
        read_arrays(packed(empty, zipfile.ZIP_BZIP2))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("description.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("description.json", b"{}")
    with pytest.raises(DamagedFile, match="twice"):
        read_arrays(stream.getvalue())
    monkeypatch.setattr(array_files, "MOST_ARRAYS", 2)
    with pytest.raises(DamagedFile, match="too many"):
        read_arrays(packed(empty | {f"a{number}.npy": header((0,)) for number in range(3)}))


def test_every_damaged_byte_is_noticed_or_does_not_matter():
    content = write_arrays({"a": np.arange(20.0)}, {"said": "something"})
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(content), 300).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            arrays, description = read_arrays(bytes(damaged))
        except DamagedFile:
            continue
        assert description == {"said": "something"}
        assert [array.tolist() for array in arrays.values()] == [np.arange(20.0).tolist()]
    with pytest.raises(DamagedFile):
        read_arrays(content[: len(content) // 2])


def test_the_description_is_json_that_people_can_read():
    content = unpacked(write_arrays({}, {"of": "tree"}))["description.json"]

    assert json.loads(content) == {"arrays": [], "description": {"of": "tree"}}
    assert (
        zlib.crc32(content) == zipfile.ZipFile(io.BytesIO(write_arrays({}, {"of": "tree"}))).infolist()[0].CRC
    )
