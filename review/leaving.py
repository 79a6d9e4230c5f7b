"""Members who leave, or may not review any more, hand back what they were to answer at once."""

from typing import Any

from django.db.models import Q

from annotate.access import May, permissions
from annotate.models import Membership, Project, User
from review.models import ReviewTask
from review.services.assignment import tasks_hand_back
from review.services.settling import OPEN


def member_left(sender: Any, instance: Membership, origin: Any = None, **_: Any) -> None:
    """After a membership is deleted by itself; a project or an account that goes takes its tasks along."""
    if not isinstance(origin, Project | User) and getattr(origin, "model", Membership) is Membership:
        tasks_hand_back(project=instance.project, user=instance.user)


def member_changed(sender: Any, instance: Membership, created: bool, raw: bool, **_: Any) -> None:
    """After a member's role changed."""
    if not created and not raw and not permissions(instance.user, instance.project).do(May.REVIEW):
        tasks_hand_back(project=instance.project, user=instance.user)


def account_changed(sender: Any, instance: User, created: bool, raw: bool, **_: Any) -> None:
    """After an account changed: nobody signs in with one that is deactivated."""
    if created or raw or instance.is_active:
        return
    open_turns = ReviewTask.objects.filter(state__in=OPEN).filter(
        Q(holder=instance) | Q(assigned_to=instance)
    )
    for project in Project.objects.filter(pk__in=open_turns.values("round__project")).order_by("pk"):
        tasks_hand_back(project=project, user=instance)
