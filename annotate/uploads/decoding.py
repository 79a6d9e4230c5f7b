"""Bytes to text: byte order marks, the encodings on offer, and where exactly a text cannot be read."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager

from annotate.uploads.errors import UploadError
from annotate.uploads.sources import Source

ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "shift_jis", "gb18030")

# UTF-32's little-endian mark begins with UTF-16's, so it is looked for first.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHUNK = 64 * 1024
_SAMPLE_CHARS = 64 * 1024


class TextSource:
    """A source read as text. A byte order mark decides the encoding, then `chosen`, then UTF-8.

    Raises UploadError for an encoding that is not on offer, and for content that is not text.
    """

    def __init__(self, source: Source, chosen: str | None = None) -> None:
        if chosen is not None and chosen not in ENCODINGS:
            raise UploadError(
                f"The encoding “{chosen}” is not offered. Choose one of {', '.join(ENCODINGS)}."
            )
        self.source = source
        self.codec, self._mark_length = _codec(source.head(4), chosen)
        with self.open() as stream:
            self.sample = stream.read(_SAMPLE_CHARS)
            self.sample_is_whole = not stream.read(1)
        if "\0" in self.sample:
            raise UploadError(
                f"“{source.name}” holds NUL bytes, so it is not plain text. If a program saved it as"
                " UTF-16, choose the encoding utf-16;"
                " otherwise it is a binary file under a text file's name."
            )

    @contextmanager
    def open(self) -> Iterator[io.TextIOWrapper]:
        """The text from its start, line ends untouched. Raises UploadError where a byte cannot be decoded."""
        with self.source.open() as binary:
            binary.read(self._mark_length)
            with io.TextIOWrapper(binary, encoding=self.codec, newline="") as stream:
                try:
                    yield stream
                except UnicodeDecodeError:
                    raise self._undecodable() from None

    def _undecodable(self) -> UploadError:
        # A text stream knows a bad byte's place only within its buffer, so the place in the file is found
        # by a second pass.
        decoder = codecs.getincrementaldecoder(self.codec)("strict")
        line, offset = 1, self._mark_length
        with self.source.open() as binary:
            binary.read(self._mark_length)
            while True:
                chunk = binary.read(_CHUNK)
                pending = len(decoder.getstate()[0])
                try:
                    line += decoder.decode(chunk, final=not chunk).count("\n")
                except UnicodeDecodeError as error:
                    line += error.object[: error.start].decode(self.codec, "ignore").count("\n")
                    return self._bad_byte(offset - pending + error.start, line, error.object[error.start])
                if not chunk:
                    return UploadError(f"“{self.source.name}” changed while it was read. Upload it again.")
                offset += len(chunk)

    def _bad_byte(self, offset: int, line: int, value: int) -> UploadError:
        others = ", ".join(name for name in ENCODINGS if name != self.codec)
        return UploadError(
            f"The file is not valid {self.codec.upper()}: byte {offset + 1:,} (0x{value:02X}, on line"
            f" {line:,}) cannot be read."
            f" Choose the encoding it was saved in ({others}), or save it as UTF-8."
        )


def _codec(head: bytes, chosen: str | None) -> tuple[str, int]:
    """The codec to decode with, and how many bytes of byte order mark to leave out before it."""
    for mark, codec in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return codec, len(mark)
    if chosen == "utf-16":
        return "utf-16-le", 0
    return chosen or "utf-8", 0
