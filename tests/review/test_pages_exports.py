"""The exports page and the files: form, live list, download, and who may have them."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Project
from jobs.models import Job
from jobs.running import run_to_end
from review.models import Export, ReviewRound
from review.services.exports import export_create
from review.services.queue import Answer, task_submit, tasks_claim
from tests.factories import (
    label_named,
    make_calibration_round,
    make_export,
    make_items,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def url(name: str, project: Project, *args: object) -> str:
    return reverse(name, args=[project.pk, *args])


def queries_of(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        client.get(address)
    return len(captured)


def text_of(client: Client, address: str, **options: Any) -> str:
    response = client.get(address, **options)
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def round(client: Client) -> ReviewRound:
    round = make_reviewable_round(4, 2)
    client.force_login(round.created_by)
    return round


def form_of(round: ReviewRound, /, **changes: object) -> dict[str, object]:
    return {"round": round.pk, "layout": "wide", "format": "csv", "lam": "1.0", **changes}


def test_without_a_round_the_page_says_to_draw_one(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)

    page = text_of(client, url("exports", project))

    assert "There is nothing to export yet" in page
    assert url("review_rounds", project) in page


def test_an_export_starts_as_the_form_says(client: Client, round: ReviewRound) -> None:
    response = client.post(
        url("exports", round.project), form_of(round, layout="long", format="parquet", lam="0.8")
    )

    export = round.exports.get()
    assert response.headers["Location"] == url("exports", round.project)
    assert (export.layout, export.format, export.lam, export.escape_formulas) == (
        "long",
        "parquet",
        0.8,
        False,
    )
    assert export.created_by == round.created_by


def test_formulas_are_escaped_unless_it_is_turned_off(client: Client, round: ReviewRound) -> None:
    assert re.search(r'name="escape_formulas"[^>]* checked', text_of(client, url("exports", round.project)))
    client.post(url("exports", round.project), form_of(round, escape_formulas="on"))
    assert round.exports.get().escape_formulas


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"round": ""}, "Choose the review round to export."),
        ({"round": "999"}, "review rounds."),
        ({"layout": "tall"}, "tall"),
        ({"format": "xls"}, "xls"),
        ({"lam": ""}, "Enter λ"),
        ({"lam": "nan"}, "Enter λ as a number"),
        ({"lam": "1.1"}, "λ must be between 0 and 1."),
        ({"lam": "-0.1"}, "λ must be between 0 and 1."),
    ],
)
def test_bad_input_is_answered_with_a_sentence(
    client: Client, round: ReviewRound, changes: dict[str, object], sentence: str
) -> None:
    response = client.post(url("exports", round.project), form_of(round, **changes))

    errors = re.findall(r'class="errorlist"[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)
    assert response.status_code == 200
    assert sentence in "".join(errors)
    assert not Export.objects.exists()


def test_rounds_of_other_projects_and_calibration_rounds_cannot_be_exported(
    client: Client, round: ReviewRound
) -> None:
    foreign = make_reviewable_round()
    make_items(round.project, 2)
    blind = make_calibration_round(round.project, 1)

    for other in (foreign, blind):
        client.post(url("exports", round.project), form_of(other))
    assert not Export.objects.exists()


def test_the_list_is_sent_alone_and_asked_for_while_one_is_written(
    client: Client, round: ReviewRound
) -> None:
    export = make_export(round, state=Job.State.RUNNING)
    address = url("exports", round.project) + "?part=list"

    writing = text_of(client, address, headers=HTMX)
    Job.objects.filter(pk=export.job_id).update(state=Job.State.DONE)
    written = text_of(client, address, headers=HTMX)

    assert "every 2s" in writing
    assert "every 2s" not in written
    assert "<html" not in written
    assert "<html" in text_of(client, address)


def test_the_list_takes_as_many_queries_for_many_exports(client: Client, round: ReviewRound) -> None:
    make_export(round)
    client.get(url("exports", round.project))
    one = queries_of(client, url("exports", round.project))
    for _ in range(4):
        make_export(round)
    assert queries_of(client, url("exports", round.project)) == one


# --- Files -----------------------------------------------------------------------------------------------------------


def written(round: ReviewRound, **fields: Any) -> Export:
    export = export_create(round=round, user=round.created_by, **fields)
    run_to_end(export.job_id)
    export.refresh_from_db()
    return export


@pytest.mark.parametrize(
    ("format", "content_type"),
    [
        ("csv", "text/csv; charset=utf-8"),
        ("jsonl", "application/x-ndjson; charset=utf-8"),
        ("parquet", "application/vnd.apache.parquet"),
    ],
)
def test_a_file_is_streamed_as_an_attachment_of_its_type(
    client: Client, round: ReviewRound, format: str, content_type: str
) -> None:
    export = written(round, format=format)

    page = text_of(client, url("exports", round.project))
    response = client.get(url("export_download", round.project, export.pk))

    assert url("export_download", round.project, export.pk) in page
    assert response.streaming
    assert response.headers["Content-Type"] == content_type
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{export.filename}"'
    assert int(response.headers["Content-Length"]) == export.size == len(response.getvalue())


def test_the_downloaded_rows_are_the_exports(client: Client, round: ReviewRound) -> None:
    export = written(round)

    response = client.get(url("export_download", round.project, export.pk))

    rows = list(csv.DictReader(io.StringIO(response.getvalue().decode())))
    assert [row["selected"] for row in rows].count("true") == 2
    assert len(rows) == export.rows == 4


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-", 10, None),
        ("bytes=10-19", 10, 19),
        ("bytes=5-999999", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=-999999", 0, None),
    ],
)
def test_a_download_goes_on_where_it_broke_off(
    client: Client, round: ReviewRound, wanted: str, first: int, last: int | None
) -> None:
    export = written(round)
    address = url("export_download", round.project, export.pk)
    whole = client.get(address)
    content = whole.getvalue()
    first = first if first >= 0 else len(content) + first
    last = len(content) - 1 if last is None else last

    part = client.get(address, headers={"Range": wanted, "If-Range": whole.headers["ETag"]})

    assert (whole.status_code, whole.headers["Accept-Ranges"]) == (200, "bytes")
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(content)}"
    assert int(part.headers["Content-Length"]) == last - first + 1
    assert part.headers["ETag"] == whole.headers["ETag"]
    assert part.headers["Content-Disposition"] == whole.headers["Content-Disposition"]
    assert b"".join(part.streaming_content) == content[first : last + 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("wanted", ["bytes=999999-", "bytes=-0"])
def test_a_range_outside_the_file_is_refused_with_its_size(
    client: Client, round: ReviewRound, wanted: str
) -> None:
    export = written(round)

    refused = client.get(url("export_download", round.project, export.pk), headers={"Range": wanted})

    assert (refused.status_code, refused.headers["Content-Range"]) == (416, f"bytes */{export.size}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=10-", "If-Range": '"of another file"'},
        {"Range": "bytes=10-", "If-Range": "Mon, 01 Jan 2001 00:00:00 GMT"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=9-3"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=-"},
    ],
)
def test_what_is_no_range_of_this_file_gets_all_of_it(
    client: Client, round: ReviewRound, headers: dict[str, str]
) -> None:
    export = written(round)

    response = client.get(url("export_download", round.project, export.pk), headers=headers)

    assert (response.status_code, len(response.getvalue())) == (200, export.size)


def test_by_its_date_a_download_goes_on_too_and_a_file_that_is_there_is_not_sent(
    client: Client, round: ReviewRound
) -> None:
    address = url("export_download", round.project, written(round).pk)
    whole = client.get(address)

    by_date = client.get(address, headers={"Range": "bytes=3-", "If-Range": whole.headers["Last-Modified"]})

    assert by_date.status_code == 206
    assert client.get(address, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert int(client.head(address).headers["Content-Length"]) == len(whole.getvalue())


def test_a_paused_export_can_be_gone_on_with_and_an_unfinished_one_cancelled(
    client: Client, round: ReviewRound
) -> None:
    export = make_export(round)
    Job.objects.filter(pk=export.job_id).update(state="paused", reason="The disk is full.")

    page = text_of(client, url("exports", round.project))
    assert url("export_resume", round.project, export.pk) in page
    assert client.post(url("export_resume", round.project, export.pk)).status_code == 302
    assert Job.objects.get(pk=export.job_id).state == "queued"
    assert client.post(url("export_cancel", round.project, export.pk)).status_code == 302
    assert Job.objects.get(pk=export.job_id).state == "cancelled"
    refused = client.post(url("export_resume", round.project, export.pk), follow=True)
    assert "This export is not paused." in refused.content.decode()


def test_what_is_not_written_yet_does_not_exist(client: Client, round: ReviewRound) -> None:
    export = make_export(round)

    assert client.get(url("export_download", round.project, export.pk)).status_code == 404
    assert url("export_download", round.project, export.pk) not in text_of(
        client, url("exports", round.project)
    )


def test_the_training_code_of_the_page_runs_on_a_long_export(
    client: Client, round: ReviewRound, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = Answer(action="label", label=label_named(round.project, "positive"))
    for task in tasks_claim(round=round, user=round.created_by, count=2):
        task_submit(task=task, user=round.created_by, answer=answer)
    export = written(round, layout="long")
    monkeypatch.chdir(tmp_path)
    Path(export.file.path).replace("export-long.csv")
    code = render_to_string("review/training_texts.txt")
    names: dict[str, Any] = {}

    assert "LogisticRegression" in text_of(client, url("exports", round.project))
    exec(code, names)

    assert sorted(names["model"].classes_) == ["negative", "positive"]


# --- Who and how -----------------------------------------------------------------------------------------------------


def test_exports_are_for_owners(client: Client, round: ReviewRound) -> None:
    export = make_export(round, state=Job.State.DONE)
    export.file.save("x.csv", ContentFile(b"a"))
    reviewer, stranger = make_user(), make_user()
    round.project.memberships.create(user=reviewer, role="reviewer")

    for person, status in ((stranger, 404), (reviewer, 403)):
        client.force_login(person)
        assert client.get(url("exports", round.project)).status_code == status
        assert client.post(url("exports", round.project), form_of(round)).status_code == status
        assert client.get(url("export_download", round.project, export.pk)).status_code == status
    assert round.exports.count() == 1


def test_an_export_is_found_in_its_own_project_only(client: Client, round: ReviewRound) -> None:
    export = make_export(round, state=Job.State.DONE)
    export.file.save("x.csv", ContentFile(b"a"))
    other = make_project(owner=round.created_by)

    assert client.get(url("export_download", other, export.pk)).status_code == 404


def test_wrong_verbs_are_refused(client: Client, round: ReviewRound) -> None:
    export = make_export(round)

    assert client.delete(url("exports", round.project)).status_code == 405
    assert client.post(url("export_download", round.project, export.pk)).status_code == 405
