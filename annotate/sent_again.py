"""A POST that is sent again, with the Idempotency-Key of the first time, is answered again and not done again.

The key is claimed in a transaction of its own before anything is done, so that of two at once one is told to wait. What
the request itself does stays in its own transactions.
"""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Q
from django.http import HttpResponseBase, QueryDict
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.models import SentRequest, User
from annotate.secrets import SecretUnreadable, decrypt, encrypt

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
MOST_CHARACTERS = 255
KEPT_FOR = timedelta(hours=24)
# A request that a crash has ended never says so; its key is free after this.
LONGEST_WORK = timedelta(minutes=15)

logger = logging.getLogger(__name__)


class UnusableKey(exceptions.APIException):
    status_code = 400
    default_detail = (
        f"The header {HEADER} takes 1 to {MOST_CHARACTERS} characters of ASCII, for instance a new UUID for each "
        "request."
    )


class StillAtWork(exceptions.APIException):
    status_code = 409
    default_detail = (
        f"The request with this {HEADER} is still at work. Send it again in a moment to get its answer."
    )
    wait = 2  # seconds, told as Retry-After


class AnswerUnreadable(exceptions.APIException):
    status_code = 409
    default_detail = (
        "This request was done, but its answer can no longer be read: the encryption key of this installation has "
        "changed. Look for what it made in its list."
    )


class OtherRequest(exceptions.APIException):
    status_code = 422
    default_detail = (
        f"This {HEADER} was sent before with another address or body. Send that request again as it was, or take a "
        "new key."
    )


def done_once(
    key: str, handle: Callable[..., HttpResponseBase], request: Request, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    """What `handle` answers to the request, or answered to the same request before.

    Only an answer that it succeeded is kept: after an error the request can be sent again, as it was or mended. Answers
    that are streamed are passed on and not kept.
    """
    sent = _claim(request, key)
    if sent.status is not None:
        return _kept_answer(sent)
    try:
        response = handle(request, *args, **kwargs)
    except BaseException:
        _free(sent)
        raise
    if isinstance(response, Response) and 200 <= response.status_code < 300:
        _keep(sent, response)
    else:
        _free(sent)
    return response


def forget_old() -> None:
    """Delete requests whose keys are free again."""
    SentRequest.objects.filter(_over()).delete()


def _claim(request: Request, key: str) -> SentRequest:
    """A new row, which is this request's to do; or the row of the same request, answered before."""
    if not 1 <= len(key) <= MOST_CHARACTERS or not (key.isascii() and key.isprintable()):
        raise UnusableKey
    user: User = request.user  # type: ignore[assignment]
    fingerprint = _fingerprint(request)
    rows = SentRequest.objects.filter(user=user, key=key)
    rows.filter(_over()).delete()
    try:
        with transaction.atomic():
            return SentRequest.objects.create(user=user, key=key, fingerprint=fingerprint)
    except IntegrityError:
        earlier = rows.first()
    if earlier is not None and earlier.fingerprint != fingerprint:
        raise OtherRequest
    if earlier is None or earlier.status is None:  # none: it failed this moment
        raise StillAtWork
    return earlier


def _over() -> Q:
    now = timezone.now()
    return Q(sent_at__lt=now - KEPT_FOR) | Q(status=None, sent_at__lt=now - LONGEST_WORK)


def _fingerprint(request: Request) -> str:
    """A digest of the address and the values of the body. Of a file its name and size count, not what it holds."""
    values = request.data
    if isinstance(values, QueryDict):
        values = [[name, [_value_of(each) for each in given]] for name, given in sorted(values.lists())]
    said = json.dumps([request.get_full_path(), values], sort_keys=True)
    # With a secret: bodies may hold provider keys.
    return salted_hmac("overread sent requests", said, algorithm="sha256").hexdigest()


def _value_of(given: Any) -> Any:
    return [given.name, given.size] if isinstance(given, UploadedFile) else given


def _kept_answer(sent: SentRequest) -> Response:
    try:
        content = decrypt(sent.answer)
    except SecretUnreadable as error:
        raise AnswerUnreadable from error
    return Response(json.loads(content) if content else None, status=sent.status, headers={REPLAYED: "true"})


def _keep(sent: SentRequest, response: Response) -> None:
    content = "" if response.data is None else JSONRenderer().render(response.data).decode()
    try:
        with transaction.atomic():
            SentRequest.objects.filter(pk=sent.pk).update(
                status=response.status_code, answer=encrypt(content)
            )
    except DatabaseError:  # what was done is done, and its answer counts
        logger.warning("The answer to a request with a key could not be kept.", exc_info=True)


def _free(sent: SentRequest) -> None:
    try:
        with transaction.atomic():
            SentRequest.objects.filter(pk=sent.pk).delete()
    except DatabaseError:  # not to hide why the request failed
        logger.warning("The key of a failed request could not be freed yet.", exc_info=True)
