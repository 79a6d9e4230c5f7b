"""Small pictures of large images, made when they are first looked at and kept beside the images."""

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from annotate.models import StoredImage
from mllm.images import prepare

FOLDER = "thumbnails"
SIDE = 320  # pixels at most, either way: twice what a tile shows, for sharp screens
_MOST_BYTES = 40_000
_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png"}


def has_thumbnail(image: StoredImage) -> bool:
    """Whether the image is so large that its thumbnail is another picture."""
    return max(image.width, image.height) > SIDE


def thumbnail(image: StoredImage) -> tuple[str, str]:
    """(stored name, media type) of the image's thumbnail, which is made if it is not there.

    It is named by the image's content, so that it is made once however many items show the image. Raises ImageError,
    and FileNotFoundError where the image is gone.
    """
    stem = f"{FOLDER}/{image.project_id}/{image.sha256[:2]}/{image.sha256}"
    for media_type, suffix in _SUFFIXES.items():
        if default_storage.exists(f"{stem}.{suffix}"):
            return f"{stem}.{suffix}", media_type
    with image.file.open("rb") as file:
        small = prepare(file.read(), max_side=SIDE, max_bytes=_MOST_BYTES, media_types=tuple(_SUFFIXES))
    stored = default_storage.save(f"{stem}.{_SUFFIXES[small.media_type]}", ContentFile(small.data))
    return stored, small.media_type
