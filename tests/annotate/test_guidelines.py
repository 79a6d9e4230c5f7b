"""Guidelines of labels and their examples: written, kept with what was before, shown to those who may know."""

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from annotate.errors import Refusal
from annotate.guidelines import guidelines_for_screen
from annotate.models import Change, Label, LabelExample, Membership, Project
from annotate.services.guidelines import (
    MOST_CHARACTERS,
    MOST_EXAMPLES,
    example_add,
    example_note,
    example_remove,
    guideline_set,
    instructions_set,
)
from annotate.services.projects import label_update, project_update
from tests.factories import (
    label_named,
    make_item,
    make_items,
    make_membership,
    make_project,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project(instructions="# Take care\n\nThe *writer's* feeling.")


@pytest.fixture
def label(project: Project) -> Label:
    return label_named(project, "negative")


def test_a_guideline_is_kept_with_what_was_before(label: Label) -> None:
    owner = label.project.created_by
    guideline_set(label=label, user=owner, text="First.")
    guideline_set(label=label, user=owner, text=" Second.\r\n\r\nMore. ")
    guideline_set(label=label, user=owner, text="Second.\n\nMore.")

    assert Label.objects.get(pk=label.pk).guideline == "Second.\n\nMore."
    changes = Change.objects.order_by("pk").values_list("action", "actor", "subject", "old", "new")
    assert list(changes) == [
        ("guideline changed", owner.pk, "negative", "", "First."),
        ("guideline changed", owner.pk, "negative", "First.", "Second.\n\nMore."),
    ]


def test_a_guideline_that_is_too_long_changes_nothing(label: Label) -> None:
    with pytest.raises(Refusal, match="at most 20,000 characters; these have 20,001"):
        guideline_set(label=label, user=label.project.created_by, text="a" * (MOST_CHARACTERS + 1))
    assert Label.objects.get(pk=label.pk).guideline == ""
    assert not Change.objects.exists()


def test_instructions_stay_as_they_were_written_since_models_read_them(project: Project) -> None:
    owner = project.created_by
    text = "  One\r\n\r\n two  "
    instructions_set(project=project, user=owner, text=text)
    assert Project.objects.get(pk=project.pk).instructions == text
    change = Change.objects.get()
    assert (change.action, change.old, change.new) == (
        "guidelines changed",
        "# Take care\n\nThe *writer's* feeling.",
        text,
    )


def test_settings_tell_the_history_what_changed(project: Project, label: Label) -> None:
    owner = project.created_by
    project_update(project=project, name="New", instructions="Be kind.", user=owner)
    label_update(label=label, name="bad", description="", guideline="Plainly.", user=owner)
    label_update(label=label, name="bad", description="", user=owner)

    actions = list(Change.objects.order_by("pk").values_list("action", flat=True))
    assert actions == ["guidelines changed", "project renamed", "guideline changed", "label changed"]
    assert Label.objects.get(pk=label.pk).guideline == "Plainly."


def test_examples_are_added_changed_and_removed(label: Label) -> None:
    owner = label.project.created_by
    item = make_item(label.project)
    example = example_add(label=label, item=item, user=owner, note="  so \n bad ")
    assert example.note == "so bad"
    example_note(example=example, user=owner, note="worse")
    example_note(example=example, user=owner, note="worse")
    example_remove(example=example, user=owner)

    assert not LabelExample.objects.exists()
    actions = list(Change.objects.order_by("pk").values_list("action", flat=True))
    assert actions == ["example added", "example changed", "example removed"]


def test_examples_that_cannot_be_are_refused(label: Label) -> None:
    owner = label.project.created_by
    item, *others = make_items(label.project, MOST_EXAMPLES + 1)
    with pytest.raises(Refusal, match="in this project"):
        example_add(label=label, item=make_item(make_project(name="Other")), user=owner)
    with pytest.raises(Refusal, match="at most 500 characters"):
        example_add(label=label, item=item, user=owner, note="a" * 501)
    example_add(label=label, item=item, user=owner)
    with pytest.raises(Refusal, match="is an example of “negative” already"):
        example_add(label=label, item=item, user=owner)
    for other in others[:-1]:
        example_add(label=label, item=other, user=owner)
    with pytest.raises(Refusal, match="has 12 examples"):
        example_add(label=label, item=others[-1], user=owner)
    assert label.examples.count() == MOST_EXAMPLES


def test_the_screen_is_told_everything_in_order(
    project: Project, label: Label, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    owner = project.created_by
    guideline_set(label=label, user=owner, text="# No\n\n<b>never</b>")
    first, second = make_item(project, text="x" * 700), make_item(project)
    for item in (second, first):
        example_add(label=label, item=item, user=owner, note="see")

    with django_assert_num_queries(2):
        negative, positive = guidelines_for_screen(project)

    assert negative["label_id"] == label.pk
    assert "<h4>No</h4>" in negative["html"]
    assert "&lt;b&gt;never" in negative["html"]
    assert [example["item_id"] for example in negative["examples"]] == [second.pk, first.pk]
    assert negative["examples"][1]["text"] == "x" * 599 + "…"
    assert negative["examples"][0]["image_url"] is None
    assert (positive["html"], positive["examples"]) == ("", [])
    assert [e["item_id"] for e in guidelines_for_screen(project, without={second.pk})[0]["examples"]] == [
        first.pk
    ]


def test_the_screen_is_given_images(client: Client) -> None:
    project = make_project("image_classification")
    item = make_item(project)
    example_add(label=label_named(project, "negative"), item=item, user=project.created_by)
    [example] = guidelines_for_screen(project)[0]["examples"]
    client.force_login(project.created_by)
    assert client.get(example["image_url"]).status_code == 200
    assert (example["image_width"], example["image_height"]) == (8, 6)


@pytest.mark.parametrize("role", Membership.Role.values)
def test_everybody_who_enters_reads_the_guidelines(client: Client, role: str, project: Project) -> None:
    person = make_user()
    make_membership(project, person, role)
    label = label_named(project, "negative")
    guideline_set(label=label, user=project.created_by, text="Plainly **bad**.")
    item = make_item(project, text="Awful!", external_id="awful-1")
    example_add(label=label, item=item, user=project.created_by, note="<i>no doubt</i>")
    client.force_login(person)
    page = client.get(f"/projects/{project.pk}/guidelines/").content.decode()
    for part in (
        "<h3>Take care</h3>",
        "<em>writer's</em>",
        'id="label-0"',
        "Plainly <strong>bad</strong>.",
        "Awful!",
        "&lt;i&gt;no doubt",
    ):
        assert part in page, part
    assert (f"/items/{item.pk}/" in page) == (role != "reviewer")
    assert ("/guideline/" in page) == (role in ("owner", "manager"))


def test_guidelines_of_a_project_without_any_say_what_to_do(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    assert "Write guidelines" in client.get(f"/projects/{project.pk}/guidelines/").content.decode()


def test_a_guideline_is_written_on_the_page_of_its_label(client: Client, label: Label) -> None:
    client.force_login(label.project.created_by)
    url = f"/projects/{label.project_id}/labels/{label.pk}/guideline/"
    assert client.post(url, {"guideline": "It is **bad**."}).status_code == 302
    assert "It is <strong>bad</strong>." in client.get(url).content.decode()

    refused = client.post(url, {"guideline": "b" * 20_001})
    assert refused.status_code == 422
    assert "these have 20,001" in refused.content.decode()
    assert "b" * 20_001 in refused.content.decode()  # what was typed is not lost


def test_the_preview_shows_what_is_typed_and_saves_nothing(client: Client, label: Label) -> None:
    client.force_login(label.project.created_by)
    url = f"/projects/{label.project_id}/guidelines/preview/"
    shown = client.post(url, {"guideline": "**now** <script>"}).content.decode()
    assert "<strong>now</strong> &lt;script&gt;" in shown
    assert "1 character too many" in client.post(url, {"instructions": "a" * 20_001}).content.decode()
    assert "as it will look" in client.post(url, {"guideline": ""}).content.decode()
    assert Label.objects.get(pk=label.pk).guideline == ""


def test_examples_are_added_by_id_and_by_external_id(client: Client, label: Label) -> None:
    project = label.project
    first, second = make_item(project, external_id="tweet 7/ü"), make_item(project)
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/examples/"
    client.post(url, {"label": label.pk, "item": "tweet 7/ü", "note": "why"})
    answer = client.post(url, {"label": label.pk, "item": str(second.pk), "back": "item"})
    assert answer.headers["Location"] == f"/projects/{project.pk}/items/{second.pk}/#examples"
    assert list(label.examples.values_list("item", "note")) == [(first.pk, "why"), (second.pk, "")]

    refused = client.post(url, {"label": label.pk, "item": "none such"})
    assert refused.status_code == 422
    assert "There is no item “none such”" in refused.content.decode()

    example = label.examples.get(item=first)
    client.post(f"{url}{example.pk}/", {"note": "because"})
    assert label.examples.get(item=first).note == "because"
    client.post(f"{url}{example.pk}/", {"remove": "1"})
    assert not label.examples.filter(item=first).exists()
