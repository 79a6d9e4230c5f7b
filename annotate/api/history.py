"""What was changed in a project, by whom and when."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, project_for
from annotate.api.endpoint import Endpoint, Filter
from annotate.history import changes_of
from annotate.models import Change


class ChangeSerializer(serializers.ModelSerializer[Change]):
    actor = serializers.CharField(
        source="actor.username",
        read_only=True,
        allow_null=True,
        default=None,
        help_text="Null: Overread itself.",
    )
    old = serializers.JSONField(read_only=True)
    new = serializers.JSONField(read_only=True)

    class Meta:
        model = Change
        fields = ["id", "created_at", "actor", "action", "subject", "subject_id", "old", "new"]
        read_only_fields = fields


class ChangeFilter(Filter):
    actor = serializers.CharField(
        required=False, max_length=150, default="", help_text="The name of an account."
    )
    action = serializers.CharField(
        required=False, max_length=40, default="", help_text="Such as `round closed`."
    )


class Changes(Endpoint):
    tag = "history"

    @extend_schema(
        summary="What was changed in a project, newest first",
        description="Every change that is not an answer. Answers are in `corrections/`.",
        parameters=[ChangeFilter],
        responses=ChangeSerializer(many=True),
    )
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.SEE)
        asked: dict[str, Any] = self.asked(ChangeFilter)
        return self.page(changes_of(project, **asked), ChangeSerializer)
