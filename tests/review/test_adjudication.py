"""Items whose reviewers differ: the queue, what is shown of each, decisions, undo, and who may do what."""

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from annotate.models import Comment, Membership, User
from review.adjudicating import choices, conflicts, given_answers, next_conflict
from review.models import Correction, ReviewRound, ReviewTask
from review.services.queue import Answer, task_submit
from review.standing import standing_of
from tests.factories import label_named, make_items, make_membership, make_round, make_user
from tests.present import present
from tests.review.turns import items_of, make_adjudication, make_labeled_round, make_people, make_turn
from tests.written_answers import make_ratings, make_written_project, make_written_run

pytestmark = pytest.mark.django_db

State = ReviewTask.State


@pytest.fixture
def round() -> ReviewRound:
    return make_labeled_round(
        items=4, labels=("negative", "neutral", "positive"), overlap=3, overlap_share=1.0
    )


@pytest.fixture
def reviewers(round: ReviewRound) -> list[User]:
    return make_people(round.project, "ann", "bob", "cy")


@pytest.fixture
def owner(round: ReviewRound) -> Client:
    return signed_in(round.project.created_by)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_conflict(round: ReviewRound, place: int, *said: str) -> ReviewTask:
    """The item at this place answered by ann, bob and cy in turn, and its adjudication."""
    item = items_of(round)[place]
    people = [User.objects.get(username=name) for name in ("ann", "bob", "cy")]
    for person, label in zip(people, said, strict=False):
        make_turn(round, item, person, label)
    return make_adjudication(round, item)


def address(task: ReviewTask) -> str:
    return reverse("adjudicate", args=[task.round.project_id, task.pk])


def decision(task: ReviewTask, label: str = "", **more: Any) -> dict[str, Any]:
    sent = {"version": task.version, "key": str(uuid.uuid4()), "seconds": "4.2", **more}
    return sent | ({"label": label_named(task.round.project, label).pk} if label else {})


