import errno
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django.fixtures import Settings

from annotate.models import Project, Upload
from tests.api.caller import Caller, call, work
from tests.factories import make_project, png_bytes

pytestmark = pytest.mark.django_db

CSV = b"id,tweet,label\n1,so good,positive\n2,,negative\n3,<script>alert(1)</script>,unheard\n"


def send(project: Project, data: bytes, name: str = "tweets.csv", *, status: int = 201, **fields: Any) -> Any:
    body = {"file": SimpleUploadedFile(name, data), **fields}
    client = Caller(project.created_by)
    response = client.post(f"projects/{project.pk}/uploads/", body, format="multipart")
    assert response.status_code == status, response.content
    return response.json()


def start_import(project: Project, upload_id: int, body: dict[str, Any], *, status: int = 202) -> Any:
    return call(project.created_by, "post", f"uploads/{upload_id}/import/", body, status=status)


def test_an_upload_shows_its_first_rows_and_a_mapping() -> None:
    upload = send(make_project(), CSV)

    assert (upload["state"], upload["kind"], upload["progress"], upload["mapping"]) == (
        "received",
        "csv",
        None,
        None,
    )
    assert upload["preview"]["rows"][2]["values"]["tweet"] == "<script>alert(1)</script>"
    assert upload["preview"]["mapping"] == {
        "id": "id",
        "text": "tweet",
        "image": None,
        "question": None,
        "gold": "label",
        "no_answer": None,
        "start": None,
        "folder_as_gold": False,
        "no_header": False,
    }


def test_an_import_makes_items_and_lists_the_rows_that_it_rejects() -> None:
    project = make_project()
    upload = send(project, CSV)["id"]

    start_import(project, upload, {"mapping": {"id": "id", "text": "tweet", "gold": "label"}})
    work()
    done = call(project.created_by, "get", f"uploads/{upload}/")
    rejected = call(project.created_by, "get", f"uploads/{upload}/rejected-rows/")["results"]

    assert (done["state"], done["imported"], done["rejected"]) == ("done", 1, 2)
    assert done["mapping"]["text"] == "tweet"
    assert [row["row"] for row in rejected] == [2, 3]
    assert "unheard" in rejected[1]["message"]


