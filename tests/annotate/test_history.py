"""The history of a project: what is kept of changes, the page, its file and the API."""

from decimal import Decimal
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.history import ChangedValue, in_words, record
from annotate.models import Change, Project
from annotate.services.calibration import calibration_from_gold
from annotate.services.projects import label_add, label_delete, label_update, project_update
from annotate.services.runs import ModelChoice, annotation_run_create, run_act
from annotate.services.uploads import upload_cancel, upload_import, upload_preview, upload_receive
from review.services.exports import export_create
from tests.api.caller import call
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_items,
    make_membership,
    make_project,
    make_round,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project(owner=make_user("olga"))


def actions(project: Project) -> list[str]:
    return list(project.changes.order_by("pk").values_list("action", flat=True))


def content(response: object) -> str:
    return b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]


def test_labels_keep_who_added_changed_and_deleted_them(project: Project) -> None:
    olga = project.created_by
    assert actions(project) == []  # a project starts with its labels

    label = label_add(project=project, user=olga, name="mixed", description="Both at once.")
    label_update(label=label, user=olga, name="mixed", description="Both at once.")
    label_update(label=label, user=olga, name="both", description="Both at once.")
    label_delete(label=label, user=olga)

    assert actions(project) == ["label added", "label changed", "label deleted"]
    assert set(project.changes.values_list("actor__username", flat=True)) == {"olga"}
    changed = project.changes.get(action="label changed")
    assert in_words(changed) == [ChangedValue("name", "mixed", "both")]


def test_a_label_that_is_refused_leaves_no_trace(project: Project) -> None:
    make_items(project, 1, gold="positive")
    label = project.labels.get(name="positive")
    with pytest.raises(Exception, match="in use"):
        label_delete(label=label, user=project.created_by)

    assert actions(project) == []


def test_names_guidelines_and_prices_keep_the_old_and_the_new(project: Project) -> None:
    olga = project.created_by
    same: dict[str, Any] = {"name": project.name, "instructions": project.instructions}
    project_update(project=project, user=olga, **same)
    assert actions(project) == []

    project_update(project=project, user=olga, **same | {"name": "Posts"})
    project_update(project=project, user=olga, name="Posts", instructions="", review_price=Decimal("0.1000"))

    renamed, priced = project.changes.order_by("pk")
    assert (renamed.old, renamed.new) == ("Tweets", "Posts")
    assert (priced.action, priced.old, priced.new) == ("price of a review changed", "$0.08", "$0.1")


def test_uploads_runs_calibration_and_exports_are_kept(project: Project) -> None:
    olga = project.created_by
    file = SimpleUploadedFile("tweets.csv", b"id,text\n1,a\n2,b\n")
    upload = upload_receive(project=project, user=olga, file=file)
    upload = upload_import(upload=upload, user=olga, mapping=upload_preview(upload).mapping)
    upload_cancel(upload=upload, user=olga)
    make_items(project, 4, gold="positive")
    calibration_from_gold(project=project, user=olga, count=2)
    make_calibration_label(project.items.filter(calibration_label=None)[0], "negative")
    run = annotation_run_create(project=project, user=olga, choice=ModelChoice(kind="trained"))
    for action in ("pause", "resume", "cancel"):
        run_act(project=project, run=run, user=olga, action=action, retry=lambda: None)
        run.job.refresh_from_db()
    round = make_round(make_criticism_run(make_annotation_run(project)), budget=1)
    export_create(round=round, user=olga)

    assert [action for action in actions(project) if not action.startswith("round")] == [
        "import started",
        "import cancelled",
        "calibration from gold",
        "annotation run started",
        "annotation run paused",
        "annotation run resumed",
        "annotation run cancelled",
        "export made",
    ]