def text_of(page: Any) -> str:
    """The page's words, without markup and with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


# --- The queue -------------------------------------------------------------------------------------------------------


def test_conflicts_come_by_suspicion_and_leave_when_decided(round, reviewers):
    second = make_conflict(round, 1, "negative", "positive")
    first = make_conflict(round, 0, "neutral", "positive")

    assert list(conflicts(round.project)) == [first, second]
    assert next_conflict(round.project) == first
    assert next_conflict(round.project, after=first) == second
    assert next_conflict(round.project, after=second) == first  # what was passed over comes again

    ReviewTask.objects.filter(pk=first.pk).update(state=State.ANSWERED)

    assert list(conflicts(round.project)) == [second]
    assert next_conflict(round.project, after=second) is None


def test_answers_come_with_their_adjudications_in_one_query(round, reviewers, django_assert_num_queries):
    one = make_conflict(round, 0, "negative", "positive", "positive")
    other = make_conflict(round, 1, "neutral", "", "positive")

    with django_assert_num_queries(1):
        answers = given_answers([one, other])
        said = [(each.reviewer, each.is_skip, each.saw) for each in answers[other.pk]]

    assert [each.reviewer for each in answers[one.pk]] == ["ann", "bob", "cy"]
    assert said == [
        ("ann", False, "Label and criticism"),
        ("bob", True, "Label and criticism"),
        ("cy", False, "Label and criticism"),
    ]


def test_the_most_frequent_answer_is_suggested_and_else_the_first(round, reviewers):
    majority = make_conflict(round, 0, "negative", "positive", "positive")
    tie = make_conflict(round, 1, "positive", "negative", "")

    answers = given_answers([majority, tie])

    assert [(present(each.label).name, each.reviewers) for each in choices(answers[majority.pk])] == [
        ("positive", ["bob", "cy"]),
        ("negative", ["ann"]),
    ]
    assert [present(each.label).name for each in choices(answers[tie.pk])] == ["positive", "negative"]


# --- The list --------------------------------------------------------------------------------------------------------


def test_the_list_says_who_said_what(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive", "positive")

    page = owner.get(reverse("adjudication", args=[round.project_id]))

    words = text_of(page)
    assert "positive bob, cy" in words
    assert "negative ann" in words
    assert "Decide 1 item" in words
    assert address(task) in page.content.decode()


def test_the_list_asks_a_fixed_number_of_queries(round, reviewers, owner, django_assert_max_num_queries):
    for place in range(4):
        make_conflict(round, place, "negative", "positive")

    with django_assert_max_num_queries(25):
        page = owner.get(reverse("adjudication", args=[round.project_id]))

    assert page.content.decode().count("Decide<span") == 4


def test_empty_lists_say_what_to_do_next(round, reviewers, owner):
    url = reverse("adjudication", args=[round.project_id])

    assert "Nobody differs so far" in text_of(owner.get(url))

    ReviewRound.objects.update(overlap=1)
    assert "Draw a round with overlap" in text_of(owner.get(url))

    task = make_conflict(round, 0, "negative", "positive")
    owner.post(address(task), decision(task, "positive"))
    assert "Everything is decided" in text_of(owner.get(url))


def test_the_navigation_counts_what_waits(round, reviewers, owner):
    make_conflict(round, 0, "negative", "positive")

    page = owner.get(reverse("agreement", args=[round.project_id]))

    assert "Adjudication 1 waiting" in text_of(page)


def test_where_only_conflicts_are_left_deciding_comes_next(round, reviewers, owner):
    items = items_of(round)
    make_conflict(round, 0, "negative", "positive")
    for item in items[1:3]:
        make_turn(round, item, reviewers[0], "negative")
    assert "Review 2 items" in standing_of(round.project).next.title

    make_turn(round, items[3], reviewers[0], "negative")

    following = standing_of(round.project).next
    assert (following.title, following.button) == ("Decide 1 item", "Decide")
    assert following.url == reverse("adjudication", args=[round.project_id])
    assert "Decide 1 item" in text_of(owner.get(reverse("project", args=[round.project_id])))


# --- Deciding --------------------------------------------------------------------------------------------------------


def test_the_page_shows_everything_that_was_said(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive", "")
    Comment.objects.create(item=task.item, author=reviewers[0], text="It could be irony.")
    round.project.instructions = "Judge the feeling, not the words."
    round.project.save()

    words = text_of(owner.get(address(task)))

    assert task.item.text in words
    assert "negative ann" in words
    assert "positive bob" in words
    assert "skipped cy" in words
    assert "3 s. Saw: label and criticism" in words
    assert "It could be irony." in words
    assert "It reads like one." in words  # the machine's reasoning
    assert "It could be meant otherwise." in words  # the criticism
    assert "Judge the feeling" in words
    assert "Take negative the first answer" in words


def test_a_decision_is_kept_and_the_next_conflict_follows(round, reviewers, owner):
    first = make_conflict(round, 0, "negative", "positive", "positive")
    second = make_conflict(round, 1, "negative", "positive")

    answer = owner.post(address(first), decision(first, "neutral"))

    assert answer.url == address(second)
    first.refresh_from_db()
    assert (first.state, first.is_counted, present(present(first.correction).label).name) == (
        State.ANSWERED,
        True,
        "neutral",
    )
    assert (present(first.correction).author, present(first.correction).seconds) == (
        round.project.created_by,
        4.2,
    )
    assert not present(first.correction).late
    assert Correction.objects.count() == 6  # nobody's answer is gone
    assert owner.post(address(second), decision(second, "positive")).url == reverse(
        "adjudication", args=[round.project_id]
    )


def test_sent_twice_it_counts_once(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    sent = decision(task, "positive")

    owner.post(address(task), sent)
    owner.post(address(task), sent)

    assert task.corrections.count() == 1


def test_nobody_can_tell_is_a_decision(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")

    owner.post(address(task), decision(task, action="skip", reason="It is in two languages."))

    task.refresh_from_db()
    assert (task.state, present(task.correction).reason) == (State.SKIPPED, "It is in two languages.")
    assert "nobody can tell: It is in two languages." in text_of(owner.get(address(task)))


def test_of_two_managers_the_second_is_told_what_the_first_decided(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    mona = make_user("mona")
    make_membership(round.project, mona, Membership.Role.MANAGER)
    seen_before = decision(task, "negative")
    signed_in(mona).post(address(task), decision(task, "positive"))

    page = owner.post(address(task), seen_before, follow=True)

    assert "mona decided item" in text_of(page)
    assert "a moment ago: “positive”. Your decision was not kept." in text_of(page)
    task.refresh_from_db()
    assert present(present(task.correction).label).name == "positive"
    assert task.corrections.count() == 1


def test_what_was_undone_in_another_tab_is_not_overwritten(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    old = decision(task, "negative")
    owner.post(address(task), decision(task, "positive"))
    owner.post(reverse("adjudication_take_back", args=[round.project_id]))

    page = owner.post(address(task), old, follow=True)

    assert "Your decision was not kept" in text_of(page)
    task.refresh_from_db()
    assert task.state == State.WAITING


def test_the_last_decision_can_be_taken_back(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    owner.post(address(task), decision(task, "positive"))

    answer = owner.post(reverse("adjudication_take_back", args=[round.project_id]))

    assert answer.url == address(task)
    assert list(conflicts(round.project)) == [task]
    again = owner.post(reverse("adjudication_take_back", args=[round.project_id]), follow=True)
    assert "There is no decision of yours to undo." in text_of(again)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"label": "99999"}, "Choose one of the project&#x27;s labels."),
        ({}, "Choose one of the project&#x27;s labels."),
        ({"version": ""}, "The page is older than the item is now."),
        ({"key": "no"}, "The page is older than the item is now."),
        ({"action": "skip", "reason": "x" * 201}, "A reason has at most 200 characters."),
    ],
)
def test_a_bad_decision_is_refused_in_words(round, reviewers, owner, sent, sentence):
    task = make_conflict(round, 0, "negative", "positive")

    page = owner.post(address(task), decision(task) | sent)

    assert page.status_code == 422
    assert sentence in page.content.decode()
    assert list(conflicts(round.project)) == [task]


def test_without_a_clock_a_decision_still_counts(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")

    owner.post(address(task), decision(task, "positive", seconds=""))

    task.refresh_from_db()
    assert present(task.correction).seconds is None


def test_answers_that_agree_again_leave_nothing_to_decide(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    url = address(task)
    task.delete()

    page = owner.get(url, follow=True)

    assert "agree again" in text_of(page)


def test_who_answered_the_item_is_told_so(round, reviewers):
    task = make_conflict(round, 0, "negative", "positive")
    Membership.objects.filter(user=reviewers[0]).update(role=Membership.Role.MANAGER)

    assert "One of the answers is yours" in text_of(signed_in(reviewers[0]).get(address(task)))


def test_conflicts_of_closed_rounds_can_be_decided(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    ReviewRound.objects.update(state=ReviewRound.State.CLOSED)

    owner.post(address(task), decision(task, "positive"))

    task.refresh_from_db()
    assert task.state == State.ANSWERED


def test_long_label_sets_can_be_searched(owner, round):
    many = make_labeled_round(items=2, labels=tuple(f"class {number}" for number in range(40)))
    make_people(many.project, "ann", "bob", "cy")
    task = make_conflict(many, 0, "class 3", "class 39")

    page = signed_in(many.project.created_by).get(address(task)).content.decode()

    assert 'id="filter"' in page
    assert page.count('class="review-label"') == 40
    assert page.count("data-key=") == 9


def test_labels_that_are_digits_have_their_own_key(round):
    digits = make_labeled_round(items=2, labels=("0", "1", "2"))
    make_people(digits.project, "ann", "bob", "cy")
    task = make_conflict(digits, 0, "0", "2")

    page = signed_in(digits.project.created_by).get(address(task)).content.decode()

    assert re.search(r'data-name="2" data-key="2"', page)


def test_blind_rounds_stay_blind_for_who_decides(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    ReviewRound.objects.update(kind=ReviewRound.Kind.CALIBRATION)

    words = text_of(owner.get(address(task)))

    assert "It reads like one." not in words
    assert "what the machine said is not shown here either" in words


# --- Written answers -------------------------------------------------------------------------------------------------


@pytest.fixture
def written() -> ReviewTask:
    project = make_written_project()
    make_items(project, 2)
    run = make_written_run(project)
    round = make_round(make_ratings(run, [0.2, 0.4]), 2)
    make_people(project, "ann", "bob", "cy")
    return make_conflict(round, 0, "It is fine.", "It is a fine day.", "It is a fine day.")


def test_written_answers_can_be_taken_or_written_anew(written):
    client = signed_in(written.round.project.created_by)

    words = text_of(client.get(address(written)))
    client.post(address(written), decision(written, answer="It is\r\na day."))

    assert "Take bob, cy: “It is a fine day.”" in words
    written.refresh_from_db()
    assert written.correction.answer == "It is\na day."


def test_an_empty_written_answer_is_refused(written):
    page = signed_in(written.round.project.created_by).post(address(written), decision(written, answer=" "))

    assert page.status_code == 422
    assert "Write an answer, or skip the item." in page.content.decode()


# --- Who may ---------------------------------------------------------------------------------------------------------


def test_viewers_look_and_do_not_decide(round, reviewers):
    task = make_conflict(round, 0, "negative", "positive")
    vera = make_user("vera")
    make_membership(round.project, vera, Membership.Role.VIEWER)
    client = signed_in(vera)

    page = client.get(address(task))

    assert "An owner or a manager of the project decides." in text_of(page)
    assert "decide-form" not in page.content.decode()
    assert client.post(address(task), decision(task, "positive")).status_code == 403
    assert client.post(reverse("adjudication_take_back", args=[round.project_id])).status_code == 403


def test_reviewers_and_strangers_do_not_see_conflicts(round, reviewers):
    task = make_conflict(round, 0, "negative", "positive")

    for user, status in ((reviewers[0], 403), (make_user("sam"), 404)):
        client = signed_in(user)
        assert client.get(address(task)).status_code == status
        assert client.get(reverse("adjudication", args=[round.project_id])).status_code == status


def test_no_page_opens_another_projects_conflict(round, reviewers, owner):
    elsewhere = make_labeled_round(items=2)
    make_turn(elsewhere, items_of(elsewhere)[0], make_people(elsewhere.project, "di")[0], "positive")
    task = make_adjudication(elsewhere, items_of(elsewhere)[0])

    page = owner.get(reverse("adjudicate", args=[round.project_id, task.pk]))

    assert page.status_code == 302
    assert page.url == reverse("adjudication", args=[round.project_id])


# --- The API ---------------------------------------------------------------------------------------------------------


def test_the_api_lists_conflicts_with_their_answers_page_by_page(round, reviewers, owner):
    first = make_conflict(round, 0, "negative", "positive")
    second = make_conflict(round, 1, "neutral", "")
    url = reverse("api:adjudications", args=[round.project_id])

    page = owner.get(url, {"page_size": 1}).json()
    following = owner.get(page["next"]).json()

    assert [row["task"]["id"] for row in page["results"]] == [first.pk]
    assert [row["task"]["id"] for row in following["results"]] == [second.pk]
    assert following["next"] is None
    [row] = page["results"]
    assert row["round"] == round.pk
    assert row["task"]["machine"]["label"] == "negative"
    assert [(each["reviewer"], each["label"]["name"], each["arm"]) for each in row["answers"]] == [
        ("ann", "negative", "criticism"),
        ("bob", "positive", "criticism"),
    ]
    assert following["results"][0]["answers"][1]["action"] == "skip"


def test_a_decision_by_the_api_settles_the_item(round, reviewers, owner):
    task = make_conflict(round, 0, "negative", "positive")
    label = label_named(round.project, "neutral")

    answer = owner.post(
        reverse("api:review_task_submit", args=[task.pk]),
        {"action": "label", "label": label.pk, "version": task.version},
        content_type="application/json",
    )

    assert answer.status_code == 200
    assert not conflicts(round.project).exists()


def test_differing_answers_make_a_conflict_and_its_decision_counts(round, reviewers, owner):
    item = items_of(round)[0]
    ann, bob, _ = reviewers
    make_turn(round, item, ann, "negative")
    open_turn = ReviewTask.objects.create(
        round=round,
        item=item,
        annotation=item.annotations.get(),
        rank=0,
        copy=1,
        is_counted=False,
        state=State.LEASED,
        holder=bob,
    )
    task_submit(
        task=open_turn, user=bob, answer=Answer("label", label=label_named(round.project, "positive"))
    )

    [task] = conflicts(round.project)
    owner.post(address(task), decision(task, "positive"))

    counted = round.counted_tasks.get(item=item)
    assert (counted.purpose, counted.correction.label.name) == (ReviewTask.Purpose.ADJUDICATION, "positive")


def test_a_rounds_page_counts_items_in_conflict_apart_from_those_that_wait(round, reviewers, owner):
    make_conflict(round, 0, "negative", "positive", "neutral")
    address = reverse("review_round", args=[round.project_id, round.pk])

    page = owner.get(address, {"part": "progress"}).content.decode()

    words = " ".join(strip_tags(page).split())
    assert "In conflict: 1" in words
    assert "Waiting: 3" in words
    assert "wait for a decision" in words
