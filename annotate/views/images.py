"""Images of items, served so that nothing in them can run."""

from django.http import FileResponse, Http404, HttpResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from annotate.access import project_for
from annotate.requests import PageRequest

MEDIA_TYPES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}


@require_safe
def item_image(request: PageRequest, project_id: int, item_id: int) -> HttpResponse | FileResponse:
    """The item's image as it is stored; its type comes from a fixed list, whatever the upload said."""
    project = project_for(request.user, project_id)
    item = get_object_or_404(project.items.select_related("image"), pk=item_id)
    image = item.image
    if image is None or image.media_type not in MEDIA_TYPES:
        raise Http404("This item has no image.")
    tag = f'"{image.sha256}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified()
    try:
        file = image.file.open("rb")
    except FileNotFoundError as error:
        raise Http404("The image's file is gone.") from error
    response = FileResponse(file, content_type=image.media_type)
    response.headers["Content-Disposition"] = (
        f'inline; filename="item-{item.pk}.{MEDIA_TYPES[image.media_type]}"'
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.headers["ETag"] = tag
    return response
