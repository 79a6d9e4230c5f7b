"""Why a call failed, by name, with a sentence that its reader can act on."""

import re
from collections.abc import Iterable
from enum import StrEnum

RAW_LIMIT = 2000  # characters of a provider's answer that are kept with an error


class Failure(StrEnum):
    REFUSED = "refused"
    UNPARSEABLE = "unparseable"
    RATE_LIMITED = "rate_limited"
    TIMED_OUT = "timed_out"
    CONTENT_FILTERED = "content_filtered"
    TOO_LARGE = "too_large"
    AUTHENTICATION = "authentication"
    SERVER_ERROR = "server_error"
    SPEND_LIMIT = "spend_limit"
    MODEL_NOT_FOUND = "model_not_found"
    BAD_REQUEST = "bad_request"
    UNREACHABLE = "unreachable"


RETRYABLE = frozenset(
    {Failure.RATE_LIMITED, Failure.TIMED_OUT, Failure.SERVER_ERROR, Failure.UNREACHABLE},
)
FATAL = frozenset({Failure.AUTHENTICATION, Failure.MODEL_NOT_FOUND})


class CallError(Exception):
    """A call that gave no usable reply.

    `message` is for the user; `raw` is the start of what the provider said, with keys removed. `retryable`:
    the same call may succeed later. `fatal`: every further call of the job would fail in the same way.
    `retry_after` is the provider's wish in seconds. Tokens are set where the failed call was charged for;
    `is_estimated` where a stream broke off before the provider told them.
    """

    def __init__(
        self,
        failure: Failure,
        message: str,
        *,
        retryable: bool | None = None,
        fatal: bool | None = None,
        retry_after: float | None = None,
        raw: str = "",
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        is_estimated: bool = False,
        attempts: int = 1,
    ) -> None:
        super().__init__(failure, message)  # what a copy in another process is made from
        self.failure = failure
        self.message = message
        self.fatal = failure in FATAL if fatal is None else fatal
        self.retryable = failure in RETRYABLE and not self.fatal if retryable is None else retryable
        self.retry_after = retry_after
        self.raw = raw[:RAW_LIMIT]
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cached_tokens = cached_tokens
        self.is_estimated = is_estimated
        self.attempts = attempts

    def __str__(self) -> str:
        return self.message


_KEY_SHAPES = re.compile(r"\b(?:(?:sk|pk|rk|key)[-_]|AIza)[-_A-Za-z0-9*]{8,}|(?i:\bbearer\s+)[^\s\"',]+")


def without_keys(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with the given secrets, and whatever looks like a provider key, replaced by [key].

    Providers echo keys, whole or half masked, in their error texts.
    """
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[key]")
    return _KEY_SHAPES.sub("[key]", text)
