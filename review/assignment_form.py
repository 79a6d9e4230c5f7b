"""The form that says who answers what. Its fields depend on the round: a share a person, or people a label or value."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from django.http import QueryDict

from annotate.access import May, members_who_may
from annotate.errors import Refusal
from annotate.models import User
from review.assigning import MOST_GROUPS, Group, label_groups, slice_columns, slice_groups
from review.models import ReviewRound
from review.services.assignment import Anybody, Assignment, ByLabel, ByShares, BySlice

ANYBODY, SHARES, LABEL, SLICE = "anybody", "shares", "label", "slice:"


def assignment_context(round: ReviewRound, sent: QueryDict | None = None) -> dict[str, Any]:
    """The form as it was `sent`, or as it first is."""
    sent = sent if sent is not None else QueryDict()
    by = sent.get("by", ANYBODY)
    ways = [(ANYBODY, "Whoever comes first"), (SHARES, "People, by shares")]
    if not round.project.task.is_written and not round.is_blind:
        ways.append((LABEL, "People, by the machine's label"))
    ways += [(f"{SLICE}{column}", f"People, by “{column}”") for column in slice_columns(round)]
    people = list(members_who_may(round.project, May.REVIEW))
    context: dict[str, Any] = {"ways": ways, "by": by, "people": people, "most_groups": MOST_GROUPS}
    if by == SHARES:
        context["shares"] = [(person, sent.get(f"share-{person.pk}", "")) for person in people]
    elif by == LABEL or by.startswith(SLICE):
        context["groups"] = [
            (group, {int(pk) for pk in sent.getlist(f"people-{number}") if pk.isdecimal()})
            for number, group in enumerate(_groups(round, by))
        ]
    return context


def _groups(round: ReviewRound, by: str) -> list[Group]:
    return label_groups(round) if by == LABEL else slice_groups(round, by.removeprefix(SLICE))


def assignment_of(sent: QueryDict, people: Sequence[User]) -> Assignment:
    """What a sent form says. Raises Refusal."""
    by = sent.get("by", ANYBODY)
    if by == ANYBODY:
        return Anybody()
    if by == SHARES:
        shares = {person.pk: _share(person, sent.get(f"share-{person.pk}", "")) for person in people}
        return ByShares({pk: share for pk, share in shares.items() if share})
    named: dict[str, list[int]] = {}
    for number in range(MOST_GROUPS):
        chosen = [int(pk) for pk in sent.getlist(f"people-{number}") if pk.isdecimal()]
        if chosen and f"group-{number}" in sent:
            named[str(sent[f"group-{number}"])] = chosen
    if by == LABEL:
        return ByLabel({int(key): chosen for key, chosen in named.items() if key.isdecimal()})
    if by.startswith(SLICE):
        return BySlice(by.removeprefix(SLICE), named)
    raise Refusal("Choose whether items go to anybody, or to people by shares, label or column.", field="by")


def _share(person: User, written: str) -> float:
    """A share from 0 to 1, written in percent; 0 where nothing is. Raises Refusal."""
    if not written.strip():
        return 0.0
    try:
        share = Decimal(written) / 100
    except InvalidOperation as error:
        raise Refusal(f"Enter the share of {person} as a number.", field="shares") from error
    if not share.is_finite() or not 0 <= share <= 1:
        raise Refusal(f"The share of {person} lies between 0 and 100%.", field="shares")
    return float(share)
