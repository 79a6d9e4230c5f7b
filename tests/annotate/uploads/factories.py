"""Small files for the tests of uploads."""

import io
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from annotate.uploads.limits import UploadLimits
from annotate.uploads.reading import Reader, Row, RowError, open_upload

LIMITS = UploadLimits()


def open_bytes(
    folder: Path,
    name: str,
    data: bytes,
    *,
    limits: UploadLimits = LIMITS,
    encoding: str | None = None,
    has_header: bool = True,
) -> Reader:
    """Stored under another name than the user's, as uploads are."""
    path = folder / "stored"
    path.write_bytes(data)
    return open_upload(path, name, limits=limits, encoding=encoding, has_header=has_header)


def open_text(folder: Path, name: str, text: str, **options: Any) -> Reader:
    return open_bytes(folder, name, text.encode(), **options)


def good(reader: Reader) -> list[dict[str, Any]]:
    return [record.values for record in reader.rows() if isinstance(record, Row)]


def errors(reader: Reader) -> list[tuple[int, str]]:
    return [(record.number, record.message) for record in reader.rows() if isinstance(record, RowError)]


def image_bytes(
    image_format: str = "PNG", size: tuple[int, int] = (4, 3), mode: str = "RGB", **options: Any
) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, format=image_format, **options)
    return stream.getvalue()


def zip_bytes(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()
