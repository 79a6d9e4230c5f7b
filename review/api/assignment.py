"""Who answers what in a round."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, members_who_may, project_for
from annotate.api.endpoint import Endpoint, Input, chosen
from annotate.errors import Refusal
from annotate.models import Project
from review.api.rounds import RoundEndpoint
from review.services.assignment import (
    Anybody,
    Assignment,
    ByLabel,
    ByShares,
    BySlice,
    Dealt,
    assign,
    assignment_preview,
    tasks_hand_back,
)


class ShareSerializer(Input):
    reviewer = serializers.CharField(help_text="A username.")
    share = serializers.FloatField(min_value=0, max_value=1)


class GroupSerializer(Input):
    value = serializers.CharField(
        allow_blank=True, help_text="A label's id, or the column's value; empty for items without one."
    )
    reviewers = serializers.ListField(child=serializers.CharField(), min_length=1, max_length=1000)


class AssignmentSerializer(Input):
    by = serializers.ChoiceField(["anybody", "shares", "label", "slice"])
    shares = ShareSerializer(
        many=True, required=False, help_text="With `shares`. What is left of 1 is for anybody."
    )
    column = serializers.CharField(required=False, help_text="With `slice`: a column of the upload.")
    groups = GroupSerializer(
        many=True,
        required=False,
        help_text="With `label`, of projects with a label set, or `slice`: who answers the items of each value, in "
        "equal parts.",
    )


class CountSerializer(serializers.Serializer[Any]):
    reviewer = serializers.CharField()
    items = serializers.IntegerField()


class DealtSerializer(serializers.Serializer[Any]):
    """What waits, by who may take it."""

    waiting = serializers.IntegerField()
    reviewers = CountSerializer(many=True)
    anybody = serializers.IntegerField()


class HandBackSerializer(Input):
    round = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=2**63 - 1,
        help_text="A round's id; without it, all of the project's rounds.",
    )


class HandedBackSerializer(serializers.Serializer[Any]):
    handed_back = serializers.IntegerField()


def _assignment(project: Project, given: dict[str, Any]) -> Assignment:
    """What was sent. Raises Refusal."""
    ids = dict(members_who_may(project, May.REVIEW).values_list("username", "pk"))
    by, groups = given["by"], given.get("groups", [])
    if by == "anybody":
        return Anybody()
    if by == "shares":
        return ByShares({_id(ids, each["reviewer"]): each["share"] for each in given.get("shares", [])})
    people = {each["value"]: [_id(ids, name) for name in dict.fromkeys(each["reviewers"])] for each in groups}
    if by == "slice":
        if not given.get("column"):
            raise Refusal("Name the column whose values decide.", field="column")
        return BySlice(given["column"], people)
    unknown = [value for value in people if not value.isdecimal()]
    if unknown:
        raise Refusal(
            f"The value of a group is a label's id, and {unknown[0] or 'nothing'} is none.", field="groups"
        )
    return ByLabel({int(value): named for value, named in people.items()})


def _id(ids: dict[str, int], username: str) -> int:
    if username not in ids:
        raise Refusal(f"{username} is no member of the project who reviews.", field="reviewers")
    return ids[username]


def _counts(dealt: Dealt) -> dict[str, Any]:
    reviewers = [{"reviewer": name, "items": items} for name, items in dealt.counts]
    return {"waiting": dealt.waiting, "reviewers": reviewers, "anybody": dealt.open}


_HALF = OpenApiExample(
    "Half for one, the rest for anybody",
    value={"by": "shares", "shares": [{"reviewer": "ann", "share": 0.5}]},
    request_only=True,
)


class ReviewRoundAssignment(RoundEndpoint):
    @extend_schema(
        summary="Say who answers a round's waiting items",
        description="What somebody looks at or answered stays. Copies of an item go to different people; what nobody "
        "is named for is for anybody.",
        request=AssignmentSerializer,
        responses={200: DealtSerializer},
        examples=[_HALF],
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        assignment = _assignment(round.project, self.given(AssignmentSerializer))
        dealt = assign(round=round, user=self.user, assignment=assignment)
        return self.reply(DealtSerializer, _counts(dealt))


class ReviewRoundAssignmentPreview(RoundEndpoint):
    @extend_schema(
        summary="How many items each person would get",
        description="Commits nothing.",
        request=AssignmentSerializer,
        responses={200: DealtSerializer},
        examples=[_HALF],
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        assignment = _assignment(round.project, self.given(AssignmentSerializer))
        return self.reply(DealtSerializer, _counts(assignment_preview(round=round, assignment=assignment)))


class ProjectHandBack(Endpoint):
    tag = "review tasks"

    @extend_schema(
        summary="Hand back all that is assigned to you or that you look at",
        description="Then anybody may take it.",
        request=HandBackSerializer,
        responses={200: HandedBackSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.REVIEW)
        round_id = self.given(HandBackSerializer).get("round")
        round = None
        if round_id is not None:
            round = chosen(project.review_rounds.all(), round_id, field="round", what="review round")
        count = tasks_hand_back(project=project, user=self.user, by=self.user, round=round)
        return self.reply(HandedBackSerializer, {"handed_back": count})
