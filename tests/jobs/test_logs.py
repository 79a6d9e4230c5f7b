import json
import logging
import sys

from jobs.logs import JsonFormatter, LineFormatter, about


def record(message: str = "It is %s.", *args: object, failed: bool = False) -> logging.LogRecord:
    return logging.LogRecord(
        "jobs", logging.WARNING, __file__, 1, message, args or ("late",), sys.exc_info() if failed else None
    )


def test_a_line_says_which_job_and_chunk_it_is_about():
    with about(job=3), about(chunk=7):
        line = LineFormatter().format(record())

    assert line.endswith("WARNING jobs: It is late. [job 3 chunk 7]")
    assert LineFormatter().format(record()).endswith("It is late.")


def test_a_json_line_holds_the_same_on_one_line_with_its_traceback():
    with about(job=3):
        try:
            raise ValueError("no\nluck")
        except ValueError:
            line = JsonFormatter().format(record("Two\nlines: %s", "ü", failed=True))

    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["level"], fields["logger"], fields["job"]) == ("WARNING", "jobs", 3)
    assert fields["message"] == "Two\nlines: ü"
    assert "ValueError" in fields["traceback"]
    assert fields["time"].endswith("+00:00")
