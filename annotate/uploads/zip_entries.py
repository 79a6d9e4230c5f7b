"""What a zip says it holds, judged before anything in it is unpacked."""

import contextlib
import io
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.limits import MIB, UploadLimits, format_bytes

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

_ARCHIVE_SUFFIXES = {".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst"}
_LEFT_BY_SYSTEMS = {"thumbs.db", "desktop.ini"}
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_MAX_NAME_CHARS = 500
_MAX_DIRECTORY_BYTES = 64 * MIB
_DIRECTORY_RECORD_BYTES = 46
_ENCRYPTED = 0x1
_NAME_IS_UTF8 = 0x800


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a zip. `name` is its path with forward slashes; `problem` says why it is not read, if so."""

    name: str
    info: zipfile.ZipInfo
    problem: str = ""

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


def open_zip(stream: IO[bytes], name: str, limits: UploadLimits) -> zipfile.ZipFile:
    """The archive, once its directory is known to be of an acceptable size. Raises UploadError."""
    try:
        _check_directory(stream, limits)
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, OSError, ValueError) as error:
        raise UploadError(
            f"“{name}” is damaged or not a zip file. Pack it again and upload it anew."
        ) from error
    _check_totals(archive, stream, limits)
    return archive


def _check_directory(stream: IO[bytes], limits: UploadLimits) -> None:
    """Count the entries before ZipFile makes an object of each; the count that the archive states may be a
    lie.
    """
    # ZipFile's own way of finding the directory: another one could be led to another directory.
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if end is None:
        raise zipfile.BadZipFile
    signature, size, location = end[0], end[5], end[9]
    if size > _MAX_DIRECTORY_BYTES:
        raise UploadError(
            f"The zip's list of files is longer than {format_bytes(_MAX_DIRECTORY_BYTES)}. Split it."
        )
    zip64_bytes = 76 if signature == b"PK\x06\x06" else 0
    stream.seek(location - zip64_bytes - size)
    count, left = 0, size
    while left > 0:
        record = stream.read(_DIRECTORY_RECORD_BYTES)
        if len(record) < _DIRECTORY_RECORD_BYTES:
            return
        variable = sum(int.from_bytes(record[at : at + 2], "little") for at in (28, 30, 32))
        stream.seek(variable, io.SEEK_CUR)
        left -= _DIRECTORY_RECORD_BYTES + variable
        count += 1
        if count > limits.max_zip_entries:
            raise UploadError(
                f"The zip holds more than {limits.max_zip_entries:,} files, which is the limit. Split it."
            )


def _check_totals(archive: zipfile.ZipFile, stream: IO[bytes], limits: UploadLimits) -> None:
    infos = archive.infolist()
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise UploadError("The zip is protected by a password. Pack it again without one.")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > limits.max_zip_total_bytes:
        raise UploadError(
            f"The zip unpacks to {format_bytes(unpacked)}; at most"
            f" {format_bytes(limits.max_zip_total_bytes)} are accepted."
        )
    if sum(info.compress_size for info in infos) > stream.seek(0, io.SEEK_END):
        raise UploadError(
            "The files in the zip overlap, as in a zip bomb. Pack it again with an ordinary program."
        )


def list_entries(archive: zipfile.ZipFile, limits: UploadLimits) -> Iterator[Entry]:
    """The files of the archive in its order, without folders and what operating systems leave behind.

    One that cannot be used is listed with its problem, in its place.
    """
    seen: set[str] = set()
    for info in archive.infolist():
        name = _decoded_name(info)
        problem = _name_problem(name) or _member_problem(info, limits)
        if not problem:
            name = "/".join(part for part in name.split("/") if part not in ("", "."))
            if info.is_dir() or _left_by_system(name):
                continue
            if name in seen:
                problem = "it is in the zip twice; only the first is used"
            seen.add(name)
        yield Entry(name, info, f"“{_shown(name)}” is not read: {problem}." if problem else "")


def _decoded_name(info: zipfile.ZipInfo) -> str:
    """The entry's name; some systems write UTF-8 without saying so, which zipfile reads as code page 437."""
    name = info.orig_filename
    if not info.flag_bits & _NAME_IS_UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return unicodedata.normalize("NFC", name)


def _name_problem(name: str) -> str:
    if len(name) > _MAX_NAME_CHARS:
        return f"its path is longer than {_MAX_NAME_CHARS} characters"
    if not name.isprintable():
        return "its path holds control characters"
    if "\\" in name:
        return "its path has backslashes; pack it with a program that writes forward slashes"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its path is absolute; paths must be relative to the zip"
    if ".." in name.split("/"):
        return "its path leads out of the zip"
    return ""


def _member_problem(info: zipfile.ZipInfo, limits: UploadLimits) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link, not a file"
    if info.compress_type not in _METHODS:
        return "it is packed with an unusual method; use the ordinary one (deflate)"
    if info.file_size > unpacked_allowance(info, limits):
        return f"it unpacks to more than {limits.max_zip_ratio} times its packed size, as in a zip bomb"
    return ""


def unpacked_allowance(info: zipfile.ZipInfo, limits: UploadLimits) -> int:
    """How many bytes the member may unpack to, from its packed size."""
    return max(MIB, info.compress_size * limits.max_zip_ratio)


def _left_by_system(name: str) -> bool:
    parts = name.split("/")
    return (
        "__MACOSX" in parts
        or parts[-1].lower() in _LEFT_BY_SYSTEMS
        or any(part.startswith(".") for part in parts)
    )


def not_an_image(entry: Entry) -> str:
    """Why an entry cannot be an image, judged by its name; "" when it may be one."""
    name = _shown(entry.name)
    if entry.suffix in _ARCHIVE_SUFFIXES:
        return (
            f"“{name}” is an archive inside the zip; it is not opened. Put its files into the zip directly."
        )
    if entry.suffix in IMAGE_SUFFIXES or not entry.suffix:
        return ""
    return f"“{name}” is not an image in PNG, JPEG, WebP, GIF, BMP or TIFF format."


def _shown(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:200])


class MeteredMember(io.RawIOBase):
    """A member of a zip as it unpacks, counted: it stops at its allowance whatever the zip's directory says.

    Raises RowProblem when the member is damaged or unpacks to too much.
    """

    def __init__(self, archive: zipfile.ZipFile, entry: Entry, allowance: int) -> None:
        self._name = entry.name
        self._left = allowance
        try:
            self._member = archive.open(entry.info)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
            raise self._damaged() from error

    def _damaged(self) -> RowProblem:
        return RowProblem(f"“{_shown(self._name)}” is damaged in the zip and cannot be unpacked.")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            chunk = self._member.read(len(buffer))
        except Exception as error:  # the decompressors raise their own kinds of errors on damaged data
            raise self._damaged() from error
        self._left -= len(chunk)
        if self._left < 0:
            raise RowProblem(f"“{_shown(self._name)}” unpacks to more than is accepted, as in a zip bomb.")
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._member.close()
        super().close()
