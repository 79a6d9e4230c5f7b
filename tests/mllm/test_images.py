import io
import random
import struct
import zlib

import pytest
from PIL import Image as PillowImage

from mllm.images import MAX_PIXELS, ImageError, prepare

RED, BLUE = (250, 10, 10), (10, 10, 250)


def encoded(width=40, height=20, mode="RGB", color=None, format_="PNG", **options) -> bytes:
    image = (
        PillowImage.new(mode, (width, height), color)
        if color is not None
        else PillowImage.new(mode, (width, height))
    )
    return saved(image, format_, **options)


def saved(image, format_="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(width, height, mode="RGB"):
    data = random.Random(1).randbytes(width * height * len(mode))
    return PillowImage.frombytes(mode, (width, height), data)


def opened(image) -> PillowImage.Image:
    found = PillowImage.open(io.BytesIO(image.data))
    assert found.get_format_mimetype() == image.media_type
    found.load()
    return found


def is_like(pixel, color) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(pixel[:3], color, strict=True))


@pytest.mark.parametrize(
    ("format_", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_an_image_that_fits_is_passed_on_byte_for_byte(format_, media_type):
    data = encoded(color=RED, format_=format_)
    prepared = prepare(data)
    assert (prepared.data, prepared.media_type) == (data, media_type)


@pytest.mark.parametrize(
    ("format_", "media_type"),
    [("BMP", "image/png"), ("TIFF", "image/png"), ("GIF", "image/png"), ("PPM", "image/png")],
)
def test_formats_that_no_provider_takes_are_converted(format_, media_type):
    prepared = prepare(encoded(color=RED, format_=format_))
    assert prepared.media_type == media_type
    assert is_like(opened(prepared).convert("RGB").getpixel((5, 5)), RED)


def test_a_format_that_this_provider_does_not_take_is_converted():
    prepared = prepare(encoded(color=RED, format_="WEBP"), media_types=("image/jpeg", "image/png"))
    assert prepared.media_type == "image/jpeg"


def test_only_the_first_frame_is_kept():
    frames = [PillowImage.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    for format_ in ("GIF", "TIFF", "WEBP"):
        prepared = prepare(saved(frames[0], format_, save_all=True, append_images=frames[1:]))
        found = opened(prepared)
        assert getattr(found, "n_frames", 1) == 1
        assert is_like(found.convert("RGB").getpixel((4, 4)), RED)


@pytest.mark.parametrize(
    ("size", "expected"), [((3000, 1500), (1568, 784)), ((10, 4000), (4, 1568)), ((1568, 9), (1568, 9))]
)
def test_the_longest_side_is_limited_and_the_shape_kept(size, expected):
    assert opened(prepare(encoded(*size))).size == expected


def test_small_images_are_not_made_larger():
    assert opened(prepare(encoded(8, 8, format_="BMP"))).size == (8, 8)


@pytest.mark.parametrize(("orientation", "corner"), [(3, (35, 15)), (6, (15, 5)), (8, (5, 35))])
def test_the_image_is_turned_as_its_camera_says_and_the_mark_removed(orientation, corner):
    image = PillowImage.new("RGB", (40, 20), BLUE)
    image.paste(RED, (0, 0, 10, 10))  # at the upper left before turning
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    prepared = opened(prepare(saved(image, "JPEG", exif=exif, quality=95)))
    assert prepared.size == ((40, 20) if orientation == 3 else (20, 40))
    assert is_like(prepared.getpixel(corner), RED)
    assert not prepared.getexif()


def test_metadata_is_not_sent_on():
    exif = PillowImage.Exif()
    exif[0x010E] = "taken at home by Alice"
    prepared = prepare(saved(PillowImage.new("RGB", (9, 9)), "JPEG", exif=exif, comment=b"by Alice"))
    assert b"Alice" not in prepared.data
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Author", "Alice")
    assert b"Alice" not in prepare(saved(PillowImage.new("RGB", (9, 9)), pnginfo=text)).data


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_one_that_providers_take(mode):
    format_ = "TIFF" if mode in ("CMYK", "YCbCr", "I", "F") else "PNG"
    prepared = prepare(encoded(mode=mode, format_=format_))
    assert opened(prepared).mode in ("L", "RGB", "RGBA", "P")


def test_sixteen_bits_keep_their_shades():
    row = (40000).to_bytes(2, "little") * 10 + b"\0\0" * 10
    image = PillowImage.frombytes("I;16", (20, 10), row * 10)
    prepared = opened(prepare(saved(image))).convert("L")
    assert prepared.getpixel((5, 5)) == 40000 // 256
    assert prepared.getpixel((15, 5)) == 0


def test_what_shows_through_stays_so_or_becomes_white():
    clear = encoded(3000, 100, "RGBA", (255, 0, 0, 0))
    assert opened(prepare(clear)).getchannel("A").getpixel((5, 5)) == 0
    packed = opened(prepare(saved(noise(800, 800, "RGBA")), max_bytes=300_000))
    assert packed.mode == "RGB"


def test_the_size_in_bytes_is_kept_by_lower_quality_then_fewer_pixels():
    data = saved(noise(1000, 1000))
    for max_bytes in (700_000, 60_000):
        prepared = prepare(data, max_bytes=max_bytes)
        assert len(prepared.data) <= max_bytes
        assert prepared.media_type == "image/jpeg"
    assert opened(prepare(data, max_bytes=700_000)).size == (1000, 1000)


def test_a_limit_that_no_image_can_meet():
    with pytest.raises(ImageError, match="small enough"):
        prepare(encoded(), max_bytes=10)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an image"),
        (b"hello", "not an image"),
        (b"<html>", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(200, 200, format_="JPEG")[:300], "damaged"),
        (saved(noise(50, 50))[:2000], "damaged"),
        (saved(noise(50, 50), "BMP")[:2000], "damaged"),
        (saved(noise(50, 50), "WEBP")[:900], "damaged|not an image"),
        (encoded()[:20], "damaged|not an image"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(data, said):
    with pytest.raises(ImageError, match=said) as caught:
        prepare(data)
    assert str(caught.value).endswith(".")


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, with next to nothing in it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8001, 11_000, 30_000, 2_000_000])
def test_a_decompression_bomb_is_refused_by_its_header(side):
    assert side * side > MAX_PIXELS
    with pytest.raises(ImageError, match="64 million pixels"):
        prepare(png_header(side, side))
