"""Naming people for a round's waiting items, and what they hand back."""

from collections import Counter

import pytest
from django.test import Client
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import Change, Membership, Project, User
from review.models import ReviewRound, ReviewTask
from review.own_work import kept_for
from review.services.assignment import (
    Anybody,
    ByLabel,
    ByShares,
    BySlice,
    assign,
    assignment_preview,
    tasks_hand_back,
)
from review.services.queue import LEASE, Answer, task_submit, tasks_claim
from review.services.rounds import round_close
from tests.api.caller import call
from tests.factories import (
    label_named,
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_membership,
    make_project,
    make_reviewable_round,
    make_round,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    return make_user("ann")


@pytest.fixture
def bob() -> User:
    return make_user("bob")


@pytest.fixture
def round(ann: User, bob: User) -> ReviewRound:
    """Twelve waiting items, and two reviewers."""
    return make_reviewable_round(12, 12, reviewers=[ann, bob])


def assigned(round: ReviewRound) -> list[str]:
    """Who answers each task, most suspicious first; "" for anybody."""
    names = round.tasks.order_by("rank", "copy").values_list("assigned_to__username", flat=True)
    return [name or "" for name in names]


def add_copies(round: ReviewRound, copies: int = 1) -> None:
    """Further readings of every item."""
    for task in list(round.tasks.all()):
        for copy in range(1, copies + 1):
            ReviewTask.objects.create(
                round=round,
                item=task.item,
                annotation=task.annotation,
                criticism=task.criticism,
                rank=task.rank,
                copy=copy,
                is_counted=False,
            )


def answer_next(round: ReviewRound, user: User) -> ReviewTask:
    [task] = tasks_claim(round=round, user=user)
    task_submit(
        task=task, user=user, answer=Answer(action="label", label=label_named(round.project, "positive"))
    )
    return task


# --- By shares -------------------------------------------------------------------------------------------------------


def test_shares_are_dealt_in_turn_so_that_each_has_the_same_mix_of_suspicion(
    round: ReviewRound, ann: User, bob: User
) -> None:
    dealt = assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 0.5, bob.pk: 0.25}))

    assert dealt.counts == [("ann", 6), ("bob", 3)]
    assert dealt.open == 3
    for start in (0, 4, 8):
        assert Counter(assigned(round)[start : start + 4]) == {"ann": 2, "bob": 1, "": 1}


def test_the_preview_is_what_is_done_and_does_nothing(round: ReviewRound, ann: User, bob: User) -> None:
    thirds = ByShares({ann.pk: 1 / 3, bob.pk: 2 / 3})

    preview = assignment_preview(round=round, assignment=thirds)

    assert set(assigned(round)) == {""}
    assert assign(round=round, user=round.created_by, assignment=thirds) == preview
    assert (preview.waiting, preview.counts, preview.open) == (12, [("bob", 8), ("ann", 4)], 0)


def test_three_thirds_leave_nothing_open(round: ReviewRound, ann: User, bob: User) -> None:
    owner = round.created_by
    third = 1 / 3

    dealt = assign(
        round=round, user=owner, assignment=ByShares({ann.pk: third, bob.pk: third, owner.pk: third})
    )

    assert [count for _, count in dealt.counts] == [4, 4, 4]


def test_copies_of_an_item_go_to_different_people(round: ReviewRound, ann: User, bob: User) -> None:
    add_copies(round, 2)

    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 0.5, bob.pk: 0.5}))

    for item_id in set(round.tasks.values_list("item", flat=True)):
        people = round.tasks.filter(item=item_id).values_list("assigned_to__username", flat=True)
        assert Counter(people) == {"ann": 1, "bob": 1, None: 1}


def test_nobody_is_named_for_another_turn_of_what_they_answered(
    round: ReviewRound, ann: User, bob: User
) -> None:
    task = answer_next(round, ann)
    add_copies(round)

    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))

    further = round.tasks.get(item=task.item, copy=1)
    assert further.assigned_to is None
    assert round.tasks.filter(assigned_to=ann).count() == 11


# --- By label and slice ----------------------------------------------------------------------------------------------


@pytest.fixture
def project(ann: User, bob: User) -> Project:
    return make_project(reviewers=[ann, bob])


def test_by_the_machines_label_and_the_rest_for_anybody(project: Project, ann: User, bob: User) -> None:
    items = make_items(project, 6)
    labels = dict(zip(items, ["negative", "negative", "positive", "positive", "positive", ""], strict=True))
    round = make_round(make_criticism_run(make_annotation_run(project, labels)), 6)
    negative = label_named(project, "negative")

    assign(round=round, user=round.created_by, assignment=ByLabel({negative.pk: [ann.pk, bob.pk]}))

    people = round.tasks.values_list("annotation__label__name", "assigned_to__username")
    assert Counter(people) == {
        ("negative", "ann"): 1,
        ("negative", "bob"): 1,
        ("positive", None): 3,
        (None, None): 1,
    }


