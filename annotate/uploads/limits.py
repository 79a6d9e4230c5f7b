"""How much of an upload is accepted. Every limit is named in the sentence that refuses a file."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of one upload; a file at a limit is accepted, one above it is refused.

    max_bytes: size of the uploaded file, checked before it is opened.
    max_rows: records, good or bad.
    max_columns: columns of a table, or keys of one JSON object.
    max_cell_chars: characters in one cell or in one text.
    max_row_chars: characters of one record as written; bounds what an unclosed quote can take into memory.
    max_zip_entries: members of a zip, folders included.
    max_zip_total_bytes: unpacked size of all members, as declared and again as counted while reading.
    max_zip_ratio: unpacked bytes to packed bytes of one member, for members above 1 MiB unpacked.
    max_image_bytes: bytes of one image.
    max_image_pixels: width times height of one image, checked before it is decoded.
    """

    max_bytes: int = 2 * GIB
    max_rows: int = 1_100_000
    max_columns: int = 1_000
    max_cell_chars: int = 200_000
    max_row_chars: int = 1_000_000
    max_zip_entries: int = 250_000
    max_zip_total_bytes: int = 20 * GIB
    max_zip_ratio: int = 200
    max_image_bytes: int = 20 * MIB
    max_image_pixels: int = 50_000_000


def format_bytes(count: int) -> str:
    """`count` bytes for people: "812 bytes", "1.5 MiB", "2 GiB"."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} bytes"
