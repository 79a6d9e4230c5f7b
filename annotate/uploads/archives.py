"""A zip of images: folders may be labels, or a manifest in the zip says more about each image."""

import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from annotate.uploads.columnar import ParquetReader
from annotate.uploads.decoding import TextSource
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.limits import UploadLimits, format_bytes
from annotate.uploads.rows import Reader, Row, RowError
from annotate.uploads.sources import Source, file_source
from annotate.uploads.tables import DelimitedReader, JsonArrayReader, JsonLinesReader
from annotate.uploads.zip_entries import (
    Entry,
    MeteredMember,
    list_entries,
    not_an_image,
    open_zip,
    unpacked_allowance,
)

_MANIFEST_STEMS = {"manifest", "metadata"}
_MANIFEST_SUFFIXES = {".csv", ".tsv", ".jsonl", ".json", ".parquet"}
# In order of preference, written without underscores, hyphens and spaces.
_FILE_COLUMNS = ("filename", "file", "image", "path", "imagepath", "imagefile", "filepath")
_FOLDERS_NAMED = 10


class ImageArchiveReader(Reader):
    """Rows hold `file` (the image's path in the zip), `folder` (its top folder, or "") and the manifest's
    columns.

    A folder that all images share is not counted as a top folder while each image lies in another folder
    below it. Nothing is ever written to disk under a name from the zip.
    """

    kind = "images"

    def __init__(self, source: Source, limits: UploadLimits, encoding: str | None = None) -> None:
        self.limits = limits
        self.notes = []
        self._source = source
        self._unpacked = 0
        self._counted: set[int] = set()
        self._spooled: IO[bytes] | None = None
        self._manifest: _Manifest | None = None
        self._stream = source.open()
        try:
            self._archive = open_zip(self._stream, source.name, limits)
            self._read_directory(encoding)
        except BaseException:
            self.close()
            raise

    def _read_directory(self, encoding: str | None) -> None:
        entries = list(list_entries(self._archive, self.limits))
        _refuse_office_files(entries)
        manifest = _find_manifest(entries)
        self._entries = [entry for entry in entries if entry is not manifest]
        self._by_name: dict[str, Entry] = {}
        for entry in self._entries:
            self._by_name.setdefault(entry.name, entry)
        usable = [entry.name for entry in self._entries if not (entry.problem or not_an_image(entry))]
        if not usable:
            raise UploadError(_no_images(self._source.name, self._entries))
        self._shared_folders = _shared_folders(usable)
        self.columns = ["file", "folder"]
        if manifest is None:
            self.total_hint = len(self._entries)
            self._note_folders(usable)
            self._note_tables()
        else:
            self._manifest = _Manifest(
                manifest.name, self._manifest_reader(manifest, encoding), self._by_name
            )
            self.columns += [column for column in self._manifest.columns if column not in self.columns]
            self.total_hint = self._manifest.reader.total_hint
            self.notes += self._manifest.notes

    def _note_folders(self, names: list[str]) -> None:
        folders = Counter(self._folder(name) for name in names)
        if len(folders) > 1:
            shown = ", ".join(
                f"{name or '(none)'} ({count:,})" for name, count in folders.most_common(_FOLDERS_NAMED)
            )
            more = f" and {len(folders) - _FOLDERS_NAMED:,} more" if len(folders) > _FOLDERS_NAMED else ""
            self.notes.append(f"Folders: {shown}{more}.")

    def _note_tables(self) -> None:
        for entry in self._entries:
            if entry.suffix in _MANIFEST_SUFFIXES:
                self.notes.append(
                    f"“{entry.name}” was not read. Where a table in the zip says more about the images, its name is "
                    f"manifest{entry.suffix} or metadata{entry.suffix}."
                )
                return

    def _records(self, start: int) -> Iterator[Row | RowError]:
        if self._manifest is not None:
            for record in self._manifest.reader.rows(start):
                yield self._manifest_row(record, self._manifest)
            return
        for number, entry in enumerate(islice(self._entries, start, None), start=start + 1):
            problem = entry.problem or not_an_image(entry)
            if problem:
                yield RowError(number, problem)
            else:
                yield Row(number, {"file": entry.name, "folder": self._folder(entry.name)})

    def _manifest_row(self, record: Row | RowError, manifest: "_Manifest") -> Row | RowError:
        if isinstance(record, RowError):
            return RowError(record.number, f"{manifest.name}: {record.message}")
        try:
            entry = manifest.entry_of(record)
        except RowProblem as problem:
            return RowError(record.number, f"{manifest.name}, row {record.number:,}: {problem.sentence}")
        values: dict[str, Any] = {"file": entry.name, "folder": self._folder(entry.name)}
        values.update(
            (name, value)
            for name, value in record.values.items()
            if name in manifest.columns and name != "file"
        )
        return Row(record.number, values)

    def _folder(self, name: str) -> str:
        folders = name.split("/")[self._shared_folders : -1]
        return folders[0] if folders else ""

    def open_image(self, name: str) -> bytes:
        """The image's bytes, unpacked into memory up to the limit of one image.

        Raises RowProblem when it is not there, too large or damaged, UploadError when the zip has unpacked to
        too much in total.
        """
        entry = self._by_name.get(name)
        if entry is None:
            raise RowProblem(f"“{name}” is not in the zip.")
        problem = entry.problem or not_an_image(entry)
        if problem:
            raise RowProblem(problem)
        with self._open_member(entry) as member:
            data = member.read(self.limits.max_image_bytes + 1)
        self._count(entry, len(data))
        if len(data) > self.limits.max_image_bytes:
            raise RowProblem(
                f"“{name}” is larger than {format_bytes(self.limits.max_image_bytes)}, the limit of one"
                " image."
            )
        return data

    def _count(self, entry: Entry, size: int) -> None:
        # An image that several rows name counts once.
        if entry.info.header_offset in self._counted:
            return
        self._counted.add(entry.info.header_offset)
        self._unpacked += size
        if self._unpacked > self.limits.max_zip_total_bytes:
            raise UploadError(
                f"The zip unpacks to more than {format_bytes(self.limits.max_zip_total_bytes)}, which"
                " is the limit. Split it."
            )

    def _open_member(self, entry: Entry) -> IO[bytes]:
        return io.BufferedReader(
            MeteredMember(self._archive, entry, unpacked_allowance(entry.info, self.limits))
        )

    def _manifest_reader(self, entry: Entry, encoding: str | None) -> Reader:
        if entry.problem:
            raise UploadError(entry.problem)
        if entry.info.file_size > self.limits.max_bytes:
            raise UploadError(
                f"“{entry.name}” is larger than {format_bytes(self.limits.max_bytes)}, which is the limit."
            )
        source = Source(entry.name, entry.info.file_size, lambda: self._open_member(entry))
        try:
            if entry.suffix == ".parquet":
                return ParquetReader(self._spool(source), self.limits)
            text = TextSource(source, encoding)
            if entry.suffix == ".jsonl":
                return JsonLinesReader(text, self.limits)
            if entry.suffix == ".json":
                return JsonArrayReader(text, self.limits)
            return DelimitedReader(text, "tsv" if entry.suffix == ".tsv" else "csv", self.limits)
        except RowProblem as problem:
            raise UploadError(problem.sentence) from problem
        except UploadError as error:
            raise UploadError(f"The manifest in the zip cannot be used. {error.sentence}") from error

    def _spool(self, source: Source) -> Source:
        """A copy in a temporary file, because Parquet is read from its end."""
        self._spooled = tempfile.NamedTemporaryFile(prefix="manifest-")  # noqa: SIM115 - lives as long as the reader
        with source.open() as member:
            while chunk := member.read(1024 * 1024):
                self._spooled.write(chunk)
        self._spooled.flush()
        return file_source(Path(self._spooled.name), source.name)

    def close(self) -> None:
        """Close the zip; rows and images cannot be read after this."""
        self._stream.close()
        if self._spooled is not None:
            self._spooled.close()


