"""Serving the images that people uploaded, so that no browser takes one for anything else."""

from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseNotModified

from annotate.models import Item
from annotate.thumbnails import has_thumbnail, thumbnail
from mllm.images import ImageError

# Those that uploads are kept in, with the ends of their files' names.
MEDIA_TYPES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}


def image_response(request: HttpRequest, item: Item, *, small: bool = False) -> HttpResponse | FileResponse:
    """The item's image as it is stored, or a thumbnail of it; its type comes from a fixed list, whatever the upload
    said. Raises Http404.
    """
    image = item.image
    if image is None or image.media_type not in MEDIA_TYPES:
        raise Http404("This item has no image.")
    small = small and has_thumbnail(image)
    tag = f'"{image.sha256}{"-small" if small else ""}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified()
    try:
        name, media_type = thumbnail(image) if small else (str(image.file.name), image.media_type)
        file = default_storage.open(name, "rb")
    except (FileNotFoundError, ImageError) as error:
        raise Http404("The image's file is gone.") from error
    response = FileResponse(file, content_type=media_type)
    response.headers["Content-Disposition"] = f'inline; filename="item-{item.pk}.{MEDIA_TYPES[media_type]}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    # Kept under a name that its content gives, so it never changes; the address is the members' alone.
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.headers["ETag"] = tag
    return response
