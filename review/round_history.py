"""What happened to a round, as rows of the project's history."""

from typing import Any

from annotate.history import record
from annotate.models import User
from review.models import ReviewRound


def record_change(round: ReviewRound, user: User, what: str, *, old: Any = None, new: Any = None) -> None:
    """Keep that `user` did this to the round; `what` is a word in the past, such as "closed"."""
    record(round.project, user, f"round {what}", subject=str(round), subject_id=round.pk, old=old, new=new)


def record_created(round: ReviewRound, user: User) -> None:
    """Keep that `user` drew the round, with what it was drawn by."""
    new = {"kind": round.kind, "budget": round.budget, "display": round.display}
    if round.rule:
        new |= {"rule": round.rule, "priority": round.priority}
    if round.overlap > 1:
        new |= {"overlap": round.overlap, "overlap_share": round.overlap_share}
    if round.gold_rate:
        new |= {"gold_rate": round.gold_rate, "gold_threshold": round.gold_threshold}
    if round.audited_id is not None:
        new |= {"audited": round.audited_id}
    record_change(round, user, "created", new=new)