class _Manifest:
    """The table that names the images of a zip."""

    def __init__(self, name: str, reader: Reader, entries: dict[str, Entry]) -> None:
        self.name = name
        self.reader = reader
        self._entries = entries
        self._file_column = _file_column(reader.columns, name)
        self.columns = [column for column in reader.columns if column != self._file_column]
        self.notes = [
            f"Rows come from “{name}”, whose column “{self._file_column}” names the images.",
            *reader.notes,
        ]
        self._folder = str(PurePosixPath(name).parent)
        self._by_last_part = _by_last_part(entries)

    def entry_of(self, row: Row) -> Entry:
        """The image that the row names: beside the manifest, from the top of the zip, or the only one of that
        name.
        """
        written = row.values.get(self._file_column)
        if not isinstance(written, str) or not written.strip():
            raise RowProblem(f"column “{self._file_column}” names no image.")
        name = str(PurePosixPath(written.strip().replace("\\", "/")))
        beside = str(PurePosixPath(self._folder, name))
        entry = self._entries.get(beside) or self._entries.get(name) or self._by_last_part.get(name)
        if entry is None:
            raise RowProblem(f"“{written[:200]}” is not in the zip.")
        problem = entry.problem or not_an_image(entry)
        if problem:
            raise RowProblem(problem)
        return entry


def _by_last_part(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Entries by file name without folders, for the names that occur once."""
    counts = Counter(name.rpartition("/")[2] for name in entries)
    return {last: entry for name, entry in entries.items() if counts[last := name.rpartition("/")[2]] == 1}


def _find_manifest(entries: list[Entry]) -> Entry | None:
    found = [entry for entry in entries if _is_manifest(PurePosixPath(entry.name))]
    if not found:
        return None
    top = min(entry.name.count("/") for entry in found)
    highest = [entry for entry in found if entry.name.count("/") == top]
    if len(highest) > 1:
        names = ", ".join(entry.name for entry in highest[:5])
        raise UploadError(f"The zip has several manifests ({names}). Keep one.")
    return highest[0]


def _is_manifest(path: PurePosixPath) -> bool:
    return path.stem.lower() in _MANIFEST_STEMS and path.suffix.lower() in _MANIFEST_SUFFIXES


def _file_column(columns: list[str], manifest: str) -> str:
    plain = {_plain(column): column for column in reversed(columns)}
    for name in _FILE_COLUMNS:
        if name in plain:
            return plain[name]
    raise UploadError(
        f"“{manifest}” has no column that names the images. Call it file_name; its columns are"
        f" {', '.join(columns[:20])}."
    )


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _shared_folders(names: list[str]) -> int:
    """How many leading folders all names share while each has a further folder below."""
    folders = [name.split("/")[:-1] for name in names]
    depth = 0
    while all(len(parts) > depth + 1 for parts in folders) and len({parts[depth] for parts in folders}) == 1:
        depth += 1
    return depth


def _refuse_office_files(entries: list[Entry]) -> None:
    names = {entry.name for entry in entries}
    if "[Content_Types].xml" in names:
        kind = "an Excel workbook" if any(name.startswith("xl/") for name in names) else "an office document"
        raise UploadError(f"The file is {kind}. Save the sheet as CSV (UTF-8) and upload that.")


def _no_images(name: str, entries: list[Entry]) -> str:
    if not entries:
        return f"“{name}” is empty: it holds no images."
    first = entries[0].problem or not_an_image(entries[0])
    return f"“{name}” holds no images. A table alone is uploaded as it is, without a zip. {first}"
