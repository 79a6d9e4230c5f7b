from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from mllm.adapters.failures import name_failure, read_problem, retry_after
from mllm.errors import RAW_LIMIT, Failure

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after": format_datetime(NOW.replace(second=20), usegmt=True)}, 20.0),
        ({"retry-after": format_datetime(NOW.replace(hour=11), usegmt=True)}, 0.0),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, now=NOW.timestamp()) == seconds


@pytest.mark.parametrize(
    ("body", "code", "param", "message"),
    [
        ('{"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}', "c", "p", "m"),
        ('{"error": {"message": "m", "type": "t", "code": 400}}', "t", "", "m"),
        ('{"type": "error", "error": {"type": "t", "message": "m"}}', "t", "", "m"),
        (
            '[{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}]',
            "INVALID_ARGUMENT",
            "",
            "m",
        ),
        ('{"error": "m"}', "", "", "m"),
        ('{"object": "error", "message": "m", "type": "t"}', "t", "", "m"),
        ('{"detail": "m"}', "", "", "m"),
        ('{"detail": [{"msg": "m"}]}', "", "", '[{"msg": "m"}]'),
        ("plain m", "", "", "plain m"),
        ("<html>m</html>", "", "", ""),
        ("[]", "", "", "[]"),
        ("null", "", "", "None"),
        ("", "", "", ""),
    ],
)
def test_problems_of_all_shapes(body, code, param, message):
    problem = read_problem(400, {}, body)
    assert (problem.code, problem.param, problem.message) == (code, param, message)
    assert name_failure(problem).message.endswith((".", "”"))


def test_a_long_answer_is_cut():
    problem = read_problem(400, {}, "x" * 1_000_000)
    error = name_failure(problem)
    assert len(error.raw) == RAW_LIMIT
    assert len(error.message) < 500


@pytest.mark.parametrize(
    ("message", "param", "status", "found"),
    [
        ("'temperature' is not supported", "", 400, True),
        ("anything", "temperature", 400, True),
        ("anything", "temperature.value", 422, True),
        ("'temperature' is not supported", "", 500, False),
        ("the temperature in Rome is 30 degrees", "", 400, False),
        ("'my_temperature' is not supported", "", 400, False),
    ],
)
def test_which_parameter_a_problem_is_about(message, param, status, found):
    body = f'{{"error": {{"message": "{message}", "param": "{param}"}}}}'
    assert read_problem(status, {}, body).is_about("temperature") is found


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("This model's maximum context length is 8192 tokens.", Failure.TOO_LARGE),
        ("the request exceeds the available context size", Failure.TOO_LARGE),
        ("image exceeds 5 MB maximum", Failure.TOO_LARGE),
        ("The response was filtered due to the content management policy.", Failure.CONTENT_FILTERED),
        ("Your request was rejected by our safety system.", Failure.CONTENT_FILTERED),
        ("The model gpt-9.1 does not exist or you do not have access to it.", Failure.MODEL_NOT_FOUND),
        ("Invalid schema for response_format", Failure.BAD_REQUEST),
    ],
)
def test_sentences_of_providers_with_status_400(said, name):
    assert name_failure(read_problem(400, {}, f'{{"error": {{"message": "{said}"}}}}')).failure is name
