"""An item's page for each who may open it, and the link to it that lasts."""

import html
import re
from urllib.parse import urlsplit

import pytest
from django.test import Client

from annotate.models import Comment, Item, Membership, User
from annotate.services.comments import comment_add
from review.models import ReviewRound, ReviewTask
from review.provenance import deciding_round, how_final, permalink
from review.services.queue import Answer, task_submit, tasks_claim
from review.services.rounds import round_close
from tests.factories import (
    label_named,
    make_annotation_run,
    make_audit_round,
    make_calibration_label,
    make_calibration_round,
    make_item,
    make_membership,
    make_project,
    make_reviewable_round,
    make_user,
)

pytestmark = pytest.mark.django_db

IDS = [
    "plain",
    "a/b/c",
    "a b+c&d=e?f#g",
    "ü/日本語",
    "50%25",
    "/led",
    "a//b",
    "..",
    "a/../b",
    ".",
    "end/",
    'q"<b>',
]


@pytest.fixture
def rita() -> User:
    return make_user("rita")


@pytest.fixture
def round(rita: User) -> ReviewRound:
    return make_reviewable_round(items=4, budget=2, reviewers=[rita])


def answered(task: ReviewTask, user: User, label: str = "positive") -> None:
    answer = Answer(action="label", label=label_named(task.round.project, label), seconds=3.0)
    task_submit(task=task, user=user, answer=answer)


@pytest.mark.parametrize("external_id", IDS)
def test_a_link_by_an_items_own_id_survives_a_fresh_import(client: Client, external_id: str) -> None:
    project = make_project()
    item = make_item(project, external_id=external_id)
    client.force_login(project.created_by)
    link = permalink(item)
    path = urlsplit(link).path
    assert all(part.strip(".") for part in path.strip("/").split("/")), "browsers would shorten it"
    assert "//" not in path

    def led_to(address: str) -> str:
        answer = client.get(address)
        assert answer.status_code == 302, address
        return str(answer.headers["Location"])

    assert led_to(link) == f"/projects/{project.pk}/items/{item.pk}/"
    item.delete()
    again = make_item(project, external_id=external_id)
    with_round = link + ("&" if "?" in link else "?") + "round=7"
    assert led_to(with_round) == f"/projects/{project.pk}/items/{again.pk}/?round=7"
    found = client.get(f"/api/v1/projects/{project.pk}/items/by-external-id/", {"external_id": external_id})
    assert found.json()["id"] == again.pk


def test_a_link_to_what_is_gone_says_so(client: Client) -> None:
    project = make_project()
    client.force_login(project.created_by)
    for path in ("items/999/", "item/no%20such", "item/?external_id=no+such"):
        answer = client.get(f"/projects/{project.pk}/{path}")
        assert answer.status_code == 404
        assert "There is no such item" in answer.content.decode()
    assert "no such</span>" in answer.content.decode()
    missing = client.get(f"/api/v1/projects/{project.pk}/items/by-external-id/", {"external_id": "no"})
    assert missing.status_code == 404
    assert missing.json()["detail"] == "There is no item “no” in this project, or not any more."


def test_a_reviewer_opens_what_they_answered_and_nothing_else(
    client: Client, round: ReviewRound, rita: User
) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    other = round.tasks.exclude(pk=task.pk).get()
    comment_add(item=task.item, user=round.created_by, text="Look at the irony.")
    client.force_login(rita)
    url = f"/projects/{round.project_id}/items/"

    for refused in (f"{url}{task.item_id}/", f"{url}{other.item_id}/", f"{url}99999/", permalink(other.item)):
        answer = client.get(refused)
        assert answer.status_code == 403
        assert "once you have answered it" in answer.content.decode()

    answered(task, rita)
    page = client.get(f"{url}{task.item_id}/").content.decode()
    for shown in (task.item.text, "What you said", "Look at the irony.", "Guidelines", "Copy link"):
        assert shown in page
    for hidden in ("It reads like one.", "error probability", "What machines said", "Gold label", "Turns"):
        assert hidden not in page
    assert client.get(f"{url}{other.item_id}/").status_code == 403


