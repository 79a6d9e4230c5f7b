"""Invitations by link: who may make, see, revoke and use them."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from annotate.errors import Refusal
from annotate.models import Invitation, Membership, Project, User
from annotate.services.invitations import (
    Standing,
    invitation_accept,
    invitation_create,
    invitation_of,
    invitation_revoke,
    invitation_token,
    standing_of,
)
from annotate.services.members import member_remove
from annotate.views.invitations import MOST_TRIES
from tests.api.caller import call
from tests.factories import make_membership, make_project, make_user

pytestmark = pytest.mark.django_db
PASSWORDS = {"password1": "a quiet battery", "password2": "a quiet battery"}


@pytest.fixture
def project() -> Project:
    return make_project(owner=make_user("olga"))


def invite(project: Project, role: str = "reviewer", **options: Any) -> Invitation:
    return invitation_create(project=project, user=project.created_by, role=role, **options)


def link(invitation: Invitation) -> str:
    return f"/join/{invitation_token(invitation)}/"


def role_of(project: Project, user: User) -> str | None:
    return project.memberships.filter(user=user).values_list("role", flat=True).first()


def test_whoever_is_signed_in_is_asked_and_joins(project: Project, client: Client) -> None:
    invitation, ann = invite(project), make_user("ann")
    client.force_login(ann)

    asked = client.get(link(invitation)).content.decode()
    assert role_of(project, ann) is None
    joined = client.post(link(invitation))

    assert "Join “Tweets”?" in asked
    assert "reviewer" in asked
    assert joined.headers["Location"] == f"/projects/{project.pk}/"
    assert role_of(project, ann) == "reviewer"
    invitation.refresh_from_db()
    assert invitation.uses == 1
    change = project.changes.get(action="invitation accepted")
    assert (change.actor, change.new) == (ann, {"role": "reviewer"})


def test_whoever_has_no_account_makes_one_and_is_in(project: Project, client: Client) -> None:
    invitation = invite(project)
    page = client.get(link(invitation)).content.decode()

    sent = client.post(link(invitation), {"username": "nora", **PASSWORDS})

    assert "Make the account and join" in page
    assert f"/accounts/sign-in/?next={link(invitation)}" in page
    assert sent.headers["Location"] == f"/projects/{project.pk}/"
    assert client.get(f"/projects/{project.pk}/").status_code == 200
    assert client.login(username="nora", password="a quiet battery")


def test_signing_in_leads_back_to_the_invitation(project: Project, client: Client) -> None:
    invitation = invite(project)
    make_user("ann", password="a quiet battery")

    sent = client.post(
        "/accounts/sign-in/", {"username": "ann", "password": "a quiet battery", "next": link(invitation)}
    )

    assert sent.headers["Location"] == link(invitation)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"username": "OLGA", **PASSWORDS}, "already exists"),
        ({"username": "nora", "password1": "12345678", "password2": "12345678"}, "too common"),
        ({"username": "nora", "password1": "a quiet battery", "password2": "another one"}, "match"),
        ({"username": "no spaces", **PASSWORDS}, "valid username"),
    ],
)
def test_an_account_that_cannot_be_made_uses_nothing_up(
    project: Project, client: Client, values: dict[str, str], why: str
) -> None:
    invitation = invite(project)

    sent = client.post(link(invitation), values)

    assert sent.status_code == 422
    assert why in sent.content.decode()
    invitation.refresh_from_db()
    assert invitation.uses == 0
    assert User.objects.count() == 1


def test_nobody_tries_names_without_end(project: Project, client: Client) -> None:
    invitation = invite(project)
    for _ in range(MOST_TRIES):
        client.post(link(invitation), {"username": "olga", **PASSWORDS})

    sent = client.post(link(invitation), {"username": "nora", **PASSWORDS})

    assert "Too many tries from your address" in sent.content.decode()
    assert not User.objects.filter(username="nora").exists()


def test_a_link_that_lets_nobody_in_says_why(project: Project, client: Client) -> None:
    make_membership(project, make_user("mona"), "manager")
    mona = User.objects.get(username="mona")
    revoked, expired, used_up = invite(project), invite(project), invite(project)
    orphan = invitation_create(project=project, user=mona, role="reviewer")
    invitation_revoke(invitation=revoked, user=project.created_by)
    Invitation.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    Invitation.objects.filter(pk=used_up.pk).update(uses=1)
    member_remove(membership=project.memberships.get(user=mona), user=project.created_by)
    sentences = {
        link(revoked): "was revoked",
        link(expired): "has expired",
        link(used_up): "as often as it may be",
        link(orphan): "may not invite people",
        link(expired)[:-2] + "/": "is no invitation",
        "/join/nonsense/": "is no invitation",
    }

    for user in (None, make_user("ann")):
        if user is not None:
            client.force_login(user)
        for address, sentence in sentences.items():
            for answer in (client.get(address), client.post(address, {"username": "nora", **PASSWORDS})):
                assert answer.status_code == 410
                assert sentence in answer.content.decode(), address

    assert project.memberships.count() == 1
    assert set(User.objects.values_list("username", flat=True)) == {"olga", "mona", "ann"}


def test_a_deleted_project_leaves_a_link_that_is_no_invitation(project: Project, client: Client) -> None:
    address = link(invite(project))
    project.delete()

    assert "is no invitation" in client.get(address).content.decode()


@pytest.mark.parametrize(
    ("has", "invited", "then", "uses"),
    [
        ("owner", "reviewer", "owner", 0),
        ("manager", "viewer", "manager", 0),
        ("reviewer", "reviewer", "reviewer", 0),
        # Neither allows all that the other does: nothing is taken from anybody.
        ("viewer", "reviewer", "viewer", 0),
        ("reviewer", "viewer", "reviewer", 0),
        ("reviewer", "manager", "manager", 1),
        ("viewer", "owner", "owner", 1),
    ],
)
def test_a_role_is_raised_and_never_lowered(
    project: Project, has: str, invited: str, then: str, uses: int
) -> None:
    ann = make_user("ann")
    make_membership(project, ann, has)
    invitation = invite(project, invited)

    invitation_accept(invitation=invitation, user=ann)

    assert role_of(project, ann) == then
    invitation.refresh_from_db()
    assert invitation.uses == uses


def test_whoever_was_removed_needs_a_new_invitation(project: Project) -> None:
    ann, invitation = make_user("ann"), invite(project, most_uses=5)
    membership = invitation_accept(invitation=invitation, user=ann)
    member_remove(membership=membership, user=project.created_by)

    with pytest.raises(Refusal, match="You were removed"):
        invitation_accept(invitation=invitation, user=ann)
    invitation_accept(invitation=invite(project), user=ann)

    assert role_of(project, ann) == "reviewer"


def test_whoever_left_may_come_back_by_the_same_link(project: Project) -> None:
    ann, invitation = make_user("ann"), invite(project, most_uses=5)
    member_remove(membership=invitation_accept(invitation=invitation, user=ann), user=ann)

    invitation_accept(invitation=invitation, user=ann)

    assert role_of(project, ann) == "reviewer"


@pytest.mark.parametrize("role", ["owner", "manager"])
def test_managers_neither_make_nor_see_nor_revoke_what_gives_more_than_they_may(
    project: Project, role: str, client: Client
) -> None:
    mona = make_membership(project, make_user("mona"), "manager").user
    invitation = invite(project, role)
    client.force_login(mona)

    with pytest.raises(Refusal, match="cannot invite"):
        invitation_create(project=project, user=mona, role=role)
    with pytest.raises(Refusal, match="Only an owner"):
        invitation_revoke(invitation=invitation, user=mona)
    page = client.get(f"/projects/{project.pk}/people/").content.decode()
    (row,) = call(mona, "get", f"projects/{project.pk}/invitations/")["results"]

    assert invitation_token(invitation) not in page
    assert row["link"] is None
    assert standing_of(invitation_of(invitation_token(invitation))) == Standing.OPEN


@pytest.mark.parametrize("values", [{"most_uses": 0}, {"most_uses": 1001}, {"days": 0}, {"days": 366}])
def test_uses_and_days_have_bounds(project: Project, values: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        invite(project, **values)


def test_the_api_makes_a_link_that_works_and_revokes_it(project: Project, client: Client) -> None:
    made = call(
        project.created_by,
        "post",
        f"projects/{project.pk}/invitations/",
        {"role": "viewer", "note": "For Ruth", "most_uses": 2, "days": 3},
        status=201,
    )
    days = Invitation.objects.get().expires_at - timezone.now()

    assert (made["state"], made["uses"], made["most_uses"], made["note"]) == ("open", 0, 2, "For Ruth")
    assert timedelta(days=2, hours=23) < days <= timedelta(days=3)
    address = made["link"].removeprefix("http://testserver")
    assert client.get(address).status_code == 200
    call(project.created_by, "delete", f"invitations/{made['id']}/", status=204)
    assert client.get(address).status_code == 410
    assert [change.action for change in project.changes.order_by("pk")] == [
        "invitation made",
        "invitation revoked",
    ]


@pytest.mark.django_db(transaction=True)
def test_no_more_people_come_in_than_it_is_for(project: Project) -> None:
    invitation = invite(project, most_uses=3)
    people = [make_user() for _ in range(8)]
    refused: list[str] = []
    start = threading.Barrier(len(people))

    def accept(user: User) -> None:
        start.wait()
        try:
            invitation_accept(invitation=invitation_of(invitation_token(invitation)), user=user)
        except Refusal as refusal:
            refused.append(refusal.sentence)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=accept, args=[person]) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert connection.is_usable()
    invitation.refresh_from_db()
    assert invitation.uses == 3
    assert Membership.objects.filter(project=project, role="reviewer").count() == 3
    assert len(refused) == 5
    assert all("as often as it may be" in sentence for sentence in refused)
