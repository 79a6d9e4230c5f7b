"""Images of items, served so that nothing in them can run."""

from django.http import FileResponse, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from annotate.access import project_for
from annotate.image_response import image_response
from annotate.requests import PageRequest


@require_safe
def item_image(request: PageRequest, project_id: int, item_id: int) -> HttpResponse | FileResponse:
    project = project_for(request.user, project_id)
    return image_response(request, get_object_or_404(project.items.select_related("image"), pk=item_id))


@require_safe
def item_thumbnail(request: PageRequest, project_id: int, item_id: int) -> HttpResponse | FileResponse:
    """The image small, as lists show it."""
    project = project_for(request.user, project_id)
    item = get_object_or_404(project.items.select_related("image"), pk=item_id)
    return image_response(request, item, small=True)
