"""Sending a file, matching its columns, watching the import, and the rejected rows."""

import csv
import errno
import io
import json
import zipfile
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, override_settings

from annotate.models import Project, RejectedRow, Upload
from annotate.services.uploads import upload_receive
from jobs.running import run_to_end
from tests.factories import make_items, make_project, make_user, png_bytes

pytestmark = pytest.mark.django_db

TABLE = b"id,text,topic\n1,hello there,spam\n2,<b>fine</b>,ham\n3,too,many,cells\n4,last one,odd\n"


def send(client: Client, project: Project, content: bytes, name: str = "mail.csv", **fields: str):
    file = SimpleUploadedFile(name, content)
    return client.post(f"/projects/{project.pk}/uploads/", {"file": file, **fields})


def received(project: Project, content: bytes = TABLE, name: str = "mail.csv") -> Upload:
    return upload_receive(project=project, user=project.created_by, file=SimpleUploadedFile(name, content))


def page_of(upload: Upload) -> str:
    return f"/projects/{upload.project_id}/uploads/{upload.pk}/"


@pytest.fixture
def project(client: Client) -> Project:
    """A text project whose owner is signed in."""
    project = make_project(labels=("spam", "ham"))
    client.force_login(project.created_by)
    return project


def imported(client: Client, upload: Upload, **mapping: str) -> Upload:
    client.post(page_of(upload), {"text": "text", "gold": "topic", "id": "id", **mapping})
    upload.refresh_from_db()
    assert upload.job is not None
    run_to_end(upload.job.pk)
    upload.refresh_from_db()
    return upload


def test_without_uploads_the_page_says_what_is_accepted(client: Client, project: Project) -> None:
    page = client.get(f"/projects/{project.pk}/uploads/").content.decode()
    assert "CSV, TSV, JSON, JSON Lines, Parquet, text with an item a line, or a zip of images" in page
    assert "2 GiB" in page


def test_a_file_leads_to_its_columns(client: Client, project: Project) -> None:
    sent = send(client, project, TABLE)
    upload = Upload.objects.get()
    assert sent.headers["Location"] == page_of(upload)
    page = client.get(page_of(upload)).content.decode()
    assert '<option value="text" selected>' in page
    assert '<option value="topic" selected>' in page
    assert "&lt;b&gt;fine&lt;/b&gt;" in page
    assert "<b>fine</b>" not in page


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        (b"", "mail.csv", "is empty"),
        (b"a picture?", "mail.exe", "is not of an accepted kind"),
        (png_bytes(), "one.png", "is a single image"),
        ("text\nGröße\n".encode("latin-1"), "mail.csv", "is not valid UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_its_field(
    client: Client, project: Project, content: bytes, name: str, sentence: str
) -> None:
    sent = send(client, project, content, name)
    page = sent.content.decode()
    assert sent.status_code == 422
    assert sentence in page
    assert "data-upload-encoding" in page
    assert not Upload.objects.exists()


def test_the_chosen_encoding_is_used(client: Client, project: Project) -> None:
    send(client, project, "text\nGröße\n".encode("latin-1"), encoding="latin-1")
    assert "Größe" in client.get(page_of(Upload.objects.get())).content.decode()


def test_no_file_is_a_sentence(client: Client, project: Project) -> None:
    sent = client.post(f"/projects/{project.pk}/uploads/", {})
    assert sent.status_code == 422
    assert "Choose a file to upload." in sent.content.decode()