def test_by_the_value_of_a_column(project: Project, ann: User, bob: User) -> None:
    for language in ("nl", "nl", 7, None):
        make_items(project, 1, columns={} if language is None else {"language": language})
    round = make_round(make_criticism_run(make_annotation_run(project)), 4)

    assign(
        round=round, user=round.created_by, assignment=BySlice("language", {"nl": [ann.pk], "7": [bob.pk]})
    )

    people = round.tasks.values_list("item__columns__language", "assigned_to__username")
    assert Counter(people) == {("nl", "ann"): 2, (7, "bob"): 1, (None, None): 1}


# --- Changing it -----------------------------------------------------------------------------------------------------


def test_it_can_be_changed_and_what_is_looked_at_or_answered_stays(
    round: ReviewRound, ann: User, bob: User
) -> None:
    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))
    answered = answer_next(round, ann)
    [held] = tasks_claim(round=round, user=ann)

    dealt = assign(round=round, user=round.created_by, assignment=ByShares({bob.pk: 1.0}))

    assert dealt.counts == [("bob", 10)]
    stayed = round.tasks.filter(assigned_to=ann)
    assert set(stayed) == {answered, held}
    assert stayed.get(pk=held.pk).holder == ann

    assign(round=round, user=round.created_by, assignment=Anybody())

    assert not round.tasks.filter(assigned_to=bob).exists()


def test_each_change_is_kept(round: ReviewRound, ann: User) -> None:
    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 0.5}))

    change = Change.objects.get(action="round assigned")
    assert change.actor == round.created_by
    assert change.old == {"anybody": 12}
    assert change.new == {"how": "shares", "ann": 6, "anybody": 6}


def test_adjudications_and_known_items_are_not_dealt(round: ReviewRound, ann: User, bob: User) -> None:
    gold = round.tasks.latest("rank")
    ReviewTask.objects.filter(pk=gold.pk).update(
        purpose=ReviewTask.Purpose.GOLD, is_counted=False, assigned_to=bob
    )
    adjudication = round.tasks.earliest("rank")
    ReviewTask.objects.filter(pk=adjudication.pk).update(purpose=ReviewTask.Purpose.ADJUDICATION)

    dealt = assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))

    assert dealt.waiting == 10
    gold.refresh_from_db()
    adjudication.refresh_from_db()
    assert (gold.assigned_to, adjudication.assigned_to) == (bob, None)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_lies_above_0_and_is_1_at_most(round: ReviewRound, ann: User, share: float) -> None:
    with pytest.raises(Refusal, match="above 0% and at most 100%"):
        assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: share}))


def test_shares_are_the_whole_at_most(round: ReviewRound, ann: User, bob: User) -> None:
    with pytest.raises(Refusal, match="The shares add up to 120%"):
        assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 0.6, bob.pk: 0.6}))


@pytest.mark.parametrize("assignment", [ByShares({}), ByLabel({}), BySlice("language", {"nl": []})])
def test_somebody_must_be_named(round: ReviewRound, assignment: ByShares | ByLabel | BySlice) -> None:
    with pytest.raises(Refusal, match="Name at least one person"):
        assign(round=round, user=round.created_by, assignment=assignment)


def test_only_members_who_review_are_named(round: ReviewRound) -> None:
    viewer = make_user()
    make_membership(round.project, viewer, Membership.Role.VIEWER)

    for person in (viewer, make_user()):
        with pytest.raises(Refusal, match="members of the project who review"):
            assign(round=round, user=round.created_by, assignment=ByShares({person.pk: 0.5}))


def test_labels_are_the_projects(round: ReviewRound, ann: User) -> None:
    foreign = label_named(make_project(), "negative")

    with pytest.raises(Refusal, match="has no label"):
        assign(round=round, user=round.created_by, assignment=ByLabel({foreign.pk: [ann.pk]}))


def test_nothing_of_a_closed_round_is_assigned(round: ReviewRound, ann: User) -> None:
    round_close(round=round, user=round.created_by)

    with pytest.raises(Refusal, match="The round is closed"):
        assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))


# --- Handing back ----------------------------------------------------------------------------------------------------


def test_what_somebody_hands_back_is_open_to_all(round: ReviewRound, ann: User) -> None:
    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))
    answered = answer_next(round, ann)
    tasks_claim(round=round, user=ann, count=2)

    handed_back = tasks_hand_back(project=round.project, user=ann, by=ann)

    assert handed_back == 11
    assert list(round.tasks.filter(assigned_to=ann)) == [answered]
    assert list(round.tasks.filter(holder=ann)) == [answered]
    assert round.tasks.filter(state=ReviewTask.State.WAITING, holder=None).count() == 11
    assert Change.objects.get(action="items handed back").new == {"items": 11}
    assert tasks_hand_back(project=round.project, user=ann, by=ann) == 0


