"""Projects whose answers are written: made, filled and annotated without any label, through pages and the API."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotate.errors import Refusal
from annotate.models import Project
from annotate.services.calibration import calibration_from_gold
from annotate.services.projects import label_add, project_create
from annotate.services.uploads import upload_import, upload_preview, upload_receive
from annotate.task_types import TASK_TYPES, WRITTEN_TASKS
from annotate.uploads.mapping import ColumnMapping
from jobs.running import run_to_end
from review.services.rounds import calibration_round_create
from tests.api.caller import call
from tests.factories import make_connection, make_items, make_user
from tests.written_answers import make_written_project

pytestmark = pytest.mark.django_db

CSV = b"id,document,label\n1,It rained all day.,weather\n2,It was dry.,weather\n"


def client_of(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("task_type", WRITTEN_TASKS)
def test_the_new_project_page_offers_the_task_and_asks_for_no_labels(task_type):
    user = make_user()
    client = client_of(user)

    page = client.get(reverse("project_new")).content.decode()
    assert TASK_TYPES[task_type].label in page
    shown_when = page.split('data-show-when="task_type=')[1].split('"')[0].split(" ")
    assert task_type not in shown_when
    assert "text_classification" in shown_when
    assert "" in shown_when  # nothing is chosen yet

    form = {"name": "Summaries", "task_type": task_type, "instructions": "Sum up.", "labels": "left\nover"}
    client.post(reverse("project_new"), form)
    project = Project.objects.get()
    assert (project.task_type, project.labels.count()) == (task_type, 0)


def test_labels_are_refused_where_somebody_names_them_on_purpose():
    user = make_user()
    body = {"name": "Summaries", "task_type": "rated_answer", "labels": ["good"]}

    problem = call(user, "post", "projects/", body, status=400)
    assert "Written answers have no label set" in str(problem)
    assert not Project.objects.exists()
    made = call(user, "post", "projects/", body | {"labels": []}, status=201)
    assert made["labels"] == []
    with pytest.raises(Refusal, match="takes no labels"):
        label_add(project=Project.objects.get(), name="good")


def test_blank_labels_are_none():
    project = project_create(user=make_user(), name="A", task_type="rated_answer", labels=["", " "])

    assert not project.labels.exists()


def test_settings_and_tabs_leave_out_what_needs_labels():
    project = make_written_project()
    page = client_of(project.created_by).get(reverse("project_settings", args=[project.pk])).content.decode()

    assert 'id="labels"' not in page
    assert reverse("calibration", args=[project.pk]) not in page
    assert reverse("annotation_runs", args=[project.pk]) in page


class TestUploads:
    def receive(self, project):
        file = SimpleUploadedFile("documents.csv", CSV)
        return upload_receive(project=project, user=project.created_by, file=file)

    def test_no_column_is_suggested_for_gold_and_a_gold_column_is_kept_with_the_item(self):
        project = make_written_project()
        upload = self.receive(project)
        mapping = upload_preview(upload).mapping
        assert (mapping.id, mapping.text, mapping.gold) == ("id", "document", None)

        upload = upload_import(upload=upload, mapping=mapping)
        assert upload.job_id is not None
        run_to_end(upload.job_id)
        first = project.items.earliest("pk")
        assert (first.text, first.gold, first.columns) == ("It rained all day.", None, {"label": "weather"})
        assert not project.labels.exists()

    def test_a_gold_column_is_refused(self):
        project = make_written_project()
        with pytest.raises(Refusal, match="no label set, so no column can hold gold labels"):
            upload_import(
                upload=self.receive(project), mapping=ColumnMapping(id="id", text="document", gold="label")
            )

    def test_the_page_offers_no_gold_column(self):
        project = make_written_project()
        upload = self.receive(project)
        client = client_of(project.created_by)
        address = reverse("upload", args=[project.pk, upload.pk])

        page = client.get(address).content.decode()
        assert 'name="text"' in page
        assert 'name="gold"' not in page
        assert 'name="add_labels"' not in page
        assert client.post(address, {"id": "id", "text": "document"}).status_code == 302
        upload.refresh_from_db()
        assert upload.state == upload.State.IMPORTING


def test_the_annotation_page_offers_a_run_without_labels():
    project = make_written_project()
    make_items(project, 2)
    make_connection(project.created_by)
    client = client_of(project.created_by)

    page = client.get(reverse("annotation_runs", args=[project.pk])).content.decode()
    assert "at least two labels" not in page
    assert "2 items to write about" in page


@pytest.mark.parametrize("task_type", WRITTEN_TASKS)
def test_the_api_starts_a_run_and_refuses_the_trained_annotator(task_type):
    project = make_written_project(task_type)
    make_items(project, 2)
    connection = make_connection(project.created_by)
    runs = f"projects/{project.pk}/annotation-runs/"

    problem = call(project.created_by, "post", runs, {"kind": "trained"}, status=400)
    assert "Written answers have no label set" in str(problem)
    body = {"kind": "prompted", "connection": connection.pk, "model": "small", "strategy": "naive"}
    run = call(project.created_by, "post", runs, body, status=201)
    assert run["prompt_version"] == "write-naive-1"


def test_calibration_is_refused_with_a_sentence():
    project = make_written_project()
    make_items(project, 2)

    for refused in (
        lambda: calibration_from_gold(project=project, count=1),
        lambda: calibration_round_create(project=project, user=project.created_by, count=1),
    ):
        with pytest.raises(
            Refusal, match="Written answers have no label set, so there is nothing to calibrate"
        ):
            refused()
