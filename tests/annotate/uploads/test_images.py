import hashlib
import io
import struct
import zlib
from dataclasses import replace

import pytest
from PIL import Image

from annotate.uploads.errors import RowProblem
from annotate.uploads.images import check_image
from tests.annotate.uploads.factories import LIMITS, image_bytes


@pytest.mark.parametrize(
    ("image_format", "media_type", "extension"),
    [
        ("PNG", "image/png", "png"),
        ("JPEG", "image/jpeg", "jpg"),
        ("MPO", "image/jpeg", "jpg"),
        ("WEBP", "image/webp", "webp"),
        ("GIF", "image/gif", "gif"),
    ],
)
def test_images_that_browsers_show_stay_byte_for_byte(image_format, media_type, extension):
    data = image_bytes(image_format, (7, 5))
    checked = check_image(data, LIMITS)
    assert (checked.data, checked.media_type, checked.extension) == (data, media_type, extension)
    assert (checked.width, checked.height) == (7, 5)
    assert checked.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("image_format", "mode"),
    [
        ("BMP", "RGB"),
        ("BMP", "P"),
        ("TIFF", "RGB"),
        ("TIFF", "CMYK"),
        ("TIFF", "F"),
        ("TIFF", "I;16"),
        ("TIFF", "1"),
    ],
)
def test_other_formats_become_png(image_format, mode):
    checked = check_image(image_bytes(image_format, (7, 5), mode), LIMITS)
    assert (checked.media_type, checked.extension, checked.width, checked.height) == (
        "image/png",
        "png",
        7,
        5,
    )
    assert Image.open(io.BytesIO(checked.data)).format == "PNG"
    assert checked.sha256 == hashlib.sha256(checked.data).hexdigest()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it has this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">2L5B", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(8_000, 8_000), (12_000, 12_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size, monkeypatch):
    def must_not_decode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", must_not_decode)
    with pytest.raises(RowProblem, match="pixels"):
        check_image(png_of_size(*size), LIMITS)


def test_pixels_at_the_limit_are_accepted():
    limits = replace(LIMITS, max_image_pixels=12)
    assert check_image(image_bytes(size=(4, 3)), limits).width == 4
    with pytest.raises(RowProblem, match="5 × 3 pixels; at most 12 in all"):
        check_image(image_bytes(size=(5, 3)), limits)


def test_bytes_above_the_limit_are_refused():
    data = image_bytes()
    with pytest.raises(RowProblem, match="at most"):
        check_image(data, replace(LIMITS, max_image_bytes=len(data) - 1))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_off_image_is_refused(image_format):
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    stream = io.BytesIO()
    noise.save(stream, format=image_format)
    data = stream.getvalue()
    with pytest.raises(RowProblem):
        check_image(data[: len(data) // 2], LIMITS)


def test_a_png_with_only_a_header_is_refused():
    with pytest.raises(RowProblem, match="PNG image is damaged or cut off"):
        check_image(png_of_size(100, 100), LIMITS)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The image is empty."),
        (b"just some text in a file called a.png", "It is not an image in PNG, JPEG, WebP"),
        (b"\x89PNG\r\n\x1a\nrubbish", "It is not an image"),
        (b'<svg xmlns="x"><script>alert(1)</script></svg>', "It is an SVG drawing, which can hold scripts"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg/>', "It is an SVG drawing"),
        (b"<!DOCTYPE html><html><script>alert(1)</script>", "It is a web page or XML"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "a format such as HEIC or AVIF"),
        (image_bytes("PPM"), "It is not an image in PNG"),
        (image_bytes("ICO", (16, 16)), "It is not an image in PNG"),
    ],
)
def test_what_is_no_accepted_image_is_named(data, sentence):
    with pytest.raises(RowProblem) as caught:
        check_image(data, LIMITS)
    assert sentence in caught.value.sentence


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_never_raises_anything_else():
    data = image_bytes("TIFF", (16, 16), compression="tiff_lzw")
    outcomes = set()
    for position in range(len(data)):
        damaged = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        try:
            check_image(damaged, LIMITS)
            outcomes.add("accepted")
        except RowProblem:
            outcomes.add("refused")
    assert "refused" in outcomes
