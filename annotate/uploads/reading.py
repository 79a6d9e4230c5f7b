"""Opening an upload: what it is follows from its content first and from its name second."""

from pathlib import Path, PurePath

from annotate.uploads.decoding import ENCODINGS, TextSource
from annotate.uploads.delimited import is_table
from annotate.uploads.errors import RowProblem, UploadError
from annotate.uploads.json_text import parse_object
from annotate.uploads.limits import UploadLimits, format_bytes
from annotate.uploads.mapping import names_texts
from annotate.uploads.rows import ImageCell, Kind, Reader, Row, RowError
from annotate.uploads.sources import Source, file_source
from annotate.uploads.squad import SquadReader, is_squad
from annotate.uploads.tables import DelimitedReader, JsonArrayReader, JsonLinesReader, LinesReader

__all__ = ["ENCODINGS", "ImageCell", "Kind", "Reader", "Row", "RowError", "open_upload"]

ACCEPTED = "CSV, TSV, JSON, JSON Lines, Parquet, text with an item a line, or a zip of images"

_JSON_LINES_SUFFIXES = {".jsonl", ".ndjson"}
_TEXT_SUFFIXES = {".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson"}
_ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_FOREIGN_MARKS = (
    (b"\x1f\x8b", "a gzip archive. Unpack it and upload what is in it"),
    (b"BZh", "a bzip2 archive. Unpack it and upload what is in it"),
    (b"\xfd7zXZ", "an xz archive. Unpack it and upload what is in it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive. Unpack it and upload what is in it"),
    (b"7z\xbc\xaf", "a 7-Zip archive. Pack the images as a zip instead"),
    (b"Rar!", "a RAR archive. Pack the images as a zip instead"),
    (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file. Save the sheet as CSV (UTF-8) and upload that"),
    (b"\x89PNG", "a single image. Pack images into a zip"),
    (b"\xff\xd8\xff", "a single image. Pack images into a zip"),
    (b"GIF8", "a single image. Pack images into a zip"),
    (b"ARROW1", "an Arrow (Feather) file. Write it as Parquet"),
    (b"SQLite format 3", "an SQLite database. Export the table as CSV"),
)


def open_upload(
    path: Path,
    filename: str,
    *,
    limits: UploadLimits,
    encoding: str | None = None,
    has_header: bool = True,
) -> Reader:
    """A reader for the file at `path`, which its user calls `filename`.

    `encoding` is one of ENCODINGS; without it, a byte order mark decides, or it is UTF-8. Without `has_header`, the
    first line of a CSV or TSV file is a row like the others.
    Raises UploadError when the file is too large (judged by its size, before it is opened), empty or not of
    an accepted kind.
    """
    name = PurePath(filename.replace("\\", "/")).name or "upload"
    source = file_source(path, name)
    if source.size > limits.max_bytes:
        raise UploadError(
            f"“{name}” has {format_bytes(source.size)}; at most {format_bytes(limits.max_bytes)} are"
            " accepted."
            " Split it into several uploads."
        )
    if source.size == 0:
        raise UploadError(f"“{name}” is empty.")
    return _open_source(source, limits, encoding, has_header)


def _open_source(source: Source, limits: UploadLimits, encoding: str | None, has_header: bool) -> Reader:
    head = source.head(16)
    # The two heavy libraries behind these readers are loaded only where they are needed.
    if head.startswith(b"PAR1"):
        from annotate.uploads.columnar import ParquetReader

        return ParquetReader(source, limits)
    if head.startswith(_ZIP_MARKS):
        from annotate.uploads.archives import ImageArchiveReader

        return ImageArchiveReader(source, limits, encoding)
    for mark, what in _FOREIGN_MARKS:
        if head.startswith(mark):
            raise UploadError(f"“{source.name}” is {what}. Accepted are {ACCEPTED}.")
    _check_suffix(source)
    return _open_text(TextSource(source, encoding), source.suffix, limits, has_header)


def _check_suffix(source: Source) -> None:
    if source.suffix in (".parquet", ".zip"):
        raise UploadError(
            f"“{source.name}” is not a {source.suffix[1:]} file, or its beginning is damaged. Upload it"
            " again."
        )
    if source.suffix not in _TEXT_SUFFIXES:
        raise UploadError(f"“{source.name}” is not of an accepted kind. Accepted are {ACCEPTED}.")


def _open_text(text: TextSource, suffix: str, limits: UploadLimits, has_header: bool) -> Reader:
    beginning = text.sample.lstrip()
    if not beginning and text.sample_is_whole:
        raise UploadError(f"“{text.source.name}” is empty.")
    if beginning[:15].lower().startswith(("<!doctype html", "<html")):
        raise UploadError(
            f"“{text.source.name}” is a web page, not a table. Was an error page saved in its place?"
        )
    if suffix in (".csv", ".tsv", ".tab"):
        return DelimitedReader(text, "csv" if suffix == ".csv" else "tsv", limits, has_header=has_header)
    if suffix == ".txt" and beginning[:1] not in ("[", "{"):
        is_table = _is_table(text, beginning, limits)
        if not is_table:
            return LinesReader(text, limits)
        return DelimitedReader(text, "csv", limits, has_header=has_header)
    if _is_json_lines(beginning, suffix):
        reader = JsonLinesReader(text, limits)
        if suffix not in _JSON_LINES_SUFFIXES:
            reader.notes.append("The file is read as JSON Lines: one object a line.")
        return reader
    return SquadReader(text, limits) if is_squad(beginning) else JsonArrayReader(text, limits)


def _is_table(text: TextSource, beginning: str, limits: UploadLimits) -> bool:
    """Whether a text file without a suffix that says so is a table with a header, of one column or several.

    A space follows the comma of a sentence, and hardly ever that of a header.
    """
    first_line = beginning.partition("\n")[0]
    if names_texts(first_line):
        return True
    is_sentence = ", " in first_line or "; " in first_line
    return not is_sentence and is_table(text.sample, is_whole=text.sample_is_whole, limits=limits)


def _is_json_lines(beginning: str, suffix: str) -> bool:
    """Whether a JSON text is one object a line. Both kinds are often saved under the other's name."""
    if suffix in _JSON_LINES_SUFFIXES:
        return not beginning.startswith("[")
    first_line = beginning.partition("\n")[0]
    try:
        return not isinstance(parse_object(first_line).get("data"), list)
    except RowProblem:
        return False
