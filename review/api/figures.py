"""One's own work and figures, and every answer of a project."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, project_for
from annotate.api.endpoint import Endpoint, Filter
from review.api.rounds import ARMS
from review.figures import figures_of, own_known, reviews_by_day, today
from review.histories import answers_of, said
from review.models import Correction, ReviewRound, ReviewTask
from review.own_work import own_rounds


class FiguresSerializer(serializers.Serializer[Any]):
    answered = serializers.IntegerField()
    skipped = serializers.IntegerField()
    changed_share = serializers.FloatField(
        allow_null=True,
        help_text="Of the answers given with the machine's in view, the share that differ from it.",
    )
    median_seconds = serializers.FloatField(allow_null=True, help_text="Of one review.")
    per_hour = serializers.FloatField(allow_null=True, help_text="Reviews in an hour of work.")


class KnownShareSerializer(serializers.Serializer[Any]):
    answered = serializers.IntegerField()
    right = serializers.IntegerField()


class DaySerializer(serializers.Serializer[Any]):
    day = serializers.DateField()
    reviews = serializers.IntegerField()


class OwnRoundSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="round.pk")
    kind = serializers.ChoiceField(ReviewRound.Kind.choices, source="round.kind")
    left = serializers.IntegerField(help_text="Items that wait for you or for anybody.")
    done = serializers.IntegerField(help_text="Items that you answered or skipped.")
    paused = serializers.CharField(
        source="pause.reason",
        allow_null=True,
        default=None,
        help_text="Why you are handed nothing; null if you are.",
    )


class OwnFiguresSerializer(serializers.Serializer[Any]):
    today = FiguresSerializer()
    total = FiguresSerializer()
    known = KnownShareSerializer(
        allow_null=True,
        help_text="On items whose answer is known, five at a time; null before there are five.",
    )
    by_day = DaySerializer(many=True)
    rounds = OwnRoundSerializer(many=True)


class OwnFigures(Endpoint):
    tag = "people"

    @extend_schema(
        summary="What you did in a project, and what is left for you", responses=OwnFiguresSerializer
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.REVIEW)
        figures = {
            "today": figures_of(project, self.user, since=today()),
            "total": figures_of(project, self.user),
            "known": own_known(project, self.user),
            "by_day": [{"day": day, "reviews": count} for day, count in reviews_by_day(project, self.user)],
            "rounds": own_rounds(project, self.user),
        }
        return self.reply(OwnFiguresSerializer, figures)


class AnsweredTurnSerializer(serializers.ModelSerializer[Correction]):
    """What a person did with an item, once: an answer, a skip, or taking one back."""

    author = serializers.CharField(source="author.username", read_only=True)
    round = serializers.IntegerField(source="task.round_id", read_only=True)
    item = serializers.IntegerField(source="task.item_id", read_only=True)
    purpose = serializers.ChoiceField(ReviewTask.Purpose.choices, source="task.purpose", read_only=True)
    arm = serializers.ChoiceField(
        ARMS, source="task.arm", read_only=True, help_text="What the reviewer was to see."
    )
    old = serializers.CharField(read_only=True, help_text="What was said before it; empty where nothing was.")
    new = serializers.SerializerMethodField(
        help_text="The label, or the words of the answer; empty for skips and undos."
    )
    shown = serializers.JSONField(read_only=True)

    class Meta:
        model = Correction
        fields = [
            "id",
            "created_at",
            "author",
            "round",
            "task",
            "item",
            "purpose",
            "action",
            "old",
            "new",
            "reason",
            "seconds",
            "late",
            "arm",
            "shown",
        ]
        read_only_fields = fields

    def get_new(self, correction: Correction) -> str:
        return said(correction)


class CorrectionFilter(Filter):
    author = serializers.CharField(required=False, max_length=150, help_text="The name of an account.")
    item = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    round = serializers.IntegerField(required=False, min_value=1, max_value=2**62)


_LOOKUPS = {"author": "author__username", "item": "task__item", "round": "task__round"}


class Corrections(Endpoint):
    tag = "people"

    @extend_schema(
        summary="Every answer, skip and undo, newest first",
        parameters=[CorrectionFilter],
        responses=AnsweredTurnSerializer(many=True),
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.SEE)
        asked = self.asked(CorrectionFilter)
        rows = answers_of(project).filter(**{_LOOKUPS[name]: value for name, value in asked.items()})
        return self.page(rows, AnsweredTurnSerializer)
