"""Arrays with a description in one file, which holds nothing that could run when it is read.

A file is a ZIP archive of `description.json` and one NumPy file an array, so that other programs read it too. The same
arrays and description give the same bytes.
"""

import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_BYTES = 512 * 1024 * 1024  # of all that a file holds, unpacked
MOST_DESCRIPTION_BYTES = 16 * 1024 * 1024
MOST_ARRAYS = 1_000

DESCRIPTION = "description.json"
_SUFFIX = ".npy"
_NAME = re.compile(r"[a-z0-9_]{1,80}")
_KINDS = "biufU"  # truth values, whole numbers, numbers and texts
_LONGEST_HEADER = 10_000
_SAME_TIME = (1980, 1, 1, 0, 0, 0)  # in every file: when it was written is no part of what it says
_NOT_READABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class DamagedFile(ValueError):
    """A file that is not what it should be; the sentence says how."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The file is damaged, or Overread did not write it: {what}.")


def write_arrays(arrays: Mapping[str, Array], description: Mapping[str, Any]) -> bytes:
    """The file. `description` is what JSON can say.

    Raises ValueError for a name with other signs than a–z, 0–9 and _, an array of other things than numbers, truth
    values and texts, a description that JSON cannot say, or more than a file may hold.
    """
    # With the arrays' names: which of them are there is else said by the least guarded part of the archive alone.
    said = json.dumps(
        {"arrays": sorted(arrays), "description": description},
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    members = {DESCRIPTION: said.encode()}
    for name in sorted(arrays):
        if not _NAME.fullmatch(name):
            raise ValueError(f"An array cannot be named “{name}”.")
        members[name + _SUFFIX] = _array_bytes(name, arrays[name])
    size = sum(map(len, members.values()))
    if size > MOST_BYTES or len(members[DESCRIPTION]) > MOST_DESCRIPTION_BYTES or len(arrays) > MOST_ARRAYS:
        raise ValueError(f"This is too large to be kept: at most {MOST_BYTES // 1024**2} MB are.")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, _SAME_TIME)
            member.create_system, member.external_attr = 3, 0o644 << 16  # the same on every system
            archive.writestr(member, content, zipfile.ZIP_DEFLATED, compresslevel=6)
    return stream.getvalue()


def read_arrays(content: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the description of a file. Raises `DamagedFile` for anything that `write_arrays` did not write.

    What the file says of sizes is checked before anything is unpacked, and what is unpacked is held to it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _checked_members(archive)
            said = json.loads(_unpacked(archive, members.pop(DESCRIPTION)))
            arrays = {
                name.removesuffix(_SUFFIX): _array(name, _unpacked(archive, member))
                for name, member in members.items()
            }
    except DamagedFile:
        raise
    except RecursionError:
        raise DamagedFile("its description is nested too deeply") from None
    except _NOT_READABLE:
        raise DamagedFile("it cannot be unpacked") from None
    if not isinstance(said, dict) or not isinstance(said.get("description"), dict):
        raise DamagedFile("its description is no JSON object")
    if said.get("arrays") != sorted(arrays):
        raise DamagedFile("it has other arrays than it says")
    return arrays, said["description"]


def _array_bytes(name: str, array: Array) -> bytes:
    plain = np.asarray(array)
    if plain.dtype.kind not in _KINDS:
        raise ValueError(
            f"The array “{name}” holds {plain.dtype}; only numbers, truth values and texts are kept."
        )
    plain = np.ascontiguousarray(plain, dtype=plain.dtype.newbyteorder("<")).reshape(plain.shape)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, plain, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _checked_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {member.filename: member for member in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise DamagedFile("it holds something twice")
    if DESCRIPTION not in members:
        raise DamagedFile("it has no description")
    if len(members) > MOST_ARRAYS + 1:
        raise DamagedFile("it holds too many arrays")
    if (
        members[DESCRIPTION].file_size > MOST_DESCRIPTION_BYTES
        or sum(member.file_size for member in members.values()) > MOST_BYTES
    ):
        raise DamagedFile("it would unpack to more than a file of ours ever does")
    for name, member in members.items():
        is_array = name.endswith(_SUFFIX) and _NAME.fullmatch(name.removesuffix(_SUFFIX))
        if name != DESCRIPTION and not is_array:
            raise DamagedFile("it holds something that is no array")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedFile("it is packed in another way")
    return members


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as packed:
        # One byte more than announced, so that the end, where the checksum is compared, is reached.
        content = packed.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise DamagedFile("a part of it has another length than it says")
    return content


def _array(name: str, content: bytes) -> Array:
    """The array in a NumPy file. NumPy's own reader would first make room for whatever size the header claims."""
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise DamagedFile(f"the array “{name}” has an unknown format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(
            stream, max_header_size=_LONGEST_HEADER
        )
    except DamagedFile:
        raise
    except Exception:
        raise DamagedFile(f"the array “{name}” has no header") from None
    values = content[stream.tell() :]
    if is_fortran or dtype.kind not in _KINDS or dtype.hasobject or not dtype.itemsize:
        raise DamagedFile(f"the array “{name}” holds something else than numbers and texts")
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != len(values):
        raise DamagedFile(f"the array “{name}” has another size than it says")
    # A copy, because routers and features may want to write to their arrays.
    return np.frombuffer(values, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
