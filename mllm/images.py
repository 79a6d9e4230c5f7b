"""Making an uploaded image into one that every provider takes."""

import io
import struct
import warnings
from collections.abc import Collection
from functools import cache

from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from mllm.messages import Image

MAX_SIDE = 1568  # pixels; providers downscale beyond it, so more would only be paid for
MAX_PIXELS = 64_000_000  # of the upload, checked in its header before anything is unpacked
MAX_BYTES = 4_500_000  # after base64 this stays below the smallest limit of a provider, 5 MB × 4/3
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")

# Only raster formats: Pillow would hand some others to outside programs.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
_MEDIA_TYPE_OF = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
_QUALITIES = (90, 80, 65, 50)


class ImageError(ValueError):
    """An image that cannot be used. The message is a sentence for the user."""


def prepare(
    data: bytes,
    *,
    max_side: int = MAX_SIDE,
    max_bytes: int = MAX_BYTES,
    media_types: Collection[str] = MEDIA_TYPES,
) -> Image:
    """The image turned as its camera says, at most `max_side` pixels a side and `max_bytes` long.

    Only the first frame is kept, and no metadata (positions, names) is sent on. An image that already fits is
    passed on byte for byte. `media_types` must contain image/jpeg and image/png. Raises `ImageError`.
    """
    try:
        with _open(data) as opened:
            _check_size(opened)
            if _fits(opened, data, max_side, max_bytes, media_types):
                opened.load()  # a truncated image must not pass either
                return Image(data, _MEDIA_TYPE_OF[str(opened.format)])
            opened.draft(None, (max_side, max_side))  # JPEG only: unpack no more than needed
            turned = ImageOps.exif_transpose(opened)
            pixels = _plain_mode(turned)
            keep_exact = opened.format not in ("JPEG", "MPO", "WEBP", "AVIF")
    except PillowImage.DecompressionBombError:
        raise ImageError(_too_many_pixels()) from None
    except UnidentifiedImageError:
        raise ImageError(
            "This is not an image in a known format (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF)."
        ) from None
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError, TypeError) as error:
        raise ImageError(f"The image is damaged or cut off: {error}.") from None
    pixels.thumbnail((max_side, max_side), PillowImage.Resampling.LANCZOS)
    return _encode(pixels, max_bytes, keep_exact=keep_exact)


def _open(data: bytes) -> PillowImage.Image:
    with warnings.catch_warnings():
        # Pillow warns of sizes that are refused right after.
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        return PillowImage.open(io.BytesIO(data), formats=_known_formats())


@cache
def _known_formats() -> tuple[str, ...]:
    PillowImage.init()
    return tuple(name for name in _FORMATS if name in PillowImage.OPEN)  # AVIF is not in every build


def _check_size(image: PillowImage.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels())
    if width < 1 or height < 1:
        raise ImageError("The image has no pixels.")


def _too_many_pixels() -> str:
    return f"The image has more than {MAX_PIXELS // 1_000_000} million pixels. Make it smaller first."


def _fits(
    image: PillowImage.Image, data: bytes, max_side: int, max_bytes: int, media_types: Collection[str]
) -> bool:
    return (
        _MEDIA_TYPE_OF.get(str(image.format)) in media_types
        and max(image.size) <= max_side
        and len(data) <= max_bytes
        and getattr(image, "n_frames", 1) == 1
        and image.mode in ("L", "RGB", "RGBA", "P")
        and not {"exif", "xmp", "icc_profile", "comment"} & set(image.info)
        and not (image.format == "PNG" and getattr(image, "text", None))
    )


def _plain_mode(image: PillowImage.Image) -> PillowImage.Image:
    """Grey, RGB or, where something shows through, RGBA."""
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    if image.mode.startswith("I"):  # 16 bits: the high byte, not everything above 255 as white
        high = image.convert("I")
        _, highest = high.getextrema()
        return high.point(lambda value: value / (256 if int(str(highest)) > 255 else 1)).convert("L")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "F") else "RGB")


def _encode(image: PillowImage.Image, max_bytes: int, *, keep_exact: bool) -> Image:
    if keep_exact or image.mode == "RGBA":
        data = _saved(image, "PNG", optimize=False)
        if len(data) <= max_bytes:
            return Image(data, "image/png")
    if image.mode == "RGBA":
        image = _on_white(image)
    while True:
        for quality in _QUALITIES:
            data = _saved(image, "JPEG", quality=quality)
            if len(data) <= max_bytes:
                return Image(data, "image/jpeg")
        if max(image.size) <= 64:
            raise ImageError("The image cannot be made small enough to send.")
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def _saved(image: PillowImage.Image, format_: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    bare = image.copy()
    bare.info = {}  # Pillow would write comments and profiles from here
    bare.save(buffer, format_, **options)
    return buffer.getvalue()


def _on_white(image: PillowImage.Image) -> PillowImage.Image:
    white = PillowImage.new("RGBA", image.size, "white")
    return PillowImage.alpha_composite(white, image).convert("RGB")
