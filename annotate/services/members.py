"""A project's members: who may add, change and remove whom. What people answered stays when they go."""

from django.db import transaction

from annotate.access import May, Permissions, permissions
from annotate.errors import Refusal
from annotate.history import record
from annotate.locks import lock_project
from annotate.models import Membership, Project, User

Role = Membership.Role

# What managers give and take; owners give and take every role.
_GIVEN_BY_MANAGERS = (Role.REVIEWER, Role.VIEWER)


def roles_given_by(user: User, project: Project) -> list[str]:
    """The roles that the user may give to others and take from them."""
    return given_by(permissions(user, project).role)


def given_by(role: str | None) -> list[str]:
    """The roles that whoever has `role` may give and take."""
    can = Permissions(role)
    if can.own:
        return list(Role.values)
    return list(_GIVEN_BY_MANAGERS) if can.manage else []


def covers(role: str, other: str) -> bool:
    """Whether whoever has `role` may do everything that `other` allows."""
    return all(Permissions(role).do(may) for may in May if Permissions(other).do(may))


def may_change(user: User, membership: Membership) -> bool:
    """Whether the user may give the member another role."""
    return membership.role in roles_given_by(user, membership.project)


def may_remove(user: User, membership: Membership) -> bool:
    """Whether the user may end the membership; everybody may leave."""
    return membership.user_id == user.pk or may_change(user, membership)


@transaction.atomic
def member_add(*, project: Project, user: User, username: str, role: str) -> Membership:
    """`user` makes an existing account a member, or changes a member's role. Raises Refusal."""
    account = User.objects.filter(username=username.strip(), is_active=True).first()
    if account is None:
        raise Refusal(
            f"There is no account named “{username.strip()}”. Send an invitation: whoever opens it can make one.",
            field="username",
        )
    membership = locked_membership(project, account)
    if membership is not None:
        return member_change_role(membership=membership, user=user, role=role)
    _may_give(user, project, role)
    membership = Membership.objects.create(project=project, user=account, role=role)
    record(project, user, "member added", subject=str(account), subject_id=account.pk, new={"role": role})
    return membership


@transaction.atomic
def member_change_role(*, membership: Membership, user: User, role: str) -> Membership:
    """`user` gives the member another role. Raises Refusal."""
    project = membership.project
    current = locked_membership(project, membership.user)
    if current is None:
        raise Refusal(f"{membership.user} is not a member any more.")
    if role == current.role:
        return current
    _may_give(user, project, role)
    if not may_change(user, current):
        raise Refusal(f"Only an owner of the project changes the role of {_a(current.role)}.", field="role")
    _keep_an_owner(current)
    old, current.role = current.role, role
    current.save(update_fields=["role"])
    record(
        project,
        user,
        "role changed",
        subject=str(current.user),
        subject_id=current.user_id,
        old={"role": old},
        new={"role": role},
    )
    return current


@transaction.atomic
def member_remove(*, membership: Membership, user: User) -> None:
    """`user` removes the member, or leaves. Raises Refusal."""
    current = locked_membership(membership.project, membership.user)
    if current is None:
        return
    if not may_remove(user, current):
        raise Refusal(f"Only an owner of the project removes {_a(current.role)}.")
    _keep_an_owner(current)
    record(
        current.project,
        user,
        "member left" if current.user_id == user.pk else "member removed",
        subject=str(current.user),
        subject_id=current.user_id,
        old={"role": current.role},
    )
    current.delete()


def locked_membership(project: Project, user: User) -> Membership | None:
    """The membership as it is now. Until the transaction ends, nobody else changes the project's members."""
    lock_project(project.pk)
    return project.memberships.select_related("user", "project").filter(user=user).first()


def _may_give(user: User, project: Project, role: str) -> None:
    if role not in Role.values:
        raise Refusal(f"The role is one of {', '.join(Role.values)}.", field="role")
    if role not in roles_given_by(user, project):
        raise Refusal(f"Only an owner of the project makes somebody {_a(role)}.", field="role")


def _keep_an_owner(membership: Membership) -> None:
    owners = membership.project.memberships.filter(role=Role.OWNER)
    if membership.role == Role.OWNER and owners.count() == 1:
        raise Refusal("A project needs an owner: make somebody else an owner first.")


def _a(role: str) -> str:
    return f"an {role}" if role.startswith("o") else f"a {role}"