@override_settings(MAX_UPLOAD_BYTES=1000)
def test_a_body_that_says_it_is_too_large_is_refused_unread(project: Project) -> None:
    class Unreadable(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("The body was read.")

    client = Client(enforce_csrf_checks=True)  # what checks the token must not read the body either
    client.force_login(project.created_by)
    request: dict[str, Any] = {
        "CONTENT_LENGTH": "500000",
        "CONTENT_TYPE": "multipart/form-data; boundary=x",
        "wsgi.input": Unreadable(),
    }
    sent = client.generic("POST", f"/projects/{project.pk}/uploads/", b"", **request)
    assert sent.status_code == 413
    assert "larger than 1000 bytes" in sent.content.decode()


@override_settings(MAX_UPLOAD_BYTES=50)
def test_a_file_just_above_the_limit_is_refused_too(client: Client, project: Project) -> None:
    sent = send(client, project, TABLE)
    assert sent.status_code == 422
    assert "at most 50 bytes are accepted" in sent.content.decode()


def test_an_upload_without_the_csrf_token_is_refused(project: Project) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(project.created_by)
    assert send(client, project, TABLE).status_code == 403
    assert not Upload.objects.exists()


def test_the_import_runs_and_lists_what_it_rejected(client: Client, project: Project) -> None:
    upload = imported(client, received(project))
    assert (upload.state, upload.imported, upload.rejected) == ("done", 2, 2)
    page = client.get(page_of(upload)).content.decode()
    assert "Line 4 has 4 cells" in page
    assert "The gold label “odd” is not one of the project" in page
    assert "hx-trigger" not in page


def test_a_file_without_a_header_loses_no_row(client: Client, project: Project) -> None:
    upload = received(project, b"so good,spam\nnot bad,spam\ntoo,many,cells\n")
    page = client.get(page_of(upload)).content.decode()
    assert "The first line is taken for the columns" in page
    without = client.get(f"{page_of(upload)}?header=no").content.decode()
    assert "the file has no header" in without
    assert 'name="no_header" value="True"' in without

    refused = client.post(page_of(upload), {"no_header": "True"})
    assert "needs a column for the text" in refused.content.decode()
    assert 'name="no_header" value="True"' in refused.content.decode()
    upload = imported(client, upload, no_header="True", text="column 1", gold="column 2", id="")
    assert list(project.items.order_by("pk").values_list("text", "gold__name")) == [
        ("so good", "spam"),
        ("not bad", "spam"),
    ]
    rejected = client.get(f"{page_of(upload)}rejected.csv")
    assert b"".join(rejected).decode().count("Line 3 has 3 cells") == 1


def test_a_first_line_too_long_for_names_is_a_row(client: Client, project: Project) -> None:
    upload = received(project, f"{'very ' * 50}good,spam\nnot bad,spam\n".encode())
    page = client.get(page_of(upload)).content.decode()
    assert "the file has no header" in page
    assert "very very" in page


def test_new_gold_values_become_labels_when_asked_for(client: Client, project: Project) -> None:
    imported(client, received(project), add_labels="on")
    assert list(project.labels.values_list("name", flat=True)) == ["spam", "ham", "odd"]


def test_making_labels_is_preset_only_while_there_are_none(client: Client, project: Project) -> None:
    with_labels = client.get(page_of(received(project))).content.decode()
    assert 'name="add_labels" id="id_add_labels" checked' not in " ".join(with_labels.split())
    bare = make_project(owner=project.created_by, labels=())
    page = client.get(page_of(received(bare))).content.decode()
    checkbox = page[page.index('name="add_labels"') :].partition(">")[0]
    assert "checked" in checkbox


def test_a_running_import_refreshes_itself(client: Client, project: Project) -> None:
    upload = received(project)
    client.post(page_of(upload), {"text": "text"})
    whole = client.get(page_of(upload)).content.decode()
    part = client.get(page_of(upload), headers={"HX-Request": "true"}).content.decode()
    assert f'hx-get="{page_of(upload)}" hx-trigger="every 2s"' in whole
    assert part.strip().startswith('<div class="stack" id="import"')
    assert "<html" not in part


def test_a_mapping_without_its_text_is_refused_and_kept(client: Client, project: Project) -> None:
    upload = received(project)
    sent = client.post(page_of(upload), {"text": "", "gold": "topic", "add_labels": "on"})
    page = sent.content.decode()
    assert sent.status_code == 422
    assert "Text classification needs a column for the text." in page
    assert '<option value="topic" selected>' in page
    upload.refresh_from_db()
    assert upload.state == Upload.State.RECEIVED


def test_text_and_gold_from_the_same_column_are_refused(client: Client, project: Project) -> None:
    sent = client.post(page_of(received(project)), {"text": "text", "gold": "text"})
    assert sent.status_code == 422
    assert "cannot be both the text and the gold label" in sent.content.decode()


def test_an_upload_is_imported_once(client: Client, project: Project) -> None:
    upload = imported(client, received(project))
    answer = client.post(page_of(upload), {"text": "text"}, follow=True)
    assert "already imported" in answer.content.decode()
    assert project.items.count() == 2


def test_folders_of_a_zip_can_be_gold(client: Client) -> None:
    project = make_project("image_classification", labels=())
    client.force_login(project.created_by)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("cat/1.png", png_bytes("red"))
        archive.writestr("dog/2.png", png_bytes("blue"))
    upload = received(project, stream.getvalue(), "pets.zip")
    page = client.get(page_of(upload)).content.decode()
    assert '<option value="folder" selected>folder (the image&#x27;s folder)' in page
    client.post(page_of(upload), {"image": "file", "gold": "folder", "id": "file", "add_labels": "on"})
    upload.refresh_from_db()
    assert upload.mapping["folder_as_gold"] is True
    assert upload.job is not None
    run_to_end(upload.job.pk)
    assert set(project.items.values_list("gold__name", flat=True)) == {"cat", "dog"}


def test_rejected_rows_come_in_pages_and_as_csv(client: Client, project: Project) -> None:
    upload = imported(client, received(project))
    RejectedRow.objects.bulk_create(
        RejectedRow(upload=upload, row=row, message=f"Bad, “{row}” <i>") for row in range(10, 140)
    )
    first = client.get(page_of(upload)).content.decode()
    assert "Bad, “107” &lt;i&gt;" in first
    assert "Bad, “108”" not in first
    assert "?after=107#rejected" in first
    assert "Bad, “108”" in client.get(page_of(upload), {"after": "107"}).content.decode()
    download = client.get(f"{page_of(upload)}rejected.csv")
    lines = b"".join(download.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert download.headers["Content-Disposition"].startswith("attachment")
    assert lines[0] == "row,message,id,text,topic"
    assert lines[1].startswith("3,")
    assert lines[-1] == '139,"Bad, “139” <i>",,,'
    assert len(lines) == 133


def test_rejected_rows_carry_their_own_columns(client: Client, project: Project) -> None:
    table = b"id,text,topic,row,message\n1,fine,spam,,\n2,=1+1,eggs,7,seven\n3,,spam,8,eight\n4,broken\n5,fine,ham,,\n"
    upload = imported(client, received(project, table))

    download = client.get(f"{page_of(upload)}rejected.csv")

    text = b"".join(download.streaming_content).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["rejected_row"] for row in rows] == ["2", "3", "4"]
    assert "“eggs” is not one of" in rows[0]["rejected_message"]
    assert (rows[0]["id"], rows[0]["text"], rows[0]["row"], rows[0]["message"]) == (
        "2",
        "'=1+1",
        "7",
        "seven",
    )
    assert (rows[1]["id"], rows[1]["message"]) == ("3", "eight")
    assert (rows[2]["id"], rows[2]["text"]) == ("", "")

    upload.file.delete(save=False)
    text = b"".join(client.get(f"{page_of(upload)}rejected.csv").streaming_content).decode()  # type: ignore[attr-defined]
    assert [row["id"] for row in csv.DictReader(io.StringIO(text))] == ["", "", ""]


def test_the_same_file_again_is_announced_and_reported(client: Client, project: Project) -> None:
    imported(client, received(project))
    again = received(project, name="again.csv")

    assert "The same file was imported on" in client.get(page_of(again)).content.decode()
    page = client.get(page_of(imported(client, again))).content.decode()

    assert again.project.items.count() == again.project.uploads.last().imported  # type: ignore[union-attr]
    assert "already there, 0 are new, 0 have the id of an item with other content." in page


def test_all_or_nothing_is_a_choice_of_the_form(client: Client, project: Project) -> None:
    upload = imported(client, received(project), all_or_nothing="on")

    assert (upload.state, upload.imported) == ("failed", 0)
    assert "Nothing of it was imported." in client.get(page_of(upload)).content.decode()
    refused = client.post(
        page_of(received(project)),
        {"text": "text", "id": "id", "all_or_nothing": "on", "if_different": "replace"},
    )
    assert refused.status_code == 422
    assert "choose one of the two" in refused.content.decode()


def test_no_room_for_the_file_is_a_sentence(client: Client, project: Project, monkeypatch: Any) -> None:
    def no_room(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("django.core.files.uploadhandler.TemporaryFileUploadHandler.receive_data_chunk", no_room)
        refused = send(client, project, TABLE)
    assert refused.status_code == 507
    assert "The disk of the server is full" in refused.content.decode()
    assert not Upload.objects.exists()

    assert send(client, project, TABLE).status_code == 302


def test_an_upload_without_items_can_be_thrown_away(client: Client, project: Project) -> None:
    upload = received(project)
    assert client.get(f"{page_of(upload)}delete/").status_code == 405
    client.post(f"{page_of(upload)}delete/")
    assert not Upload.objects.exists()


def test_an_upload_with_items_is_kept(client: Client, project: Project) -> None:
    upload = imported(client, received(project))
    answer = client.post(f"{page_of(upload)}delete/", follow=True)
    assert "Items came from this upload" in answer.content.decode()


@pytest.mark.parametrize("path", ["", "{upload}/", "{upload}/rejected.csv", "{upload}/delete/"])
def test_uploads_are_for_owners(client: Client, path: str) -> None:
    reviewer = make_user()
    project = make_project(reviewers=[reviewer])
    upload = received(project)
    url = f"/projects/{project.pk}/uploads/" + path.format(upload=upload.pk)
    verb = client.post if path.endswith("delete/") else client.get
    client.force_login(make_user())
    assert verb(url).status_code == 404
    client.force_login(reviewer)
    assert verb(url).status_code == 403
    assert Upload.objects.exists()


def test_an_upload_of_another_project_is_out_of_reach(client: Client, project: Project) -> None:
    other = received(make_project(name="Other"))
    assert client.get(f"/projects/{project.pk}/uploads/{other.pk}/").status_code == 404


def test_a_long_cell_is_cut_in_the_preview(client: Client, project: Project) -> None:
    upload = received(project, json.dumps([{"text": "x" * 5000}]).encode(), "mail.json")
    page = client.get(page_of(upload)).content.decode()
    assert "x" * 240 + "…" in page
    assert "x" * 241 not in page


def test_items_that_exist_are_counted_beside_new_ones(client: Client, project: Project) -> None:
    make_items(project, 3)
    upload = imported(client, received(project))
    assert (upload.imported, project.items.count()) == (2, 5)
