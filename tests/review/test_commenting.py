"""Who may read and write which comments: nothing that could sway somebody's answer."""

from typing import Any

import pytest
from django.test import Client

from annotate.errors import Refusal
from annotate.models import Comment, LabelExample, Membership, User
from annotate.services.comments import comment_add
from review.blindness import examples_to_hide
from review.commenting import comment_counts, comments_shown, may_comment, may_read_all, open_comments
from review.models import ReviewRound, ReviewTask
from review.services.examples import example_add
from review.services.queue import Answer, task_submit, tasks_claim
from tests.api.caller import call
from tests.factories import (
    label_named,
    make_calibration_round,
    make_item,
    make_membership,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def rita() -> User:
    return make_user("rita")


@pytest.fixture
def round(rita: User) -> ReviewRound:
    return make_reviewable_round(items=4, budget=2, reviewers=[rita])


def answered(task: ReviewTask, user: User) -> None:
    label = label_named(task.round.project, "positive")
    task_submit(task=task, user=user, answer=Answer(action="label", label=label))


def test_a_reviewer_reads_others_once_they_answered(round: ReviewRound, rita: User) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    others = comment_add(item=task.item, user=round.created_by, text="It is positive!")
    own = comment_add(item=task.item, user=rita, text="Irony?")

    assert list(comments_shown(rita, task.item)) == [own]
    answered(task, rita)
    assert list(comments_shown(rita, task.item)) == [others, own]
    assert list(comments_shown(round.created_by, task.item)) == [others, own]


def test_another_turn_that_may_be_theirs_hides_what_others_say(round: ReviewRound, rita: User) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    answered(task, rita)
    assert may_read_all(rita, task.item)
    blind = make_calibration_round(round.project, 4)
    waiting = blind.tasks.filter(item=task.item)
    if not waiting.exists():
        ReviewTask.objects.create(round=blind, item=task.item, rank=99, arm=ReviewTask.Arm.BLIND)

    assert not may_read_all(rita, task.item)
    waiting.update(assigned_to=round.created_by)
    assert may_read_all(rita, task.item)


def test_whoever_holds_or_answered_an_item_comments_on_it(round: ReviewRound, rita: User) -> None:
    held = tasks_claim(round=round, user=rita)[0]
    other = round.tasks.exclude(pk=held.pk).get()
    viewer, manager = make_user(), make_user()
    make_membership(round.project, viewer, Membership.Role.VIEWER)
    make_membership(round.project, manager, Membership.Role.MANAGER)

    assert (may_comment(rita, held.item), may_comment(rita, other.item)) == (True, False)
    assert (may_comment(manager, held.item), may_comment(viewer, held.item)) == (True, False)
    answered(held, rita)
    assert may_comment(rita, held.item)


def test_the_api_follows_the_rule(client: Client, round: ReviewRound, rita: User) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    other = round.tasks.exclude(pk=task.pk).get()
    theirs = comment_add(item=task.item, user=round.created_by, text="Positive!")
    client.force_login(rita)

    url = f"/api/v1/items/{task.item_id}/comments/"
    sent = client.post(url, {"text": "Irony?"}, content_type="application/json")
    assert sent.status_code == 201
    assert [row["text"] for row in client.get(url).json()["results"]] == ["Irony?"]
    refused = client.post(
        f"/api/v1/items/{other.item_id}/comments/", {"text": "Hm"}, content_type="application/json"
    )
    assert refused.status_code == 403
    assert refused.json()["detail"] == "You can comment on items that you are looking at or have answered."

    def resolved(comment_id: int) -> int:
        address = f"/api/v1/comments/{comment_id}/resolve/"
        return client.post(address, {"resolved": True}, content_type="application/json").status_code

    assert resolved(theirs.pk) == 404  # not to be read yet
    assert resolved(sent.json()["id"]) == 200
    answered(task, rita)
    assert resolved(theirs.pk) == 403
    assert list(open_comments(round.project)) == [theirs]


def test_open_comments_are_newest_first_and_of_the_project() -> None:
    project, other = make_project(), make_project(name="Other")
    item, owner = make_item(project), project.created_by
    first, second = (comment_add(item=item, user=owner, text=text) for text in ("one", "two"))
    comment_add(item=make_item(other), user=owner, text="elsewhere")
    assert list(open_comments(project)) == [second, first]


def test_the_page_of_open_comments_turns_and_resolves(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("review.views.comments.COMMENTS_A_PAGE", 1)
    project = make_project()
    item, owner = make_item(project), project.created_by
    first, second = (comment_add(item=item, user=owner, text=text) for text in ("<b>one", "two"))
    client.force_login(owner)
    url = f"/projects/{project.pk}/comments/"
    page = client.get(url).content.decode()
    assert "two" in page
    assert "&lt;b&gt;one" not in page
    assert f"?before={second.pk}" in page
    assert "&lt;b&gt;one" in client.get(url, {"before": second.pk}).content.decode()

    assert client.post(f"{url}{first.pk}/resolve/", {"back": "comments"}).headers["Location"] == url
    assert list(open_comments(project)) == [second]
    client.post(f"{url}{first.pk}/resolve/", {"resolved": "0"})
    client.post(f"{url}{second.pk}/resolve/")
    assert list(open_comments(project)) == [first]
    Comment.objects.all().delete()
    assert "No open comments" in client.get(url).content.decode()


def test_an_item_that_waits_blind_is_no_example(round: ReviewRound, rita: User) -> None:
    project, owner = round.project, round.created_by
    blind = make_calibration_round(project, 1)
    waiting = blind.tasks.get()
    label = label_named(project, "negative")
    with pytest.raises(Refusal, match="waits to be answered blind"):
        example_add(label=label, item=waiting.item, user=owner)

    # One that was an example before is hidden while it waits.
    LabelExample.objects.create(label=label, item=waiting.item, created_by=owner)
    free = project.items.exclude(review_tasks__round=blind).first()
    assert free is not None
    example_add(label=label, item=free, user=owner)
    assert examples_to_hide(project) == {waiting.item_id}

    answered(tasks_claim(round=blind, user=rita)[0], rita)
    assert examples_to_hide(project) == set()


def test_neither_the_api_nor_the_page_shows_an_example_that_waits_blind(
    client: Client, round: ReviewRound, rita: User
) -> None:
    project = round.project
    item = make_calibration_round(project, 1).tasks.get().item
    label = label_named(project, "negative")
    LabelExample.objects.create(label=label, item=item, note="given away", created_by=round.created_by)
    client.force_login(rita)
    for address in (
        f"/projects/{project.pk}/guidelines/",
        f"/api/v1/projects/{project.pk}/guidelines/",
        f"/api/v1/labels/{label.pk}/examples/",
    ):
        answer = client.get(address)
        assert answer.status_code == 200
        assert "given away" not in answer.content.decode()
    client.force_login(round.created_by)
    assert "1 example is not shown here" in client.get(f"/projects/{project.pk}/guidelines/").content.decode()


def test_a_task_tells_as_many_comments_as_its_reader_may_read(round: ReviewRound, rita: User) -> None:
    path = f"review-rounds/{round.pk}/next/"
    first, second = tasks_claim(round=round, user=rita, count=2)
    comment_add(item=first.item, user=round.created_by, text="It is positive!")
    comment_add(item=first.item, user=rita, text="Irony?")

    handed = call(rita, "post", path, {"count": 2})["tasks"]
    assert {task["id"]: task["comments"] for task in handed} == {first.pk: 1, second.pk: 0}
    assert call(round.created_by, "get", f"review-tasks/{first.pk}/")["comments"] == 2

    answered(first, rita)
    assert call(rita, "get", f"review-tasks/{first.pk}/")["comments"] == 2
    assert call(rita, "post", f"review-rounds/{round.pk}/undo/")["task"]["comments"] == 1


def test_counting_comments_takes_one_question_where_there_are_none(
    round: ReviewRound, rita: User, django_assert_num_queries: Any
) -> None:
    tasks = tasks_claim(round=round, user=rita, count=2)

    with django_assert_num_queries(1):
        assert comment_counts(rita, tasks).total() == 0
