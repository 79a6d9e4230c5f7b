"""From a provider's HTTP answer to the name of the failure and the sentence for the user."""

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from mllm.errors import RAW_LIMIT, CallError, Failure, without_keys

_QUOTE_LIMIT = 300  # characters of a provider's sentence that are shown

_TOO_LONG = re.compile(
    r"context.?length|context.?window|maximum context|too (?:long|large)|too many (?:input )?tokens|"
    r"exceeds? (?:the (?:maximum|available|model)|[0-9])|prompt is too long|request_too_large",
    re.I,
)
_FILTERED = re.compile(r"content.?(?:filter|policy|management)|safety system|flagged|moderation", re.I)
_KEY = re.compile(r"(?:api|x-api)[ _-]?key|authenticat|unauthorized", re.I)
# Not "exceeded your current quota": Gemini says so for a limit that ends with the minute.
_QUOTA = re.compile(r"insufficient_quota|billing_error|credit balance is too low|insufficient credits", re.I)
_NO_MODEL = re.compile(
    r"model.{0,120}?(?:not (?:found|exist|available)|does not exist|have access)", re.I | re.S
)
_COMPLAINT = re.compile(
    r"unsupported|not (?:support|permit|allow)|does not support|deprecated|unknown|unrecognized|unexpected|"
    r"extra (?:inputs|fields)|may only be set|invalid",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a provider said when it did not answer. `code` and `param` are empty where it did not say."""

    status: int
    code: str
    param: str
    message: str
    raw: str
    retry_after: float | None = None
    may_retry: bool | None = None

    def is_about(self, parameter: str) -> bool:
        """Whether the provider rejects this parameter of the request."""
        if self.status not in (400, 422):
            return False
        named = re.search(rf"(?<![A-Za-z0-9_]){re.escape(parameter)}(?![A-Za-z0-9_])", self.message)
        return self.param.split(".")[0] == parameter or bool(named and _COMPLAINT.search(self.message))


def read_problem(
    status: int, headers: Mapping[str, str], body: bytes | str, secrets: Iterable[str] = ()
) -> Problem:
    """The problem in an answer, keys removed. Knows the shapes of OpenAI, Anthropic, Gemini and FastAPI."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    text = without_keys(text[: 4 * RAW_LIMIT], secrets)
    code, param, message = _parts_of(text)
    should_retry = headers.get("x-should-retry")
    return Problem(
        status=status,
        code=code,
        param=param,
        message=message,
        raw=text[:RAW_LIMIT],
        retry_after=retry_after(headers),
        may_retry={"true": True, "false": False}.get(should_retry or ""),
    )


def _parts_of(text: str) -> tuple[str, str, str]:
    """(code, parameter, message)."""
    try:
        found = json.loads(text)
    except ValueError:
        # HTML is kept in `raw`, but no one wants to read it.
        return "", "", "" if text.lstrip().startswith("<") else text.strip()
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return "", "", str(found)
    error: Any = found.get("error", found)
    if isinstance(error, str):
        return "", "", error
    if not isinstance(error, dict):
        error = found
    code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    message = error.get("message") or error.get("detail") or found.get("detail") or ""
    if not isinstance(message, str):
        message = json.dumps(message)
    return str(code or error.get("status") or ""), str(error.get("param") or ""), message


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait as the provider wishes: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if not value:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after") or "")
    except (ValueError, TypeError):
        return None
    return max(0.0, moment.timestamp() - (time.time() if now is None else now))


def name_failure(problem: Problem, *, asks_model: bool = True) -> CallError:
    """The error for a problem. `asks_model`: the call named a model, so that a 404 may be about it."""
    failure, sentence, fatal = _name(problem, asks_model)
    error = CallError(
        failure, sentence + _quote(problem), fatal=fatal, retry_after=problem.retry_after, raw=problem.raw
    )
    if problem.may_retry is False:
        error.retryable = False
    return error


def _name(problem: Problem, asks_model: bool) -> tuple[Failure, str, bool | None]:
    status, said = problem.status, f"{problem.code} {problem.message}"
    if 300 <= status < 400:
        return (
            Failure.BAD_REQUEST,
            f"The server answered with a redirect ({status}), which is not followed. "
            "Enter the final address as the base URL.",
            True,
        )
    if status == 402 or (status in (400, 403, 429) and _QUOTA.search(said)):
        return Failure.SPEND_LIMIT, "The provider says that this account has no credit or quota left.", True
    if status == 401 or (status in (400, 403) and _KEY.search(said)):
        return Failure.AUTHENTICATION, f"The provider does not accept the key ({status}).", None
    if (
        asks_model
        and status in (400, 403, 404)
        and (problem.code == "model_not_found" or _NO_MODEL.search(said))
    ):
        return Failure.MODEL_NOT_FOUND, f"The provider does not offer this model ({status}).", None
    if status == 403 and _FILTERED.search(said):
        return Failure.CONTENT_FILTERED, "The provider's content filter stopped this item.", None
    if status == 403:
        return Failure.AUTHENTICATION, "The provider does not allow this call with this key (403).", None
    if status == 404:
        # Anthropic's not_found_error names only the model.
        if asks_model and problem.code == "not_found_error":
            return Failure.MODEL_NOT_FOUND, "The provider does not offer this model (404).", None
        return (
            Failure.BAD_REQUEST,
            "There is no such interface at this address (404). Check the base URL.",
            True,
        )
    too_long = _TOO_LONG.search(said) and not problem.param.startswith("max_")
    if status == 413 or (status in (400, 422, 429) and too_long):
        return Failure.TOO_LARGE, f"The item is too large for this model ({status}).", None
    if status in (400, 422) and _FILTERED.search(said):
        return Failure.CONTENT_FILTERED, "The provider's content filter stopped this item.", None
    if status == 429:
        return Failure.RATE_LIMITED, "The provider's rate limit is reached (429).", None
    if status in (408, 504):
        return Failure.TIMED_OUT, f"The provider took too long ({status}).", None
    if status == 529:
        return Failure.SERVER_ERROR, "The provider is overloaded (529).", None
    if status >= 500 or status in (409, 425):
        return Failure.SERVER_ERROR, f"The provider failed ({status}).", None
    return Failure.BAD_REQUEST, f"The provider does not accept this request ({status}).", None


def _quote(problem: Problem) -> str:
    said = " ".join(problem.message.split())
    if not said:
        return ""
    shown = said if len(said) <= _QUOTE_LIMIT else said[:_QUOTE_LIMIT] + "…"
    return f" It said: “{shown}”"


def broken_answer(what: str, body: bytes | str, secrets: Iterable[str] = ()) -> CallError:
    """An answer with status 200 that is none."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    return CallError(
        Failure.SERVER_ERROR,
        f"The provider's answer cannot be read: {what}.",
        raw=without_keys(text[: 2 * RAW_LIMIT], secrets),
    )
