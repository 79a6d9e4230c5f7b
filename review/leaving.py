"""Members who leave, or may not review any more, hand back what they were to answer."""

from typing import Any

from annotate.access import May, permissions
from annotate.models import Membership, Project, User
from review.services.assignment import tasks_hand_back


def member_left(sender: Any, instance: Membership, origin: Any = None, **_: Any) -> None:
    """After a membership is deleted by itself; a project or an account that goes takes its tasks along."""
    if not isinstance(origin, Project | User) and getattr(origin, "model", Membership) is Membership:
        tasks_hand_back(project=instance.project, user=instance.user)


def member_changed(sender: Any, instance: Membership, created: bool, raw: bool, **_: Any) -> None:
    """After a member's role changed."""
    if not created and not raw and not permissions(instance.user, instance.project).do(May.REVIEW):
        tasks_hand_back(project=instance.project, user=instance.user)