def test_a_reviewer_does_not_see_who_else_answered_what(
    client: Client, round: ReviewRound, rita: User
) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    answered(task, rita)
    olga = make_user("olga-the-other")
    extra = ReviewTask.objects.create(
        round=round, item=task.item, annotation=task.annotation, rank=0, copy=1, is_counted=False
    )
    make_membership(round.project, olga)
    ReviewTask.objects.filter(pk=extra.pk).update(state=ReviewTask.State.LEASED, holder=olga)
    client.force_login(rita)
    page = client.get(f"/projects/{round.project_id}/items/{task.item_id}/").content.decode()
    assert "olga-the-other" not in page


def test_managers_alone_are_told_why_a_turn_was(client: Client, round: ReviewRound, rita: User) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    ReviewTask.objects.filter(pk=task.pk).update(purpose=ReviewTask.Purpose.GOLD, is_counted=False)
    task.refresh_from_db()
    answered(task, rita)
    viewer = make_user()
    make_membership(round.project, viewer, Membership.Role.VIEWER)
    url = f"/projects/{round.project_id}/items/{task.item_id}/"
    client.force_login(round.created_by)
    assert "known item" in client.get(url).content.decode()
    client.force_login(viewer)
    page = client.get(url).content.decode()
    assert "known item" not in page
    assert "Use as an example" not in page
    assert "Say something" not in page


def test_a_comment_from_the_page_is_kept_once_and_bad_input_loses_nothing(client: Client) -> None:
    project = make_project()
    item = make_item(project)
    client.force_login(project.created_by)
    url = f"/projects/{project.pk}/items/{item.pk}/"
    page = client.get(url)
    sent = {"text": "Why?", "key": page.context["comment_key"]}
    for _ in range(2):
        assert client.post(f"{url}comments/", sent).headers["Location"] == f"{url}#comments"
    assert Comment.objects.count() == 1

    refused = client.post(f"{url}comments/", {"text": "y" * 5_001})
    assert refused.status_code == 422
    assert "y" * 5_001 in refused.content.decode()
    assert "this one has 5,001" in refused.content.decode()


def test_a_reviewer_comments_on_what_they_hold_and_reads_it_later(
    client: Client, round: ReviewRound, rita: User
) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    client.force_login(rita)
    url = f"/projects/{round.project_id}/items/{task.item_id}/"
    assert client.post(f"{url}comments/", {"text": "Irony?"}).status_code == 302
    answered(task, rita)
    assert "Irony?" in client.get(url).content.decode()


class TestHowItBecameFinal:
    def sentence(self, item: Item) -> str:
        return how_final(item, deciding_round(item))

    def test_nothing_said_yet(self) -> None:
        assert self.sentence(make_item(make_project())) == "None: no round of review was drawn yet."

    def test_by_the_machine_alone(self) -> None:
        project = make_project()
        item = make_item(project)
        make_annotation_run(project)
        assert self.sentence(item) == "The machine's “negative”: no round of review was drawn yet."

    def test_calibration(self, rita: User) -> None:
        project = make_project()
        item, other = make_item(project), make_item(project)
        make_calibration_label(item, "positive", rita)
        make_calibration_label(other, "negative")
        blind = "rita gave it without seeing a machine's label"
        assert self.sentence(item) == f"“positive”: a calibration item; {blind}."
        assert self.sentence(other) == "“negative”: a calibration item; taken from the gold column."

    def test_by_review(self, round: ReviewRound, rita: User) -> None:
        first, second = tasks_claim(round=round, user=rita, count=2)
        name = f"review round {round.pk}"
        waits = f"The machine's “negative” for now: it waits to be answered in {name}."
        assert self.sentence(first.item) == waits
        answered(first, rita, "positive")
        replaced = "“positive”: given by rita in place of the machine's “negative”."
        assert self.sentence(first.item) == replaced
        answered(second, rita, "negative")
        assert self.sentence(second.item) == "“negative”: the machine's, accepted by rita."
        left_out = round.project.items.exclude(review_tasks__round=round).first()
        assert left_out is not None
        assert self.sentence(left_out) == f"The machine's “negative”: {name} did not select it for review."

    def test_skipped_and_closed(self, round: ReviewRound, rita: User) -> None:
        first, second = tasks_claim(round=round, user=rita, count=2)
        task_submit(task=first, user=rita, answer=Answer(action="skip", reason="unreadable"))
        assert self.sentence(first.item) == "The machine's “negative”: rita skipped it (unreadable)."
        round_close(round=round, user=round.created_by)
        closed = f"review round {round.pk} was closed before anybody answered it"
        assert self.sentence(second.item) == f"The machine's “negative”: {closed}."

    def test_by_adjudication(self, round: ReviewRound, rita: User) -> None:
        task = tasks_claim(round=round, user=rita)[0]
        answered(task, rita)
        ReviewTask.objects.filter(pk=task.pk).update(purpose=ReviewTask.Purpose.ADJUDICATION)
        assert self.sentence(task.item) == "“positive”: people answered differently, and rita adjudicated."

    def test_by_an_audit(self, round: ReviewRound, rita: User) -> None:
        audit = make_audit_round(round, 2)
        task = tasks_claim(round=audit, user=rita)[0]
        answered(task, rita)
        assert self.sentence(task.item) == f"“positive”: found by rita in audit round {audit.pk}."