def test_one_round_is_handed_back_by_itself(round: ReviewRound, ann: User) -> None:
    other = make_round(round.criticism_run, 3)  # type: ignore[arg-type]
    for each in (round, other):
        assign(round=each, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))

    assert tasks_hand_back(project=round.project, user=ann, by=ann, round=other) == 3
    assert round.tasks.filter(assigned_to=ann).count() == 12


def test_a_reviewer_hands_back_on_their_overview(client: Client, round: ReviewRound, ann: User) -> None:
    other = make_round(round.criticism_run, 3)  # type: ignore[arg-type]
    page = f"/projects/{round.project_id}/"
    client.force_login(ann)
    assert "Kept for you" not in client.get(page).content.decode()
    for each in (round, other):
        assign(round=each, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))
    assert kept_for(round.project, ann) == [(other, 3), (round, 12)]
    assert "Hand back 3 items of Review round" in client.get(page).content.decode()

    answer = client.post(f"{page}hand-back/", {"round": other.pk}, follow=True)

    assert "3 items are open to all again." in answer.content.decode()
    assert kept_for(round.project, ann) == [(round, 12)]
    assert Change.objects.latest("pk").actor == ann
    assert client.post(f"{page}hand-back/", {"round": "999"}).status_code == 404
    client.post(f"{page}hand-back/")
    assert kept_for(round.project, ann) == []
    again = client.post(f"{page}hand-back/", follow=True)
    assert "There was nothing to hand back." in again.content.decode()


def test_the_api_hands_back_one_round_or_all(round: ReviewRound, ann: User) -> None:
    other = make_round(round.criticism_run, 3)  # type: ignore[arg-type]
    for each in (round, other):
        assign(round=each, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))
    path = f"projects/{round.project_id}/hand-back/"

    assert call(ann, "post", path, {"round": other.pk}) == {"handed_back": 3}
    assert "round" in call(ann, "post", path, {"round": 999}, status=400)["errors"]
    assert call(ann, "post", path) == {"handed_back": 12}


def test_known_items_that_wait_are_not_told_from_the_rest(round: ReviewRound, ann: User) -> None:
    gold = {"purpose": ReviewTask.Purpose.GOLD, "is_counted": False, "assigned_to": ann}
    round.tasks.filter(rank__lt=3).update(**gold)
    round.tasks.filter(rank=5).update(assigned_to=ann)
    held = round.tasks.filter(rank=6)
    held.update(state="leased", holder=ann, lease_until=timezone.now() + LEASE)

    assert kept_for(round.project, ann) == [(round, 2)]
    held.update(lease_until=timezone.now())  # others may take it
    assert kept_for(round.project, ann) == [(round, 1)]


def test_known_items_stay_theirs(round: ReviewRound, ann: User, bob: User) -> None:
    gold = round.tasks.latest("rank")
    ReviewTask.objects.filter(pk=gold.pk).update(
        purpose=ReviewTask.Purpose.GOLD, is_counted=False, assigned_to=ann, holder=ann, state="leased"
    )

    tasks_hand_back(project=round.project, user=ann)

    gold.refresh_from_db()
    assert (gold.assigned_to, gold.holder, gold.state) == (ann, None, "waiting")


def test_who_leaves_hands_back(round: ReviewRound, ann: User) -> None:
    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))
    tasks_claim(round=round, user=ann)

    round.project.memberships.get(user=ann).delete()

    assert not round.tasks.exclude(assigned_to=None, holder=None, state=ReviewTask.State.WAITING).exists()


def test_who_may_not_review_any_more_hands_back(round: ReviewRound, ann: User) -> None:
    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))
    membership = round.project.memberships.get(user=ann)

    membership.role = Membership.Role.MANAGER
    membership.save()
    assert round.tasks.filter(assigned_to=ann).count() == 12

    membership.role = Membership.Role.VIEWER
    membership.save()
    assert not round.tasks.filter(assigned_to=ann).exists()


def test_whose_account_is_deactivated_hands_back_at_once(round: ReviewRound, ann: User) -> None:
    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))
    tasks_claim(round=round, user=ann)
    ann.first_name = "Ann"
    ann.save()
    assert round.tasks.filter(assigned_to=ann).count() == 12

    ann.is_active = False
    ann.save()

    assert not round.tasks.exclude(assigned_to=None, holder=None, state=ReviewTask.State.WAITING).exists()
    change = Change.objects.latest("pk")
    assert (change.action, change.subject, change.new) == ("items handed back", "ann", {"items": 12})


def test_a_project_goes_with_what_is_assigned_in_it(round: ReviewRound, ann: User) -> None:
    assign(round=round, user=round.created_by, assignment=ByShares({ann.pk: 1.0}))

    round.project.delete()

    assert not ReviewTask.objects.exists()