def test_words_name_each_value_that_changed_and_no_other() -> None:
    change = Change(
        old={"role": "viewer", "note": "x", "gone": 1, "open": True},
        new={"role": "owner", "note": "x", "spend_limit": None, "most_uses": 3, "open": False, "ids": [1, 2]},
    )

    assert in_words(change) == [
        ChangedValue("role", "viewer", "owner"),
        ChangedValue("gone", "1", None),
        ChangedValue("open", "yes", "no"),
        ChangedValue("most uses", None, "3"),
        ChangedValue("ids", None, "1, 2"),
    ]
    assert in_words(Change(old="a", new="b")) == [ChangedValue("", "a", "b")]
    assert in_words(Change(old=None, new=None)) == []


def test_the_page_goes_on_from_where_the_last_one_ended(project: Project, client: Client) -> None:
    for number in range(60):
        record(project, project.created_by, "round closed", subject=f"round <{number}>")
    client.force_login(make_membership(project, make_user(), "viewer").user)

    first = client.get(f"/projects/{project.pk}/history/").content.decode()
    before = project.changes.order_by("-pk")[49].pk
    second = client.get(f"/projects/{project.pk}/history/?before={before}").content.decode()

    assert "round &lt;59&gt;" in first
    assert "round &lt;10&gt;" in first
    assert "round &lt;9&gt;" not in first
    assert f"before={before}" in first
    assert "round &lt;9&gt;" in second
    assert "before=" not in second
    assert client.get(f"/projects/{project.pk}/history/?before=nonsense").status_code == 200


def test_the_page_and_the_file_are_filtered_by_person_and_action(project: Project, client: Client) -> None:
    mona = make_membership(project, make_user("mona"), "manager").user
    record(project, mona, "round closed", subject="=1+1", old={"state": "open"}, new={"state": "closed"})
    record(project, project.created_by, "label added", subject="mixed")
    record(project, None, "reviewer paused", subject="rita")
    record(make_project(), mona, "round closed", subject="another project's")
    client.force_login(mona)

    page = client.get(f"/projects/{project.pk}/history/?actor=mona").content.decode()
    lines = content(client.get(f"/projects/{project.pk}/history/changes.csv?actor=mona")).splitlines()
    everything = content(client.get(f"/projects/{project.pk}/history/changes.csv")).splitlines()

    assert "Round closed" in page
    assert '<td class="fit">Overread</td>' not in page
    assert lines[0] == "time,person,action,subject,old,new"
    assert (
        lines[1].split(",", 1)[1]
        == """mona,round closed,'=1+1,"{""state"": ""open""}","{""state"": ""closed""}\""""
    )
    assert len(lines) == 2
    assert len(everything) == 4
    nothing = client.get(f"/projects/{project.pk}/history/?action=no+such").content.decode()
    assert "Nothing like that" in nothing


def test_the_api_lists_changes_for_those_who_see_the_project(project: Project) -> None:
    record(project, project.created_by, "label added", subject="mixed", subject_id=7, new={"name": "mixed"})
    record(project, None, "reviewer paused", subject="rita")
    address = f"projects/{project.pk}/changes/"
    viewer = make_membership(project, make_user(), "viewer").user

    paused, added = call(viewer, "get", address)["results"]
    (only,) = call(viewer, "get", f"{address}?actor=olga")["results"]

    assert (paused["actor"], paused["action"]) == (None, "reviewer paused")
    assert added == only
    assert (added["subject_id"], added["old"], added["new"]) == (7, None, {"name": "mixed"})


@pytest.mark.parametrize("name", ["actor", "action"])
def test_a_filter_that_no_database_can_look_for_finds_nothing(client: Client, name: str) -> None:
    project = make_project()
    record(project, project.created_by, "round closed", subject="Round 1")
    assert project.created_by is not None
    client.force_login(project.created_by)

    assert client.get(f"/projects/{project.pk}/history/", {name: "a\0"}).status_code == 200
    assert content(client.get(f"/projects/{project.pk}/history/changes.csv", {name: "\0"})).count("\n") == 1
