"""The review screen's keys: what may be one, what clashes, and what is kept."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from annotate.errors import Refusal
from annotate.task_types import TASK_TYPES
from review.keys import COMMANDS, changed_keys, commands_of, label_keys
from tests.api.caller import Caller
from tests.factories import make_project, make_user


def names_of(task: str) -> set[str]:
    return {command.name for command in commands_of(TASK_TYPES[task])}


def test_the_usual_keys_do_not_clash() -> None:
    keys = [key for command in COMMANDS for key in command.keys]

    assert len(keys) == len(set(keys))


def test_a_project_has_the_commands_of_its_task() -> None:
    assert {"search", "skip"} <= names_of("text_classification")
    assert "zoom" not in names_of("text_classification")
    assert {"zoom", "rotate_left", "contrast"} <= names_of("image_classification")
    assert {"edit", "fact_next"} <= names_of("written_facts")
    assert "search" not in names_of("written_facts")
    assert {"span", "place", "no_answer", "undo"} <= names_of("extractive_qa")
    assert names_of("extractive_qa").isdisjoint({"search", "edit", "words"})
    assert "span" not in names_of("written_facts")


def test_only_what_differs_from_the_usual_is_kept() -> None:
    keys = changed_keys({}, {"skip": ["k", "k"], "undo": ["u"]})
    assert keys == {"skip": ["k"]}
    assert changed_keys(keys, {"note": ["Shift+N", "Alt+n"]}) == {"skip": ["k"], "note": ["Shift+N", "Alt+n"]}
    assert changed_keys(keys, {"skip": None}) == {}


def test_two_commands_may_swap_their_keys() -> None:
    assert changed_keys({}, {"skip": ["u"], "undo": ["s"]}) == {"skip": ["u"], "undo": ["s"]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fly": ["k"]}, "There is no command “fly”"),
        ({"skip": []}, "one to 3 keys"),
        ({"skip": ["3"]}, "“3” cannot be its key"),
        ({"skip": ["Enter"]}, "“Enter” cannot be its key"),
        ({"skip": ["a b"]}, "cannot be its key"),
        (
            {"skip": ["u"]},
            "“u” is the key of “Skip, with a reason if you like” and of “Undo your last answer",
        ),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        changed_keys({}, changes)


def test_what_an_older_version_kept_does_not_stand_in_the_way() -> None:
    assert changed_keys({"fly": ["k"]}, {"skip": ["k"]}) == {"skip": ["k"]}


@pytest.mark.django_db
def test_keys_are_each_persons_own() -> None:
    rita, bob = make_user("rita"), make_user("bob")

    changed = Caller(rita).patch("account/review-keys/", {"keys": {"skip": ["k"]}})

    assert changed.json() == {"keys": {"skip": ["k"]}}
    assert Caller(rita).get("account/review-keys/").json() == {"keys": {"skip": ["k"]}}
    assert Caller(bob).get("account/review-keys/").json() == {"keys": {}}
    refused = Caller(rita).patch("account/review-keys/", {"keys": {"note": ["k"]}})
    assert refused.status_code == 400
    assert "is the key of" in refused.json()["detail"]
    rita.refresh_from_db()
    assert rita.review_keys == {"skip": ["k"]}


def test_labels_have_the_keys_of_the_review_screen() -> None:
    assert label_keys(["cat", "dog"]) == ["1", "2"]
    assert label_keys(["3", "0"]) == ["3", "0"]
    assert label_keys([f"label {number}" for number in range(11)]) == [*"123456789", "", ""]
    assert label_keys([]) == []


@pytest.mark.django_db
def test_guidelines_show_the_key_that_gives_a_label(client: Client) -> None:
    project = make_project(labels=["circle", "square"])
    client.force_login(project.created_by)

    page = client.get(reverse("guidelines", args=[project.pk])).content.decode()

    words = " ".join(strip_tags(page).split())
    assert "1 circle" in words
    assert "2 square" in words
    assert "0 circle" not in words
