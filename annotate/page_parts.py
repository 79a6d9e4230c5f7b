"""Parts of pages, which htmx asks for under the address of the page itself."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


def parts_are_not_kept(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that keeps a part of a page out of the browser's cache.

    A page that follows a run asks for its part under its own address. The back button shows what the cache has for
    the address, and would show the bare part instead of the page.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.headers.get("HX-Request") == "true":
            response.headers["Cache-Control"] = "no-store"
        return response

    return respond
