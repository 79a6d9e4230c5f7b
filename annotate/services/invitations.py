"""Invitations by link. The link is the signed number of the invitation's row: nothing secret is kept."""

from datetime import timedelta
from enum import StrEnum

from django.core import signing
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from annotate.errors import Refusal
from annotate.history import record
from annotate.models import Invitation, Membership, Project, User
from annotate.services.members import covers, given_by, locked_membership, roles_given_by

MOST_USES = 1000
MOST_DAYS = 365
_SIGNER = signing.Signer(sep=".", salt="overread.invitation")


class Standing(StrEnum):
    """Whether an invitation still lets people in, and if not, why."""

    OPEN = "open"
    REVOKED = "revoked"
    EXPIRED = "expired"
    USED_UP = "used up"
    WITHDRAWN = "withdrawn"


_REASONS = {
    Standing.REVOKED: "This invitation was revoked.",
    Standing.EXPIRED: "This invitation has expired.",
    Standing.USED_UP: "This invitation has been used as often as it may be.",
    Standing.OPEN: "This invitation was just used by somebody else.",
    Standing.WITHDRAWN: "Whoever made this invitation may not invite people to the project any more.",
}
_ASK = "Ask somebody who manages the project for a new one."


def standing_of(invitation: Invitation) -> Standing:
    """Whether it lets people in now."""
    if invitation.revoked_at is not None:
        return Standing.REVOKED
    if invitation.expires_at <= timezone.now():
        return Standing.EXPIRED
    if invitation.uses >= invitation.most_uses:
        return Standing.USED_UP
    if not may_handle(invitation.created_by, invitation):
        return Standing.WITHDRAWN
    return Standing.OPEN


def may_handle(user: User, invitation: Invitation) -> bool:
    """Whether the user may see the link and revoke it: a link gives its role to whoever opens it."""
    members = invitation.project.memberships.all()
    role = next((member.role for member in members if member.user_id == user.pk), None)
    return invitation.role in given_by(role)


def invitations_of(project: Project) -> QuerySet[Invitation]:
    """Newest first, with what their standing is read from."""
    return _rows().filter(project=project)


def _rows() -> QuerySet[Invitation]:
    return Invitation.objects.select_related("project", "created_by").prefetch_related("project__memberships")


def invitation_token(invitation: Invitation) -> str:
    """What the link ends with. It is made anew whenever it is shown."""
    return _SIGNER.sign(str(invitation.pk))


def invitation_of(token: str) -> Invitation:
    """The invitation that the link is for, whether or not it still lets people in. Raises Refusal."""
    try:
        pk = int(_SIGNER.unsign(token))
    except (signing.BadSignature, ValueError):
        pk = 0
    invitation = _rows().filter(pk=pk).first()
    if invitation is None:
        raise Refusal(
            "This link is no invitation. Open it again exactly as it was sent to you, or ask for a new one."
        )
    return invitation


def require_open(invitation: Invitation) -> None:
    """Raises Refusal with the reason why the invitation lets nobody in any more."""
    standing = standing_of(invitation)
    if standing != Standing.OPEN:
        raise Refusal(f"{_REASONS[standing]} {_ASK}")


@transaction.atomic
def invitation_create(
    *, project: Project, user: User, role: str, note: str = "", most_uses: int = 1, days: int = 14
) -> Invitation:
    """A link that makes up to `most_uses` people members for `days` days. Raises Refusal."""
    if role not in roles_given_by(user, project):
        raise Refusal("You cannot invite people to this role.", field="role")
    if not 1 <= most_uses <= MOST_USES:
        raise Refusal(f"An invitation is for 1 to {MOST_USES:,} people.", field="most_uses")
    if not 1 <= days <= MOST_DAYS:
        raise Refusal(f"An invitation is valid for 1 to {MOST_DAYS} days.", field="days")
    invitation = Invitation.objects.create(
        project=project,
        role=role,
        note=note.strip(),
        most_uses=most_uses,
        expires_at=timezone.now() + timedelta(days=days),
        created_by=user,
    )
    record(
        project,
        user,
        "invitation made",
        subject=_name(invitation),
        subject_id=invitation.pk,
        new={"role": role, "most_uses": most_uses, "days": days},
    )
    return invitation


@transaction.atomic
def invitation_revoke(*, invitation: Invitation, user: User) -> None:
    """End it: the link lets nobody in from now on. Who came by it stays. Raises Refusal."""
    if not may_handle(user, invitation):
        raise Refusal("Only an owner of the project revokes this invitation.")
    if Invitation.objects.filter(pk=invitation.pk, revoked_at=None).update(revoked_at=timezone.now()):
        record(
            invitation.project,
            user,
            "invitation revoked",
            subject=_name(invitation),
            subject_id=invitation.pk,
            old={"uses": invitation.uses, "most_uses": invitation.most_uses},
        )
    invitation.refresh_from_db(fields=["revoked_at"])


@transaction.atomic
def invitation_accept(*, invitation: Invitation, user: User) -> Membership:
    """Make the user a member in the invitation's role; a role that allows more, or other things, is never changed.

    However many people open the link at once, no more than its number of uses come in. Raises Refusal.
    """
    project = invitation.project
    membership = locked_membership(project, user)
    if membership is not None and (
        membership.role == invitation.role or not covers(invitation.role, membership.role)
    ):
        return membership
    _not_after_removal(invitation, user)
    require_open(invitation)
    used = Invitation.objects.filter(
        pk=invitation.pk, revoked_at=None, expires_at__gt=timezone.now(), uses__lt=F("most_uses")
    ).update(uses=F("uses") + 1)
    if not used:
        invitation.refresh_from_db(fields=["uses", "revoked_at", "expires_at"])
        raise Refusal(f"{_REASONS[standing_of(invitation)]} {_ASK}")
    old = membership.role if membership is not None else None
    membership, _ = Membership.objects.update_or_create(
        project=project, user=user, defaults={"role": invitation.role}
    )
    record(
        project,
        user,
        "invitation accepted",
        subject=_name(invitation),
        subject_id=invitation.pk,
        old={"role": old} if old else None,
        new={"role": invitation.role},
    )
    return membership


def _not_after_removal(invitation: Invitation, user: User) -> None:
    """Whoever was removed does not come back by a link that was there before."""
    removed = invitation.project.changes.filter(
        action="member removed", subject_id=user.pk, created_at__gte=invitation.created_at
    )
    if removed.exists():
        raise Refusal(f"You were removed from the project after this invitation was made. {_ASK}")


def _name(invitation: Invitation) -> str:
    name = f"invitation {invitation.pk}"
    return f"{name} ({invitation.note})" if invitation.note else name
