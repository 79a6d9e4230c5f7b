"""Sending an export's file, whole or from where a download broke off (RFC 9110, range requests)."""

import re
from collections.abc import Iterator
from typing import IO

from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header, http_date, parse_http_date_safe

from review.models import Export

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PIECE = 64 * 1024


def download_response(request: HttpRequest, export: Export, content_type: str) -> HttpResponseBase:
    """The finished file as an attachment: 200, or 206 with the one range that was asked for; 416 for none in it.

    `If-Range` is honoured, so that the rest of another file is never glued to what somebody has. Requests for several
    ranges are answered with the whole file, as they may be.
    """
    tag = etag(export)
    modified = export.file.storage.get_modified_time(str(export.file.name)).timestamp()
    if tag in [given.strip() for given in request.headers.get("If-None-Match", "").split(",")]:
        response: HttpResponseBase = HttpResponseNotModified()
    else:
        response = _file_response(request, export, tag, modified, content_type)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = tag
    response.headers["Last-Modified"] = http_date(modified)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def etag(export: Export) -> str:
    """A file is written once, so its number, its size and when it was written tell it from all others."""
    return f'"export-{export.pk}-{export.size}-{export.card.get("written_at", "")}"'


def _file_response(
    request: HttpRequest, export: Export, tag: str, modified: float, content_type: str
) -> HttpResponseBase:
    wanted = request.headers.get("Range", "")
    condition = request.headers.get("If-Range", "")
    if condition and condition != tag and parse_http_date_safe(condition) != int(modified):
        wanted = ""
    size = export.file.size
    span = _span(wanted, size)
    if span is None:
        return FileResponse(
            export.file.open("rb"), as_attachment=True, filename=export.filename, content_type=content_type
        )
    first, last = span
    if first > last:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    file = export.file.open("rb")
    file.seek(first)
    response = StreamingHttpResponse(_pieces(file, last - first + 1), status=206, content_type=content_type)
    response.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    response.headers["Content-Length"] = str(last - first + 1)
    response.headers["Content-Disposition"] = (
        content_disposition_header(True, export.filename) or "attachment"
    )
    return response


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """First and last byte of one range; None for the whole file, and a first after the last for a range outside it."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":  # the last so many bytes
        count = int(match[2])
        return (max(0, size - count), size - 1) if count else (1, 0)
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None  # not a range at all: it is to be ignored
    return (first, last) if first < size else (1, 0)


def _pieces(file: IO[bytes], left: int) -> Iterator[bytes]:
    with file:
        while left > 0 and (piece := file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
