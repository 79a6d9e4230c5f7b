"""Is it really an image? Its format is read from its content, and it is decoded to the end."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from annotate.uploads.errors import RowProblem
from annotate.uploads.limits import UploadLimits, format_bytes

# What Pillow calls a format, its media type, and its extension. MPO is how some cameras write JPEG.
_SHOWN_BY_BROWSERS = {
    "PNG": ("image/png", "png"),
    "JPEG": ("image/jpeg", "jpg"),
    "MPO": ("image/jpeg", "jpg"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
}
_CONVERTED = {"BMP", "TIFF"}
# MPO has no reader of its own: it is found while a JPEG is opened.
_READ = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_MODES_OF_PNG = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
_ACCEPTED = "PNG, JPEG, WebP, GIF, BMP or TIFF"


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that was decoded without an error and that browsers show. `sha256` (hex) is that of `data`.

    `width` and `height` are as stored, before any turn that its EXIF data asks for.
    """

    data: bytes
    media_type: str
    extension: str
    width: int
    height: int
    sha256: str


def check_image(data: bytes, limits: UploadLimits) -> CheckedImage:
    """Decode `data` and return it; BMP and TIFF are turned into PNG, everything else stays byte for byte.

    Raises RowProblem when it is empty, too large, has too many pixels (judged before decoding), is damaged or
    cut off, or is not an image in an accepted format, whatever its name says.
    """
    if not data:
        raise RowProblem("The image is empty.")
    if len(data) > limits.max_image_bytes:
        raise RowProblem(
            f"The image has {format_bytes(len(data))}; at most {format_bytes(limits.max_image_bytes)}"
            " are accepted."
        )
    with _opened(data) as image:
        _check_pixels(image.width, image.height, limits)
        _decode(image)
        size = image.size
        if image.format in _CONVERTED:
            data, media_type, extension = _as_png(image), "image/png", "png"
        else:
            media_type, extension = _SHOWN_BY_BROWSERS[image.format or ""]
    return CheckedImage(data, media_type, extension, *size, hashlib.sha256(data).hexdigest())


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_READ)
    except Image.DecompressionBombError:
        raise RowProblem("The image has far too many pixels to be opened safely.") from None
    except Exception:  # damaged headers make Pillow's format readers raise nearly anything
        raise RowProblem(_what_it_is(data)) from None


def _check_pixels(width: int, height: int, limits: UploadLimits) -> None:
    if width * height > limits.max_image_pixels:
        raise RowProblem(
            f"The image has {width:,} × {height:,} pixels; at most {limits.max_image_pixels:,} in all"
            " are accepted. Make it smaller."
        )


def _decode(image: Image.Image) -> None:
    try:
        image.load()
    except Exception:  # damaged data makes Pillow's decoders raise nearly anything
        raise RowProblem(f"The {image.format} image is damaged or cut off and cannot be decoded.") from None


def _as_png(image: Image.Image) -> bytes:
    if image.mode not in _MODES_OF_PNG:
        image = image.convert("RGB")
    stream = io.BytesIO()
    try:
        image.save(stream, format="PNG")
    except (OSError, ValueError):
        raise RowProblem("The image cannot be turned into PNG. Save it as PNG or JPEG.") from None
    return stream.getvalue()


def _what_it_is(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        return f"It is an SVG drawing, which can hold scripts and is not accepted. Save it as {_ACCEPTED}."
    if head.startswith((b"<!doctype", b"<html", b"<script", b"<?xml", b"<head", b"<body")):
        return "It is a web page or XML, not an image. Was an error page saved in its place?"
    if data[4:8] == b"ftyp":
        return f"It is in a format such as HEIC or AVIF, or a video. Save it as {_ACCEPTED}."
    return f"It is not an image in {_ACCEPTED} format, or its beginning is damaged."
