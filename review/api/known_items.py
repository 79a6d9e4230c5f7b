"""Reviewers on known items, and pausing them."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, members_who_may
from annotate.api.endpoint import Endpoint, Input
from annotate.api.items import GoldAnswerSerializer, LabelNameSerializer
from annotate.errors import Refusal
from review.api.rounds import RoundEndpoint
from review.known import known_items, wrong_answers
from review.models import ReviewPause
from review.reviewers import Reviewer, reviewers_of
from review.services.pauses import pause, pause_lift

_MOST_WRONG = 1000


class PauseSerializer(serializers.ModelSerializer[ReviewPause]):
    reviewer = serializers.CharField(source="user.username", read_only=True)
    lifted_by = serializers.CharField(
        source="lifted_by.username", read_only=True, allow_null=True, default=None
    )

    class Meta:
        model = ReviewPause
        fields = [
            "id",
            "round",
            "reviewer",
            "reason",
            "gold_answered",
            "gold_right",
            "created_at",
            "lifted_at",
            "lifted_by",
        ]
        read_only_fields = fields


class PauseCreateSerializer(Input):
    reviewer = serializers.CharField(help_text="A username.")
    reason = serializers.CharField(
        required=False, allow_blank=True, max_length=300, help_text="A sentence to the reviewer."
    )


class ReviewerSerializer(serializers.Serializer[Any]):
    """One person in a round; known items are counted apart."""

    reviewer = serializers.CharField()
    is_member = serializers.BooleanField(help_text="Whether they may still review.")
    answered = serializers.IntegerField()
    skipped = serializers.IntegerField()
    corrected = serializers.IntegerField(help_text="Answers that differ from the machine's.")
    held = serializers.IntegerField(help_text="Being looked at.")
    assigned = serializers.IntegerField(help_text="Waiting for this person alone.")
    seconds = serializers.FloatField(allow_null=True, help_text="The median of what an answer took.")
    known_answered = serializers.IntegerField()
    known_right = serializers.IntegerField()
    known_accuracy = serializers.FloatField(allow_null=True)
    known_interval = serializers.ListField(
        child=serializers.FloatField(), allow_null=True, help_text="Wilson's, at 95%."
    )
    paused = serializers.BooleanField()


class WrongAnswerSerializer(serializers.Serializer[Any]):
    item = serializers.IntegerField(source="task.item_id")
    external_id = serializers.CharField(source="task.item.external_id")
    reviewer = serializers.CharField(source="task.holder.username")
    answered = LabelNameSerializer(source="task.correction.label", allow_null=True)
    expected = LabelNameSerializer(allow_null=True)
    answer = serializers.CharField(
        source="task.correction.answer", help_text="Where answers are spans; empty for “no answer”."
    )
    answers = GoldAnswerSerializer(
        many=True, allow_null=True, help_text="Those that are right, where answers are spans."
    )


class KnownItemsSerializer(serializers.Serializer[Any]):
    """Who works on the round, and how they do on known items."""

    known_items = serializers.IntegerField(help_text="Of the project, without those of the round itself.")
    reviewers = ReviewerSerializer(many=True)
    wrong = WrongAnswerSerializer(
        many=True, help_text=f"The latest {_MOST_WRONG:,} that were answered otherwise than expected."
    )


def _row(each: Reviewer) -> dict[str, Any]:
    known = each.known
    return {
        "reviewer": each.name,
        "is_member": each.is_member,
        "answered": each.answered,
        "skipped": each.skipped,
        "corrected": each.corrected,
        "held": each.held,
        "assigned": each.assigned,
        "seconds": each.seconds,
        "known_answered": known.answered,
        "known_right": known.right,
        "known_accuracy": known.accuracy,
        "known_interval": known.interval,
        "paused": each.pause is not None,
    }


class ReviewRoundReviewers(RoundEndpoint):
    @extend_schema(
        summary="A round's reviewers and how they do on known items",
        description="For managers: whoever reviews must not learn which items are known.",
        responses=KnownItemsSerializer,
    )
    def get(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=May.MANAGE)
        found = {
            "known_items": known_items(round).count(),
            "reviewers": [_row(each) for each in reviewers_of(round)],
            "wrong": wrong_answers(round, _MOST_WRONG),
        }
        return self.reply(KnownItemsSerializer, found)


class ReviewRoundPauses(RoundEndpoint):
    @extend_schema(summary="Who was paused in a round, newest first", responses=PauseSerializer(many=True))
    def get(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        return self.page(round.pauses.select_related("user", "lifted_by"), PauseSerializer)

    @extend_schema(
        summary="Pause a reviewer in a round",
        description="They are handed nothing more of it; what they look at goes back.",
        request=PauseCreateSerializer,
        responses={201: PauseSerializer},
    )
    def post(self, request: Request, round_id: int) -> Response:
        round = self.round(round_id, may=self.needed)
        given = self.given(PauseCreateSerializer)
        person = members_who_may(round.project, May.REVIEW).filter(username=given["reviewer"]).first()
        if person is None:
            raise Refusal(f"{given['reviewer']} is no member of the project who reviews.", field="reviewer")
        paused = pause(round=round, user=person, by=self.user, reason=given.get("reason", ""))
        return self.reply(PauseSerializer, paused, status=201)


class ReviewPauseLift(Endpoint):
    tag = "review rounds"

    @extend_schema(
        summary="Lift a pause",
        description="Known items answered so far are not held against the reviewer any more.",
        request=None,
        responses={200: PauseSerializer},
    )
    def post(self, request: Request, pause_id: int) -> Response:
        rows = ReviewPause.objects.select_related("round__project", "user", "lifted_by")
        row = found_for(self.user, rows, pause_id, project="round__project", may=self.needed)
        pause_lift(pause=row, by=self.user)
        return self.reply(PauseSerializer, row)