def test_rejected_rows_come_as_a_file_with_their_own_columns() -> None:
    project = make_project()
    upload = send(project, CSV)["id"]
    start_import(project, upload, {"mapping": {"id": "id", "text": "tweet", "gold": "label"}})
    work()

    response = Caller(project.created_by).get(f"uploads/{upload}/rejected-rows/file/")

    lines = b"".join(response.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "row,message,id,tweet,label"
    assert lines[1] == "2,Row 2 has no text in column “tweet”.,2,,negative"
    assert lines[2].endswith(",3,<script>alert(1)</script>,unheard")


@pytest.mark.parametrize(
    "full_at",
    [
        "django.core.files.uploadhandler.TemporaryFileUploadHandler.receive_data_chunk",  # while it comes in
        "django.core.files.storage.FileSystemStorage._save",  # while it is put in its place
        "annotate.models.Upload.save",  # while it is written down
    ],
)
def test_a_full_disk_is_a_problem_and_leaves_nothing(
    full_at: str, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    project = make_project()

    def no_room(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(full_at, no_room)
        problem = send(project, CSV, status=507)
    assert problem["title"] == "Insufficient Storage"
    assert problem["detail"].startswith("The disk of the server is full")
    assert not Upload.objects.exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    send(project, CSV)


def test_the_same_rows_again_are_counted_and_not_made_twice() -> None:
    project = make_project()
    first, second = send(project, CSV), send(project, CSV)
    body = {"mapping": {"id": "id", "text": "tweet"}}
    start_import(project, first["id"], body)
    work()
    again = call(project.created_by, "get", f"uploads/{second['id']}/")
    start_import(project, second["id"], body | {"if_different": "replace"})
    work()
    done = call(project.created_by, "get", f"uploads/{second['id']}/")

    assert (first["same_file_as"], again["same_file_as"]) == (None, first["id"])
    assert (done["imported"], done["repeated"], done["differing"], done["replaced"], done["rejected"]) == (
        0,
        2,
        0,
        0,
        1,
    )
    assert project.items.count() == 2


def test_all_or_nothing_imports_nothing_where_a_row_is_bad() -> None:
    project = make_project()
    upload = send(project, CSV)["id"]

    start_import(project, upload, {"mapping": {"id": "id", "text": "tweet"}, "all_or_nothing": True})
    work()
    done = call(project.created_by, "get", f"uploads/{upload}/")

    assert (done["state"], done["imported"], done["rejected"], done["all_or_nothing"]) == (
        "failed",
        0,
        1,
        True,
    )
    assert "1 row of 3 would be rejected" in done["reason"]
    assert not project.items.exists()


def test_gold_values_become_labels_when_asked() -> None:
    project = make_project(labels=())
    upload = send(project, CSV)["id"]

    body = {"mapping": {"text": "tweet", "gold": "label"}, "add_labels": True}
    start_import(project, upload, body)
    work()

    assert list(project.labels.values_list("name", flat=True)) == ["positive", "unheard"]


def test_images_are_named_in_a_preview_and_not_sent() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("cats/one.png", png_bytes())
    project = make_project("image_classification", ("cats", "dogs"))

    preview = send(project, stream.getvalue(), "pets.zip")["preview"]

    assert preview["rows"][0]["values"]["file"] == "cats/one.png"
    assert preview["mapping"]["folder_as_gold"] is True


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.csv", b""),
        ("picture.png", png_bytes()),
        ("page.csv", b"<!doctype html><p>Not found"),
        ("broken.zip", b"PK\x03\x04 and nothing more"),
        ("broken.parquet", b"PAR1 and nothing more"),
    ],
)
def test_what_is_no_table_is_refused_and_not_kept(name: str, data: bytes) -> None:
    problem = send(make_project(), data, name, status=400)

    assert "file" in problem["errors"]
    assert not Upload.objects.exists()


def test_a_file_is_needed() -> None:
    project = make_project()

    response = Caller(project.created_by).post(f"projects/{project.pk}/uploads/", {}, format="multipart")

    assert response.status_code == 400
    assert "file" in response.json()["errors"]


def test_an_encoding_that_is_not_offered_is_refused() -> None:
    problem = send(make_project(), CSV, encoding="rot13", status=400)

    assert "encoding" in problem["errors"]


class Unread(io.RawIOBase):
    """A body that nobody may read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("The body was read.")


@pytest.mark.parametrize("user_of", ["session", "nobody"])
def test_a_body_that_announces_too_much_is_refused_unread(user_of: str, settings: Settings) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    project = make_project()
    client = Caller(project.created_by if user_of == "session" else None, enforce_csrf_checks=True)

    response = client.generic(
        "POST",
        f"projects/{project.pk}/uploads/",
        content_type="multipart/form-data; boundary=x",
        CONTENT_LENGTH="100000",
        **{"wsgi.input": Unread()},
    )

    assert response.status_code == 413
    assert response.json()["detail"].startswith("The request has 97.7 KiB; at most")


def test_a_file_above_the_limit_is_refused(settings: Settings) -> None:
    settings.MAX_UPLOAD_BYTES = 10

    problem = send(make_project(), CSV, status=400)

    assert "at most 10 bytes" in problem["detail"]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"text": "nothing"}, "“nothing”"),
        ({"id": "id"}, "needs a column for the text"),
        ({"text": "tweet", "gold": "tweet"}, "the model would see the answer"),
        ({"text": "tweet", "folder_as_gold": True}, "only in a zip"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(mapping: dict[str, Any], said: str) -> None:
    project = make_project()
    upload = send(project, CSV)["id"]

    problem = start_import(project, upload, {"mapping": mapping}, status=400)

    assert said in problem["detail"]
    assert Upload.objects.get().state == "received"


def test_a_mapping_has_only_the_parts_that_there_are() -> None:
    project = make_project()
    upload = send(project, CSV)["id"]

    problem = start_import(project, upload, {"mapping": {"text": "tweet", "label": "label"}}, status=400)

    assert "label" in problem["errors"]["mapping"]


def test_an_upload_is_imported_once_and_then_kept() -> None:
    project = make_project()
    upload = send(project, CSV)["id"]
    body = {"mapping": {"id": "id", "text": "tweet"}}
    start_import(project, upload, body)
    work()

    start_import(project, upload, body, status=400)
    call(project.created_by, "delete", f"uploads/{upload}/", status=400)

    assert project.items.count() == 2


def test_a_table_without_a_header_is_imported_whole() -> None:
    project = make_project(labels=("positive",))
    upload = send(project, b"so good,positive\nnot bad,positive\n")
    assert upload["preview"]["header_looks_like_a_row"] is True
    preview = call(project.created_by, "get", f"uploads/{upload['id']}/preview/?no_header=true")
    assert (preview["columns"], len(preview["rows"])) == (["column 1", "column 2"], 2)
    assert (preview["mapping"]["no_header"], preview["header_looks_like_a_row"]) == (True, False)

    mapping = {"text": "column 1", "gold": "column 2", "no_header": True}
    started = start_import(project, upload["id"], {"mapping": mapping})
    work()
    assert started["mapping"]["no_header"] is True
    assert list(project.items.order_by("pk").values_list("text", flat=True)) == ["so good", "not bad"]


def test_only_tables_can_be_without_a_header() -> None:
    project = make_project()
    upload = send(project, b'{"text": "so good"}\n', "tweets.jsonl")
    body = {"mapping": {"text": "text", "no_header": True}}
    problem = start_import(project, upload["id"], body, status=400)
    assert "Only a CSV or TSV file" in problem["detail"]
