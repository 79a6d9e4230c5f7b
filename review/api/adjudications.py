"""Items whose reviewers differ, with what each said. A decision is sent to the task like any other answer."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import project_for
from annotate.api.endpoint import Endpoint
from annotate.api.items import LabelNameSerializer
from annotate.problems import Pagination
from review.adjudicating import ORDER, conflicts, given_answers
from review.api.queue import ReviewTaskSerializer, shown_to
from review.api.rounds import ARMS


class GivenAnswerSerializer(serializers.Serializer[Any]):
    """What one reviewer did with the item."""

    reviewer = serializers.CharField()
    action = serializers.CharField(source="correction.action")
    label = LabelNameSerializer(source="correction.label", allow_null=True)  # type: ignore[assignment]
    answer = serializers.CharField(source="correction.answer", help_text="Where answers are words.")
    start = serializers.IntegerField(
        source="correction.start", allow_null=True, help_text="Of an answer that is a span of the text."
    )
    end = serializers.IntegerField(source="correction.end", allow_null=True)
    reason = serializers.CharField(source="correction.reason", help_text="Why it was skipped.")
    seconds = serializers.FloatField(source="correction.seconds", allow_null=True)
    late = serializers.BooleanField(source="correction.late")
    arm = serializers.ChoiceField(ARMS, help_text="What the reviewer saw.")
    created_at = serializers.DateTimeField(source="correction.created_at")


class AdjudicationSerializer(serializers.Serializer[Any]):
    round = serializers.IntegerField()
    task = ReviewTaskSerializer(help_text="Send the decision to it, with its version.")
    answers = GivenAnswerSerializer(many=True, help_text="First to last.")


class Adjudications(Endpoint):
    tag = "review tasks"

    @extend_schema(
        summary="Items whose reviewers differ, the most suspicious first",
        description="Decide with `review-tasks/{id}/submit/`. An item without a decision counts as not answered.",
        responses=AdjudicationSerializer(many=True),
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=self.needed)
        paginator = Pagination()
        paginator.ordering = ORDER  # type: ignore[assignment]
        page = paginator.paginate_queryset(conflicts(project), request, view=self) or []
        answers = given_answers(page)
        rows = [
            {"round": task.round_id, "task": shown, "answers": answers[task.pk]}
            for task, shown in zip(page, shown_to(self.user, page), strict=True)
        ]
        return paginator.get_paginated_response(AdjudicationSerializer(rows, many=True).data)
