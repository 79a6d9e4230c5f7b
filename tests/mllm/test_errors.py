import pickle

import pytest

from mllm.errors import FATAL, RETRYABLE, CallError, Failure, without_keys


def test_every_failure_is_either_retried_or_not_and_never_fatal_and_retried():
    assert not RETRYABLE & FATAL
    for failure in Failure:
        error = CallError(failure, "Said.")
        assert (error.retryable, error.fatal) == (failure in RETRYABLE, failure in FATAL)


def test_what_is_said_for_one_error_wins():
    assert CallError(Failure.RATE_LIMITED, "x", fatal=True).retryable is False
    assert CallError(Failure.SERVER_ERROR, "x", retryable=False).retryable is False


def test_the_message_is_what_is_shown():
    assert str(CallError(Failure.REFUSED, "The model refused to answer.")) == "The model refused to answer."


def test_errors_pass_between_processes():
    error = CallError(Failure.RATE_LIMITED, "Busy.", retry_after=3.0, raw="raw", input_tokens=4)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.failure, copy.message, copy.retry_after, copy.raw, copy.input_tokens) == (
        Failure.RATE_LIMITED,
        "Busy.",
        3.0,
        "raw",
        4,
    )


@pytest.mark.parametrize(
    "text",
    [
        "provided: sk-abcdefghijklmnop.",
        "provided: sk-proj-********1234.",
        "key AIzaSyA1234567890abcdefg is wrong",
        "Authorization: Bearer abc.def.ghi",
        "the key my-own-secret-value failed",
    ],
)
def test_keys_are_removed(text):
    found = without_keys(text, ["my-own-secret-value"])
    assert "[key]" in found
    for secret in ("abcdefghijklmnop", "proj", "1234", "SyA", "abc.def", "my-own"):
        assert secret not in found


@pytest.mark.parametrize(
    "text", ["a skyscraper, skepticism and a keyboardist", "model gpt-4o-mini, key: missing"]
)
def test_ordinary_words_stay(text):
    assert without_keys(text, ["", "ab"]) == text
