"""Files of comparisons become rows: good ones all, bad ones with why, and nothing of a file that breaks off."""

import pytest

from annotate.errors import Refusal
from jobs.models import Chunk, Job
from jobs.running import run_next_chunk
from route.models import Comparison
from route.services.comparison_sets import comparison_set_import, rejected_table
from tests.factories import make_project, make_user
from tests.route.uploaded import (
    GOLD,
    LEFT,
    MAPPING,
    PREFERRED,
    as_csv,
    as_json_lines,
    comparison_rows,
    make_comparisons,
    receive,
    work,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("write", "name"), [(as_csv, "rows.csv"), (as_json_lines, "rows.jsonl")])
def test_every_row_becomes_a_comparison_of_the_same_content(write, name) -> None:
    project = make_project(owner=make_user())
    received = receive(project, write(comparison_rows()), name)
    comparisons = comparison_set_import(comparisons=received, mapping=MAPPING, user=project.created_by)
    work(comparisons.job_id)
    comparisons.refresh_from_db()

    assert comparisons.is_ready
    assert (comparisons.imported, comparisons.rejected) == (GOLD + PREFERRED + LEFT, 0)
    rows = list(comparisons.comparisons.all())
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert (rows[0].gold_gain, rows[0].preference, rows[0].premium_response) == (-0.25, None, "long")
    assert rows[GOLD].gold_gain is None
    assert rows[GOLD].preference is not None
    assert (rows[-1].gold_gain, rows[-1].preference) == (None, None)


def test_rejected_rows_are_counted_and_given_back_with_why() -> None:
    rows = comparison_rows()
    for number, change in ((3, {"query": ""}), (5, {"gold_a": "nan"}), (70, {"preference": "c"})):
        rows[number - 1] = rows[number - 1] | change
    content = as_csv(rows) + b"one cell too few,x\n"
    project = make_project(owner=make_user())
    comparisons = comparison_set_import(
        comparisons=receive(project, content), mapping=MAPPING, user=project.created_by
    )
    work(comparisons.job_id)
    comparisons.refresh_from_db()

    assert (comparisons.imported, comparisons.rejected) == (len(rows) - 3, 4)
    assert [problem["row"] for problem in comparisons.problems] == [3, 5, 70, 111]
    columns, given = rejected_table(comparisons)
    table = list(given)
    assert columns[:3] == ["row", "message", "query"]
    assert [row[0] for row in table] == [3, 5, 70, 111]
    assert [row[1] for row in table] == [problem["message"] for problem in comparisons.problems]
    assert table[1][columns.index("gold_a")] == "nan"
    assert comparisons.job is not None
    assert (comparisons.job.done, comparisons.job.failed) == (111, 4)


def test_a_killed_import_goes_on_where_it_was(settings, monkeypatch) -> None:
    settings.WRITE_BATCH = 3  # thirty rows at a time
    project = make_project(owner=make_user())
    comparisons = comparison_set_import(
        comparisons=receive(project, as_csv(comparison_rows())), mapping=MAPPING, user=project.created_by
    )
    stops = iter([False, True])
    monkeypatch.setattr("route.comparison_import.shutdown.requested", lambda: next(stops, False))

    assert comparisons.job is not None
    run_next_chunk(comparisons.job.pk)
    assert comparisons.comparisons.count() == 60
    assert Chunk.objects.get(job=comparisons.job_id).cursor == 60
    work(comparisons.job_id)

    comparisons.refresh_from_db()
    assert comparisons.imported == comparisons.comparisons.count() == 110


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing(settings) -> None:
    settings.WRITE_BATCH = 3
    filler = [row | {"response_a": "x" * 3000} for row in comparison_rows()]
    content = as_csv(filler) + b"caf\xe9,x,y,1,2,\n"
    project = make_project(owner=make_user())
    comparisons = comparison_set_import(
        comparisons=receive(project, content), mapping=MAPPING, user=project.created_by
    )

    work(comparisons.job_id)

    job = Job.objects.get(comparison_set=comparisons)
    assert job.state == Job.State.FAILED
    assert "on line 112" in job.reason
    assert "Nothing of it was kept." in job.reason
    comparisons.refresh_from_db()
    assert comparisons.imported == 0
    assert not Comparison.objects.exists()


def test_a_file_is_imported_once_and_with_columns_that_it_has() -> None:
    comparisons = make_comparisons()
    with pytest.raises(Refusal, match="already imported"):
        comparison_set_import(comparisons=comparisons, mapping=MAPPING, user=comparisons.created_by)
    other = receive(comparisons.project, b"query,gold\nwhy,a\n")
    with pytest.raises(Refusal, match="no column “response_a”"):
        comparison_set_import(comparisons=other, mapping=MAPPING, user=comparisons.created_by)
    assert other.job is None
