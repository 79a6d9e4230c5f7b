"""Members: who may give and take which role, and what is kept of it."""

import pytest
from django.test import Client

from annotate.errors import Refusal
from annotate.models import Project, User
from annotate.services.members import covers, member_add, member_change_role, member_remove
from tests.factories import make_membership, make_project, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project(owner=make_user("olga"))


def member(project: Project, role: str, name: str = "") -> User:
    return make_membership(project, make_user(name), role).user


def history_of(project: Project) -> list[tuple[str, str, str, object, object]]:
    changes = project.changes.select_related("actor").order_by("pk")
    return [(str(c.actor), c.action, c.subject, c.old, c.new) for c in changes]


def test_an_account_gets_one_role_and_each_change_is_kept(project: Project) -> None:
    olga = project.created_by
    ann = make_user("ann")

    added = member_add(project=project, user=olga, username=" ann ", role="reviewer")
    member_add(project=project, user=olga, username="ann", role="owner")
    member_remove(membership=added, user=olga)

    assert not project.memberships.filter(user=ann).exists()
    assert history_of(project) == [
        ("olga", "member added", "ann", None, {"role": "reviewer"}),
        ("olga", "role changed", "ann", {"role": "reviewer"}, {"role": "owner"}),
        ("olga", "member removed", "ann", {"role": "owner"}, None),
    ]


def test_the_same_role_again_is_no_change(project: Project) -> None:
    membership = make_membership(project, make_user("ann"))

    member_change_role(membership=membership, user=project.created_by, role="reviewer")

    assert history_of(project) == []


@pytest.mark.parametrize(("username", "role"), [("nobody", "owner"), ("ann", "king")])
def test_who_or_what_is_unknown_is_refused(project: Project, username: str, role: str) -> None:
    make_user("ann")

    with pytest.raises(Refusal):
        member_add(project=project, user=project.created_by, username=username, role=role)


@pytest.mark.parametrize("role", ["owner", "manager"])
def test_managers_make_no_managers_and_no_owners(project: Project, role: str) -> None:
    mona = member(project, "manager")
    make_user("ann")
    reviewer = make_membership(project, make_user("rita"))

    with pytest.raises(Refusal, match="Only an owner"):
        member_add(project=project, user=mona, username="ann", role=role)
    with pytest.raises(Refusal, match="Only an owner"):
        member_change_role(membership=reviewer, user=mona, role=role)
    with pytest.raises(Refusal, match="Only an owner"):
        member_add(project=project, user=mona, username="rita", role=role)

    assert project.memberships.get(user__username="rita").role == "reviewer"
    assert not project.memberships.filter(user__username="ann").exists()


@pytest.mark.parametrize("role", ["owner", "manager"])
def test_managers_change_and_remove_neither_owners_nor_managers(project: Project, role: str) -> None:
    mona = member(project, "manager")
    other = make_membership(project, make_user(), role)

    with pytest.raises(Refusal, match="Only an owner of the project changes"):
        member_change_role(membership=other, user=mona, role="viewer")
    with pytest.raises(Refusal, match="Only an owner of the project removes"):
        member_remove(membership=other, user=mona)

    other.refresh_from_db()
    assert other.role == role


def test_managers_change_and_remove_reviewers_and_viewers(project: Project) -> None:
    mona = member(project, "manager")
    membership = make_membership(project, make_user("rita"))

    assert member_change_role(membership=membership, user=mona, role="viewer").role == "viewer"
    member_remove(membership=membership, user=mona)

    assert not project.memberships.filter(user__username="rita").exists()


def test_everybody_may_leave_but_the_last_owner(project: Project) -> None:
    for role in ("manager", "reviewer", "viewer"):
        membership = make_membership(project, make_user(role), role)
        member_remove(membership=membership, user=membership.user)
    (owner,) = project.memberships.all()

    with pytest.raises(Refusal, match="needs an owner"):
        member_remove(membership=owner, user=owner.user)
    with pytest.raises(Refusal, match="needs an owner"):
        member_change_role(membership=owner, user=owner.user, role="manager")
    member_add(project=project, user=owner.user, username=make_user("ann").username, role="owner")
    member_remove(membership=owner, user=owner.user)

    assert project.memberships.get().user.username == "ann"
    assert [action for _, action, *_ in history_of(project)].count("member left") == 4


def test_a_role_covers_another_when_it_allows_all_of_it() -> None:
    assert covers("reviewer", "reviewer")
    assert covers("manager", "viewer")
    assert covers("manager", "reviewer")
    assert covers("owner", "manager")
    assert not covers("manager", "owner")
    assert not covers("reviewer", "viewer")
    assert not covers("viewer", "reviewer")


def test_leaving_on_the_account_page(project: Project, client: Client) -> None:
    rita = member(project, "reviewer", "rita")
    client.force_login(rita)
    page = client.get("/account/").content.decode()
    answer = client.post(f"/account/projects/{project.pk}/leave/", follow=True)

    assert "Tweets" in page
    assert "Reviewer" in page
    assert "You left “Tweets”. What you answered stays there." in answer.content.decode()
    assert not project.memberships.filter(user=rita).exists()


def test_the_last_owner_is_told_why_they_stay(project: Project, client: Client) -> None:
    client.force_login(project.created_by)
    answer = client.post(f"/account/projects/{project.pk}/leave/", follow=True)

    assert "A project needs an owner" in answer.content.decode()
    assert project.memberships.count() == 1