def test_the_page_of_an_item_that_waits_blind_does_not_say_how_it_ends(client: Client) -> None:
    project = make_project()
    item = make_item(project)
    make_annotation_run(project)
    make_calibration_round(project, 1)
    client.force_login(project.created_by)
    page = client.get(f"/projects/{project.pk}/items/{item.pk}/").content.decode()
    assert "waits to be labeled blind" in page
    assert "The machine&#x27;s “" not in page


# --- The list that one came from -------------------------------------------------------------------------------------


def beside(page: str) -> tuple[str | None, str | None]:
    """The addresses of the items before and after, as the page links to them."""
    found = {rel: html.unescape(to) for rel, to in re.findall(r'rel="(prev|next)" href="([^"]+)"', page)}
    return found.get("prev"), found.get("next")


def test_before_and_after_follow_the_list_that_one_came_from(client: Client) -> None:
    project = make_project()
    items = [make_item(project, text=text) for text in ("good a", "bad", "good b", "good c")]
    client.force_login(project.created_by)
    address = f"/projects/{project.pk}/items/"
    listed = client.get(f"{address}?q=good").content.decode()
    assert f'href="{address}{items[2].pk}/?q=good"' in listed

    page = client.get(f"{address}{items[2].pk}/?q=good").content.decode()

    assert beside(page) == (f"{address}{items[0].pk}/?q=good", f"{address}{items[3].pk}/?q=good")
    assert f'href="{address}?q=good"' in page
    assert beside(client.get(f"{address}{items[3].pk}/?q=good").content.decode())[1] is None
    place = client.get(f"{address}{items[2].pk}/?q=good&part=place", headers={"HX-Request": "true"})
    assert place.content.decode().strip() == '<span id="item-place">2 of 3 that match</span>'


def test_an_item_that_left_the_list_has_its_neighbors_by_id(client: Client) -> None:
    project = make_project()
    items = [make_item(project, text=text) for text in ("good a", "bad", "good b")]
    client.force_login(project.created_by)
    address = f"/projects/{project.pk}/items/"

    page = client.get(f"{address}{items[1].pk}/?q=good&sort=nonsense").content.decode()

    assert beside(page) == (f"{address}{items[0].pk}/?q=good", f"{address}{items[2].pk}/?q=good")
    assert "not in the list that you came from any more" in page
    plain = client.get(f"{address}{items[1].pk}/").content.decode()
    assert beside(plain) == (f"{address}{items[0].pk}/", f"{address}{items[2].pk}/")
    assert '<span id="item-place">2 of 3</span>' in plain


def test_the_order_of_the_list_is_kept_and_few_are_counted_at_once(
    client: Client, round: ReviewRound
) -> None:
    project = round.project
    ranked = [task.item_id for task in round.tasks.order_by("rank").all()]
    query = "status=waiting&sort=error_high"
    client.force_login(round.created_by)
    address = f"/projects/{project.pk}/items/"

    page = client.get(f"{address}{ranked[0]}/?{query}").content.decode()

    assert beside(page) == (None, f"{address}{ranked[1]}/?{query}")
    assert "1 of 2 that match" in page
    sent = client.post(f"{address}{ranked[0]}/comments/?{query}", {"text": "Irony?"})
    assert sent["Location"] == f"{address}{ranked[0]}/?{query}#comments"


def test_reviewers_are_told_nothing_of_the_list(client: Client, round: ReviewRound, rita: User) -> None:
    task = tasks_claim(round=round, user=rita)[0]
    answered(task, rita)
    client.force_login(rita)
    address = f"/projects/{round.project_id}/items/{task.item_id}/"

    assert beside(client.get(address).content.decode()) == (None, None)
    asked = client.get(f"{address}?part=place", headers={"HX-Request": "true"})
    assert asked.status_code == 403
