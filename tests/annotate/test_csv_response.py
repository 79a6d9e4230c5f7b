import csv
import io

from annotate.csv_response import csv_response
from tests.api.caller import content_of


def test_nothing_runs_as_a_formula_and_signed_numbers_stay() -> None:
    """What was rejected is mended and uploaded again: -1 must still be the label that it was."""
    cells = ["=1+1", "-1", "+0.5e-3", "-1+cmd", "@SUM(A1)", "\tTab", "'-5", "plain"]

    response = csv_response("rows.csv", ["=cmd()", "label"], [[cell, 7] for cell in cells])

    header, *rows = csv.reader(io.StringIO(content_of(response).decode(), newline=""))
    assert header == ["'=cmd()", "label"]
    assert [cell for cell, _ in rows] == [
        "'=1+1",
        "-1",
        "+0.5e-3",
        "'-1+cmd",
        "'@SUM(A1)",
        "'\tTab",
        "'-5",
        "plain",
    ]
    assert {number for _, number in rows} == {"7"}
